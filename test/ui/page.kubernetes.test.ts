/** The Alerts page as users of a cluster see it: a real browser, a real API server, the rights of deploy/ui. */
import { afterAll, afterEach, beforeAll, beforeEach, expect } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { createClient } from '../../agent/kube/client.ts';
import { createAccess } from '../../agent/kube/token-access.ts';
import { startKeeper, type Keeper } from '../../agent/respond/keeper.ts';
import { personOf } from '../../agent/respond/persons.ts';
import { createRespondServer } from '../../agent/respond/server.ts';
import { DEPLOY } from '../deploy/support.ts';
import { pino } from 'pino';
import type { EeEvent } from '../../agent/events/event.ts';
import { alertEvent } from '../support/alerts.ts';
import { describeBrowser, openBrowser, type TestBrowser } from '../support/browser.ts';
import { describeKubernetes, podObject, testOnOwnServer, useControlPlane } from '../support/kubernetes.ts';
import { startUi, type TestUi } from '../support/ui.ts';
import { installPage } from './rights.ts';
import { makeJournal, type TestJournal } from './support.ts';

describeKubernetes(() =>
  describeBrowser(() => {
    const cluster = useControlPlane();
    let shop: string;
    let other: string;
    let directory: string;
    let journal: TestJournal;
    let ui: TestUi;
    let browser: TestBrowser;
    let page: Page;
    let keeper: Keeper | undefined;
    let responding: ReturnType<typeof createRespondServer> | undefined;
    let ours: EeEvent;
    let theirs: EeEvent;
    const tokens: Record<'analyst' | 'viewer' | 'admin', string> = { analyst: '', viewer: '', admin: '' };

    beforeAll(async () => {
      const rights = installPage(cluster());
      ({ shop, other } = rights);
      for (const name of ['analyst', 'viewer', 'admin'] as const)
        tokens[name] = cluster().serviceAccount(shop, name).token;
      rights.bind('rolebinding', 'analyst');
      rights.bind('clusterrolebinding', 'admin', '--clusterrole=cluster-admin');
      const looks = ['--verb=list', '--resource=deeppacketinspections.projectcalico.org'];
      cluster().kubectl('-n', shop, 'create', 'role', 'viewer', ...looks);
      rights.bind('rolebinding', 'viewer', '--role=viewer');
      rights.inspectWeb();
      cluster().apply(
        podObject(shop, 'web-1', 'worker-1', { app: 'web' }),
        podObject(shop, 'db-1', 'worker-1', { app: 'db' }),
      );
      const at = (number: number, namespace: string): EeEvent =>
        alertEvent(number, Date.now() - 60_000 * number, {
          event: { origin: `dpi.${namespace}/web` },
          record: { seen_at: [{ namespace, name: 'web-1', interface: 'cali1' }] },
        });
      [ours, theirs] = [at(1, shop), at(2, other)];
      journal = await makeJournal(theirs, ours);
      directory = mkdtempSync(join(tmpdir(), 'dpi-page-'));
      const respondUrl = await startResponse();
      [browser, ui] = await Promise.all([
        openBrowser(),
        startUi(
          '--kubeconfig',
          rights.page.kubeconfig,
          '--journal.directory',
          journal.directory,
          '--stateDirectory',
          directory,
          '--respond.url',
          respondUrl,
        ),
      ]);
    });
    afterAll(async () => {
      await ui?.stop();
      await browser?.close();
      await responding?.close();
      await keeper?.stop();
      await journal?.remove();
      rmSync(directory, { recursive: true, force: true });
    });
    beforeEach(async () => {
      await browser.context.clearCookies();
      page = await browser.context.newPage();
    });
    afterEach(() => page.close());

    /** As deploy/components/response runs it. @returns its URL. */
    async function startResponse(): Promise<string> {
      const file = (name: string): string => join(DEPLOY, 'components/response', name);
      for (const name of ['rbac.yaml', 'admission.yaml']) cluster().kubectl('apply', '-f', file(name));
      const { kubeconfig } = cluster().serviceAccount('tigera-dpi', 'dpi-agent-response');
      const client = await createClient({ kubeconfig });
      const log = pino({ level: 'silent' });
      const automatic = { automatic: false, automaticPods: [], automaticPerHour: 1, automaticAtOnce: 1 };
      keeper = startKeeper({ ...automatic, client, log, protectedNamespaces: ['tigera-dpi'], maxFor: 86_400_000 });
      const agentOf = createAccess(client, { audience: 'dpi-agent-response', serviceAccounts: [] });
      responding = createRespondServer({ keeper, agentOf, personOf: (token) => personOf(client, token), log });
      return responding.listen({ host: '127.0.0.1', port: 0 });
    }

    const signIn = async (token: string, path = ''): Promise<void> => {
      await page.goto(`${ui.url}${path}`);
      await page.getByLabel('Token of this cluster').fill(token);
      await page.getByRole('button', { name: 'Sign in' }).click();
    };
    const signOut = async (): Promise<void> => {
      await page.getByRole('button', { name: /Sign out/ }).click();
      await page.getByRole('heading', { name: 'Sign in to dpi-agent' }).waitFor();
    };
    /** Presses a button of the alert; the page's text of what came of it goes by itself after a while. */
    const answers = (text: string, button: string): Promise<unknown> =>
      Promise.all([
        page.getByRole('status').getByText(text).waitFor(),
        page.locator('.detail').getByRole('button', { name: button, exact: true }).click(),
      ]);
    const row = (event: EeEvent) => page.locator(`[data-id="${event.record.event_id}"]`);

    testOnOwnServer('a token that the cluster does not know opens nothing', async () => {
      await signIn('eyJhbGciOiJSUzI1NiJ9.e30.x');
      await page.getByRole('alert').getByText('the cluster does not accept this token').waitFor();
      expect(await page.content()).not.toContain(ours.dest_name);
      expect((await fetch(`${ui.url}api/alerts`)).status).toBe(401);
      expect((await fetch(`${ui.url}api/alerts`, { headers: { authorization: 'Bearer x' } })).status).toBe(401);
    });

    testOnOwnServer('who has one namespace sees its alerts only, and acknowledges them', async () => {
      await signIn(tokens.analyst);
      await row(ours).waitFor();
      expect(await page.locator('.rows > li').count()).toBe(1);
      expect(await page.content()).not.toContain(other);
      await page.goto(`${ui.url}?alert=${theirs.record.event_id}`);
      await page.locator('.detail').getByText('or you may not see it').waitFor();
      await row(ours).locator('a').click();
      await answers('Alert: acknowledged', 'Acknowledge');
      await page.reload();
      await page.locator('.detail').getByText(`Acknowledged by system:serviceaccount:${shop}:analyst`).waitFor();
    });

    testOnOwnServer('who may only look is told so', async () => {
      await signIn(tokens.viewer, `?alert=${ours.record.event_id}`);
      await answers(`you may not mark alerts of namespace ${shop}`, 'Dismiss');
      await page.reload();
      await row(ours).waitFor();
    });

    testOnOwnServer('a selector is tried: what it selects, where it is wrong, and who may not', async () => {
      await signIn(tokens.admin, '?page=dry-run');
      await page.getByLabel('Namespace').fill(shop);
      await page.getByLabel('Selector').fill("app == 'web'");
      await page.getByRole('button', { name: 'Try' }).click();
      await page.getByRole('heading', { name: `Selects 1 of 2 pods in ${shop}` }).waitFor();
      const lines = await page.locator('tbody tr').allInnerTexts();
      expect(lines.map((line) => line.split(/\s+/).slice(0, 2).join(' ')).toSorted()).toEqual([
        'db-1 no',
        'web-1 selected,',
      ]);
      expect(new URL(page.url()).searchParams.get('selector')).toBe("app == 'web'");
      await page.getByLabel('Selector').fill('app == web');
      await page.getByRole('button', { name: 'Try' }).click();
      await page.getByRole('alert').getByText('^').waitFor();
      expect(await page.getByRole('alert').locator('pre').innerText()).toBe(`app == web\n${' '.repeat(7)}^`);
      await signOut();
      await signIn(tokens.viewer, `?page=dry-run&namespace=${shop}&selector=all()`);
      await page.getByText(`you may not list pods in namespace ${shop}`).waitFor();
    });

    testOnOwnServer('a pod is isolated by who has the right, who sees before what is cut', async () => {
      const pod = `${shop}/web-1`;
      const policies = (): string => cluster().kubectl('get', 'networkpolicies', '-n', shop, '-o', 'name');
      await signIn(tokens.viewer, `?alert=${ours.record.event_id}`);
      await page.getByRole('button', { name: `Isolate ${pod}` }).click();
      await page.getByText('deeppacketinspections/isolations').waitFor();
      expect(policies()).toBe('');
      await page.goto(ui.url);
      await signOut();

      cluster().apply({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'cart', namespace: shop },
        spec: { selector: { app: 'web' }, ports: [{ port: 80 }] },
      });
      const right = `--clusterrole=dpi-agent-isolate`;
      cluster().kubectl('-n', shop, 'create', 'rolebinding', 'isolates', right, `--serviceaccount=${shop}:analyst`);
      await signIn(tokens.analyst, `?alert=${ours.record.event_id}`);
      await page.getByRole('button', { name: `Isolate ${pod}` }).click();
      await page.getByText('Service cart: no other pod is ready').waitFor();
      expect(policies()).toBe('');
      await page.getByRole('textbox', { name: 'Reason' }).fill('C2 beacon');
      await page.getByRole('button', { name: 'Isolate it now' }).click();
      await page.getByRole('status').getByText(`by system:serviceaccount:${shop}:analyst: C2 beacon`).waitFor();
      expect(policies()).toContain('dpi-agent-isolate-');
      await page.reload();
      await page.getByRole('button', { name: `Isolate ${pod}` }).click();
      await page.getByRole('button', { name: 'Release it' }).click();
      await page.getByRole('button', { name: 'Isolate it now' }).waitFor();
      expect(policies()).toBe('');

      await page.getByRole('textbox', { name: 'Reason' }).fill('once more');
      await page.getByRole('button', { name: 'Isolate it now' }).click();
      await page.getByRole('status').getByText('once more').waitFor();
      await page.getByRole('link', { name: 'Isolated' }).click();
      await page.getByText('deeppacketinspections/isolations').waitFor();
      await page.getByLabel('Namespace').fill(shop);
      await page.getByRole('button', { name: 'Show' }).click();
      const listed = page.getByRole('row').filter({ hasText: pod });
      await listed
        .filter({ hasText: 'once more' })
        .filter({ hasText: `${shop}:analyst` })
        .waitFor();
      await listed.getByRole('button', { name: `Release ${pod}` }).click();
      await page.getByText('No pod is isolated').waitFor();
      expect(policies()).toBe('');
    });

    testOnOwnServer('coverage has the resources that the user may see', async () => {
      await signIn(tokens.viewer, '?page=coverage');
      await page.getByRole('rowheader', { name: `${shop}/web` }).waitFor();
      expect(await page.content()).not.toContain(`${other}/web`);
      await signOut();
      await signIn(tokens.admin, '?page=coverage');
      await page.getByRole('rowheader', { name: `${other}/web` }).waitFor();
    });
  }),
);
