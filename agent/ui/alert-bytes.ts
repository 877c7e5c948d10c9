/**
 * Which of a flow's packets fired an alert, and which of their bytes its rule looks for. Engines tell the packet, not
 * the bytes: these are looked for as they are on the wire, in what the packet's side sent, then in what the other did.
 * What a rule looks for in text that was decoded before (gzip, URLs) is not found.
 */
import type { Content } from '../rulesets/contents.ts';

/** A packet's payload. */
export interface SentPayload {
  fromSource: boolean;
  /** It fired the alert. */
  fired: boolean;
  payload: Buffer;
}

/** From a byte of a payload up to another. */
export type Span = [from: number, to: number];

/** What one side sent, in the order of the packets. */
interface Side {
  bytes: Buffer;
  lower: Buffer;
  /** Of each packet, where it begins. */
  starts: { packet: number; at: number }[];
  /** Where the packet that fired begins and ends; where it is of the other side, both are where it came. */
  fired: Span;
}

/** @returns of each packet, in order and without overlaps. */
export function alertBytes(packets: readonly SentPayload[], contents: readonly Content[]): Span[][] {
  const spans: Span[][] = packets.map(() => []);
  const firedBy = packets.find(({ fired }) => fired)?.fromSource ?? true;
  const sides = [sideOf(packets, firedBy), sideOf(packets, !firedBy)];
  for (const content of contents) {
    for (const side of sides) {
      const at = find(side, content);
      if (at < 0) continue;
      markIn(spans, side, at, at + content.bytes.length);
      break;
    }
  }
  return spans.map(merged);
}

function sideOf(packets: readonly SentPayload[], fromSource: boolean): Side {
  const starts: Side['starts'] = [];
  const parts: Buffer[] = [];
  let at = 0;
  let fired: Span = [0, 0];
  for (const [packet, each] of packets.entries()) {
    const length = each.fromSource === fromSource ? each.payload.length : 0;
    if (each.fired) fired = [at, at + length];
    if (length === 0) continue;
    starts.push({ packet, at });
    parts.push(each.payload);
    at += length;
  }
  const bytes = Buffer.concat(parts);
  return { bytes, lower: lowerCased(bytes), starts, fired };
}

/** In the packet that fired, else the last one before its end, else the first one behind. -1: it is not there. */
function find({ bytes, lower, fired: [from, to] }: Side, { bytes: wanted, nocase }: Content): number {
  const [where, what] = nocase ? [lower, lowerCased(wanted)] : [bytes, wanted];
  const inside = where.indexOf(what, from);
  if (inside >= 0 && inside + what.length <= to) return inside;
  // A negative place would count from the end.
  const before = to < what.length ? -1 : where.lastIndexOf(what, to - what.length);
  return before >= 0 ? before : where.indexOf(what);
}

/** ASCII's letters. */
function lowerCased(bytes: Buffer): Buffer {
  return Buffer.from(bytes.map((byte) => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte)));
}

function markIn(spans: Span[][], { bytes, starts }: Side, from: number, to: number): void {
  for (const [index, { packet, at }] of starts.entries()) {
    const end = starts[index + 1]?.at ?? bytes.length;
    if (at < to && end > from) spans[packet]?.push([Math.max(from, at) - at, Math.min(to, end) - at]);
  }
}

function merged(spans: readonly Span[]): Span[] {
  const all: Span[] = [];
  for (const [from, to] of spans.toSorted(([a], [b]) => a - b)) {
    const last = all.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to);
    else all.push([from, to]);
  }
  return all;
}
