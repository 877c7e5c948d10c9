/** What the agent and its capture process say to each other over Node's IPC channel. */
import type { Cut } from './handover.ts';
import type { Accepted, Handed } from './output.ts';

/** An interface to capture on, with the VLAN id that marks its frames. */
export interface AttachSpec {
  id: string;
  interface: string;
  /** 1..4094 */
  vlan: number;
  /** The workload's own, where known: they tell what it sends from what it receives. */
  addresses?: readonly string[];
  /** Bytes of its ring at first, where it had to grow before; `CaptureSettings.ringSize` without. */
  ringSize?: number;
}

export interface CaptureSettings {
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
  /** Bytes held for an engine that does not read fast enough; beyond them frames are dropped and counted. */
  queueSize: number;
  promiscuous: boolean;
}

/**
 * Packets of one endpoint since it was attached. `received` = `forwarded` + `unsupported` + what was dropped but by the interface
 * + what lies in the kernel's ring.
 */
export interface Counters {
  received: number;
  receivedBytes: number;
  /** Handed to the engine's FIFO, or waiting in the bounded queue before it. */
  forwarded: number;
  forwardedBytes: number;
  /** Longer than the snaplen; forwarded all the same. */
  truncated: number;
  /** Lost: the kernel's ring was full. */
  droppedKernel: number;
  /** Lost before the ring, as the interface's driver counts them. Not part of `received`. */
  droppedInterface: number;
  /** Lost: the engine did not read fast enough and the queue was full. */
  droppedQueue: number;
  /** Lost: no engine was reading. */
  droppedEngineDown: number;
  /** Lost: in the ring when its interface vanished. */
  droppedDetached: number;
  /** Not inspected: a link type or frame that neither engine reads. */
  unsupported: number;
  /** Seconds in which the endpoint was seen to send, and to receive. */
  sentSeconds: number;
  receivedSeconds: number;
  /** Of the TCP flows that were looked at, at most one a second: both directions were seen, or only one though there were both. */
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
  'droppedKernel',
  'droppedInterface',
  'droppedQueue',
  'droppedEngineDown',
  'droppedDetached',
  'unsupported',
  'sentSeconds',
  'receivedSeconds',
  'flowsBothWays',
  'flowsSentOnly',
  'flowsReceivedOnly',
] as const satisfies readonly (keyof Counters)[];

export function zeroCounters(): Counters {
  return Object.fromEntries(COUNTER_NAMES.map((name) => [name, 0])) as unknown as Counters;
}

const LOST = ['droppedKernel', 'droppedQueue', 'droppedEngineDown', 'droppedDetached'] as const;

/** Packets that were received and lost, whatever the cause. */
export function lostOf(counters: Counters): number {
  return LOST.reduce((sum, name) => sum + counters[name], 0);
}

/** Adds `more` to `sum`, in place. */
export function addCounters(sum: Counters, more: Counters): Counters {
  for (const name of COUNTER_NAMES) sum[name] += more[name];
  return sum;
}

export type ToCapture =
  | { type: 'attach'; spec: AttachSpec }
  | { type: 'detach'; id: string }
  /** Writes to this FIFO from now on; without a path, frames are dropped and counted as `droppedEngineDown`. */
  | { type: 'output'; path: string | undefined }
  /** Writes a frame of the agent's own with this payload. */
  | { type: 'inject'; number: number; payload: string }
  /** To a process that was started `behind` another one: holds what it reads, and opens the FIFO, if any, in the middle of its stream. */
  | { type: 'take-over'; path: string | undefined }
  /** Reads and writes all that is there, says so, and ends: another process goes on. */
  | { type: 'hand-over' }
  /** Goes on behind these cuts, by endpoint. */
  | { type: 'resume'; cuts: Record<string, Cut> }
  | { type: 'stop' };

export type FromCapture =
  | { type: 'attached'; id: string; linkType: string; ifindex: number }
  /** Nothing to capture on at present; it is tried again until detached. */
  | { type: 'waiting'; id: string; reason: string }
  | { type: 'detached'; id: string; counters: Counters; deadRings: number }
  | { type: 'ring'; id: string; bytes: number }
  | { type: 'output-open'; path: string }
  /** The engine closed its end of the FIFO, or it could not be opened. */
  | { type: 'output-closed'; path: string; reason: string }
  /** What became of an `inject`. */
  | { type: 'injected'; number: number; accepted: Accepted }
  /** `handed`: absent while no FIFO is open. `deadRings`: bytes that perhaps only the end of this process will free. */
  | { type: 'stats'; counters: Record<string, Counters>; handed?: Handed; deadRings: number }
  /** To `take-over`. */
  | { type: 'holding' }
  | { type: 'handed-over'; counters: Record<string, Counters>; handed?: Handed; cuts: Record<string, Cut> }
  | { type: 'warning'; message: string };
