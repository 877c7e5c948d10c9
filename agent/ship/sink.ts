/**
 * Carries the journal's events to one destination: reads from the sink's cursor, gathers batches, sends, tries again, sets aside what
 * is refused for good, and moves the cursor.
 *
 * Order: an event is settled (delivered, or refused for good) → its dead letter is on the disk → the cursor moves over it. The cursor
 * never moves over an event that is unsettled: after a crash, events behind it are sent again, and the destination tells which it had.
 *
 * The window is what lies between the cursor and the reader: events sent but not settled, events settled behind one that isn't, and gaps
 * where retention was faster. Unsettled events are at most one batch, by count and by size; dead letters that wait for the
 * cursor at most another; of delivered ones nothing but the count stays. So an event that always fails holds up no other.
 *
 * An event fails for good when the destination says so, when alone it is too large or refused, or when the destination asked 8 times
 * to try it again while it took others in between (a throttled one is not counted against it).
 *
 * Invariant, at any moment: journal's events = delivered + deadLettered + evicted + pending. An event that retention deletes while it
 * is in the window may still be delivered, and counts as that; in a crash it becomes evicted.
 *
 * Failures: after each send that leaves events unsettled the sink waits (exponential, full jitter). After 3 sends in a row that settled
 * nothing the circuit opens: single events go, each time another one, until one goes through. It is logged when it opens and when it
 * closes, not in between. When dead letters or cursor can't be written, or the journal not be read, the sink tries each second.
 *
 * Not promised: that nothing is sent twice after a crash; an event that was set aside just before it may then be delivered too. A lone event
 * that fails stays pending until others come and go through: nothing else tells a bad event from a bad destination.
 */
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { messageOf } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { readJournal } from '../journal/journal.ts';
import type { Cursor, JournalLine } from '../journal/journal.ts';
import { listSegments } from '../journal/segment.ts';
import { loadProgress, noProgress, saveProgress } from './cursor.ts';
import type { Progress } from './cursor.ts';
import { appendDeadLetters, cleanReason, deadLetterDirectory } from './dead-letter.ts';
import type { DeadLetter } from './dead-letter.ts';
import { SendError } from './destination.ts';
import type { Destination, Item, Outcome, SendFailure } from './destination.ts';

const TICK_MILLIS = 1000;
const MAX_STRIKES = 8;
const FAILED_SENDS_TO_OPEN = 3;
/** Of this many batches, the window may hold what is settled but has an unsettled one before it. */
const WINDOW_BATCHES = 10;

export interface SinkClock {
  /** Monotonic, in milliseconds. */
  now(): number;
  /** The wall clock. */
  date(): Date;
  /** Resolves after `millis`, or at once when the signal is aborted. */
  wait(millis: number, signal: AbortSignal): Promise<void>;
}

const systemClock: SinkClock = {
  now: () => performance.now(),
  date: () => new Date(),
  wait: (millis, signal) => delay(millis, undefined, { signal }).catch(() => undefined),
};

/** What tests make fail. */
export interface SinkIo {
  save(file: string, progress: Progress): Promise<void>;
  appendLetters: typeof appendDeadLetters;
}

export interface SinkOptions {
  /** Such as `elasticsearch`: the name of its files. */
  name: string;
  stateDirectory: string;
  journal: {
    directory: string;
    end(): Cursor;
    onAppend(listener: () => void): () => void;
  };
  /** Closed when the sink is stopped. */
  destination: Destination;
  /** At most this many events, at most this many bytes, and how long an event waits for others. */
  batch: { batchEvents: number; batchSize: number; batchMillis: number };
  /** Bytes. */
  deadLetterSize: number;
  log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /** Called for each send that delivered events. @param oldest of them: when its packet was captured, in ms since the Unix epoch. */
  onDelivered?: (count: number, oldest: number) => void;
  /** Called for each send that was answered. */
  onSent?: (seconds: number) => void;
  clock?: SinkClock;
  /** 0..1. */
  random?: () => number;
  /** Milliseconds: the first wait is at most `base`, each further one at most twice as long, none longer than `max`. */
  retry?: { base: number; max: number };
  io?: SinkIo;
}

export interface SinkStatus {
  name: string;
  /** Events of the journal that are neither delivered, nor dead-lettered, nor evicted. */
  pending: number;
  delivered: number;
  duplicates: number;
  deadLettered: number;
  evicted: number;
  /** Dead letters that had to go for newer ones, since the start. */
  deadLettersEvicted: number;
  /** Sends since the start that had events which had been sent before. */
  retries: number;
  /** Sends since the start that went wrong; `retry`: the destination took only a part, or nothing. */
  failures: Partial<Record<SendFailure | 'retry', number>>;
  circuit: 'closed' | 'open';
  lastError?: string;
  /** Milliseconds since the Unix epoch, as are all times here. */
  lastSuccess?: number;
  /** Capture time of the oldest event that was read and is not settled. */
  oldestPending?: number;
}

export interface Sink {
  readonly name: string;
  status(): SinkStatus;
  /** Gives a send under way at most this long, then aborts it; saves the cursor, closes the destination. Never rejects. */
  stop(graceMillis: number): Promise<void>;
}

/** One line of the journal, or a gap. */
interface Entry {
  /** Behind it. */
  end: Cursor;
  /** Events deleted just before it. */
  gap: number;
  state:
    | { is: 'unsettled'; item: Item; event: Record<string, unknown> }
    | { is: 'delivered'; duplicate: boolean }
    | { is: 'refused'; letter: DeadLetter; stored: boolean }
    | { is: 'gap' };
  /** Bytes held in memory. */
  bytes: number;
  /** Capture time, in ms since the Unix epoch. */
  time: number;
  /** Monotonic. */
  gatheredAt: number;
  attempts: number;
  strikes: number;
  /** How many others had been delivered when it was last asked to wait. */
  seen: number;
}

type Unsettled = Entry & { state: { is: 'unsettled' } };

const isUnsettled = (entry: Entry): entry is Unsettled => entry.state.is === 'unsettled';

/** Begins at once; whatever goes wrong is logged and tried again. */
export function startSink(options: SinkOptions): Sink {
  const { name, stateDirectory, journal, destination, batch, log, clock = systemClock, random = Math.random } = options;
  const { base, max } = options.retry ?? { base: 500, max: 30_000 };
  const io = options.io ?? { save: saveProgress, appendLetters: appendDeadLetters };
  const file = path.join(stateDirectory, 'sinks', `${name}.cursor.json`);

  /** As it is on the disk. */
  let progress = noProgress();
  let window: Entry[] = [];
  /** Behind the window. */
  let position = progress.cursor;
  /** Whether `position` is known and nobody reads from it. */
  let settledPosition = false;
  let stopping = false;
  let wake = (): void => undefined;
  let interrupt = wake;
  const stopped = new AbortController();
  const aborted = new AbortController();

  const failures: SinkStatus['failures'] = {};
  let retries = 0;
  let deliveredNow = 0;
  let deadLettersEvicted = 0;
  let lastError: string | undefined;
  let lastSuccess: number | undefined;
  /** Sends in a row that settled nothing. */
  let failedInARow = 0;
  let backoffs = 0;
  let open: { since: number; tries: number } | undefined;
  const troubled = new Set<string>();

  const forget = journal.onAppend(() => {
    const waiting = window.filter(isUnsettled).length;
    if (waiting === 0 || waiting + journal.end().event - position.event >= batch.batchEvents) wake();
  });
  const running = run();
  const ticking = tick();

  async function run(): Promise<void> {
    await begin();
    while (!stopping) {
      await fill();
      await commit();
      if (stopping) break;
      const unsettled = window.filter(isUnsettled);
      const due = dueIn(unsettled);
      if (due > 0) await rest(due, true);
      else await round(unsettled);
      await commit();
      if (backoffs > 0 && window.some(isUnsettled)) {
        await rest(random() * Math.min(max, base * 2 ** Math.min(backoffs - 1, 30)), false);
      }
    }
  }

  async function begin(): Promise<void> {
    while (!stopping) {
      const loaded = await attempt('cursor', () => loadProgress(file, journal.end()));
      if (loaded !== undefined) {
        ({ progress } = loaded);
        position = progress.cursor;
        settledPosition = true;
        if (loaded.reason !== undefined) {
          log.warn({ sink: name, reason: loaded.reason }, 'the sink begins at the oldest event of the journal');
        }
        return;
      }
      await rest(TICK_MILLIS, false);
    }
  }

  /** Says once that `what` doesn't work, and once that it does again. */
  async function attempt<T>(
    what: 'cursor' | 'dead letters' | 'journal',
    action: () => Promise<T>,
  ): Promise<T | undefined> {
    try {
      const result = await action();
      if (troubled.delete(what)) log.info({ sink: name, what }, 'the sink goes on');
      return result;
    } catch (error) {
      const message = reasonOf(error);
      lastError = message;
      if (!troubled.has(what)) {
        troubled.add(what);
        log.error({ sink: name, what, error: message }, 'the sink waits: its files can not be read or written');
      }
      return undefined;
    }
  }

  /** How long the gathered events still wait for others, in ms; with none, until the next look. */
  function dueIn(unsettled: readonly Unsettled[]): number {
    const [oldest] = unsettled;
    if (oldest === undefined) return TICK_MILLIS;
    if (isFull(unsettled) || unsettled.some(({ attempts }) => attempts > 0)) return 0;
    return oldest.gatheredAt + batch.batchMillis - clock.now();
  }

  /** Set by `fill` when the next event has no room in the batch. */
  let overflow = false;

  function isFull(unsettled: readonly Unsettled[]): boolean {
    return overflow || unsettled.length >= batch.batchEvents || unsettled.length === 0;
  }

  /** Reads on, as far as there is room. */
  async function fill(): Promise<void> {
    overflow = false;
    let count = 0;
    let bytes = 0;
    let letters = 0;
    for (const entry of window) {
      if (isUnsettled(entry)) {
        count += 1;
        bytes += entry.bytes;
      } else letters += entry.bytes;
    }
    const room = (): boolean =>
      count < batch.batchEvents && letters <= batch.batchSize && window.length < WINDOW_BATCHES * batch.batchEvents;
    const to = journal.end();
    if (to.event <= position.event || !room()) return;
    settledPosition = false;
    const read = await attempt('journal', async () => {
      let found = false;
      for await (const line of readJournal({ directory: journal.directory, from: position, to })) {
        const entry = toEntry(line);
        if (isUnsettled(entry)) {
          if (count > 0 && bytes + entry.bytes > batch.batchSize) {
            overflow = true;
            break;
          }
          count += 1;
          bytes += entry.bytes;
        } else letters += entry.bytes;
        if (entry.gap > 0) logEvicted(entry.gap);
        found = true;
        window.push(entry);
        position = line.end;
        if (!room() || stopping) break;
      }
      return found;
    });
    settledPosition = true;
    // Nothing there although there should be: gone by retention, or the folder can't be read.
    if (read !== true && count === 0 && !overflow) {
      await notice();
      await rest(TICK_MILLIS, false);
    }
  }

  function toEntry(line: JournalLine): Entry {
    const gap = line.number - position.event;
    const common = { end: line.end, gap, gatheredAt: clock.now(), attempts: 0, strikes: 0, seen: deliveredNow };
    if (line.kind === 'damage') {
      const letter = {
        time: clock.date().toISOString(),
        number: line.number,
        reason: 'damaged line',
        attempts: 0,
        raw: line.bytes,
      };
      return { ...common, state: { is: 'refused', letter, stored: false }, bytes: 256, time: clock.date().getTime() };
    }
    const { event, json, number } = line;
    const record = isRecord(event.record) ? event.record : {};
    const id = typeof record.event_id === 'string' ? record.event_id : '';
    const time = typeof record.timestamp === 'string' ? Date.parse(record.timestamp) : Number(event.time) * 1000;
    return {
      ...common,
      state: { is: 'unsettled', item: { number, id, json }, event },
      bytes: Buffer.byteLength(json) + 1,
      time: Number.isFinite(time) ? time : clock.date().getTime(),
    };
  }

  /** Looks whether retention has passed the reader, also while the destination is away. */
  async function notice(): Promise<void> {
    const [oldest] = await listSegments(journal.directory).catch(() => []);
    if (oldest === undefined || !settledPosition || oldest <= position.event) return;
    const gap = oldest - position.event;
    const end = { segment: oldest, offset: 0, event: oldest };
    const state = { is: 'gap' } as const;
    window.push({ end, gap, state, bytes: 0, time: 0, gatheredAt: 0, attempts: 0, strikes: 0, seen: 0 });
    position = end;
    logEvicted(gap);
  }

  async function tick(): Promise<void> {
    while (!stopping) {
      await clock.wait(TICK_MILLIS, stopped.signal);
      if (!stopping) await notice();
    }
  }

  function logEvicted(events: number): void {
    log.warn({ sink: name, events }, 'events were deleted by retention before they were delivered');
  }

  /** Sends each of them once. */
  async function round(unsettled: readonly Unsettled[]): Promise<void> {
    const probe = open === undefined ? undefined : unsettled[open.tries % unsettled.length];
    const entries = probe === undefined ? unsettled : [probe];
    const work: (readonly Unsettled[])[] = [entries];
    for (let group = work.shift(); group !== undefined && !stopping; group = work.shift()) {
      const sent = await send(group);
      if (sent === 'stop') return;
      if (sent === 'halve') {
        const half = Math.ceil(group.length / 2);
        work.unshift(group.slice(0, half), group.slice(half));
      }
    }
    if (backoffs === 0 && entries.some((entry) => isUnsettled(entry))) backoffs = 1;
  }

  async function send(group: readonly Unsettled[]): Promise<'next' | 'halve' | 'stop'> {
    if (group.some(({ attempts }) => attempts > 0)) retries += 1;
    if (open !== undefined) open.tries += 1;
    for (const entry of group) entry.attempts += 1;
    const items = group.map(({ state }) => state.item);
    let outcomes: Outcome[];
    const startedAt = performance.now();
    try {
      outcomes = await untilAborted(destination.send(items, aborted.signal));
    } catch (error) {
      if (aborted.signal.aborted) return 'stop';
      const failure = error instanceof SendError ? error.failure : 'incomplete';
      const message = reasonOf(error);
      const [only] = group;
      if (failure !== 'too_large' && failure !== 'refused') {
        failed(failure, message);
        return 'stop';
      }
      countFailure(failure, message);
      if (group.length > 1) return 'halve';
      if (only !== undefined) refuse(only, message);
      succeeded();
      return 'next';
    }
    options.onSent?.((performance.now() - startedAt) / 1000);
    settle(group, outcomes);
    return 'next';
  }

  function settle(group: readonly Unsettled[], outcomes: readonly Outcome[]): void {
    const delivered = group.filter((_, index) => outcomes[index]?.is === 'delivered');
    if (delivered.length > 0) {
      deliveredNow += delivered.length;
      options.onDelivered?.(delivered.length, Math.min(...delivered.map(({ time }) => time)));
    }
    let left: string | undefined;
    for (const [index, entry] of group.entries()) {
      const outcome = outcomes[index] ?? { is: 'retry', reason: 'the destination gave no outcome' };
      if (outcome.is === 'delivered') become(entry, { is: 'delivered', duplicate: outcome.duplicate === true }, 0);
      else if (outcome.is === 'rejected') refuse(entry, outcome.reason, outcome.status);
      else {
        if (outcome.throttled !== true && deliveredNow > entry.seen) {
          entry.strikes += 1;
          entry.seen = deliveredNow;
        }
        if (entry.strikes >= MAX_STRIKES)
          refuse(entry, `failed ${MAX_STRIKES} times while others went through: ${outcome.reason}`);
        else left ??= outcome.reason;
      }
    }
    if (left === undefined) succeeded();
    else if (group.every((entry) => isUnsettled(entry))) failed('retry', cleanReason(left));
    else {
      succeeded();
      countFailure('retry', cleanReason(left));
    }
  }

  function become(entry: Entry, state: Entry['state'], bytes: number): void {
    entry.state = state;
    entry.bytes = bytes;
  }

  function refuse(entry: Unsettled, reason: string, status?: number): void {
    const { item, event } = entry.state;
    const letter: DeadLetter = {
      time: clock.date().toISOString(),
      number: item.number,
      reason: cleanReason(reason),
      ...(status === undefined ? {} : { status }),
      attempts: entry.attempts,
      event,
    };
    become(entry, { is: 'refused', letter, stored: false }, entry.bytes);
  }

  function countFailure(failure: SendFailure | 'retry', message: string): void {
    failures[failure] = (failures[failure] ?? 0) + 1;
    lastError = message;
  }

  function failed(failure: SendFailure | 'retry', message: string): void {
    countFailure(failure, message);
    failedInARow += 1;
    backoffs += 1;
    if (open === undefined && failedInARow >= FAILED_SENDS_TO_OPEN) {
      open = { since: clock.now(), tries: 0 };
      log.warn(
        { sink: name, failure, error: message, pending: report().pending },
        'events are not getting through; they wait',
      );
    }
  }

  function succeeded(): void {
    failedInARow = 0;
    backoffs = 0;
    lastSuccess = clock.date().getTime();
    if (open === undefined) return;
    const seconds = Math.round((clock.now() - open.since) / 1000);
    log.info({ sink: name, seconds, tries: open.tries }, 'events are getting through again');
    open = undefined;
  }

  /** Moves the cursor over all that is settled before the first that isn't. Counts once it is on the disk, and only then. */
  async function commit(): Promise<void> {
    const first = window.findIndex(isUnsettled);
    const settled = first === -1 ? window.slice() : window.slice(0, first);
    const last = settled.at(-1);
    if (last === undefined) return;
    const next = { ...progress, cursor: last.end };
    const unstored = [];
    for (const { gap, state } of settled) {
      next.evicted += gap;
      if (state.is === 'delivered') {
        next.delivered += 1;
        if (state.duplicate) next.duplicates += 1;
      }
      if (state.is === 'refused') {
        next.deadLettered += 1;
        if (!state.stored) unstored.push(state);
      }
    }
    for (;;) {
      if ((await store(unstored)) && (await attempt('cursor', async () => (await io.save(file, next), true)))) break;
      // What isn't saved is sent again after the restart.
      if (stopping) return;
      await rest(TICK_MILLIS, false);
    }
    progress = next;
    window = window.slice(settled.length);
  }

  async function store(states: { letter: DeadLetter; stored: boolean }[]): Promise<boolean> {
    const letters = states.filter(({ stored }) => !stored).map(({ letter }) => letter);
    if (letters.length === 0) return true;
    const directory = deadLetterDirectory(stateDirectory, name);
    const result = await attempt('dead letters', () =>
      io.appendLetters({ directory, maxSize: options.deadLetterSize, letters }),
    );
    if (result === undefined) return false;
    for (const state of states) state.stored = true;
    deadLettersEvicted += result.evicted;
    log.warn(
      { sink: name, events: letters.length, reason: letters[0]?.reason },
      'events were set aside as dead letters',
    );
    if (result.evicted > 0)
      log.warn({ sink: name, events: result.evicted }, 'old dead letters were deleted to make room');
    return true;
  }

  /** @param wakeable whether new events end the wait. A stop always does. */
  async function rest(millis: number, wakeable: boolean): Promise<void> {
    if (stopping) return;
    const controller = new AbortController();
    interrupt = () => controller.abort();
    if (wakeable) wake = interrupt;
    await clock.wait(millis, controller.signal);
    wake = () => undefined;
    interrupt = wake;
  }

  /** A destination that ignores its signal must not hold up a stop. */
  async function untilAborted<T>(promise: Promise<T>): Promise<T> {
    const { signal } = aborted;
    let abort = (): void => undefined;
    const abortion = new Promise<never>((_, reject) => {
      abort = () => reject(new Error('the sink was stopped'));
    });
    signal.addEventListener('abort', abort, { once: true });
    try {
      return await Promise.race([promise, abortion]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  function report(): SinkStatus {
    const { delivered, duplicates, deadLettered } = progress;
    const evicted = window.reduce((sum, { gap }) => sum + gap, progress.evicted);
    const oldest = window.find(isUnsettled);
    return {
      name,
      pending: Math.max(0, journal.end().event - delivered - deadLettered - evicted),
      delivered,
      duplicates,
      deadLettered,
      evicted,
      deadLettersEvicted,
      retries,
      failures: { ...failures },
      circuit: open === undefined ? 'closed' : 'open',
      ...(lastError === undefined ? {} : { lastError }),
      ...(lastSuccess === undefined ? {} : { lastSuccess }),
      ...(oldest === undefined ? {} : { oldestPending: oldest.time }),
    };
  }

  async function stop(graceMillis: number): Promise<void> {
    stopping = true;
    forget();
    stopped.abort();
    interrupt();
    const grace = new AbortController();
    const late = clock.wait(graceMillis, grace.signal).then(() => aborted.abort(new Error('the sink was stopped')));
    await Promise.all([running, ticking]);
    grace.abort();
    await late;
    await destination
      .close()
      .catch((error: unknown) => log.warn({ sink: name, error: reasonOf(error) }, 'closing failed'));
  }

  return { name, status: report, stop };
}

/** For a log: one line, bounded. */
function reasonOf(error: unknown): string {
  return cleanReason(messageOf(error));
}
