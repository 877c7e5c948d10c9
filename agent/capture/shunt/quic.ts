/**
 * QUIC (RFC 9000, 9369), in what no key is needed for: Initial packets of both sides, then packets with a short header.
 *
 * A datagram that begins with a long header is forwarded, whatever follows in it. After a change of addresses a
 * connection is not known.
 */
import { byteAt, int32 } from './bytes.ts';
import { WAITING, FOLLOWING, type Direction, type Flow } from './flow.ts';

/** RFC 9000, 14.1: a datagram with an Initial packet has at least so many bytes. */
const MIN_INITIAL = 1200;
const MAX_CONNECTION_ID = 20;
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
  return byteAt(bytes, at + 5) <= MAX_CONNECTION_ID;
}

export function mayBeQuic(bytes: Buffer, at: number): boolean {
  return (byteAt(bytes, at) & 0x40) !== 0;
}

/** @returns Whether the datagram is ciphertext of a connection that both sides began. */
export function isQuicData(flow: Flow, direction: Direction, bytes: Buffer, at: number, end: number): boolean {
  if (isInitial(bytes, at, end) && direction.stage === WAITING) direction.stage = FOLLOWING;
  const isShort = end - at > QUIC_SAMPLE && (byteAt(bytes, at) & 0xc0) === 0x40;
  return isShort && flow.low.stage !== WAITING && flow.high.stage !== WAITING;
}
