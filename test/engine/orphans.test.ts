import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { endOrphans, leftGenerations } from '../../agent/engine/orphans.ts';
import { makeFifo } from '../../agent/engine/sandbox.ts';
import { identityOf } from '../../agent/files/process.ts';
import { whyNoProc } from '../support/proc.ts';

if (whyNoProc !== undefined) process.stderr.write(`skipped: ${whyNoProc}\n`);
const withProc = whyNoProc === undefined ? test : test.skip;

const record = { name: '?', engine: 'snort', version: '3', alertFile: 'alerts.txt', stamped: false, output: 'json' };

let lane: string;
let children: ChildProcess[];
let log: Record<string, unknown>[];
const logger = pino({}, { write: (line: string) => log.push(JSON.parse(line) as Record<string, unknown>) });

beforeEach(() => {
  lane = mkdtempSync(join(tmpdir(), 'dpi-orphans-'));
  children = [];
  log = [];
});
afterEach(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  rmSync(lane, { recursive: true });
});

/** A generation's folder, as an agent makes it. */
function folder(name: string, generation: string | undefined, alerts = ''): string {
  const directory = join(lane, name);
  mkdirSync(join(directory, 'output'), { recursive: true });
  if (generation !== undefined) writeFileSync(join(directory, 'generation.json'), generation);
  if (alerts !== '') writeFileSync(join(directory, 'output', 'alerts.txt'), alerts);
  return directory;
}

describe('left generations', () => {
  test('are none where there is no folder', async () => {
    expect(await leftGenerations(join(lane, 'nowhere'))).toEqual({ generations: [], unreadable: [] });
  });

  test('are given oldest first; those in which no engine was started are deleted', async () => {
    const names = ['lane0-20260102T000000Z-aaaaaa', 'lane0-20260101T000000Z-bbbbbb'];
    for (const name of names) folder(name, JSON.stringify(record));
    folder('lane0-without-engine', undefined);
    mkdirSync(join(lane, 'lane0-begun'));
    expect(await leftGenerations(lane)).toEqual({
      generations: names.toReversed().map((name) => ({ ...record, name, directory: join(lane, name) })),
      unreadable: [],
    });
    expect(readdirSync(lane).toSorted()).toEqual(names.toSorted());
  });

  test.each([
    ['empty', '', 'Unexpected end of JSON input'],
    ['torn', '{"name":', 'JSON'],
    ['of nothing', 'null', 'generation.json is not what an agent writes'],
    ['of another form', JSON.stringify({ ...record, output: 'text' }), 'is not what an agent writes'],
    ['missing beside alerts', undefined, 'ENOENT'],
  ])('whose generation.json is %s stay, with their alerts', async (_, text, reason) => {
    const directory = folder('lane0-damaged', text, 'unread');
    const left = { directory, reason: expect.stringContaining(reason) };
    expect(await leftGenerations(lane)).toEqual({ generations: [], unreadable: [left] });
    expect(readdirSync(join(directory, 'output'))).toEqual(['alerts.txt']);
  });

  test('that cannot be read now stay, with or without alerts', async () => {
    const directory = folder('lane0-unreadable', undefined);
    mkdirSync(join(directory, 'generation.json'));
    const left = { directory, reason: expect.stringContaining('EISDIR') };
    expect(await leftGenerations(lane)).toEqual({ generations: [], unreadable: [left] });
    expect(existsSync(directory)).toBe(true);
  });
});

describe('left engines', () => {
  let directory: string;
  const fifo = (): string => join(directory, 'packets.fifo');
  const alertFile = (): string => join(directory, 'output', 'alerts.txt');

  beforeEach(() => {
    directory = folder('lane0-left', JSON.stringify(record), 'unread');
    makeFifo(fifo());
  });

  function run(program: string, ...args: string[]): ChildProcess {
    const child = spawn(program, args, { stdio: 'ignore' });
    children.push(child);
    return child;
  }

  const note = (identity: string): void => writeFileSync(join(directory, 'engine.pid'), identity);
  const noteOf = ({ pid }: ChildProcess): string => identityOf(pid ?? 0);

  withProc('that wait for their input are told that there is none, and end by themselves', async () => {
    const engine = run('cat', fifo());
    const ended = once(engine, 'exit');
    note(noteOf(engine));
    await endOrphans([directory], logger, undefined, 120_000);
    expect(await ended).toEqual([0, null]);
    expect(log).toEqual([]);
  });

  withProc('that do not end are killed; who reads their alerts is left alone', async () => {
    const reader = run('tail', '-F', alertFile());
    const engine = run('sleep', '1000');
    const ended = once(engine, 'exit');
    note(noteOf(engine));
    await endOrphans([directory], logger, undefined, 10);
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(log).toMatchObject([{ pid: engine.pid, msg: 'ending an engine that an earlier agent left' }]);
    expect(noteOf(reader)).not.toBe('');
  });

  withProc('whose pid another process has now are gone', async () => {
    const other = run('sleep', '1000');
    note(noteOf(other).replace(/ \d+ /, ' 1 '));
    await endOrphans([directory], logger, undefined, 120_000);
    expect(noteOf(other)).not.toBe('');
    expect(log).toEqual([]);
  });

  withProc('that nobody noted are told that there is no input, and not killed', async () => {
    const engine = run('cat', fifo());
    const ended = once(engine, 'exit');
    const reader = run('tail', '-F', alertFile());
    // Before it waits there is nobody to be told.
    while (noteOf(engine) !== '') await endOrphans([directory], logger, undefined, 100);
    expect(await ended).toEqual([0, null]);
    expect(noteOf(reader)).not.toBe('');
    expect(log).toEqual([]);
  });

  withProc('that end just before they are killed are no error; one that cannot be killed is', async () => {
    note(noteOf(run('sleep', '1000')));
    const failing = (code: string) => (): never => {
      throw Object.assign(new Error(code), { code });
    };
    await endOrphans([directory], logger, failing('ESRCH'), 10);
    await expect(endOrphans([directory], logger, failing('EPERM'), 10)).rejects.toThrow('EPERM');
  });
});
