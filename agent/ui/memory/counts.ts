/** A table's alerts counted: by values of a field, by who attacks whom, and since when. */
import {
  LEVELS,
  type AlertRow,
  type FacetValue,
  type Flows,
  type Level,
  type Pair,
  type Span,
  type ValueField,
} from '../api.ts';
import { addCounts, mostFrequent, noCounts, shownFlows, sumPairs } from '../counting.ts';
import type { AlertQuery, Scope } from '../query.ts';
import { podOf } from '../row.ts';
import type { ValueRequest } from '../source.ts';
import { newestFirst } from './select.ts';
import { rowAt, type PartName, type PartTypes, type Table } from './table.ts';

type Slots = Iterable<number>;

export function valuesOf(
  table: Table,
  { field, prefix, limit }: ValueRequest,
  query: AlertQuery,
  scope: Scope,
): FacetValue[] {
  return mostFrequent(countValues(table, field, newestFirst(table, query, scope)), prefix, limit);
}

function countValues(table: Table, field: ValueField, slots: Slots): Map<string, number> {
  const by = <Name extends PartName>(
    name: Name,
    valuesIn: (part: PartTypes[Name]) => readonly (string | undefined)[],
  ): Map<string, number> => countParts(table, name, slots, valuesIn);
  switch (field) {
    case 'source.ip':
      return by('source', ({ source }) => [source.ip]);
    case 'destination.ip':
      return by('destination', ({ destination }) => [destination.ip]);
    case 'source.pod':
      return by('source', ({ source }) => [podOf(source)]);
    case 'destination.pod':
      return by('destination', ({ destination }) => [podOf(destination)]);
    case 'source.namespace':
      return by('source', ({ source }) => [source.namespace]);
    case 'destination.namespace':
      return by('destination', ({ destination }) => [destination.namespace]);
    case 'destination.port':
      return countPorts(table.destinationPort, slots);
    case 'class':
      return by('rule', ({ classification }) => [classification]);
    case 'cve':
      return by('rule', ({ cves }) => cves);
    case 'technique':
      return by('rule', ({ techniques }) => techniques);
    case 'assignee':
      return by('mark', ({ assignee }) => [assignee]);
    default:
      return by('place', (place) => [place[field]]);
  }
}

function countParts<Name extends PartName>(
  { parts, numbers }: Table,
  name: Name,
  slots: Slots,
  valuesIn: (part: PartTypes[Name]) => readonly (string | undefined)[],
): Map<string, number> {
  const values: readonly PartTypes[Name][] = parts[name].values;
  const byNumber = new Uint32Array(values.length);
  for (const slot of slots) {
    const number = numbers[name][slot] ?? 0;
    byNumber[number] = (byNumber[number] ?? 0) + 1;
  }
  const counts = new Map<string, number>();
  for (const [number, count] of byNumber.entries()) {
    const part = values[number];
    if (count === 0 || part === undefined) continue;
    for (const value of valuesIn(part))
      if (value !== undefined && value !== '') counts.set(value, (counts.get(value) ?? 0) + count);
  }
  return counts;
}

function countPorts(ports: Float64Array, slots: Slots): Map<string, number> {
  const counts = new Map<number, number>();
  for (const slot of slots) {
    const port = ports[slot] ?? NaN;
    if (!Number.isNaN(port)) counts.set(port, (counts.get(port) ?? 0) + 1);
  }
  return new Map([...counts].map(([port, count]) => [String(port), count]));
}

/** Alerts from one end to another. */
interface Edge {
  source: AlertRow['source'];
  destination: AlertRow['destination'];
  counts: Record<Level, number>;
}

export function flowsOf(table: Table, query: AlertQuery, scope: Scope): Flows {
  const edges = edgesOf(table, newestFirst(table, query, scope));
  const by = (nameOf: (end: Edge['source']) => string | undefined): Pair[] =>
    sumPairs(
      edges.map(({ source, destination, counts }) => ({
        source: nameOf(source) ?? '',
        destination: nameOf(destination) ?? '',
        counts,
      })),
    );
  const talkers = new Map<string, Flows['talkers'][number]>();
  for (const { source, counts } of edges) {
    const { ip, name, namespace } = source;
    const named = name === undefined || namespace === undefined ? {} : { name, namespace };
    const talker = talkers.get(ip) ?? { ip, ...named, counts: noCounts() };
    talkers.set(ip, talker);
    addCounts(talker.counts, counts);
  }
  return shownFlows(
    by(({ namespace }) => namespace),
    [...talkers.values()],
    by(podOf),
  );
}

/** Those whose newest alert is the newest come first. */
function edgesOf({ parts, numbers }: Table, slots: Slots): Edge[] {
  const levels = Uint8Array.from(parts.rule.values, ({ level }) => LEVELS.indexOf(level));
  const { rule, source: sources, destination: destinations } = numbers;
  const width = parts.destination.values.length;
  const edges = new Map<number, Uint32Array>();
  for (const slot of slots) {
    const key = (sources[slot] ?? 0) * width + (destinations[slot] ?? 0);
    let counts = edges.get(key);
    if (counts === undefined) {
      counts = new Uint32Array(LEVELS.length);
      edges.set(key, counts);
    }
    const level = levels[rule[slot] ?? 0] ?? 0;
    counts[level] = (counts[level] ?? 0) + 1;
  }
  return [...edges].flatMap(([key, counts]) => {
    const source = parts.source.values[Math.floor(key / width)]?.source;
    const destination = parts.destination.values[key % width]?.destination;
    if (source === undefined || destination === undefined) return [];
    const byLevel = Object.fromEntries(LEVELS.map((level, index) => [level, counts[index] ?? 0]));
    return [{ source, destination, counts: byLevel as Record<Level, number> }];
  });
}

export function spanOf(table: Table, query: AlertQuery, scope: Scope): Span {
  let count = 0;
  let last: number | undefined;
  let first: number | undefined;
  for (const slot of newestFirst(table, query, scope)) {
    count += 1;
    last ??= slot;
    first = slot;
  }
  if (first === undefined || last === undefined) return { count };
  return { count, first: rowAt(table, first).timestamp, last: rowAt(table, last).timestamp };
}
