import { describe, expect, test } from '@jest/globals';
import type { Verdict } from '../../agent/engine/validate.ts';
import { admitAdditions } from '../../agent/rulesets/additions.ts';
import type { Admitted, Candidate, SetVersion } from '../../agent/rulesets/admit.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';
import type { IndexedRule } from '../../agent/rulesets/sets.ts';

function set(name: string, sids: number[], more: Partial<IndexedRule> = {}): SetVersion {
  const text = sids.map((sid) => `alert tcp any any -> any any ( sid:${sid}; )\n`).join('');
  const rules = parseRules(text, { file: `/r/${name}` }).rules.map((r) => ({
    ...r,
    sets: [name],
    staged: r.text,
    ...more,
  }));
  return { name, hash: JSON.stringify([sids, more]), changedAt: 0, rules, failed: [] };
}

const candidate = (sets: SetVersion[], more: Partial<Candidate> = {}): Candidate => ({
  sets: new Map(sets.map((one) => [one.name, one])),
  ...more,
});
const sidsOf = ({ sets }: Candidate): Record<string, number[]> =>
  Object.fromEntries([...sets.values()].map(({ name, rules }) => [name, rules.map(({ sid }) => sid)]));

const good = candidate([set('a', [1, 2, 3]), set('b', [4])]);

/** @param bad Signatures that the engine refuses; 0: whatever it gets, and it does not say which. */
async function look(
  offered: Candidate,
  { bad = [], leaveOut = true }: { bad?: number[]; leaveOut?: boolean } = {},
): Promise<{ admitted: Admitted | undefined; tried: Record<string, number[]>[] }> {
  const tried: Record<string, number[]>[] = [];
  const validate = (given: Candidate): Promise<Verdict> => {
    tried.push(sidsOf(given));
    const rules = [...given.sets.values()].flatMap(({ rules: all }) => all);
    const errors = rules
      .filter(({ sid }) => bad.includes(sid))
      .map(({ file, line }) => ({ file, line, reason: 'nonsense' }));
    const isBad = errors.length > 0 || bad.includes(0);
    return Promise.resolve(isBad ? { is: 'refused', reason: 'nonsense', errors } : { is: 'accepted' });
  };
  return { admitted: await admitAdditions(offered, { good, leaveOut, validate }), tried };
}

test('only rules that are new are looked at, and all are taken', async () => {
  const offered = candidate([set('a', [1, 5, 3]), set('b', [4]), set('c', [6])]);
  const { admitted, tried } = await look(offered);
  expect(tried).toEqual([{ a: [5], c: [6] }]);
  expect(admitted).toEqual({ candidate: offered, refused: new Map() });
});

test('where rules only go, nothing is looked at', async () => {
  const offered = candidate([set('a', [2])]);
  expect(await look(offered)).toEqual({ admitted: { candidate: offered, refused: new Map() }, tried: [] });
});

test('what the engine refuses of them is left out', async () => {
  const { admitted } = await look(candidate([set('a', [1, 5, 6]), set('b', [4])]), { bad: [5] });
  expect(admitted === undefined ? undefined : sidsOf(admitted.candidate)).toEqual({ a: [1, 6], b: [4] });
  expect(admitted?.candidate.sets.get('a')?.failed).toEqual([
    { set: 'a', gid: 1, sid: 5, file: '/r/a', line: 2, reason: 'nonsense' },
  ]);
});

test('in the place of one that is refused comes the earlier one of its signature', async () => {
  const [later] = set('a', [5]).rules;
  const [earlier] = set('b', [7]).rules;
  if (later === undefined || earlier === undefined) throw new Error('no rules');
  const { admitted } = await look(candidate([{ ...set('a', [1, 5]), rules: [{ ...later, earlier }] }]), { bad: [5] });
  expect(admitted === undefined ? undefined : sidsOf(admitted.candidate)).toEqual({ a: [7] });
});

describe('all rules have to be looked at', () => {
  test.each<[string, SetVersion, Partial<Candidate>]>([
    ['the overrides change', set('a', [1]), { overrides: 'ips = {}' }],
    ['variables change', set('a', [1]), { variables: { HOME_NET: 'any' } }],
    ['a new rule names files', set('a', [9], { data: [{ name: 'x', file: '/r/x', content: Buffer.from('') }] }), {}],
    [
      'many are new',
      set(
        'a',
        Array.from({ length: 501 }, (_, index) => 100 + index),
      ),
      {},
    ],
  ])('where %s', async (_, changed, more) => {
    expect(await look(candidate([changed], more))).toEqual({ admitted: undefined, tried: [] });
  });

  test('where a set is refused, as its rules may not be left out', async () => {
    const { admitted } = await look(candidate([set('a', [1, 5])]), { bad: [5], leaveOut: false });
    expect(admitted).toBeUndefined();
  });

  test('where the engine does not say what it refuses', async () => {
    expect((await look(candidate([set('a', [1, 5])]), { bad: [0] })).admitted).toBeUndefined();
  });
});
