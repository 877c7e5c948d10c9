import { describe, expect, test } from '@jest/globals';
import type { Verdict } from '../../agent/engine/validate.ts';
import { admit, countOf, indexOf, type Candidate, type SetVersion } from '../../agent/rulesets/admit.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';

/** A set whose rules have these sids, one a line. */
function set(name: string, sids: number[], hash = sids.join()): SetVersion {
  const text = sids.map((sid) => `alert tcp any any -> any any ( sid:${sid}; )\n`).join('');
  const rules = parseRules(text, { file: `/r/${name}` }).rules.map((r) => ({ ...r, sets: [name], staged: r.text }));
  return { name, hash, changedAt: 0, rules, failed: [] };
}

const candidate = (sets: SetVersion[], overrides?: string): Candidate => ({
  sets: new Map(sets.map((one) => [one.name, one])),
  ...(overrides === undefined ? {} : { overrides }),
});
const sidsOf = ({ sets }: Candidate): Record<string, number[]> =>
  Object.fromEntries([...sets.values()].map(({ name, rules }) => [name, rules.map(({ sid }) => sid)]));

/** Refuses rules by name and line, or what has one of `killers` without saying which. */
function engine(bad: string[], killers: number[] = [], badOverrides = '') {
  const tried: Candidate[] = [];
  return {
    tried,
    validate: (given: Candidate): Promise<Verdict> => {
      tried.push(given);
      const rules = [...given.sets.values()].flatMap((one) => one.rules);
      if (rules.some(({ sid }) => killers.includes(sid))) {
        return Promise.resolve({ is: 'refused', reason: 'it took more than 60 s', errors: [] });
      }
      if (badOverrides !== '' && given.overrides === badOverrides)
        return Promise.resolve({ is: 'refused', reason: 'bad Lua', errors: [] });
      const errors = rules
        .filter(({ file, line }) => bad.includes(`${file}:${line}`))
        // An engine stops listing at some number.
        .slice(0, 2)
        .map(({ file, line }) => ({ file, line, reason: 'nonsense' }));
      return Promise.resolve(errors.length === 0 ? { is: 'accepted' } : { is: 'refused', reason: 'nonsense', errors });
    },
  };
}

describe('admit', () => {
  test('what the engine accepts is taken as it is, by one look', async () => {
    const given = candidate([set('a', [1, 2])]);
    const { validate, tried } = engine([]);
    expect(await admit(given, { good: undefined, leaveOut: true, validate })).toEqual({
      candidate: given,
      refused: new Map(),
    });
    expect(tried).toHaveLength(1);
  });

  test('rules that are refused are left out, also when the engine does not name all at once', async () => {
    const { validate } = engine(['/r/a:1', '/r/a:3', '/r/a:4', '/r/b:1']);
    const given = candidate([set('a', [1, 2, 3, 4]), set('b', [5, 6])]);
    const { candidate: taken, refused } = await admit(given, { good: undefined, leaveOut: true, validate });
    expect(sidsOf(taken)).toEqual({ a: [2], b: [6] });
    expect(refused.size).toBe(0);
    expect(taken.sets.get('b')?.failed).toEqual([
      { set: 'b', gid: 1, sid: 5, file: '/r/b', line: 1, reason: 'nonsense' },
    ]);
  });

  test('one whose error may only follow from that of the rule before has another try without it', async () => {
    const given = candidate([set('a', [1, 2, 3, 4])]);
    const tried: number[][] = [];
    const validate = ({ sets }: Candidate): Promise<Verdict> => {
      const sids = sets.get('a')?.rules.map(({ sid }) => sid) ?? [];
      tried.push(sids);
      const error = (line: number, reason: string, follows?: true) => ({
        file: '/r/a',
        line,
        reason,
        ...(follows === undefined ? {} : { follows }),
      });
      if (sids.includes(1))
        return Promise.resolve({
          is: 'refused',
          reason: 'x',
          errors: [error(1, 'no end'), error(2, 'lost', true), error(4, 'lost', true)],
        });
      if (sids.includes(4)) return Promise.resolve({ is: 'refused', reason: 'x', errors: [error(4, 'nonsense')] });
      return Promise.resolve({ is: 'accepted' });
    };
    const { candidate: taken } = await admit(given, { good: undefined, leaveOut: true, validate });
    expect(sidsOf(taken)).toEqual({ a: [2, 3] });
    expect(taken.sets.get('a')?.failed.map(({ sid, reason }) => [sid, reason])).toEqual([
      [1, 'no end'],
      [4, 'lost'],
    ]);
    expect(tried).toEqual([
      [1, 2, 3, 4],
      [2, 3],
    ]);
  });

  test('what the engine skips is named with its reason, and not loaded', async () => {
    const skipped = [{ file: '/r/a', line: 2, reason: 'needs version 8' }];
    const validate = (): Promise<Verdict> => Promise.resolve({ is: 'accepted', skipped });
    const { candidate: taken } = await admit(candidate([set('a', [1, 2])]), {
      good: undefined,
      leaveOut: true,
      validate,
    });
    expect(sidsOf(taken)).toEqual({ a: [1] });
    expect(taken.sets.get('a')?.failed).toEqual([{ set: 'a', gid: 1, sid: 2, ...skipped[0] }]);
  });

  test('where the engine does not take a rule, the earlier one of its signature takes the place', async () => {
    const [later, other] = set('a', [1, 2]).rules;
    const [earlier] = set('b', [1]).rules;
    if (later === undefined || other === undefined || earlier === undefined) throw new Error('no rules');
    const given = candidate([{ ...set('a', []), rules: [{ ...later, earlier }, other] }]);
    const tried: string[][] = [];
    const validate = ({ sets }: Candidate): Promise<Verdict> => {
      tried.push([...sets.values()].flatMap(({ rules }) => rules.map(({ file, line }) => `${file}:${line}`)));
      const skipped = tried.length === 1 ? [{ file: '/r/a', line: 1, reason: 'too new' }] : [];
      return Promise.resolve({ is: 'accepted', skipped });
    };
    const { candidate: taken } = await admit(given, { good: undefined, leaveOut: true, validate });
    expect(tried).toEqual([
      ['/r/a:1', '/r/a:2'],
      ['/r/b:1', '/r/a:2'],
    ]);
    expect(taken.sets.get('a')).toMatchObject({
      rules: [{ sid: 1, file: '/r/b', sets: ['a'] }, { sid: 2 }],
      failed: [{ sid: 1, file: '/r/a', line: 1, reason: 'too new' }],
    });
    const { validate: refuse } = engine(['/r/a:1']);
    const refused = await admit(given, { good: undefined, leaveOut: true, validate: refuse });
    expect(refused.candidate.sets.get('a')?.rules.map(({ file, sid }) => `${file} ${sid}`)).toEqual([
      '/r/b 1',
      '/r/a 2',
    ]);
  });

  test('or their sets are, where rules may not be left out: they stay as they were', async () => {
    const { validate } = engine(['/r/a:2']);
    const good = candidate([set('a', [1]), set('b', [5])]);
    const given = candidate([set('a', [1, 2]), set('b', [5, 6])]);
    const { candidate: taken, refused } = await admit(given, { good, leaveOut: false, validate });
    expect(sidsOf(taken)).toEqual({ a: [1], b: [5, 6] });
    expect([...refused]).toEqual([['a', '/r/a:2: rule 1:2: nonsense']]);
  });

  test('a set that takes too long is found by itself; the rest goes on', async () => {
    const { validate } = engine([], [7]);
    const good = candidate([set('a', [1]), set('b', [2])]);
    const given = candidate([set('a', [1, 7]), set('b', [2, 3]), set('c', [4, 7])]);
    const { candidate: taken, refused } = await admit(given, { good, leaveOut: true, validate });
    expect(sidsOf(taken)).toEqual({ a: [1], b: [2, 3] });
    expect([...refused]).toEqual([
      ['a', 'it took more than 60 s'],
      ['c', 'it took more than 60 s'],
    ]);
  });

  test('bad overrides stay as they were, and the rules change', async () => {
    const { validate } = engine([], [], 'bad');
    const good = candidate([set('a', [1])], 'good');
    const { candidate: taken, ...rest } = await admit(candidate([set('a', [1, 2])], 'bad'), {
      good,
      leaveOut: true,
      validate,
    });
    expect(rest).toEqual({ refused: new Map(), overridesRefused: 'bad Lua' });
    expect([sidsOf(taken), taken.overrides]).toEqual([{ a: [1, 2] }, 'good']);
  });

  test('sets that do not go together are refused together, for what was good', async () => {
    const good = candidate([set('a', [1]), set('b', [2])]);
    const validate = ({ sets }: Candidate): Promise<Verdict> =>
      Promise.resolve(
        [...sets.values()].every(({ hash }) => hash === 'new') && sets.size === 2
          ? { is: 'refused', reason: 'too many', errors: [] }
          : { is: 'accepted' },
      );
    const given = candidate([set('a', [1, 3], 'new'), set('b', [2, 4], 'new')]);
    const { candidate: taken, refused } = await admit(given, { good, leaveOut: true, validate });
    expect(taken).toBe(good);
    expect([...refused.keys()]).toEqual(['a', 'b']);
  });

  test('an engine that refuses for ever is not asked for ever', async () => {
    const sids = Array.from({ length: 100 }, (_, index) => index + 1);
    const { validate, tried } = engine(sids.map((line) => `/r/a:${line}`));
    const good = candidate([set('a', [500])]);
    const { refused } = await admit(candidate([set('a', sids)]), {
      good,
      leaveOut: true,
      validate: (given) => {
        if (given.sets.get('a')?.rules[0]?.sid === 500) return Promise.resolve({ is: 'accepted' });
        return validate(given);
      },
    });
    expect(refused.has('a')).toBe(true);
    expect(tried.length).toBeLessThan(20);
  });

  test('nothing to fall back on is an error with the engine’s reason', async () => {
    const { validate } = engine([], [], 'bad');
    const all = async (given: Candidate): Promise<Verdict> =>
      given.sets.size === 0 ? { is: 'refused', reason: 'no engine', errors: [] } : validate(given);
    await expect(
      admit(candidate([set('a', [1])]), {
        good: undefined,
        leaveOut: true,
        validate: (given) =>
          given.sets.size > 0 ? Promise.resolve({ is: 'refused', reason: 'no memory', errors: [] }) : all(given),
      }),
    ).rejects.toThrow('no memory');
  });
});

test('an index has each signature once, with all sets that have it', () => {
  const index = indexOf([set('a', [1, 2]), set('b', [2, 3])]);
  expect([...index].map(([key, { sets }]) => [key, sets])).toEqual([
    ['1:1', ['a']],
    ['1:2', ['a', 'b']],
    ['1:3', ['b']],
  ]);
  expect(countOf(set('a', [1, 1, 2]))).toBe(2);
});
