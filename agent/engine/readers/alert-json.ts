/**
 * Reads Snort 3's `alert_json` (snort3, src/loggers/alert_json.cc and src/log/text_log.cc; checked against 3.12.2).
 *
 * One object a line, `{ "label" : value, … }`, flat, its fields in the configured order; a field without a value is
 * left out. It is not quite JSON:
 * - In strings only `"` and `\` are escaped, by `\`; other bytes stand as they are, be they control characters or no
 *   UTF-8.
 * - `msg` is the rule's text after the rule parser has taken its escapes out, and is not escaped again: `msg:"say
 *   \"hi\"\n"` comes as `"say "hi"`, a line end and `"`. So `msg` ends where a quote and the next label, or the
 *   object's end, stand; and an object may extend over lines.
 *
 * Times are UTC (Snort's `-U`). Whole seconds are taken from `seconds` where present, the fraction from `timestamp`.
 * From 2038 on, Snort has the 32 bits of a pcap's seconds for a signed number, and writes negative ones.
 * `pkt_gen` is `raw` for a packet, else what put together (`stream_tcp`, `http`, …).
 * Fields that `Alert` has no place for (`tcp_seq`, `dir`, `icmp_type`, …) are passed over.
 */
import type { Alert, Decoder, Flow } from '../alert.ts';
import { type ObjectAt, type Line, createJsonLinesDecoder } from './json-lines.ts';
import {
  Damaged,
  MAX_UINT32,
  MAX_VLAN,
  base64,
  ends,
  integer,
  micros,
  orReason,
  protocolName,
  text,
  utcSeconds,
} from './values.ts';

export function createAlertJsonDecoder(): Decoder {
  return createJsonLinesDecoder({ marker: '{ "', read });
}

/** Values as written: digits of a number, or the bytes of a string as ISO 8859-1. */
type Fields = Map<string, string>;

type Parsed =
  | { kind: 'object'; fields: Fields; end: number }
  | { kind: 'broken'; reason: string }
  | { kind: 'open'; reason: string };

/** When its first field has no value, Snort still puts the comma before the second. */
const FIRST_LABEL = /\s*,?\s*"([a-z0-9_]+)" : /y;
const LABEL = /\s*,\s*"([a-z0-9_]+)" : /y;
const NUMBER = /-?\d+/y;
const OBJECT_END = /\s*\}/y;
/** What stands behind `msg`: the next label, or the end of the object and of what was read. */
const MESSAGE_END = /", "[a-z0-9_]+" : |" \}\s*$/g;

function read(line: Line, at: number): ObjectAt {
  const parsed = parse(line.chars, at);
  if (parsed.kind !== 'object') return parsed;
  const alert = orReason(() => toAlert(parsed.fields));
  return typeof alert === 'string'
    ? { kind: 'invalid', reason: alert, end: parsed.end }
    : { kind: 'alert', alert, end: parsed.end };
}

function parse(chars: string, start: number): Parsed {
  const fields: Fields = new Map();
  let at = start + 1;
  for (;;) {
    const objectEnd = match(OBJECT_END, chars, at);
    if (objectEnd) return { kind: 'object', fields, end: at + objectEnd[0].length };
    const matched = match(fields.size === 0 ? FIRST_LABEL : LABEL, chars, at);
    const label = matched?.[1];
    if (!matched || label === undefined) return { kind: 'broken', reason: 'broken off or damaged between two fields' };
    if (fields.has(label)) return { kind: 'broken', reason: `${label} stands twice in one object` };
    at += matched[0].length;
    if (label === 'msg') {
      const end = messageEnd(chars, start, at);
      if (typeof end !== 'number') return end;
      fields.set(label, chars.slice(at + 1, end));
      at = end + 1;
      continue;
    }
    const value = chars[at] === '"' ? stringAt(chars, at) : numberAt(chars, at);
    if (!value) return { kind: 'broken', reason: `${label} is broken off or damaged` };
    fields.set(label, value.value);
    at = value.end;
  }
}

/** Where the quote that closes `msg` stands. */
function messageEnd(chars: string, objectStart: number, at: number): number | Parsed {
  if (chars[at] !== '"') return { kind: 'broken', reason: 'msg is broken off or damaged' };
  MESSAGE_END.lastIndex = at + 1;
  // `"msg" : ""` has its closing quote at once; the expression finds it as any other.
  const end = MESSAGE_END.exec(chars)?.index ?? -1;
  // The first label of this object, met again within the text: the line is torn, and the next object follows at once.
  const label = match(FIRST_LABEL, chars, objectStart + 1);
  const next = label ? chars.indexOf(chars.slice(objectStart, objectStart + 1 + label[0].length), at) : -1;
  if (next >= 0 && (end < 0 || next < end)) return { kind: 'broken', reason: 'msg is broken off' };
  return end < 0 ? { kind: 'open', reason: 'msg is broken off' } : end;
}

function stringAt(chars: string, at: number): { value: string; end: number } | undefined {
  let from = at + 1;
  for (;;) {
    const quote = chars.indexOf('"', from);
    if (quote < 0) return undefined;
    let escapes = 0;
    while (chars[quote - 1 - escapes] === '\\') escapes++;
    from = quote + 1;
    if (escapes % 2 === 1) continue;
    const raw = chars.slice(at + 1, quote);
    return { value: raw.includes('\\') ? raw.replace(/\\(["\\])/g, '$1') : raw, end: from };
  }
}

function numberAt(chars: string, at: number): { value: string; end: number } | undefined {
  const matched = match(NUMBER, chars, at);
  return matched ? { value: matched[0], end: at + matched[0].length } : undefined;
}

/** `expression` is sticky. */
function match(expression: RegExp, chars: string, at: number): RegExpExecArray | null {
  expression.lastIndex = at;
  return expression.exec(chars);
}

/** UTF-8 of a string whose characters are bytes; bytes that are no UTF-8 become U+FFFD. */
function utf8(chars: string): string {
  return text(Buffer.from(chars.slice(0, 4096), 'latin1').toString('utf8'));
}

function toAlert(fields: Fields): Alert {
  const optional = (name: string, max: number): number => integer(name, fields.get(name) ?? 0, max);
  const protocol = protocolName(utf8(fields.get('proto') ?? ''));
  const classification = utf8(fields.get('class') ?? '');
  const service = utf8(fields.get('service') ?? '');
  const packetNumber = optional('pkt_num', Number.MAX_SAFE_INTEGER);
  const generator = fields.get('pkt_gen');
  const payload = base64('b64_data', fields.get('b64_data'));
  return {
    timeMicros: time(fields.get('timestamp'), fields.get('seconds')),
    vlan: optional('vlan', MAX_VLAN),
    gid: integer('gid', fields.get('gid'), MAX_UINT32, 1),
    sid: integer('sid', fields.get('sid'), MAX_UINT32, 1),
    rev: integer('rev', fields.get('rev'), MAX_UINT32),
    message: utf8(fields.get('msg') ?? ''),
    classification: classification === 'none' ? '' : classification,
    priority: optional('priority', MAX_UINT32),
    protocol,
    ...ends({
      protocol,
      sourceIp: fields.get('src_addr'),
      sourcePort: fields.get('src_port'),
      destinationIp: fields.get('dst_addr'),
      destinationPort: fields.get('dst_port'),
    }),
    ...(packetNumber > 0 && { packetNumber }),
    ...(generator !== undefined && { rebuilt: generator !== 'raw' }),
    ...(payload && { payload }),
    ...(service !== '' && service !== 'unknown' && { service }),
    ...flow(fields),
  };
}

/** The client is who began the flow. A packet that belongs to none has none of these fields. */
function flow(fields: Fields): { flow?: Flow } {
  if (!fields.has('flowstart_time')) return {};
  const count = (name: string): number => integer(name, fields.get(name) ?? 0, Number.MAX_SAFE_INTEGER);
  return {
    flow: {
      startMicros: micros(seconds('flowstart_time', fields.get('flowstart_time')), 0),
      isWholeSecond: true,
      packetsToServer: count('client_pkts'),
      packetsToClient: count('server_pkts'),
      bytesToServer: count('client_bytes'),
      bytesToClient: count('server_bytes'),
    },
  };
}

/** Seconds of 32 bits. */
function seconds(name: string, value: string | undefined): number {
  if (value === undefined || !/^-\d{1,10}$/.test(value)) return integer(name, value, MAX_UINT32);
  return integer(name, MAX_UINT32 + 1 + Number(value), MAX_UINT32, 2 ** 31);
}

/** The parts of a negative time have signs too. */
const TIMESTAMP = /^(?:(-?\d\d)\/)?(-?\d{1,2})\/(-?\d{1,2})-(-?\d{1,2}):(-?\d{1,2}):(-?\d{1,2})\.(\d{6})$/;

/** `timestamp` is `yy/mm/dd-hh:mm:ss.uuuuuu`, without `yy/` when Snort runs without `-y`. */
function time(timestamp: string | undefined, whole: string | undefined): number {
  const parts = timestamp === undefined ? undefined : TIMESTAMP.exec(timestamp);
  if (parts === null) throw new Damaged('the timestamp is not a time');
  const fraction = parts ? Number(parts[7]) : 0;
  if (whole !== undefined) return micros(seconds('seconds', whole), fraction);
  if (parts?.[1] === undefined) throw new Damaged('there is no time with a year');
  const [year, month, day, hour, minute, second] = parts.slice(1, 7).map(Number);
  return micros(
    utcSeconds(2000 + (year ?? NaN), month ?? NaN, day ?? NaN, hour ?? NaN, minute ?? NaN, second ?? NaN),
    fraction,
  );
}
