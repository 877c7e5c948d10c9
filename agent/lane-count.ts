/**
 * How many lanes an agent has: so many as the configuration says, or as the limits of its container carry. These may
 * change while it runs, as where a pod is resized in place.
 */
import type { Logger } from 'pino';
import type { Config } from './config/load.ts';
import { readGranted, type Granted } from './observe/limits.ts';

const MIB = 2 ** 20;
/** The agent's own process, with its caches and what waits for a sink. */
const AGENT_BYTES = 192 * MIB;
/** The capture process of a lane. */
const CAPTURE_BYTES = 64 * MIB;
/** The most that `lanes` takes. */
export const MOST_LANES = 64;
const LOOK_MILLIS = 5_000;

type Settings = Pick<Config, 'lanes' | 'engine'>;

/** `auto`: one for each whole CPU of the limit, one without a limit; no more than the memory does for. */
export function lanesFor({ lanes, engine }: Settings, { cpus = 1, memoryBytes = Infinity }: Granted): number {
  if (lanes !== 'auto') return lanes;
  const fitting = (memoryBytes - AGENT_BYTES) / (CAPTURE_BYTES + engine.memoryLimit);
  return Math.max(1, Math.floor(Math.min(cpus, fitting, MOST_LANES)));
}

export interface LaneCount {
  /** By these settings from now on. */
  change(settings: Settings): void;
  stop(): void;
}

export interface LaneCountOptions {
  settings: Settings;
  /** How many there are. */
  count: () => number;
  resize: (count: number) => void;
  log: Pick<Logger, 'info'>;
  read?: () => Granted;
}

/** Follows limits and settings. */
export function followLaneCount({ settings, count, resize, log, read = readGranted }: LaneCountOptions): LaneCount {
  let current = settings;
  let asked = count();
  let seen = asked;

  function ask(wanted: number, granted: Granted): void {
    log.info({ lanes: wanted, before: asked, ...granted }, 'another number of lanes from now on');
    asked = wanted;
    resize(wanted);
  }

  const timer = setInterval(() => {
    const granted = read();
    const wanted = lanesFor(current, granted);
    // Quota and period of the limit are not written at one time.
    if (wanted === seen && wanted !== asked) ask(wanted, granted);
    seen = wanted;
  }, LOOK_MILLIS).unref();
  return {
    change(next) {
      current = next;
      const granted = read();
      seen = lanesFor(current, granted);
      if (seen !== asked) ask(seen, granted);
    },
    stop: () => clearInterval(timer),
  };
}
