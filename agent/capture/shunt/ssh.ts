/**
 * SSH (RFC 4253): the version line, then packets in clear text up to NEWKEYS, then ciphertext without boundaries.
 *
 * Strict: what is no key exchange of version 2 is not followed. Nor is a server that writes lines before its version,
 * nor one that says the random bytes of the client: it repeats what it is told.
 */
import { byteAt, int32 } from '../bytes.ts';
import { LOST, type Direction, type Flow } from './flow.ts';

/** Length of 4 bytes, length of the padding, message number, and 4 bytes of the message. */
export const PACKET_HEADER = 10;
const MESSAGE = 6;
const MAX_PACKET = 35_000;
/** RFC 4253, 4.2: the line with its end. */
const MAX_LINE = 255;
const KEXINIT = 20;
const NEWKEYS = 21;
/** RFC 4250, 4.1.1: messages of the transport layer and the key exchange. */
const LAST_CLEAR_MESSAGE = 49;
const LINE_FEED = 10;
const VERSIONS = [Buffer.from('SSH-2.0-'), Buffer.from('SSH-1.99-')];

/** @returns The length of the version line that a segment begins with; 0: it begins otherwise. */
export function versionLine(bytes: Buffer, at: number, end: number): number {
  if (byteAt(bytes, at) !== 0x53 || !isVersion(bytes, at, end)) return 0;
  const last = Math.min(end, at + MAX_LINE);
  for (let offset = at; offset < last; offset++) if (byteAt(bytes, offset) === LINE_FEED) return offset + 1 - at;
  return 0;
}

function isVersion(bytes: Buffer, at: number, end: number): boolean {
  return VERSIONS.some((version) => isAt(version, bytes, at, end));
}

function isAt(text: Buffer, bytes: Buffer, at: number, end: number): boolean {
  return at + text.length <= end && text.every((byte, index) => bytes[at + index] === byte);
}

/** A packet's header is at `at`. @returns false: it is none. */
export function beginPacket(flow: Flow, direction: Direction, bytes: Buffer, at: number): boolean {
  const length = int32(bytes, at);
  const padding = byteAt(bytes, at + 4);
  const message = byteAt(bytes, at + 5);
  if (length < 12 || length > MAX_PACKET || (length + 4) % 8 !== 0) return false;
  if (padding < 4 || padding + 2 > length || message < 1 || message > LAST_CLEAR_MESSAGE) return false;
  if (direction.packets === 0 && !beginExchange(flow, direction, message, int32(bytes, at + MESSAGE))) return false;
  direction.left = length + 4 - PACKET_HEADER;
  direction.secret = direction.isTakenOut = false;
  direction.lastClear = message === NEWKEYS;
  return true;
}

/**
 * RFC 4253, 7.1: the first packet is KEXINIT, which begins with 16 random bytes.
 * @returns false: it is not, or the other side has the same ones.
 */
function beginExchange({ low, high }: Flow, direction: Direction, message: number, random: number): boolean {
  if (message !== KEXINIT) return false;
  direction.packets = 1;
  direction.index = random;
  const isRepeated = low.packets === high.packets && low.index === high.index;
  if (isRepeated) low.stage = high.stage = LOST;
  return !isRepeated;
}

/** Whether ciphertext of the direction, which has new keys, is taken out. */
export function isBulk({ low, high }: Flow, direction: Direction, firstBytes: number): boolean {
  return low.keyed && high.keyed && direction.ciphertext >= firstBytes;
}
