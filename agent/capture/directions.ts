/**
 * Which directions of an endpoint's traffic its interface shows: whether the endpoint is seen to send and to receive,
 * and, of one TCP flow at a time, whether both of its directions are seen.
 *
 * An eBPF data plane can hand packets to a pod past the host side of its veth. What shows it for certain is a flow of
 * which one end acknowledges more and more while no packet of the other end passes: what it acknowledges came another
 * way. A SYN without an answer, a retransmission to a peer that is gone, and UDP that nobody answers prove nothing, and
 * are not counted.
 *
 * Costs next to nothing: once a second's questions are answered, no frame is looked at until the next second. Without
 * the endpoint's addresses nothing is known.
 */
import { addressBytes } from '../endpoints/address.ts';
import { byteAt, uint16 } from './bytes.ts';
import { restOffset, type LinkType } from './frame/link.ts';
import type { Counters } from './protocol.ts';

export interface Directions {
  /** Whether there is anything to learn from the next frame. */
  curious: boolean;
  look(bytes: Buffer, frame: number, captured: number, link: LinkType): void;
  /** Once a second. */
  tick(): void;
}

interface Flow {
  sent: boolean;
  version: number;
  remote: Buffer;
  remotePort: number;
  ownPort: number;
  acknowledged: number;
  /** Ticks since it was chosen. */
  age: number;
}

/** Seconds after which a flow that proved nothing is given up for another. */
const MAX_AGE = 10;

const TCP = 6;
const [FIN, SYN, RST, ACK] = [0x01, 0x02, 0x04, 0x10];

type Counted = Pick<
  Counters,
  'sentSeconds' | 'receivedSeconds' | 'flowsBothWays' | 'flowsSentOnly' | 'flowsReceivedOnly'
>;

interface State {
  /** The endpoint's addresses. */
  readonly own: readonly Buffer[];
  /** Whether flows are looked at. */
  readonly flows: boolean;
  readonly counters: Counted;
  /** In this second: what was seen of the endpoint, and whether a flow said something. */
  sent: boolean;
  received: boolean;
  judged: boolean;
  flow: Flow | undefined;
}

/** @param flows Whether flows are looked at: with a filter, what is missing may have been filtered. */
export function watchDirections(
  addresses: readonly string[],
  flows: boolean,
  counters: Counted,
): Directions | undefined {
  const own = addresses.flatMap((address) => addressBytes(address) ?? []);
  if (own.length === 0) return undefined;
  const state: State = { own, flows, counters, sent: false, received: false, judged: !flows, flow: undefined };
  const directions: Directions = {
    curious: true,
    look(bytes, frame, captured, link) {
      look(state, bytes, frame, captured, link);
      directions.curious = !(state.sent && state.received && state.judged);
    },
    tick() {
      tick(state);
      directions.curious = true;
    },
  };
  return directions;
}

function tick(state: State): void {
  state.sent = state.received = false;
  state.judged = !state.flows;
  if (state.flow !== undefined && ++state.flow.age > MAX_AGE) state.flow = undefined;
}

function look(state: State, bytes: Buffer, frame: number, captured: number, link: LinkType): void {
  const start = frame + (link === 'ethernet' ? 14 : restOffset(bytes, frame, link));
  const end = frame + captured;
  if (end < start + 20) return;
  const version = byteAt(bytes, start) >>> 4;
  if (link === 'ethernet' && uint16(bytes, frame + 12) !== (version === 4 ? 0x0800 : 0x86dd)) return;
  const length = version === 4 ? 4 : 16;
  const source = start + (version === 4 ? 12 : 8);
  if ((version !== 4 && version !== 6) || end < source + 2 * length) return;
  const sends = isOwn(state.own, bytes, source, length);
  // What it says to itself, by its loopback, is neither.
  if (sends === isOwn(state.own, bytes, source + length, length)) return;
  note(state, sends);
  if (!state.judged) judge(state, bytes, end, start, version, sends);
}

function isOwn(own: readonly Buffer[], bytes: Buffer, at: number, length: number): boolean {
  for (const address of own) if (address.length === length && isAt(address, bytes, at)) return true;
  return false;
}

function note(state: State, sends: boolean): void {
  if (sends && !state.sent) {
    state.sent = true;
    state.counters.sentSeconds++;
  } else if (!sends && !state.received) {
    state.received = true;
    state.counters.receivedSeconds++;
  }
}

function judge(state: State, frame: Buffer, end: number, start: number, version: number, sends: boolean): void {
  const { flow, counters } = state;
  const isTcp = byteAt(frame, start + (version === 4 ? 9 : 6)) === TCP;
  // Behind the first fragment there is no header.
  if (!isTcp || (version === 4 && (uint16(frame, start + 6) & 0x1fff) !== 0)) return;
  const tcp = start + (version === 4 ? (byteAt(frame, start) & 0x0f) * 4 : 40);
  if (end < tcp + 20) return;
  const flags = byteAt(frame, tcp + 13);
  if ((flags & ACK) === 0) return;
  const acknowledged = frame.readUInt32BE(tcp + 8);
  const length = version === 4 ? 4 : 16;
  const remote = start + (version === 4 ? 12 : 8) + (sends ? length : 0);
  const remotePort = uint16(frame, tcp + (sends ? 2 : 0));
  const ownPort = uint16(frame, tcp + (sends ? 0 : 2));
  if (flow === undefined) {
    if ((flags & (FIN | SYN | RST)) !== 0) return;
    // The frame's buffer is used again.
    const address = Buffer.from(frame.subarray(remote, remote + length));
    state.flow = { sent: sends, version, remote: address, remotePort, ownPort, acknowledged, age: 0 };
    return;
  }
  if (flow.version !== version || flow.remotePort !== remotePort || flow.ownPort !== ownPort) return;
  if (!isAt(flow.remote, frame, remote)) return;
  if (flow.sent !== sends) counters.flowsBothWays++;
  // RFC 9293, 3.4: numbers wrap around.
  else if (((acknowledged - flow.acknowledged) | 0) <= 0 || (flags & RST) !== 0) return;
  else if (sends) counters.flowsSentOnly++;
  else counters.flowsReceivedOnly++;
  state.flow = undefined;
  state.judged = true;
}

function isAt(bytes: Buffer, frame: Buffer, at: number): boolean {
  for (let index = 0; index < bytes.length; index++) if (bytes[index] !== frame[at + index]) return false;
  return true;
}
