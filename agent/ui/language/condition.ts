/** What a query selects, whatever it is tried on: each leaf is about one alert, and negation is its exact opposite. */
import type { State } from '../api.ts';
import type { Network } from './address.ts';

export type Condition =
  | { is: 'all' }
  | { is: 'and' | 'or'; of: readonly Condition[] }
  | { is: 'not'; of: Condition }
  /** One of the texts is like it. A text that is not there, or empty, is like nothing. */
  | { is: 'text'; in: readonly TextField[]; like: Glob }
  | { is: 'address'; at: Side; in: Network }
  /** From inclusive, below exclusive; at least one of them. */
  | { is: 'number'; of: NumberField; from?: number; below?: number }
  | { is: 'state'; state: State };

export type Side = 'source' | 'destination';

/** What only the packets of an alert's flow say. */
const FLOW_FIELDS = [
  'app',
  'outcome',
  'host',
  'method',
  'url',
  'useragent',
  'domain',
  'sni',
  'ja3',
  'ja4',
  'hassh',
  'community',
] as const;

const TEXT_FIELDS = [
  'message',
  'gid',
  'sid',
  'rev',
  'class',
  'tactic',
  // And the technique that a part belongs to.
  'technique',
  'cve',
  'resource',
  'namespace',
  'protocol',
  'service',
  'node',
  'assignee',
  'source.name',
  'source.namespace',
  'destination.name',
  'destination.namespace',
  ...FLOW_FIELDS,
] as const;
export type TextField = (typeof TEXT_FIELDS)[number];

/** `time` in milliseconds since the epoch; all are whole numbers. */
export type NumberField = 'severity' | 'source.port' | 'destination.port' | 'count' | 'status' | 'time';

/**
 * Literal parts with any characters, also none, between them; a single part is the whole text. ASCII letters are small:
 * A and a are the same here, É and é are not, as in Elasticsearch.
 */
export type Glob = readonly string[];

/** Whether it is the whole text. */
export function isWhole(glob: Glob): boolean {
  return glob.length === 1;
}

/** Small ASCII letters. */
export function fold(text: string): string {
  // eslint-disable-next-line no-control-regex
  return /[^\u0000-\u007F]/.test(text)
    ? text.replaceAll(/[A-Z]+/g, (letters) => letters.toLowerCase())
    : text.toLowerCase();
}

/** What is before the first such character, and what is behind it; undefined: it has none. */
export function splitGlob(glob: Glob, character: string): [Glob, Glob] | undefined {
  const index = glob.findIndex((part) => part.includes(character));
  const part = glob[index];
  if (part === undefined) return undefined;
  const at = part.indexOf(character);
  return [
    [...glob.slice(0, index), part.slice(0, at)],
    [part.slice(at + 1), ...glob.slice(index + 1)],
  ];
}

const OF_THE_FLOW: ReadonlySet<TextField | NumberField> = new Set([...FLOW_FIELDS, 'status']);

/** Whether it asks for what only the packets of an alert's flow say. */
export function asksForFlow(condition: Condition): boolean {
  switch (condition.is) {
    case 'text':
      return condition.in.some((field) => OF_THE_FLOW.has(field));
    case 'number':
      return OF_THE_FLOW.has(condition.of);
    case 'not':
      return asksForFlow(condition.of);
    case 'and':
    case 'or':
      return condition.of.some(asksForFlow);
    default:
      return false;
  }
}

/** Whether it asks for what somebody did with alerts. */
export function asksForMarks(condition: Condition): boolean {
  switch (condition.is) {
    case 'state':
      return true;
    case 'text':
      return condition.in.includes('assignee');
    case 'not':
      return asksForMarks(condition.of);
    case 'and':
    case 'or':
      return condition.of.some(asksForMarks);
    default:
      return false;
  }
}

/** Whether it asks for the state of alerts. */
export function asksForState(condition: Condition): boolean {
  switch (condition.is) {
    case 'state':
      return true;
    case 'not':
      return asksForState(condition.of);
    case 'and':
    case 'or':
      return condition.of.some(asksForState);
    default:
      return false;
  }
}
