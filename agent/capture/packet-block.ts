/**
 * A packet as a block of a capture file: what a capture process sends is written to a file as it is.
 *
 * Format: the Enhanced Packet Block of draft-ietf-opsawg-pcapng, little-endian, of the file's first interface, with
 * times in microseconds and without options.
 */
export const PACKET_BLOCK = 6;
/** Where the frame begins. */
export const BLOCK_HEAD = 28;
/** Without the frame. */
export const BLOCK_BYTES = BLOCK_HEAD + 4;

/** Bytes of the block of so many captured ones: whole words. */
export function blockSize(captured: number): number {
  return BLOCK_BYTES + ((captured + 3) & ~3);
}

/**
 * All but the frame, which is to be copied behind its head. Machines that have engines are little-endian.
 *
 * @param at Of a word.
 * @param time Microseconds since the epoch.
 * @param length Of the frame on the wire.
 */
export function writeBlock(words: Uint32Array, at: number, time: number, captured: number, length: number): void {
  const size = blockSize(captured);
  const end = at + size / 4 - 1;
  words[at] = PACKET_BLOCK;
  words[at + 1] = size;
  words[at + 2] = 0;
  words[at + 3] = Math.floor(time / 2 ** 32);
  words[at + 4] = time % 2 ** 32;
  words[at + 5] = captured;
  words[at + 6] = length;
  // What pads the frame.
  if (captured > 0) words[end - 1] = 0;
  words[end] = size;
}

export interface PacketBlock {
  block: Buffer;
  frame: Buffer;
  /** Microseconds since the epoch. */
  time: number;
  length: number;
}

/** Blocks that follow each other. */
export function* readBlocks(bytes: Buffer): Generator<PacketBlock> {
  for (let at = 0; at + BLOCK_BYTES <= bytes.length;) {
    const captured = bytes.readUInt32LE(at + 20);
    const end = at + blockSize(captured);
    const frame = at + BLOCK_HEAD;
    yield {
      block: bytes.subarray(at, end),
      frame: bytes.subarray(frame, frame + captured),
      time: bytes.readUInt32LE(at + 12) * 2 ** 32 + bytes.readUInt32LE(at + 16),
      length: bytes.readUInt32LE(at + 24),
    };
    at = end;
  }
}
