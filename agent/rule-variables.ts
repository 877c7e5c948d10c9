/**
 * The variables that rules name (`$HOME_NET`): what they may be set to, what they are unless they are set, and what of
 * addresses or ports an expression leaves.
 *
 * An expression, as both engines read it: `any`, `10.0.0.0/8`, `80`, `1024:`, `$OTHER`, `[a,b,!c]`, and `!` before any
 * of them. A list is what its items have together, or all where none is without `!`, without those with `!`.
 *
 * Pure, and bounded by the length of what is given: `MAX_LENGTH` for a value, `MAX_DEPTH` for what stands in another.
 */
import { isIP } from 'node:net';

export type VariableKind = 'addresses' | 'ports';

/** What names stand for, each an expression. */
export type VariableValues = Readonly<Record<string, string>>;

export interface Variables {
  addresses: VariableValues;
  ports: VariableValues;
}

export const VARIABLE_NAME = /^[A-Za-z_]\w{0,63}$/;
const MAX_LENGTH = 65_536;
const MAX_DEPTH = 16;

/** The ports that Snort's own configuration takes for HTTP. */
export const SNORT_HTTP_PORTS =
  '[80,81,311,383,591,593,901,1220,1414,1741,1830,2301,2381,2809,3037,3128,3702,4343,4848,5250,6988,7000,7001,7144,7145,' +
  '7510,7777,7779,8000,8008,8014,8028,8080,8085,8088,8090,8118,8123,8180,8181,8243,8280,8300,8800,8888,8899,9000,9060,' +
  '9080,9090,9091,9443,9999,11371,34443,34444,41080,50002,55555]';

/**
 * Those of Suricata's own configuration file and of Snort's, unless somebody sets them. `HTTP_PORTS` is any, because
 * Suricata finds HTTP by itself.
 */
export const DEFAULT_VARIABLES: Variables = {
  addresses: {
    HOME_NET: 'any',
    EXTERNAL_NET: 'any',
    ...Object.fromEntries(
      [
        ...['HTTP', 'SMTP', 'SQL', 'DNS', 'TELNET', 'AIM', 'DC', 'SSH', 'FTP', 'SIP'].map((name) => `${name}_SERVERS`),
        ...['DNP3', 'MODBUS', 'ENIP'].flatMap((name) => [`${name}_SERVER`, `${name}_CLIENT`]),
      ].map((name) => [name, '$HOME_NET']),
    ),
  },
  ports: {
    HTTP_PORTS: 'any',
    SHELLCODE_PORTS: '!80',
    ORACLE_PORTS: '1024:',
    SSH_PORTS: '22',
    FTP_PORTS: '[21,2100,3535]',
    SIP_PORTS: '[5060,5061,5600]',
    MAIL_PORTS: '[110,143]',
    DNP3_PORTS: '20000',
    MODBUS_PORTS: '502',
    GENEVE_PORTS: '6081',
    VXLAN_PORTS: '4789',
    TEREDO_PORTS: '3544',
    FILE_DATA_PORTS: '[$HTTP_PORTS,110,143]',
  },
};

/** A value: the networks of the pods and Services of this cluster, which `withNetworks` puts in its place. */
const PODS = 'pods';
/** What stands for them where only the form of values matters. */
const SOME_NETWORK = '10.0.0.0/8';

export function asksForPods(values: VariableValues): boolean {
  return Object.values(values).includes(PODS);
}

/** @param networks Of pods and Services; none: they are not known, and any is taken. */
export function withNetworks(values: VariableValues, networks: readonly string[]): VariableValues {
  const list = networks.length === 0 ? 'any' : listOf(networks);
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value === PODS ? list : value]));
}

/** Both kinds, of names that are set over others. */
export function withValues(variables: Variables, values: VariableValues): Variables {
  const all = { ...variables.addresses, ...variables.ports, ...values };
  const result = { addresses: { ...variables.addresses }, ports: { ...variables.ports } };
  for (const [name, value] of Object.entries(values)) result[kindOf(name, all)][name] = value;
  return result;
}

/** Ports by the name, or where that does not say by what it stands for. */
export function kindOf(name: string, values: VariableValues, depth = 0): VariableKind {
  if (/PORTS?$/i.test(name)) return 'ports';
  const leaves = (Object.hasOwn(values, name) ? (values[name] ?? '') : '').split(/[![\],\s]+/).filter(Boolean);
  const own = leaves.filter((leaf) => leaf !== 'any' && !leaf.startsWith('$'));
  if (own.length > 0) return own.every((leaf) => rangeOf(leaf, 'ports') !== undefined) ? 'ports' : 'addresses';
  const other = leaves.find((leaf) => leaf.startsWith('$'));
  return other === undefined || depth >= MAX_DEPTH ? 'addresses' : kindOf(other.slice(1), values, depth + 1);
}

/** A value as it may be written, as an expression: a list, a number, items with commas or blanks between them. */
export function asExpression(value: unknown): string | undefined {
  if (Array.isArray(value)) return listOf(value.map((item) => asExpression(item) ?? '?'));
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'string' || value.length > MAX_LENGTH) return undefined;
  const text = value.trim().replaceAll(/\s*([,[\]!])\s*/g, '$1');
  return text.startsWith('[') || text.startsWith('![') ? text.replaceAll(/\s+/g, ',') : listOf(text.split(/[,\s]+/));
}

function listOf(items: readonly string[]): string {
  const [only = ''] = items;
  return items.length === 1 ? only : `[${items.join(',')}]`;
}

const EXPECTED = {
  addresses:
    'expected any, pods, or addresses and networks such as 10.0.0.0/8, 2001:db8::/32, $OTHER, ! before what is not',
  ports: 'expected any, or ports such as 80, 8000:8100, 1024:, $OTHER, ! before what is not',
} as const;

/** What is wrong with values that are to be set, by the name; each expression as `asExpression` gives it. */
export function problemsOf(values: VariableValues): Map<string, string> {
  const problems = new Map<string, string>();
  const variables = withValues(DEFAULT_VARIABLES, withNetworks(values, [SOME_NETWORK]));
  for (const [name, value] of Object.entries(values)) {
    const kind = kindOf(name, { ...variables.addresses, ...variables.ports });
    const left = leftOf(value === PODS ? SOME_NETWORK : value, kind, variables);
    if (left.is === 'undefined')
      problems.set(name, `$${left.name} is not defined among ${kind}: set it too, or ${EXPECTED[kind]}`);
    else if (left.is === 'unreadable') problems.set(name, EXPECTED[kind]);
    else if (left.is === 'nothing') {
      const why = describeNames(value, variables[kind]);
      problems.set(
        name,
        `leaves no ${kind}${why === '' ? '' : `, as ${why}`}: expected something that is not all negated`,
      );
    }
  }
  return problems;
}

/** "HOME_NET is any", for each variable that an expression names. */
export function describeNames(expression: string, values: VariableValues): string {
  const names = [...new Set([...expression.matchAll(/\$(\w+)/g)].map(([, name = '']) => name))];
  return names.map((name) => `${name} is ${short(expand(`$${name}`, values))}`).join(' and ');
}

const short = (text: string): string => (text.length > 100 ? `${text.slice(0, 100)}…` : text);

/** An expression without variables; those that are not known, or stand for themselves, stay. */
export function expand(expression: string, values: VariableValues, depth = 0): string {
  if (depth >= MAX_DEPTH) return expression;
  const expanded = expression.replaceAll(/\$(\w+)/g, (whole, name: string) =>
    Object.hasOwn(values, name) ? expand(values[name] ?? '', values, depth + 1) : whole,
  );
  return expanded.length > MAX_LENGTH ? expression : expanded;
}

export type Left = { is: 'something' | 'nothing' | 'unreadable' } | { is: 'undefined'; name: string };

/** Whether an expression leaves anything at all. */
export function leftOf(expression: string, kind: VariableKind, variables: Variables): Left {
  try {
    const ranges = read({ text: expression, kind, values: variables[kind], depth: 0 });
    return { is: ranges.length > 0 ? 'something' : 'nothing' };
  } catch (error) {
    if (error instanceof UndefinedVariable) return { is: 'undefined', name: error.message };
    if (error instanceof Unreadable) return { is: 'unreadable' };
    throw error;
  }
}

class Unreadable extends Error {}
class UndefinedVariable extends Error {}

/** From, to; both are in it. IPv6 comes behind IPv4 on one line, so that one arithmetic does for all. */
type Range = readonly [from: bigint, to: bigint];

const IPV4 = 1n << 32n;
const ALL: Record<VariableKind, Range> = { addresses: [0n, IPV4 + (1n << 128n) - 1n], ports: [0n, 65_535n] };

interface Reading {
  text: string;
  kind: VariableKind;
  values: VariableValues;
  depth: number;
}

/** In order, and apart from each other. */
function read(reading: Reading): Range[] {
  const { text, kind, values, depth } = reading;
  if (depth > MAX_DEPTH || text.length > MAX_LENGTH) throw new Unreadable(text.slice(0, 80));
  const within = (inner: string): Range[] => read({ ...reading, text: inner, depth: depth + 1 });
  if (text.startsWith('!')) return without([ALL[kind]], within(text.slice(1)));
  if (text.startsWith('[') && text.endsWith(']')) return readList(itemsOf(text), kind, within);
  if (text === 'any') return [ALL[kind]];
  if (text.startsWith('$')) {
    const name = text.slice(1);
    if (!Object.hasOwn(values, name)) throw new UndefinedVariable(name);
    return within(values[name] ?? '');
  }
  const range = rangeOf(text, kind);
  if (range === undefined) throw new Unreadable(text.slice(0, 80));
  return [range];
}

function readList(items: readonly string[], kind: VariableKind, within: (item: string) => Range[]): Range[] {
  const positive = items.filter((item) => !item.startsWith('!'));
  const negative = items.filter((item) => item.startsWith('!'));
  const base = positive.length === 0 ? [ALL[kind]] : merged(positive.flatMap(within));
  return without(base, merged(negative.flatMap((item) => within(item.slice(1)))));
}

/** Items of a list in brackets; commas of lists within it are theirs. */
function itemsOf(text: string): string[] {
  const items: string[] = [];
  let depth = 0;
  let start = 1;
  for (let at = 1; at < text.length; at++) {
    const character = text.charAt(at);
    const isEnd = at === text.length - 1;
    if (depth === 0 && (character === ',' || isEnd)) {
      items.push(text.slice(start, at).trim());
      start = at + 1;
    } else if (character === '[') depth++;
    else if (character === ']') depth--;
    if (depth < 0 || (isEnd && depth > 0)) throw new Unreadable(text.slice(0, 80));
  }
  return items;
}

function merged(ranges: readonly Range[]): Range[] {
  const result: [bigint, bigint][] = [];
  for (const [from, to] of ranges.toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const last = result.at(-1);
    if (last === undefined || from > last[1] + 1n) result.push([from, to]);
    else if (to > last[1]) last[1] = to;
  }
  return result;
}

/** @param ranges, others In order. */
function without(ranges: readonly Range[], others: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const [from, to] of ranges) {
    let start = from;
    for (const [otherFrom, otherTo] of others) {
      if (otherTo < start) continue;
      if (otherFrom > to) break;
      if (otherFrom > start) result.push([start, otherFrom - 1n]);
      start = otherTo + 1n;
    }
    if (start <= to) result.push([start, to]);
  }
  return result;
}

/** Of one address, network, span of addresses, port or span of ports; undefined for what is none. */
function rangeOf(text: string, kind: VariableKind): Range | undefined {
  return kind === 'ports' ? portRange(text) : addressRange(text);
}

function portRange(text: string): Range | undefined {
  const [, first, colon, last] = /^(\d{0,5})(:?)(\d{0,5})$/.exec(text) ?? [];
  if (first === undefined || (first === '' && (last ?? '') === '')) return undefined;
  const from = BigInt(first === '' ? 0 : first);
  const to = colon === '' ? from : BigInt(last === undefined || last === '' ? 65_535 : last);
  return from <= to && to <= 65_535n ? [from, to] : undefined;
}

function addressRange(text: string): Range | undefined {
  const [, first = '', last] = /^([^/-]+)-([^/-]+)$/.exec(text) ?? [];
  if (last !== undefined) {
    const [from, to] = [addressNumber(first), addressNumber(last)];
    return from !== undefined && to !== undefined && from <= to ? [from, to] : undefined;
  }
  const [address = '', bits, ...rest] = text.split('/');
  const number = addressNumber(address);
  const width = isIP(address) === 4 ? 32 : 128;
  if (number === undefined || rest.length > 0) return undefined;
  if (bits === undefined) return [number, number];
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > width) return undefined;
  const size = 1n << BigInt(width - Number(bits));
  const base = width === 32 ? 0n : IPV4;
  const start = base + ((number - base) / size) * size;
  return [start, start + size - 1n];
}

/** On the line of all addresses. */
function addressNumber(text: string): bigint | undefined {
  const version = isIP(text);
  if (version === 4) return bytesNumber(text);
  if (version !== 6 || text.includes('%')) return undefined;
  const [, head = '', tail] = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(text) ?? [];
  const plain = tail === undefined ? text : `${head}${hexPair(bytesNumber(tail))}`;
  const [before = '', after] = plain.split('::');
  const [left, right] = [before, after ?? ''].map((part) => part.split(':').filter(Boolean));
  const zeros = after === undefined ? 0 : 8 - (left?.length ?? 0) - (right?.length ?? 0);
  const groups = [...(left ?? []), ...Array.from({ length: zeros }, () => '0'), ...(right ?? [])];
  return IPV4 + groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

function bytesNumber(text: string): bigint {
  return text.split('.').reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

function hexPair(number: bigint): string {
  return `${(number >> 16n).toString(16)}:${(number & 0xffffn).toString(16)}`;
}
