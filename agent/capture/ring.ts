/**
 * What a packet source is: rings of packets on interfaces, read in turns. `native` is ours, `node-pcap` the other
 * choice; library.ts chooses, and nothing else knows which of them is in use.
 */
import type { LibraryName } from './protocol.ts';

export interface OpenOptions {
  interface: string;
  /** Path of the network namespace of the interface; undefined: this process's own. */
  netns: string | undefined;
  /** Bytes of its ring. */
  size: number;
  /** How long the kernel may hold packets back to give them together. */
  timeoutMillis: number;
  /**
   * A ring on the same interface that this one takes the place of: each packet is in one of the two, in this one the
   * later ones.
   */
  before?: Ring;
}

export interface Statistics {
  /** Packets that were captured, those of them that were lost before `fill` gave them, and those that it gave. */
  received: number;
  dropped: number;
  delivered: number;
}

export interface Ring {
  /** A number of https://www.tcpdump.org/linktypes.html or a DLT. */
  readonly link: number;
  readonly ifindex: number;
  readonly size: number;
  /** How often the interface was opened for it: what came between two of them is in no statistics. */
  readonly openings: number;
  /** It has packets, or has failed. */
  readonly ready: boolean;
  /** Whether the last `fill` took all that there was, and whether the interface failed then. */
  readonly empty: boolean;
  readonly failed: boolean;
  /**
   * Puts packets into the arena in [from, to), each as a pcap record with `room` bytes before the frame, up to so many.
   * @returns where they end.
   */
  fill(arena: Buffer, from: number, to: number, packets: number, room: number): number;
  /** Asks to be woken when there is more. To be called when it is empty. */
  rearm(): void;
  /** Of now; the same object each time. */
  statistics(): Statistics;
  /** It gets no further packet, and counts none; what it has can be read. */
  mute(): void;
  close(): Promise<unknown>;
}

export interface Library {
  readonly name: LibraryName;
  /** Whether it can open a ring in place of another one, and in other network namespaces. */
  readonly replaces: boolean;
  readonly entersNamespaces: boolean;
  /** @throws Error that says why not. */
  open(options: OpenOptions): Promise<Ring>;
  /** Bytes of rings that were closed and that only the end of this process releases. */
  deadRings(): number;
}

/** What is the same for all rings of a process. */
export interface LibraryOptions {
  snaplen: number;
  promiscuous: boolean;
  filter: string;
  /** Called when a ring has become ready. */
  ready: () => void;
}

/**
 * On lo each packet passes twice, and libpcap leaves out one of them, which the kernel has counted all the same.
 * https://github.com/the-tcpdump-group/libpcap/blob/master/pcap-linux.c
 */
export function filterOn(name: string, filter: string): string {
  if (name !== 'lo') return filter;
  return filter === '' ? 'inbound' : `inbound and (${filter})`;
}
