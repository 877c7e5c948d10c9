import { expect, test } from '@jest/globals';
import { pino } from 'pino';
import type { Generation } from '../agent/engine/generation.ts';
import type { Lane, LaneEvents } from '../agent/lane.ts';
import { startLanes, type LanesOptions, type StartedLanes } from '../agent/lanes.ts';

const RULES = {};

/** Lanes whose engines read at once; starting and ending them fails as often as is said. */
function setUp(faults: { start: number; stop: number }) {
  const lanes: Lane[] = [];
  const open: Lane[] = [];
  const waits: number[] = [];
  /** Ends a wait. */
  let goOn = (): void => undefined;
  const lines: Record<string, unknown>[] = [];
  const startLane = async (options: { lane: string }, events: LaneEvents): Promise<Lane> => {
    // The first is there from the start on.
    if (options.lane !== 'lane0' && faults.start-- > 0) throw new Error('spawn EAGAIN');
    const stop = async (): Promise<void> => {
      if (faults.stop-- > 0) throw new Error('EIO');
    };
    events.ready({ pid: 1, name: options.lane, rules: () => RULES } as unknown as Generation);
    return { name: options.lane, stop, capture: { library: () => undefined } } as unknown as Lane;
  };
  const options = {
    config: { stateDirectory: '/state', engine: {}, capture: {}, evidence: {}, canary: { interval: 0 } },
    install: { name: 'snort' },
    rules: { engineRules: () => RULES },
    consumed: new Map(),
    events: {},
    open,
    spread: () => Promise.resolve(),
    problems: new Map(),
    log: pino({ level: 'error' }, { write: (line: string) => void lines.push(JSON.parse(line)) }),
    startLane,
    clock: {
      wait(millis: number, signal: AbortSignal) {
        waits.push(millis);
        return new Promise<void>((resolve) => {
          goOn = resolve;
          signal.addEventListener('abort', () => resolve());
        });
      },
    },
  } as unknown as LanesOptions;
  return { lanes, open, waits, lines, options, goOn: () => goOn() };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const names = (lanes: Lane[]): string[] => lanes.map(({ name }) => name);

async function started(given: ReturnType<typeof setUp>): Promise<StartedLanes> {
  const all = await startLanes(given.lanes, 1, given.options);
  await all.ready;
  return all;
}

test('a lane that cannot be started is tried again, later and later, until it is there and takes endpoints', async () => {
  const given = setUp({ start: 8, stop: 0 });
  const all = await started(given);
  all.resize(3);
  for (let failed = 1; failed <= 8; failed++) {
    await turn();
    expect(all.changes()).toEqual({ wanted: 3, failed });
    expect(names(given.open)).toEqual(['lane0']);
    given.goOn();
  }
  await turn();
  expect(names(given.lanes)).toEqual(['lane0', 'lane1', 'lane2']);
  expect(names(given.open)).toEqual(['lane0', 'lane1', 'lane2']);
  expect(given.waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60].map((seconds) => seconds * 1_000));
  expect(given.lines[1]).toMatchObject({ lanes: 1, wanted: 3, retryMillis: 2_000, err: { message: 'spawn EAGAIN' } });
});

test('another number, and the end, wait for no further attempt', async () => {
  const given = setUp({ start: 1, stop: 1 });
  const all = await started(given);
  all.resize(2);
  await turn();
  all.resize(1);
  await turn();
  expect(all.changes()).toEqual({ wanted: 1, failed: 1 });
  all.resize(2);
  await turn();
  expect(names(given.lanes)).toEqual(['lane0', 'lane1']);
  all.resize(1);
  await turn();
  expect(all.changes()).toEqual({ wanted: 1, failed: 2 });
  await all.close();
  expect(names(given.open)).toEqual(['lane0']);
});
