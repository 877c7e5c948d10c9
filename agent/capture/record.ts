/** The records of a capture file: what a source puts into the arena, and an engine reads from its FIFO. */
import { endianness } from 'node:os';

/** Bytes of a pcap record's header: seconds, microseconds, captured and original length. */
export const RECORD_HEADER = 16;

/** libpcap's limit of a record's captured length, and the snaplen in our file header. */
export const MAX_RECORD_BYTES = 262_144;

/**
 * The 24 bytes before the first record: classic pcap, microseconds, version 2.4, Ethernet, little-endian.
 * Format: draft-ietf-opsawg-pcap.
 */
export function pcapFileHeader(): Buffer {
  if (endianness() !== 'LE') throw new Error('only little-endian machines are supported');
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2_c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(MAX_RECORD_BYTES, 16);
  header.writeUInt32LE(1, 20);
  return header;
}

/** Writes the header of a pcap record, of little-endian numbers. */
export function writeRecordHeader(
  view: DataView,
  at: number,
  seconds: number,
  micros: number,
  captured: number,
  length: number,
): void {
  view.setUint32(at, seconds, true);
  view.setUint32(at + 4, micros, true);
  view.setUint32(at + 8, captured, true);
  view.setUint32(at + 12, length, true);
}
