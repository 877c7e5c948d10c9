/** The fields of the query language, and how their values are read. */
import { isLike } from '../../files/glob.ts';
import { LEVELS, STATES, type Level } from '../api.ts';
import { TACTICS } from '../../events/tactics.ts';
import { LEVEL_FROM } from '../../events/level.ts';
import { ANY_ADDRESS, parseNetwork } from './address.ts';
import {
  fold,
  splitGlob,
  type Condition,
  type Glob,
  type NumberField,
  type Side,
  type TextField,
} from './condition.ts';

/** A value as it was written: its parts between wildcards. */
export type Value = readonly string[];

export interface Field {
  /** For who asks what there is. */
  about: string;
  example: string;
  /** @returns undefined when the value is of another form. */
  equals(value: Value): Condition | undefined;
  /** Where values have an order. Inclusive, exclusive. */
  span?: (value: Value) => Span | undefined;
  number?: readonly NumberField[];
  /** What `equals` and `span` expect. */
  expected: string;
}

export interface Span {
  from: number;
  below: number;
}

const SIDES: readonly Side[] = ['source', 'destination'];
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 86_400_000;
/** Elasticsearch's times with nanoseconds end in 2262. */
const LAST_TIME = 9_000_000_000_000;

/** Texts that a word without a field is looked for in. */
const ANYWHERE: readonly TextField[] = [
  'message',
  'sid',
  'class',
  'tactic',
  'technique',
  'cve',
  'resource',
  'node',
  'source.name',
  'source.namespace',
  'destination.name',
  'destination.namespace',
  'host',
  'url',
  'domain',
  'sni',
];

export const FIELDS: ReadonlyMap<string, Field> = new Map([
  ['message', containing('message', 'the text of the alert', 'message: "jndi lookup"')],
  ['signature', signatureField()],
  ['class', containing('class', 'its class', 'class: trojan')],
  ['severity', severityField()],
  ['tactic', tacticField()],
  ['technique', whole('technique', 'MITRE ATT&CK technique; T1071 is all of its parts, too', 'technique: T1071')],
  ['cve', whole('cve', 'CVE', 'cve: CVE-2021-*')],
  ['ip', addressField('address or network at either end', SIDES)],
  ['source.ip', addressField('address or network at the source', ['source'])],
  ['destination.ip', addressField('address or network at the destination', ['destination'])],
  ['port', numberField('port at either end', 'port: 4444', ['source.port', 'destination.port'])],
  ['source.port', numberField('port of the source', 'source.port >= 1024', ['source.port'])],
  ['destination.port', numberField('port of the destination', 'destination.port < 1024', ['destination.port'])],
  ['pod', podField('pod or Service at either end', SIDES)],
  ['source.pod', podField('pod or Service at the source', ['source'])],
  ['destination.pod', podField('pod or Service at the destination', ['destination'])],
  ['namespace', whole('namespace', "namespace of the alert's resource", 'namespace: (shop or payments)')],
  ['source.namespace', whole('source.namespace', 'namespace of the source', 'source.namespace: ci')],
  [
    'destination.namespace',
    whole('destination.namespace', 'namespace of the destination', 'not destination.namespace: *'),
  ],
  ['resource', whole('resource', 'DeepPacketInspection', 'resource: shop/all-pods')],
  ['node', whole('node', 'node', 'node: worker-*')],
  ['protocol', whole('protocol', 'protocol', 'protocol: UDP')],
  ['service', whole('service', 'service, as the engine names it', 'service: http')],
  ['app', whole('app', "protocol, as the flow's packets have it", 'app: grpc')],
  [
    'outcome',
    whole(
      'outcome',
      'how the request ended: 2xx, 3xx, 4xx, 5xx, answered, reset, refused, no-answer, unknown',
      'outcome: 2xx',
    ),
  ],
  ['host', whole('host', 'host that HTTP asked, without a port', 'host: *.shop.test')],
  ['method', whole('method', 'method of HTTP', 'method: POST')],
  ['url', containing('url', 'URL of HTTP', 'url: /login')],
  ['status', numberField('status of the answer of HTTP', 'status >= 500', ['status'])],
  ['useragent', containing('useragent', 'user agent', 'useragent: curl')],
  ['domain', whole('domain', 'name that DNS was asked for', 'domain: *.evil.test')],
  ['sni', whole('sni', 'server name in TLS or QUIC', 'sni: api.shop.test')],
  ['ja3', whole('ja3', "fingerprint of TLS's client, JA3", 'ja3: 773906b0efdefa24a7f2b8eb6985bf37')],
  ['ja4', whole('ja4', "fingerprint of TLS's client, JA4", 'ja4: t13d1516h2_*')],
  ['hassh', whole('hassh', 'fingerprint of SSH, of either side', 'hassh: ec7378c1a92f5a8dde7e8b7a1ddf33d1')],
  ['community', whole('community', 'Community ID', 'community: "1:LQU9qZlK+B5F3KDmev6m5PMibrg="')],
  ['state', stateField()],
  ['assignee', whole('assignee', 'whose it is', 'assignee: anna')],
  ['count', numberField('alerts that it stands for', 'count > 1', ['count'])],
  ['time', timeField()],
]);

/** A value without a field: an address, a network, an end, a signature, or a text of the alert. */
export function anywhere(value: Value): Condition {
  const text = value.join('*');
  if (text === '*') return { is: 'all' };
  const network = parseNetwork(text);
  if (network !== undefined) return atEither(SIDES, (at) => ({ is: 'address', at, in: network }));
  const end = endOf(text);
  if (end !== undefined) return end;
  const signature = /^\d+:\d+(:\d+)?$/.test(text) ? signatureOf(value) : undefined;
  if (signature !== undefined) return signature;
  const like = ['', ...value.map(fold), ''];
  const named = tacticsNamed(like);
  return anyOf([
    { is: 'text', in: ANYWHERE, like },
    ...(named.length === 0 ? [] : [anyOf(named)]),
    ...(splitGlob(like, '/') === undefined ? [] : [atEither(SIDES, (side) => podLike(side, like))]),
  ]);
}

/** `10.65.0.3:40832`, `[2001:db8::1]:53`: an address with a port. */
function endOf(text: string): Condition | undefined {
  const [, six, four, port] = /^(?:\[([^\]]+)\]|([\d.]+)):(\d{1,5})$/.exec(text) ?? [];
  const network = parseNetwork(six ?? four ?? '');
  if (network === undefined || port === undefined || /[/*]|\.$/.test(six ?? four ?? '')) return undefined;
  const from = Number(port);
  return atEither(SIDES, (at) => ({
    is: 'and',
    of: [
      { is: 'address', at, in: network },
      { is: 'number', of: `${at}.port`, from, below: from + 1 },
    ],
  }));
}

function whole(name: TextField, about: string, example: string): Field {
  return { about, example, expected: 'a text', equals: (value) => ({ is: 'text', in: [name], like: value.map(fold) }) };
}

function containing(name: TextField, about: string, example: string): Field {
  return {
    about: `${about}, or a part of it`,
    example,
    expected: 'a text',
    equals: (value) => ({ is: 'text', in: [name], like: ['', ...value.map(fold), ''] }),
  };
}

function signatureField(): Field {
  return {
    about: 'signature',
    example: 'signature: 1:21562',
    expected: 'a signature such as 21562, or 1:21562 with its generator',
    equals: signatureOf,
  };
}

function signatureOf(value: Value): Condition | undefined {
  const text = value.join('*');
  if (!/^[\d*]+(:[\d*]+){0,2}$/.test(text)) return undefined;
  const numbers = text.split(':');
  const fields: TextField[] = numbers.length === 1 ? ['sid'] : ['gid', 'sid', 'rev'];
  return allOf(
    numbers.flatMap((number, index): Condition[] => {
      const name = fields[index];
      return name === undefined ? [] : [{ is: 'text', in: [name], like: number.split('*') }];
    }),
  );
}

function severityField(): Field {
  const span = (value: Value): Span | undefined => levelSpan(value) ?? integerSpan(value, 100);
  return {
    about: 'severity: its name, or 0 to 100',
    example: 'severity >= high',
    expected: `one of ${LEVELS.join(', ')}, or a number from 0 to 100`,
    number: ['severity'],
    span,
    equals: (value) => spanOf(['severity'], span(value)),
  };
}

function levelSpan(value: Value): Span | undefined {
  const level = LEVELS.find((name) => name === fold(value.join('*')));
  if (level === undefined) return undefined;
  const above: Level | undefined = LEVELS[LEVELS.indexOf(level) - 1];
  return { from: LEVEL_FROM[level], below: above === undefined ? 101 : LEVEL_FROM[above] };
}

function tacticField(): Field {
  return {
    about: 'MITRE ATT&CK tactic, by id or name; none',
    example: 'tactic: "Command and Control"',
    expected: 'a tactic such as TA0011 or "Command and Control", or none',
    equals(value) {
      const like = value.map(fold);
      if (like.length === 1 && like[0] === 'none')
        return { is: 'not', of: { is: 'text', in: ['tactic'], like: ['', ''] } };
      if (like[0]?.startsWith('ta') === true || !like.some((part) => part !== ''))
        return { is: 'text', in: ['tactic'], like };
      const named = tacticsNamed(like);
      return named.length === 0 ? undefined : anyOf(named);
    },
  };
}

function tacticsNamed(like: Glob): Condition[] {
  return Object.entries(TACTICS).flatMap(([id, name]): Condition[] =>
    isLike(like, fold(name)) ? [{ is: 'text', in: ['tactic'], like: [fold(id)] }] : [],
  );
}

function addressField(about: string, sides: readonly Side[]): Field {
  const prefix = sides.length === 1 ? `${sides[0]}.` : '';
  return {
    about,
    example: `${prefix}ip: 10.65.0.0/16`,
    expected: 'an address, or a network such as 10.65.0.0/16',
    equals(value) {
      const text = value.join('*');
      const network = text === '*' ? ANY_ADDRESS : parseNetwork(text);
      return network === undefined ? undefined : atEither(sides, (at) => ({ is: 'address', at, in: network }));
    },
  };
}

function podField(about: string, sides: readonly Side[]): Field {
  const prefix = sides.length === 1 ? `${sides[0]}.` : '';
  return {
    about,
    example: `${prefix}pod: shop/cart-*`,
    expected: "a pod's name, or <namespace>/<name>",
    equals: (value) => atEither(sides, (side) => podLike(side, value.map(fold))),
  };
}

function podLike(side: Side, like: Glob): Condition {
  const [namespace, name] = splitGlob(like, '/') ?? [];
  if (namespace === undefined || name === undefined) return { is: 'text', in: [`${side}.name`], like };
  return allOf([
    { is: 'text', in: [`${side}.namespace`], like: namespace },
    { is: 'text', in: [`${side}.name`], like: name },
  ]);
}

function stateField(): Field {
  return {
    about: 'state; without it, and without a filter by it, dismissed alerts are left out',
    example: 'state: acknowledged',
    expected: `one of ${STATES.join(', ')}`,
    equals(value) {
      const state = STATES.find((name) => name === fold(value.join('*')));
      return state === undefined ? undefined : { is: 'state', state };
    },
  };
}

function numberField(about: string, example: string, number: readonly NumberField[]): Field {
  const most = number.includes('count') ? Number.MAX_SAFE_INTEGER - 1 : 65_535;
  const span = (value: Value): Span | undefined => integerSpan(value, most);
  return {
    about,
    example,
    expected: `a number${most === 65_535 ? ' from 0 to 65535' : ''}`,
    number,
    span,
    equals: (value) => spanOf(number, span(value)),
  };
}

function timeField(): Field {
  return {
    about: 'time of capture; a date is all of its day in UTC',
    example: 'time >= 2026-11-24T12:00:00Z',
    expected: 'a date such as 2026-11-24, or a time such as 2026-11-24T12:00:00Z',
    number: ['time'],
    span: timeSpan,
    equals: (value) => spanOf(['time'], timeSpan(value)),
  };
}

/** A time as exact as it was written: a day, a minute, a second or a millisecond. */
function timeSpan(value: Value): Span | undefined {
  const text = value.join('*');
  const [, hours, seconds, fraction] =
    /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d))?$/i.exec(text) ?? [];
  const from = /^\d{4}-/.test(text) ? Date.parse(text) : NaN;
  if (!(from >= 0 && from <= LAST_TIME)) return undefined;
  if (hours === undefined) return /^\d{4}-\d\d-\d\d$/.test(text) ? { from, below: from + DAY } : undefined;
  return { from, below: from + (seconds === undefined ? MINUTE : fraction === undefined ? SECOND : 1) };
}

function integerSpan(value: Value, most: number): Span | undefined {
  const text = value.join('*');
  const from = Number(text);
  return /^\d{1,16}$/.test(text) && from <= most ? { from, below: from + 1 } : undefined;
}

function spanOf(number: readonly NumberField[], span: Span | undefined): Condition | undefined {
  return span === undefined ? undefined : anyOf(number.map((of) => ({ is: 'number', of, ...span })));
}

export function anyOf(of: readonly Condition[]): Condition {
  const [only] = of;
  return of.length === 1 && only !== undefined ? only : { is: 'or', of };
}

export function allOf(of: readonly Condition[]): Condition {
  const [only] = of;
  return of.length === 1 && only !== undefined ? only : { is: 'and', of };
}

function atEither(sides: readonly Side[], at: (side: Side) => Condition): Condition {
  return anyOf(sides.map(at));
}
