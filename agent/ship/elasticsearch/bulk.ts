/**
 * Events by `_bulk` of `create` with the event's id: the journal's lines as they are, or in ECS. An event that arrived
 * in a try whose answer was lost is a duplicate in the next, and is there once. Template, index and alias are looked at
 * each minute.
 */
import type { Logger } from 'pino';
import type { Item, Outcome } from '../destination.ts';
import { classifyBulk } from './classify.ts';
import { documentOf } from './document.ts';
import { createManager, type Answer, type Method } from './manage.ts';
import { namesOf, type Names, type Schema } from './template.ts';

const MANAGE_MILLIS = 60_000;
/** Of an answer, in bytes: a part of it all, and one of each event. */
const ANSWER_BYTES = 4 << 20;
const ANSWER_BYTES_EACH = 8 << 10;
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
  settings: { schema: Schema; manageTemplate: boolean };
  cluster: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Monotonic, in milliseconds. */
  now: () => number;
}

interface State {
  readonly options: BulkOptions;
  readonly names: Names;
  readonly manage: ReturnType<typeof createManager>;
  readonly askNode: AskNode;
  managedAt: number;
}

export interface Bulk {
  send: (items: readonly Item[], signal: AbortSignal) => Promise<Outcome[]>;
  /** Asks whatever else. @throws SendError but for 400, 403 and 404. */
  ask: (method: Method, path: string, body: object | undefined, signal: AbortSignal) => Promise<Answer>;
}

/** @param askNode Asks one of the nodes, once. */
export function createBulk(options: BulkOptions, askNode: AskNode): Bulk {
  const names = namesOf(options.cluster, options.settings.schema);
  const state: State = { options, names, manage: createManager(names, options.log), askNode, managedAt: -Infinity };
  return {
    send: (items, signal) => send(state, items, signal),
    ask: (method, path, body, signal) => ask(state, method, path, body, signal),
  };
}

async function send(state: State, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  const { names, manage, askNode } = state;
  const { settings, cluster, now } = state.options;
  signal.throwIfAborted();
  if (settings.manageTemplate && now() - state.managedAt >= MANAGE_MILLIS) {
    await manage((method, path, body) => ask(state, method, path, body, signal));
    state.managedAt = now();
  }
  const lines = items.flatMap((item) => [
    JSON.stringify({ create: { _id: item.id } }),
    documentOf(item, settings.schema, cluster),
  ]);
  const path = `/${names.index}/_bulk?filter_path=${FILTER}`;
  const maxAnswer = ANSWER_BYTES + items.length * ANSWER_BYTES_EACH;
  const { body } = await askNode({ method: 'POST', path, body: lines, maxAnswer, answers: [] }, signal);
  const { outcomes, indexMissing } = classifyBulk(items, body);
  if (indexMissing) state.managedAt = -Infinity;
  return outcomes;
}

function ask(
  { askNode }: State,
  method: Method,
  path: string,
  body: object | undefined,
  signal: AbortSignal,
): Promise<Answer> {
  const asked = { method, path, maxAnswer: ANSWER_BYTES, answers: [400, 403, 404] };
  return askNode(body === undefined ? asked : { ...asked, body }, signal);
}
