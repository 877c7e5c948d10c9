#!/usr/bin/env node
/**
 * Makes ready what the chosen benchmarks need, and runs them:  npm run bench -- --help
 * Plain JavaScript with Node's own modules: it runs before anything is installed.
 */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Parts of `setup.mjs bench`, by benchmark. */
const NEEDS = {
  replay: [],
  cpu: ['lab'],
  memory: ['lab'],
  latency: ['lab'],
  swap: ['lab'],
  kubernetes: ['lab', 'control-plane'],
  observe: ['lab'],
};
/** Only done when they are named. */
const NEEDS_OF_NAMED = {
  delivery: ['lab', 'elasticsearch'],
  sizing: ['lab'],
  overload: ['lab'],
  evidence: ['lab'],
  'evidence-cost': ['lab'],
  page: ['elasticsearch', 'chromium'],
  node: ['lab', 'control-plane'],
  sinks: [],
  'control-plane': ['control-plane'],
};

const HELP = `npm run bench -- [options]

  --engine snort|suricata|both  default: those that are installed
  --only NAMES                  of ${Object.keys(NEEDS).join(',')},
                                ${Object.keys(NEEDS_OF_NAMED).join(',')};
                                default: all but the last ${Object.keys(NEEDS_OF_NAMED).length}
  --quick                       small loads: shows that everything works; the numbers say little
  --rules PATH                  adds rules, in the syntax of the engine (repeatable)
  -o, --output table|json       default: table
  --write                       puts the tables into docs/performance.md

Sets up what the chosen ones need, and nothing else: a control plane for kubernetes, node and control-plane, Elasticsearch for delivery and page, Chromium for page.
sinks measures Elasticsearch, OpenSearch and Kafka where node scripts/NAME.mjs has fetched them.
Needs root for network namespaces (all but replay, page, sinks and control-plane), and control groups for sizing.
Exit status: 0; 1 when alerts differ, packets were lost or a part failed; 2 for wrong options.
`;

/** @returns the parts of `setup.mjs bench` for these options. */
export function partsFor({ only = Object.keys(NEEDS).join(','), engine = 'installed' }) {
  const needs = { ...NEEDS, ...NEEDS_OF_NAMED };
  const parts = only.split(',').flatMap((name) => needs[name.trim()] ?? []);
  const ofEngine = { snort: [], installed: ['engine'] }[engine] ?? ['suricata'];
  return [...new Set([...parts, ...ofEngine])];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    strict: false,
    options: { only: { type: 'string' }, engine: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  const { status } = spawnSync(process.execPath, [join(root, 'scripts/setup.mjs'), 'bench', ...partsFor(values)], {
    stdio: 'inherit',
  });
  if (status !== 0) process.exit(status ?? 1);
  await import(pathToFileURL(join(root, 'dist/bench/main.js')).href);
}
