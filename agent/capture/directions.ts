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

/** @param flows Whether flows are looked at: with a filter, what is missing may have been filtered. */
export function watchDirections(
  addresses: readonly string[],
  flows: boolean,
  counters: Counted,
): Directions | undefined {
  const own = addresses.flatMap((address) => addressBytes(address) ?? []);
  if (own.length === 0) return undefined;
  let sent = false;
  let received = false;
  let judged = !flows;
  let flow: Flow | undefined;

  const directions: Directions = {
    curious: true,
    look(bytes, frame, captured, link) {
      const start = frame + (link === 'ethernet' ? 14 : restOffset(bytes, frame, link));
      const end = frame + captured;
      if (end < start + 20) return;
      const version = byteAt(bytes, start) >>> 4;
      if (link === 'ethernet' && uint16(bytes, frame + 12) !== (version === 4 ? 0x0800 : 0x86dd)) return;
      const length = version === 4 ? 4 : 16;
      const source = start + (version === 4 ? 12 : 8);
      if ((version !== 4 && version !== 6) || end < source + 2 * length) return;
      const sends = isOwn(bytes, source, length);
      // What it says to itself, by its loopback, is neither.
      if (sends === isOwn(bytes, source + length, length)) return;
      if (sends && !sent) {
        sent = true;
        counters.sentSeconds++;
      } else if (!sends && !received) {
        received = true;
        counters.receivedSeconds++;
      }
      if (!judged) judge(bytes, end, start, version, sends);
      directions.curious = !(sent && received && judged);
    },
    tick() {
      sent = received = false;
      judged = !flows;
      directions.curious = true;
      if (flow !== undefined && ++flow.age > MAX_AGE) flow = undefined;
    },
  };

  function isOwn(bytes: Buffer, at: number, length: number): boolean {
    for (const address of own) if (address.length === length && isAt(address, bytes, at)) return true;
    return false;
  }

  function judge(frame: Buffer, end: number, start: number, version: number, sends: boolean): void {
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
      flow = { sent: sends, version, remote: address, remotePort, ownPort, acknowledged, age: 0 };
      return;
    }
    if (flow.version !== version || flow.remotePort !== remotePort || flow.ownPort !== ownPort) return;
    if (!isAt(flow.remote, frame, remote)) return;
    if (flow.sent !== sends) counters.flowsBothWays++;
    // RFC 9293, 3.4: numbers wrap around.
    else if (((acknowledged - flow.acknowledged) | 0) <= 0 || (flags & RST) !== 0) return;
    else if (sends) counters.flowsSentOnly++;
    else counters.flowsReceivedOnly++;
    flow = undefined;
    judged = true;
  }

  return directions;
}

function isAt(bytes: Buffer, frame: Buffer, at: number): boolean {
  for (let index = 0; index < bytes.length; index++) if (bytes[index] !== frame[at + index]) return false;
  return true;
}

function byteAt(frame: Buffer, offset: number): number {
  return frame[offset] ?? 0;
}

function uint16(frame: Buffer, offset: number): number {
  return (byteAt(frame, offset) << 8) | byteAt(frame, offset + 1);
}
