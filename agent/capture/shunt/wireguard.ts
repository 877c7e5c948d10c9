/**
 * WireGuard (https://www.wireguard.com/protocol/): an initiation, the response to it, then transport data to the
 * indices that the two chose. Who repeats what it is told begins like its peer, or has its peer answer first: such a
 * flow is refused, and so is one that both begin at once.
 */
import { byteAt, int32 } from '../bytes.ts';
import { FOLLOWING, refuse, WAITING, type Direction, type Flow } from './flow.ts';

const INITIATION = 0x0100_0000;
const RESPONSE = 0x0200_0000;
const DATA = 0x0400_0000;
const INITIATION_BYTES = 148;
const RESPONSE_BYTES = 92;
const MIN_DATA = 32;

/** Behind type, index and counter. */
export const WIREGUARD_SAMPLE = 16;

/** Whether a datagram is an initiation or a response. */
export function isHandshake(bytes: Buffer, at: number, end: number): boolean {
  const type = int32(bytes, at);
  const length = end - at;
  return (type === INITIATION && length === INITIATION_BYTES) || (type === RESPONSE && length === RESPONSE_BYTES);
}

export function mayBeWireguard(bytes: Buffer, at: number): boolean {
  const type = byteAt(bytes, at);
  return (type === 1 || type === 2 || type === 4) && (int32(bytes, at) & 0x00ff_ffff) === 0;
}

/** @returns Whether the datagram is transport data of a handshake that was seen. */
export function isWireguardData(flow: Flow, direction: Direction, bytes: Buffer, at: number, end: number): boolean {
  const other = direction === flow.low ? flow.high : flow.low;
  const length = end - at;
  switch (int32(bytes, at)) {
    case INITIATION:
      if (length === INITIATION_BYTES) initiate(flow, direction, other, int32(bytes, at + 4));
      return false;
    case RESPONSE:
      if (length === RESPONSE_BYTES) respond(flow, direction, other, int32(bytes, at + 4), int32(bytes, at + 8));
      return false;
    case DATA:
      if (length < MIN_DATA || length % 16 !== 0 || int32(bytes, at + 4) !== other.index) return false;
      return direction.stage !== WAITING;
    default:
      return false;
  }
}

function initiate(flow: Flow, direction: Direction, other: Direction, index: number): void {
  if (direction.stage === WAITING && other.keyed) return refuse(flow);
  direction.keyed = true;
  direction.index = index;
}

function respond(flow: Flow, direction: Direction, other: Direction, index: number, receiver: number): void {
  if (direction.stage === WAITING && !other.keyed) return refuse(flow);
  if (receiver !== other.index) return;
  direction.index = index;
  if (direction.stage === WAITING) direction.stage = other.stage = FOLLOWING;
}
