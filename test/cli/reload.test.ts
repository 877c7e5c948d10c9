/** A configuration's file is followed: taken over once it is whole, refused where it is wrong, whatever comes meanwhile. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { followConfig, type Reload } from '../../agent/cli/run/reload.ts';
import { changedKeys } from '../../agent/config/changes.ts';
import { loadConfig, type Config } from '../../agent/config/load.ts';
import type { SinkClock } from '../../agent/ship/clock.ts';

let folder: string;
let file: string;
let reload: Reload | undefined;
/** Ends the wait before a look. */
let wake: (() => void) | undefined;
let applied: string[];
let apply: (config: Config) => Promise<void>;

const clock: SinkClock = {
  now: () => 0,
  date: () => new Date(0),
  wait: (_, signal) =>
    new Promise((resolve) => {
      const end = (): void => {
        signal.removeEventListener('abort', end);
        resolve();
      };
      wake = end;
      if (signal.aborted) end();
      signal.addEventListener('abort', end);
    }),
};

/** As a mounted ConfigMap is: the file is a link into a folder that a link names. */
function publish(version: string, text: string): void {
  mkdirSync(join(folder, version));
  writeFileSync(join(folder, version, 'dpi-agent.yaml'), text);
  symlinkSync(version, join(folder, 'next'));
  renameSync(join(folder, 'next'), join(folder, 'data'));
}

function load() {
  return loadConfig({ env: {}, flags: {}, file }, () => 'node-1');
}

/** So many looks, each to its end. */
async function looks(count: number): Promise<void> {
  for (let done = 0; done < count; done++) {
    const ended = wake;
    wake = undefined;
    ended?.();
    while (wake === undefined) await new Promise(setImmediate);
  }
}

async function start(): Promise<Reload> {
  const loaded = load();
  if ('errors' in loaded) throw new Error(loaded.errors[0]?.message);
  wake = undefined;
  const log = pino({ level: 'silent' });
  const follow = {
    file,
    config: loaded.config,
    load,
    apply: (config: Config) => apply(config),
    onChange: () => undefined,
  };
  reload = followConfig({ ...follow, log, clock });
  while (wake === undefined) await new Promise(setImmediate);
  return reload;
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-reload-'));
  file = join(folder, 'dpi-agent.yaml');
  symlinkSync('data/dpi-agent.yaml', file);
  applied = [];
  apply = async (config) => void applied.push(config.sinks.list.map(({ name }) => name).join());
});
afterEach(async () => {
  await reload?.stop();
  rmSync(folder, { recursive: true });
});

test('a swapped link is taken over once, and what needs a restart is said until the file is as it was', async () => {
  publish('a', 'journal: { maxSize: 2GiB }\n');
  const { status, conditions } = await start();
  await looks(3);
  expect(applied).toEqual([]);
  publish('b', 'capture: { snaplen: 70000 }\nui: { port: 1 }\nsinks: [{ name: out, stdout: {} }]\n');
  await looks(4);
  expect(applied).toEqual(['out']);
  expect(status()).toMatchObject({ errors: [], needsRestart: ['capture.snaplen', 'journal.maxSize'] });
  expect(conditions()).toEqual(['configuration: waits for a restart of the agent: capture.snaplen, journal.maxSize']);
  publish('c', 'journal: { maxSize: 2GiB }\nlanes: 2\nsinks: [{ name: out, stdout: {} }]\n');
  await looks(3);
  expect(applied).toEqual(['out', 'out']);
  expect(conditions()).toEqual([]);
});

test('a file that is wrong, gone, or can not be used changes nothing, and says where and what', async () => {
  publish('a', 'sinks: [{ name: out, stdout: {} }]\n');
  const { status, conditions } = await start();
  publish('b', 'lanes: many\nsinks:\n  - name: out\n    stdout: {}\n    htpp: {}\n');
  await looks(3);
  expect(applied).toEqual([]);
  expect(status().errors).toHaveLength(2);
  expect(conditions()[0]).toContain(
    `configuration: ${file} is not taken over: ${file}:1:8: lanes: "many": expected auto, or an integer`,
  );
  rmSync(join(folder, 'data'));
  await looks(3);
  expect(status().errors[0]).toContain('ENOENT');
  apply = () => Promise.reject(new Error('sink out: no'));
  publish('c', 'sinks: [{ name: out, stdout: {} }, { name: more, stdout: {} }]\n');
  await looks(3);
  expect(status().errors).toEqual(['sink out: no']);
  apply = async (config) => void applied.push(config.sinks.list.map(({ name }) => name).join());
  publish('d', 'sinks: [{ name: out, stdout: {} }, { name: more, stdout: {} }]\n');
  await looks(3);
  expect(applied).toEqual(['out,more']);
  expect(conditions()).toEqual([]);
});

test('a file that is being written is left until it stays the same; of changes that come meanwhile the last counts', async () => {
  publish('a', 'sinks: []\n');
  await start();
  await looks(2);
  const path = join(folder, 'data', 'dpi-agent.yaml');
  for (const text of ['', 'sinks:\n', 'sinks:\n  - { name: one, stdout: {} }\n']) {
    writeFileSync(path, text);
    await looks(1);
  }
  expect(applied).toEqual([]);
  let done = (): void => undefined;
  apply = async (config) => {
    applied.push(config.sinks.list.map(({ name }) => name).join());
    await new Promise<void>((resolve) => (done = resolve));
  };
  const looking = looks(1);
  while (applied.length === 0) await new Promise(setImmediate);
  publish('b', 'sinks: [{ name: two, stdout: {} }]\n');
  publish('c', 'sinks: [{ name: three, stdout: {} }]\n');
  // Who stops waits for what is under way.
  const stopped = reload?.stop();
  done();
  await Promise.all([looking, stopped]);
  expect(applied).toEqual(['one']);
});

test('keys that differ are named as the file writes them', () => {
  publish('a', '');
  const before = load();
  if ('errors' in before) throw new Error(before.errors[0]?.message);
  const { config } = before;
  const again = load();
  expect('config' in again && changedKeys(config, again.config)).toEqual([]);
  const after = { ...config, lanes: 2, variables: { HOME_NET: '10.0.0.0/8' }, ruleSets: ['a'] };
  expect(changedKeys(config, after)).toEqual(['lanes', 'ruleSets', 'variables.HOME_NET']);
});
