/**
 * pcapng: blocks, each with its length at both ends. A bad packet block inside intact framing is skipped; an impossible
 * length is the end.
 *
 * Format: draft-ietf-opsawg-pcapng.
 */
import {
  damage,
  deliver,
  expect,
  MAX_CAPTURED_BYTES,
  refuse,
  stop,
  uint16,
  uint32,
  ZEROS,
  type Interface,
  type Parsing,
} from './parsing.ts';
import { setTimeOfTicks, type Clock } from './time.ts';

/** A packet block, or an interface block, may have this many bytes around or besides a packet. */
const MAX_BUFFERED_BYTES = MAX_CAPTURED_BYTES + 65_536;
const MAX_INTERFACES = 65_536;
const BLOCK = { interface: 1, obsoletePacket: 2, simplePacket: 3, enhancedPacket: 6, section: 0x0a0d_0d0a } as const;
/** Those that are read; others are passed over. */
const READ: readonly number[] = [BLOCK.enhancedPacket, BLOCK.simplePacket, BLOCK.obsoletePacket, BLOCK.interface];
const BYTE_ORDER_MAGIC = 0x1a2b_3c4d;
/** The least bytes of a block: type, length, length again. */
const MIN_BLOCK_BYTES = 12;
const OPTION = { end: 0, timeResolution: 9, timeOffset: 14 } as const;
/** Up to this resolution every step of a division by hand stays below 2^53. */
const MAX_EXACT_RESOLUTION = 2n ** 33n;

/** @returns whether the four bytes begin a pcapng file, whose first block is expected then. */
export function isBlocks(parsing: Parsing, buffer: Buffer, at: number): boolean {
  if (buffer.readUInt32BE(at) !== BLOCK.section) return false;
  parsing.format = 'pcapng';
  expect(parsing, 'block', MIN_BLOCK_BYTES);
  return true;
}

/** @returns bytes consumed; 0 where more are needed, or reading stopped. */
export function readBlock(parsing: Parsing, buffer: Buffer, at: number, available: number): number {
  const { blocks } = parsing;
  blocks.offset = parsing.fileOffset;
  const type = uint32(parsing, buffer, at);
  if (type === BLOCK.section) return readSection(parsing, buffer, at, available);
  blocks.length = uint32(parsing, buffer, at + 4);
  const { length, offset } = blocks;
  if (type === 0 && length === 0) return stop(parsing, offset, ZEROS);
  if (!isBlockLength(length, MIN_BLOCK_BYTES)) return stop(parsing, offset, `a block claims ${length} bytes`);
  if (!READ.includes(type)) return passOver(parsing, 8);
  if (length > MAX_BUFFERED_BYTES) {
    damage(parsing, offset, `a block of ${length} bytes is too long`);
    if (type === BLOCK.interface) addInterface(parsing, undefined);
    return passOver(parsing, 8);
  }
  if (available < length) {
    parsing.needed = length;
    return 0;
  }
  const end = at + length - 4;
  if (uint32(parsing, buffer, end) !== length) return stopAtEnd(parsing);
  parsing.needed = MIN_BLOCK_BYTES;
  if (type === BLOCK.interface) readInterface(parsing, buffer, at, end);
  else readPacketBlock(parsing, type, buffer, at, end);
  return length;
}

/** The repeated length of a block that was passed over. */
export function readBlockEnd(parsing: Parsing, buffer: Buffer, at: number): number {
  if (uint32(parsing, buffer, at) !== parsing.blocks.length) return stopAtEnd(parsing);
  expect(parsing, 'block', MIN_BLOCK_BYTES);
  return 4;
}

function stopAtEnd(parsing: Parsing): 0 {
  return stop(parsing, parsing.blocks.offset, 'the block ends with another length');
}

/** Goes on behind the block at hand, of which `consumed` bytes are done with. */
function passOver(parsing: Parsing, consumed: number): number {
  parsing.skip = parsing.blocks.length - consumed - 4;
  expect(parsing, 'block-end', 4);
  return consumed;
}

function readSection(parsing: Parsing, buffer: Buffer, at: number, available: number): number {
  if (available < 16) {
    parsing.needed = 16;
    return 0;
  }
  const { blocks } = parsing;
  parsing.bigEndian = buffer.readUInt32BE(at + 8) === BYTE_ORDER_MAGIC;
  blocks.length = uint32(parsing, buffer, at + 4);
  const reason = whyNoSection(parsing, buffer, at);
  if (reason !== undefined)
    return blocks.sections === 0 ? refuse(parsing, { kind: 'not-pcap', reason }) : stop(parsing, blocks.offset, reason);
  blocks.sections++;
  blocks.interfaces = [];
  return passOver(parsing, 16);
}

function whyNoSection(parsing: Parsing, buffer: Buffer, at: number): string | undefined {
  const { length } = parsing.blocks;
  if (uint32(parsing, buffer, at + 8) !== BYTE_ORDER_MAGIC) return 'a pcapng section without byte order';
  const version = uint16(parsing, buffer, at + 12);
  if (version !== 1) return `pcapng version ${version}.${uint16(parsing, buffer, at + 14)}`;
  return isBlockLength(length, 28) ? undefined : `a pcapng section header claims ${length} bytes`;
}

function isBlockLength(length: number, least: number): boolean {
  return length >= least && length % 4 === 0;
}

function readInterface(parsing: Parsing, buffer: Buffer, at: number, end: number): void {
  if (end - at < 16) {
    damage(parsing, parsing.blocks.offset, 'an interface description is too short');
    addInterface(parsing, undefined);
    return;
  }
  const linkType = uint16(parsing, buffer, at + 8);
  const snaplen = uint32(parsing, buffer, at + 12);
  addInterface(parsing, { linkType, snaplen, ...readClock(parsing, buffer, at + 16, end) });
}

/** What an interface's options say of its times. */
function readClock(parsing: Parsing, buffer: Buffer, start: number, end: number): Clock {
  let perSecond = 1_000_000n;
  let offset = 0;
  for (let option = start; option + 4 <= end;) {
    const code = uint16(parsing, buffer, option);
    const length = uint16(parsing, buffer, option + 2);
    const value = option + 4;
    if (code === OPTION.end || value + length > end) break;
    if (code === OPTION.timeResolution && length === 1) {
      const exponent = buffer.readUInt8(value);
      perSecond = exponent < 0x80 ? 10n ** BigInt(exponent) : 2n ** BigInt(exponent - 0x80);
    } else if (code === OPTION.timeOffset && length === 8) {
      offset = Number(parsing.bigEndian ? buffer.readBigInt64BE(value) : buffer.readBigInt64LE(value));
    }
    option = value + ((length + 3) & ~3);
  }
  return { perSecond, perSecondExact: perSecond <= MAX_EXACT_RESOLUTION ? Number(perSecond) : 0, offset };
}

function addInterface(parsing: Parsing, description: Interface | undefined): void {
  const { interfaces, offset } = parsing.blocks;
  if (interfaces.length < MAX_INTERFACES) interfaces.push(description);
  else damage(parsing, offset, `more than ${MAX_INTERFACES} interfaces`);
}

function readPacketBlock(parsing: Parsing, type: number, buffer: Buffer, at: number, end: number): void {
  const { interfaces, length, offset } = parsing.blocks;
  const isSimple = type === BLOCK.simplePacket;
  const data = at + (isSimple ? 12 : 28);
  if (data > end) return damage(parsing, offset, 'a packet block is too short');
  const index = interfaceOf(parsing, type, buffer, at);
  const description = interfaces[index];
  if (description === undefined)
    return damage(parsing, offset, `a packet of interface ${index}, which is not described`);
  const { snaplen, linkType } = description;
  const originalLength = uint32(parsing, buffer, isSimple ? at + 8 : at + 24);
  // A simple block has no captured length: it is the least of the three.
  const limit = snaplen > 0 ? Math.min(snaplen, end - data) : end - data;
  const caplen = isSimple ? Math.min(originalLength, limit) : uint32(parsing, buffer, at + 20);
  if (caplen > end - data || caplen > MAX_CAPTURED_BYTES)
    return damage(parsing, offset, `a packet claims ${caplen} captured bytes in a block of ${length}`);
  const { time } = parsing;
  if (isSimple) time.seconds = time.micros = 0;
  else setTimeOfTicks(time, description, uint32(parsing, buffer, at + 12), uint32(parsing, buffer, at + 16));
  deliver(parsing, caplen, originalLength, linkType, buffer, data);
}

/** Which of the section's interfaces the packet is of. */
function interfaceOf(parsing: Parsing, type: number, buffer: Buffer, at: number): number {
  if (type === BLOCK.simplePacket) return 0;
  return type === BLOCK.enhancedPacket ? uint32(parsing, buffer, at + 8) : uint16(parsing, buffer, at + 8);
}
