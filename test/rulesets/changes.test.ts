import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readChanges, withChange, writeChange } from '../../agent/rulesets/changes.ts';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'changes-'));
  file = join(directory, 'rule-changes.conf');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe('withChange', () => {
  test.each([
    ['', 'disable', '1', 'disable 1\n'],
    ['# head\n\nenable 2', 'disable', '1', '# head\n\nenable 2\ndisable 1\n'],
    ['disable 1  # noisy\nenable 2\n', 'enable', '1', 'enable 2\nenable 1  # noisy\n'],
    ['disable 1 set:x\ndisable 11\n', 'disable', '1', 'disable 1 set:x\ndisable 11\ndisable 1\n'],
    ['', 'disable', 're:a b', 'disable "re:a b"\n'],
    ['disable "re:a b"\n', 'enable', 're:a b', 'enable "re:a b"\n'],
    ['modify 1 a b\n', 'disable', '1', 'modify 1 a b\ndisable 1\n'],
  ] as const)('%j and %s %s', (text, action, condition, expected) => {
    expect(withChange(text, action, condition)).toBe(expected);
  });
});

test('a change is read as it was written, again and again', async () => {
  expect(await readChanges(file)).toEqual([]);
  expect(await writeChange(file, 'disable', 're:/a "b" #/i')).toBe(true);
  expect(await writeChange(file, 'disable', 're:/a "b" #/i')).toBe(false);
  const [change] = await readChanges(file);
  expect(change).toMatchObject({ line: 1, action: 'disable', conditions: [{ pattern: { source: '/a "b" #/i' } }] });
});

test('a link stays a link, and the mode is kept', async () => {
  const real = join(directory, 'real.conf');
  writeFileSync(real, 'disable 1\n');
  chmodSync(real, 0o600);
  symlinkSync(real, file);
  await writeChange(file, 'disable', '2');
  expect(readFileSync(real, 'utf8')).toBe('disable 1\ndisable 2\n');
  expect(statSync(real).mode & 0o777).toBe(0o600);
});

test('errors name file, line and what to do', async () => {
  writeFileSync(file, 'disable 1\nwhat\nenable x\n');
  await expect(readChanges(file)).rejects.toThrow(
    `${file}:2: "what": expected enable, disable or modify\n${file}:3: "x": expected 1:21562`,
  );
  await expect(writeChange(join(directory, 'no/such.conf'), 'disable', '1')).rejects.toThrow(
    'its folder does not exist',
  );
  writeFileSync(file, 'x'.repeat((1 << 20) + 1));
  await expect(readChanges(file)).rejects.toThrow('is too large');
});
