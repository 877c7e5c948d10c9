/**
 * QUIC (RFC 9000, 9369), in what no key is needed for: Initial packets of both sides, then packets with a short header.
 *
 * A datagram that begins with a long header is forwarded, whatever follows in it. After a change of addresses a
 * connection is not known.
 */
import { byteAt, int32 } from '../bytes.ts';
import { FOLLOWING, refuse, WAITING, type Direction, type Flow } from './flow.ts';

/** RFC 9000, 14.1: a datagram with an Initial packet has at least so many bytes. */
const MIN_INITIAL = 1200;
const MAX_CONNECTION_ID = 20;
const ID_WORDS = MAX_CONNECTION_ID / 4;
/** Behind the first byte and the version. */
const DESTINATION_ID = 5;
const VERSION_1 = 1;
const VERSION_2 = 0x6b33_43cf;
const DRAFTS = 0xff00_0000 | 0;

/** Behind the first byte and the longest connection id. */
export const QUIC_SAMPLE = 1 + MAX_CONNECTION_ID;

export function isInitial(bytes: Buffer, at: number, end: number): boolean {
  const first = byteAt(bytes, at);
  if (end - at < MIN_INITIAL || (first & 0xc0) !== 0xc0) return false;
  const version = int32(bytes, at + 1);
  const isKnown = version === VERSION_1 || (version & 0xffff_ff00) === DRAFTS || version === VERSION_2;
  if (!isKnown || (first & 0x30) !== (version === VERSION_2 ? 0x10 : 0)) return false;
  return byteAt(bytes, at + DESTINATION_ID) <= MAX_CONNECTION_ID;
}

export function mayBeQuic(bytes: Buffer, at: number): boolean {
  return (byteAt(bytes, at) & 0x40) !== 0;
}

/** @returns Whether the datagram is ciphertext of a connection that both sides began. */
export function isQuicData(flow: Flow, direction: Direction, bytes: Buffer, at: number, end: number): boolean {
  if (flow.low.stage === WAITING || flow.high.stage === WAITING) {
    if (isInitial(bytes, at, end)) initiate(flow, direction, bytes, at + DESTINATION_ID);
    return false;
  }
  return end - at > QUIC_SAMPLE && (byteAt(bytes, at) & 0xc0) === 0x40;
}

/**
 * RFC 9000, 7.2: an end keeps its connection id, which the other one answers to, with one of its own. A peer that
 * repeats what it is told has only the ids that were said.
 *
 * @param to where the length of the destination's connection id is.
 */
function initiate(flow: Flow, direction: Direction, bytes: Buffer, to: number): void {
  const other = direction === flow.low ? flow.high : flow.low;
  const from = to + 1 + byteAt(bytes, to);
  if (byteAt(bytes, from) > MAX_CONNECTION_ID) return;
  if (direction.stage === FOLLOWING) {
    if (!isId(direction, bytes, from)) refuse(flow);
    return;
  }
  if (other.stage === FOLLOWING && (!isId(other, bytes, to) || isId(other, bytes, from))) return;
  direction.stage = FOLLOWING;
  direction.index = byteAt(bytes, from);
  for (let word = 0; word < ID_WORDS; word++) direction.words[word] = idWord(bytes, from, word);
}

/** Whether a direction's connection id is there, behind its length. */
function isId({ index, words }: Direction, bytes: Buffer, at: number): boolean {
  if (byteAt(bytes, at) !== index) return false;
  for (let word = 0; word < ID_WORDS; word++) if (words[word] !== idWord(bytes, at, word)) return false;
  return true;
}

/** Zero behind the id's end. */
function idWord(bytes: Buffer, at: number, word: number): number {
  const left = byteAt(bytes, at) - 4 * word;
  if (left <= 0) return 0;
  const value = int32(bytes, at + 1 + 4 * word);
  return left >= 4 ? value : value & (-1 << (8 * (4 - left)));
}
