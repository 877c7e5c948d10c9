/**
 * Segments of TCP: TLS and SSH. A connection is followed from the first message of its handshake on.
 *
 * Once bytes were taken out of a connection, what both ends say is in the engine's numbers from then on.
 */
import { byteAt, int32, putInt32, uint16 } from '../bytes.ts';
import { FOLLOWING, isUncut, LOST, refuse, resetFlow, SSH, TLS, WAITING, type Direction, type Flow } from './flow.ts';
import { findFlow, insertFlow, otherEnd, ownEnd, removeFlow, type FlowTable } from './flows.ts';
import { ACK, blankSack, FIN, hasPlainOptions, RST, SYN, URG, type Packet } from './packet.ts';
import { mapped } from './ranges.ts';
import { versionLine } from './ssh.ts';
import { isSilent, shunted, trimmed, type State, type Verdict } from './state.ts';
import { reduce } from './stream.ts';
import { isAnew, isClientHello, isServerHello, readServerHello } from './tls.ts';

export function judgeSegment(state: State, bytes: Buffer): Verdict {
  const { flows, packet } = state;
  const { transport } = packet;
  const flags = byteAt(bytes, transport + 13);
  const sequence = int32(bytes, transport + 4);
  const known = findFlow(flows, bytes, packet, state.vlan);
  if ((flags & SYN) !== 0) return judgeOpening(flows, known, flags);
  const flow = packet.payload < packet.end ? flowOf(state, known, bytes, sequence) : known;
  if (flow === undefined) return 'forward';
  const own = ownEnd(flows, flow);
  const other = otherEnd(flows, flow);
  const isFollowed = packet.payloadLength > 0 || (flags & FIN) !== 0;
  const end = isFollowed ? reduce(state.follower, flow, own, bytes, packet, sequence, flags) : packet.end;
  const acknowledged = mapped(other, int32(bytes, transport + 8));
  const isEmpty = end === packet.payload && packet.whole;
  const isChanged = !isUncut(flow);
  if (isChanged && isEmpty && !isNews(state, flow, own, bytes, flags, acknowledged))
    return shunted(state, flow.protocol);
  flow.forwarded = state.seconds;
  if ((flags & ACK) !== 0) remember(own, packet, bytes, acknowledged);
  if (!isChanged) return 'forward';
  putInt32(bytes, transport + 4, mapped(own, sequence));
  if ((flags & ACK) !== 0) putInt32(bytes, transport + 8, acknowledged);
  blankSack(packet, bytes);
  return end === packet.end ? 'forward' : trimmed(state, flow.protocol, bytes, end);
}

/** A SYN alone may be no more than an attempt; its answer begins a connection, unless that is known already. */
function judgeOpening(flows: FlowTable, flow: Flow | undefined, flags: number): Verdict {
  if (flow !== undefined && (flags & ACK) !== 0 && ownEnd(flows, flow).stage !== WAITING) removeFlow(flows);
  return 'forward';
}

/** The flow, also if this segment begins one. */
function flowOf(state: State, known: Flow | undefined, bytes: Buffer, sequence: number): Flow | undefined {
  const { payload, end, whole } = state.packet;
  if (!whole) return known;
  if (isClientHello(bytes, payload, end)) return onClientHello(state, known, bytes, sequence);
  if (isServerHello(bytes, payload, end)) return onServerHello(state, known, bytes, sequence);
  const line = versionLine(bytes, payload, end);
  return line === 0 ? known : onVersionLine(state, known, bytes, sequence, line);
}

/** The flow behind a ClientHello. */
function onClientHello(state: State, known: Flow | undefined, bytes: Buffer, sequence: number): Flow {
  const { flows, packet, vlan } = state;
  if (known !== undefined && (known.refused || !isAnew(known, ownEnd(flows, known), sequence))) return known;
  const flow = known ?? insertFlow(flows, bytes, packet, vlan);
  begin(state, flow, TLS, bytes, sequence, 0);
  flow.fromLow = flows.low;
  return flow;
}

/** The flow behind a ServerHello. */
function onServerHello(
  { flows, packet, vlan, seconds }: State,
  known: Flow | undefined,
  bytes: Buffer,
  sequence: number,
): Flow {
  if (known === undefined) return refuseConnection(insertFlow(flows, bytes, packet, vlan), seconds);
  if (known.protocol !== TLS || known.fromLow === flows.low)
    return isUncut(known) ? refuseConnection(known, seconds) : known;
  if (!isAnswer(flows, known, sequence)) return known;
  follow(ownEnd(flows, known), sequence, 0);
  if (!readServerHello(known, bytes, packet.payload, packet.end)) known.low.stage = known.high.stage = LOST;
  return known;
}

/** The flow behind the version line of SSH, which has so many bytes. */
function onVersionLine(state: State, known: Flow | undefined, bytes: Buffer, sequence: number, line: number): Flow {
  const { flows, packet, vlan } = state;
  if (known === undefined) return begin(state, insertFlow(flows, bytes, packet, vlan), SSH, bytes, sequence, line);
  if (known.protocol === SSH && isAnswer(flows, known, sequence)) follow(ownEnd(flows, known), sequence, line);
  return known;
}

/** Who says a ServerHello before the server does may have it repeated by the server. */
function refuseConnection(flow: Flow, seconds: number): Flow {
  resetFlow(flow, TLS, seconds);
  refuse(flow);
  return flow;
}

/** Whether it is the first that its sender says since the flow began: who only has it repeated by a peer says more. */
function isAnswer(flows: FlowTable, flow: Flow, sequence: number): boolean {
  const own = ownEnd(flows, flow);
  return own.stage === WAITING && own.next === sequence;
}

function begin(
  { flows, packet, seconds }: State,
  flow: Flow,
  protocol: number,
  bytes: Buffer,
  sequence: number,
  left: number,
): Flow {
  resetFlow(flow, protocol, seconds);
  follow(ownEnd(flows, flow), sequence, left);
  otherEnd(flows, flow).next = int32(bytes, packet.transport + 8);
  return flow;
}

function follow(direction: Direction, sequence: number, left: number): void {
  direction.stage = FOLLOWING;
  direction.next = sequence;
  direction.left = left;
}

/** Whether the engine learns something of a segment without payload. */
function isNews(state: State, flow: Flow, own: Direction, bytes: Buffer, flags: number, acknowledged: number): boolean {
  const { packet } = state;
  return (
    (flags & (FIN | RST | URG)) !== 0 ||
    (flags & ACK) === 0 ||
    !own.acknowledges ||
    ((acknowledged - own.acknowledged) | 0) > 0 ||
    // An engine may refuse what is beyond the window.
    uint16(bytes, packet.transport + 14) > 2 * own.window ||
    isSilent(state, flow) ||
    !hasPlainOptions(packet, bytes)
  );
}

function remember(own: Direction, packet: Packet, bytes: Buffer, acknowledged: number): void {
  own.acknowledges = true;
  own.acknowledged = acknowledged;
  own.window = uint16(bytes, packet.transport + 14);
}
