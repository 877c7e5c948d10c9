/** What looks at packets share, and their answer. None of it is made for a packet. */
import type { Flow } from './flow.ts';
import type { FlowTable } from './flows.ts';
import { shorten, type Packet } from './packet.ts';
import type { Follower } from './stream.ts';

/** Snort forgets a flow after 180 s, Suricata one of UDP after 30 to 300 s. */
const KEEP_SECONDS = 20;

export type Verdict = 'forward' | 'trimmed' | 'shunted';

export interface Answer {
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
}

export interface State {
  /** Bytes of ciphertext of each direction that the engine still gets: 0..MAX_FIRST_BYTES. */
  readonly firstBytes: number;
  readonly flows: FlowTable;
  readonly follower: Follower;
  /** What is looked at: its headers, its endpoint's VLAN id, and when it was captured, as a signed integer. */
  readonly packet: Packet;
  vlan: number;
  seconds: number;
  readonly answer: Answer;
}

/** Whether the engine has got nothing of a flow for so long that it may forget it. */
export function isSilent({ seconds }: State, flow: Flow): boolean {
  return Math.abs((seconds - flow.forwarded) | 0) >= KEEP_SECONDS;
}

export function shunted({ answer }: State, protocol: number): Verdict {
  answer.protocol = protocol;
  answer.bytes = answer.length;
  return 'shunted';
}

/** The packet ends at `end` now. */
export function trimmed({ answer, packet }: State, protocol: number, bytes: Buffer, end: number): Verdict {
  answer.protocol = protocol;
  // With padding behind the packet, if there was any.
  answer.bytes = answer.length - (end - answer.start);
  shorten(packet, bytes, end);
  answer.captured = answer.length = end - answer.start;
  return 'trimmed';
}
