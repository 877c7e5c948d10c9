/** What a lane says of itself: its parts' own words, put side by side. */
import type { Capture } from '../capture/supervisor.ts';
import { addEngineCounters, zeroEngineCounters, type EngineCounters } from '../engine/counters.ts';
import type { Ending } from '../engine/supervisor.ts';
import type { CanaryStatus } from '../observe/canary.ts';
import type { EngineCount } from '../observe/ledger.ts';
import type { LaneSnapshot } from '../observe/snapshot.ts';
import type { LaneParts, LaneState } from './parts.ts';

export interface LaneStatus {
  lane: string;
  /** `since`: when it began to read packets, in milliseconds since the epoch; undefined while it does not. */
  engine: {
    pid?: number;
    since?: number;
    restarts: number;
    endings: Readonly<Record<Ending, number>>;
  } & EngineCounters;
  capture: LaneSnapshot['capture'];
  canary: CanaryStatus;
  /** What the ledger compares; undefined while no engine reads, or before its first report. */
  ledger?: EngineCount;
  /** When the endpoints' counters were last reported, in milliseconds since the epoch. */
  countedAt?: number;
}

export function statusOf(parts: LaneParts): LaneStatus {
  const { name, state, capture, engine, canary } = parts;
  const pid = engine.pid();
  const countedAt = capture.countedAt();
  const ledger = ledgerOf(parts);
  return {
    lane: name,
    engine: {
      ...(pid === undefined ? {} : { pid }),
      ...(state.readingSince === undefined ? {} : { since: state.readingSince }),
      restarts: engine.restarts(),
      endings: engine.endings(),
      ...countersOf(state),
    },
    capture: captureStatus(capture),
    canary: canary.status(),
    ...(ledger === undefined ? {} : { ledger }),
    ...(countedAt === undefined ? {} : { countedAt }),
  };
}

/** Of all generations. */
function countersOf({ earlier, running }: LaneState): EngineCounters {
  const sum = addEngineCounters(zeroEngineCounters(), earlier);
  return addEngineCounters(sum, running?.counters() ?? zeroEngineCounters());
}

function captureStatus(capture: Capture): LaneStatus['capture'] {
  const [pid, library, failure] = [capture.pid(), capture.library(), capture.failure()];
  if (failure !== undefined) return { failure };
  return {
    ...(pid === undefined ? {} : { pid }),
    ...(library === undefined ? {} : { library: library.name }),
    ...(library?.instead === undefined ? {} : { instead: library.instead }),
  };
}

function ledgerOf({ name, state, capture, canary }: LaneParts): EngineCount | undefined {
  const { running, reloads } = state;
  if (running === undefined) return undefined;
  const handed = capture.handed(running.fifo);
  const counters = running.counters();
  if (handed === undefined || counters === undefined) return undefined;
  const { provenAt } = canary.status();
  return { lane: name, generation: running.name, handed, analysed: counters.analysed, reloads, provenAt };
}
