/**
 * Asks a capture process for the packets of a flow, those that it has and those that come.
 *
 * Not promised: what a process had that has died.
 */
import { createBufferPool, type BufferPool } from '../files/buffer-pool.ts';
import type { Mailbox } from './mailbox.ts';
import { readBlocks } from './packet-block.ts';
import type { FromCapture, PacketQuery, PacketBlocks, PacketsEnd, ToCapture } from './protocol.ts';

/** Beyond the time that was asked for. */
const ANSWER_MILLIS = 10_000;
/** Bytes of memory for packets that is used again. */
const POOL_BYTES = 4 << 20;

export interface AskedPacket {
  /** Microseconds since the epoch. */
  time: number;
  frame: Buffer;
  length: number;
  linkType: number;
  /** As packet-block.ts has it; the frame is part of it. */
  block?: Buffer;
}

export interface AskedPackets {
  packets: AskedPacket[];
  /** `died`: the process. */
  by: PacketsEnd | 'died';
  /** The flow has more packets than were asked for, or are here. */
  skipped: boolean;
  /** Of what the endpoint had before, something was overwritten. */
  lost: boolean;
  /** To be called once the packets are no longer held: their memory is used again. */
  release: () => void;
}

export interface PacketAsking {
  ask: (query: Omit<PacketQuery, 'query'>) => Promise<AskedPackets>;
  /** @param mailbox Of the process that says so. */
  received(message: Extract<FromCapture, { type: 'packets' }>, mailbox?: Mailbox): void;
  ended(message: Extract<FromCapture, { type: 'packets-end' }>, mailbox?: Mailbox): void;
  /** What was asked ends with what has come. */
  processEnded(): void;
}

interface Asked {
  readonly packets: AskedPacket[];
  /** Of the pool, that packets are in. */
  readonly buffers: Buffer[];
  bytes: number;
  /** Some that came were not taken. */
  isCut: boolean;
  end(by: AskedPackets['by'], skipped: boolean, lost: boolean): void;
}

/**
 * @param mostBytes That are held of all flows together.
 * @param send @returns whether there is a process.
 */
export function createPacketAsking(mostBytes: number, send: (message: ToCapture) => boolean): PacketAsking {
  const open = new Map<number, Asked>();
  const pool = createBufferPool(POOL_BYTES);
  let queries = 0;
  let held = 0;

  function ask(asked: Omit<PacketQuery, 'query'>): Promise<AskedPackets> {
    const query = ++queries;
    return new Promise((resolve) => {
      const end: Asked['end'] = (by, skipped, lost) => {
        clearTimeout(timer);
        open.delete(query);
        const { packets, isCut } = entry;
        resolve({ packets, by, skipped: skipped || isCut, lost, release: () => release(entry) });
      };
      const entry: Asked = { packets: [], buffers: [], bytes: 0, isCut: false, end };
      const timer = setTimeout(() => end('died', true, true), asked.afterMillis + ANSWER_MILLIS);
      open.set(query, entry);
      if (!send({ type: 'ask-packets', query, ...asked })) end('died', false, true);
    });
  }

  function release(entry: Asked): void {
    held -= entry.bytes;
    for (const buffer of entry.buffers) pool.give(buffer);
  }

  function received({ query, link, blocks }: { query: number } & PacketBlocks, mailbox?: Mailbox): void {
    const taken = takeBlocks(blocks, pool, mailbox);
    const entry = open.get(query);
    if (entry !== undefined) entry.isCut ||= taken === undefined || held + taken.bytes.length > mostBytes;
    // None behind a gap.
    if (entry === undefined || entry.isCut || taken === undefined) {
      if (taken?.buffer !== undefined) pool.give(taken.buffer);
      return;
    }
    const { bytes, buffer } = taken;
    held += bytes.length;
    entry.bytes += bytes.length;
    if (buffer !== undefined) entry.buffers.push(buffer);
    for (const packet of readBlocks(bytes)) entry.packets.push({ ...packet, linkType: link });
  }

  return {
    ask,
    received,
    ended({ query, by, skipped, lost, link, blocks }, mailbox) {
      if (link !== undefined && blocks !== undefined) received({ query, link, blocks }, mailbox);
      open.get(query)?.end(by, skipped, lost);
    },
    processEnded() {
      for (const asked of open.values()) asked.end('died', true, true);
    },
  };
}

/** @returns undefined: they are not where they were said to be. `buffer`: the one of the pool that they are in. */
function takeBlocks(
  blocks: PacketBlocks['blocks'],
  pool: BufferPool,
  mailbox: Mailbox | undefined,
): { bytes: Buffer; buffer?: Buffer } | undefined {
  if (blocks instanceof Uint8Array) return { bytes: Buffer.from(blocks.buffer, blocks.byteOffset, blocks.length) };
  const buffer = mailbox?.take(blocks, pool);
  return buffer === undefined ? undefined : { bytes: buffer.subarray(0, blocks.length), buffer };
}
