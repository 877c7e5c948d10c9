/**
 * Packets of events, in an index of their own by the events' ids: a capture file each, compressed. So they are there
 * once, as events are, and whoever reads the page of another node has them too.
 *
 * An event never fails for its packets: where they are refused, or could not be stored in MAX_TRIES tries, it is there
 * without them, and that is counted. Where a request is refused for them as a whole, no more are sent for a minute.
 */
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Logger } from 'pino';
import { messageOf } from '../../files/errors.ts';
import { isRecord } from '../../files/record.ts';
import type { Item, Outcome, PacketCounts, PacketFile } from '../destination.ts';
import type { Result } from './classify.ts';
import { createManager, type Ask } from './manage.ts';
import { packetNamesOf } from './template.ts';

const MAX_TRIES = 5;
const MANAGE_MILLIS = 60_000;
const PAUSE_MILLIS = 60_000;
const compress = promisify(gzip);

export interface PacketIndexOptions {
  /** `packetsSize`: bytes of an event's packets; 0: none are sent. */
  settings: { packetsSize: number };
  cluster: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Monotonic, in milliseconds. */
  now: () => number;
}

export interface PacketIndex {
  readonly index: string;
  counts: () => PacketCounts;
  /** Keeps its template, each minute. @throws what `ask` throws. */
  manage(ask: Ask): Promise<void>;
  /** What is stored of an event's packets; undefined: there are none, or they are not wanted. */
  documentOf(item: Item): Promise<string | undefined>;
  /** @returns the event's outcome, by its own and by that of its packets, where some were sent. */
  settle(item: Item, event: Outcome, packets: Result | undefined): Outcome;
  /** A request was refused for the packets of so many events in it: for a minute, none are sent. */
  pause(events: number, reason: string): void;
}

interface State {
  readonly options: PacketIndexOptions;
  readonly counts: PacketCounts;
  /** By event, of those that are to be sent again. */
  readonly tries: Map<string, number>;
  managedAt: number;
  /** Packets are not sent before; monotonic, in milliseconds. */
  pausedUntil: number;
  /** The latest reason that was logged. */
  said: string | undefined;
}

export function createPacketIndex(options: PacketIndexOptions): PacketIndex {
  const names = packetNamesOf(options.cluster);
  const keep = createManager(names, options.log);
  const state: State = {
    options,
    counts: { sent: 0, refused: 0 },
    tries: new Map(),
    managedAt: -Infinity,
    pausedUntil: -Infinity,
    said: undefined,
  };
  return {
    index: names.index,
    counts: () => ({ ...state.counts }),
    async manage(ask) {
      if (options.now() - state.managedAt < MANAGE_MILLIS) return;
      await keep(ask);
      state.managedAt = options.now();
    },
    documentOf: (item) => documentOf(state, item),
    pause(events, reason) {
      state.pausedUntil = options.now() + PAUSE_MILLIS;
      refuse(state, reason, events);
    },
    settle: (item, event, packets) => (packets === undefined ? event : settle(state, item, event, packets)),
  };
}

async function documentOf(state: State, item: Item): Promise<string | undefined> {
  const { options } = state;
  const { packetsSize } = options.settings;
  if (packetsSize === 0 || item.packets === undefined || options.now() < state.pausedUntil) return undefined;
  let file: PacketFile | undefined;
  try {
    file = await item.packets(packetsSize);
  } catch (error) {
    refuse(state, messageOf(error));
    return undefined;
  }
  return file && JSON.stringify(await toDocument(item, file));
}

async function toDocument({ id, json }: Item, { content, cut }: PacketFile): Promise<object> {
  const { origin, host, record } = JSON.parse(json) as { origin?: unknown; host?: unknown; record?: unknown };
  return {
    '@timestamp': isRecord(record) ? record['timestamp'] : undefined,
    event_id: id,
    origin,
    host,
    size: content.length,
    cut,
    pcapng: (await compress(content)).toString('base64'),
  };
}

function settle(state: State, { id }: Item, event: Outcome, { outcome, status, indexMissing }: Result): Outcome {
  const { tries, counts } = state;
  if (indexMissing) state.managedAt = -Infinity;
  if (outcome.is === 'delivered') {
    if (event.is !== 'retry') tries.delete(id);
    if (outcome.duplicate !== true) counts.sent += 1;
    return event;
  }
  // Those of an event that goes again are counted when they do.
  if (event.is === 'rejected') tries.delete(id);
  if (event.is !== 'delivered') return event;
  const count = (tries.get(id) ?? 0) + 1;
  // Who may not write there now, may not in a moment.
  if (outcome.is === 'retry' && status !== 403 && count < MAX_TRIES) {
    tries.set(id, count);
    return { ...outcome, throttled: true };
  }
  tries.delete(id);
  refuse(state, outcome.reason);
  return event;
}

function refuse(state: State, reason: string, events = 1): void {
  const { counts, options, said } = state;
  counts.refused += events;
  if (said === reason) return;
  state.said = reason;
  options.log.warn({ reason }, 'packets of an event are not stored: the event is there without them');
}
