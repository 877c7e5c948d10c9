/**
 * TLS records (RFC 8446, 5.1; RFC 5246, 6.2.1), as far as their headers and the hellos show.
 *
 * A handshake was seen whole when both hellos were, and in TLS 1.2 and before the ChangeCipherSpec of both. TLS 1.3
 * encrypts the rest of its handshake in records of type 23. A cipher suite without encryption is not followed.
 */
import { byteAt, int32, uint16 } from '../bytes.ts';
import { FOLLOWING, isUncut, LOST, WAITING, type Direction, type Flow } from './flow.ts';
import { AT_BEGINNING, looksClear } from './text.ts';

export const RECORD_HEADER = 5;
const MAX_RECORD = (1 << 14) + 2048;
const CHANGE_CIPHER_SPEC = 20;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;
const HEARTBEAT = 24;
const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
const SUPPORTED_VERSIONS = 43;
const TLS13 = 0x0304;
/** Begins behind the explicit nonce that some suites of TLS 1.2 count up in each record. */
const NONCE = 8;

/** IANA's TLS cipher suites with NULL in their names, and the two of RFC 9150. */
const WITHOUT_ENCRYPTION = new Set([
  0x0000, 0x0001, 0x0002, 0x002c, 0x002d, 0x002e, 0x003b, 0x00b0, 0x00b1, 0x00b4, 0x00b5, 0x00b8, 0x00b9, 0xc001,
  0xc006, 0xc00b, 0xc010, 0xc015, 0xc039, 0xc03a, 0xc03b, 0xc0b4, 0xc0b5,
]);

export function isClientHello(bytes: Buffer, at: number, end: number): boolean {
  return isHello(bytes, at, end, CLIENT_HELLO);
}

export function isServerHello(bytes: Buffer, at: number, end: number): boolean {
  return isHello(bytes, at, end, SERVER_HELLO);
}

function isHello(bytes: Buffer, at: number, end: number, type: number): boolean {
  return (
    at + RECORD_HEADER < end &&
    byteAt(bytes, at) === HANDSHAKE &&
    isRecord(bytes, at) &&
    byteAt(bytes, at + RECORD_HEADER) === type
  );
}

function isRecord(bytes: Buffer, at: number): boolean {
  const type = byteAt(bytes, at);
  const length = uint16(bytes, at + 3);
  return (
    type >= CHANGE_CIPHER_SPEC &&
    type <= HEARTBEAT &&
    byteAt(bytes, at + 1) === 3 &&
    byteAt(bytes, at + 2) <= 4 &&
    length > 0 &&
    length <= MAX_RECORD
  );
}

/**
 * Learns the version from a ServerHello.
 * @returns false: the suite does not encrypt, or the segment does not show it.
 */
export function readServerHello(flow: Flow, bytes: Buffer, at: number, end: number): boolean {
  const last = Math.min(end, at + RECORD_HEADER + uint16(bytes, at + 3));
  // Type, length of 3 bytes, version, random.
  const session = at + RECORD_HEADER + 4 + 2 + 32;
  const suite = session + 1 + byteAt(bytes, session);
  if (session >= last || suite + 2 > last) return false;
  if (WITHOUT_ENCRYPTION.has(uint16(bytes, suite))) return false;
  // Behind the suite: compression method, length of the extensions.
  for (let extension = suite + 5; extension + 6 <= last; extension += 4 + uint16(bytes, extension + 2)) {
    if (uint16(bytes, extension) !== SUPPORTED_VERSIONS) continue;
    flow.version13 = uint16(bytes, extension + 4) === TLS13;
    break;
  }
  return true;
}

/**
 * A record's header is at `at`, and its body from there to `end` as far as it is here.
 * @param whole The header is in one segment; otherwise its first bytes were forwarded, and so is the rest.
 * @returns false: it is none, or what should be ciphertext is not.
 */
export function beginRecord(
  flow: Flow,
  direction: Direction,
  bytes: Buffer,
  at: number,
  end: number,
  whole: boolean,
  firstBytes: number,
): boolean {
  if (!isRecord(bytes, at)) return false;
  const type = byteAt(bytes, at);
  direction.left = uint16(bytes, at + 3);
  direction.secret = type === APPLICATION_DATA;
  const body = at + RECORD_HEADER;
  // With less of it at hand, text would be noticed only when its beginning is gone.
  const isJudged = whole && body + Math.min(direction.left, NONCE + AT_BEGINNING) <= end;
  direction.isTakenOut = direction.secret && isJudged && direction.ciphertext >= firstBytes && isShaken(flow);
  if (type === CHANGE_CIPHER_SPEC) direction.keyed = true;
  return (
    !direction.isTakenOut ||
    !looksClear(direction, bytes, body + NONCE, Math.min(end, body + direction.left), AT_BEGINNING)
  );
}

function isShaken({ low, high, version13 }: Flow): boolean {
  return low.stage !== WAITING && high.stage !== WAITING && (version13 || (low.keyed && high.keyed));
}

/** Whether a ClientHello begins a connection anew, where another one was followed and nothing was taken out of it. */
export function isAnew(flow: Flow, direction: Direction, sequence: number): boolean {
  if (!isUncut(flow)) return false;
  return (
    direction.stage >= LOST || (direction.stage === FOLLOWING && ((sequence - direction.next) | 0) > direction.left)
  );
}

/**
 * Looks for two records of application data of one length in a row: one of 2^50 frames of ciphertext looks like it.
 * @returns where the first one's header is; -1: nowhere in [at, end).
 */
export function findRecords(bytes: Buffer, at: number, end: number): number {
  const last = Math.min(end, at + RECORD_HEADER + MAX_RECORD);
  for (let first = at; first < last; first++) {
    if (byteAt(bytes, first) !== APPLICATION_DATA || byteAt(bytes, first + 1) !== 3 || !isRecord(bytes, first))
      continue;
    const second = first + RECORD_HEADER + uint16(bytes, first + 3);
    if (second + RECORD_HEADER <= end && isSameHeader(bytes, first, second)) return first;
  }
  return -1;
}

function isSameHeader(bytes: Buffer, first: number, other: number): boolean {
  return int32(bytes, first) === int32(bytes, other) && byteAt(bytes, first + 4) === byteAt(bytes, other + 4);
}
