/**
 * Events by `_bulk` of `create` with the event's id: the journal's lines as they are, or in ECS. An event that arrived
 * in a try whose answer was lost is a duplicate in the next, and is there once. Packets go before their event, in the
 * same request. Template, index and alias are looked at each minute. In a data stream an event is there once too:
 * stream.ts says how.
 */
import type { Logger } from 'pino';
import { messageOf } from '../../files/errors.ts';
import { SendError, type Item, type Outcome, type PacketCounts } from '../destination.ts';
import { classifyBulk, type Result } from './classify.ts';
import { documentOf } from './document.ts';
import { createManager, type Answer, type Ask, type Method } from './manage.ts';
import { createPacketIndex, type PacketIndex } from './packets.ts';
import type { Lifecycle } from './policy.ts';
import { createStreamLedger, type StreamLedger } from './stream.ts';
import { namesOf, type Names, type Schema } from './template.ts';

const MANAGE_MILLIS = 60_000;
/** Of an answer, in bytes: a part of it all, and one of each event. */
const ANSWER_BYTES = 4 << 20;
const ANSWER_BYTES_EACH = 8 << 10;
/** Of a request, beside its events: far from what Elasticsearch takes, 100 MB. */
const MAX_PACKET_BYTES = 8 << 20;
/** Of each event, what is looked at. */
const FILTER = 'items.*._id,items.*.status,items.*.error.type,items.*.error.reason';

export interface Asked {
  method: Method;
  path: string;
  /** A document, or the lines of several. */
  body?: object | readonly string[];
  /** Bytes that the answer may have. */
  maxAnswer: number;
  /** Statuses that are no failures, beside those of success. */
  answers: readonly number[];
}

/** @throws SendError. The signal's reason when it is aborted. */
export type AskNode = (asked: Asked, signal: AbortSignal) => Promise<Answer>;

export interface BulkOptions {
  settings: { schema: Schema; manageTemplate: boolean; packetsSize: number; dataStream: boolean } & Lifecycle;
  store: 'elasticsearch' | 'opensearch';
  cluster: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Monotonic, in milliseconds. */
  now: () => number;
}

interface State {
  readonly options: BulkOptions;
  readonly names: Names;
  readonly manage: ReturnType<typeof createManager>;
  readonly packets: PacketIndex;
  /** Of a data stream. */
  readonly ledger: StreamLedger | undefined;
  readonly askNode: AskNode;
  managedAt: number;
}

export interface Bulk {
  send: (items: readonly Item[], signal: AbortSignal) => Promise<Outcome[]>;
  packets: () => PacketCounts;
  /** Asks whatever else. @throws SendError but for 400, 403, 404 and 405. */
  ask: (method: Method, path: string, body: object | undefined, signal: AbortSignal) => Promise<Answer>;
}

/** @param askNode Asks one of the nodes, once. */
export function createBulk(options: BulkOptions, askNode: AskNode): Bulk {
  const { cluster, settings, store, log } = options;
  const names = namesOf(cluster, settings.schema, settings.dataStream);
  const stream = settings.dataStream ? { store, lifecycle: settings } : undefined;
  const state: State = {
    options,
    names,
    manage: createManager(names, log, stream),
    packets: createPacketIndex(options),
    ledger: stream && createStreamLedger(names.index, log),
    askNode,
    managedAt: -Infinity,
  };
  return {
    send: (items, signal) => send(state, items, signal),
    packets: state.packets.counts,
    ask: (method, path, body, signal) => ask(state, method, path, body, signal),
  };
}

async function send(state: State, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  const { settings, now } = state.options;
  const askNow: Ask = (method, path, body) => ask(state, method, path, body, signal);
  signal.throwIfAborted();
  if (settings.manageTemplate && now() - state.managedAt >= MANAGE_MILLIS) {
    await state.manage(askNow);
    state.managedAt = now();
  }
  const { ledger } = state;
  if (ledger === undefined) return sendAll(state, items, signal);
  const there = await ledger.find(items, askNow);
  const missing = items.filter(({ id }) => !there.has(id));
  let outcomes: Outcome[] | undefined;
  try {
    outcomes = missing.length === 0 ? [] : await sendAll(state, missing, signal);
  } finally {
    ledger.settle(missing, outcomes);
  }
  let next = 0;
  return items.map(({ id }) => {
    if (there.has(id)) return { is: 'delivered', duplicate: true };
    return outcomes[next++] ?? { is: 'retry', reason: 'nothing was answered' };
  });
}

/** Where packets make too much for one request, in several: what the later ones do not get through goes again. */
async function sendAll(state: State, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  do {
    const request = await requestOf(state, items.slice(outcomes.length));
    try {
      outcomes.push(...(await sendWithoutTrouble(state, request, signal)));
    } catch (error) {
      if (outcomes.length === 0) throw error;
      const reason = messageOf(error);
      return items.map((_, index) => outcomes[index] ?? { is: 'retry', reason });
    }
  } while (outcomes.length < items.length);
  return outcomes;
}

interface Request {
  items: Item[];
  /** Of each document, whose it is: packets come before their event. */
  documents: { of: Item; isPackets: boolean }[];
  lines: string[];
}

async function requestOf({ names, packets, options }: State, items: readonly Item[]): Promise<Request> {
  const { cluster } = options;
  const request: Request = { items: [], documents: [], lines: [] };
  let bytes = 0;
  for (const item of items) {
    const document = await packets.documentOf(item);
    bytes += document?.length ?? 0;
    if (bytes > MAX_PACKET_BYTES && request.items.length > 0) break;
    if (document !== undefined) {
      request.documents.push({ of: item, isPackets: true });
      request.lines.push(JSON.stringify({ create: { _index: packets.index, _id: item.id } }), document);
    }
    request.items.push(item);
    request.documents.push({ of: item, isPackets: false });
    request.lines.push(JSON.stringify({ create: { _id: item.id } }), documentOf(item, names, cluster));
  }
  return request;
}

/** Without packets, where they may be why it is refused. */
async function sendWithoutTrouble(state: State, request: Request, signal: AbortSignal): Promise<Outcome[]> {
  try {
    return await sendRequest(state, request, signal);
  } catch (error) {
    const withPackets = request.documents.length - request.items.length;
    if (withPackets === 0 || !(error instanceof SendError)) throw error;
    const isTooLarge = error.failure === 'too_large' && request.items.length === 1;
    if (!isTooLarge && error.failure !== 'refused') throw error;
    state.packets.pause(withPackets, error.message);
    return sendRequest(state, await requestOf(state, request.items), signal);
  }
}

async function sendRequest(
  state: State,
  { items, documents, lines }: Request,
  signal: AbortSignal,
): Promise<Outcome[]> {
  const { names, packets, askNode, options } = state;
  const withPackets = documents.length > items.length;
  if (withPackets && options.settings.manageTemplate)
    await packets.manage((method, path, body) => ask(state, method, path, body, signal));
  const path = `/${names.index}/_bulk?filter_path=${FILTER}`;
  const maxAnswer = ANSWER_BYTES + documents.length * ANSWER_BYTES_EACH;
  const { body } = await askNode({ method: 'POST', path, body: lines, maxAnswer, answers: [] }, signal);
  const results = classifyBulk(
    documents.map(({ of }) => of),
    body,
  );
  const ofPackets = new Map<Item, Result>();
  const outcomes: Outcome[] = [];
  for (const [index, { of, isPackets }] of documents.entries()) {
    const result = results[index];
    if (result === undefined) continue;
    if (isPackets) {
      ofPackets.set(of, result);
      continue;
    }
    if (result.indexMissing) state.managedAt = -Infinity;
    outcomes.push(packets.settle(of, result.outcome, ofPackets.get(of)));
  }
  return outcomes;
}

function ask(
  { askNode }: State,
  method: Method,
  path: string,
  body: object | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const asked = { method, path, maxAnswer: ANSWER_BYTES, answers: [400, 403, 404, 405] };
  return askNode(body === undefined ? asked : { ...asked, body }, signal);
}
