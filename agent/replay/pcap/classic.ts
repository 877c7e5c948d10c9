/**
 * Classic pcap: a header, then records. It has no marks to find the next record by, so an impossible one is the end.
 *
 * Formats: draft-ietf-opsawg-pcap; the modified pcap (Kuznetzov) as libpcap reads it.
 */
import { deliver, expect, MAX_CAPTURED_BYTES, refuse, stop, uint16, uint32, ZEROS, type Parsing } from './parsing.ts';
import { setTime } from './time.ts';

const FILE_HEADER_BYTES = 24;
const MAGIC = { micros: 0xa1b2_c3d4, nanos: 0xa1b2_3c4d, modified: 0xa1b2_cd34 } as const;

/** @returns whether the four bytes are the magic number of a classic pcap, whose header is expected then. */
export function isClassic(parsing: Parsing, buffer: Buffer, at: number): boolean {
  for (const isBig of [false, true]) {
    parsing.bigEndian = isBig;
    const magic = uint32(parsing, buffer, at);
    if (magic !== MAGIC.micros && magic !== MAGIC.nanos && magic !== MAGIC.modified) continue;
    parsing.classic.magic = magic;
    parsing.classic.nanoseconds = magic === MAGIC.nanos;
    parsing.classic.recordHeader = magic === MAGIC.modified ? 24 : 16;
    expect(parsing, 'file-header', FILE_HEADER_BYTES);
    return true;
  }
  return false;
}

export function readFileHeader(parsing: Parsing, buffer: Buffer, at: number): number {
  const major = uint16(parsing, buffer, at + 4);
  const minor = uint16(parsing, buffer, at + 6);
  // Before 2.4 the two lengths of a record were the other way round.
  if (major !== 2 || minor < 4) return refuse(parsing, { kind: 'not-pcap', reason: `pcap version ${major}.${minor}` });
  // The upper bits tell the length of a frame check sequence.
  parsing.classic.linkType = uint32(parsing, buffer, at + 20) & 0xffff;
  expect(parsing, 'record', parsing.classic.recordHeader);
  return FILE_HEADER_BYTES;
}

/** @returns bytes consumed; 0 where more are needed, or reading stopped. */
export function readRecord(parsing: Parsing, buffer: Buffer, at: number, available: number): number {
  const { recordHeader, nanoseconds, linkType } = parsing.classic;
  const caplen = uint32(parsing, buffer, at + 8);
  if (caplen > MAX_CAPTURED_BYTES) return stop(parsing, parsing.fileOffset, `a record claims ${caplen} captured bytes`);
  if (caplen === 0) {
    const reason = emptyRecord(parsing, buffer, at);
    if (reason !== undefined) return stop(parsing, parsing.fileOffset, reason);
  }
  const length = recordHeader + caplen;
  if (available < length) {
    parsing.needed = length;
    return 0;
  }
  parsing.needed = recordHeader;
  const fraction = uint32(parsing, buffer, at + 4);
  setTime(parsing.time, uint32(parsing, buffer, at), fraction, nanoseconds ? 1000 : 1);
  deliver(parsing, caplen, uint32(parsing, buffer, at + 12), linkType, buffer, at + recordHeader);
  return length;
}

/** Why a record without bytes is none. */
function emptyRecord(parsing: Parsing, buffer: Buffer, at: number): string | undefined {
  const { recordHeader, magic } = parsing.classic;
  if (buffer.subarray(at, at + recordHeader).every((byte) => byte === 0)) return ZEROS;
  const isHeader =
    uint32(parsing, buffer, at) === magic &&
    uint16(parsing, buffer, at + 4) === 2 &&
    uint16(parsing, buffer, at + 6) === 4;
  return isHeader ? 'another capture file begins here: files that are put together have to be merged' : undefined;
}
