/**
 * Reads Suricata's EVE log (https://docs.suricata.io/en/suricata-7.0.10/output/eve/eve-json-format.html; checked
 * against 7.0.10).
 *
 * One JSON object a line, `timestamp` first. Objects whose `event_type` is not `alert` are passed over. An alert's
 * `severity` is the rule's priority. Alerts of the packet decoder may have no addresses and no `proto`.
 */
import { isRecord } from '../../files/record.ts';
import type { Alert, Decoder, Flow } from '../alert.ts';
import { factsOf } from './eve-facts.ts';
import { originalGid } from '../suricata/copies.ts';
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

export function createEveDecoder(): Decoder {
  return createJsonLinesDecoder({ marker: MARKER, read });
}

/** No string of an object can hold these bytes, for its quotes are escaped; and no object within another begins so. */
const MARKER = '{"timestamp":';

function read(line: Line, at: number): ObjectAt {
  if (!line.chars.startsWith(MARKER, at)) return { kind: 'broken', reason: 'not the start of an event' };
  // Most often the object is the whole line: then its end needs no search.
  let end = line.bytes.length;
  let value = parse(line.bytes, at, end);
  if (!value) {
    end = objectEnd(line.chars, at);
    value = end < 0 ? undefined : parse(line.bytes, at, end);
  }
  if (!value) return { kind: 'broken', reason: 'not a JSON object' };
  const { event_type: type } = value;
  if (typeof type !== 'string') return { kind: 'invalid', reason: 'event_type is missing', end };
  if (type !== 'alert') return { kind: 'other', end };
  const event = value;
  const alert = orReason(() => toAlert(event));
  return typeof alert === 'string' ? { kind: 'invalid', reason: alert, end } : { kind: 'alert', alert, end };
}

function parse(bytes: Buffer, start: number, end: number): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8', start, end));
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const STRUCTURE = /["{}]/g;

/** The offset behind the brace that closes the one at `start`, or -1. */
function objectEnd(chars: string, start: number): number {
  let depth = 0;
  STRUCTURE.lastIndex = start;
  for (;;) {
    const matched = STRUCTURE.exec(chars);
    if (!matched) return -1;
    if (matched[0] === '{') depth++;
    else if (matched[0] === '}') {
      if (--depth === 0) return matched.index + 1;
    } else {
      const close = stringEnd(chars, matched.index + 1);
      if (close < 0) return -1;
      STRUCTURE.lastIndex = close;
    }
  }
}

function stringEnd(chars: string, from: number): number {
  for (let at = from; ;) {
    const quote = chars.indexOf('"', at);
    if (quote < 0) return -1;
    let escapes = 0;
    while (chars[quote - 1 - escapes] === '\\') escapes++;
    if (escapes % 2 === 0) return quote + 1;
    at = quote + 1;
  }
}

function toAlert(event: Record<string, unknown>): Alert {
  const { alert: rule, tunnel } = event;
  if (!isRecord(rule)) throw new Damaged('alert is not an object');
  const protocol = protocolName(string('proto', event['proto']));
  // A reassembled packet has no number of its own; the fragment that completed it has.
  const number = event['pcap_cnt'] ?? (isRecord(tunnel) ? tunnel['pcap_cnt'] : undefined) ?? 0;
  const packetNumber = integer('pcap_cnt', number, Number.MAX_SAFE_INTEGER);
  const payload = base64('payload', event['payload']);
  const service = text(string('app_proto', event['app_proto']));
  return {
    timeMicros: time(event['timestamp']),
    vlan: outerVlan(event['vlan']),
    gid: originalGid(integer('gid', rule['gid'], MAX_UINT32, 1)),
    sid: integer('signature_id', rule['signature_id'], MAX_UINT32, 1),
    rev: integer('rev', rule['rev'], MAX_UINT32),
    message: text(string('signature', rule['signature'])),
    classification: text(string('category', rule['category'])),
    priority: integer('severity', rule['severity'] ?? 0, MAX_UINT32),
    protocol,
    ...ends({
      protocol,
      sourceIp: event['src_ip'],
      sourcePort: event['src_port'],
      destinationIp: event['dest_ip'],
      destinationPort: event['dest_port'],
    }),
    ...(packetNumber > 0 && { packetNumber }),
    ...(payload && { payload }),
    ...(service !== '' && service !== 'failed' && service !== 'unknown' && { service }),
    ...flow(event['flow']),
    ...factsOf(event),
  };
}

function flow(value: unknown): { flow?: Flow } {
  if (!isRecord(value) || value['start'] === undefined) return {};
  const count = (name: string): number => integer(`flow.${name}`, value[name] ?? 0, Number.MAX_SAFE_INTEGER);
  return {
    flow: {
      startMicros: time(value['start']),
      packetsToServer: count('pkts_toserver'),
      packetsToClient: count('pkts_toclient'),
      bytesToServer: count('bytes_toserver'),
      bytesToClient: count('bytes_toclient'),
    },
  };
}

/** An absent string is an empty one. */
function string(name: string, value: unknown): string {
  if (value === undefined) return '';
  if (typeof value !== 'string') throw new Damaged(`${name} is not a string`);
  return value;
}

/** `vlan` lists a frame's ids, the outer one first. */
function outerVlan(value: unknown): number {
  if (value === undefined) return 0;
  if (!Array.isArray(value)) throw new Damaged('vlan is not a list');
  const ids = value.map((id) => integer('vlan', id, MAX_VLAN));
  return ids[0] ?? 0;
}

const TIMESTAMP = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{6})(?:Z|([+-])(\d\d)(\d\d))$/;

function time(value: unknown): number {
  const parts = typeof value === 'string' ? TIMESTAMP.exec(value) : null;
  if (!parts) throw new Damaged('the timestamp is not a time');
  const [year, month, day, hour, minute, second, fraction] = parts.slice(1, 8).map(Number);
  const offset = (Number(parts[9] ?? 0) * 60 + Number(parts[10] ?? 0)) * (parts[8] === '-' ? -60 : 60);
  const seconds = utcSeconds(year ?? NaN, month ?? NaN, day ?? NaN, hour ?? NaN, minute ?? NaN, second ?? NaN) - offset;
  return micros(integer('timestamp', seconds, MAX_UINT32), fraction ?? NaN);
}
