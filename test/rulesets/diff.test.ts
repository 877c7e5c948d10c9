import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { BUILT_IN_VOCABULARY } from '../../agent/rulesets/classes.ts';
import { diffRules, readRules, sumByClass, type RuleDiff } from '../../agent/rulesets/diff.ts';

const directory = mkdtempSync(join(tmpdir(), 'diff-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
let folders = 0;

async function diff(before: Record<string, string>, after: Record<string, string>): Promise<RuleDiff> {
  const states = [before, after].map((files) => {
    const folder = join(directory, String(folders++));
    mkdirSync(folder);
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    return readRules(folder);
  });
  const [old = new Map(), next = new Map()] = await Promise.all(states);
  return diffRules(old, next, BUILT_IN_VOCABULARY);
}

const rule = (sid: number, options = '', rev = 1): string =>
  `alert tcp any any -> any 80 (msg:"rule ${sid}"; ${options} sid:${sid}; rev:${rev};)\n`;

test('what came, what went, and what of the rest is another', async () => {
  const { added, removed, changed, same } = await diff(
    {
      'a.rules':
        rule(1) +
        rule(2) +
        rule(3, 'content:"a"; classtype:trojan-activity;') +
        rule(4) +
        `# ${rule(5)}` +
        rule(6) +
        rule(7),
    },
    {
      // Other files, another order, blanks: no change.
      'z.rules': rule(7).replace('; sid', ';  \\\n sid') + rule(1) + rule(8, 'classtype:trojan-activity;'),
      'b.rules':
        rule(3, 'content:"b"; classtype:trojan-activity;', 2) +
        rule(4).replace('any 80', 'any 81') +
        rule(5) +
        rule(6).replace('alert', 'drop').replace('rule 6', 'other'),
    },
  );
  expect(added).toEqual([
    { gid: 1, sid: 8, rev: 1, message: 'rule 8', classtype: 'trojan-activity', priority: 1, enabled: true },
  ]);
  expect(removed.map(({ sid, priority }) => [sid, priority])).toEqual([[2, 0]]);
  expect(changed.map(({ sid, formerRev, rev, changes }) => [sid, formerRev, rev, changes])).toEqual([
    [3, 1, 2, ['content', 'rev']],
    [4, 1, 1, ['header']],
    [5, 1, 1, ['on']],
    [6, 1, 1, ['action', 'msg']],
  ]);
  expect(same).toBe(2);
});

test('a signature counts once, with its highest rev, and its class as its set has it', async () => {
  const { changed, added, same } = await diff(
    { 'a.rules': rule(1, '', 3) + rule(1, '', 2) },
    {
      'a.rules': rule(1, '', 2) + rule(1, '', 3) + rule(2, 'classtype:own;'),
      'classification.config': 'config classification: own,Own,2\n',
    },
  );
  expect([changed, same]).toEqual([[], 1]);
  expect(added).toMatchObject([{ sid: 2, priority: 2 }]);
});

test('sums are by class and priority, the most severe first', async () => {
  const of = (sid: number, type: string): string => rule(sid, `classtype:${type};`);
  const sums = sumByClass(
    await diff(
      { 'a.rules': of(1, 'misc-activity') + of(2, 'nobody-knows') },
      {
        'a.rules':
          of(3, 'trojan-activity') + of(4, 'trojan-activity') + rule(5, 'classtype:trojan-activity; priority:4;'),
      },
    ),
  );
  expect(sums).toEqual([
    { classtype: 'trojan-activity', priority: 1, added: 2, removed: 0, changed: 0 },
    { classtype: 'misc-activity', priority: 3, added: 0, removed: 1, changed: 0 },
    { classtype: 'trojan-activity', priority: 4, added: 1, removed: 0, changed: 0 },
    { classtype: 'nobody-knows', priority: 0, added: 0, removed: 1, changed: 0 },
  ]);
});
