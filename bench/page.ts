/**
 * The Alerts page on a real Elasticsearch with a million alerts, in a real Chromium: time until the alerts are on the screen, and of each filter. Elasticsearch and
 * Chromium run on the same machine.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { stringify } from 'yaml';
import { writeFileSync } from 'node:fs';
import { indexBody, namesOf } from '../agent/ship/elasticsearch/template.ts';
import { alertEvent } from '../test/support/alerts.ts';
import { findChromium, openBrowser } from '../test/support/chromium.ts';
import { PROJECT } from '../test/support/project.ts';
import { grouped, median, withWorkspace, within, watch, type Setting } from './bench.ts';
import type { DeliveryResult } from './delivery.ts';
import { startServer, type Server } from './elasticsearch.ts';

const ALERTS = { full: 1_000_000, quick: 20_000 };
/** Of one bulk. */
const BATCH = 5_000;
/** Times that each is done; the first one is reported as it is. */
const TIMES = 5;
const CLUSTER = 'bench-page';
const START_MILLIS = 60_000;
const SPAN_MILLIS = 7 * 86_400_000;

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
];

/** @throws Error when there is no Elasticsearch or no Chromium here, or something does not end. */
export async function benchPage(setting: Setting): Promise<DeliveryResult[]> {
  if (findChromium() === undefined) throw new Error('no chromium: install it');
  const count = setting.quick ? ALERTS.quick : ALERTS.full;
  const results: DeliveryResult[] = [];
  await withWorkspace(async ({ directory }) => {
    setting.say('page: starting Elasticsearch');
    const server = await startServer(directory);
    try {
      await fill(server, count, setting);
      const config = join(directory, 'ui.yaml');
      writeFileSync(
        config,
        stringify({ node: 'bench', cluster: CLUSTER, sinks: { elasticsearch: { nodes: [server.url] } } }),
      );
      const child = spawn(process.execPath, [join(PROJECT, 'bin/dpi-agent.js'), 'ui', '-c', config, '-p', '0'], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { ...process.env, DPI_AGENT_LOG_FORMAT: 'json' },
      });
      const ended = watch(child);
      try {
        const url = await within(START_MILLIS, "the page's server", urlOf(child.stderr));
        await measure(url, count, setting, (what, millis) =>
          results.push({
            engine: '-',
            what,
            value: `${grouped(median(millis.slice(1)))} ms`,
            details: `${grouped(count)} alerts; the first time ${grouped(millis[0] ?? NaN)} ms`,
          }),
        );
      } finally {
        child.kill('SIGTERM');
        await ended;
      }
    } finally {
      await server.kill();
    }
  });
  return results;
}

async function fill({ url }: Server, count: number, setting: Setting): Promise<void> {
  const names = namesOf(CLUSTER);
  await ask(`${url}/${names.index}`, 'PUT', JSON.stringify(indexBody(names)));
  await ask(`${url}/${names.index}/_settings`, 'PUT', JSON.stringify({ index: { refresh_interval: '-1' } }));
  const now = Date.now();
  for (let first = 0; first < count; first += BATCH) {
    if (first % 50_000 === 0) setting.say(`page: ${grouped(first)} of ${grouped(count)} alerts`);
    const lines: string[] = [];
    for (let number = first; number < Math.min(count, first + BATCH); number += 1) {
      const event = alertEvent(number, now - Math.round(((count - number) / count) * SPAN_MILLIS));
      lines.push(JSON.stringify({ create: { _id: event.record.event_id } }), JSON.stringify(event));
    }
    const answer = await ask(`${url}/${names.index}/_bulk?filter_path=errors`, 'POST', `${lines.join('\n')}\n`);
    if (!answer.includes('"errors":false')) throw new Error(`not all alerts were taken: ${answer.slice(0, 500)}`);
  }
  await ask(`${url}/${names.index}/_settings`, 'PUT', JSON.stringify({ index: { refresh_interval: '1s' } }));
  await ask(`${url}/${names.index}/_refresh`, 'POST');
}

async function ask(url: string, method: string, body?: string): Promise<string> {
  const answer = await fetch(url, {
    method,
    ...(body === undefined ? {} : { body, headers: { 'content-type': 'application/x-ndjson' } }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${text.slice(0, 500)}`);
  return text;
}

function urlOf(log: NodeJS.ReadableStream): Promise<string> {
  return new Promise((resolve) => {
    createInterface({ input: log }).on('line', (line) => {
      const [, url] = /"url":"([^"]+)"/.exec(line) ?? [];
      if (url !== undefined) resolve(url);
    });
  });
}

/** A new page each time; what Elasticsearch has cached by then is as it is for who looks again. */
async function measure(
  url: string,
  count: number,
  setting: Setting,
  add: (what: string, millis: number[]) => void,
): Promise<void> {
  const browser = await openBrowser();
  try {
    const page = await browser.context.newPage();
    // All that is asked for is there, and drawn.
    const drawn = async (): Promise<void> => {
      await page.locator('.rows > li, .groups li').first().waitFor();
      await page.locator('main[aria-busy="false"]').waitFor();
      await page.locator('.histogram svg rect').first().waitFor({ state: 'attached' });
    };
    const whole = `${url}?range=all`;
    const first: number[] = [];
    for (let time = 0; time <= TIMES; time += 1) {
      setting.say(`page: first paint, ${time}`);
      await page.goto('about:blank');
      const started = performance.now();
      await page.goto(whole);
      await drawn();
      first.push(performance.now() - started);
    }
    const shown = await page.locator('.numbers .number strong').first().textContent();
    const wanted = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 }).format(count);
    if (shown !== wanted) throw new Error(`the page shows ${shown} alerts, not ${wanted}`);
    add('page opened to alerts, facets and histogram on the screen', first);
    const now = Date.now();
    const days = `from=${new Date(now - 3 * 86_400_000).toISOString()}&to=${new Date(now - 86_400_000).toISOString()}`;
    for (const [name, parameters] of FILTERS) {
      const millis: number[] = [];
      for (let time = 0; time <= TIMES; time += 1) {
        setting.say(`page: ${name}, ${time}`);
        await page.goto(whole);
        await drawn();
        const query = parameters === '' ? `?${days}` : `?range=all&${parameters}`;
        // As the page itself changes its address; the time is taken inside of it, from there to the drawing of all that it asked for.
        const script = `new Promise((resolve) => {
          const main = document.querySelector('main');
          let asked = false;
          new MutationObserver(() => {
            if (main.getAttribute('aria-busy') === 'true') asked = true;
            else if (asked) requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - started)));
          }).observe(main, { attributeFilter: ['aria-busy'] });
          const started = performance.now();
          history.pushState(null, '', ${JSON.stringify(query)});
          dispatchEvent(new PopStateEvent('popstate'));
        })`;
        millis.push(await page.evaluate<number>(script));
      }
      add(`filter: ${name}`, millis);
    }
  } finally {
    await browser.close();
  }
}
