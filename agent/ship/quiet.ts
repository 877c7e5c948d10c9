/**
 * Digests alike events, so that whoever reads them is not flooded: of those that have the same fields of `alike`, the
 * first `after` in a time of `every` go out as they are. The next one is held back until the time is over, and those
 * that come meanwhile are folded into it: it goes out with `record.count`, how many alerts it stands for, and
 * `record.last_timestamp`. The times follow each other while alike events come.
 *
 * The id of a digest is that of the event that was held back. The cursor stays before it: after a crash all that it
 * stands for is read again, and nothing is lost.
 *
 * Bounded: MAX_KINDS kinds of events, of which the one that came least recently is forgotten. What is held back goes
 * out early when the sink has no room for more, and when the agent ends.
 *
 * Not promised: that kinds are remembered over a restart. After one, the first of a kind goes out at once again.
 */
import type { QuietSettings } from '../config/sinks.ts';
import { isRecord } from '../files/record.ts';
import type { SinkClock } from './clock.ts';
import { passOver, type Entry, type Hold, type Unsettled } from './entry.ts';

const MAX_KINDS = 10_000;

/** Passes an event, holds it back, or folds it into one that is held back. */
export type Quiet = (entry: Unsettled) => void;

interface Kind {
  until: number;
  /** Events that went out as they are in this time. */
  passed: number;
  /** The last that was held back. */
  held: Entry | undefined;
}

type Fields = Record<string, unknown>;

export function createQuiet({ every, after, alike }: QuietSettings, clock: SinkClock): Quiet {
  /** Those that came least recently are first. */
  const kinds = new Map<string, Kind>();

  function kindOf(event: Fields): Kind {
    const key = JSON.stringify(alike.map((field) => FIELDS[field](event)));
    const kind = kinds.get(key) ?? { until: -Infinity, passed: 0, held: undefined };
    kinds.delete(key);
    kinds.set(key, kind);
    if (kinds.size > MAX_KINDS) forgetFirst(kinds);
    return kind;
  }

  return (entry) => {
    const { event } = entry.state;
    const kind = kindOf(event);
    if (kind.held?.hold !== undefined) {
      fold(kind.held.hold, event);
      passOver(entry, 'digested');
      return;
    }
    if (kind.held !== undefined) {
      // Its digest went out: the next one follows after as much time again.
      kind.held = undefined;
      kind.until += every;
      kind.passed = after;
    }
    if (clock.now() >= kind.until) {
      kind.until = clock.now() + every;
      kind.passed = 0;
    }
    if (kind.passed < after) {
      kind.passed += 1;
      return;
    }
    entry.hold = { until: kind.until, folded: 0 };
    kind.held = entry;
  };
}

function forgetFirst(map: Map<string, unknown>): void {
  for (const first of map.keys()) return void map.delete(first);
}

function fold(hold: Hold, event: Fields): void {
  const record = recordOf(event);
  const last = record['last_timestamp'] ?? record['timestamp'];
  hold.folded += countOf(record);
  if (typeof last === 'string') hold.lastTimestamp = last;
}

/** What is held back and due is to be sent from now on; with `all`, whatever is held back. */
export function release(entries: readonly Entry[], now: number, all = false): void {
  for (const entry of entries) {
    const { hold, state } = entry;
    if (hold === undefined || (hold.until > now && !all)) continue;
    delete entry.hold;
    if (state.is !== 'unsettled' || hold.folded === 0) continue;
    const record = recordOf(state.event);
    const event = {
      ...state.event,
      record: {
        ...record,
        count: countOf(record) + hold.folded,
        ...(hold.lastTimestamp === undefined ? {} : { last_timestamp: hold.lastTimestamp }),
      },
    };
    entry.state = { ...state, event, item: { ...state.item, json: JSON.stringify(event) } };
  }
}

const FIELDS: Record<QuietSettings['alike'][number], (event: Fields) => unknown> = {
  signature: (event) => {
    const { generator_id: gid, snort_signature_id: sid } = recordOf(event);
    return [gid, sid];
  },
  class: (event) => recordOf(event)['classification'],
  resource: ({ origin }) => origin,
  namespace: ({ origin }) => String(origin).split('/')[0],
  source: (event) => endOf(event, 'source'),
  destination: (event) => endOf(event, 'dest'),
};

/** Pods of one owner are alike; what is no pod goes by its address. */
function endOf(event: Fields, side: 'source' | 'dest'): unknown {
  const name = event[`${side}_name_aggr`];
  return name === '-' ? event[`${side}_ip`] : [event[`${side}_namespace`], name];
}

function recordOf({ record }: Fields): Fields {
  return isRecord(record) ? record : {};
}

/** Alerts that an event stands for. */
function countOf({ count }: Fields): number {
  return typeof count === 'number' && Number.isSafeInteger(count) && count > 0 ? count : 1;
}
