import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import type { Capture } from '../agent/capture/supervisor.ts';
import { loadConfig } from '../agent/config/load.ts';
import type { EngineDriver } from '../agent/engine/engine.ts';
import type { Generation } from '../agent/engine/generation.ts';
import type { EngineRules } from '../agent/engine/rules.ts';
import type { SupervisorEvents } from '../agent/engine/supervisor.ts';
import { captureSettings, startLane, type LaneEvents, type LaneOptions } from '../agent/lane.ts';

let folder: string;
let log: Record<string, unknown>[];
const logger = pino({}, { write: (line: string) => log.push(JSON.parse(line) as Record<string, unknown>) });

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-lane-'));
  log = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A capture that captures nothing. */
const noCapture = (): Capture => ({
  attach: () => undefined,
  detach: () => Promise.reject(new Error('nothing is attached')),
  setOutput: () => undefined,
  inject: () => undefined,
  counters: () => new Map(),
  handed: () => undefined,
  countersOf: () => undefined,
  packetsOf: () => Promise.reject(new Error('no capture keeps packets')),
  ownersOf: (_path, records) => Promise.resolve(records.map(() => undefined)),
  states: () => new Map(),
  countedAt: () => undefined,
  pid: () => undefined,
  library: () => undefined,
  failure: () => undefined,
  stop: () => Promise.resolve(),
});

/** No engine either. */
const driver: EngineDriver = {
  name: 'snort',
  prepare: () => Promise.reject(new Error('no engine')),
  reload: () => Promise.resolve(),
  validateArguments: () => Promise.resolve([]),
  ruleErrors: () => [],
  analysedPackets: () => undefined,
};

const events: LaneEvents = {
  alerts: () => Promise.resolve(),
  endpoint: () => undefined,
  ready: () => undefined,
  finished: () => Promise.resolve(),
  engineFailed: () => undefined,
  captureFailed: () => undefined,
  unreadable: () => undefined,
  canaryReturned: () => undefined,
  canaryChanged: () => undefined,
};

const RULES: EngineRules = { files: [], defaults: [], policies: [] };

function options(more: Partial<LaneOptions>): LaneOptions {
  const loaded = loadConfig({ env: {}, flags: {} });
  if ('errors' in loaded) throw new Error('the defaults are wrong');
  return {
    lane: 'lane0',
    laneDirectory: folder,
    leftIn: [folder],
    driver,
    install: { name: 'snort', binary: '/nowhere', version: '3', searchMethods: [] },
    sandbox: { uid: undefined, gid: undefined, isolateNetwork: false, setpriv: undefined, missing: [] },
    engineRules: () => RULES,
    output: 'json',
    capture: captureSettings(loaded.config),
    canaryMillis: 0,
    resumeAt: () => 0,
    createDecoder: () => ({ push: () => [], end: () => [] }),
    ...more,
  };
}

/** A generation that an earlier agent left, with an alert that nobody has read. */
function leave(name: string): string {
  const directory = join(folder, name);
  mkdirSync(join(directory, 'output'), { recursive: true });
  mkdirSync(join(directory, 'state'));
  const record = { name, engine: 'snort', version: '3', alertFile: 'alerts.txt', stamped: false, output: 'json' };
  writeFileSync(join(directory, 'generation.json'), JSON.stringify(record));
  writeFileSync(join(directory, 'engine.pid'), '');
  writeFileSync(join(directory, 'output', 'alerts.txt'), 'unread');
  return directory;
}

test('what an earlier agent left is read and then deleted', async () => {
  const directory = leave('lane0-left');
  const lane = await startLane(options({}), events, logger, { startCapture: noCapture });
  await lane.stop();
  expect(existsSync(directory)).toBe(false);
});

test('what an earlier agent left and cannot be read stays, and the lane goes on', async () => {
  const directory = leave('lane0-left');
  const createDecoder = (): never => {
    throw new Error('of a form that nobody knows');
  };
  const lane = await startLane(options({ createDecoder }), events, logger, { startCapture: noCapture });
  await lane.stop();
  expect(log).toContainEqual(
    expect.objectContaining({
      msg: 'what an earlier agent left is not read; the next one tries again',
      err: expect.objectContaining({ message: 'of a form that nobody knows' }),
    }),
  );
  expect(existsSync(join(directory, 'output', 'alerts.txt'))).toBe(true);
});

test('what an earlier agent left with a damaged generation.json is named, and stays', async () => {
  const directory = leave('lane0-left');
  writeFileSync(join(directory, 'generation.json'), '');
  const lane = await startLane(options({}), events, logger, { startCapture: noCapture });
  await lane.stop();
  expect(log).toContainEqual(
    expect.objectContaining({ msg: 'alerts that an earlier agent left cannot be read; they stay', directory }),
  );
  expect(existsSync(join(directory, 'output', 'alerts.txt'))).toBe(true);
});

test('an engine that was made with rules which are others by now makes room for the next one', async () => {
  const outputs: (string | undefined)[] = [];
  const replaced: string[] = [];
  let supervised: SupervisorEvents | undefined;
  const lane = await startLane(options({}), events, logger, {
    startCapture: () => ({ ...noCapture(), setOutput: (path) => outputs.push(path) }),
    startEngine(_options, told) {
      supervised = told;
      return {
        replace: async () => void replaced.push('replaced'),
        stop: async () => undefined,
        restarts: () => 0,
        endings: () => ({ exited: 0, signal: 0, replaced: 0, not_started: 0 }),
        pid: () => undefined,
      };
    },
    readFiles: () => ({
      follow: () => undefined,
      finish: () => undefined,
      consumed: async () => undefined,
      passed: async () => undefined,
      recover: async () => undefined,
      allRead: async () => undefined,
    }),
  });
  const madeWith = (rules: EngineRules, fifo: string): Generation =>
    ({ name: fifo, fifo, rules: () => rules, counters: () => undefined }) as unknown as Generation;
  const next: EngineRules = { ...RULES, defaults: ['next'] };
  expect(await lane.reload(next, { engine: 'running', proofMillis: 1000 })).toBeUndefined();
  const old = madeWith(RULES, 'old');
  supervised?.started(old);
  expect([outputs, replaced]).toEqual([[], ['replaced']]);
  supervised?.ended(old, undefined);
  supervised?.started(madeWith(next, 'new'));
  expect([outputs, replaced]).toEqual([[undefined, 'new'], ['replaced']]);
  await lane.stop();
});
