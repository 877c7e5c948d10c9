import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { unstage } from '../../agent/engine/rules.ts';
import {
  defaultSets,
  findSets,
  loadSets,
  stageSets,
  unknownSet,
  type RuleHooks,
  type RuleSet,
} from '../../agent/rulesets/sets.ts';
import { PROJECT } from '../support/project.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-sets-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string): string => join(folder, name);
const rule = (sid: number, rev = 1, message = 'm'): string =>
  `alert tcp any any -> any any (msg:"${message}"; sid:${sid}; rev:${rev};)`;

function write(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(at(name), '..'), { recursive: true });
    writeFileSync(at(name), text);
  }
}

const find = (engine: 'snort' | 'suricata' = 'snort', paths: string[] = []): Promise<Map<string, RuleSet>> =>
  findSets({ rulesDirectory: folder, paths, engine });

/** The files of each set but the built-in one, below the folder. */
function filesOf(sets: Map<string, RuleSet>): Record<string, string[]> {
  const found = [...sets.values()].filter(({ name }) => name !== 'kubernetes');
  return Object.fromEntries(
    found.map(({ name, files }) => [name, files.map(({ path }) => path.slice(folder.length + 1))]),
  );
}

describe('findSets', () => {
  test.each(['snort', 'suricata'] as const)('the built-in set is its file for %s', async (engine) => {
    const { files } = (await findSets({ rulesDirectory: at('none'), paths: [], engine })).get('kubernetes') ?? {};
    expect(files).toEqual([{ path: join(PROJECT, 'rules/kubernetes', `${engine}.rules`), syntax: engine }]);
  });

  test('each folder is a set, files beside them are custom', async () => {
    write({
      'community/snort3-community.rules': '',
      'mine/deep/a.rules': '',
      'b.rules': '',
      'a.rules': '',
      'notes.txt': '',
    });
    expect(filesOf(await find())).toEqual({
      community: ['community/snort3-community.rules'],
      custom: ['a.rules', 'b.rules'],
      mine: ['mine/deep/a.rules'],
    });
  });

  test('a folder without rule files, or whose name can be no set’s, is none', async () => {
    write({
      'empty/notes.txt': '',
      'Upper/a.rules': '',
      '.hidden/a.rules': '',
      '..data/a.rules': '',
      '-x/a.rules': '',
    });
    expect(filesOf(await find())).toEqual({});
  });

  test('a mounted ConfigMap is custom, each file once', async () => {
    write({ '..2026_01_01/a.rules': '' });
    symlinkSync('..2026_01_01', at('..data'));
    symlinkSync('..data/a.rules', at('a.rules'));
    expect(filesOf(await find())).toEqual({ custom: ['a.rules'] });
  });

  test('a folder of a built-in set’s name takes its place', async () => {
    write({ 'kubernetes/a.rules': '' });
    expect((await find()).get('kubernetes')?.files).toEqual([{ path: at('kubernetes/a.rules'), syntax: 'either' }]);
  });

  test('paths are custom too, each file once, by any name', async () => {
    write({ 'a.rules': '', 'custom/b.rules': '', 'mine.txt': '' });
    const sets = await find('snort', [at('mine.txt'), at('a.rules')]);
    expect(filesOf(sets)).toEqual({ custom: ['a.rules', 'custom/b.rules', 'mine.txt'] });
  });

  test('a path that does not exist is an error that names it', async () => {
    await expect(find('snort', [at('missing')])).rejects.toThrow(at('missing'));
  });

  test('Suricata has Snort’s files too, but where it has the same in its own syntax; Snort has its own', async () => {
    write({ 'set/x.snort.rules': '', 'set/x.suricata.rules': '', 'set/snort3-y.rules': '', 'set/z.rules': '' });
    expect(filesOf(await find('snort'))).toEqual({ set: ['set/snort3-y.rules', 'set/x.snort.rules', 'set/z.rules'] });
    expect(filesOf(await find('suricata'))).toEqual({
      set: ['set/snort3-y.rules', 'set/x.suricata.rules', 'set/z.rules'],
    });
  });
});

test('custom belongs to the default sets where it is there', async () => {
  expect(defaultSets(['kubernetes'], await find())).toEqual(['kubernetes']);
  write({ 'a.rules': '' });
  expect(defaultSets(['custom', 'kubernetes'], await find())).toEqual(['custom', 'kubernetes']);
  expect(defaultSets([], await find())).toEqual(['custom']);
});

test('an unknown set is named with those that there are', async () => {
  expect(unknownSet('kubernets', await find())).toBe('there is no rule set kubernets; there is: kubernetes');
});

describe('loadSets', () => {
  const load = async (files: Record<string, string>, hooks?: RuleHooks, engine: 'snort' | 'suricata' = 'snort') => {
    write(files);
    const sets = await find(engine);
    sets.delete('kubernetes');
    return loadSets(sets.values(), engine, hooks);
  };

  test('keeps the highest revision for every set that has the signature, and lists those that were dropped', async () => {
    const { index, duplicates } = await load({
      'a/1.rules': `\n${rule(1, 2, 'first')}\n${rule(2, 1, 'low')}\n${rule(3)}\n${rule(1, 2, 'again')}`,
      'b/2.rules': `${rule(2, 5, 'high')}\n${rule(3)}`,
    });
    expect([...index].map(([key, { message, sets }]) => [key, message, sets])).toEqual([
      ['1:1', 'first', ['a']],
      ['1:2', 'high', ['a', 'b']],
      ['1:3', 'm', ['a', 'b']],
    ]);
    const [one, two] = [at('a/1.rules'), at('b/2.rules')];
    expect(duplicates).toEqual([
      { gid: 1, sid: 1, kept: { file: one, line: 2, rev: 2 }, dropped: { file: one, line: 5, rev: 2 } },
      { gid: 1, sid: 2, kept: { file: two, line: 1, rev: 5 }, dropped: { file: one, line: 3, rev: 1 } },
    ]);
  });

  test('tells the same sid of two generators apart, and counts what is commented out', async () => {
    const { index, disabled } = await load({
      'a/1.rules': `${rule(1)}\n${rule(1).replace('sid', 'gid:3; sid')}\n#${rule(2)}`,
    });
    expect([...index.keys()]).toEqual(['1:1', '3:1']);
    expect(disabled).toBe(1);
  });

  test('says where the problems are, and of which set', async () => {
    const { problems, unlistedProblems } = await load({ 'a/1.rules': `${rule(1)}\nnonsense\n${'x\n'.repeat(1001)}` });
    expect(problems[0]).toEqual({ file: at('a/1.rules'), line: 2, set: 'a', reason: 'not a rule: "nonsense"' });
    expect({ listed: problems.length, unlistedProblems }).toEqual({ listed: 1000, unlistedProblems: 2 });
  });

  test('rules go through modify, those that are commented out too', async () => {
    const { index } = await load(
      { 'a/1.rules': `${rule(1)}\n#${rule(2)}` },
      {
        modify: (rules) => rules.map((r) => ({ ...r, enabled: !r.enabled, text: r.text.replace(/^#/, '') })),
      },
    );
    expect([...index].map(([key, { staged }]) => [key, staged])).toEqual([['1:2', rule(2)]]);
  });

  test('Snort’s rules are translated for Suricata, or refused with the reason; others are not touched', async () => {
    const snort = `alert http (msg:"m"; content:"x",nocase; sid:2;)`;
    const hooks: RuleHooks = {
      translate: ({ sid, text }) =>
        sid === 3 ? { kind: 'refused', reason: 'no such option' } : { kind: 'rule', text: `translated ${text}` },
    };
    const files = { 'a/own.rules': rule(1), 'a/any.rules': snort, 'a/snort3-x.rules': `${rule(3)}\n${rule(4)}` };
    const { index, refused } = await load(files, hooks, 'suricata');
    expect([...index].map(([, { sid, staged }]) => [sid, staged])).toEqual([
      [2, `translated ${snort}`],
      [1, rule(1)],
      [4, `translated ${rule(4)}`],
    ]);
    expect(refused).toEqual([
      { set: 'a', gid: 1, sid: 3, file: at('a/snort3-x.rules'), line: 1, by: 'translation', reason: 'no such option' },
    ]);
    expect((await load(files, hooks, 'snort')).index.get('1:2')?.staged).toBe(snort);
  });

  test.each(['snort', 'suricata'] as const)(
    'a rule with the canary’s signature is refused for %s: its alerts would be dropped',
    async (engine) => {
      const canary = rule(4094).replace('sid', 'gid:4094; sid');
      const { index, problems } = await load({ 'a/1.rules': `${rule(4094)}\n${canary}\n# ${canary}` }, {}, engine);
      expect([...index.keys()]).toEqual(['1:4094']);
      expect(problems).toEqual([
        {
          set: 'a',
          file: at('a/1.rules'),
          line: 2,
          reason:
            "4094:4094 is the signature of the agent's own canary, whose alerts are no events: give it another sid",
        },
      ]);
    },
  );

  test('an include goes nowhere: only rules are staged', async () => {
    write({ 'secret.txt': 'secret' });
    const { index, problems } = await load({ 'a/1.rules': `include ../secret.txt\ninclude 1.rules\n${rule(1)}` });
    expect(stageSets(index, new Set(['a'])).map(({ text }) => text)).toEqual([`${rule(1)}\n`]);
    expect(problems.map(({ line, reason }) => [line, reason])).toEqual([
      [1, 'include is not followed: "../secret.txt"'],
      [2, 'include is not followed: "1.rules"'],
    ]);
  });
});

describe('stageSets', () => {
  test('one file for all rules of the same sets, so that no policy has a rule twice', async () => {
    write({ 'a/1.rules': `${rule(1)}\n${rule(2)}`, 'b/2.rules': `${rule(2)}\n${rule(3)}`, 'c/3.rules': rule(4) });
    const { index } = await loadSets((await find()).values(), 'snort');
    const staged = stageSets(index, new Set(['a', 'b']));
    expect(staged.map(({ name, sets, text }) => ({ name, sets, text }))).toEqual([
      { name: '000-a.rules', sets: ['a'], text: `${rule(1)}\n` },
      { name: '001-a.b.rules', sets: ['a', 'b'], text: `${rule(2)}\n` },
      { name: '002-b.rules', sets: ['b'], text: `${rule(3)}\n` },
    ]);
  });

  test('what an engine says of a line is said of the operator’s file', async () => {
    const long = `alert tcp any any -> any any (\n  msg:"long";\n  sid:1;\n)`;
    write({ 'a/1.rules': `\n\n${long}\n${rule(2)}` });
    const { index } = await loadSets((await find()).values(), 'snort');
    const staged = stageSets(index, new Set(['a']));
    expect(unstage('/x/000-a.rules:3 bad, /x/000-a.rules:5 worse', { files: staged })).toBe(
      `${at('a/1.rules')}:3 bad, ${at('a/1.rules')}:7 worse`,
    );
  });
});
