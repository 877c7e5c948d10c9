/**
 * The headers of one packet: TCP, UDP or ESP directly in IPv4 or IPv6. Read into one object that is used again, changed
 * in the frame.
 *
 * Invariant: after `read` returned true, all that the fields point at lies within the captured bytes.
 *
 * Everything else is not read: other protocols, fragments, extension headers (but for the jumbo payload option that
 * Linux puts in front of TCP for frames of more than 64 KB, RFC 2675), headers that are cut off or contradict each
 * other. Of a TCP segment that is truncated, or a datagram's first fragment, the headers are read and `whole` is false.
 */
import { byteAt, int32, putInt32, putUint16, uint16 } from '../bytes.ts';

export const TCP = 6;
export const UDP = 17;
export const ESP = 50;

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const ACK = 0x10;
export const URG = 0x20;

const HOP_OPTIONS = 0;
const JUMBO_BYTES = 8;
/** Next header TCP, no further 8 bytes, option 0xc2 of 4 bytes. */
const JUMBO = 0x0600_c204;
/** The same bytes as padding (RFC 8200, 4.2). */
const PADDING = 0x0600_0104;
/** NOP, NOP, timestamps of 10 bytes: what Linux sends (RFC 7323, appendix A). */
const USUAL_OPTIONS = 0x0101_080a;

export interface Packet {
  protocol: number;
  version: number;
  /** Offsets in the buffer: of the IP header, of the source and destination address, of the transport header. */
  ip: number;
  source: number;
  destination: number;
  transport: number;
  /** From where to where the payload is; behind `end` there may be padding of the link layer. */
  payload: number;
  end: number;
  /** Payload bytes that the IP header tells of. */
  payloadLength: number;
  whole: boolean;
}

export function createPacket(): Packet {
  return {
    protocol: 0,
    version: 0,
    ip: 0,
    source: 0,
    destination: 0,
    transport: 0,
    payload: 0,
    end: 0,
    payloadLength: 0,
    whole: true,
  };
}

/**
 * @param ip offset of the IP header in `bytes`.
 * @param limit end of the captured bytes. `truncated`: there were more.
 * @returns false: not a packet as above; the fields mean nothing then.
 */
export function read(packet: Packet, bytes: Buffer, ip: number, limit: number, truncated: boolean): boolean {
  if (ip + 20 > limit) return false;
  packet.ip = ip;
  packet.whole = !truncated;
  packet.version = byteAt(bytes, ip) >>> 4;
  let length: number;
  if (packet.version === 4) {
    const header = (byteAt(bytes, ip) & 0x0f) * 4;
    if (header < 20) return false;
    const fragment = uint16(bytes, ip + 6);
    if ((fragment & 0x1fff) !== 0) return false;
    if ((fragment & 0x2000) !== 0) packet.whole = false;
    length = uint16(bytes, ip + 2);
    // Linux writes zero for more than the field holds.
    if (length === 0 && limit - ip > 0xffff) length = limit - ip;
    packet.protocol = byteAt(bytes, ip + 9);
    packet.source = ip + 12;
    packet.destination = ip + 16;
    packet.transport = ip + header;
  } else if (packet.version === 6) {
    if (ip + 40 > limit) return false;
    length = 40 + uint16(bytes, ip + 4);
    packet.protocol = byteAt(bytes, ip + 6);
    packet.source = ip + 8;
    packet.destination = ip + 24;
    packet.transport = ip + 40;
    if (packet.protocol === HOP_OPTIONS && isJumbo(packet, bytes, limit)) {
      packet.protocol = TCP;
      packet.transport += JUMBO_BYTES;
      length = 40 + int32(bytes, ip + 44);
    }
  } else {
    return false;
  }
  packet.end = ip + length;
  if (length < 0 || packet.end > limit) {
    if (!truncated) return false;
    packet.end = limit;
  }
  return readTransport(packet, bytes, ip + length);
}

function isJumbo(packet: Packet, bytes: Buffer, limit: number): boolean {
  return (
    uint16(bytes, packet.ip + 4) === 0 &&
    packet.transport + JUMBO_BYTES <= limit &&
    int32(bytes, packet.transport) === JUMBO
  );
}

/** @param last where the datagram ends, captured or not. */
function readTransport(packet: Packet, bytes: Buffer, last: number): boolean {
  const { transport, end } = packet;
  switch (packet.protocol) {
    case TCP:
      if (transport + 20 > end) return false;
      packet.payload = transport + (byteAt(bytes, transport + 12) >>> 4) * 4;
      if (packet.payload < transport + 20 || packet.payload > end) return false;
      break;
    case UDP: {
      if (!packet.whole || transport + 8 > end) return false;
      const length = uint16(bytes, transport + 4);
      if (length < 8 || transport + length > end) return false;
      packet.payload = transport + 8;
      packet.end = last = transport + length;
      break;
    }
    case ESP:
      if (!packet.whole || transport + 8 > end) return false;
      packet.payload = transport + 8;
      break;
    default:
      return false;
  }
  packet.payloadLength = last - packet.payload;
  return packet.payloadLength >= 0;
}

/** Says in the IP header that the packet ends at `end`. Its checksum stays as it was. */
export function shorten(packet: Packet, bytes: Buffer, end: number): void {
  const { ip } = packet;
  packet.end = end;
  if (packet.version === 4) {
    if (end - ip <= 0xffff) putUint16(bytes, ip + 2, end - ip);
    return;
  }
  const length = end - ip - 40;
  const isJumbogram = packet.transport > ip + 40;
  if (length > 0xffff) return putInt32(bytes, ip + 44, length);
  putUint16(bytes, ip + 4, length);
  if (!isJumbogram) return;
  putInt32(bytes, ip + 40, PADDING);
  putInt32(bytes, ip + 44, 0);
}

/** Whether a segment has no TCP option but timestamps, SACK and padding. */
export function hasPlainOptions(packet: Packet, bytes: Buffer): boolean {
  return walkOptions(packet, bytes, false);
}

/** Overwrites the ranges of SACK by padding: their numbers belong to a stream that the engine does not see. */
export function blankSack(packet: Packet, bytes: Buffer): void {
  walkOptions(packet, bytes, true);
}

function walkOptions(packet: Packet, bytes: Buffer, blank: boolean): boolean {
  const { payload } = packet;
  let at = packet.transport + 20;
  if (payload === at || (payload === at + 12 && int32(bytes, at) === USUAL_OPTIONS)) return true;
  let isPlain = true;
  while (at < payload) {
    const kind = byteAt(bytes, at);
    if (kind === 0) return isPlain;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = at + 1 < payload ? byteAt(bytes, at + 1) : 0;
    if (length < 2 || at + length > payload) return false;
    if (kind === 5 && blank) bytes.fill(1, at, at + length);
    if (kind !== 5 && kind !== 8) isPlain = false;
    at += length;
  }
  return isPlain;
}
