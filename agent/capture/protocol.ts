/** What the agent and its capture process say to each other over Node's IPC channel. */
import type { Keep, Tap } from '../endpoints/endpoint.ts';
import type { Posted } from './mailbox.ts';
import { SHUNT_PROTOCOLS } from './shunt/shunt.ts';
import type { Accepted, Handed } from './output.ts';
import type { PassedOn } from './record-owners.ts';

export type LibraryName = 'native' | 'node-pcap';
export type LibraryChoice = 'auto' | LibraryName;

/** Interfaces to capture on, with the VLAN id that marks their frames. */
export interface AttachSpec {
  id: string;
  /** At least one. Those of an endpoint that is attached are gone over to, without a gap and without counting twice. */
  taps: readonly Tap[];
  /** 1..4094 */
  vlan: number;
  /** The workload's own, where known: they tell what it sends from what it receives. */
  addresses?: readonly string[];
  /** How much of its packets is kept for alerts; by default all. */
  keep?: Keep;
}

export interface CaptureSettings {
  library: LibraryChoice;
  /** Bytes of a frame that are captured, 65,535..262,144. */
  snaplen: number;
  /** Bytes of an endpoint's kernel ring at first. */
  ringSize: number;
  /** Bytes up to which a ring that dropped packets grows. */
  maxRingSize: number;
  /** Milliseconds after which the kernel hands over a block that is not full. */
  timeoutMillis: number;
  /** BPF expression, empty for all packets. */
  filter: string;
  /** Bytes of memory that packets go through on their way to the engine. */
  queueSize: number;
  promiscuous: boolean;
  /** Whether encrypted bulk is kept from the engine. */
  shunt: boolean;
  /** Bytes of it, of each flow and direction, that the engine gets all the same. */
  shuntAfter: number;
  /** Bytes of memory for the latest packets, which alerts show; 0: none are kept. */
  recentBytes: number;
  /** Bytes a second of each endpoint's large packets that are kept whole there; of more of them, the beginnings. */
  recentRate: number;
}

/** The ends of a flow, in either order. */
export interface FlowEnds {
  source: string;
  destination: string;
  /** -1: the protocol has no ports. */
  sourcePort: number;
  destinationPort: number;
  /** The number in the header of IP; -1: any. */
  protocol: number;
}

/** Asks for the packets of a flow. */
export interface PacketQuery {
  query: number;
  /** Of the endpoint. */
  vlan: number;
  flow: FlowEnds;
  /** Of the packet that alerted, in microseconds since the epoch. */
  time: number;
  /** How long those that come are waited for. */
  afterMillis: number;
  /** At most so many, and so many captured bytes of them. */
  packets: number;
  bytes: number;
}

/** Some of a flow's packets, in order, of a link type: see packet-block.ts, and mailbox.ts for where they may be. */
export interface PacketBlocks {
  link: number;
  blocks: Uint8Array | Posted;
}

/**
 * Why no more packets of a flow come: its connection ended, the time or the bounds were reached, too many flows are
 * asked for, none can be found, or the process ends.
 */
export type PacketsEnd = 'flow' | 'time' | 'limit' | 'busy' | 'none' | 'stopped';

type ShuntProtocol = (typeof SHUNT_PROTOCOLS)[number];
/** Packets of which something was kept from the engine because it is encrypted, and those bytes. */
type ShuntCounters = Record<`${ShuntProtocol}Packets` | `${ShuntProtocol}Bytes`, number>;

/**
 * Packets of one endpoint since it was attached. `received` = `forwarded` + `shunted` + `unsupported` + what was
 * dropped but by the interface + what lies in the kernel's ring.
 */
export interface Counters extends ShuntCounters {
  received: number;
  receivedBytes: number;
  /** Handed to the engine's FIFO, or waiting in the bounded queue before it. */
  forwarded: number;
  forwardedBytes: number;
  /** Longer than the snaplen; forwarded all the same. */
  truncated: number;
  /** Kept from the engine whole: nobody can inspect them. */
  shunted: number;
  /** Lost: the kernel's ring was full. */
  droppedKernel: number;
  /** Lost before the ring, as the interface's driver counts them. Not part of `received`. */
  droppedInterface: number;
  /** Lost: the ring was full while the engine did not read fast enough. */
  droppedQueue: number;
  /** Lost: no engine was reading, or it ended before it had read them. */
  droppedEngineDown: number;
  /** Lost: in the ring when its interface vanished. */
  droppedDetached: number;
  /** Lost: with a capture process that died, or while none had the interface open. */
  droppedCaptureDied: number;
  /** Not inspected: a link type or frame that neither engine reads. */
  unsupported: number;
  /** Seconds in which the endpoint was seen to send, and to receive. */
  sentSeconds: number;
  receivedSeconds: number;
  /** Of the TCP flows that were looked at, one a second at most: both directions were seen, or one of both. */
  flowsBothWays: number;
  flowsSentOnly: number;
  flowsReceivedOnly: number;
}

export const COUNTER_NAMES = [
  'received',
  'receivedBytes',
  'forwarded',
  'forwardedBytes',
  'truncated',
  'shunted',
  'droppedKernel',
  'droppedInterface',
  'droppedQueue',
  'droppedEngineDown',
  'droppedDetached',
  'droppedCaptureDied',
  'unsupported',
  'sentSeconds',
  'receivedSeconds',
  'flowsBothWays',
  'flowsSentOnly',
  'flowsReceivedOnly',
  ...SHUNT_PROTOCOLS.flatMap((protocol) => [`${protocol}Packets`, `${protocol}Bytes`] as const),
] as const satisfies readonly (keyof Counters)[];

export function zeroCounters(): Counters {
  return Object.fromEntries(COUNTER_NAMES.map((name) => [name, 0])) as unknown as Counters;
}

const LOST = ['droppedKernel', 'droppedQueue', 'droppedEngineDown', 'droppedDetached', 'droppedCaptureDied'] as const;

/** Packets that were received and lost, whatever the cause. */
export function lostOf(counters: Counters): number {
  return LOST.reduce((sum, name) => sum + counters[name], 0);
}

/** Packets of several endpoints. */
export function receivedOf(counters: Iterable<Counters>): number {
  return [...counters].reduce((sum, { received }) => sum + received, 0);
}

/** Packets that were received, and that nothing has become of yet: they lie in the kernel's ring. */
export function inRingOf(counters: Counters): number {
  const { received, forwarded, shunted, unsupported } = counters;
  return received - forwarded - shunted - unsupported - lostOf(counters);
}

/** What was kept from the engine because it is encrypted, by protocol; those of which there was any. */
export function shuntedOf(counters: Counters): { protocol: string; packets: number; bytes: number }[] {
  return SHUNT_PROTOCOLS.map((protocol) => ({
    protocol,
    packets: counters[`${protocol}Packets`],
    bytes: counters[`${protocol}Bytes`],
  })).filter(({ packets }) => packets > 0);
}

/** What was kept from the engine in all: bytes, and their part of what was read, 0 to 1. */
export function encryptedOf(counters: Counters): { bytes: number; share: number } {
  const bytes = shuntedOf(counters).reduce((sum, shunted) => sum + shunted.bytes, 0);
  return { bytes, share: bytes === 0 ? 0 : Math.min(1, bytes / Math.max(1, counters.receivedBytes)) };
}

/** Adds `more` to `sum`, in place. */
export function addCounters(sum: Counters, more: Counters): Counters {
  for (const name of COUNTER_NAMES) sum[name] += more[name];
  return sum;
}

export type ToCapture =
  | { type: 'attach'; spec: AttachSpec }
  | { type: 'detach'; id: string }
  /**
   * Writes to this FIFO from now on; without a path, frames are dropped and counted as `droppedEngineDown`. `behind`:
   * another process has begun it.
   */
  | { type: 'output'; path: string | undefined; behind?: boolean }
  /** Writes a frame of the agent's own with this payload. */
  | { type: 'inject'; number: number; payload: string }
  /** Asks for the endpoints of records of this FIFO, by their numbers among those of this process, from 1. */
  | { type: 'whose'; query: number; path: string; records: number[] }
  | ({ type: 'ask-packets' } & PacketQuery)
  /** Writes all that is there, says so, and ends: another process goes on. */
  | { type: 'hand-over' }
  | { type: 'stop' };

/**
 * What the kernel has counted at an endpoint's interface, sent and received, and what was captured of it by this
 * process, at nearly the same moment.
 */
export interface Seen {
  /** Of the interface. */
  name: string;
  ifindex: number;
  /** Packets. */
  interface: number;
  captured: number;
  /** How often the process has opened it: what came between two of them it has not seen. */
  openings: number;
}

export interface Report {
  counters: Record<string, Counters>;
  /** By endpoint, where it can be told. */
  seen: Record<string, Seen>;
  /** Absent while no FIFO is open. */
  handed?: Handed;
}

export interface SomePackets {
  type: 'packets';
  query: number;
}

/** There are no more than these. */
export interface LastPackets {
  type: 'packets-end';
  query: number;
  by: PacketsEnd;
  /** The flow has more than was asked for. */
  skipped: boolean;
  /** Of what the endpoint had before, something was overwritten. */
  lost: boolean;
}

export type FromCapture =
  /** The process runs. `instead`: why it is not the library that `auto` takes first. */
  | { type: 'started'; library: LibraryName; instead?: string }
  /** It can't, and ends. */
  | { type: 'failed'; reason: string }
  | { type: 'attached'; id: string; linkType: string; ifindex: number }
  /** Nothing to capture on at present; it is tried again until detached. */
  | { type: 'waiting'; id: string; reason: string }
  /** `seen`: when it was to be detached. */
  | { type: 'detached'; id: string; counters: Counters; seen?: Seen; deadRings: number }
  | { type: 'output-open'; path: string }
  /** The engine closed its end of the FIFO, or it could not be opened. */
  | { type: 'output-closed'; path: string; reason: string }
  /** What became of an `inject`. */
  | { type: 'injected'; number: number; accepted: Accepted }
  /** `deadRings`: bytes that only the end of this process will free. */
  | ({ type: 'stats'; deadRings: number } & Report)
  /** The endpoints' VLAN ids, in the order of the question; 0: not known. */
  | { type: 'owned'; query: number; vlans: number[] }
  | (SomePackets & PacketBlocks)
  | (LastPackets & Partial<PacketBlocks>)
  /** Before the end: whose the records were. */
  | ({ type: 'passed-on' } & PassedOn)
  | ({ type: 'handed-over' } & Report)
  | { type: 'log'; level: 'info' | 'warn'; id: string; message: string };
