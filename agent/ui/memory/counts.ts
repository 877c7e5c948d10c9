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
import { selected } from './select.ts';
import { createPairs } from './pairs.ts';
import { rowAt, type PartName, type PartTypes, type Table } from './table.ts';

/** Slots, in blocks. */
type Blocks = Iterable<Uint32Array>;

export function valuesOf(
  table: Table,
  { field, prefix, limit }: ValueRequest,
  query: AlertQuery,
  scope: Scope,
): FacetValue[] {
  return mostFrequent(countValues(table, field, selected(table, query, scope)), prefix, limit);
}

function countValues(table: Table, field: ValueField, blocks: Blocks): Map<string, number> {
  const by = <Name extends PartName>(
    name: Name,
    valuesIn: (part: PartTypes[Name]) => readonly (string | undefined)[],
  ): Map<string, number> => countParts(table, name, blocks, valuesIn);
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
      return countPorts(table.destinationPort, blocks);
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
  blocks: Blocks,
  valuesIn: (part: PartTypes[Name]) => readonly (string | undefined)[],
): Map<string, number> {
  const values: readonly PartTypes[Name][] = parts[name].values;
  const byNumber = new Uint32Array(values.length);
  const column = numbers[name];
  for (const slots of blocks)
    for (const slot of slots) {
      const number = column[slot] ?? 0;
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

function countPorts(ports: Float64Array, blocks: Blocks): Map<string, number> {
  const byPort = new Uint32Array(65_536);
  for (const slots of blocks)
    for (const slot of slots) {
      const port = ports[slot] ?? NaN;
      if (!Number.isNaN(port)) byPort[port] = (byPort[port] ?? 0) + 1;
    }
  const counts = new Map<string, number>();
  for (const [port, count] of byPort.entries()) if (count > 0) counts.set(String(port), count);
  return counts;
}

/** Alerts from one end to another. */
interface Edge {
  source: AlertRow['source'];
  destination: AlertRow['destination'];
  counts: Record<Level, number>;
}

export function flowsOf(table: Table, query: AlertQuery, scope: Scope): Flows {
  const edges = edgesOf(table, selected(table, query, scope));
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
function edgesOf({ parts, numbers }: Table, blocks: Blocks): Edge[] {
  const levels = Uint8Array.from(parts.rule.values, ({ level }) => LEVELS.indexOf(level));
  const { rule, source: sources, destination: destinations } = numbers;
  const pairs = createPairs(LEVELS.length);
  for (const slots of blocks)
    for (const slot of slots) pairs.add(sources[slot] ?? 0, destinations[slot] ?? 0, levels[rule[slot] ?? 0] ?? 0);
  return pairs.all().flatMap(({ one, other, counts }) => {
    const source = parts.source.values[one]?.source;
    const destination = parts.destination.values[other]?.destination;
    if (source === undefined || destination === undefined) return [];
    const byLevel = Object.fromEntries(LEVELS.map((level, index) => [level, counts[index] ?? 0]));
    return [{ source, destination, counts: byLevel as Record<Level, number> }];
  });
}

export function spanOf(table: Table, query: AlertQuery, scope: Scope): Span {
  let count = 0;
  let last: number | undefined;
  let first: number | undefined;
  for (const slots of selected(table, query, scope)) {
    count += slots.length;
    last ??= slots[0];
    first = slots.at(-1);
  }
  if (first === undefined || last === undefined) return { count };
  return { count, first: rowAt(table, first).timestamp, last: rowAt(table, last).timestamp };
}
