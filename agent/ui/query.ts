/** What of the alerts is asked for: read from the parameters of a request, and tried on a row. */
import {
  FACETS,
  LEVELS,
  RANGES,
  STATES,
  type AlertRow,
  type FacetName,
  type Level,
  type Range,
  type State,
} from './api.ts';
import { accepting, type Accept } from './language/accept.ts';
import { asksForState, type Condition } from './language/condition.ts';
import { LanguageError, parseLanguage } from './language/parse.ts';
import { podsOf } from './row.ts';

/** Namespaces whose alerts may be seen. */
export type Scope = 'all' | ReadonlySet<string>;

/** All have to hold; of several values of one, any. Empty: any at all, but of `state` those that are not dismissed. */
export interface AlertQuery {
  /** Milliseconds since the epoch: inclusive, exclusive. */
  from?: number;
  to?: number;
  namespace: readonly string[];
  /** `<namespace>/<name>`, at either end. */
  pod: readonly string[];
  /** `<gid>:<sid>` */
  signature: readonly string[];
  level: readonly Level[];
  /** Empty text: rules that name none. */
  tactic: readonly string[];
  state: readonly State[];
  /** What the query in words selects, and the same to be tried on rows. */
  where: Condition;
  accepts: Accept;
}

export class QueryError extends Error {
  /** In the query in words; UTF-16 units, from 0. */
  readonly position: number | undefined;
  constructor(message: string, position?: number) {
    super(message);
    this.position = position;
  }
}

const MAX_VALUES = 50;
const RANGE_MILLIS: Record<Exclude<Range, 'all'>, number> = {
  '15m': 15 * 60_000,
  '1h': 3_600_000,
  '6h': 6 * 3_600_000,
  '24h': 86_400_000,
  '7d': 7 * 86_400_000,
  '30d': 30 * 86_400_000,
};

const FORMS: Record<FacetName, { form: RegExp; example: string }> = {
  namespace: { form: /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/, example: 'the name of a namespace' },
  pod: { form: /^[a-z0-9][-a-z0-9]{0,62}\/[-a-z0-9.]{1,253}$/, example: '<namespace>/<pod>' },
  signature: { form: /^\d{1,10}:\d{1,10}$/, example: '<gid>:<sid>' },
  level: { form: new RegExp(`^(${LEVELS.join('|')})$`), example: `one of ${LEVELS.join(', ')}` },
  tactic: { form: /^(TA\d{4}|none)$/, example: 'a MITRE ATT&CK tactic such as TA0011, or none' },
  state: { form: new RegExp(`^(${STATES.join('|')})$`), example: `one of ${STATES.join(', ')}` },
};

/** @param parameters By name; repeated ones as lists. @throws QueryError that names the parameter. */
export function parseQuery(parameters: Readonly<Record<string, unknown>>, now: number): AlertQuery {
  const values = Object.fromEntries(FACETS.map((name) => [name, valuesOf(name, parameters[name])])) as Record<
    FacetName,
    string[]
  >;
  const where = whereOf(single('q', parameters['q']) ?? '');
  const states = STATES.filter((state) => values.state.includes(state));
  return {
    ...times(parameters, now),
    namespace: values.namespace,
    pod: values.pod,
    signature: values.signature,
    level: LEVELS.filter((level) => values.level.includes(level)),
    tactic: values.tactic.map((tactic) => (tactic === 'none' ? '' : tactic)),
    // Who asks for dismissed ones in words means them.
    state: states.length === 0 && asksForState(where) ? STATES : states,
    where,
    accepts: accepting(where),
  };
}

/** Of those alerts, the ones of which this holds, too. */
export function narrowedBy(query: AlertQuery, condition: Condition): AlertQuery {
  const where: Condition = query.where.is === 'all' ? condition : { is: 'and', of: [query.where, condition] };
  return { ...query, where, accepts: accepting(where) };
}

function whereOf(q: string): Condition {
  try {
    return parseLanguage(q);
  } catch (error) {
    if (error instanceof LanguageError) throw new QueryError(`q: ${error.message}`, error.position);
    throw error;
  }
}

function valuesOf(name: FacetName, values: unknown): string[] {
  const list = values === undefined ? [] : Array.isArray(values) ? values : [values];
  if (list.length > MAX_VALUES) throw new QueryError(`${name}: at most ${MAX_VALUES} values`);
  const { form, example } = FORMS[name];
  return list.map((value) => {
    if (typeof value !== 'string' || !form.test(value)) throw new QueryError(`${name}: expected ${example}`);
    return value;
  });
}

function times(parameters: Readonly<Record<string, unknown>>, now: number): Pick<AlertQuery, 'from' | 'to'> {
  const from = parseTime('from', parameters['from']);
  const to = parseTime('to', parameters['to']);
  if (from !== undefined || to !== undefined) {
    if (from !== undefined && to !== undefined && from >= to) throw new QueryError('to: expected a time after from');
    return { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) };
  }
  const range = single('range', parameters['range']) ?? '24h';
  if (!isRange(range)) throw new QueryError(`range: expected one of ${RANGES.join(', ')}`);
  return range === 'all' ? {} : { from: now - RANGE_MILLIS[range] };
}

function isRange(text: string): text is Range {
  return (RANGES as readonly string[]).includes(text);
}

/** @returns Milliseconds since the epoch. @throws QueryError */
export function parseTime(name: string, value: unknown): number | undefined {
  const text = single(name, value);
  if (text === undefined) return undefined;
  const millis = Date.parse(text);
  // Elasticsearch's times with nanoseconds end in 2262.
  if (Number.isNaN(millis) || millis < 0 || millis > 9_000_000_000_000)
    throw new QueryError(`${name}: expected a time such as 2026-01-31T12:00:00Z`);
  return millis;
}

export function single(name: string, value: unknown): string | undefined {
  if (value === undefined || value === '') return undefined;
  if (typeof value !== 'string') throw new QueryError(`${name}: expected one value`);
  return value;
}

export function inScope(scope: Scope, namespace: string): boolean {
  return scope === 'all' || scope.has(namespace);
}

/**
 * The facets whose filters a row does not pass: none when it is selected. Undefined when time or words leave it out
 * anyway.
 * @param time The row's, in milliseconds since the epoch.
 */
export function failing(
  query: AlertQuery,
  row: AlertRow,
  time: number = Date.parse(row.timestamp),
): FacetName[] | undefined {
  const { from = -Infinity, to = Infinity } = query;
  if (!(time >= from && time < to)) return undefined;
  const failed: FacetName[] = [];
  if (query.state.length === 0 ? row.state === 'dismissed' : !query.state.includes(row.state)) failed.push('state');
  if (query.level.length > 0 && !query.level.includes(row.level)) failed.push('level');
  if (query.namespace.length > 0 && !query.namespace.includes(row.namespace)) failed.push('namespace');
  if (query.signature.length > 0 && !query.signature.includes(`${row.gid}:${row.sid}`)) failed.push('signature');
  if (query.tactic.length > 0 && !query.tactic.includes(row.tactic ?? '')) failed.push('tactic');
  if (query.pod.length > 0 && !podsOf(row).some((pod) => query.pod.includes(pod))) failed.push('pod');
  return query.accepts(row, time) ? failed : undefined;
}

export function matches(query: AlertQuery, row: AlertRow, time?: number): boolean {
  return failing(query, row, time)?.length === 0;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [1, 2, 5, 10, 15, 30]
  .map((seconds) => seconds * SECOND)
  .concat([1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE))
  .concat([1, 2, 3, 6, 12].map((hours) => hours * HOUR))
  .concat([1, 2, 7, 14, 30, 90, 365].map((days) => days * DAY));
const MAX_BARS = 96;

/** The histogram's bars for a time: at most 97, each of a length that reads well. */
export function barsOf(from: number, to: number): { interval: number; from: number; to: number } {
  const span = Math.max(1, to - from);
  const interval = STEPS.find((step) => span / step <= MAX_BARS) ?? Math.ceil(span / MAX_BARS / DAY) * DAY;
  return { interval, from: Math.floor(from / interval) * interval, to: Math.ceil(to / interval) * interval };
}
