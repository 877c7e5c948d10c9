/**
 * Reads capture files as a stream of bytes: classic pcap and pcapng.
 *
 * Packets go to a callback, not to an async generator: a call costs nothing, and the caller bounds what one call of
 * `push` may deliver by the size of its chunks.
 *
 * Invariants: nothing throws on input bytes, and how they are cut into chunks changes nothing. A packet that lies in
 * one chunk is handed out in place; only one that crosses a boundary is copied. Memory is bounded whatever lengths the
 * file claims: one record of at most `MAX_BUFFERED_BYTES`, `MAX_INTERFACES` interfaces, `MAX_DAMAGES` damages.
 *
 * What precedes damage is delivered. A classic pcap has no marks to find the next record by, so reading stops at an
 * impossible record header; so it does at an impossible pcapng block length. A bad packet block inside intact framing
 * is skipped. Not promised: that a length that is wrong but possible is noticed.
 *
 * Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; the modified pcap (Kuznetzov) as libpcap reads it.
 */
import { kindOf } from '../files/magic.ts';

/** The most bytes of one packet, as in libpcap. A record that claims more is damage. */
export const MAX_CAPTURED_BYTES = 262_144;
/** A packet block, or an interface block, may have this many bytes around or besides a packet. */
const MAX_BUFFERED_BYTES = MAX_CAPTURED_BYTES + 65_536;
const MAX_INTERFACES = 65_536;
const MAX_DAMAGES = 100;
/** What a file has where its end was not written: after a crash, or of a full disk. */
const ZEROS = 'zeros: the rest was not written';

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

export interface PcapParser {
  /** Takes the file's next bytes. @returns false once no further bytes can change the outcome. */
  push(chunk: Buffer): boolean;
  /** The file is over. */
  end(): PcapOutcome;
}

interface Interface {
  linkType: number;
  /** 0: no limit. */
  snaplen: number;
  /** Ticks of its clock in a second. */
  perSecond: bigint;
  /** The same, if doubles compute its times without loss; 0 otherwise. */
  perSecondExact: number;
  /** Seconds to add to its times. */
  offset: number;
}

/** What the next bytes are. `block-end`: the repeated length behind a block that was passed over. */
type Stage = 'magic' | 'file-header' | 'record' | 'block' | 'block-end' | 'stopped';

const FILE_HEADER_BYTES = 24;
const BLOCK = { interface: 1, obsoletePacket: 2, simplePacket: 3, enhancedPacket: 6, section: 0x0a0d_0d0a } as const;
const BYTE_ORDER_MAGIC = 0x1a2b_3c4d;
/** The least bytes of a block: type, length, length again. */
const MIN_BLOCK_BYTES = 12;
const OPTION = { end: 0, timeResolution: 9, timeOffset: 14 } as const;
const MAX_SECONDS = 2 ** 32;
/** Up to this resolution every step of `computeTime` stays below 2^53. */
const MAX_EXACT_RESOLUTION = 2n ** 33n;

export function createPcapParser(onPacket: OnPacket): PcapParser {
  let stage: Stage = 'magic';
  let format: 'pcap' | 'pcapng' = 'pcap';
  let refusal: PcapOutcome | undefined;
  let bigEndian = false;
  let packets = 0;
  const damages: Damage[] = [];
  let damageCount = 0;

  // Classic pcap.
  let nanoseconds = false;
  let recordHeader = 16;
  let fileLinkType = 0;
  let fileMagic = 0;

  // pcapng. A place in `interfaces` is empty when its description was damaged.
  let sections = 0;
  let interfaces: (Interface | undefined)[] = [];
  let blockLength = 0;
  let blockOffset = 0;

  /** Where in the file the item at hand begins: all before it is done with. */
  let fileOffset = 0;
  /** Bytes of that item that must be there, as far as is known. */
  let needed = 4;
  /** Bytes to pass over first. */
  let skip = 0;
  /** The item's first bytes, when they came in an earlier chunk. */
  let carry = Buffer.alloc(0);
  let carried = 0;

  // The last time computed; two numbers cannot be returned without an allocation.
  let seconds = 0;
  let micros = 0;

  function push(chunk: Buffer): boolean {
    let position = 0;
    while (carried > 0 && position < chunk.length && isReading()) {
      const part = Math.min(needed - carried, chunk.length - position);
      carryOver(chunk, position, position + part);
      position += part;
      // All of it or nothing: what an item needed, it consumes.
      if (readItems(carry, 0, carried) > 0) carried = 0;
    }
    if (carried === 0) {
      position = readItems(chunk, position, chunk.length);
      carryOver(chunk, position, chunk.length);
    }
    return stage !== 'stopped';
  }

  // The compiler can't see that reading an item changes the stage.
  const isReading = (): boolean => stage !== 'stopped';

  function carryOver(chunk: Buffer, start: number, end: number): void {
    if (stage === 'stopped') return;
    const length = carried + end - start;
    if (length > carry.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, 2 * carry.length, 4096));
      carry.copy(larger, 0, 0, carried);
      carry = larger;
    }
    chunk.copy(carry, carried, start, end);
    carried = length;
  }

  /** @returns the position behind the last item that was there as a whole. */
  function readItems(buffer: Buffer, start: number, end: number): number {
    let position = start;
    while (isReading()) {
      if (skip > 0) {
        const skipped = Math.min(skip, end - position);
        position += skipped;
        fileOffset += skipped;
        skip -= skipped;
      }
      if (end - position < needed) return position;
      const length = readItem(buffer, position, end - position);
      position += length;
      fileOffset += length;
    }
    return position;
  }

  /** @returns bytes consumed; 0 after `needed` grew, or when reading stopped. */
  function readItem(buffer: Buffer, at: number, available: number): number {
    switch (stage) {
      case 'record':
        return readRecord(buffer, at, available);
      case 'block':
        return readBlock(buffer, at, available);
      case 'block-end':
        if (uint32(buffer, at) !== blockLength) return stop(blockOffset, 'the block ends with another length');
        expect('block', MIN_BLOCK_BYTES);
        return 4;
      case 'magic':
        return readMagic(buffer, at);
      case 'file-header':
        return readFileHeader(buffer, at);
      default:
        return 0;
    }
  }

  function expect(next: Stage, bytes: number): void {
    stage = next;
    needed = bytes;
  }

  function readMagic(buffer: Buffer, at: number): number {
    if (buffer.readUInt32BE(at) === BLOCK.section) {
      format = 'pcapng';
      expect('block', MIN_BLOCK_BYTES);
      return 0;
    }
    for (const isBig of [false, true]) {
      bigEndian = isBig;
      const magic = uint32(buffer, at);
      if (magic !== 0xa1b2_c3d4 && magic !== 0xa1b2_3c4d && magic !== 0xa1b2_cd34) continue;
      fileMagic = magic;
      nanoseconds = magic === 0xa1b2_3c4d;
      recordHeader = magic === 0xa1b2_cd34 ? 24 : 16;
      expect('file-header', FILE_HEADER_BYTES);
      return 0;
    }
    return refuse(foreign(buffer.subarray(at, at + 4)));
  }

  function readFileHeader(buffer: Buffer, at: number): number {
    const major = uint16(buffer, at + 4);
    const minor = uint16(buffer, at + 6);
    // Before 2.4 the two lengths of a record were the other way round.
    if (major !== 2 || minor < 4) return refuse({ kind: 'not-pcap', reason: `pcap version ${major}.${minor}` });
    // The upper bits tell the length of a frame check sequence.
    fileLinkType = uint32(buffer, at + 20) & 0xffff;
    expect('record', recordHeader);
    return FILE_HEADER_BYTES;
  }

  function readRecord(buffer: Buffer, at: number, available: number): number {
    const caplen = uint32(buffer, at + 8);
    if (caplen > MAX_CAPTURED_BYTES) return stop(fileOffset, `a record claims ${caplen} captured bytes`);
    if (caplen === 0) {
      const reason = emptyRecord(buffer, at);
      if (reason !== undefined) return stop(fileOffset, reason);
    }
    const length = recordHeader + caplen;
    if (available < length) {
      needed = length;
      return 0;
    }
    needed = recordHeader;
    const originalLength = uint32(buffer, at + 12);
    const fraction = uint32(buffer, at + 4);
    seconds = uint32(buffer, at);
    micros = nanoseconds ? Math.floor(fraction / 1000) : fraction;
    if (micros >= 1e6) carrySeconds();
    packets++;
    onPacket(
      seconds,
      micros,
      caplen,
      originalLength < caplen ? caplen : originalLength,
      fileLinkType,
      buffer,
      at + recordHeader,
    );
    return length;
  }

  /** Why a record without bytes is none. */
  function emptyRecord(buffer: Buffer, at: number): string | undefined {
    if (buffer.subarray(at, at + recordHeader).every((byte) => byte === 0)) return ZEROS;
    const isHeader = uint32(buffer, at) === fileMagic && uint16(buffer, at + 4) === 2 && uint16(buffer, at + 6) === 4;
    return isHeader ? 'another capture file begins here: files that are put together have to be merged' : undefined;
  }

  function readBlock(buffer: Buffer, at: number, available: number): number {
    blockOffset = fileOffset;
    const type = uint32(buffer, at);
    if (type === BLOCK.section) return readSection(buffer, at, available);
    blockLength = uint32(buffer, at + 4);
    if (type === 0 && blockLength === 0) return stop(blockOffset, ZEROS);
    if (!isBlockLength(blockLength, MIN_BLOCK_BYTES)) return stop(blockOffset, `a block claims ${blockLength} bytes`);
    const isRead =
      type === BLOCK.enhancedPacket ||
      type === BLOCK.simplePacket ||
      type === BLOCK.obsoletePacket ||
      type === BLOCK.interface;
    if (!isRead) return passOver(8);
    if (blockLength > MAX_BUFFERED_BYTES) {
      damage(blockOffset, `a block of ${blockLength} bytes is too long`);
      if (type === BLOCK.interface) addInterface(undefined);
      return passOver(8);
    }
    if (available < blockLength) {
      needed = blockLength;
      return 0;
    }
    const end = at + blockLength - 4;
    if (uint32(buffer, end) !== blockLength) return stop(blockOffset, 'the block ends with another length');
    needed = MIN_BLOCK_BYTES;
    if (type === BLOCK.interface) readInterface(buffer, at, end);
    else readPacketBlock(type, buffer, at, end);
    return blockLength;
  }

  /** Goes on behind the block at hand, of which `consumed` bytes are done with. */
  function passOver(consumed: number): number {
    skip = blockLength - consumed - 4;
    expect('block-end', 4);
    return consumed;
  }

  function readSection(buffer: Buffer, at: number, available: number): number {
    if (available < 16) {
      needed = 16;
      return 0;
    }
    bigEndian = buffer.readUInt32BE(at + 8) === BYTE_ORDER_MAGIC;
    blockLength = uint32(buffer, at + 4);
    const version = uint16(buffer, at + 12);
    const reason =
      uint32(buffer, at + 8) !== BYTE_ORDER_MAGIC
        ? 'a pcapng section without byte order'
        : version !== 1
          ? `pcapng version ${version}.${uint16(buffer, at + 14)}`
          : isBlockLength(blockLength, 28)
            ? ''
            : `a pcapng section header claims ${blockLength} bytes`;
    if (reason !== '') return sections === 0 ? refuse({ kind: 'not-pcap', reason }) : stop(blockOffset, reason);
    sections++;
    interfaces = [];
    return passOver(16);
  }

  function readInterface(buffer: Buffer, at: number, end: number): void {
    if (end - at < 16) {
      damage(blockOffset, 'an interface description is too short');
      addInterface(undefined);
      return;
    }
    let perSecond = 1_000_000n;
    let offset = 0;
    for (let option = at + 16; option + 4 <= end;) {
      const code = uint16(buffer, option);
      const length = uint16(buffer, option + 2);
      const value = option + 4;
      if (code === OPTION.end || value + length > end) break;
      if (code === OPTION.timeResolution && length === 1) {
        const exponent = buffer.readUInt8(value);
        perSecond = exponent < 0x80 ? 10n ** BigInt(exponent) : 2n ** BigInt(exponent - 0x80);
      } else if (code === OPTION.timeOffset && length === 8) {
        offset = Number(bigEndian ? buffer.readBigInt64BE(value) : buffer.readBigInt64LE(value));
      }
      option = value + ((length + 3) & ~3);
    }
    addInterface({
      linkType: uint16(buffer, at + 8),
      snaplen: uint32(buffer, at + 12),
      perSecond,
      perSecondExact: perSecond <= MAX_EXACT_RESOLUTION ? Number(perSecond) : 0,
      offset,
    });
  }

  function addInterface(description: Interface | undefined): void {
    if (interfaces.length < MAX_INTERFACES) interfaces.push(description);
    else damage(blockOffset, `more than ${MAX_INTERFACES} interfaces`);
  }

  function readPacketBlock(type: number, buffer: Buffer, at: number, end: number): void {
    const isSimple = type === BLOCK.simplePacket;
    const data = at + (isSimple ? 12 : 28);
    if (data > end) return damage(blockOffset, 'a packet block is too short');
    const index = isSimple ? 0 : type === BLOCK.enhancedPacket ? uint32(buffer, at + 8) : uint16(buffer, at + 8);
    const description = interfaces[index];
    if (description === undefined) return damage(blockOffset, `a packet of interface ${index}, which is not described`);
    const originalLength = uint32(buffer, isSimple ? at + 8 : at + 24);
    // A simple block has no captured length: it is the least of the three.
    const limit = description.snaplen > 0 ? Math.min(description.snaplen, end - data) : end - data;
    const caplen = isSimple ? Math.min(originalLength, limit) : uint32(buffer, at + 20);
    if (caplen > end - data || caplen > MAX_CAPTURED_BYTES) {
      return damage(blockOffset, `a packet claims ${caplen} captured bytes in a block of ${blockLength}`);
    }
    if (isSimple) seconds = micros = 0;
    else computeTime(description, uint32(buffer, at + 12), uint32(buffer, at + 16));
    packets++;
    const { linkType } = description;
    onPacket(seconds, micros, caplen, originalLength < caplen ? caplen : originalLength, linkType, buffer, data);
  }

  /** Sets `seconds` and `micros` from a time of 64 bits in the interface's ticks. */
  function computeTime({ perSecond, perSecondExact, offset }: Interface, high: number, low: number): void {
    if (perSecondExact === 1e6 && high < 1e6) {
      const ticks = high * 2 ** 32 + low;
      seconds = Math.floor(ticks / 1e6);
      micros = ticks - seconds * 1e6;
    } else if (perSecondExact > 0) {
      // Division by hand, 16 bits a step.
      let rest = 0;
      seconds = 0;
      for (let step = 0; step < 4; step++) {
        const word = step < 2 ? high : low;
        rest = rest * 65_536 + (step % 2 === 0 ? word >>> 16 : word & 0xffff);
        const quotient = Math.floor(rest / perSecondExact);
        seconds = seconds * 65_536 + quotient;
        rest -= quotient * perSecondExact;
      }
      micros = Math.floor((rest * 1e6) / perSecondExact);
    } else {
      const ticks = (BigInt(high) << 32n) | BigInt(low);
      seconds = Number(ticks / perSecond);
      micros = Number(((ticks % perSecond) * 1_000_000n) / perSecond);
    }
    seconds += offset;
    if (seconds < 0 || seconds >= MAX_SECONDS) clampTime();
  }

  /** A fraction of a second that is more than one. */
  function carrySeconds(): void {
    seconds += Math.floor(micros / 1e6);
    micros %= 1e6;
    if (seconds >= MAX_SECONDS) clampTime();
  }

  function clampTime(): void {
    micros = seconds < 0 ? 0 : 999_999;
    seconds = seconds < 0 ? 0 : MAX_SECONDS - 1;
  }

  function uint16(buffer: Buffer, at: number): number {
    return bigEndian ? buffer.readUInt16BE(at) : buffer.readUInt16LE(at);
  }

  function uint32(buffer: Buffer, at: number): number {
    return bigEndian ? buffer.readUInt32BE(at) : buffer.readUInt32LE(at);
  }

  function damage(offset: number, reason: string): void {
    damageCount++;
    if (damages.length < MAX_DAMAGES) damages.push({ offset, reason });
  }

  function stop(offset: number, reason: string): 0 {
    damage(offset, reason);
    stage = 'stopped';
    return 0;
  }

  function refuse(outcome: PcapOutcome): 0 {
    refusal = outcome;
    stage = 'stopped';
    return 0;
  }

  function finish(): PcapOutcome {
    const isInHeader = stage === 'magic' || stage === 'file-header' || (stage === 'block' && sections === 0);
    if (isInHeader) {
      refuse({ kind: 'not-pcap', reason: carried === 0 ? 'empty file' : 'the file ends inside its header' });
    } else if (stage === 'block-end') {
      stop(blockOffset, 'the file ends inside a block');
    } else if (carried > 0 && stage !== 'stopped') {
      stop(fileOffset, stage === 'record' ? 'the file ends inside a record' : 'the file ends inside a block');
    }
    stage = 'stopped';
    return refusal ?? { kind: 'read', format, packets, damages, damageCount };
  }

  return { push, end: finish };
}

function isBlockLength(length: number, least: number): boolean {
  return length >= least && length % 4 === 0;
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
