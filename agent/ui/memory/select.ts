/**
 * What of a table a query selects. Each part is looked at once, when it is first met; an alert is then a few numbers.
 */
import { FACETS, type FacetName } from '../api.ts';
import { addressTest, hasText, textTest, type Searched } from '../language/accept.ts';
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

export interface Selection {
  /** In the order of time: inclusive, exclusive. */
  readonly from: number;
  readonly to: number;
  /** The filters that leave a slot out; 0: none. */
  readonly failing: (slot: number) => number;
  /** Whether the words of the query are true of it. */
  readonly says: (slot: number) => boolean;
}

type Test = (slot: number) => boolean;

export function select(table: Table, query: AlertQuery, scope: Scope): Selection {
  const { numbers } = table;
  const [rule, place, mark, pod] = [
    ruleBits(table, query),
    placeBits(table, query, scope),
    markBits(table, query),
    podBits(table, query),
  ];
  const { rule: rules, place: places, mark: marks } = numbers;
  return {
    from: query.from === undefined ? 0 : firstFrom(table, query.from),
    to: query.to === undefined ? table.size : firstFrom(table, query.to),
    failing: (slot) =>
      (rule[rules[slot] ?? 0] ?? 0) | (place[places[slot] ?? 0] ?? 0) | (mark[marks[slot] ?? 0] ?? 0) | pod(slot),
    says: testOf(table, query.where),
  };
}

/** Slots that all filters select, the newest first. */
export function* newestFirst(table: Table, query: AlertQuery, scope: Scope): Generator<number> {
  const { from, to, failing, says } = select(table, query, scope);
  for (let index = to - 1; index >= from; index -= 1) {
    const slot = table.order[index] ?? 0;
    if (failing(slot) === 0 && says(slot)) yield slot;
  }
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

function podBits({ parts, numbers }: Table, { pod: wanted }: AlertQuery): (slot: number) => number {
  if (wanted.length === 0) return () => 0;
  const sources = Uint8Array.from(parts.source.values, ({ source }) => Number(wanted.includes(podOf(source) ?? '')));
  const destinations = Uint8Array.from(parts.destination.values, ({ destination }) =>
    Number(wanted.includes(podOf(destination) ?? '')),
  );
  return (slot) =>
    bitUnless('pod', sources[numbers.source[slot] ?? 0] === 1 || destinations[numbers.destination[slot] ?? 0] === 1);
}

function bitUnless(name: FacetName, passes: boolean): number {
  return passes ? 0 : FACET_BITS[name];
}

/** Tries a condition on slots. */
export function testOf(table: Table, condition: Condition): Test {
  switch (condition.is) {
    case 'all':
      return () => true;
    case 'and':
      return untilOne(
        condition.of.map((of) => testOf(table, of)),
        false,
      );
    case 'or':
      return untilOne(
        condition.of.map((of) => testOf(table, of)),
        true,
      );
    case 'not': {
      const test = testOf(table, condition.of);
      return (slot) => !test(slot);
    }
    case 'text':
      return textOf(table, condition);
    case 'address': {
      const { at } = condition;
      const test = addressTest(condition);
      return partTest(table, at, (part) => test(part[at]?.ip ?? ''));
    }
    case 'number':
      return numberTest(table, condition);
    case 'state':
      return partTest(table, 'mark', ({ state }) => state === condition.state);
  }
}

/** Whether one of them says so; if none does, the opposite. A loop: a function for each slot would be garbage. */
function untilOne(tests: readonly Test[], answer: boolean): Test {
  return (slot) => {
    for (const test of tests) if (test(slot) === answer) return answer;
    return !answer;
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

function textOf(table: Table, condition: Extract<Condition, { is: 'text' }>): Test {
  const test = textTest(condition);
  const byPart = new Map<PartName | 'community', TextField[]>();
  for (const field of condition.in) {
    const part = field === 'community' ? field : PART_OF[field];
    byPart.set(part, [...(byPart.get(part) ?? []), field]);
  }
  const tests = [...byPart].map(([name, fields]): Test =>
    name === 'community'
      ? (slot) => test(table.communities[slot] ?? '')
      : partTest(table, name, (part) => fields.some((field) => hasText(part, field, test))),
  );
  const [only] = tests;
  return tests.length === 1 && only !== undefined ? only : untilOne(tests, true);
}

/** Looks at a part when it is first met. */
function partTest(table: Table, name: PartName, test: (part: Searched) => boolean): Test {
  const { values } = table.parts[name];
  const numbers = table.numbers[name];
  /** 0: not looked at; 1: no; 2: yes. */
  const known = new Uint8Array(values.length);
  return (slot) => {
    const number = numbers[slot] ?? 0;
    if (known[number] === 0) known[number] = test(values[number] as Searched) ? 2 : 1;
    return known[number] === 2;
  };
}

function numberTest(table: Table, condition: Extract<Condition, { is: 'number' }>): Test {
  const { of, from = -Infinity, below = Infinity } = condition;
  const inside = (value = NaN): boolean => value >= from && value < below;
  if (of === 'severity') return partTest(table, 'rule', ({ severity }) => inside(severity));
  if (of === 'status') return partTest(table, 'flow', ({ app }) => inside(app?.status));
  const column = columnOf(table, of);
  return (slot) => inside(column[slot]);
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
