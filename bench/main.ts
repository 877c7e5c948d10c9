/** Runs the benchmarks and prints tables:  npm run bench -- --help */
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { EngineInstall } from '../agent/engine/engine.ts';
import { findEngine } from '../agent/engine/find.ts';
import { whyNoLab } from '../scripts/lab.ts';
import { PROJECT } from '../test/support/project.ts';
import { BENCHMARKS, type BenchmarkName, type Result, type Setting } from './bench.ts';
import { benchCpu } from './cpu.ts';
import { benchDelivery, deliveryTable, type DeliveryResult } from './delivery.ts';
import { benchKubernetes } from './kubernetes.ts';
import { benchLatency } from './latency.ts';
import { benchMemory } from './memory.ts';
import { benchObserve } from './observe.ts';
import { benchPage } from './page.ts';
import { benchReplay } from './replay.ts';
import { createReport, toMarkdown, writeInto } from './report.ts';
import { benchSwap } from './swap.ts';

/** In no table of docs/performance.md that --write makes, and only done when they are named: they need Elasticsearch. */
const DELIVERY = 'delivery' as const;
const PAGE = 'page' as const;

const HELP = `npm run bench -- [options]

  --engine snort|suricata|both  default: those that are installed
  --only NAMES                  of ${BENCHMARKS.join(',')},${DELIVERY},${PAGE}; default: all but the last two
  --quick                       small loads: shows that everything works; the numbers say little
  --rules PATH                  adds rules, in the syntax of the engine (repeatable)
  -o, --output table|json       default: table
  --write                       puts the tables into docs/performance.md

Needs root for network namespaces (all but replay), and kube-apiserver for kubernetes (node scripts/kubernetes.mjs builds it), and
Elasticsearch for delivery and page (node scripts/elasticsearch.mjs fetches it), and Chromium for page. Exit status: 0; 1 when alerts differ, packets were lost or a part failed; 2 for wrong options.
`;

const RUN: Record<BenchmarkName, (setting: Setting) => Promise<Result[]>> = {
  replay: benchReplay,
  cpu: benchCpu,
  memory: benchMemory,
  latency: benchLatency,
  swap: benchSwap,
  kubernetes: benchKubernetes,
  observe: benchObserve,
};

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.once(signal, () => process.exit(code));
}

const options = readOptions();
const engines = await chooseEngines(options.engine);
const chosen = BENCHMARKS.filter((name) => options.only.includes(name));
const withDelivery = options.only.includes(DELIVERY);
const noLab = chosen.every((name) => name === 'replay') && !withDelivery ? undefined : whyNoLab();
if (noLab !== undefined) fail(noLab, 1);

const results: Result[] = [];
const deliveries: DeliveryResult[] = [];
const pages: DeliveryResult[] = [];
let failed = false;
for (const engine of engines) {
  const setting: Setting = {
    engine,
    quick: options.quick,
    rules: options.rules,
    say: (text) => say(`${engine.name}: ${text}`),
  };
  for (const name of withDelivery ? [...chosen, DELIVERY] : chosen) {
    try {
      if (name === DELIVERY) deliveries.push(...(await benchDelivery(setting)));
      else results.push(...(await RUN[name](setting)));
    } catch (error) {
      failed = true;
      say('');
      process.stderr.write(
        `bench: ${engine.name}: ${name}: ${error instanceof Error ? error.message : String(error)}\n`,
      );
    }
  }
}
if (options.only.includes(PAGE)) {
  // No engine is in it.
  try {
    const [engine] = engines;
    if (engine !== undefined) pages.push(...(await benchPage({ engine, quick: options.quick, rules: [], say })));
  } catch (error) {
    failed = true;
    process.stderr.write(`bench: ${PAGE}: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}
say('');

const report = createReport(
  ['npm run bench', ...(process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : [])].join(' '),
  engines.map(({ name, version }) => `${name === 'snort' ? 'Snort' : 'Suricata'} ${version}`),
  results,
);
const tables = [
  toMarkdown(report),
  ...(deliveries.length > 0 ? [deliveryTable('Delivery', deliveries)] : []),
  ...(pages.length > 0 ? [deliveryTable('The Alerts page', pages)] : []),
].join('\n\n');
process.stdout.write(
  options.output === 'json' ? `${JSON.stringify({ ...report, deliveries, pages }, null, 2)}\n` : `${tables}\n`,
);
if (options.write && chosen.length > 0) writeInto(join(PROJECT, 'docs/performance.md'), toMarkdown(report));
process.exitCode = failed || results.some(({ failure }) => failure !== undefined) ? 1 : 0;

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        engine: { type: 'string', default: 'installed' },
        only: { type: 'string', default: BENCHMARKS.join(',') },
        quick: { type: 'boolean', default: false },
        rules: { type: 'string', multiple: true, default: [] },
        output: { type: 'string', short: 'o', default: 'table' },
        write: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    const only = values.only.split(',').map((name) => name.trim());
    const names: readonly string[] = [...BENCHMARKS, DELIVERY, PAGE];
    const unknown = only.filter((name) => !names.includes(name));
    if (unknown.length > 0) fail(`--only: ${unknown.join(', ')} is none of ${names.join(', ')}`, 2);
    const { engine, output } = values;
    if (!['installed', 'both', 'snort', 'suricata'].includes(engine))
      fail(`--engine: ${engine} is none of snort, suricata, both`, 2);
    if (!['table', 'json'].includes(output)) fail(`--output: ${output} is none of table, json`, 2);
    return { ...values, only, rules: values.rules.map((path) => resolve(path)) };
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error), 2);
  }
}

async function chooseEngines(wanted: string): Promise<EngineInstall[]> {
  const found: EngineInstall[] = [];
  for (const name of ['snort', 'suricata'] as const) {
    if (wanted !== name && wanted !== 'both' && wanted !== 'installed') continue;
    const result = await findEngine(name);
    if (result.kind === 'found') found.push(result.install);
    else if (wanted !== 'installed') fail(`no engine: ${result.reason}`, 1);
  }
  if (found.length === 0) fail('neither Snort 3 nor Suricata is installed', 1);
  return found;
}

/** One line that is written over; on a terminal only. */
function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function fail(message: string, code: number): never {
  process.stderr.write(`bench: ${message}\n`);
  process.exit(code);
}
