/**
 * What a seed makes of a run. Limits are those that a configuration accepts: the defaults, or their smallest and
 * largest values.
 */
import type { PolicyRules } from '../../agent/alerts/policy.ts';
import type { Config } from '../../agent/config/load.ts';
import type { QuietSettings } from '../../agent/config/sinks.ts';
import type { JournalOptions } from '../../agent/journal/journal.ts';
import type { SinkOptions } from '../../agent/ship/state.ts';
import { SIDS, SUPPRESSIBLE, type NodePlan } from './node.ts';

const MEBIBYTE = 1 << 20;
export const MINUTE = 60_000;
const DAY = 1440 * MINUTE;

export interface Plan {
  journal: Omit<JournalOptions, 'directory'>;
  batch: SinkOptions['batch'];
  deadLetterSize: number;
  /** How many events the destination takes not as others, 0..1. */
  bad: number;
  alerts: Config['alerts'];
  /** At most, between two policies; 0: there is none. */
  policyMillis: number;
  /** Bytes of payload that an event has. */
  evidence: number;
  lanes: number;
  stamped: boolean;
  /** How often an alert file is looked at without notice. */
  pollMillis: number;
  /** Whether remote addresses get names, after a while. */
  names: boolean;
  /** Ids that are held by pods of which nothing comes. */
  crowd: number;
  node: NodePlan;
  /** Of each life of the process but the last ones. */
  ends: End[];
  /** Whether the disk says of some syncs that it did them, and did not. */
  lying: boolean;
}

/** Which events the sink takes, and how alike ones become one. */
export interface Choice {
  /** Signatures; all without it. */
  signatures?: string[];
  quiet?: QuietSettings;
}

/** @param random Of its own: what else a seed makes of a run stays. */
export function makeChoice(random: () => number): Choice {
  if (random() < 0.5) return {};
  const { every, after, alike } = {
    every: pick(random, [1000, MINUTE, 10 * MINUTE]),
    after: pick(random, [1, 1, 3]),
    alike: pick(random, [['signature', 'resource'], ['signature'], []] as QuietSettings['alike'][] as [
      QuietSettings['alike'],
    ]),
  };
  return {
    ...(random() < 0.5 ? { signatures: SIDS.filter(() => random() < 0.7).map(String) } : {}),
    ...(random() < 0.7 ? { quiet: { every, after, alike } } : {}),
  };
}

export interface End {
  how: 'kill' | 'power cut' | 'stop' | 'settle';
  /** Calls of the disk until then. */
  calls: number;
}

export function makePlan(random: () => number): Plan {
  const segmentSize = pick(random, [MEBIBYTE, MEBIBYTE, 64 * MEBIBYTE]);
  const pauseMillis = pick(random, [20, 500, 500, 5000, MINUTE]);
  const big = random() < 0.2;
  const policyMillis = random() < 0.4 ? pick(random, [1000, MINUTE]) : 0;
  const crowd = random() < 0.01 ? 4085 : 0;
  return {
    journal: {
      segmentSize,
      maxSize: segmentSize * pick(random, [2, 2, 16]),
      segmentAge: pick(random, [MINUTE, DAY]),
      maxAge: pick(random, [0, MINUTE, 30 * DAY]),
      fsync: true,
    },
    batch: {
      batchEvents: pick(random, [1, 10, 1000, 1000, 10_000]),
      batchSize: pick(random, [1 << 16, 5 * MEBIBYTE]),
      batchMillis: pick(random, [0, 200, 200, MINUTE]),
    },
    deadLetterSize: pick(random, [MEBIBYTE, 64 * MEBIBYTE]),
    bad: random() < 0.5 ? 0 : 0.1,
    alerts: {
      mergeMillis: pick(random, [0, 100, 100, 100, 5000]),
      burst: pick(random, [0, 1, 5, 20, 1000]),
      ratePerSecond: pick(random, [1, 10]),
      foldMillis: pick(random, [1000, 10_000, 600_000]),
      ...(policyMillis > 0 ? { policy: 'policy.yaml' } : {}),
    },
    policyMillis,
    evidence: big ? 65_535 : 1024,
    lanes: pick(random, [1, 1, 2]),
    stamped: random() < 0.3,
    pollMillis: pauseMillis > 1000 ? 5000 : 250,
    names: random() < 0.3,
    crowd,
    node: {
      pods: Math.floor(1 + random() * 7),
      churnMillis: random() < 0.6 ? pick(random, [2000, MINUTE]) : 0,
      packets: Math.floor(1 + random() * pick(random, [10, 60, 60])),
      pauseMillis,
      payload: big ? 50_000 : 300,
      floods: pick(random, [0, 0.1, 0.3]),
    },
    ends: times(random() * 5, () => ({
      how: pick(random, ['kill', 'power cut', 'power cut', 'stop'] as const),
      calls: Math.ceil(2 * crowd + 3000 ** random()),
    })),
    lying: random() < 0.15,
  };
}

/** It says nothing of signatures below SUPPRESSIBLE. */
export function makePolicy(random: () => number): PolicyRules {
  const [first, second] = [SUPPRESSIBLE, SUPPRESSIBLE + 1].map((sid) => ({ signatures: [{ sid }] }));
  return {
    suppress: random() < 0.3 && first !== undefined ? [{ name: 'noise', match: first }] : [],
    threshold:
      random() < 0.6 && second !== undefined
        ? [
            {
              name: 'often',
              match: second,
              count: pick(random, [1, 3, 20]),
              seconds: pick(random, [1, 60]),
              track: pick(random, ['by_source', 'by_pod', 'by_rule']),
              type: pick(random, ['limit', 'threshold', 'both']),
            },
          ]
        : [],
  };
}

export function pick<T>(random: () => number, choices: readonly [T, ...T[]]): T {
  return choices[Math.floor(random() * choices.length)] ?? choices[0];
}

function times<T>(count: number, make: () => T): T[] {
  return Array.from({ length: Math.floor(count) }, make);
}
