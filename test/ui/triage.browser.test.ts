/**
 * The work of an analyst on the Alerts page, in a real browser: what is new and what others do comes, keys and queries
 * do what they say, many alerts are handled at once. All on one server, in one tab.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import { connect, createServer, type AddressInfo, type Server as TcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Locator, Page } from 'playwright-core';
import { openAccess } from '../../agent/ui/access.ts';
import { readPage } from '../../agent/ui/files.ts';
import { openJournalSource } from '../../agent/ui/journal-source.ts';
import { createUiServer } from '../../agent/ui/server.ts';
import { alertEvent } from '../support/alerts.ts';
import { accessibilityProblems } from '../support/axe.ts';
import { describeBrowser, openBrowser, type TestBrowser } from '../support/browser.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';
import { startUi, type TestUi } from '../support/ui.ts';
import { alertsUntil, makeJournal, type TestJournal } from './support.ts';

const now = Date.now();
const events = alertsUntil(now - 60_000, 320, 120_000);
type Event = (typeof events)[number];
const idOf = ({ record }: Event): string => record.event_id;
const newestWhere = (passes: (event: Event) => boolean): Event => {
  const found = events.findLast(passes);
  if (found === undefined) throw new Error('no alert is like that');
  return found;
};
const countOf = (passes: (event: Event) => boolean): number => events.filter(passes).length;

/** The way to the server, that can be cut. */
interface Line {
  url: string;
  cut(): void;
  mend(): void;
  close(): void;
}

async function lineTo(url: string): Promise<Line> {
  const { hostname, port } = new URL(url);
  const sockets = new Set<Socket>();
  let whole = true;
  const server: TcpServer = createServer((socket) => {
    if (!whole) {
      socket.destroy();
      return;
    }
    const other = connect(Number(port), hostname);
    for (const one of [socket, other]) {
      sockets.add(one);
      one.on('error', () => undefined).on('close', () => sockets.delete(one));
    }
    socket.pipe(other).pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = (): void => {
    whole = false;
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    mend: () => (whole = true),
    close() {
      cut();
      server.close();
    },
  };
}

describeBrowser(() => {
  let journal: TestJournal;
  let agent: Server;
  let ui: TestUi;
  let line: Line;
  let browser: TestBrowser;
  let directory: string;
  let policy: string;
  let page: Page;
  let number = 10_000;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'dpi-triage-'));
    agent = createHttpServer((_request, response) => response.end(JSON.stringify(STATUS)));
    await new Promise<void>((resolve) => agent.listen(0, '127.0.0.1', resolve));
    const agentUrl = `http://127.0.0.1:${(agent.address() as AddressInfo).port}`;
    [browser, journal] = await Promise.all([openBrowser(), makeJournal(...events)]);
    const { marksFile } = journal;
    const flags = ['--journal.directory', journal.directory, '--ui.marksFile', marksFile, '--ui.agents', agentUrl];
    policy = join(directory, 'policy.yaml');
    flags.push('--alerts.policy', policy, '--ruleChanges', join(directory, 'changes.conf'));
    ui = await startUi(...flags, '--stateDirectory', directory);
    line = await lineTo(ui.url);
    page = await browser.context.newPage();
  });
  afterAll(async () => {
    await browser?.close();
    line?.close();
    await ui?.stop();
    agent?.close();
    await journal?.remove();
    rmSync(directory, { recursive: true, force: true });
  });

  const rows = (): Locator => page.locator('.rows > li');
  const row = (id: string): Locator => page.locator(`[data-id="${id}"]`);
  const total = async (): Promise<string> =>
    (await page.locator('.numbers .number strong').first().textContent()) ?? '';
  const shows = (count: number): Promise<unknown> => poll(async () => (await total()) === count.toLocaleString('en'));
  const open = async (path = '?range=7d'): Promise<void> => {
    await page.goto(`${line.url}/${path}`);
    await rows().first().waitFor();
  };
  const leadsTo = (part: string): Promise<unknown> => poll(() => page.url().includes(part));
  const note = (text: string): Locator => page.getByRole('status').getByText(text);
  const search = (): Locator => page.getByLabel('Search alerts');
  const focused = (selector: string): Promise<unknown> =>
    poll(() => page.evaluate((wanted) => document.activeElement?.matches(wanted) === true, selector));
  const append = async (): Promise<string> => {
    const event = alertEvent(number++, Date.now());
    await journal.append(event);
    events.push(event);
    return idOf(event);
  };
  /** As another page does it. */
  const markElsewhere = async (state: string, ...ids: string[]): Promise<void> => {
    const answer = await fetch(new URL('/api/marks', ui.url), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ids, state }),
    });
    expect(answer.status).toBe(200);
  };
  const stored = (id: string): string | undefined =>
    readFileSync(journal.marksFile, 'utf8')
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text) as { id: string; state: string })
      .findLast((mark) => mark.id === id)?.state;

  test('something is on the screen before any script has run', async () => {
    await page.route('**/*.js', (route) => route.abort());
    await page.goto(line.url);
    await page.getByRole('banner').getByText('dpi-agent').waitFor();
    await page.getByLabel('Loading').waitFor();
    await page.unrouteAll();
  });

  test('alerts and counts are asked for before the server has said who asks', async () => {
    const asked = new Set<string>();
    await page.route('**/api/**', async (route) => {
      const { pathname } = new URL(route.request().url());
      asked.add(pathname);
      if (pathname === '/api/session') await poll(() => asked.has('/api/alerts') && asked.has('/api/summary'));
      await route.continue();
    });
    await open();
    await page.unrouteAll();
  });

  describe('what comes', () => {
    test('while the page is cut off is there when it is connected again, and so are marks', async () => {
      await open();
      await page.locator('.live-on').waitFor();
      const marked = idOf(newestWhere(({ severity }) => severity === 40));
      line.cut();
      await page.locator('.live-connecting').waitFor();
      const id = await append();
      await markElsewhere('acknowledged', marked);
      line.mend();
      await row(id).waitFor();
      await row(marked).locator('.state-acknowledged').waitFor();
      await shows(events.length);
      await markElsewhere('open', marked);
      await row(marked).locator('.state-acknowledged').waitFor({ state: 'detached' });
    });

    test('while it is paused is there when it goes on', async () => {
      await page.getByRole('button', { name: 'Live' }).click();
      await page.getByRole('button', { name: 'Paused' }).waitFor();
      const id = await append();
      await page.getByRole('button', { name: 'Paused' }).click();
      await row(id).waitFor();
      await shows(events.length);
    });

    test('a filter that is chosen while the server is away shows its alerts when it is back', async () => {
      line.cut();
      await page.locator('.live-connecting').waitFor();
      await page.getByRole('button', { name: /critical$/ }).click();
      await page.getByRole('alert').getByText('does not answer').waitFor();
      line.mend();
      await shows(countOf(({ severity }) => severity === 100));
      await rows().first().waitFor();
    });

    test('a time that is over is not paused: the page goes back to what was chosen before, and follows it', async () => {
      const [from, to] = [now - 7_200_000, now - 3_600_000].map((time) => new Date(time).toISOString());
      await open(`?range=7d&from=${from}&to=${to}`);
      await page.getByRole('button', { name: 'Past' }).click();
      await page.locator('.live-on').waitFor();
      await shows(events.length);
      expect(new URL(page.url()).search).toBe('?range=7d');
    });
  });

  test.each([861, 901, 1024, 1280])('at %d px the messages and both ends can be read', async (width) => {
    await page.setViewportSize({ width, height: 800 });
    for (const path of ['?range=7d', `?range=7d&alert=${idOf(newestWhere(() => true))}`]) {
      await open(path);
      const box = await rows().first().locator('.row-what').boundingBox();
      expect(box?.width).toBeGreaterThanOrEqual(200);
      expect((await rows().first().locator('.end').first().boundingBox())?.width).toBeGreaterThanOrEqual(100);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  });

  describe('keys', () => {
    test('are for the alert that is open, not for those that are chosen, and what they did is undone', async () => {
      await open();
      const [chosen, opened] = [0, 1].map((index) => rows().nth(index));
      const [chosenId, openedId] = await Promise.all([chosen, opened].map((one) => one?.getAttribute('data-id')));
      await chosen?.getByRole('checkbox').check();
      await opened?.locator('a').click();
      await page.locator('#detail-title:focus').waitFor();
      await page.keyboard.press('d');
      await note('Alert: dismissed').waitFor();
      // It leaves the list, and the next one is where the keys are.
      await row(openedId ?? '').waitFor({ state: 'detached' });
      await page.locator('.detail .state-dismissed').waitFor();
      expect([stored(openedId ?? ''), stored(chosenId ?? '')]).toEqual(['dismissed', undefined]);
      await page.keyboard.press('u');
      await note('Alert: as before').waitFor();
      await row(openedId ?? '').waitFor();
      expect(stored(openedId ?? '')).toBe('open');
      await page
        .locator('.detail')
        .getByText(/^Opened again by local/)
        .waitFor();
      await page.keyboard.press('Escape');
      await focused(`[data-id="${openedId}"] a`);
    });

    test('lead to the alerts, along them by arrows, and back to where one was', async () => {
      await open();
      await page.keyboard.press('Tab');
      await page.keyboard.press('Enter');
      const at = async (index: number): Promise<string> => (await rows().nth(index).getAttribute('data-id')) ?? '';
      await focused(`[data-id="${await at(0)}"] a`);
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('ArrowDown');
      await page.keyboard.press('ArrowUp');
      await focused(`[data-id="${await at(0)}"] a`);
      await page.keyboard.press('Shift+ArrowDown');
      await page.keyboard.press('Shift+ArrowDown');
      await page.getByText('3 chosen').waitFor();
      await focused(`[data-id="${await at(2)}"] a`);
      await page.keyboard.press('Enter');
      await page.locator('#detail-title:focus').waitFor();
      await page.keyboard.press('Escape');
      await focused(`[data-id="${await at(2)}"] a`);
    });
  });

  describe('the search field', () => {
    const jndi = countOf(({ record }) => record.snort_signature_id === '1000104');

    test('is left by Esc with what is in it, and by Enter for the alerts', async () => {
      await open();
      await page.keyboard.press('/');
      await page.keyboard.type('jndi');
      await shows(jndi);
      await page.keyboard.press('Escape');
      expect(await search().inputValue()).toBe('jndi');
      await leadsTo('q=jndi');
      await page.keyboard.press('/');
      await page.keyboard.type('signature: 1:1000104');
      await page.keyboard.press('Enter');
      await focused('.rows a');
      await leadsTo('q=signature');
      await shows(jndi);
    });

    test('goes back by itself, and leaves the filter that was chosen before', async () => {
      await open();
      await page.getByRole('button', { name: /critical$/ }).click();
      await leadsTo('level=critical');
      await search().fill('jn');
      await leadsTo('q=jn');
      await search().pressSequentially('di');
      await leadsTo('q=jndi');
      await page.goBack();
      await poll(() => !page.url().includes('q='));
      expect(page.url()).toContain('level=critical');
      await poll(async () => (await search().inputValue()) === '');
    });

    test('says where a query is wrong, helps with fields, and asks nothing wrong', async () => {
      await open();
      await search().fill('pods: shop/*');
      await page.getByRole('alert').getByText('column 1: there is no field pods: did you mean pod?').waitFor();
      expect(page.url()).not.toContain('q=');
      await search().fill('sour');
      await page.locator('.search-hint').getByText('source.ip: 10.65.0.0/16').waitFor();
      await search().fill('ip: 10.65.0.0/24 and not pod: shop/cart-*');
      const isCart = (event: Event): boolean =>
        [event.source_name, event.dest_name].some((name) => name.startsWith('cart-'));
      const isNear = (event: Event): boolean =>
        [event.source_ip, event.dest_ip].some((ip) => ip.startsWith('10.65.0.'));
      await shows(countOf((event) => isNear(event) && !isCart(event)));
    });

    test('a filter in an address that nothing can be is no dead end', async () => {
      for (const wrong of ['level=worst', 'q=pods:+x', 'range=2h']) {
        await page.goto(`${line.url}/?${wrong}`);
        await page.getByRole('button', { name: 'Show all alerts' }).click();
        await rows().first().waitFor();
        expect(new URL(page.url()).search).toBe('');
      }
    });
  });

  test('what is dismissed or acknowledged leaves a list without such, and the page says how many are not shown', async () => {
    await open('?range=7d&state=open');
    const [first, second] = await Promise.all(
      [0, 1].map(async (index) => (await rows().nth(index).getAttribute('data-id')) ?? ''),
    );
    await markElsewhere('acknowledged', first ?? '');
    await row(first ?? '').waitFor({ state: 'detached' });
    await open();
    await row(second ?? '').waitFor();
    await markElsewhere('dismissed', second ?? '');
    await row(second ?? '').waitFor({ state: 'detached' });
    await page.getByText('1 dismissed, not shown').waitFor();
    await page.getByRole('button', { name: 'Show dismissed alerts, too' }).click();
    await row(second ?? '').waitFor();
    await markElsewhere('open', first ?? '', second ?? '');
  });

  test('times are of one form, and name their zone', async () => {
    const event = newestWhere(() => true);
    await open(`?range=7d&alert=${idOf(event)}`);
    const detail = page.locator('.detail');
    expect(await detail.locator('time').innerText()).toMatch(/^[A-Z][a-z]{2} \d{1,2}, \d\d:\d\d:\d\d UTC$/);
    for (const time of await rows().locator('time').allTextContents())
      expect(time).toMatch(/^([A-Z][a-z]{2} \d{1,2}, )?\d\d:\d\d:\d\d$/);
    expect(await page.locator('figcaption span').first().innerText()).toMatch(/^[A-Z][a-z]{2} \d{1,2}(, \d\d:\d\d)?$/);
    await page.getByRole('button', { name: 'Times are in UTC' }).waitFor();
  });

  test('the list goes on as it is scrolled, and is sorted by severity where that is chosen', async () => {
    await open();
    await poll(async () => {
      await page.mouse.wheel(0, 20_000);
      return (await rows().count()) === events.length;
    });
    await page.getByText('That is all').waitFor();
    await page.getByLabel('Order').selectOption('severity');
    await leadsTo('sort=severity');
    await poll(async () => {
      const levels = await rows().locator('.level').allTextContents();
      return levels.length > 0 && levels.slice(0, 20).every((level) => level === 'Critical');
    });
  });

  describe('many at once', () => {
    test('a range, chosen with Shift', async () => {
      await open();
      await rows().nth(1).getByRole('checkbox').click();
      await rows()
        .nth(4)
        .getByRole('checkbox')
        .click({ modifiers: ['Shift'] });
      await page.getByText('4 chosen').waitFor();
      await page.keyboard.press('a');
      await note('4 alerts: acknowledged').waitFor();
      expect(await page.locator('.rows .state-acknowledged').count()).toBe(4);
      await page.getByRole('button', { name: 'Undo' }).click();
      await note('4 alerts: as before').waitFor();
      await poll(async () => (await page.locator('.rows .state-acknowledged').count()) === 0);
    });

    test('all that match, loaded or not', async () => {
      const scans = countOf(({ record }) => record.snort_signature_id === '1000045');
      expect(scans).toBeGreaterThan(50);
      await open('?range=7d&q=signature:+1000045');
      await page.getByLabel('All that match').check();
      await page.getByRole('button', { name: 'Dismiss', exact: true }).click();
      await note(`${scans} alerts: dismissed`).waitFor();
      await page.getByText('Nothing matches').waitFor();
      await page.keyboard.press('u');
      await note(`${scans} alerts: as before`).waitFor();
      await shows(scans);
    });

    test('a group', async () => {
      const scans = countOf(({ record }) => record.snort_signature_id === '1000045');
      await page.goto(`${line.url}/?range=7d&group=signature`);
      await page.getByRole('button', { name: new RegExp(`^Acknowledge all ${scans}: INDICATOR-SCAN`) }).click();
      await note(`${scans} alerts: acknowledged`).waitFor();
      await page.keyboard.press('u');
      await note(`${scans} alerts: as before`).waitFor();
    });
  });

  test('each value narrows the list, to it or to others, or is copied', async () => {
    const event = newestWhere(({ record }) => record.snort_signature_id === '21562');
    await browser.context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await open(`?range=7d&alert=${idOf(event)}`);
    const detail = page.locator('.detail');
    const menu = detail.locator('.value-menu:popover-open');
    await detail.getByRole('button', { name: 'Filter by destination.pod,' }).click();
    await menu.getByRole('button', { name: 'Only this' }).click();
    await shows(countOf(({ dest_name }) => dest_name === event.dest_name));
    await detail.getByRole('button', { name: 'Filter by class,' }).click();
    await menu.getByRole('button', { name: 'Not this' }).click();
    await shows(
      countOf(
        ({ dest_name, record }) =>
          dest_name === event.dest_name && record.classification !== event.record.classification,
      ),
    );
    await leadsTo('and+not+class%3A+');
    await detail.getByRole('button', { name: 'Filter by source.ip,' }).click();
    await menu.getByRole('button', { name: 'Copy' }).click();
    await menu.getByText('Copied').waitFor();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(event.source_ip);
    await page.getByRole('button', { name: 'Not Critical' }).click();
    await leadsTo('and+not+severity%3A+critical');
    await detail.getByRole('button', { name: 'Filter by source.ip,' }).click();
    // Esc closes what is on top.
    await page.keyboard.press('Escape');
    await menu.waitFor({ state: 'hidden' });
    expect(await detail.count()).toBe(1);
  });

  test('tuning says what it would have left out, is kept with its reason, and undone', async () => {
    const event = newestWhere(({ record }) => record.snort_signature_id === '408');
    const pod = event.record.seen_at[0];
    const leftOut = countOf(
      ({ record }) => record.snort_signature_id === '408' && record.seen_at[0]?.name === pod?.name,
    );
    await open(`?range=7d&alert=${idOf(event)}`);
    await page.getByRole('button', { name: 'Tune…' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText(`Would have left out ${leftOut} of`).waitFor();
    await dialog.getByLabel('Seen at pod').fill('nonsense');
    await dialog.getByText('expected namespace/name').waitFor();
    await dialog.getByLabel('Seen at pod').fill(`${pod?.namespace}/*`);
    await dialog.getByLabel('Why', { exact: true }).fill('our own scanner');
    await dialog.getByRole('button', { name: 'Save' }).click();
    await dialog.getByText('suppress-408').waitFor();
    expect(readFileSync(policy, 'utf8')).toContain('reason: our own scanner');
    await page.keyboard.press('Escape');
    await page.goto(`${line.url}/?page=tuning`);
    await page.getByRole('button', { name: 'Take out suppress-408' }).click();
    await page.getByText('Nothing is left out').waitFor();
    expect(readFileSync(policy, 'utf8')).not.toContain('408');
  });

  test('a dismissal is explained, and an alert has a comment, an owner and a history', async () => {
    await open('?range=7d');
    const id = (await rows().first().getAttribute('data-id')) ?? '';
    await page.keyboard.press('j');
    await page.keyboard.press('d');
    await page.getByLabel('Why dismissed').selectOption('expected');
    await note('Dismissed: expected').waitFor();
    await page.goto(`${line.url}/?range=7d&alert=${id}`);
    const detail = page.getByRole('complementary', { name: newestWhere((one) => idOf(one) === id).record.message });
    await detail.getByText('dismissed it: expected').waitFor();
    await detail.getByLabel('Comment', { exact: true }).fill('looked at the pod');
    await detail.getByRole('button', { name: 'Comment', exact: true }).click();
    await detail.locator('blockquote').getByText('looked at the pod').waitFor();
    await detail.getByRole('button', { name: 'Assign', exact: true }).click();
    await detail.getByText('Assigned to local').waitFor();
    await markElsewhere('open', id);
  });

  test('values are suggested while a query is typed, and taken by keys', async () => {
    await open();
    await search().pressSequentially('destination.pod: shop/c');
    const option = page.getByRole('option').first();
    await option.waitFor();
    const value = (await option.locator('code').textContent()) ?? '';
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await poll(async () => (await search().inputValue()) === `destination.pod: ${value} `);
    await shows(countOf((event) => `${event.dest_namespace}/${event.dest_name}` === value));
  });

  test('further values, typed times and saved views narrow the list', async () => {
    await open();
    await page.getByText('MITRE technique').click();
    await page
      .locator('.more-facets')
      .getByRole('button', { name: /^T1496/ })
      .click();
    await shows(countOf((event) => event.mitre_ids?.includes('T1496') === true));
    await page.getByRole('button', { name: 'Saved views' }).click();
    await page.getByLabel('Name of the view').fill('mining');
    await page.getByRole('button', { name: 'Save this view' }).click();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: 'From and to' }).click();
    await page.getByLabel('From', { exact: true }).fill('30h');
    await page.getByLabel('To', { exact: true }).fill('1x');
    await page.getByRole('button', { name: 'Show', exact: true }).click();
    await page.getByText('To: expected a time').waitFor();
    await page.getByLabel('To', { exact: true }).fill('2h');
    await page.keyboard.press('Enter');
    await leadsTo('from=');
    await page.goto(line.url);
    await page.getByRole('button', { name: 'Saved views' }).click();
    await page.getByRole('button', { name: 'mining', exact: true }).click();
    await leadsTo('technique');
    await shows(countOf((event) => event.mitre_ids?.includes('T1496') === true));
  });

  test('the list is taken away as it is filtered', async () => {
    await open('?range=7d&q=jndi');
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('link', { name: 'CSV' }).click(),
    ]);
    expect(download.suggestedFilename()).toMatch(/^alerts-.*\.csv$/);
    const lines = readFileSync(await download.path(), 'utf8')
      .trim()
      .split('\r\n');
    expect(lines).toHaveLength(1 + countOf(({ record }) => record.snort_signature_id === '1000104'));
  });

  test('who attacks whom leads to the alerts between two namespaces, and they to what is around one', async () => {
    await open();
    await page.getByRole('button', { name: 'Who attacks whom' }).click();
    await page.getByRole('button', { name: /from outside to payments/ }).click();
    await shows(countOf((event) => event.source_namespace === '-' && event.dest_namespace === 'payments'));
    await rows().first().locator('a').click();
    await page.getByText('What to check').waitFor();
    await page.locator('.timeline rect.current').waitFor();
    await page.getByRole('button', { name: /^Pod/ }).click();
    await page.locator('.related a').first().click();
    await poll(async () => (await page.locator('.detail h2').textContent()) !== '');
    await page.locator('.detail').getByRole('button', { name: 'Report' }).click();
    await page.getByText('What was done').waitFor();
  });

  test('nothing on any page keeps people out, in light and dark', async () => {
    const problems: string[] = [];
    const look = async (name: string): Promise<void> => {
      await page.locator('main:not([aria-busy="true"])').waitFor();
      await page.locator('.skeleton').waitFor({ state: 'detached' });
      problems.push(...(await accessibilityProblems(page)).map((problem) => `${name}: ${problem}`));
    };
    for (const path of ['', '&group=signature', '&group=flows', '&page=report', '&page=coverage', '&page=tuning']) {
      await page.goto(`${line.url}/?range=7d${path}`);
      await look(path);
    }
    await open(`?range=7d&alert=${idOf(events.at(-3) ?? newestWhere(() => true))}`);
    await page.locator('.timeline').waitFor();
    await look('an alert');
    await page.getByRole('button', { name: 'Tune…' }).click();
    await page
      .getByRole('dialog')
      .getByText(/Would have|no such alert/)
      .waitFor();
    await look('tune');
    await page.keyboard.press('Escape');
    await page.keyboard.press('?');
    await look('help');
    expect(problems).toEqual([]);
  });

  test('alerts alike are chosen and handled by keys', async () => {
    await open('?range=7d&state=open');
    await page.keyboard.press('j');
    await page.keyboard.press('s');
    await leadsTo('signature=');
    const signature = new URL(page.url()).searchParams.get('signature') ?? '';
    await page.locator('main[aria-busy="false"]').waitFor();
    await page.keyboard.press('*');
    await page.keyboard.press('a');
    await note('acknowledged').waitFor();
    const left = new URLSearchParams({ range: '7d', state: 'open', signature });
    await poll(async () => {
      const answer = await fetch(new URL(`/api/summary?${left.toString()}`, ui.url));
      return ((await answer.json()) as { total: number }).total === 0;
    });
    await page.keyboard.press('u');
    await note('as before').waitFor();
  });

  test('who attacks whom is drawn, and said by a table whose numbers lead to the alerts', async () => {
    await page.goto(`${line.url}/?range=7d&group=flows`);
    await page.getByText('The same as a table').click();
    const table = page.getByRole('region', { name: 'Alerts from pod to pod, as a table' });
    const button = table.getByRole('button').first();
    const wanted = Number(await button.textContent());
    expect(await page.locator('.graph-line').count()).toBe(await table.getByRole('button').count());
    await button.press('Enter');
    await leadsTo('destination.pod');
    await shows(wanted);
  });

  test('isolated pods are listed, and released', async () => {
    const isolated = {
      namespace: 'shop',
      pod: 'cart-0',
      allow: 'dns',
      by: 'anna',
      reason: 'talks to \u001b[31m',
      since: new Date(now).toISOString(),
      until: new Date(now + 3_600_000).toISOString(),
    };
    const asked: unknown[] = [];
    await page.route('**/api/session', async (route) => {
      const answer = await route.fetch();
      await route.fulfill({ json: { ...((await answer.json()) as object), isolates: true } });
    });
    await page.route('**/api/isolations**', (route) => {
      if (route.request().method() === 'POST') asked.push(route.request().postDataJSON());
      return route.fulfill({ json: { isolations: asked.length === 0 ? [isolated] : [] } });
    });
    await page.goto(line.url);
    await page.getByRole('link', { name: 'Isolated' }).click();
    await page.getByRole('row').getByText('anna').waitFor();
    await page.locator('.hidden-character').getByText('ESC').waitFor();
    expect(await accessibilityProblems(page)).toEqual([]);
    await page.getByRole('button', { name: 'Release shop/cart-0' }).click();
    await page.getByText('No pod is isolated').waitFor();
    expect(asked).toEqual([{ namespace: 'shop', pod: 'cart-0', reason: 'from the Alerts page' }]);
    await page.unrouteAll();
  });

  test('another cluster is chosen with what is asked for, and named', async () => {
    const anyState = ['open', 'acknowledged', 'dismissed'].map((state) => `&state=${state}`).join('');
    const [own, west] = await Promise.all([openJournalSource({ ...journal }), makeJournal(...events.slice(-7))]);
    const theirs = await openJournalSource({ ...west });
    const server = createUiServer({
      source: own,
      clusters: { own: 'east', further: [{ name: 'west', source: theirs }] },
      access: openAccess,
      page: readPage(join(PROJECT, 'dist/web')),
      version: '1',
      log: pino({ level: 'silent' }),
      secure: false,
      trustedProxies: [],
      rule: () => Promise.resolve(undefined),
      coverage: () => Promise.resolve({ nodes: [], resources: [], problems: [] }),
    });
    try {
      await page.goto(`${await server.listen({ host: '127.0.0.1', port: 0 })}/?range=all${anyState}`);
      await shows(events.length);
      await page.getByLabel('Cluster').selectOption('west');
      await shows(7);
      await leadsTo('range=all');
      await leadsTo('cluster=west');
      expect(await page.title()).toBe('Alerts · west · dpi-agent');
      await rows().first().click();
      await page.getByRole('complementary').getByRole('heading').first().waitFor();
      // Agents of another cluster are not asked.
      expect(await page.getByRole('link', { name: 'Coverage' }).count()).toBe(0);
      for (const name of ['coverage', 'tuning', 'isolated', 'dry-run']) {
        await page.goto(`${new URL(page.url()).origin}/?cluster=west&page=${name}`);
        await page.getByText('Of cluster west, only alerts are here').waitFor();
        expect(await page.getByRole('link', { name: 'of east' }).getAttribute('href')).toBe(`/?page=${name}`);
      }
      await page.getByRole('link', { name: 'Alerts of west' }).click();
      await leadsTo('?cluster=west');
      await page.getByLabel('Cluster').selectOption('east');
      await poll(async () => (await page.title()) === 'Alerts · dpi-agent');
      expect(page.url()).not.toContain('cluster');
    } finally {
      await server.close();
      await Promise.all([own.close(), theirs.close()]);
      await west.remove();
    }
  });

  test('a page that is not set up here says what it takes', async () => {
    await page.goto(`${line.url}/?page=isolated`);
    await page.getByText('There is no page Isolated here').waitFor();
    expect(await page.getByRole('main').getByRole('link').getAttribute('href')).toBe('/');
  });

  test('coverage without a cluster names the pods', async () => {
    await page.goto(`${line.url}/?page=coverage`);
    await page.locator('.node').getByText('shop/cart-0').waitFor();
  });
});

const STATUS = {
  time: 1,
  agent: { node: 'node-1', version: '1' },
  state: 'inspecting',
  problems: [],
  engine: { name: 'snort', version: '3' },
  rules: { loaded: 85 },
  alerts: {},
  lanes: [],
  endpoints: [{ id: 'shop/cart-0', encrypted: { bytes: 0, share: 0 } }],
  resources: [],
  sinks: [],
};
