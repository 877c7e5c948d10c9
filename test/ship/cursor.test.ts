import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { loadProgress, noProgress, readProgress, saveProgress } from '../../agent/ship/cursor.ts';

let root: string;
let file: string;
const end = { segment: 0, offset: 900, event: 9 };
const progress = {
  cursor: { segment: 0, offset: 500, event: 5 },
  delivered: 3,
  duplicates: 2,
  deadLettered: 1,
  evicted: 1,
  filtered: 0,
  digested: 0,
};

beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'cursor-'));
  file = path.join(root, 'sinks', 'a.cursor.json');
});

afterEach(() => rm(root, { recursive: true, force: true }));

test('what was saved is loaded, and nothing else stays in the folder', async () => {
  await saveProgress(file, noProgress());
  await saveProgress(file, progress);
  expect(await loadProgress(file, end)).toEqual({ progress });
  expect(await readdir(path.dirname(file))).toEqual(['a.cursor.json']);
});

test('what is not for the sink is saved where there is some, and counts in the invariant', async () => {
  await saveProgress(file, progress);
  expect(await readFile(file, 'utf8')).not.toMatch(/filtered|digested/);
  const passedOver = { ...progress, cursor: { segment: 0, offset: 700, event: 12 }, filtered: 4, digested: 3 };
  await saveProgress(file, passedOver);
  expect(await readProgress(file)).toEqual(passedOver);
  await writeFile(file, JSON.stringify({ version: 1, ...passedOver, digested: 2 }));
  expect(await readProgress(file)).toBeUndefined();
});

test('without a file the sink begins at the oldest event', async () => {
  expect(await loadProgress(file, end)).toEqual({ progress: noProgress(), reason: 'there is no cursor yet' });
});

test.each([
  ['', 'empty'],
  ['{"version":1,"cur', 'torn'],
  [JSON.stringify({ version: 2, ...progress }), 'of another version'],
  [JSON.stringify({ version: 1, ...progress, delivered: 4 }), 'against the invariant'],
  [JSON.stringify({ version: 1, ...progress, evicted: -1 }), 'with a negative count'],
  [JSON.stringify({ version: 1, ...progress, cursor: null }), 'without a cursor'],
])('a damaged file is kept aside (%#)', async (text) => {
  await saveProgress(file, progress);
  await writeFile(file, text);
  const loaded = await loadProgress(file, end);
  expect(loaded.progress).toEqual(noProgress());
  expect(loaded.reason).toContain('damaged');
  expect(await readFile(`${file}.damaged`, 'utf8')).toBe(text);
});

test('a cursor behind the end of the journal is one of another journal', async () => {
  await saveProgress(file, progress);
  const loaded = await loadProgress(file, { segment: 0, offset: 400, event: 4 });
  expect(loaded.progress).toEqual(noProgress());
  expect(loaded.reason).toContain('at event 5, but the journal ends at 4');
});
