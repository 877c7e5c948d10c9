/** What a lane is made of, and what it remembers from one event of its parts to the next. */
import type { Capture } from '../capture/supervisor.ts';
import { zeroEngineCounters, type EngineCounters } from '../engine/counters.ts';
import type { EngineName } from '../engine/engine.ts';
import type { Generation } from '../engine/generation.ts';
import type { Prover } from '../engine/prover.ts';
import type { EngineRules } from '../engine/rules.ts';
import type { EngineSupervisor } from '../engine/supervisor.ts';
import type { Clock } from '../files/clock.ts';
import type { Canary } from '../observe/canary.ts';
import type { AlertFiles } from './alert-files.ts';

/** In the order of a packet's way. */
export interface LaneParts {
  readonly name: string;
  readonly state: LaneState;
  readonly capture: Capture;
  readonly engineName: EngineName;
  readonly engine: EngineSupervisor;
  readonly alertFiles: AlertFiles;
  readonly prover: Prover;
  readonly canary: Canary;
  readonly clock: Clock;
}

/** lane.ts owns it; what concerns a change of the rules is change-rules.ts's. */
export interface LaneState {
  /** The generation of the engine that runs. */
  running: Generation | undefined;
  /** When it began to read packets, in milliseconds since the epoch. */
  readingSince: number | undefined;
  /** Called when a generation begins to read packets. */
  onReading: (generation: Generation) => void;
  /** What generations counted that are over. */
  readonly earlier: EngineCounters;
  /** What the engine was last told to inspect by, where it was. */
  newestRules: EngineRules | undefined;
  /** Beginnings and ends of changes of the rules in place. */
  reloads: number;
  stopping: boolean;
}

export function newState(): LaneState {
  return {
    running: undefined,
    readingSince: undefined,
    onReading: () => undefined,
    earlier: zeroEngineCounters(),
    newestRules: undefined,
    reloads: 0,
    stopping: false,
  };
}
