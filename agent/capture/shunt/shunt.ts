/**
 * Takes encrypted bulk away from an engine, which can't read it: application data of TLS, SSH after its new keys, QUIC
 * behind its handshake, WireGuard, ESP. The handshake is the criterion, never a port; see docs/capture.md.
 *
 * Invariants: whatever the bytes are, nothing throws, nothing is allocated for a packet, memory is bounded, and nothing
 * outside the frame is read as meaningful or written. What can't be followed is forwarded. Records of TLS other than
 * application data, FIN, RST, and acknowledgements that tell the engine something are always forwarded.
 *
 * What is taken out of a TCP stream is not there for the engine: later sequence numbers, and the acknowledgements of
 * the other direction, are lowered in the frame itself, also where the answer is 'forward'. Checksums stay as they
 * were.
 *
 * Engines forget flows that are silent. So at least one packet of a flow is forwarded in 20 seconds.
 *
 * Not promised: a flow whose place in the table another one took is forwarded as it is; if bytes had been taken out of
 * it, the engine sees a gap. Packets inside tunnels are not looked at.
 */
import { judgeDatagram } from './datagrams.ts';
import { MAX_FIRST_BYTES } from './flow.ts';
import { createFlowTable, forgetFlows } from './flows.ts';
import { createPacket, read, TCP } from './packet.ts';
import { judgeSegment } from './segments.ts';
import type { Answer, State, Verdict } from './state.ts';
import { createFollower } from './stream.ts';

export const SHUNT_PROTOCOLS = ['tls', 'quic', 'ssh', 'wireguard', 'esp'] as const;

export interface ShuntSettings {
  /** Bytes of ciphertext of each direction that the engine still gets: 0..2^30-1; 65,536 is usual. */
  firstBytes: number;
  /** Flows kept at most; 32,768 is usual. */
  flows: number;
}

export interface Shunt extends Answer {
  /**
   * Judges one frame, and changes it where it stands.
   *
   * @param start where the frame's link header begins in `bytes`.
   * @param ip from there to the IP header, 0 or more.
   * @param captured at most `length`.
   * @param vlan 1..4094, the endpoint.
   * @param seconds when it was captured, 0..2^32-1.
   */
  look(
    bytes: Buffer,
    start: number,
    ip: number,
    captured: number,
    length: number,
    vlan: number,
    seconds: number,
  ): Verdict;
  /** The endpoint is gone: its flows are forgotten. */
  forget(vlan: number): void;
}

export function createShunt(settings: ShuntSettings): Shunt {
  const firstBytes = Math.max(0, Math.min(settings.firstBytes, MAX_FIRST_BYTES));
  const shunt: Shunt = {
    start: 0,
    captured: 0,
    length: 0,
    protocol: 0,
    bytes: 0,
    look: (bytes, start, ip, captured, length, vlan, seconds) =>
      look(state, bytes, start, ip, captured, length, vlan, seconds),
    forget: (vlan) => forgetFlows(state.flows, vlan),
  };
  const state: State = {
    firstBytes,
    flows: createFlowTable(settings.flows),
    follower: createFollower(firstBytes),
    packet: createPacket(),
    vlan: 0,
    seconds: 0,
    answer: shunt,
  };
  return shunt;
}

function look(
  state: State,
  bytes: Buffer,
  start: number,
  ip: number,
  captured: number,
  length: number,
  vlan: number,
  seconds: number,
): Verdict {
  const { answer, packet } = state;
  answer.start = start;
  answer.captured = captured;
  answer.length = length;
  answer.bytes = 0;
  const limit = Math.min(start + captured, bytes.length);
  if (!read(packet, bytes, start + ip, limit, captured < length)) return 'forward';
  state.vlan = vlan;
  state.seconds = seconds | 0;
  return packet.protocol === TCP ? judgeSegment(state, bytes) : judgeDatagram(state, bytes);
}
