/**
 * Ends incidents at PagerDuty once somebody took care of their alerts on the page, by each sink that opens them.
 *
 * One after the other, with the waits that a server asks for. What was not taken within GIVE_UP_MILLIS is given up and
 * logged, as is what is more than MAX_WAITING; and a page that ends forgets what waits: the incident then stays open,
 * for its people to end. An incident that is resolved twice is resolved.
 */
import type { Logger } from 'pino';
import type { SinkEntry } from '../config/sinks.ts';
import { messageOf } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { systemClock, type SinkClock } from './clock.ts';
import { SendError, type Destination, type Item, type Outcome } from './destination.ts';
import { toAlert, type About } from './formats/alert.ts';
import { dedupKey, pagerdutyResolve } from './formats/pagerduty.ts';
import { createHttp } from './http/http.ts';
import { createFilter } from './when.ts';

const MAX_WAITING = 1000;
const GIVE_UP_MILLIS = 3_600_000;
const FIRST_WAIT_MILLIS = 1000;
const MAX_WAIT_MILLIS = 60_000;

export interface Resolver {
  /** @param events Of alerts that were acknowledged or dismissed. */
  resolve(events: readonly object[]): void;
  close(): Promise<void>;
}

export interface ResolverOptions {
  sinks: readonly SinkEntry[];
  about: About;
  log: Pick<Logger, 'info' | 'warn'>;
  clock?: SinkClock;
}

type HttpEntry = Extract<SinkEntry, { kind: 'http' }>;

interface Waiting {
  item: Item;
  /** Monotonic, in milliseconds. */
  since: number;
}

export async function createResolver(options: ResolverOptions): Promise<Resolver> {
  const entries = options.sinks.filter(
    (entry): entry is HttpEntry => entry.kind === 'http' && entry.settings.format === 'pagerduty',
  );
  const resolvers = await Promise.all(entries.map((entry) => createOne(entry, options)));
  return {
    resolve: (events) => resolvers.forEach((resolver) => resolver.resolve(events)),
    close: async () => void (await Promise.all(resolvers.map((resolver) => resolver.close()))),
  };
}

interface State {
  readonly sink: string;
  readonly destination: Destination;
  readonly clock: SinkClock;
  readonly log: ResolverOptions['log'];
  /** By the incident. */
  readonly waiting: Map<string, Waiting>;
  readonly closing: AbortController;
  /** Undefined while nothing waits. */
  running: Promise<void> | undefined;
}

async function createOne(entry: HttpEntry, { about, log, clock = systemClock }: ResolverOptions): Promise<Resolver> {
  const takes = createFilter(entry.when ?? {});
  const state: State = {
    sink: entry.name,
    destination: await createHttp({ settings: entry.settings, ...about, format: pagerdutyResolve }),
    clock,
    log,
    waiting: new Map(),
    closing: new AbortController(),
    running: undefined,
  };
  return {
    resolve(events) {
      for (const event of events) if (isRecord(event) && takes(event)) add(state, event, about);
      state.running ??= run(state);
    },
    async close() {
      state.closing.abort(new Error('the page ends'));
      await state.running;
      await state.destination.close();
    },
  };
}

function add({ sink, waiting, clock, log }: State, event: object, about: About): void {
  const json = JSON.stringify(event);
  const alert = toAlert(json, about);
  const incident = dedupKey(alert);
  if (waiting.size >= MAX_WAITING && !waiting.has(incident))
    return log.warn({ sink, incident }, 'an incident stays open: too many are to be resolved at once');
  waiting.set(incident, { item: { number: 0, id: alert.id, json }, since: clock.now() });
}

async function run(state: State): Promise<void> {
  const { destination, clock, waiting, closing } = state;
  for (let failures = 0; waiting.size > 0 && !closing.signal.aborted;) {
    const asked = [...waiting].slice(0, destination.maxEvents);
    const items = asked.map(([, { item }]) => item);
    const wait = settle(state, asked, await sendAll(destination, items, closing.signal));
    failures = wait === undefined ? 0 : failures + 1;
    if (wait === undefined) continue;
    const backoff = Math.min(MAX_WAIT_MILLIS, FIRST_WAIT_MILLIS * 2 ** (failures - 1));
    await clock.wait(Math.max(wait, backoff), closing.signal);
  }
  state.running = undefined;
}

/** @returns how long to wait at least, in milliseconds, where something is to be sent again. */
function settle(
  { sink, waiting, clock, log }: State,
  asked: readonly [string, Waiting][],
  outcomes: readonly Outcome[],
): number | undefined {
  let wait: number | undefined;
  for (const [index, [incident, { since }]] of asked.entries()) {
    const outcome = outcomes[index] ?? { is: 'retry', reason: 'it gave no outcome' };
    if (outcome.is === 'retry' && clock.now() - since <= GIVE_UP_MILLIS) {
      wait = Math.max(wait ?? 0, outcome.afterMillis ?? 0);
      continue;
    }
    waiting.delete(incident);
    if (outcome.is === 'delivered') log.info({ sink, incident }, 'the incident is resolved');
    else log.warn({ sink, incident, reason: outcome.reason }, 'an incident stays open: it could not be resolved');
  }
  return wait;
}

async function sendAll(destination: Destination, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  try {
    return await destination.send(items, signal);
  } catch (error) {
    const after = error instanceof SendError ? error.afterMillis : undefined;
    const reason = messageOf(error);
    return items.map(() => ({ is: 'retry', reason, ...(after === undefined ? {} : { afterMillis: after }) }));
  }
}
