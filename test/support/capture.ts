/** Parts of the capture for tests: an output whose FIFO is a list, and frames as a source puts them into the arena. */
import { createArena } from '../../agent/capture/arena.ts';
import { RECORD_HEADER, writeRecordHeader } from '../../agent/capture/record.ts';
import type { Output } from '../../agent/capture/output.ts';
import type { CaptureSettings } from '../../agent/capture/protocol.ts';

/** Small rings, nothing kept from the engine. */
export const CAPTURE_SETTINGS: CaptureSettings = {
  library: 'auto',
  snaplen: 65_535,
  ringSize: 1 << 19,
  maxRingSize: 1 << 19,
  timeoutMillis: 1,
  filter: '',
  queueSize: 1 << 22,
  promiscuous: false,
  shunt: false,
  shuntAfter: 0,
  recentBytes: 0,
  recentRate: 0,
};

export interface FakeOutput extends Output {
  isOpen: boolean;
  blocked: boolean;
  /** Records that were added with each piece. */
  readonly added: number[];
  /** Takes all that waits, as an engine that reads at once. */
  read(): Buffer;
}

export function createFakeOutput(bytes: number): FakeOutput {
  const arena = createArena(Buffer.alloc(bytes, 0xee));
  const added: number[] = [];
  return {
    arena,
    added,
    isOpen: true,
    blocked: false,
    open: () => undefined,
    empty: () => Promise.resolve(true),
    close: () => Promise.resolve(),
    add(from, to, records) {
      added.push(records);
      arena.commit(from, to);
    },
    flush: () => undefined,
    handed: () => undefined,
    ownerOf: () => undefined,
    owners: () => undefined,
    read() {
      const pieces: Buffer[] = [];
      while (arena.waiting > 0) {
        arena.consume((from, to) => {
          pieces.push(Buffer.from(arena.bytes.subarray(from, to)));
          return to - from;
        });
      }
      arena.release(arena.consumed);
      return Buffer.concat(pieces);
    },
  };
}

export interface Packet {
  seconds: number;
  micros: number;
  frame: Buffer;
  /** On the wire. */
  length: number;
}

/** Writes a record as a source does, with `room` bytes before the frame. @returns where it ends. */
export function putRecord(
  target: Buffer,
  at: number,
  room: number,
  { seconds, micros, frame, length }: Packet,
): number {
  const view = new DataView(target.buffer, target.byteOffset, target.length);
  writeRecordHeader(view, at, seconds, micros, frame.length, length);
  frame.copy(target, at + RECORD_HEADER + room);
  return at + RECORD_HEADER + room + frame.length;
}
