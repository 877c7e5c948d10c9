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
 * Engines forget flows that are silent. So at least one packet in KEEP_SECONDS of a flow is forwarded.
 *
 * Not promised: a flow whose place in the table another one took is forwarded as it is; if bytes had been taken out of
 * it, the engine sees a gap. Packets inside tunnels are not looked at.
 */
import { int32, putInt32, byteAt, uint16 } from '../bytes.ts';
import {
  countCiphertext,
  FOLLOWING,
  IPSEC,
  isUncut,
  LOST,
  MAX_FIRST_BYTES,
  QUIC,
  refuse,
  resetFlow,
  SSH,
  TLS,
  WAITING,
  WIREGUARD,
  type Direction,
  type Flow,
} from './flow.ts';
import { createFlowTable } from './flows.ts';
import { ESP_PACKETS, ESP_PORT, ESP_SAMPLE, isEspClear } from './esp.ts';
import {
  ACK,
  blankSack,
  createPacket,
  ESP,
  FIN,
  hasPlainOptions,
  read,
  RST,
  shorten,
  SYN,
  TCP,
  UDP,
  URG,
} from './packet.ts';
import { isInitial, isQuicData, mayBeQuic, QUIC_SAMPLE } from './quic.ts';
import { mapped } from './ranges.ts';
import { versionLine } from './ssh.ts';
import { createFollower } from './stream.ts';
import { AT_BEGINNING, looksClear } from './text.ts';
import { isAnew, isClientHello, isServerHello, readServerHello } from './tls.ts';
import { isHandshake, isWireguardData, mayBeWireguard, WIREGUARD_SAMPLE } from './wireguard.ts';

export const SHUNT_PROTOCOLS = ['tls', 'quic', 'ssh', 'wireguard', 'esp'] as const;

/** Snort forgets a flow after 180 s, Suricata one of UDP after 30 to 300 s. */
const KEEP_SECONDS = 20;
/** After so long a silence, datagrams between the same ports are another flow. WireGuard's keys live as long. */
const DATAGRAM_IDLE_SECONDS = 180;
/** After so long without a handshake, a refused flow of datagrams may begin anew: no echo is as late. */
const REFUSED_SECONDS = 30;

export interface ShuntSettings {
  /** Bytes of ciphertext of each direction that the engine still gets: 0..2^30-1; 65,536 is usual. */
  firstBytes: number;
  /** Flows kept at most; 32,768 is usual. */
  flows: number;
}

export type Verdict = 'forward' | 'trimmed' | 'shunted';

export interface Shunt {
  /** The frame of the last look as it is to be forwarded; only 'trimmed' changes it. */
  start: number;
  captured: number;
  length: number;
  /**
   * Of the last look, unless it is to be forwarded: index into SHUNT_PROTOCOLS, and bytes taken away of the original
   * length.
   */
  protocol: number;
  bytes: number;
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
  const flows = createFlowTable(settings.flows);
  const follower = createFollower(firstBytes);
  const packet = createPacket();

  const shunt: Shunt = {
    start: 0,
    captured: 0,
    length: 0,
    protocol: 0,
    bytes: 0,
    look(bytes, start, ip, captured, length, vlan, seconds) {
      shunt.start = start;
      shunt.captured = captured;
      shunt.length = length;
      shunt.bytes = 0;
      const limit = Math.min(start + captured, bytes.length);
      if (!read(packet, bytes, start + ip, limit, captured < length)) return 'forward';
      return packet.protocol === TCP ? segment(bytes, vlan, seconds | 0) : datagram(bytes, vlan, seconds | 0);
    },
    forget(vlan) {
      flows.forget(vlan);
    },
  };

  // --- TCP -----------------------------------------------------------------------------------------------------------

  function segment(bytes: Buffer, vlan: number, seconds: number): Verdict {
    const { transport } = packet;
    const flags = byteAt(bytes, transport + 13);
    const sequence = int32(bytes, transport + 4);
    const known = flows.find(bytes, packet, vlan);
    if ((flags & SYN) !== 0) return opening(known, flags);
    const flow = packet.payload < packet.end ? begun(known, bytes, vlan, sequence, seconds) : known;
    if (flow === undefined) return 'forward';
    const own = ownEnd(flow);
    const other = otherEnd(flow);
    const isFollowed = packet.payloadLength > 0 || (flags & FIN) !== 0;
    const end = isFollowed ? follower.reduce(flow, own, bytes, packet, sequence, flags) : packet.end;
    const acknowledged = mapped(other, int32(bytes, transport + 8));
    const isEmpty = end === packet.payload && packet.whole;
    const isChanged = !isUncut(flow);
    if (isChanged && isEmpty && !isNews(flow, own, bytes, flags, acknowledged, seconds)) return shunted(flow.protocol);
    flow.forwarded = seconds;
    if ((flags & ACK) !== 0) remember(own, bytes, acknowledged);
    if (!isChanged) return 'forward';
    putInt32(bytes, transport + 4, mapped(own, sequence));
    if ((flags & ACK) !== 0) putInt32(bytes, transport + 8, acknowledged);
    blankSack(packet, bytes);
    return end === packet.end ? 'forward' : trimmed(flow.protocol, bytes, end);
  }

  /** A SYN alone may be no more than an attempt; its answer begins a connection, unless that is known already. */
  function opening(flow: Flow | undefined, flags: number): Verdict {
    if (flow !== undefined && (flags & ACK) !== 0 && ownEnd(flow).stage !== WAITING) flows.remove();
    return 'forward';
  }

  /** The flow, also if this segment begins one. */
  function begun(
    known: Flow | undefined,
    bytes: Buffer,
    vlan: number,
    sequence: number,
    seconds: number,
  ): Flow | undefined {
    const { payload, end, whole } = packet;
    if (!whole) return known;
    if (isClientHello(bytes, payload, end)) {
      if (known !== undefined && (known.refused || !isAnew(known, ownEnd(known), sequence))) return known;
      const flow = begin(known ?? flows.insert(bytes, packet, vlan), TLS, bytes, sequence, 0, seconds);
      flow.fromLow = flows.low;
      return flow;
    }
    if (isServerHello(bytes, payload, end)) return answered(known, bytes, vlan, sequence, seconds);
    const line = versionLine(bytes, payload, end);
    if (line === 0) return known;
    if (known === undefined) return begin(flows.insert(bytes, packet, vlan), SSH, bytes, sequence, line, seconds);
    if (known.protocol === SSH && isAnswer(known, sequence)) follow(ownEnd(known), sequence, line);
    return known;
  }

  /** The flow behind a ServerHello. */
  function answered(
    known: Flow | undefined,
    bytes: Buffer,
    vlan: number,
    sequence: number,
    seconds: number,
  ): Flow | undefined {
    if (known === undefined) return refused(flows.insert(bytes, packet, vlan), seconds);
    if (known.protocol !== TLS || known.fromLow === flows.low) return isUncut(known) ? refused(known, seconds) : known;
    if (!isAnswer(known, sequence)) return known;
    follow(ownEnd(known), sequence, 0);
    if (!readServerHello(known, bytes, packet.payload, packet.end)) known.low.stage = known.high.stage = LOST;
    return known;
  }

  /** Who says a ServerHello before the server does may have it repeated by the server. */
  function refused(flow: Flow, seconds: number): Flow {
    resetFlow(flow, TLS, seconds);
    refuse(flow);
    return flow;
  }

  /** Whether it is the first that its sender says since the flow began: who only has it repeated by a peer says more. */
  function isAnswer(flow: Flow, sequence: number): boolean {
    const own = ownEnd(flow);
    return own.stage === WAITING && own.next === sequence;
  }

  function begin(flow: Flow, protocol: number, bytes: Buffer, sequence: number, left: number, seconds: number): Flow {
    resetFlow(flow, protocol, seconds);
    follow(ownEnd(flow), sequence, left);
    otherEnd(flow).next = int32(bytes, packet.transport + 8);
    return flow;
  }

  function follow(direction: Direction, sequence: number, left: number): void {
    direction.stage = FOLLOWING;
    direction.next = sequence;
    direction.left = left;
  }

  /** Whether the engine learns something of a segment without payload. */
  function isNews(
    flow: Flow,
    own: Direction,
    bytes: Buffer,
    flags: number,
    acknowledged: number,
    seconds: number,
  ): boolean {
    return (
      (flags & (FIN | RST | URG)) !== 0 ||
      (flags & ACK) === 0 ||
      !own.acknowledges ||
      ((acknowledged - own.acknowledged) | 0) > 0 ||
      // An engine may refuse what is beyond the window.
      uint16(bytes, packet.transport + 14) > 2 * own.window ||
      isSilent(flow, seconds) ||
      !hasPlainOptions(packet, bytes)
    );
  }

  function remember(own: Direction, bytes: Buffer, acknowledged: number): void {
    own.acknowledges = true;
    own.acknowledged = acknowledged;
    own.window = uint16(bytes, packet.transport + 14);
  }

  // --- UDP and ESP ---------------------------------------------------------------------------------------------------

  function datagram(bytes: Buffer, vlan: number, seconds: number): Verdict {
    const { transport, payload, end } = packet;
    if (packet.protocol === UDP && isNatEsp(bytes)) {
      packet.protocol = ESP;
      packet.payload += 8;
    }
    if (packet.protocol === UDP && !mayBeQuic(bytes, payload) && !mayBeWireguard(bytes, payload)) return 'forward';
    if (packet.protocol === UDP && transport + 8 + 16 > end) return 'forward';
    let flow = flows.find(bytes, packet, vlan);
    if (flow === undefined || isOver(flow, bytes, seconds)) {
      const protocol = startOf(bytes);
      if (protocol < 0) return 'forward';
      flow ??= flows.insert(bytes, packet, vlan);
      resetFlow(flow, protocol, seconds);
    }
    flow.seen = seconds;
    const own = ownEnd(flow);
    if (isBulk(flow, own, bytes) && !isSilent(flow, seconds)) return shunted(flow.protocol);
    flow.forwarded = seconds;
    return 'forward';
  }

  /** Whether a datagram between the same ports belongs to another flow. */
  function isOver(flow: Flow, bytes: Buffer, seconds: number): boolean {
    if (Math.abs((seconds - flow.seen) | 0) > DATAGRAM_IDLE_SECONDS) return true;
    if (!flow.refused || startOf(bytes) < 0) return false;
    const silence = Math.abs((seconds - flow.refusedAt) | 0);
    flow.refusedAt = seconds;
    return silence > REFUSED_SECONDS;
  }

  function isNatEsp(bytes: Buffer): boolean {
    const { transport, payload, end } = packet;
    if (uint16(bytes, transport) !== ESP_PORT && uint16(bytes, transport + 2) !== ESP_PORT) return false;
    // An SPI of zero marks IKE.
    return end - payload >= 8 && int32(bytes, payload) !== 0;
  }

  /** The protocol that a first packet begins; -1: none. */
  function startOf(bytes: Buffer): number {
    const { payload, end } = packet;
    if (packet.protocol === ESP) return IPSEC;
    if (isInitial(bytes, payload, end)) return QUIC;
    return isHandshake(bytes, payload, end) ? WIREGUARD : -1;
  }

  /** Whether a datagram is ciphertext, and enough of that was forwarded. */
  function isBulk(flow: Flow, own: Direction, bytes: Buffer): boolean {
    const { payload, end } = packet;
    if (own.stage === LOST || !isSecret(flow, own, bytes)) return false;
    const sample = flow.protocol === QUIC ? QUIC_SAMPLE : flow.protocol === IPSEC ? ESP_SAMPLE : WIREGUARD_SAMPLE;
    if (looksClear(own, bytes, payload + sample, end, AT_BEGINNING)) {
      own.stage = LOST;
      return false;
    }
    if (own.ciphertext >= firstBytes) return flow.protocol !== IPSEC || own.packets > ESP_PACKETS;
    countCiphertext(own, end - payload);
    return false;
  }

  function isSecret(flow: Flow, own: Direction, bytes: Buffer): boolean {
    const { payload, end } = packet;
    if (flow.protocol === QUIC) return isQuicData(flow, own, bytes, payload, end);
    if (flow.protocol === WIREGUARD) return isWireguardData(flow, own, bytes, payload, end);
    if (!isEspClear(own, bytes, payload, end)) return true;
    own.stage = LOST;
    return false;
  }

  // --- Both ----------------------------------------------------------------------------------------------------------

  /** The direction of the packet last looked up. */
  function ownEnd(flow: Flow): Direction {
    return flows.low ? flow.low : flow.high;
  }

  function otherEnd(flow: Flow): Direction {
    return flows.low ? flow.high : flow.low;
  }

  function isSilent(flow: Flow, seconds: number): boolean {
    return Math.abs((seconds - flow.forwarded) | 0) >= KEEP_SECONDS;
  }

  function shunted(protocol: number): Verdict {
    shunt.protocol = protocol;
    shunt.bytes = shunt.length;
    return 'shunted';
  }

  function trimmed(protocol: number, bytes: Buffer, end: number): Verdict {
    shunt.protocol = protocol;
    // With padding behind the packet, if there was any.
    shunt.bytes = shunt.length - (end - shunt.start);
    shorten(packet, bytes, end);
    shunt.captured = shunt.length = end - shunt.start;
    return 'trimmed';
  }

  return shunt;
}
