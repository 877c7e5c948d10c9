/**
 * The Alerts page on a million alerts, of a journal and of a real Elasticsearch, in a real Chromium: time until the page
 * and its alerts are on the screen, and of each filter. New alerts come meanwhile, as in a cluster: no answer is one
 * that Elasticsearch kept from before. All run on the same machine. Where there is no Elasticsearch, the journal only.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { writeFileSync } from 'node:fs';
import type { Page } from 'playwright-core';
import { openJournal } from '../agent/journal/journal.ts';
import { indexBody, namesOf } from '../agent/ship/elasticsearch/template.ts';
import { alertEvent } from '../test/support/alerts.ts';
import { findChromium, openBrowser } from '../test/support/chromium.ts';
import {
  isElasticsearchHere,
  startOwnElasticsearch,
  type TestElasticsearch,
} from '../test/support/elasticsearch-server.ts';
import { startUi } from '../test/support/ui.ts';
import { grouped, median, withWorkspace, within, type Figure, type Setting } from './bench.ts';

const ALERTS = { full: 1_000_000, quick: 20_000 };
/** Of one bulk. */
const BATCH = 5_000;
/** New alerts a second while the page is measured. */
const ARRIVING = 20;
/** Times that each is done, after a first one that is reported apart. */
const TIMES = 10;
const CLUSTER = 'bench-page';
const START_MILLIS = 60_000;
const SPAN_MILLIS = 7 * 86_400_000;
const NAMES = namesOf(CLUSTER);
/** Room for all of them. */
const JOURNAL = {
  segmentSize: 64 << 20,
  maxSize: 8 * 1024 ** 3,
  segmentAge: 86_400_000,
  maxAge: 0,
  fsync: false,
} as const;

const FILTERS: [string, string][] = [
  ['namespace', 'namespace=payments'],
  ['pod', 'pod=payments%2Fledger-0'],
  ['signature', 'signature=1%3A21562'],
  ['severity', 'level=critical'],
  ['tactic', 'tactic=TA0011'],
  ['text', 'q=log4j'],
  ['two days', ''],
  ['grouped by signature', 'group=signature'],
  ['grouped by pod', 'group=pod'],
  ['who attacks whom', 'group=flows'],
  ['query with a network and not', 'q=ip%3A+10.65.0.0%2F16+and+not+pod%3A+shop%2Fcart-*'],
];

/** Milliseconds since a page was asked for. */
interface Opened {
  /** Its first contents are painted. */
  paint: number;
  /** Its first rows are drawn. */
  list: number;
  /** So is all else. */
  whole: number;
}

/** Notes in the page itself when it is drawn: who asks from outside learns it up to half a second later. */
const WATCH = `
  globalThis.opened = new Promise((resolve) => {
    const times = {};
    const drawn = (name) => requestAnimationFrame(() => setTimeout(() => {
      times[name] ??= performance.now();
      if (times.paint !== undefined && times.whole !== undefined) resolve(times);
    }));
    new PerformanceObserver((list) => {
      for (const { startTime, name } of list.getEntries()) if (name === 'first-contentful-paint') times.paint = startTime;
    }).observe({ type: 'paint', buffered: true });
    new MutationObserver(() => {
      const list = document.querySelector('.rows > li') !== null;
      if (list) drawn('list');
      if (list && document.querySelector('main[aria-busy="false"]') && document.querySelector('.histogram svg rect')) drawn('whole');
    }).observe(document, { subtree: true, childList: true, attributes: true });
  });`;

type Add = (what: string, millis: number[]) => void;

/** @throws Error when there is no Chromium, or something does not end. */
export async function benchPage(setting: Setting): Promise<Figure[]> {
  if (findChromium() === undefined) throw new Error('no chromium: install it');
  const results = await benchJournal(setting);
  if (await isElasticsearchHere()) results.push(...(await benchElasticsearch(setting)));
  return results;
}

function countOf({ quick }: Setting): number {
  return quick ? ALERTS.quick : ALERTS.full;
}

async function benchJournal(setting: Setting): Promise<Figure[]> {
  const results: Figure[] = [];
  await withWorkspace(async ({ directory }) => {
    const count = countOf(setting);
    const journal = await openJournal({ ...JOURNAL, directory: join(directory, 'journal') });
    const now = Date.now();
    for (let first = 0; first < count; first += BATCH) {
      if (first % 50_000 === 0) setting.say(`page: journal, ${grouped(first)} of ${grouped(count)} alerts`);
      const size = Math.min(BATCH, count - first);
      await journal.append(linesOf(first, size, (number) => spreadTime(number, count, now)));
    }
    const config = join(directory, 'ui.yaml');
    const journalDirectory = join(directory, 'journal');
    writeFileSync(
      config,
      stringify({ node: 'bench', journal: { directory: journalDirectory }, stateDirectory: directory }),
    );
    try {
      await onPage(['--source', 'journal', '-c', config], setting, results, 'journal', async (first) =>
        journal.append(linesOf(first, ARRIVING, () => Date.now())),
      );
    } finally {
      await journal.close();
    }
  });
  return results;
}

async function benchElasticsearch(setting: Setting): Promise<Figure[]> {
  const results: Figure[] = [];
  await withWorkspace(async ({ directory }) => {
    setting.say('page: starting Elasticsearch');
    const server = await startOwnElasticsearch({ heap: '1g' });
    try {
      await fill(server, countOf(setting), setting);
      const config = join(directory, 'ui.yaml');
      const sinks = { elasticsearch: { nodes: [server.url] } };
      writeFileSync(config, stringify({ node: 'bench', cluster: CLUSTER, sinks }));
      await onPage(['-c', config], setting, results, 'elasticsearch', (first) =>
        add(server, first, ARRIVING, () => Date.now()),
      );
    } finally {
      await server.stop();
    }
  });
  return results;
}

/** Measures the page, while alerts arrive. @param flags Of its server. */
async function onPage(
  flags: string[],
  setting: Setting,
  results: Figure[],
  source: string,
  arrive: (first: number) => Promise<unknown>,
): Promise<void> {
  const count = countOf(setting);
  const stopping = new AbortController();
  const ui = await within(START_MILLIS, "the page's server", startUi(...flags));
  let arriving = Promise.resolve();
  try {
    await allRead(ui.url, count);
    arriving = keepArriving(arrive, count, stopping.signal);
    await measure(ui.url, count, setting, (what, millis) =>
      results.push({
        engine: source,
        what,
        value: `${grouped(median(millis.slice(1)))} ms`,
        details: `slowest of ${TIMES} ${grouped(Math.max(...millis.slice(1)))} ms; the first time ${grouped(millis[0] ?? NaN)} ms`,
      }),
    );
  } finally {
    stopping.abort();
    await arriving;
    await ui.stop();
  }
}

async function allRead(url: string, count: number): Promise<void> {
  for (;;) {
    const answer = await fetch(new URL('/api/summary?range=all', url));
    const { total, reading } = (await answer.json()) as { total: number; reading?: true };
    if (reading !== true && total >= count) return;
    await sleep(1000);
  }
}

function spreadTime(number: number, count: number, now: number): number {
  return now - Math.round(((count - number) / count) * SPAN_MILLIS);
}

function linesOf(first: number, size: number, time: (number: number) => number) {
  return Array.from({ length: size }, (_, index) => {
    const event = alertEvent(first + index, time(first + index));
    return { position: event.record.position, json: JSON.stringify(event) };
  });
}

async function fill(server: TestElasticsearch, count: number, setting: Setting): Promise<void> {
  await server.call('PUT', `/${NAMES.index}`, indexBody(NAMES));
  await server.call('PUT', `/${NAMES.index}/_settings`, { index: { refresh_interval: '-1' } });
  const now = Date.now();
  for (let first = 0; first < count; first += BATCH) {
    if (first % 50_000 === 0) setting.say(`page: ${grouped(first)} of ${grouped(count)} alerts`);
    const size = Math.min(BATCH, count - first);
    await add(server, first, size, (number) => spreadTime(number, count, now));
  }
  await server.call('PUT', `/${NAMES.index}/_settings`, { index: { refresh_interval: '1s' } });
  await server.refresh(NAMES.index);
}

async function add(
  { url }: TestElasticsearch,
  first: number,
  count: number,
  timeOf: (number: number) => number,
): Promise<void> {
  const lines: string[] = [];
  for (let number = first; number < first + count; number += 1) {
    const event = alertEvent(number, timeOf(number));
    lines.push(JSON.stringify({ create: { _id: event.record.event_id } }), JSON.stringify(event));
  }
  const answer = await fetch(`${url}/${NAMES.index}/_bulk?filter_path=errors`, {
    method: 'POST',
    body: `${lines.join('\n')}\n`,
    headers: { 'content-type': 'application/x-ndjson' },
  });
  const text = await answer.text();
  if (!text.includes('"errors":false')) throw new Error(`not all alerts were taken: ${text.slice(0, 500)}`);
}

async function keepArriving(
  arrive: (first: number) => Promise<unknown>,
  count: number,
  stop: AbortSignal,
): Promise<void> {
  for (let number = count; !stop.aborted; number += ARRIVING) {
    await arrive(number);
    await sleep(1000, undefined, { signal: stop }).catch(() => undefined);
  }
}

/**
 * A new page each time. What it can keep is as it is for who looks again: its files in the browser, names of signatures
 * in its server.
 */
async function measure(url: string, count: number, setting: Setting, report: Add): Promise<void> {
  const browser = await openBrowser();
  try {
    const page = await browser.context.newPage();
    await page.addInitScript(WATCH);
    const opened: Record<keyof Opened, number[]> = { paint: [], list: [], whole: [] };
    for (let time = 0; time <= TIMES; time += 1) {
      setting.say(`page: opened, ${time}`);
      await page.goto('about:blank');
      await page.goto(`${url}?range=all`);
      const millis = await drawn(page);
      for (const name of ['paint', 'list', 'whole'] as const) opened[name].push(millis[name]);
    }
    const shown = await page.locator('.numbers .number strong').first().textContent();
    const wanted = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format(count);
    if (shown !== wanted) throw new Error(`the page shows ${shown} alerts, not ${wanted}`);
    report('page opened to its first paint', opened.paint);
    report('page opened to the newest alerts on the screen', opened.list);
    report('page opened to all of it: counts, filters and histogram, too', opened.whole);
    const now = Date.now();
    const days = `from=${new Date(now - 3 * 86_400_000).toISOString()}&to=${new Date(now - 86_400_000).toISOString()}`;
    for (const [name, parameters] of FILTERS) {
      const millis: number[] = [];
      for (let time = 0; time <= TIMES; time += 1) {
        setting.say(`page: ${name}, ${time}`);
        await page.goto(`${url}?range=all`);
        await drawn(page);
        millis.push(await timeFilter(page, parameters === '' ? `?${days}` : `?range=all&${parameters}`));
      }
      report(`filter: ${name}`, millis);
    }
    await timeAnswers(url, page, report);
  } finally {
    await browser.close();
  }
}

/** What the page asks for beside the list: values of a facet that is opened or typed, and what is around an alert. */
async function timeAnswers(url: string, page: Page, report: Add): Promise<void> {
  const { rows } = (await (await fetch(new URL('/api/alerts?size=1', url))).json()) as { rows: { id: string }[] };
  const paths = [
    ['values of source.ip', '/api/values?range=all&of=source.ip'],
    ['values of cve', '/api/values?range=all&of=cve'],
    ['suggestions for "destination.pod: shop/c"', '/api/values?range=all&of=destination.pod&prefix=shop/c'],
    ['what is around an alert', `/api/alerts/${rows[0]?.id ?? ''}/related`],
  ] as const;
  for (const [name, path] of paths) {
    const millis: number[] = [];
    for (let time = 0; time <= TIMES; time += 1) millis.push(await timeAnswer(page, path));
    report(`answer: ${name}`, millis);
  }
}

function timeAnswer(page: Page, path: string): Promise<number> {
  return page.evaluate<number>(`(async () => {
    const started = performance.now();
    await (await fetch(${JSON.stringify(path)})).text();
    return performance.now() - started;
  })()`);
}

function drawn(page: Page): Promise<Opened> {
  return within(START_MILLIS, 'the page', page.evaluate<Opened>('globalThis.opened'));
}

/**
 * As the page itself changes its address; the time is taken inside of it, from there to the drawing of all that it
 * asked for. It may be busy before: what is asked for has to be among the answers.
 */
function timeFilter(page: Page, query: string): Promise<number> {
  const asked = query.includes('group=flows') ? 'flows' : query.includes('group=') ? 'groups' : 'summary';
  return page.evaluate<number>(`new Promise((resolve) => {
    const main = document.querySelector('main');
    let counted = false;
    const look = () => {
      if (!counted || main.getAttribute('aria-busy') === 'true') return;
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - started)));
    };
    new MutationObserver(look).observe(main, { attributeFilter: ['aria-busy'] });
    new PerformanceObserver((list) => {
      counted ||= list.getEntries().some((entry) => entry.startTime >= started && entry.name.includes('/api/${asked}'));
      look();
    }).observe({ type: 'resource' });
    const started = performance.now();
    history.pushState(null, '', ${JSON.stringify(query)});
    dispatchEvent(new PopStateEvent('popstate'));
  })`);
}
