/** A journal on the disk, a clock that a test moves, and a destination that does as told. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { openJournal } from '../../agent/journal/journal.ts';
import type { Journal, JournalOptions } from '../../agent/journal/journal.ts';
import type { SinkClock } from '../../agent/ship/clock.ts';
import type { Destination, Item, Outcome } from '../../agent/ship/destination.ts';
import { startSink } from '../../agent/ship/sink.ts';
import type { Sink } from '../../agent/ship/sink.ts';
import type { SinkOptions } from '../../agent/ship/state.ts';

export interface World {
  root: string;
  journal: Journal;
  clock: TestClock;
  /** Messages of the sinks, `level message`. */
  logged: string[];
  /** Items' numbers of each send. */
  sends: number[][];
  append(count: number, padding?: number): Promise<void>;
  start(answer: Answer, options?: Partial<SinkOptions>): Sink;
  end(): Promise<void>;
}

/** Outcomes for a send's items, or an error to throw. */
export type Answer = (items: readonly Item[], signal: AbortSignal) => Outcome[] | Promise<Outcome[]>;

export const delivered = (items: readonly Item[]): Outcome[] => items.map(() => ({ is: 'delivered' }));

export async function createWorld(options: Partial<JournalOptions> = {}): Promise<World> {
  const root = await mkdtemp(path.join(tmpdir(), 'sink-'));
  const directory = path.join(root, 'log');
  const journal = await openJournal({
    directory,
    segmentSize: 1e6,
    maxSize: 1e9,
    segmentAge: 1e9,
    maxAge: 0,
    fsync: false,
    ...options,
  });
  const clock = createClock();
  const logged: string[] = [];
  const sends: number[][] = [];
  const sinks: Sink[] = [];
  const say =
    (level: string) =>
    (...args: unknown[]): void =>
      void logged.push(`${level} ${String(args.at(-1))}`);
  return {
    root,
    journal,
    clock,
    logged,
    sends,
    async append(count, padding = 0) {
      const first = journal.end().event;
      const lines = Array.from({ length: count }, (_, index) => {
        const id = `e${first + index}`;
        const record = { event_id: id, timestamp: '2026-01-02T03:04:05.678901Z', padding: 'x'.repeat(padding) };
        return { position: `a:${first + index}`, json: JSON.stringify({ severity: 100, host: 'node', record }) };
      });
      await journal.append(lines);
    },
    start(answer, changes = {}) {
      const destination: Destination = {
        async send(items, signal) {
          sends.push(items.map(({ number }) => number));
          return await answer(items, signal);
        },
        close: async () => undefined,
      };
      const sink = startSink({
        name: 'test',
        stateDirectory: root,
        journal: { directory, end: () => journal.end(), onAppend: (listener) => journal.onAppend(listener) },
        destination,
        batch: { batchEvents: 10, batchSize: 1e6, batchMillis: 0 },
        deadLetterSize: 1 << 20,
        log: { info: say('info'), warn: say('warn'), error: say('error') },
        clock,
        random: () => 1,
        ...changes,
      });
      sinks.push(sink);
      return sink;
    },
    async end() {
      clock.run();
      for (const sink of sinks) await sink.stop(0);
      await journal.close().catch(() => undefined);
      await rm(root, { recursive: true, force: true });
    },
  };
}

export interface TestClock extends SinkClock {
  /** Waits under way, in milliseconds; without those of the sink's tick and poll. */
  waits(): number[];
  /** Whether all that runs is a sink that waits for events. */
  isResting(): boolean;
  /** Moves the time, and lets what was waiting go on. */
  advance(millis: number): Promise<void>;
  /** From now on every wait is over at once, and the time moves by it. */
  run(): void;
}

function createClock(): TestClock {
  let now = 0;
  let running = false;
  const timers = new Set<{ at: number; millis: number; done: () => void }>();
  return {
    now: () => now,
    date: () => new Date(Date.UTC(2026, 0, 2) + now),
    async wait(millis, signal) {
      if (signal.aborted) return;
      if (running) {
        now += millis;
        return await turn();
      }
      await new Promise<void>((resolve) => {
        const done = (): void => {
          timers.delete(timer);
          signal.removeEventListener('abort', done);
          resolve();
        };
        const timer = { at: now + millis, millis, done };
        timers.add(timer);
        signal.addEventListener('abort', done);
      });
    },
    waits: () => [...timers].map(({ millis }) => millis).filter((millis) => millis !== 1000),
    isResting: () => timers.size === 2 && [...timers].every(({ millis }) => millis === 1000),
    async advance(millis) {
      now += millis;
      for (const timer of timers) if (timer.at <= now) timer.done();
      await turn();
    },
    run() {
      running = true;
      for (const timer of timers) timer.done();
    },
  };
}

/** Until `condition` holds; gives up after a minute, so that the test's file ends. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`never: ${String(condition)}`);
    await turn();
  }
}
