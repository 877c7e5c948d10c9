/** Versions that went live, and whose proof the end of the process came before. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { UpdateError } from '../../agent/rulesets/fetch.ts';
import { leaveUnproven } from '../../agent/rulesets/unproven.ts';
import { updateSet, type UpdateOptions, type UpdateResult } from '../../agent/rulesets/update.ts';
import { nodeVersionFiles } from '../../agent/rulesets/version-files.ts';

let directory: string;
let logged: unknown[];
const log = pino({ base: null, timestamp: false }, { write: (line) => void logged.push(JSON.parse(line)) });

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'unproven-'));
  logged = [];
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const rule = (sid: number): string => `alert tcp any any -> any any ( msg:"rule"; sid:${sid}; )\n`;
const installed = (): string => readFileSync(join(directory, 'rules/own/a.rules'), 'utf8');
const note = (): string => join(directory, 'rules/.versions/own/.unproven.json');

/** What nobody is to prove. */
function bring(sid: number, options: Partial<UpdateOptions> = {}): Promise<UpdateResult> {
  const from = join(directory, 'a.rules');
  writeFileSync(from, rule(sid));
  const rulesDirectory = join(directory, 'rules');
  return updateSet({
    rulesDirectory,
    set: 'own',
    from,
    maxBytes: 1e6,
    timeoutMillis: 60_000,
    userAgent: 'test',
    ...options,
  });
}

const update = (sid: number, options: Partial<UpdateOptions> = {}): Promise<UpdateResult> =>
  bring(sid, { prove: async () => undefined, ...options });

/** Up to its proof, which never comes: as if the process had ended then. */
async function updateUnproven(sid: number): Promise<void> {
  await new Promise<void>((live) => {
    void update(sid, { prove: () => new Promise(() => live()) });
  });
}

/** As a process does that comes later. */
const nextStart = (): Promise<void> => leaveUnproven(join(directory, 'rules'), log, nodeVersionFiles, () => false);

test('the next start goes back to the version before, and the source brings the new one again', async () => {
  await update(1);
  await updateUnproven(2);
  expect(installed()).toBe(rule(2));
  await nextStart();
  expect(installed()).toBe(rule(1));
  expect(logged).toEqual([
    expect.objectContaining({ msg: 'rule source: its last version was never proven, the one before is back' }),
  ]);
  expect(readdirSync(join(directory, 'rules/.versions/own')).filter((name) => !name.startsWith('.'))).toHaveLength(1);
  expect((await update(2)).changed).toBe(true);
  await nextStart();
  expect(installed()).toBe(rule(2));
  expect(logged).toHaveLength(1);
});

test('the first version of a set goes, where it was never proven', async () => {
  await updateUnproven(1);
  await nextStart();
  expect(existsSync(join(directory, 'rules/own'))).toBe(false);
  expect(existsSync(note())).toBe(false);
});

test('an end while the proof is under way proves nothing', async () => {
  await update(1);
  const ending = new AbortController();
  const prove = async (): Promise<undefined> => {
    ending.abort();
    return undefined;
  };
  await expect(update(2, { signal: ending.signal, prove })).rejects.toThrow('was interrupted');
  await nextStart();
  expect(installed()).toBe(rule(1));
});

test('what a process that runs is about to prove is left to it', async () => {
  await update(1);
  await updateUnproven(2);
  await leaveUnproven(join(directory, 'rules'), log);
  expect(installed()).toBe(rule(2));
  expect(existsSync(note())).toBe(true);
});

test('what somebody brought meanwhile stays', async () => {
  await update(1);
  await updateUnproven(2);
  await bring(3);
  await nextStart();
  expect(installed()).toBe(rule(3));
  expect(existsSync(note())).toBe(false);
});

test('one of which nobody knows whether it inspects goes, and is tried again', async () => {
  await update(1);
  const unknown = new UpdateError('rules cannot be read');
  await expect(update(2, { prove: () => Promise.reject(unknown) })).rejects.toBe(unknown);
  expect(installed()).toBe(rule(1));
  expect(existsSync(note())).toBe(false);
  expect((await update(2)).changed).toBe(true);
});
