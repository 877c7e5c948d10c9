import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathsOf, readCandidate, signatureOf, type CandidateOptions } from '../../agent/rulesets/candidate.ts';

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
