/**
 * Reads capture files as a stream of bytes: classic pcap and pcapng.
 *
 * Packets go to a callback, not to an async generator: a call costs nothing, and the caller bounds what one call of
 * `push` may deliver by the size of its chunks.
 *
 * Invariants: nothing throws on input bytes, and how they are cut into chunks changes nothing. A packet that lies in
 * one chunk is handed out in place; only one that crosses a boundary is copied. Memory is bounded whatever lengths the
 * file claims: one record or block of a packet of at most `MAX_CAPTURED_BYTES`, 65,536 interfaces, 100 damages.
 *
 * What precedes damage is delivered; see classic.ts and blocks.ts for what follows it. Not promised: that a length that
 * is wrong but possible is noticed.
 */
import { kindOf } from '../files/magic.ts';
import { isBlocks, readBlock, readBlockEnd } from './pcap/blocks.ts';
import { isClassic, readFileHeader, readRecord } from './pcap/classic.ts';
import { newParsing, refuse, stop, type OnPacket, type Parsing, type PcapOutcome } from './pcap/parsing.ts';

export { MAX_CAPTURED_BYTES } from './pcap/parsing.ts';
export type { Damage, OnPacket, PcapOutcome } from './pcap/parsing.ts';

export interface PcapParser {
  /** Takes the file's next bytes. @returns false once no further bytes can change the outcome. */
  push(chunk: Buffer): boolean;
  /** The file is over. */
  end(): PcapOutcome;
}

/** The first bytes of the item at hand, when they came in an earlier chunk. */
interface Carry {
  buffer: Buffer;
  length: number;
}

export function createPcapParser(onPacket: OnPacket): PcapParser {
  const parsing = newParsing(onPacket);
  const carry: Carry = { buffer: Buffer.alloc(0), length: 0 };
  return {
    push: (chunk) => push(parsing, carry, chunk),
    end: () => finish(parsing, carry.length),
  };
}

function push(parsing: Parsing, carry: Carry, chunk: Buffer): boolean {
  let position = 0;
  while (carry.length > 0 && position < chunk.length && isReading(parsing)) {
    const part = Math.min(parsing.needed - carry.length, chunk.length - position);
    carryOver(carry, chunk, position, position + part);
    position += part;
    // All of it or nothing: what an item needed, it consumes.
    if (readItems(parsing, carry.buffer, 0, carry.length) > 0) carry.length = 0;
  }
  if (carry.length === 0) {
    position = readItems(parsing, chunk, position, chunk.length);
    if (isReading(parsing)) carryOver(carry, chunk, position, chunk.length);
  }
  return isReading(parsing);
}

/** A call, for the compiler can't see that reading an item changes the stage. */
function isReading({ stage }: Parsing): boolean {
  return stage !== 'stopped';
}

function carryOver(carry: Carry, chunk: Buffer, start: number, end: number): void {
  const length = carry.length + end - start;
  if (length > carry.buffer.length) {
    const larger = Buffer.allocUnsafe(Math.max(length, 2 * carry.buffer.length, 4096));
    carry.buffer.copy(larger, 0, 0, carry.length);
    carry.buffer = larger;
  }
  chunk.copy(carry.buffer, carry.length, start, end);
  carry.length = length;
}

/** @returns the position behind the last item that was there as a whole. */
function readItems(parsing: Parsing, buffer: Buffer, start: number, end: number): number {
  let position = start;
  while (isReading(parsing)) {
    if (parsing.skip > 0) {
      const skipped = Math.min(parsing.skip, end - position);
      position += skipped;
      parsing.fileOffset += skipped;
      parsing.skip -= skipped;
    }
    if (end - position < parsing.needed) return position;
    const length = readItem(parsing, buffer, position, end - position);
    position += length;
    parsing.fileOffset += length;
  }
  return position;
}

/** @returns bytes consumed; 0 after `needed` grew, or when reading stopped. */
function readItem(parsing: Parsing, buffer: Buffer, at: number, available: number): number {
  switch (parsing.stage) {
    case 'record':
      return readRecord(parsing, buffer, at, available);
    case 'block':
      return readBlock(parsing, buffer, at, available);
    case 'block-end':
      return readBlockEnd(parsing, buffer, at);
    case 'magic':
      if (isBlocks(parsing, buffer, at) || isClassic(parsing, buffer, at)) return 0;
      return refuse(parsing, foreign(buffer.subarray(at, at + 4)));
    case 'file-header':
      return readFileHeader(parsing, buffer, at);
    default:
      return 0;
  }
}

/** @param carried Bytes of an item that has no end. */
function finish(parsing: Parsing, carried: number): PcapOutcome {
  const { stage, blocks, fileOffset } = parsing;
  const isInHeader = stage === 'magic' || stage === 'file-header' || (stage === 'block' && blocks.sections === 0);
  if (isInHeader) {
    refuse(parsing, { kind: 'not-pcap', reason: carried === 0 ? 'empty file' : 'the file ends inside its header' });
  } else if (stage === 'block-end') {
    stop(parsing, blocks.offset, 'the file ends inside a block');
  } else if (carried > 0 && stage !== 'stopped') {
    stop(parsing, fileOffset, stage === 'record' ? 'the file ends inside a record' : 'the file ends inside a block');
  }
  parsing.stage = 'stopped';
  const { refusal, format, packets, damages, damageCount } = parsing;
  return refusal ?? { kind: 'read', format, packets, damages, damageCount };
}

/** What a file that is not a capture begins with. */
function foreign(magic: Buffer): PcapOutcome {
  const known = kindOf(magic);
  if (known === 'gzip') return { kind: 'gzip' };
  const isText = magic.every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 32 && byte < 127));
  const kind =
    known ?? (isText ? (magic[0] === 0x3c ? 'HTML or XML' : 'text') : `unknown bytes ${magic.toString('hex')}`);
  return { kind: 'not-pcap', reason: `${kind}, not a capture file` };
}
