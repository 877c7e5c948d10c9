/**
 * Collects the packets of an alert's flow: those that the capture still has, and those that come for a while. The event
 * is journaled meanwhile, and does not wait.
 *
 * Alerts of a flow that is being collected share one file, with a comment for each. So a flood of alerts costs no more
 * than its flows do, and of these so many are collected at a time and in a second, and so many bytes are held.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { AttributedAlert } from '../alerts/attributed.ts';
import type { AskedPackets } from '../capture/packet-queries.ts';
import type { FlowEnds } from '../capture/protocol.ts';
import { lostOf } from '../capture/protocol.ts';
import type { Capture } from '../capture/supervisor.ts';
import { keepFor, type Keep } from '../endpoints/endpoint.ts';
import type { Alert } from '../engine/alert.ts';
import { describedRecord, type DescribedRecord } from '../events/describe.ts';
import { eventId } from '../events/event.ts';
import { createBufferPool, withBuffers, type BufferPool } from '../files/buffer-pool.ts';
import { oneConnection } from './connection.ts';
import { headersOf } from './headers.ts';
import { createPace, type Pace } from './pace.ts';
import { pcapngParts, type Comment, type Source } from './pcapng.ts';
import type { FlowFacts } from './place.ts';
import type { FlowPacket } from './packet.ts';
import type { Parser } from './protocol/attempt.ts';
import { describeFlow } from './protocol/describe.ts';
import type { EvidenceStore, StoreStatus } from './store.ts';

/**
 * Flows that are collected at a time, of which each takes a millisecond of CPU, or two; those of a second; and alerts of
 * one flow that share a file.
 */
const MOST = { flows: 256, rate: 50, alerts: 64 };
/** Bytes of memory for what a flow's ends said that is used again. */
const POOL_BYTES = 2 << 20;
/** Of a frame without IP, where only headers are kept. */
const LINK_BYTES = 14;

export interface CollectSettings {
  /** For resources that say nothing. */
  keep: Keep;
  /** Milliseconds. */
  after: number;
  packets: number;
  bytes: number;
}

/** Of alerts for which packets were looked for. */
export interface EvidenceCounts {
  /** Their packets are in a file. */
  written: number;
  /** Likewise, but not all of the flow: some were overwritten, or there were too many. */
  cut: number;
  /** The capture had none of them. */
  notFound: number;
  /** Too many flows were collected, or alerts of one flow. */
  busy: number;
  /** They could not be written. */
  failed: number;
}

export interface EvidenceStatus extends StoreStatus {
  alerts: Readonly<EvidenceCounts>;
  /** How often a reader of a protocol failed on a flow. */
  unreadable: ReadonlyMap<Parser, number>;
}

export interface Evidence {
  /** An event of it is about to be journaled. @param keep What the policy says, which goes before its resource. */
  collect(attributed: AttributedAlert, keep?: Keep): void;
  /** Whether packets of an event may still be written. */
  isPending(eventId: string): boolean;
  /** @param listener Called when those of an event are written, or will not be. @returns what ends it. */
  onSettled(listener: () => void): () => void;
  status(): EvidenceStatus;
  /** Resolves when what is under way is written. */
  settled(): Promise<void>;
}

export interface CollectOptions {
  settings: CollectSettings;
  store: EvidenceStore;
  most?: typeof MOST;
  /** Where alerts of a flow share a file only within such a time, in milliseconds: what comes live shares by `after`. */
  shareMillis?: number;
  /** Milliseconds since the epoch; without it, alerts are not of now. */
  now?: () => number;
  /** Those that capture. */
  lanes: readonly { name: string; capture: Pick<Capture, 'packetsOf' | 'countersOf'> }[];
  log: Logger;
  pace?: Pace;
}

/** An alert, and its event's id: that is a hash. */
interface Collected extends AttributedAlert {
  readonly id: string;
}

interface Collection {
  readonly alerts: Collected[];
  readonly keep: Keep;
}

interface State extends CollectOptions {
  readonly pace: Pace;
  readonly most: typeof MOST;
  readonly counts: EvidenceCounts;
  readonly unreadable: Map<Parser, number>;
  readonly pool: BufferPool;
  /** By lane, endpoint and flow. */
  readonly open: Map<string, Collection>;
  readonly underWay: Set<Promise<void>>;
  /** Events whose packets are under way. */
  readonly pending: Set<string>;
  readonly listeners: Set<() => void>;
  /** One file is written after the other. */
  writing: Promise<void>;
  hasFailed: boolean;
}

export function createEvidence(options: CollectOptions): Evidence {
  const { most = MOST } = options;
  const state: State = {
    pace: createPace(most.flows, most.rate),
    ...options,
    most,
    counts: { written: 0, cut: 0, notFound: 0, busy: 0, failed: 0 },
    unreadable: new Map(),
    pool: createBufferPool(POOL_BYTES),
    open: new Map(),
    underWay: new Set(),
    pending: new Set(),
    listeners: new Set(),
    writing: Promise.resolve(),
    hasFailed: false,
  };
  return {
    collect: (attributed, keep) => collect(state, attributed, keep),
    isPending: (id) => state.pending.has(id),
    onSettled(listener) {
      state.listeners.add(listener);
      return () => void state.listeners.delete(listener);
    },
    status: () => ({ ...state.store.status(), alerts: state.counts, unreadable: state.unreadable }),
    async settled() {
      while (state.underWay.size > 0) await Promise.all(state.underWay);
    },
  };
}

function collect(state: State, attributed: AttributedAlert, byPolicy?: Keep): void {
  const { lanes, open, underWay, most } = state;
  const { alert, position, seenAt, resource } = attributed;
  const [endpoint] = seenAt;
  const keep = byPolicy ?? (endpoint === undefined ? 'off' : keepFor(endpoint, resource, state.settings.keep));
  if (keep === 'off') return;
  const lane = lanes.find(({ name }) => position.generation.startsWith(`${name}-`));
  if (lane === undefined) return void state.counts.notFound++;
  const flow = flowOf(alert);
  const share = state.shareMillis === undefined ? '' : Math.floor(alert.timeMicros / 1000 / state.shareMillis);
  const key = [keep, lane.name, alert.vlan, keyOf(flow), share].join(' ');
  const known = open.get(key);
  if (known !== undefined && known.alerts.length < most.alerts) return add(state, known, attributed);
  if (known !== undefined || open.size >= most.flows || !state.pace.take()) return void state.counts.busy++;
  const collection: Collection = { alerts: [], keep };
  add(state, collection, attributed);
  open.set(key, collection);
  const { packets, bytes } = state.settings;
  const collected = lane.capture
    .packetsOf({ vlan: alert.vlan, flow, time: alert.timeMicros, afterMillis: leftOf(state, alert), packets, bytes })
    .then((asked) => {
      open.delete(key);
      return writeLater(state, collection, asked, lane.capture.countersOf);
    })
    .finally(() => {
      underWay.delete(collected);
      settle(state, collection);
    });
  underWay.add(collected);
}

/** How long its flow is followed: `after` is from its packet on, and the engine took some of it. */
function leftOf({ settings: { after }, now }: State, { timeMicros }: Alert): number {
  const age = now === undefined ? 0 : now() - timeMicros / 1000;
  return Math.round(Math.min(after, Math.max(0, after - age)));
}

function add({ pending }: State, { alerts }: Collection, attributed: AttributedAlert): void {
  const id = eventId(attributed);
  alerts.push({ ...attributed, id });
  pending.add(id);
}

function settle({ pending, listeners }: State, { alerts }: Collection): void {
  for (const { id } of alerts) pending.delete(id);
  for (const listener of listeners) listener();
}

const PROTOCOLS = new Map([
  ['TCP', 6],
  ['UDP', 17],
  ['SCTP', 132],
  ['GRE', 47],
  ['ESP', 50],
  ['AH', 51],
  ['ICMP', 1],
  ['ICMP6', 58],
  ['IPV6-ICMP', 58],
  ['ICMPV6', 58],
]);
const WITH_PORTS = new Set([6, 17, 132]);

function flowOf({ protocol: name, source, destination }: Alert): FlowEnds {
  const protocol = PROTOCOLS.get(name) ?? -1;
  const hasPorts = protocol < 0 || WITH_PORTS.has(protocol);
  const isKnown = hasPorts && source.port !== undefined && destination.port !== undefined;
  return {
    source: source.ip,
    destination: destination.ip,
    sourcePort: isKnown ? (source.port ?? -1) : -1,
    destinationPort: isKnown ? (destination.port ?? -1) : -1,
    protocol,
  };
}

/** The same for both directions. */
function keyOf(flow: FlowEnds): string {
  const ends = [`${flow.source} ${flow.sourcePort}`, `${flow.destination} ${flow.destinationPort}`].sort();
  return [flow.protocol, ...ends].join(' ');
}

// --- What was collected ----------------------------------------------------------------------------------------------

type CountersOf = Capture['countersOf'];

function writeLater(state: State, collection: Collection, asked: AskedPackets, countersOf: CountersOf): Promise<void> {
  state.writing = state.writing.then(() => write(state, collection, asked, countersOf)).finally(asked.release);
  return state.writing;
}

async function write(
  state: State,
  { alerts, keep }: Collection,
  asked: AskedPackets,
  countersOf: CountersOf,
): Promise<void> {
  const { store, counts, log } = state;
  const [first] = alerts;
  if (first === undefined) return;
  const { timeMicros } = first.alert;
  if (!asked.packets.some(({ time }) => time <= timeMicros)) {
    // What came later may be of another flow with these ends.
    counts[asked.by === 'busy' ? 'busy' : 'notFound'] += alerts.length;
    return;
  }
  try {
    const { packets: found, isOne } = oneConnection(asked.packets, timeMicros);
    const packets = keep === 'headers' ? found.map(withoutPayload) : found;
    const complete = isComplete(first.alert, packets, asked, isOne);
    const comments = alerts.map((alert) => commentOf(alert, packets));
    const facts = JSON.stringify({ ...factsOf(packets, complete), ...saidTo(state, alerts, packets) });
    const content = pcapngParts(packets, sourceOf(first, countersOf), comments, facts);
    const events = alerts.map(({ id, alert }) => ({ id, timeMicros: alert.timeMicros }));
    await store.save(events, content);
    counts[complete ? 'written' : 'cut'] += alerts.length;
    state.hasFailed = false;
  } catch (error) {
    counts.failed += alerts.length;
    if (!state.hasFailed) log.error({ err: error }, "an alert's packets cannot be written; its event is there");
    state.hasFailed = true;
  }
}

/** For what differs from what the first alert's flow said, of the bytes that a file has for it. */
const MAX_EVENTS_BYTES = 20_000;

/** What the flow said, and what it said when other alerts than the first fired, as far as there is room for that. */
function saidTo(
  { unreadable, pool }: State,
  alerts: readonly Collected[],
  packets: readonly FlowPacket[],
): Omit<FlowFacts, 'packets'> {
  const known = new Map<number, DescribedRecord>();
  const describe = ({ alert }: AttributedAlert): DescribedRecord => {
    const before = known.get(alert.timeMicros);
    if (before !== undefined) return before;
    const description = withBuffers(pool, (allocate) => describeFlow(packets, alert, alert, allocate));
    for (const parser of description.errors) unreadable.set(parser, (unreadable.get(parser) ?? 0) + 1);
    const described = describedRecord(description);
    known.set(alert.timeMicros, described);
    return described;
  };
  const [first, ...others] = alerts;
  if (first === undefined) return {};
  const events: Record<string, DescribedRecord> = {};
  let room = MAX_EVENTS_BYTES;
  for (const other of others) {
    const { length } = Buffer.from(JSON.stringify(describe(other)));
    if (length > room || isDeepStrictEqual(describe(other), describe(first))) continue;
    events[other.id] = describe(other);
    room -= length + 50;
  }
  return { ...describe(first), ...(Object.keys(events).length === 0 ? {} : { events }) };
}

function withoutPayload(packet: FlowPacket): FlowPacket {
  const { payload = LINK_BYTES } = headersOf(packet) ?? {};
  const { block: _, ...rest } = packet;
  return { ...rest, frame: packet.frame.subarray(0, payload) };
}

/** From the first packet of the flow until it ended, or was waited for no longer. */
function isComplete(
  { flow, timeMicros }: Alert,
  packets: readonly FlowPacket[],
  { by, skipped, lost }: AskedPackets,
  isWhole: boolean,
): boolean {
  const start = packets[0]?.time ?? Infinity;
  const isFirst = flow !== undefined && flow.isWholeSecond !== true && start <= flow.startMicros;
  const hasBeginning = !lost || isWhole || isFirst;
  const hasAlert = packets.some(({ time }) => time === timeMicros);
  return hasBeginning && hasAlert && !skipped && (by === 'flow' || by === 'time');
}

/** What becomes known of the flow, as part of the event's `record`. */
function factsOf(packets: readonly FlowPacket[], complete: boolean): FlowFacts {
  const times = packets.map(({ time }) => time);
  const cut = packets.filter(({ frame, length }) => frame.length < length).length;
  return {
    packets: {
      count: packets.length,
      bytes: packets.reduce((sum, { length }) => sum + length, 0),
      first: rfc3339(Math.min(...times)),
      last: rfc3339(Math.max(...times)),
      complete,
      ...(cut === 0 ? {} : { cut }),
    },
  };
}

function rfc3339(micros: number): string {
  const seconds = Math.floor(micros / 1e6);
  const text = new Date(seconds * 1000).toISOString().slice(0, -5);
  return `${text}.${String(micros - seconds * 1e6).padStart(6, '0')}Z`;
}

function commentOf({ alert, id }: Collected, packets: readonly FlowPacket[]): Comment {
  const { gid, sid, rev, message, timeMicros } = alert;
  const at = packets.findIndex(({ time }) => time === timeMicros);
  return {
    packet: at < 0 ? undefined : at,
    text: `alert ${gid}:${sid}:${rev} "${message}" event ${id}`,
  };
}

function sourceOf({ seenAt, node }: AttributedAlert, countersOf: CountersOf): Source {
  const [endpoint] = seenAt;
  const counted = endpoint === undefined ? undefined : countersOf(endpoint.id);
  return {
    interface: endpoint?.interface ?? '',
    namespace: endpoint?.namespace ?? '',
    pod: endpoint?.name ?? '',
    node,
    ...(counted === undefined ? {} : { received: counted.received, dropped: lostOf(counted) }),
  };
}
