/**
 * Asks a capture process for the packets of a flow, those that it has and those that come.
 *
 * Not promised: what a process had that has died.
 */
import type { Mailbox } from './mailbox.ts';
import { readBlocks } from './packet-block.ts';
import type { FromCapture, PacketQuery, PacketBlocks, PacketsEnd, ToCapture } from './protocol.ts';

/** Beyond the time that was asked for. */
const ANSWER_MILLIS = 10_000;

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
  /** To be called once the packets are no longer held. */
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
  let queries = 0;
  let held = 0;

  function ask(asked: Omit<PacketQuery, 'query'>): Promise<AskedPackets> {
    const query = ++queries;
    return new Promise((resolve) => {
      const end: Asked['end'] = (by, skipped, lost) => {
        clearTimeout(timer);
        open.delete(query);
        const { packets, bytes, isCut } = entry;
        resolve({ packets, by, skipped: skipped || isCut, lost, release: () => void (held -= bytes) });
      };
      const entry: Asked = { packets: [], bytes: 0, isCut: false, end };
      const timer = setTimeout(() => end('died', true, true), asked.afterMillis + ANSWER_MILLIS);
      open.set(query, entry);
      if (!send({ type: 'ask-packets', query, ...asked })) end('died', false, true);
    });
  }

  function received({ query, link, blocks }: { query: number } & PacketBlocks, mailbox?: Mailbox): void {
    const bytes =
      blocks instanceof Uint8Array
        ? Buffer.from(blocks.buffer, blocks.byteOffset, blocks.length)
        : mailbox?.take(blocks);
    const entry = open.get(query);
    if (entry === undefined) return;
    entry.isCut ||= bytes === undefined || held + bytes.length > mostBytes;
    // None behind a gap.
    if (entry.isCut || bytes === undefined) return;
    held += bytes.length;
    entry.bytes += bytes.length;
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
