/** Looks for new alerts while somebody looks on. */
import type { AlertRow } from '../api.ts';
import type { AlertSource } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import { iso, onlyAlerts } from './filters.ts';
import { newestFirst, rowsOf } from './rows.ts';

const POLL_MILLIS = 2000;
const LIVE_MILLIS = 15 * 60_000;
const LIVE_ROWS = 200;
const SEEN = 20_000;

export interface Live {
  subscribe: AlertSource['subscribe'];
  stop(): void;
}

export function watchAlerts(index: AlertIndex): Live {
  const listeners = new Set<(rows: AlertRow[], more: boolean) => void>();
  const poll = createPoll(async (seen, first) => {
    const rows = (await newestRows(index)).filter((row) => !seen.has(row.id));
    for (const row of rows) seen.add(row.id);
    if (first || rows.length === 0) return;
    for (const listener of listeners) listener(rows, rows.length === LIVE_ROWS);
  });
  return {
    subscribe(listener) {
      listeners.add(listener);
      poll.start();
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) poll.stop();
      };
    },
    stop: () => poll.stop(),
  };
}

async function newestRows(index: AlertIndex): Promise<AlertRow[]> {
  const { field, search, now } = index;
  const filter = [...onlyAlerts(field), { range: { [field.time]: { gte: iso(now() - LIVE_MILLIS) } } }];
  const answer = await search({ size: LIVE_ROWS, query: { bool: { filter } }, ...newestFirst(field) });
  return rowsOf(index, answer.hits.hits);
}

/** Repeats a look until it is stopped; what fails is tried again. */
function createPoll(look: (seen: Set<string>, first: boolean) => Promise<void>): { start(): void; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  let turn = 0;
  function run(current: number, seen: Set<string>, first: boolean): void {
    const again = (isFirst: boolean): void => {
      if (turn !== current) return;
      if (seen.size > SEEN) for (const id of [...seen].slice(0, seen.size - SEEN / 2)) seen.delete(id);
      timer = setTimeout(() => run(current, seen, isFirst), POLL_MILLIS);
    };
    look(seen, first).then(
      () => again(false),
      () => again(first),
    );
  }
  return {
    start() {
      if (timer !== undefined) return;
      turn += 1;
      timer = setTimeout(() => undefined, 0);
      run(turn, new Set(), true);
    },
    stop() {
      turn += 1;
      clearTimeout(timer);
      timer = undefined;
    },
  };
}
