/**
 * Alerts in memory, by columns. What many alerts have in common is kept once: the rule, where it was seen, each end,
 * what the flow said, and what somebody made of the alert. A column has the numbers of these parts, so that a question
 * looks at each part once and at each alert's numbers only. About 250 bytes an alert, beside its parts.
 *
 * An alert has a slot, in the order in which it came; `order` has the slots by time, the oldest first. When there are a
 * tenth more than `limit`, or parts of more than MAX_CHARACTERS, the oldest go and the slots are numbered anew: a slot
 * is good until the next `add`.
 */
import type { Place } from '../../journal/search.ts';
import type { AlertRow, RowApp } from '../api.ts';
import { createParts, type Parts } from './parts.ts';

const FIRST_CAPACITY = 1024;
/** Of all parts, ids and the like. */
const MAX_CHARACTERS = 256 << 20;

export type RulePart = Pick<
  AlertRow,
  'severity' | 'level' | 'gid' | 'sid' | 'rev' | 'message' | 'classification' | 'tactic' | 'techniques' | 'cves'
>;
export type PlacePart = Pick<AlertRow, 'resource' | 'namespace' | 'node' | 'protocol' | 'service' | 'seenAt'>;
/** Without their ports. */
export type SourcePart = Pick<AlertRow, 'source'>;
export type DestinationPart = Pick<AlertRow, 'destination'>;
export type FlowPart = Pick<AlertRow, 'outcome' | 'app'>;
export type MarkPart = Pick<AlertRow, 'state' | 'handledBy' | 'handledAt' | 'reason' | 'assignee'>;

export interface PartTypes {
  rule: RulePart;
  place: PlacePart;
  source: SourcePart;
  destination: DestinationPart;
  flow: FlowPart;
  mark: MarkPart;
  /** Of the timestamp, what stands behind its milliseconds; `=` and all of it where it has another form. */
  ending: string;
}
export type PartName = keyof PartTypes;
export const PART_NAMES = ['rule', 'place', 'source', 'destination', 'flow', 'mark', 'ending'] as const;

/** By slot. */
type Numbers = Record<PartName, Uint32Array>;
type AllParts = { readonly [Name in PartName]: Parts<PartTypes[Name]> };

/** Where in the order of time an alert is. */
export interface Rank {
  /** Milliseconds since the epoch. */
  time: number;
  ending: string;
  id: string;
}

export interface Table {
  readonly limit: number;
  /** Slots that are taken. */
  size: number;
  parts: AllParts;
  numbers: Numbers;
  /** Milliseconds since the epoch. */
  time: Float64Array;
  /** NaN: there is none. */
  sourcePort: Float64Array;
  destinationPort: Float64Array;
  count: Float64Array;
  /** Where the document is. */
  segment: Float64Array;
  offset: Float64Array;
  ids: string[];
  communities: (string | undefined)[];
  order: Uint32Array;
  slots: Map<string, number>;
}

export function createTable(limit: number): Table {
  return {
    limit,
    size: 0,
    parts: newParts(),
    ...columns(FIRST_CAPACITY),
    ids: [],
    communities: [],
    slots: new Map(),
  };
}

const FLOAT_NAMES = ['time', 'sourcePort', 'destinationPort', 'count', 'segment', 'offset'] as const;
type Columns = Pick<Table, 'numbers' | 'order' | (typeof FLOAT_NAMES)[number]>;

function columns(capacity: number): Columns {
  const floats = Object.fromEntries(FLOAT_NAMES.map((name) => [name, new Float64Array(capacity)])) as Record<
    (typeof FLOAT_NAMES)[number],
    Float64Array
  >;
  const numbers = Object.fromEntries(PART_NAMES.map((name) => [name, new Uint32Array(capacity)])) as Numbers;
  return { numbers, ...floats, order: new Uint32Array(capacity) };
}

function newParts(): AllParts {
  return Object.fromEntries(PART_NAMES.map((name) => [name, createParts()])) as unknown as AllParts;
}

export interface Entry {
  row: AlertRow;
  at: Place;
}

/** Adds those that are not there yet. @returns their rows. */
export function addRows(table: Table, entries: readonly Entry[]): AlertRow[] {
  const added: AlertRow[] = [];
  const slots: number[] = [];
  for (const entry of entries) {
    if (table.slots.has(entry.row.id)) continue;
    slots.push(append(table, entry));
    added.push(entry.row);
  }
  merge(table, slots);
  const isFull = table.size > Math.ceil(table.limit * 1.1) || charactersOf(table) > MAX_CHARACTERS;
  if (isFull) dropOldest(table, Math.min(table.limit, Math.floor(table.size * 0.9)));
  return added;
}

/** Whether there is room for older ones, and for what comes. */
export function hasRoom(table: Table): boolean {
  return table.size < table.limit && charactersOf(table) < MAX_CHARACTERS / 2;
}

function charactersOf({ parts }: Table): number {
  return PART_NAMES.reduce((sum, name) => sum + parts[name].characters, 0);
}

function append(table: Table, { row, at }: Entry): number {
  if (table.size === table.time.length) enlarge(table);
  const slot = table.size;
  table.size += 1;
  const { parts, numbers } = table;
  numbers.rule[slot] = ruleNumber(parts, row);
  numbers.place[slot] = placeNumber(parts, row);
  numbers.source[slot] = parts.source.numberOf(endTexts(row.source), () => ({ source: withoutPort(row.source) }));
  numbers.destination[slot] = parts.destination.numberOf(endTexts(row.destination), () => ({
    destination: withoutPort(row.destination),
  }));
  const ending = endingOf(row.timestamp);
  table.time[slot] = Date.parse(row.timestamp);
  numbers.ending[slot] = parts.ending.numberOf([ending], () => ending);
  table.sourcePort[slot] = row.source.port ?? NaN;
  table.destinationPort[slot] = row.destination.port ?? NaN;
  table.count[slot] = row.count;
  table.segment[slot] = at.segment;
  table.offset[slot] = at.offset;
  table.ids[slot] = row.id;
  table.slots.set(row.id, slot);
  setFlow(table, slot, row);
  setMark(table, slot, row);
  return slot;
}

export function setFlow(table: Table, slot: number, of: FlowPart & Pick<AlertRow, 'community'>): void {
  const { outcome = '', app, community } = of;
  const said: Partial<RowApp> = app ?? {};
  const { protocol = '', host = '', method = '', url = '', status = '', useragent = '' } = said;
  const { domains = [], sni = '', ja3 = '', ja4 = '', hassh = [] } = said;
  const texts = [outcome, protocol, host, method, url, String(status), useragent, sni, ja3, ja4];
  table.numbers.flow[slot] = table.parts.flow.numberOf([...texts, listKey(domains), listKey(hassh)], () =>
    given({ outcome: of.outcome, app }),
  );
  table.communities[slot] = community;
}

export function setMark(table: Table, slot: number, mark: MarkPart): void {
  const { state, handledBy, handledAt, reason, assignee } = mark;
  const texts = [state, handledBy ?? '', handledAt ?? '', reason ?? '', assignee ?? ''];
  table.numbers.mark[slot] = table.parts.mark.numberOf(texts, () => ({
    state,
    ...given({ handledBy, handledAt, reason, assignee }),
  }));
}

function ruleNumber(parts: AllParts, row: AlertRow): number {
  const { severity, level, gid, sid, rev, message, classification, tactic, techniques, cves } = row;
  const texts = [String(severity), gid, sid, rev, message, classification ?? '', tactic ?? ''];
  return parts.rule.numberOf([...texts, listKey(techniques), listKey(cves)], () => ({
    severity,
    level,
    gid,
    sid,
    rev,
    message,
    techniques,
    cves,
    ...given({ classification, tactic }),
  }));
}

function placeNumber(parts: AllParts, row: AlertRow): number {
  const { resource, namespace, node, protocol, service, seenAt } = row;
  const texts = [resource, namespace, node, protocol, service ?? '', listKey(seenAt)];
  return parts.place.numberOf(texts, () => ({ resource, namespace, node, protocol, seenAt, ...given({ service }) }));
}

function endTexts({ ip, name = '', namespace = '' }: AlertRow['source']): string[] {
  return [ip, name, namespace];
}

function listKey(list: readonly string[]): string {
  return list.length === 0 ? '' : JSON.stringify(list);
}

function withoutPort({ ip, name, namespace }: AlertRow['source']): AlertRow['source'] {
  return { ip, ...given({ name, namespace }) };
}

type Given<Of> = { [Key in keyof Of]?: Exclude<Of[Key], undefined> };

function given<Of extends object>(values: Of): Given<Of> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Given<Of>;
}

/** A row as it was added, with what became known since. */
export function rowAt(table: Table, slot: number): AlertRow {
  const { numbers, sourcePort, destinationPort } = table;
  const part = <Name extends PartName>(name: Name): PartTypes[Name] =>
    table.parts[name].values[numbers[name][slot] ?? 0] as PartTypes[Name];
  const community = table.communities[slot];
  return {
    id: table.ids[slot] ?? '',
    timestamp: timestampOf(table.time[slot] ?? 0, part('ending')),
    ...part('rule'),
    ...part('mark'),
    ...part('place'),
    source: withPort(part('source').source, sourcePort[slot]),
    destination: withPort(part('destination').destination, destinationPort[slot]),
    count: table.count[slot] ?? 1,
    ...part('flow'),
    ...(community === undefined ? {} : { community }),
  };
}

function withPort(end: AlertRow['source'], port = NaN): AlertRow['source'] {
  return Number.isNaN(port) ? end : { ...end, port };
}

export function endingOf(timestamp: string): string {
  const millis = new Date(timestamp).toISOString().slice(0, -1);
  return timestamp.startsWith(millis) ? timestamp.slice(millis.length) : `=${timestamp}`;
}

function timestampOf(time: number, ending: string): string {
  return ending.startsWith('=') ? ending.slice(1) : `${new Date(time).toISOString().slice(0, -1)}${ending}`;
}

export function rankOf({ time, parts, numbers, ids }: Table, slot: number): Rank {
  return {
    time: time[slot] ?? 0,
    ending: parts.ending.values[numbers.ending[slot] ?? 0] ?? '',
    id: ids[slot] ?? '',
  };
}

/** By time; of one moment in the order of their ids. */
export function compareRanks(a: Rank, b: Rank): number {
  if (a.time !== b.time) return a.time - b.time;
  if (a.ending !== b.ending) return a.ending < b.ending ? -1 : 1;
  return a.id === b.id ? 0 : a.id < b.id ? -1 : 1;
}

export function compareSlots(table: Table, a: number, b: number): number {
  const byTime = (table.time[a] ?? 0) - (table.time[b] ?? 0);
  return byTime === 0 ? compareRanks(rankOf(table, a), rankOf(table, b)) : byTime;
}

/** Puts slots into the order: from behind, as most are newer than all before. */
function merge(table: Table, slots: readonly number[]): void {
  const { order, size } = table;
  const sorted = slots.toSorted((a, b) => compareSlots(table, a, b));
  let known = size - sorted.length - 1;
  let to = size - 1;
  for (let next = sorted.length - 1; next >= 0; to -= 1) {
    const slot = sorted[next] ?? 0;
    const before = order[known] ?? 0;
    if (known >= 0 && compareSlots(table, before, slot) > 0) {
      order[to] = before;
      known -= 1;
    } else {
      order[to] = slot;
      next -= 1;
    }
  }
}

/** Where in the order those begin whose time is not before this. */
export function firstFrom({ order, time, size }: Table, millis: number): number {
  let [low, high] = [0, size];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((time[order[middle] ?? 0] ?? 0) < millis) low = middle + 1;
    else high = middle;
  }
  return low;
}

function enlarge(table: Table): void {
  const before: Columns = { ...table };
  const after = columns(table.time.length * 2);
  after.order.set(before.order);
  for (const name of FLOAT_NAMES) after[name].set(before[name]);
  for (const name of PART_NAMES) after.numbers[name].set(before.numbers[name]);
  Object.assign(table, after);
}

/** Numbers slots and parts anew, of the newest. */
function dropOldest(table: Table, keep: number): void {
  const kept = table.order.slice(table.size - keep, table.size);
  const after = columns(Math.max(FIRST_CAPACITY, Math.ceil(table.limit * 1.1) + 1, keep));
  for (const name of FLOAT_NAMES)
    for (let slot = 0; slot < keep; slot += 1) after[name][slot] = table[name][kept[slot] ?? 0] ?? NaN;
  for (let slot = 0; slot < keep; slot += 1) after.order[slot] = slot;
  const parts = newParts();
  for (const name of PART_NAMES) renumber(table, name, kept, parts[name], after.numbers[name]);
  const ids = Array.from(kept, (slot) => table.ids[slot] ?? '');
  const communities = Array.from(kept, (slot) => table.communities[slot]);
  const slots = new Map(ids.map((id, slot) => [id, slot]));
  Object.assign(table, { size: keep, parts, ...after, ids, communities, slots });
}

function renumber(table: Table, name: PartName, kept: Uint32Array, parts: Parts<unknown>, after: Uint32Array): void {
  const { values } = table.parts[name];
  const before = table.numbers[name];
  /** One more than the number: 0 is none yet. */
  const known = new Uint32Array(values.length);
  for (const [slot, old] of kept.entries()) {
    const number = before[old] ?? 0;
    if (known[number] === 0) known[number] = parts.copyOf(table.parts[name], number) + 1;
    after[slot] = (known[number] ?? 1) - 1;
  }
}
