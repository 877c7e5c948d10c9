/** Frames that are the agent's own. They have a VLAN id that no endpoint leases, and are in no endpoint's counters. */
import { GROWTH, tagFrame } from './frame.ts';
import { RECORD_HEADER, writeRecordHeader } from './record.ts';
import type { Accepted, Output } from './output.ts';

const OWN_VLAN = 4094;

/** An Ethernet frame of the type that is set aside for local experiments (IEEE 802, 0x88b5). */
export const FIRST_FRAME = Buffer.concat([Buffer.alloc(12), Buffer.from([0x88, 0xb5]), Buffer.alloc(46)]);

const ETHERNET = 14;
const IPV4 = 20;
const UDP = 8;
/** Of which each frame takes another: it is a flow of its own, that the engine knows nothing of yet. */
const PORTS = { first: 1024, count: 60_000 };
/** RFC 863, the service that discards what it gets. */
const DISCARD_PORT = 9;

/** An Ethernet frame with a UDP datagram between two addresses for documentation (RFC 5737). `payload`: its bytes. */
export function udpFrame(payload: string, number: number): Buffer {
  const length = IPV4 + UDP + payload.length;
  const frame = Buffer.alloc(ETHERNET + length);
  // Locally administered addresses.
  frame.write('020000000001', 0, 'hex');
  frame.write('020000000002', 6, 'hex');
  frame.writeUInt16BE(0x0800, 12);
  const ip = ETHERNET;
  frame[ip] = 0x45;
  frame.writeUInt16BE(length, ip + 2);
  frame[ip + 8] = 64;
  frame[ip + 9] = 17;
  frame.set([192, 0, 2, 1], ip + 12);
  frame.set([192, 0, 2, 2], ip + 16);
  frame.writeUInt16BE(checksum(frame.subarray(ip, ip + IPV4)), ip + 10);
  const udp = ip + IPV4;
  frame.writeUInt16BE(PORTS.first + (number % PORTS.count), udp);
  frame.writeUInt16BE(DISCARD_PORT, udp + 2);
  // Its checksum stays 0: over IPv4, that is none.
  frame.writeUInt16BE(UDP + payload.length, udp + 4);
  frame.write(payload, udp + UDP, 'latin1');
  return frame;
}

/** Writes the frame now, with the time of the wall clock. */
export function writeOwn(output: Output, frame: Buffer): Accepted {
  if (!output.isOpen) return 'closed';
  const { arena } = output;
  const from = arena.reserve(RECORD_HEADER + GROWTH.ethernet + frame.length);
  if (from < 0) return 'queue-full';
  const start = from + RECORD_HEADER + GROWTH.ethernet;
  arena.bytes.set(frame, start);
  const tagged = tagFrame(arena.bytes, start, frame.length, 'ethernet', OWN_VLAN);
  const length = start + frame.length - tagged;
  const now = Date.now();
  writeRecordHeader(arena.view, from, Math.floor(now / 1000), (now % 1000) * 1000, length, length);
  output.add(from, start + frame.length, 1);
  output.flush();
  return 'accepted';
}

/** RFC 1071, of an even number of bytes. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
