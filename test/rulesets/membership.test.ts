import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isWanted, readStates, remember, type RuleState } from '../../agent/rulesets/membership.ts';

const SECOND = 1_000_000;
const state = (since: number, sets: Record<string, string[]>, defaults = ['kubernetes']): RuleState => ({
  since: since * SECOND,
  defaults,
  setsOf: (key) => sets[key],
});

describe('isWanted', () => {
  const now = state(1000, { '1:1': ['a'], '1:2': ['a', 'b'], '1:3': ['kubernetes'] });
  const wanted = (key: string, named?: string[], at = 2000, states = [now]): boolean =>
    isWanted(states, key, at * SECOND, named);

  test('a resource gets the signatures of the sets that it names, or of the defaults', () => {
    expect(['1:1', '1:2', '1:3'].map((key) => wanted(key, ['b']))).toEqual([false, true, false]);
    expect(['1:1', '1:2', '1:3'].map((key) => wanted(key))).toEqual([false, false, true]);
  });

  test('a signature of no set is everybody’s', () => expect(wanted('116:5', ['b'])).toBe(true));

  test('before the first state, the first one holds', () => expect(wanted('1:1', ['b'], 1)).toBe(false));

  test('each state holds for its time, and a minute around it, as packets wait and swaps take time', () => {
    const states = [state(0, { '1:1': ['a'] }), state(1000, { '1:1': ['b'] }), state(5000, {})];
    // Well within the first state, the second one is not asked.
    expect(wanted('1:1', ['a'], 900, states)).toBe(true);
    expect(wanted('1:1', ['b'], 900, states)).toBe(false);
    // About a change, the newer one that knows the signature decides.
    expect(wanted('1:1', ['b'], 950, states)).toBe(true);
    expect(wanted('1:1', ['b'], 5050, states)).toBe(true);
    expect(wanted('1:1', ['a'], 5050, states)).toBe(false);
    // Gone long since: nobody could ask for it.
    expect(wanted('1:1', ['a'], 6000, states)).toBe(true);
  });

  test('former states are forgotten in the end', () => {
    let states: RuleState[] = [];
    for (let since = 0; since < 20; since++) states = remember(states, state(since, {}));
    expect(states.map(({ since }) => since / SECOND)).toEqual([12, 13, 14, 15, 16, 17, 18, 19]);
  });
});

describe('readStates', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dpi-agent-states-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function write(name: string, record: unknown, files: Record<string, string> = {}): string {
    const path = join(folder, name);
    mkdirSync(path);
    writeFileSync(join(path, 'rules.json'), typeof record === 'string' ? record : JSON.stringify(record));
    for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
    return path;
  }

  test('reads what a generation had, in order of time', () => {
    const rule = (sid: number): string => `alert tcp any any -> any any ( sid:${sid}; )\n`;
    const later = write('b', { since: 9, defaults: ['x'], files: { '0.rules': ['a', 'b'] } }, { '0.rules': rule(2) });
    const first = write('a', { since: 3, defaults: ['y'], files: { '0.rules': ['a'] } }, { '0.rules': rule(1) });
    const states = readStates([later, first]);
    expect(states.map(({ since, defaults }) => [since, defaults])).toEqual([
      [3, ['y']],
      [9, ['x']],
    ]);
    expect(states.map(({ setsOf }) => [setsOf('1:1'), setsOf('1:2')])).toEqual([
      [['a'], undefined],
      [undefined, ['a', 'b']],
    ]);
  });

  test('what is torn, of another kind, or not there was never in force', () => {
    const folders = [
      write('torn', '{"since": 1, "def'),
      write('other', { since: 'now' }),
      write('lacking', { since: 1, defaults: [], files: { 'none.rules': ['a'] } }),
      join(folder, 'none'),
    ];
    expect(readStates(folders)).toEqual([]);
  });
});
