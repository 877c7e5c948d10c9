/** Results as tables, and the tables into docs/performance.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem } from 'node:os';
import { fixed, type BenchmarkName, type Figure, type Result } from './bench.ts';

const START = '<!-- bench:start -->';
const END = '<!-- bench:end -->';

const TITLES: Record<BenchmarkName, string> = {
  replay: 'Replay',
  cpu: 'CPU for live packets',
  memory: 'Memory',
  latency: 'Packet to event in the journal',
  swap: 'Change of the rules',
  kubernetes: 'Kubernetes',
  observe: 'Observing',
};

export interface Report {
  date: string;
  command: string;
  machine: { cpu: string; cores: number; memoryGigabytes: number; kernel: string };
  node: string;
  engines: string[];
  results: Result[];
}

export function createReport(command: string, engines: string[], results: Result[]): Report {
  return {
    date: new Date().toISOString().slice(0, 10),
    command,
    machine: {
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      memoryGigabytes: Math.round(totalmem() / 2 ** 30),
      kernel: release(),
    },
    node: process.version,
    engines,
    results,
  };
}

export function toTable(title: string, figures: readonly Figure[]): string {
  const rows = [
    ['Engine', 'What', 'dpi-agent', 'With'],
    ['---', '---', '---', '---'],
    ...figures.map(({ engine, what, value, details }) => [engine, what, value, details]),
  ];
  return [`### ${title}`, '', ...rows.map((cells) => `| ${cells.join(' | ')} |`)].join('\n');
}

/** Markdown that Prettier leaves as it is. */
export function toMarkdown({ date, command, machine, node, engines, results }: Report): string {
  const { cpu, cores, memoryGigabytes, kernel } = machine;
  const facts = [
    `- ${date}, \`${command}\``,
    `- ${cores} cores (${cpu}), ${memoryGigabytes} GB, Linux ${kernel}`,
    `- Node ${node}, ${engines.join(', ')}`,
  ];
  const names = [...new Set(results.map(({ benchmark }) => benchmark))];
  const sections = names.map((name) =>
    toSection(
      name,
      results.filter(({ benchmark }) => benchmark === name),
    ),
  );
  return [facts.join('\n'), ...sections].join('\n\n');
}

function toSection(name: BenchmarkName, results: Result[]): string {
  const hasAlone = results.some(({ alone }) => alone !== '');
  const header = [
    'Engine',
    'What',
    'dpi-agent',
    ...(hasAlone ? ['Engine alone', 'Ratio'] : []),
    'At least',
    'Aim',
    'Reached',
  ];
  const rows = results.map((result) => [
    result.engine,
    result.what,
    result.agent,
    ...(hasAlone ? [result.alone, fixed(result.value)] : []),
    result.target === undefined ? '' : withUnit(result.target.atLeast, result.unit),
    result.target === undefined ? '' : withUnit(result.target.aim, result.unit),
    reached(result),
  ]);
  const details = results.flatMap((result) => [
    ...(Object.keys(result.details).length === 0
      ? []
      : [`- ${result.engine}, ${result.what}: ${describe(result.details)}`]),
    ...(result.failure === undefined
      ? []
      : [`- **${result.engine}, ${result.what}: ${result.failure.replaceAll('\n', '; ')}**`]),
  ]);
  return [`### ${TITLES[name]}`, table(header, rows), details.join('\n')].join('\n\n');
}

function describe(details: Result['details']): string {
  return Object.entries(details)
    .map(([name, value]) => `${name} ${value}`)
    .join('; ');
}

function reached({ target, value, failure }: Result): string {
  if (failure !== undefined) return 'failed';
  if (target === undefined) return '';
  if (value <= target.aim) return 'aim';
  return value <= target.atLeast ? 'at least' : 'no';
}

function withUnit(value: number, unit: Result['unit']): string {
  return unit === 'ratio' ? String(value) : `${value} ${unit}`;
}

function table(header: string[], rows: string[][]): string {
  const widths = header.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(header), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** Replaces what stands between the markers. @throws Error when the file has no markers. */
export function writeInto(path: string, markdown: string): void {
  const text = readFileSync(path, 'utf8');
  const start = text.indexOf(START);
  const end = text.indexOf(END);
  if (start < 0 || end < start) throw new Error(`${path} has no lines ${START} and ${END}`);
  writeFileSync(path, `${text.slice(0, start + START.length)}\n\n${markdown}\n\n${text.slice(end)}`);
}
