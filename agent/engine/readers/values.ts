/**
 * The checks that every alert format shares. An engine parses hostile bytes, so nothing it writes is believed: a value
 * out of its range makes a `Damaged` error, which the format's reader turns into a damage item; it never leaves this
 * folder.
 */
import { SocketAddress, isIPv4, isIPv6 } from 'node:net';
import { UNPRINTABLE } from '../../text.ts';
import type { Address } from '../alert.ts';

/** Longest string that an alert carries, in UTF-16 code units. */
export const MAX_TEXT = 1024;
/** Longest payload that an alert carries, in bytes. */
export const MAX_PAYLOAD = 65_535;
export const MAX_UINT32 = 4_294_967_295;
const MAX_UINT16 = 65_535;
export const MAX_VLAN = 4095;

/** What is wrong with one item. Thrown and caught within a reader. */
export class Damaged extends Error {}

/** Runs `read`; what it finds damaged comes back as the reason. Any other error is a fault of ours, and passes. */
export function orReason<T>(read: () => T): T | string {
  try {
    return read();
  } catch (error) {
    if (error instanceof Damaged) return error.message;
    throw error;
  }
}

/**
 * A string fit for a log line: at most `MAX_TEXT` units, each character that would act on a terminal or a line replaced
 * by U+FFFD.
 */
export function text(value: string): string {
  return value.slice(0, MAX_TEXT).replace(UNPRINTABLE, '\uFFFD');
}

/** An integer from `min` to `max`, given as a number or as digits. */
export function integer(name: string, value: unknown, max: number, min = 0): number {
  const number = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isSafeInteger(number) || number < min || number > max)
    throw new Damaged(`${name} is not an integer from ${min} to ${max}`);
  return number;
}

/** Microseconds since the epoch; `seconds` fits in 32 bits, as in every pcap header. */
export function micros(seconds: number, microseconds: number): number {
  return seconds * 1_000_000 + microseconds;
}

/** Days and seconds of the parts as UTC, in seconds since the epoch. Refuses 30 February and 25 o'clock. */
export function utcSeconds(
  year: number,
  month: number,
  day: number,
  hour: number,
  minute: number,
  second: number,
): number {
  const time = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  const valid =
    time.getUTCMonth() === month - 1 &&
    time.getUTCDate() === day &&
    time.getUTCHours() === hour &&
    time.getUTCMinutes() === minute &&
    time.getUTCSeconds() === second;
  if (!valid) throw new Damaged('the timestamp is not a time');
  return time.getTime() / 1000;
}

/** The address in its shortest form, so that the engines' different spellings of one IPv6 address compare equal. */
function canonicalIp(name: string, value: unknown): string {
  if (typeof value === 'string') {
    if (isIPv4(value)) return value;
    if (isIPv6(value) && !value.includes('%')) return new SocketAddress({ address: value, family: 'ipv6' }).address;
  }
  throw new Damaged(`${name} is not an IP address`);
}

function isAbsent(value: unknown): boolean {
  return value === undefined || value === '';
}

function end(name: string, ip: unknown, port: unknown): Address {
  const address: Address = { ip: canonicalIp(`${name} address`, ip) };
  if (port !== undefined) address.port = integer(`${name} port`, port, MAX_UINT16);
  return address;
}

const IP_PROTOCOLS = new Set(['TCP', 'UDP', 'SCTP', 'ICMP', 'IP']);

export interface RawEnds {
  protocol: string;
  sourceIp: unknown;
  sourcePort: unknown;
  destinationIp: unknown;
  destinationPort: unknown;
}

/**
 * Both ends of the flow. An alert about a frame without a usable IP header (ARP, a bad IP length) has no addresses:
 * both ends then have the `ip` ''. With a protocol that stands on IP, or with one end only, missing addresses are
 * damage.
 */
export function ends(raw: RawEnds): { source: Address; destination: Address } {
  if (isAbsent(raw.sourceIp) && isAbsent(raw.destinationIp) && !IP_PROTOCOLS.has(raw.protocol))
    return { source: { ip: '' }, destination: { ip: '' } };
  return {
    source: end('source', raw.sourceIp, raw.sourcePort),
    destination: end('destination', raw.destinationIp, raw.destinationPort),
  };
}

/** Upper case; ICMP for IPv6 is named ICMP, as Snort does: the addresses tell them apart. */
export function protocolName(value: string): string {
  const name = text(value).toUpperCase();
  return name === 'IPV6-ICMP' || name === 'ICMPV6' || name === 'ICMP6' ? 'ICMP' : name;
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** A payload from base64, cut to `MAX_PAYLOAD` bytes; undefined for an empty one. */
export function base64(name: string, value: unknown): Buffer | undefined {
  if (value === undefined || value === '') return undefined;
  if (typeof value !== 'string' || value.length % 4 !== 0 || !BASE64.test(value))
    throw new Damaged(`${name} is not base64`);
  return Buffer.from(value, 'base64').subarray(0, MAX_PAYLOAD);
}
