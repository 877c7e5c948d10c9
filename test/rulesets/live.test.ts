import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import type { EngineRules, RulesChange } from '../../agent/engine/rules.ts';
import type { Verdict } from '../../agent/engine/validate.ts';
import { openRules, type LiveOptions, type LiveRules, type LiveSystem, type Users } from '../../agent/rulesets/live.ts';
import { poll } from '../support/poll.ts';

interface World {
  directory: string;
  /** Messages, with what is beside them. */
  logged: { msg: string; level: number; [key: string]: unknown }[];
  write(text: string): Promise<void>;
  remove(): Promise<void>;
  open(changes?: Partial<LiveOptions>, system?: Partial<LiveSystem>): Promise<LiveRules>;
  /** Follows until the test ends, with one lane. */
  follow(
    rules: LiveRules,
    reload?: (rules: EngineRules, change: RulesChange) => Promise<string | undefined>,
    packets?: () => number,
  ): () => void;
}

const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

const rule = (sid: number, msg = 'x'): string => `alert tcp any any -> any any (msg:"${msg}"; sid:${sid}; rev:1;)\n`;

/** Takes all but those whose message is BAD. */
async function validate({ files }: EngineRules): Promise<Verdict> {
  const errors = files.flatMap(({ text, origins }) =>
    text
      .split('\n')
      .flatMap((line, index) =>
        line.includes('BAD')
          ? [{ file: origins[index]?.file ?? '', line: origins[index]?.fileLine ?? 0, reason: 'not understood' }]
          : [],
      ),
  );
  return errors.length === 0 ? { is: 'accepted' } : { is: 'refused', reason: 'not understood', errors };
}

async function createWorld(): Promise<World> {
  const root = await mkdtemp(join(tmpdir(), 'live-'));
  ends.push(() => rm(root, { recursive: true, force: true }));
  const logged: World['logged'] = [];
  const log = pino({ base: null, timestamp: false }, { write: (line) => void logged.push(JSON.parse(line)) });
  const directory = join(root, 'rules');
  const custom = join(root, 'my.rules');
  return {
    directory,
    logged,
    write: (text) => writeFile(custom, text),
    remove: () => rm(custom),
    open: (changes, system) =>
      openRules(
        {
          sources: { rulesDirectory: join(root, 'none'), paths: [custom], engine: 'snort' },
          ruleSets: [],
          alsoUsed: [],
          leaveOut: true,
          directory,
          engine: 'snort 3',
          memoryLimit: 2 ** 30,
          quietMillis: 60_000,
          validate,
          log,
          ...changes,
        },
        system,
      ),
    follow(rules, reload = async () => undefined, packets = () => 0) {
      const lane: ReturnType<Users['lanes']>[number] = { name: 'lane 0', reload, restart: async () => undefined };
      const end = rules.follow({ lanes: () => [lane], policies: () => [], packets });
      ends.push(end);
      return end;
    },
  };
}

const messages = ({ logged }: World): string[] => logged.map(({ msg }) => msg);

test('what the engine refuses is left out, and whoever names the set is told', async () => {
  const world = await createWorld();
  await world.write(rule(1) + rule(2, 'BAD'));
  const rules = await world.open();
  expect([...rules.index().keys()]).toEqual(['1:1']);
  expect(rules.conditions(undefined)).toEqual([
    expect.stringMatching(/^rule set custom: rule 1:2 is left out \(.*my\.rules:2\): not understood$/),
  ]);
  expect(rules.conditions(['none'])).toEqual([expect.stringMatching(/^there is no rule set none; there is: /)]);
  expect(rules.status().sets).toEqual([expect.objectContaining({ name: 'custom', loaded: 1, failed: 1 })]);
  expect(messages(world)).toEqual(['rule is left out', 'rules']);
});

test('without a rule that the engine takes, nothing is opened', async () => {
  const world = await createWorld();
  await world.write(rule(1, 'BAD'));
  await expect(world.open()).rejects.toThrow(/^no rules: the engine takes none of them: .*rule 1:1: not understood$/);
  await expect(world.open({ leaveOut: false })).rejects.toThrow(/^no rules: the set custom is refused: /);
  await expect(world.open({ ruleSets: ['none'] })).rejects.toThrow(/^ruleSets: there is no rule set none/);
});

test('a change reaches the lanes, and is what an agent begins with whose files are bad', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const rules = await world.open();
  const lanes: EngineRules[] = [];
  const end = world.follow(rules, async (next) => void lanes.push(next));
  await world.write(rule(1) + rule(2));
  await Promise.all([rules.changed(), rules.changed()]);
  expect(lanes.map(({ files }) => files.map(({ text }) => text))).toEqual([[rule(1) + rule(2)]]);
  expect(rules.status()).toMatchObject({ swaps: { swapped: 1, rolled_back: 0, refused: 0 } });
  expect(rules.states()).toHaveLength(2);
  end();
  await world.write(rule(3, 'BAD'));
  const later = await world.open({ leaveOut: false });
  expect([...later.index().keys()]).toEqual(['1:1', '1:2']);
  expect(later.conditions(undefined)).toEqual([
    expect.stringMatching(/^rule set custom is refused, its last good rules stay: /),
  ]);
  expect(later.status()).toMatchObject({ swaps: { refused: 1 } });
});

test('rules that an engine cannot hold beside those before are a new start, and the log says so before', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const rules = await world.open({ memoryLimit: 15_000 });
  const changes: string[] = [];
  world.follow(rules, async (_, { engine }) => {
    changes.push(`${engine} after ${messages(world).at(-1)}`);
    return undefined;
  });
  await world.write(rule(1) + rule(2));
  await rules.changed();
  expect(changes).toEqual(['anew after the engine starts anew with the changed rules']);
  expect(world.logged.at(-2)).toMatchObject({
    level: 40,
    reason: expect.stringContaining('2 rules beside the 1 before take about '),
  });
  expect(messages(world).at(-1)).toBe('rules were swapped');
});

test('a lane that does not inspect by the new rules brings the former ones back', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const rules = await world.open();
  world.follow(rules, async ({ files }) => (files[0]?.text.includes('sid:2;') === true ? 'no proof' : undefined));
  await world.write(rule(2));
  await rules.changed();
  expect([...rules.index().keys()]).toEqual(['1:1']);
  expect(rules.status()).toMatchObject({ swaps: { swapped: 0, rolled_back: 1 } });
  expect(rules.conditions(undefined)).toEqual([
    'rules could not be swapped, the last good ones stay: lane 0: no proof',
  ]);
  await world.write(rule(1));
  await rules.changed();
  expect(rules.conditions(undefined)).toEqual([]);
});

test('rules that were taken by themselves, and then do not inspect with the others, are looked at with them', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const looks: number[] = [];
  const rules = await world.open({
    async validate(given) {
      const all = given.files.flatMap(({ origins }) => origins);
      looks.push(all.length);
      const [, , third] = all;
      // A third one is one too many.
      if (third === undefined) return { is: 'accepted' };
      return {
        is: 'refused',
        reason: 'too many',
        errors: [{ file: third.file, line: third.fileLine, reason: 'too many' }],
      };
    },
  });
  world.follow(rules, async ({ files }) => (files[0]?.text.includes('sid:3;') === true ? 'no proof' : undefined));
  await world.write(rule(1) + rule(2) + rule(3));
  await rules.changed();
  // At the start, of the two that are new, and of all until they are taken.
  expect(looks).toEqual([1, 2, 3, 2]);
  expect([...rules.index().keys()]).toEqual(['1:1', '1:2']);
  expect(rules.status()).toMatchObject({ swaps: { swapped: 1, rolled_back: 1 } });
  expect(rules.conditions(undefined)).toEqual([expect.stringContaining('rule 1:3 is left out')]);
});

test('whether the newest files of a set inspect is known of each set', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const rules = await world.open();
  let failure: string | undefined;
  world.follow(rules, async () => failure);
  expect(await rules.prove('custom')).toBeUndefined();
  failure = 'no proof';
  await world.write(rule(2));
  expect(await rules.prove('custom')).toBe('rules could not be swapped, the last good ones stay: lane 0: no proof');
  expect(await rules.prove('kubernetes')).toBeUndefined();
  failure = undefined;
  await world.write(rule(1));
  expect(await rules.prove('custom')).toBeUndefined();
});

test('whether files inspect that cannot be read is not known', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const rules = await world.open();
  world.follow(rules);
  expect(await rules.prove('custom')).toBeUndefined();
  await world.remove();
  await expect(rules.prove('custom')).rejects.toThrow(/my\.rules/);
  await world.write(rule(1));
  expect(await rules.prove('custom')).toBeUndefined();
});

test('a set that something will bring need not be there at the start', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const rules = await world.open({ ruleSets: ['fresh'], awaited: ['fresh'] });
  expect([...rules.index().keys()]).toEqual(['1:1']);
  expect(rules.conditions(['fresh'])).toEqual([expect.stringMatching(/^there is no rule set fresh; there is: /)]);
});

test('rules that cannot be read change nothing, and say so', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const overridesFile = join(world.directory, '..', 'extra.lua');
  await writeFile(overridesFile, 'x = 1');
  const rules = await world.open({ overridesFile });
  expect(rules.engineRules().overrides).toBe('x = 1');
  world.follow(rules);
  await rm(overridesFile);
  await rules.changed();
  expect(rules.engineRules().overrides).toBe('x = 1');
  expect(rules.conditions(undefined)).toEqual([expect.stringMatching(/^engine\.extraConfig: cannot read /)]);
});

test('a change that the end of the agent overtakes is none, and no error', async () => {
  const world = await createWorld();
  await world.write(rule(1));
  const end: { follow?: () => void } = {};
  const rules = await world.open({
    async validate(tried) {
      if (tried.files.some(({ text }) => text.includes('sid:2;'))) end.follow?.();
      return validate(tried);
    },
  });
  const lanes: EngineRules[] = [];
  end.follow = world.follow(rules, async (next) => void lanes.push(next));
  await world.write(rule(2));
  await rules.changed();
  expect(lanes).toEqual([]);
  expect([...rules.index().keys()]).toEqual(['1:1']);
  expect(messages(world)).toEqual(['rules']);
});

test('of thousands of rules, nothing is kept that was in force before', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heapAfter = async (work: () => unknown): Promise<number> => {
    await work();
    collect();
    return process.memoryUsage().heapUsed;
  };
  const world = await createWorld();
  const change = (revision: number): Promise<void> =>
    world.write(
      Array.from({ length: 10_000 }, (_, index) => rule(1 + index, `m${revision} ${'x'.repeat(200)}`)).join(''),
    );
  await change(0);
  const none = await heapAfter(() => undefined);
  let rules: LiveRules | undefined;
  const first = await heapAfter(async () => (rules = await world.open({ memoryLimit: 2 ** 40 })));
  if (rules === undefined) throw new Error('not opened');
  world.follow(rules);
  const grown: number[] = [];
  for (let revision = 1; revision <= 3; revision++)
    grown.push(
      (await heapAfter(async () => {
        await change(revision);
        await rules?.changed();
      })) - first,
    );
  expect(rules.status().swaps.swapped).toBe(3);
  // Each state that were kept would be as much again.
  expect(Math.max(...grown) / (first - none)).toBeLessThan(1);
}, 120_000);

describe('rules that the engine can only start anew with', () => {
  const memoryLimit = 1;
  const WAITS = 'the engine is to start anew with the changed rules, in a quiet moment';

  /** Time goes on when a test says so; then `packets` came. */
  function createTime() {
    const time = { now: 0, packets: 0, pass: (_packets: number) => undefined as void };
    const clock: LiveSystem['clock'] = {
      now: () => time.now,
      wait: (millis, signal) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => resolve());
          time.pass = (packets) => {
            time.now += millis;
            time.packets += packets;
            resolve();
          };
        }),
    };
    return { time, clock };
  }

  async function start() {
    const world = await createWorld();
    const { time, clock } = createTime();
    await world.write(rule(1));
    const rules = await world.open({ memoryLimit }, { clock });
    const given: string[] = [];
    world.follow(
      rules,
      async ({ files }, { engine }) =>
        void given.push(`${engine} ${files.map(({ text }) => /sid:\d+/.exec(text)?.[0]).join()}`),
      () => time.packets,
    );
    const waits = (times: number): Promise<unknown> =>
      poll(() => messages(world).filter((message) => message === WAITS).length === times);
    return { world, rules, time, given, waits };
  }

  test('wait for a moment with few packets', async () => {
    const { world, rules, time, given, waits } = await start();
    await world.write(rule(2));
    const changed = rules.changed();
    await waits(1);
    time.pass(10_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(given).toEqual([]);
    time.pass(3);
    await changed;
    expect(given).toEqual(['anew sid:2']);
  });

  test('with a further change meanwhile, are both of them at once, and whoever asked for the first waits for that', async () => {
    const { world, rules, time, given, waits } = await start();
    await world.write(rule(2));
    const first = rules.changed();
    await waits(1);
    await world.write(rule(3));
    const second = rules.changed();
    await waits(2);
    let isDone = false;
    void first.then(() => (isDone = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(isDone).toBe(false);
    time.pass(0);
    await Promise.all([first, second]);
    expect(given).toEqual(['anew sid:3']);
  });

  test('are given up when the agent ends', async () => {
    const { world, rules, given, waits } = await start();
    await world.write(rule(2));
    const changed = rules.changed();
    await waits(1);
    for (const end of ends.splice(1)) await end();
    await changed;
    expect(given).toEqual([]);
  });
});
