/** Looks for new alerts while somebody looks on. */
import type { AlertRow } from '../api.ts';
import type { AlertListener, AlertSource } from '../source.ts';
import type { AlertIndex } from './alert-index.ts';
import { onlyAlerts } from './filters.ts';
import { iso } from './queries.ts';
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
  const listeners = new Set<AlertListener>();
  /** Those that came before the first look: who asks before it may miss what becomes visible until then. */
  const waiting = new Set<AlertListener>();
  const poll = createPoll({
    async look(seen) {
      const rows = (await newestRows(index)).filter((row) => !seen.has(row.id));
      for (const row of rows) seen.add(row.id);
      return rows;
    },
    begin() {
      for (const listener of waiting) listener.ready();
      waiting.clear();
    },
    found(rows) {
      for (const listener of listeners) listener.rows(rows, rows.length === LIVE_ROWS);
    },
  });
  return {
    subscribe(listener) {
      listeners.add(listener);
      if (poll.hasLooked()) listener.ready();
      else waiting.add(listener);
      poll.start();
      return () => {
        listeners.delete(listener);
        waiting.delete(listener);
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

interface Poll {
  /** Whether the first look has been taken. */
  hasLooked(): boolean;
  start(): void;
  stop(): void;
}

interface Watcher {
  /** What is there and was not seen. */
  look: (seen: Set<string>) => Promise<AlertRow[]>;
  /** The first look has been taken; what it found is not new. */
  begin: () => void;
  found: (rows: AlertRow[]) => void;
}

/** Looks until it is stopped; a look that fails is taken again. */
function createPoll({ look, begin, found }: Watcher): Poll {
  let timer: NodeJS.Timeout | undefined;
  let turn = 0;
  let looked = false;

  function run(current: number, seen: Set<string>): void {
    const again = (): void => {
      if (seen.size > SEEN) for (const id of [...seen].slice(0, seen.size - SEEN / 2)) seen.delete(id);
      timer = setTimeout(() => run(current, seen), POLL_MILLIS);
    };
    look(seen).then(
      (rows) => {
        if (turn !== current) return;
        if (looked && rows.length > 0) found(rows);
        else if (!looked) {
          looked = true;
          begin();
        }
        again();
      },
      () => {
        if (turn === current) again();
      },
    );
  }

  return {
    hasLooked: () => looked,
    start() {
      if (timer !== undefined) return;
      turn += 1;
      timer = setTimeout(() => undefined, 0);
      run(turn, new Set());
    },
    stop() {
      turn += 1;
      looked = false;
      clearTimeout(timer);
      timer = undefined;
    },
  };
}
