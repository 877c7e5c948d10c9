/** A capture file while its bytes come: what is known of it by now, and what all parts of reading it do. */
import type { Clock, Time } from './time.ts';

/** The most bytes of one packet, as in libpcap. A record that claims more is damage. */
export const MAX_CAPTURED_BYTES = 262_144;
const MAX_DAMAGES = 100;
/** What a file has where its end was not written: after a crash, or of a full disk. */
export const ZEROS = 'zeros: the rest was not written';

/**
 * Takes one packet. `buffer` from `start` on has its `caplen` bytes, until the callback returns.
 * `seconds` is 0..2^32-1 (times outside are clamped), `micros` 0..999999; both are 0 in pcapng's simple blocks.
 * `originalLength` is at least `caplen`.
 */
export type OnPacket = (
  seconds: number,
  micros: number,
  caplen: number,
  originalLength: number,
  linkType: number,
  buffer: Buffer,
  start: number,
) => void;

export interface Damage {
  /** Of the damaged record or block, in bytes from the file's start. */
  offset: number;
  reason: string;
}

export type PcapOutcome =
  | {
      kind: 'read';
      format: 'pcap' | 'pcapng';
      packets: number;
      /** The first 100. */
      damages: Damage[];
      damageCount: number;
    }
  /** A compressed capture file, perhaps: decompress it and parse that. */
  | { kind: 'gzip' }
  | { kind: 'not-pcap'; reason: string };

/** One interface of a pcapng section. */
export interface Interface extends Clock {
  linkType: number;
  /** 0: no limit. */
  snaplen: number;
}

/** What the next bytes are. `block-end`: the repeated length behind a block that was passed over. */
export type Stage = 'magic' | 'file-header' | 'record' | 'block' | 'block-end' | 'stopped';

export interface Parsing {
  readonly onPacket: OnPacket;
  stage: Stage;
  format: 'pcap' | 'pcapng';
  refusal: PcapOutcome | undefined;
  bigEndian: boolean;
  packets: number;
  readonly damages: Damage[];
  damageCount: number;
  /** Where in the file the item at hand begins: all before it is done with. */
  fileOffset: number;
  /** Bytes of that item that must be there, as far as is known. */
  needed: number;
  /** Bytes to pass over first. */
  skip: number;
  /** Of the packet at hand: one object for all, for a call with two results would make one each time. */
  readonly time: Time;
  /** What the header of a classic pcap says. */
  readonly classic: { magic: number; nanoseconds: boolean; recordHeader: number; linkType: number };
  /** pcapng. A place in `interfaces` is empty when its description was damaged. */
  readonly blocks: { sections: number; interfaces: (Interface | undefined)[]; length: number; offset: number };
}

export function newParsing(onPacket: OnPacket): Parsing {
  return {
    onPacket,
    stage: 'magic',
    format: 'pcap',
    refusal: undefined,
    bigEndian: false,
    packets: 0,
    damages: [],
    damageCount: 0,
    fileOffset: 0,
    needed: 4,
    skip: 0,
    time: { seconds: 0, micros: 0 },
    classic: { magic: 0, nanoseconds: false, recordHeader: 16, linkType: 0 },
    blocks: { sections: 0, interfaces: [], length: 0, offset: 0 },
  };
}

export function uint16({ bigEndian }: Parsing, buffer: Buffer, at: number): number {
  return bigEndian ? buffer.readUInt16BE(at) : buffer.readUInt16LE(at);
}

export function uint32({ bigEndian }: Parsing, buffer: Buffer, at: number): number {
  return bigEndian ? buffer.readUInt32BE(at) : buffer.readUInt32LE(at);
}

export function expect(parsing: Parsing, next: Stage, bytes: number): void {
  parsing.stage = next;
  parsing.needed = bytes;
}

/** Hands out the packet at hand, with the time that is set. */
export function deliver(
  parsing: Parsing,
  caplen: number,
  originalLength: number,
  linkType: number,
  buffer: Buffer,
  start: number,
): void {
  const { seconds, micros } = parsing.time;
  parsing.packets++;
  parsing.onPacket(seconds, micros, caplen, Math.max(caplen, originalLength), linkType, buffer, start);
}

export function damage(parsing: Parsing, offset: number, reason: string): void {
  parsing.damageCount++;
  if (parsing.damages.length < MAX_DAMAGES) parsing.damages.push({ offset, reason });
}

/** Nothing behind this damage can be read. */
export function stop(parsing: Parsing, offset: number, reason: string): 0 {
  damage(parsing, offset, reason);
  parsing.stage = 'stopped';
  return 0;
}

/** The file is no capture file that is read here. */
export function refuse(parsing: Parsing, outcome: PcapOutcome): 0 {
  parsing.refusal = outcome;
  parsing.stage = 'stopped';
  return 0;
}
