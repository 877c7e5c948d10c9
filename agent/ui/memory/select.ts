/**
 * What of a table a query selects. Alerts are looked at in blocks, the newest first: each question is a loop over the
 * numbers of a block. What is asked of a part is asked once, when it is first met.
 */
import { FACETS, type FacetName } from '../api.ts';
import { accepting, type Accept, type Searched } from '../language/accept.ts';
import { allOf, anyOf } from '../language/fields.ts';
import type { Condition, NumberField, TextField } from '../language/condition.ts';
import { inScope, type AlertQuery, type Scope } from '../query.ts';
import { podOf } from '../row.ts';
import { firstFrom, type PartName, type Table } from './table.ts';

/** Bits: a filter that leaves the alert out. */
export const FACET_BITS = Object.fromEntries(FACETS.map((name, index) => [name, 1 << index])) as Record<
  FacetName,
  number
>;
/** Who asks may not see it. */
export const HIDDEN = 1 << FACETS.length;

/** Who wants a page of the newest looks at few; each block is twice as long as the one before. */
const FIRST_BLOCK = 64;
const BLOCK = 4096;

export interface Block {
  readonly slots: Uint32Array;
  /** The filters that leave a slot out; 0: none. */
  readonly failing: Uint8Array;
  /** 1: the words of the query are true of it. */
  readonly says: Uint8Array;
}

type Text = Extract<Condition, { is: 'text' }>;
type Several = Extract<Condition, { is: 'and' | 'or' }>;

/** Writes what is true of slots. */
type Test = (slots: Uint32Array, into: Uint8Array) => void;

/** All within the time of a query, the newest first. A block is good until the next one. */
export function* blocksOf(table: Table, query: AlertQuery, scope: Scope): Generator<Block> {
  const from = query.from === undefined ? 0 : firstFrom(table, query.from);
  const to = query.to === undefined ? table.size : firstFrom(table, query.to);
  const fail = failingOf(table, query, scope);
  const say = testOf(table, query.where);
  const [failing, says] = [new Uint8Array(BLOCK), new Uint8Array(BLOCK)];
  for (let end = to, size = FIRST_BLOCK; end > from; size = Math.min(BLOCK, size * 2)) {
    const start = Math.max(from, end - size);
    const slots = table.order.subarray(start, end).toReversed();
    fail(slots, failing);
    say(slots, says);
    yield { slots, failing, says };
    end = start;
  }
}

/** Slots that all filters select, the newest first, in blocks. */
export function* selected(table: Table, query: AlertQuery, scope: Scope): Generator<Uint32Array> {
  for (const { slots, failing, says } of blocksOf(table, query, scope)) {
    let count = 0;
    for (let index = 0; index < slots.length; index += 1) {
      if (failing[index] !== 0 || says[index] === 0) continue;
      slots[count] = slots[index] ?? 0;
      count += 1;
    }
    if (count > 0) yield slots.subarray(0, count);
  }
}

/** The same one by one, for who wants few. */
export function* newestFirst(table: Table, query: AlertQuery, scope: Scope): Generator<number> {
  for (const slots of selected(table, query, scope)) yield* slots;
}

/** Writes the bits of the filters that leave slots out. */
function failingOf(table: Table, query: AlertQuery, scope: Scope): Test {
  const { numbers } = table;
  const bits = [
    [numbers.rule, ruleBits(table, query)],
    [numbers.place, placeBits(table, query, scope)],
    [numbers.mark, markBits(table, query)],
  ] as const;
  const narrowing = bits.filter(([, of]) => of.some((one) => one !== 0));
  const addPod = query.pod.length === 0 ? undefined : podBits(table, query);
  return (slots, into) => {
    into.fill(0);
    for (const [column, of] of narrowing) addBits(slots, column, of, into);
    addPod?.(slots, into);
  };
}

function addBits(slots: Uint32Array, column: Uint32Array, bits: Uint8Array, into: Uint8Array): void {
  for (let index = 0; index < slots.length; index += 1)
    into[index] = (into[index] ?? 0) | (bits[column[slots[index] ?? 0] ?? 0] ?? 0);
}

function ruleBits({ parts }: Table, { level, signature, tactic }: AlertQuery): Uint8Array {
  return Uint8Array.from(
    parts.rule.values,
    (rule) =>
      bitUnless('level', level.length === 0 || level.includes(rule.level)) |
      bitUnless('signature', signature.length === 0 || signature.includes(`${rule.gid}:${rule.sid}`)) |
      bitUnless('tactic', tactic.length === 0 || tactic.includes(rule.tactic ?? '')),
  );
}

function placeBits({ parts }: Table, { namespace: wanted }: AlertQuery, scope: Scope): Uint8Array {
  return Uint8Array.from(
    parts.place.values,
    ({ namespace }) =>
      (inScope(scope, namespace) ? 0 : HIDDEN) |
      bitUnless('namespace', wanted.length === 0 || wanted.includes(namespace)),
  );
}

function markBits({ parts }: Table, { state: wanted }: AlertQuery): Uint8Array {
  return Uint8Array.from(parts.mark.values, ({ state }) =>
    bitUnless('state', wanted.length === 0 ? state !== 'dismissed' : wanted.includes(state)),
  );
}

function podBits({ parts, numbers }: Table, { pod: wanted }: AlertQuery): Test {
  const sources = Uint8Array.from(parts.source.values, ({ source }) => Number(wanted.includes(podOf(source) ?? '')));
  const destinations = Uint8Array.from(parts.destination.values, ({ destination }) =>
    Number(wanted.includes(podOf(destination) ?? '')),
  );
  return (slots, into) => {
    for (let index = 0; index < slots.length; index += 1) {
      const slot = slots[index] ?? 0;
      const passes = sources[numbers.source[slot] ?? 0] === 1 || destinations[numbers.destination[slot] ?? 0] === 1;
      if (!passes) into[index] = (into[index] ?? 0) | FACET_BITS.pod;
    }
  };
}

function bitUnless(name: FacetName, passes: boolean): number {
  return passes ? 0 : FACET_BITS[name];
}

/** Tries a condition on slots. */
function testOf(table: Table, condition: Condition): Test {
  const part = partOf(condition);
  if (part !== undefined) return partTest(table, part, accepting(condition));
  switch (condition.is) {
    case 'not':
      return inverted(testOf(table, condition.of));
    case 'number':
      return numberTest(table, condition);
    case 'text':
      return condition.in.length === 1 ? communityTest(table, condition) : testOf(table, anyOf(byPart(condition)));
    case 'and':
    case 'or':
      return joined(
        groupedByPart(condition).map((of) => testOf(table, of)),
        condition.is,
      );
    default:
      // All; others are about one part.
      return (_, into) => void into.fill(1);
  }
}

function inverted(test: Test): Test {
  return (slots, into) => {
    test(slots, into);
    for (let index = 0; index < slots.length; index += 1) into[index] = 1 - (into[index] ?? 0);
  };
}

function joined(tests: readonly Test[], by: 'and' | 'or'): Test {
  const other = new Uint8Array(BLOCK);
  return (slots, into) => {
    into.fill(by === 'and' ? 1 : 0);
    for (const test of tests) {
      test(slots, other);
      if (by === 'and')
        for (let index = 0; index < slots.length; index += 1) into[index] = (into[index] ?? 0) & (other[index] ?? 0);
      else for (let index = 0; index < slots.length; index += 1) into[index] = (into[index] ?? 0) | (other[index] ?? 0);
    }
  };
}

const PART_OF: Record<Exclude<TextField, 'community'>, PartName> = {
  message: 'rule',
  gid: 'rule',
  sid: 'rule',
  rev: 'rule',
  class: 'rule',
  tactic: 'rule',
  technique: 'rule',
  cve: 'rule',
  resource: 'place',
  namespace: 'place',
  protocol: 'place',
  service: 'place',
  node: 'place',
  assignee: 'mark',
  'source.name': 'source',
  'source.namespace': 'source',
  'destination.name': 'destination',
  'destination.namespace': 'destination',
  app: 'flow',
  outcome: 'flow',
  host: 'flow',
  method: 'flow',
  url: 'flow',
  useragent: 'flow',
  domain: 'flow',
  sni: 'flow',
  ja3: 'flow',
  ja4: 'flow',
  hassh: 'flow',
};

/** The part that has all that a condition asks for; undefined: there is none. */
function partOf(condition: Condition): PartName | undefined {
  switch (condition.is) {
    case 'address':
      return condition.at;
    case 'state':
      return 'mark';
    case 'number':
      return condition.of === 'severity' ? 'rule' : condition.of === 'status' ? 'flow' : undefined;
    case 'text':
      return onlyOne(condition.in.map((field) => (field === 'community' ? undefined : PART_OF[field])));
    case 'not':
      return partOf(condition.of);
    case 'and':
    case 'or':
      return onlyOne(condition.of.map(partOf));
    case 'all':
      return undefined;
  }
}

function onlyOne<T>([first, ...others]: readonly T[]): T | undefined {
  return others.every((other) => other === first) ? first : undefined;
}

/** A text that is looked for in several parts, for each part. */
function byPart(condition: Text): Condition[] {
  const parts = groupedBy(condition.in, (field) => (field === 'community' ? field : PART_OF[field]));
  return [...parts.values()].map((fields) => ({ ...condition, in: fields }));
}

/** With those that are about one part as one: it is looked at once. */
function groupedByPart({ is, of }: Several): Condition[] {
  const groups = groupedBy(flattened(is, of), partOf);
  return [...groups].flatMap(([part, conditions]) =>
    part === undefined ? conditions : [is === 'and' ? allOf(conditions) : anyOf(conditions)],
  );
}

function groupedBy<Item, Key>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

function flattened(is: Several['is'], of: readonly Condition[]): Condition[] {
  return of.flatMap((condition) => {
    if (condition.is === is) return flattened(is, condition.of);
    return is === 'or' && condition.is === 'text' ? byPart(condition) : [condition];
  });
}

/** Looks at a part when it is first met. */
function partTest(table: Table, name: PartName, accepts: Accept): Test {
  const { values } = table.parts[name];
  const numbers = table.numbers[name];
  /** 0: not looked at; 1: no; 2: yes. */
  const known = new Uint8Array(values.length);
  return (slots, into) => {
    for (let index = 0; index < slots.length; index += 1) {
      const number = numbers[slots[index] ?? 0] ?? 0;
      if (known[number] === 0) known[number] = accepts(values[number] as Searched, NaN) ? 2 : 1;
      into[index] = (known[number] ?? 1) - 1;
    }
  };
}

function communityTest({ communities }: Table, condition: Text): Test {
  const accepts = accepting(condition);
  return (slots, into) => {
    for (let index = 0; index < slots.length; index += 1) {
      const community = communities[slots[index] ?? 0];
      into[index] = community !== undefined && accepts({ community }, NaN) ? 1 : 0;
    }
  };
}

function numberTest(table: Table, condition: Extract<Condition, { is: 'number' }>): Test {
  const { of, from = -Infinity, below = Infinity } = condition;
  const column = columnOf(table, of as Exclude<NumberField, 'severity' | 'status'>);
  return (slots, into) => {
    for (let index = 0; index < slots.length; index += 1) {
      const value = column[slots[index] ?? 0] ?? NaN;
      into[index] = value >= from && value < below ? 1 : 0;
    }
  };
}

function columnOf(table: Table, of: Exclude<NumberField, 'severity' | 'status'>): Float64Array {
  switch (of) {
    case 'time':
      return table.time;
    case 'count':
      return table.count;
    case 'source.port':
      return table.sourcePort;
    case 'destination.port':
      return table.destinationPort;
  }
}
