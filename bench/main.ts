/**
 * Runs the benchmarks and prints tables. scripts/bench.mjs makes ready what they need, starts it, and has the text of
 * its options.
 */
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { EngineInstall } from '../agent/engine/engine.ts';
import { findEngine } from '../agent/engine/find.ts';
import { whyNoLab } from '../scripts/lab.ts';
import { PROJECT } from '../test/support/project.ts';
import { BENCHMARKS, type BenchmarkName, type Figure, type Result, type Setting } from './bench.ts';
import { benchControlPlane } from './control-plane.ts';
import { benchCpu } from './cpu.ts';
import { benchDelivery } from './delivery.ts';
import { benchEvidence } from './evidence.ts';
import { benchEvidenceCost } from './evidence-cost.ts';
import { benchKubernetes } from './kubernetes.ts';
import { benchLatency } from './latency.ts';
import { benchMemory } from './memory.ts';
import { benchNode } from './node.ts';
import { benchObserve } from './observe.ts';
import { benchOverload } from './overload.ts';
import { benchPage } from './page.ts';
import { benchReplay } from './replay.ts';
import { createReport, toMarkdown, toTable, writeInto } from './report.ts';
import { benchSinks } from './sinks.ts';
import { benchSizing } from './sizing.ts';
import { benchSwap } from './swap.ts';

/** In no table that --write makes, and only done when they are named: they take long, or need Elasticsearch. */
const NAMED = {
  delivery: { title: 'Delivery', run: benchDelivery, withEngine: true },
  sizing: { title: 'What one CPU and 1 GiB carry', run: benchSizing, withEngine: true },
  overload: { title: 'One pod floods', run: benchOverload, withEngine: true },
  evidence: { title: 'Packets of alerts at 1 Gbit/s', run: benchEvidence, withEngine: true },
  'evidence-cost': { title: 'What packets of alerts cost', run: benchEvidenceCost, withEngine: true },
  page: { title: 'The Alerts page', run: benchPage, withEngine: false },
  node: { title: 'A node of 250 pods', run: benchNode, withEngine: true },
  sinks: { title: 'Sinks', run: benchSinks, withEngine: false },
  'control-plane': { title: 'Thousands of nodes', run: benchControlPlane, withEngine: false },
} as const;
const NAMES = Object.keys(NAMED) as (keyof typeof NAMED)[];

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
const named = NAMES.filter((name) => options.only.includes(name));
const needsLab = [...chosen, ...named].some((name) => !['replay', 'page', 'sinks', 'control-plane'].includes(name));
const noLab = needsLab ? whyNoLab() : undefined;
if (noLab !== undefined) fail(noLab, 1);

const results: Result[] = [];
const figures: Record<string, Figure[]> = {};
let failed = false;
for (const [index, engine] of engines.entries()) {
  const setting: Setting = {
    engine,
    quick: options.quick,
    rules: options.rules,
    say: (text) => say(`${engine.name}: ${text}`),
  };
  for (const name of chosen) {
    await attempt(`${engine.name}: ${name}`, async () => void results.push(...(await RUN[name](setting))));
  }
  for (const name of named) {
    const { withEngine, run } = NAMED[name];
    // Where no engine is in it, once.
    if (!withEngine && index > 0) continue;
    await attempt(`${engine.name}: ${name}`, async () => {
      const added = await run(setting);
      figures[name] = [...(figures[name] ?? []), ...added];
    });
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
  ...Object.entries(figures).map(([name, list]) => toTable(NAMED[name as keyof typeof NAMED].title, list)),
].join('\n\n');
process.stdout.write(
  options.output === 'json' ? `${JSON.stringify({ ...report, figures }, null, 2)}\n` : `${tables}\n`,
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
      },
    });
    const only = values.only.split(',').map((name) => name.trim());
    const names: readonly string[] = [...BENCHMARKS, ...NAMES];
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

/** A part that fails leaves the others. */
async function attempt(what: string, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    failed = true;
    say('');
    process.stderr.write(`bench: ${what}: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}

/** One line that is written over; on a terminal only. */
function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function fail(message: string, code: number): never {
  process.stderr.write(`bench: ${message}\n`);
  process.exit(code);
}
