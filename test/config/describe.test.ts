import { describe, expect, test } from '@jest/globals';
import { describeConfig, envName } from '../../agent/config/describe.ts';
import { loadConfig } from '../../agent/config/load.ts';

describe('the table of the configuration', () => {
  const rows = describeConfig();

  test('says of every key what it expects and what it is for', () => {
    for (const row of rows) {
      expect(row.type).not.toBe('');
      expect(row.description).toMatch(/^[A-Z].*\.$/);
    }
    expect(rows.length).toBeGreaterThan(70);
  });

  test('has each variable once, and none for what only the file can hold', () => {
    const names = rows.flatMap(({ env }) => (env === undefined ? [] : [env]));
    expect(new Set(names).size).toBe(names.length);
    expect(
      rows
        .filter(({ env }) => env === undefined)
        .every(({ key }) => /^(?:endpoints|ruleSources|sinks(?:\[|\.list))/.test(key)),
    ).toBe(true);
    expect(envName('engine.searchMethod')).toBe('DPI_AGENT_ENGINE_SEARCH_METHOD');
  });

  test('has defaults as they can be written', () => {
    expect(rows.find(({ key }) => key === 'capture.ringSize')).toEqual({
      key: 'capture.ringSize',
      env: 'DPI_AGENT_CAPTURE_RING_SIZE',
      type: 'a size from 512KiB to 1GiB, such as 4MiB',
      default: '512KiB',
      description: "The kernel's ring buffer for each endpoint.",
    });
    const env = Object.fromEntries(
      rows.flatMap((row) => (row.env && row.default !== '' ? [[row.env, row.default]] : [])),
    );
    expect(loadConfig({ env, flags: {} }, () => 'n')).toEqual(loadConfig({ env: {}, flags: {} }, () => 'n'));
  });
});
