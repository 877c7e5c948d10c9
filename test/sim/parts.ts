/** The worlds of the simulation. Each runs by a seed of its own, and a seed replays exactly. */
import { simulateCluster } from './cluster/run.ts';
import { simulateEngines } from './engines/run.ts';
import { simulateLetters } from './letters/run.ts';
import { simulateLocks } from './locks/run.ts';
import { simulate } from './run.ts';
import { simulateUpdates } from './updates/run.ts';

/** What a run did, by its names for it. */
export interface Ran {
  /** The obligation, and how. */
  broken?: string;
  /** Of all calls: the same for the same seed. */
  digest: number;
  [count: string]: number | string | undefined;
}

/** @param trace Called with each call of the disk, and what else tells one run from another. */
export type Simulate = (seed: number, trace?: (line: string) => void) => Promise<Ran>;

const parts = {
  alerts: async (seed, trace) => ({ ...(await simulate(seed, trace)) }),
  cluster: async (seed, trace) => ({ ...(await simulateCluster(seed, trace)) }),
  engines: async (seed, trace) => ({ ...(await simulateEngines(seed, trace)) }),
  letters: async (seed, trace) => ({ ...(await simulateLetters(seed, trace)) }),
  locks: async (seed, trace) => ({ ...(await simulateLocks(seed, trace)) }),
  updates: async (seed, trace) => ({ ...(await simulateUpdates(seed, trace)) }),
} satisfies Record<string, Simulate>;

export type Part = keyof typeof parts;
export const PARTS: Readonly<Record<Part, Simulate>> = parts;
export const isPart = (name: string): name is Part => Object.hasOwn(PARTS, name);
