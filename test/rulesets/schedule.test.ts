import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { followSources, type ScheduleOptions, type SourceSchedule } from '../../agent/rulesets/schedule.ts';
import type { RuleSource } from '../../agent/rulesets/sources.ts';
import { RefusedError, type UpdateResult } from '../../agent/rulesets/update.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

let rulesDirectory: string;
beforeEach(() => {
  rulesDirectory = mkdtempSync(join(tmpdir(), 'schedule-'));
});
afterEach(() => rmSync(rulesDirectory, { recursive: true, force: true }));

const source = (name: string, every = HOUR): RuleSource => ({
  name,
  url: 'https://example.com/a.rules',
  every,
  secretHeader: 'Authorization',
  maxBytes: 1,
  timeout: 1,
});

const result = (changed: boolean): UpdateResult => ({
  version: 'v1',
  source: 'x',
  sha256: 'x',
  verified: 'none',
  installedAt: '',
  rules: 1,
  problems: 0,
  changed,
  directory: '',
});

interface World extends SourceSchedule {
  /** Minutes since the start, and which source. */
  looks: string[];
  logged: string[];
  /** Lets time pass until so many looks were taken. */
  until(count: number): Promise<void>;
}

/** With a clock that goes on as soon as it is waited for. */
function start(options: Pick<ScheduleOptions, 'sources' | 'update'> & Partial<ScheduleOptions>): World {
  let time = 0;
  let reached = (): void => undefined;
  let wanted = Infinity;
  const looks: string[] = [];
  const logged: string[] = [];
  const log = pino({ base: null, timestamp: false }, { write: (line) => void logged.push(line) });
  const schedule = followSources({
    rulesDirectory,
    random: () => 0,
    log,
    clock: {
      now: () => time,
      async wait(millis, signal) {
        if (looks.length >= wanted) {
          reached();
          await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
          return;
        }
        time += millis;
      },
    },
    ...options,
    update: (each, signal) => {
      looks.push(`${Math.round(time / MINUTE)} ${each.name}`);
      return options.update(each, signal);
    },
  });
  return {
    ...schedule,
    looks,
    logged,
    until: (count) =>
      new Promise((resolve) => {
        wanted = count;
        reached = resolve;
      }),
  };
}

/** As an update leaves it. */
function install(set: string, pinned = false): void {
  const versions = join(rulesDirectory, '.versions', set);
  mkdirSync(join(versions, 'v1'), { recursive: true });
  writeFileSync(join(versions, 'v1/version.json'), JSON.stringify({ version: 'v1', sha256: 'x', source: 'x' }));
  symlinkSync(join('.versions', set, 'v1'), join(rulesDirectory, set));
  if (pinned) writeFileSync(join(versions, '.pinned'), '');
}

test('each source has its own time, and one is looked at after the other', async () => {
  install('a');
  install('b');
  const world = start({ sources: [source('a'), source('b', 3 * HOUR)], update: async () => result(false) });
  await world.until(6);
  expect(world.looks).toEqual(['0 a', '0 b', '60 a', '120 a', '180 a', '180 b']);
  expect(world.status()).toMatchObject([
    {
      name: 'a',
      set: 'a',
      state: 'current',
      version: 'v1',
      looks: { updated: 0, unchanged: 4, refused: 0, failed: 0 },
    },
    { name: 'b', state: 'current' },
  ]);
  await world.stop();
});

test('nodes do not come all at once, but at once where there is nothing yet', async () => {
  install('a');
  const world = start({
    sources: [source('a', 24 * HOUR), source('new', 24 * HOUR)],
    update: async () => result(true),
    random: () => 1,
  });
  await world.until(3);
  expect(world.looks).toEqual(['0 new', '5 a', '1584 new']);
  await world.stop();
});

test('what fails is tried again, later each time, and no later than it would be anyway', async () => {
  let fails = 5;
  const world = start({
    sources: [source('a', 10 * MINUTE)],
    update: async () => {
      if (fails-- > 0) throw new Error('no\nanswer');
      return result(true);
    },
  });
  await world.until(6);
  expect(world.looks.map((look) => parseInt(look, 10))).toEqual([0, 1, 3, 7, 15, 25]);
  expect(world.status()).toMatchObject([{ state: 'current', looks: { failed: 5, updated: 1 } }]);
  expect(world.status()[0]).not.toHaveProperty('problem');
  expect(world.logged.join('')).toContain('no answer');
  await world.stop();
});

test('a version that is refused is looked past at the usual time, and said', async () => {
  const world = start({
    sources: [source('a')],
    update: async () => {
      throw new RefusedError('the engine says no');
    },
  });
  await world.until(2);
  expect(world.looks).toEqual(['0 a', '60 a']);
  expect(world.status()).toMatchObject([{ state: 'refused', problem: 'the engine says no', looks: { refused: 2 } }]);
  await world.stop();
});

test('what is pinned is left alone until it is released', async () => {
  install('a', true);
  install('b');
  const world = start({ sources: [source('a'), source('b')], update: async () => result(false) });
  await world.until(2);
  expect(world.looks).toEqual(['0 b', '60 b']);
  expect(world.status()[0]).toMatchObject({ state: 'pinned', looks: { unchanged: 0 } });
  await world.stop();
});

test('an end while one is under way waits for it, and counts no failure', async () => {
  const world = start({
    sources: [source('a')],
    update: (_, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(new Error('was interrupted')), { once: true });
      }),
  });
  while (world.looks.length === 0) await new Promise((resolve) => setImmediate(resolve));
  expect(world.status()).toMatchObject([{ state: 'updating' }]);
  await world.stop();
  expect(world.status()).toMatchObject([{ state: 'waiting', looks: { failed: 0 } }]);
  expect(world.logged).toEqual([]);
});
