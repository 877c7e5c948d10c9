/**
 * A capture file of a flow, as Wireshark reads it: interfaces with the pod's name, a comment at each packet that
 * alerted, original lengths, and what the interface lost.
 *
 * Format: draft-ietf-opsawg-pcapng. Little-endian, times in microseconds, which is its default.
 */
import { BLOCK_BYTES, BLOCK_HEAD, blockSize, PACKET_BLOCK, writeBlock } from '../capture/packet-block.ts';
import { stripControls } from '../text.ts';
import type { FlowPacket } from './packet.ts';

/** Who was captured, and what was lost of its packets, if that is known. */
export interface Source {
  interface: string;
  namespace: string;
  pod: string;
  node: string;
  /** Packets since the endpoint was attached. */
  received?: number;
  dropped?: number;
}

/** At the packet with this number, from 0; undefined: at none, but at the file's head. */
export interface Comment {
  packet: number | undefined;
  text: string;
}

const BLOCK = { section: 0x0a0d_0d0a, interface: 1, statistics: 5, packet: PACKET_BLOCK } as const;
const OPTION = { end: 0, comment: 1, name: 2, description: 3, application: 4, received: 4, dropped: 5 } as const;
const MAGIC = 0x1a2b_3c4d;
const SNAPLEN = 262_144;
const MAX_TEXT = 1024;
/** DLT_RAW of the BSDs, and what Suricata reads as IP, are LINKTYPE_RAW in a file. */
const RAW = { number: 101, also: new Set([12, 14, 778]) };

/**
 * In parts that follow each other: what was captured as blocks of a file is not copied.
 *
 * @param facts JSON that programs read: see `readFacts`. Longer ones than 60,000 bytes are left out.
 */
export function pcapngParts(
  packets: readonly FlowPacket[],
  source: Source,
  comments: readonly Comment[],
  facts?: string,
): Buffer[] {
  const links = [...new Set(packets.map(({ linkType }) => linkType))];
  const options = optionsOf(comments);
  const end = packets.at(-1)?.time ?? 0;
  return joined([
    section(comments, facts),
    ...links.map((link) => interfaceOf(link, source)),
    ...packets.flatMap((packet, index) => blockOf(packet, links.indexOf(packet.linkType), options.get(index))),
    ...links.map((_, index) => statistics(index, source, end)),
  ]);
}

/** Likewise, as one. */
export function pcapng(...file: Parameters<typeof pcapngParts>): Buffer {
  return Buffer.concat(pcapngParts(...file));
}

function blockOf({ block: made, frame, time, length }: FlowPacket, index: number, options?: Buffer): Buffer[] {
  const plain = blockSize(frame.length);
  if (made !== undefined && index === 0)
    return options === undefined ? [made] : withOptions(made.subarray(0, plain - 4), options);
  const bytes = Buffer.alloc(plain);
  writeBlock(new Uint32Array(bytes.buffer, bytes.byteOffset, plain / 4), 0, time, frame.length, length);
  bytes.set(frame, BLOCK_HEAD);
  bytes.writeUInt32LE(index, 8);
  return options === undefined ? [bytes] : withOptions(bytes.subarray(0, plain - 4), options);
}

/** @param plain A block without its length at the end. */
function withOptions(plain: Buffer, options: Buffer): Buffer[] {
  const head = Buffer.from(plain.subarray(0, 8));
  const tail = Buffer.alloc(options.length + 4);
  const length = plain.length + tail.length;
  head.writeUInt32LE(length, 4);
  options.copy(tail);
  tail.writeUInt32LE(length, options.length);
  return [head, plain.subarray(8), tail];
}

/** What lies behind each other in memory becomes one part; and those that are small together. */
function joined(parts: readonly Buffer[]): Buffer[] {
  const runs: { bytes: Buffer; end: number }[] = [];
  for (const part of parts) {
    const last = runs.at(-1);
    if (last?.bytes.buffer === part.buffer && last.end === part.byteOffset) last.end += part.length;
    else runs.push({ bytes: part, end: part.byteOffset + part.length });
  }
  const whole = runs.map(({ bytes, end }) => Buffer.from(bytes.buffer, bytes.byteOffset, end - bytes.byteOffset));
  return whole.length > MAX_PARTS ? [Buffer.concat(whole)] : whole;
}

/** What `pcapng` was given as `facts`; undefined: the file has none. @param content Its first 64 KiB, at least. */
export function readFacts(content: Buffer): unknown {
  if (content.length < 28 || content.readUInt32LE(0) !== BLOCK.section || content.readUInt32LE(8) !== MAGIC)
    return undefined;
  const end = Math.min(content.readUInt32LE(4), content.length) - 4;
  for (let at = 24; at + 4 <= end;) {
    const [code, length] = [content.readUInt16LE(at), content.readUInt16LE(at + 2)];
    const value = content.toString('utf8', at + 4, Math.min(end, at + 4 + length));
    if (code === OPTION.comment && value.startsWith('{')) return parseJson(value);
    if (code === OPTION.end) return undefined;
    at += 4 + padding(length);
  }
  return undefined;
}

/**
 * The file with packets of at most so many bytes: those with comments go first, then those from the beginning. Of what
 * is damaged, nothing is left.
 */
export function cutPackets(content: Buffer, maxBytes: number): { content: Buffer; cut: boolean } {
  const blocks = [...blocksOf(content)];
  const packets = blocks.filter(({ type }) => type === BLOCK.packet);
  const kept = new Set<Block>();
  let room = maxBytes;
  for (const wanted of [packets.filter(hasOptions), packets]) {
    for (const packet of wanted) {
      if (kept.has(packet)) continue;
      if (capturedOf(packet) > room) break;
      room -= capturedOf(packet);
      kept.add(packet);
    }
  }
  if (kept.size === packets.length) return { content, cut: false };
  const rest = blocks.filter((each) => each.type !== BLOCK.packet || kept.has(each));
  return { content: Buffer.concat(rest.map(({ bytes }) => bytes)), cut: true };
}

interface Block {
  type: number;
  bytes: Buffer;
}

function* blocksOf(content: Buffer): Generator<Block> {
  for (let at = 0; at + 12 <= content.length;) {
    const size = content.readUInt32LE(at + 4);
    if (size < 12 || at + size > content.length) return;
    yield { type: content.readUInt32LE(at), bytes: content.subarray(at, at + size) };
    at += size;
  }
}

/** Of a packet's block. */
function capturedOf({ bytes }: Block): number {
  return bytes.length < BLOCK_BYTES ? 0 : bytes.readUInt32LE(20);
}

function hasOptions(packet: Block): boolean {
  return packet.bytes.length > BLOCK_BYTES + padding(capturedOf(packet));
}

/** undefined: it is damaged. */
function parseJson(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return undefined;
  }
}

const END_OF_OPTIONS = Buffer.alloc(4);
/** A write of more costs more than their copy. */
const MAX_PARTS = 32;
const MAX_FACTS = 60_000;

function padding(length: number): number {
  return (length + 3) & ~3;
}

/** By packet, of those that have any. */
function optionsOf(comments: readonly Comment[]): Map<number, Buffer> {
  const parts = new Map<number, Buffer[]>();
  for (const { packet, text } of comments) {
    if (packet === undefined) continue;
    parts.set(packet, [...(parts.get(packet) ?? []), textOption(OPTION.comment, text)]);
  }
  return new Map([...parts].map(([packet, of]) => [packet, Buffer.concat([...of, END_OF_OPTIONS])]));
}

function section(comments: readonly Comment[], facts: string | undefined): Buffer {
  const fixed = Buffer.alloc(16);
  fixed.writeUInt32LE(MAGIC, 0);
  fixed.writeUInt16LE(1, 4);
  // Its length is not told.
  fixed.fill(0xff, 8);
  const value = Buffer.from(facts ?? '');
  return block(BLOCK.section, fixed, [
    ...(value.length > 0 && value.length <= MAX_FACTS ? [option(OPTION.comment, value)] : []),
    ...comments.filter(({ packet }) => packet === undefined).map((each) => textOption(OPTION.comment, each.text)),
    textOption(OPTION.application, 'dpi-agent'),
  ]);
}

function interfaceOf(link: number, source: Source): Buffer {
  const fixed = Buffer.alloc(8);
  fixed.writeUInt16LE(RAW.also.has(link) ? RAW.number : link, 0);
  fixed.writeUInt32LE(SNAPLEN, 4);
  return block(BLOCK.interface, fixed, [
    textOption(OPTION.name, source.interface),
    textOption(OPTION.description, `pod ${source.namespace}/${source.pod} on ${source.node}`),
  ]);
}

function statistics(index: number, { received, dropped }: Source, time: number): Buffer {
  const fixed = Buffer.alloc(12);
  fixed.writeUInt32LE(index, 0);
  writeTime(fixed, 4, time);
  return block(BLOCK.statistics, fixed, [
    ...(received === undefined ? [] : [numberOption(OPTION.received, received)]),
    ...(dropped === undefined ? [] : [numberOption(OPTION.dropped, dropped)]),
  ]);
}

/** The upper 32 bits first. */
function writeTime(bytes: Buffer, at: number, time: number): void {
  bytes.writeUInt32LE(Math.floor(time / 2 ** 32), at);
  bytes.writeUInt32LE(time % 2 ** 32, at + 4);
}

function block(type: number, body: Buffer, options: readonly Buffer[]): Buffer {
  const parts = options.length > 0 ? [body, ...options, END_OF_OPTIONS] : [body];
  const bytes = Buffer.alloc(parts.reduce((sum, { length }) => sum + length, 12));
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(bytes.length, 4);
  let at = 8;
  for (const part of parts) at += part.copy(bytes, at);
  bytes.writeUInt32LE(bytes.length, at);
  return bytes;
}

/** Its value is padded to 32 bits. */
function option(code: number, value: Buffer): Buffer {
  const bytes = Buffer.alloc(4 + padding(value.length));
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt16LE(value.length, 2);
  value.copy(bytes, 4);
  return bytes;
}

function textOption(code: number, value: string): Buffer {
  return option(code, Buffer.from(stripControls(value.slice(0, MAX_TEXT))));
}

function numberOption(code: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return option(code, bytes);
}
