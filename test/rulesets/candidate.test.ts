import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Candidate } from '../../agent/rulesets/admit.ts';
import { pathsOf, readCandidate, signatureOf, type CandidateOptions } from '../../agent/rulesets/candidate.ts';
import type { RuleHooks } from '../../agent/rulesets/sets.ts';

let folder: string;
let options: CandidateOptions;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-candidate-'));
  mkdirSync(join(folder, 'one/lists'), { recursive: true });
  const rule = 'alert http any any -> any any (msg:"m"; filemd5:lists/a.txt; sid:1;)';
  writeFileSync(join(folder, 'one/a.rules'), `${rule}\n`);
  options = {
    sources: { rulesDirectory: folder, paths: [], engine: 'suricata' },
    ruleSets: ['one'],
    alsoUsed: [],
    engine: 'suricata 7',
    log: { warn: () => undefined },
  };
});
afterEach(() => rmSync(folder, { recursive: true }));

test('a file that rules name makes another candidate when it comes and when it changes, and is watched before', async () => {
  const list = join(folder, 'one/lists/a.txt');
  const signatures = new Set<string>();
  for (const text of [undefined, 'a', 'ab']) {
    if (text !== undefined) writeFileSync(list, text);
    const { candidate, named } = await readCandidate(options, () => [], undefined);
    signatures.add(signatureOf(candidate));
    expect(await pathsOf(options, named)).toContain(list);
    const one = candidate.sets.get('one');
    expect(one?.rules.map(({ data = [] }) => data.map(({ content }) => String(content)))).toEqual(
      text === undefined ? [] : [[text]],
    );
    expect(one?.failed.map(({ reason }) => reason)).toEqual(
      text === undefined ? [expect.stringContaining('there is no file "lists/a.txt"')] : [],
    );
  }
  expect(signatures.size).toBe(3);
});

test('variables are of the candidate: others make another one', async () => {
  const of = async (home: string) => {
    const { candidate } = await readCandidate(
      { ...options, variables: () => ({ HOME_NET: home }) },
      () => [],
      undefined,
    );
    return signatureOf(candidate);
  };
  expect(await of('10.0.0.0/8')).toBe(await of('10.0.0.0/8'));
  expect(await of('10.0.0.0/8')).not.toBe(await of('10.0.0.0/16'));
});

test('rules that stay as they are are not translated again, unless what they go through is other', async () => {
  const file = join(folder, 'one/b.snort.rules');
  const rule = (sid: number): string => `alert tcp any any -> any any ( content:"x",nocase; sid:${sid}; )\n`;
  let translated: number[] = [];
  const read = async (sids: number[], hash: string, before?: Candidate): Promise<Candidate> => {
    writeFileSync(file, sids.map(rule).join(''));
    const translate: RuleHooks['translate'] = ({ sid }) => {
      translated.push(sid);
      return { kind: 'rule', text: `alert tcp any any -> any any (sid:${sid};) ${hash}` };
    };
    const hooks = async () => ({ hooks: { translate }, hash, files: [] });
    const { candidate } = await readCandidate({ ...options, hooks }, () => [], before);
    return candidate;
  };
  const textsOf = ({ sets }: Candidate): (string | undefined)[] =>
    sets.get('one')?.rules.map(({ staged }) => /sid:\d+;\) .+$/.exec(staged)?.[0]) ?? [];
  const first = await read([11, 12], 'v1');
  expect(translated).toEqual([11, 12]);
  translated = [];
  const second = await read([13, 12], 'v1', first);
  expect(translated).toEqual([13]);
  expect(textsOf(second)).toEqual(['sid:13;) v1', 'sid:12;) v1']);
  translated = [];
  expect(textsOf(await read([13, 12], 'v2', second))).toEqual(['sid:13;) v2', 'sid:12;) v2']);
  expect(translated).toEqual([13, 12]);
});
