import { describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';
import { createLineLimit, kindOf, LINES_A_MINUTE } from '../../agent/cli/line-limit.ts';
import { PROJECT } from '../support/project.ts';

describe('lines of one kind', () => {
  test('pass up to the limit, and the next minute says how many were left out', () => {
    const limit = createLineLimit(3);
    expect([0, 1, 2, 3, 4].map((at) => limit.admit('a', at * 1000))).toEqual([0, 0, 0, 'drop', 'drop']);
    expect(limit.admit('b', 5_000)).toBe(0);
    expect(limit.admit('a', 60_000)).toBe(2);
    expect(limit.admit('a', 60_001)).toBe(0);
  });

  test('that stop are said once', () => {
    const limit = createLineLimit(1);
    for (let line = 0; line < 5; line++) limit.admit('a', 0);
    limit.admit('quiet', 0);
    expect(limit.due(59_999)).toEqual([]);
    expect(limit.due(60_000)).toEqual([{ kind: 'a', leftOut: 4 }]);
    expect(limit.due(60_000)).toEqual([]);
  });

  test('take bounded memory, however many kinds there are', () => {
    const limit = createLineLimit(1);
    for (let kind = 0; kind < 5_000; kind++) for (let line = 0; line < 2; line++) limit.admit(`kind ${kind}`, 0);
    expect(limit.due(60_000)).toHaveLength(4_096);
  });
});

test('a kind is the text and what it is about, not what differs each time', () => {
  expect(kindOf([{ offset: 7, generation: 'x' }, 'engine output is not readable'], {})).toBe(
    'engine output is not readable',
  );
  expect(kindOf([{ lane: 'lane0', pid: 4 }, 'engine'], { sink: 'syslog' })).toBe('engine lane=lane0 sink=syslog');
  expect(kindOf(['ready'], {})).toBe('ready');
});

test('a flood of lines leaves those of other endpoints in the log', () => {
  const module = pathToFileURL(join(PROJECT, 'dist/agent/cli/log.js')).href;
  const script = `
    const { createLog } = await import(${JSON.stringify(module)});
    const log = createLog({ logLevel: 'debug', logFormat: 'json', node: 'n' });
    for (let line = 0; line < 1000; line++) log.warn({ lane: 'lane0', offset: line }, 'not readable');
    for (let pod = 0; pod < 50; pod++) log.info({ endpoint: 'pod' + pod }, 'capturing');
    for (let line = 0; line < 50; line++) log.debug('detail');`;
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
  const lines = stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { msg: string });
  const count = (msg: string): number => lines.filter((line) => line.msg === msg).length;
  expect([count('not readable'), count('capturing'), count('detail')]).toEqual([LINES_A_MINUTE, 50, 50]);
});
