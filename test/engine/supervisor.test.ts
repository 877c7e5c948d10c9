import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import type { EngineDriver, RuleError } from '../../agent/engine/engine.ts';
import { poll } from '../support/poll.ts';
import { whyNoProc } from '../support/proc.ts';
import { startGeneration, type Generation, type GenerationOptions } from '../../agent/engine/generation.ts';
import { judgeRules, validateRules, verdictOf } from '../../agent/engine/validate.ts';
import { identityOf } from '../../agent/files/process.ts';
import { unstage, type EngineRules, type StagedFile } from '../../agent/engine/rules.ts';
import type { Sandbox } from '../../agent/engine/sandbox.ts';
import {
  engineError,
  superviseEngine,
  type EngineError,
  type EngineSupervisor,
} from '../../agent/engine/supervisor.ts';

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;
/** As the agent's own user. */
const plain: Sandbox = { uid: undefined, gid: undefined, isolateNetwork: false, setpriv: undefined, missing: [] };
/** Another user, without the tools that take away more. */
const asNobody: Sandbox = {
  uid: NOBODY,
  gid: NOBODY,
  isolateNetwork: false,
  setpriv: undefined,
  missing: ['an emptied capability set'],
};

/** Waits for its FIFO and reads it to the end, as an engine does. */
const READ_TO_END = 'exec < "$1"; cat > read.txt';

let folder: string;
let lane: string;
let supervisors: EngineSupervisor[];
let generations: Generation[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-engine-'));
  chmodSync(folder, 0o755);
  lane = join(folder, 'lanes', 'lane0');
  supervisors = [];
  generations = [];
});

afterEach(async () => {
  for (const generation of generations) generation.kill('SIGKILL');
  await Promise.all(supervisors.map((supervisor) => supervisor.stop()));
  await Promise.all(generations.map(({ exited }) => exited));
  rmSync(folder, { recursive: true });
});

/** A driver for a shell script in the engine's place: $1 is the FIFO, $2 and the following ones are the rule files. */
const driver: EngineDriver = {
  name: 'snort',
  prepare: (_install, { fifo, ruleFiles }) =>
    Promise.resolve({
      arguments: [fifo, ...ruleFiles],
      alertFile: 'alerts.txt',
      stamped: false,
      createDecoder: () => ({ push: () => [], end: () => [] }),
    }),
  reload: () => Promise.resolve(),
  validateArguments: (_install, { ruleFiles }) => Promise.resolve(['-T', ...ruleFiles]),
  ruleErrors: (log, limit) =>
    [...log.matchAll(/^ERROR: (\S+):(\d+) (.*)$/gm)]
      .slice(0, limit)
      .map(([, file = '', line, reason = '']) => ({ file, line: Number(line), reason })),
  analysedPackets: () => undefined,
};

let engines = 0;

function options(script: string, more: Partial<GenerationOptions> = {}): GenerationOptions {
  const binary = join(folder, `engine${engines++}`);
  writeFileSync(binary, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return {
    lane: 'lane0',
    laneDirectory: lane,
    driver,
    install: { name: 'snort', binary, version: '3.0', searchMethods: [] },
    sandbox: plain,
    engineRules: () => rulesOf(),
    output: 'json',
    mode: 'live',
    ...more,
  };
}

async function start(script: string, more: Partial<GenerationOptions> = {}): Promise<Generation> {
  const generation = await startGeneration(options(script, more));
  generations.push(generation);
  return generation;
}

interface Watched {
  supervisor: EngineSupervisor;
  started: Generation[];
  ended: { name: string; error: EngineError | undefined }[];
  log: Record<string, unknown>[];
}

function supervise(given: GenerationOptions, onStarted?: (generation: Generation) => void): Watched {
  const started: Generation[] = [];
  const ended: Watched['ended'] = [];
  const log: Record<string, unknown>[] = [];
  const logger = pino({}, { write: (line: string) => log.push(JSON.parse(line) as Record<string, unknown>) });
  const supervisor = superviseEngine(
    given,
    {
      started(generation) {
        started.push(generation);
        generations.push(generation);
        onStarted?.(generation);
      },
      ended: ({ name }, error) => ended.push({ name, error }),
    },
    logger,
  );
  supervisors.push(supervisor);
  return { supervisor, started, ended, log };
}

async function until<Value>(look: () => Value | undefined | false): Promise<Value> {
  for (;;) {
    const value = look();
    if (value !== undefined && value !== false) return value;
    await sleep(2);
  }
}

if (whyNoProc !== undefined) process.stderr.write(`skipped: ${whyNoProc}\n`);
const withProc = whyNoProc === undefined ? test : test.skip;

/** It sleeps in the kernel, and the script's only reason to is the FIFO that nobody has opened for writing. */
const isBlockedInOpen = (pid: number): boolean => /^State:\tS/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));

/** A staged file whose rules are the same lines of the operator's. */
const staged = (name: string, file: string, lines: number): StagedFile => ({
  name: `${name}.rules`,
  sets: ['custom'],
  text: 'alert\n'.repeat(lines),
  origins: Array.from({ length: lines }, (_, index) => ({
    line: index + 1,
    endLine: index + 1,
    file,
    fileLine: index + 1,
  })),
});

const rulesOf = (...files: StagedFile[]): EngineRules => ({ files, defaults: ['custom'], policies: [] });

const isReady = ({ outputDirectory }: Generation): boolean => existsSync(join(outputDirectory, 'ready'));

describe('superviseEngine', () => {
  test('an unexpected end is told with status, the engine’s reason and its output, and the next generation starts', async () => {
    const rules = '/etc/rules/my.rules';
    const { started, ended, supervisor } = supervise(
      options('echo "ERROR: $2:7 unknown keyword"; echo more >&2; exit 3', {
        engineRules: () => rulesOf(staged('a', rules, 7)),
      }),
    );
    const { name, error } = await until(() => ended[0]);
    expect(name).toBe(started[0]?.name);
    expect(error).toMatchObject({
      name: 'EngineError',
      message: `snort ended with status 3: ${rules}:7: unknown keyword`,
      exit: { code: 3, signal: null, output: expect.stringContaining('more\n') },
    });
    expect(error?.exit.output).toContain(`ERROR: ${rules}:7`);
    await until(() => started.length > 1);
    expect(started[1]?.name).not.toBe(name);
    expect(supervisor.restarts()).toBeGreaterThanOrEqual(1);
  });

  test('a signal is told as such', async () => {
    const { ended } = supervise(options('kill -SEGV $$'));
    const { error } = await until(() => ended[0]);
    expect(error?.message).toBe('snort was ended by SIGSEGV');
    expect(error?.exit).toMatchObject({ code: null, signal: 'SIGSEGV' });
  });

  test('an executable that is gone is told with the system’s reason', async () => {
    const given = options('');
    rmSync(given.install.binary);
    const { ended } = supervise(given);
    expect((await until(() => ended[0])).error?.exit.output).toContain('ENOENT');
  });

  test('the error has the first and the last 32 KiB of the output, and says how much is missing', async () => {
    const { ended } = supervise(
      options(`echo first; awk 'BEGIN { for (i = 0; i < 20000; i++) print "0123456789" }'; echo last; exit 1`),
    );
    const output = (await until(() => ended[0])).error?.exit.output ?? '';
    const total = 'first\n'.length + 20_000 * 11 + 'last\n'.length;
    expect(output).toMatch(/^first\n0123456789\n/);
    expect(output).toMatch(/\n0123456789\nlast\n$/);
    const [head = '', tail = ''] = output.split(/\n\[….*…\]\n/);
    expect([head.length, tail.length]).toEqual([32_768, 32_768]);
    expect(output).toContain(`[… ${total - 65_536} characters left out …]`);
  });

  test('the pauses between failures grow', async () => {
    const failing = { ...driver, prepare: () => Promise.reject(new Error('no snort.lua')) };
    const { log, started } = supervise(options('', { driver: failing }));
    await until(() => log.length >= 3);
    expect(log.slice(0, 3)).toMatchObject(
      [200, 400, 800].map((retryMillis) => ({
        retryMillis,
        msg: 'engine cannot be started',
        err: { message: 'no snort.lua' },
      })),
    );
    expect(started).toEqual([]);
    expect(readdirSync(lane)).toEqual([]);
  });

  test('stop ends it at once while it can’t start', async () => {
    const failing = { ...driver, prepare: () => Promise.reject(new Error('no snort.lua')) };
    const { log, supervisor } = supervise(options('', { driver: failing }));
    await until(() => log.length >= 2);
    await supervisor.stop();
    expect(log).toHaveLength(2);
  });

  withProc('stop lets an engine that waits for its input’s writer end by itself', async () => {
    const { started, ended, supervisor, log } = supervise(options(`echo > ready; ${READ_TO_END}; echo > done`));
    const generation = await until(() => started.find(isReady));
    expect(supervisor.pid()).toBe(generation.pid);
    await until(() => isBlockedInOpen(generation.pid));
    await supervisor.stop();
    expect(existsSync(join(generation.outputDirectory, 'done'))).toBe(true);
    expect(log).toEqual([]);
    expect(ended).toEqual([{ name: generation.name, error: undefined }]);
    expect(supervisor.pid()).toBeUndefined();
    await expect(generation.exited).resolves.toMatchObject({ code: 0, signal: null });
  });

  test('stop ends one that ignores the end of its input and SIGTERM, also one that was just being started', async () => {
    const deaf = `trap '' TERM; echo > ready; while :; do sleep 0.1; done`;
    const running = supervise(options(deaf));
    const generation = await until(() => running.started.find(isReady));

    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (release = resolve));
    const slow: EngineDriver = { ...driver, prepare: (...args) => gate.then(() => driver.prepare(...args)) };
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    // Up and deaf before the supervisor looks at it.
    const starting = supervise(options(deaf, { driver: slow }), (started) => {
      while (!isReady(started)) Atomics.wait(sleeper, 0, 0, 2);
    });

    const stopped = Promise.all([running.supervisor.stop(), starting.supervisor.stop()]);
    release();
    await stopped;
    expect(running.ended).toEqual([{ name: generation.name, error: undefined }]);
    expect(starting.ended).toMatchObject([{ error: undefined }]);
    for (const { started, log } of [running, starting]) {
      expect(log.map(({ signal }) => signal)).toEqual(['SIGTERM', 'SIGKILL']);
      await expect(started[0]?.exited).resolves.toMatchObject({ code: null, signal: 'SIGKILL' });
    }
  });

  test('replace ends it without an error, and the next one starts', async () => {
    const { started, ended, supervisor } = supervise(options(`echo > ready; ${READ_TO_END}`));
    const first = await until(() => started.find(isReady));
    await supervisor.replace();
    await until(() => started.length > 1);
    expect(ended).toEqual([{ name: first.name, error: undefined }]);
    expect(started[1]?.fifo).not.toBe(first.fifo);
    expect(supervisor.restarts()).toBe(1);
  });
});

describe('engineError', () => {
  const about: Pick<GenerationOptions, 'install' | 'driver' | 'engineRules'> = {
    driver,
    install: { name: 'suricata', binary: '/x', version: '7', searchMethods: [] },
    engineRules: () => rulesOf(staged('000-a', '/etc/rules/a b.rules', 9), staged('001-c', '/etc/rules/c.rules', 9)),
  };

  test('names three errors at most, by the rule files’ own names', () => {
    const lines = [1, 2, 3, 4].map((line) => `ERROR: /state/g/config/001-c.rules:${line} bad`);
    const { message } = engineError(about, { code: 1, signal: null, output: lines.join('\n') });
    expect(message).toBe(
      'suricata ended with status 1: /etc/rules/c.rules:1: bad; /etc/rules/c.rules:2: bad; /etc/rules/c.rules:3: bad',
    );
  });

  test('ends with the last lines of the output where the driver finds no error in it, and plainly where there is none', () => {
    const message = (output: string) => engineError(about, { code: null, signal: 'SIGABRT', output }).message;
    expect(message('a\nb\nc\nassertion failed\n')).toBe('suricata was ended by SIGABRT: b | c | assertion failed');
    expect(message('\n')).toBe('suricata was ended by SIGABRT');
  });
});

describe('unstage', () => {
  const file = (name: string, origins: StagedFile['origins']): StagedFile => ({ name, sets: [], text: '', origins });
  const rules = file('000-a.rules', [
    { line: 1, endLine: 1, file: '/r/$1 a.rules', fileLine: 10 },
    { line: 2, endLine: 4, file: '/r/b.rules', fileLine: 3 },
  ]);

  test.each([
    ['ERROR: /s/config/000-a.rules:1 bad', 'ERROR: /r/$1 a.rules:10 bad'],
    ['from file /s/config/000-a.rules at line 4', 'from file /r/b.rules at line 3'],
    ['"/s/config/000-a.rules:3"', '"/r/b.rules:3"'],
  ])('%s is %s', (said, expected) => expect(unstage(said, { files: [rules] })).toBe(expected));

  test.each(['/s/config/000-a.rules:5', '/s/config/000-a.rules', '/s/000-aXrules:1', '000-a.rules:1'])(
    'leaves %s as it is',
    (said) => expect(unstage(said, { files: [rules] })).toBe(said),
  );
});

test('what an engine says of files that rules name is of the operator’s, and of the rules that name them', () => {
  const data = [{ name: '0123-ua.lst', file: '/r/ua.lst', content: Buffer.alloc(0) }];
  const files = [
    {
      name: '000-a.rules',
      sets: [],
      text: 'alert (sid:1;)\nalert (load data/0123-ua.lst; sid:2;)\n',
      origins: [
        { line: 1, endLine: 1, file: '/r/a.rules', fileLine: 4 },
        { line: 2, endLine: 2, file: '/r/a.rules', fileLine: 7 },
      ],
    },
  ];
  const said = unstage("fopen '/tmp/x/config/data/0123-ua.lst', data/0123-ua.lst, /tmp/x/config/rules-0/overrides:3", {
    files,
    data,
  });
  expect(said).toBe("fopen '/r/ua.lst', /r/ua.lst, engine.extraConfig:3");
  const ruleErrors = (): RuleError[] => [{ reason: 'bad line in /r/ua.lst' }];
  const rules = { files, data, defaults: [], policies: [] };
  expect(verdictOf({ code: 1, signal: null, output: '' }, { ...driver, ruleErrors }, rules)).toEqual({
    is: 'refused',
    reason: 'bad line in /r/ua.lst',
    errors: [{ file: '/r/a.rules', line: 7, reason: 'bad line in /r/ua.lst' }],
  });
});

describe('a generation', () => {
  test('has a name of its own, and generation.json is there before the engine runs', async () => {
    const [first, second] = [await start(`cat ../generation.json > seen; ${READ_TO_END}`), await start(READ_TO_END)];
    expect(first.name).toMatch(/^lane0-\d{8}T\d{6}Z-[0-9a-f]{6}$/);
    expect(second.name).not.toBe(first.name);
    const record = {
      name: first.name,
      engine: 'snort',
      version: '3.0',
      alertFile: 'alerts.txt',
      stamped: false,
      output: 'json',
    };
    closeSync(openSync(first.fifo, 'w'));
    await first.exited;
    expect(JSON.parse(readFileSync(join(first.outputDirectory, 'seen'), 'utf8'))).toEqual(record);
  });

  withProc('notes its engine, for an agent that comes later', async () => {
    const { directory, pid } = await start(READ_TO_END);
    expect(readFileSync(join(directory, 'engine.pid'), 'latin1')).toBe(identityOf(pid));
  });

  test('reads what is written to its FIFO', async () => {
    const generation = await start(READ_TO_END);
    writeFileSync(generation.fifo, 'packets');
    await expect(generation.exited).resolves.toEqual({ code: 0, signal: null, output: '' });
    expect(readFileSync(join(generation.outputDirectory, 'read.txt'), 'utf8')).toBe('packets');
  });

  test('has its rules in files of its own', async () => {
    const generation = await start(READ_TO_END, {
      engineRules: () => rulesOf(staged('a', '/r/x', 1), staged('b', '/r/y', 2)),
    });
    const files = generation.command.arguments.slice(1);
    expect(files).toEqual(['a', 'b'].map((name) => join(generation.directory, 'config/rules-0', `${name}.rules`)));
    expect(files.map((path) => readFileSync(path, 'utf8'))).toEqual(['alert\n', 'alert\nalert\n']);
  });

  (isRoot ? test : test.skip)(
    'can be read by the engine’s user and written only in output/ and patterns/',
    async () => {
      const generation = await start(`cat "$2" > rules.txt; touch "$1"x "$2" ../state/x; ${READ_TO_END}`, {
        sandbox: asNobody,
        engineRules: () => rulesOf(staged('a', '/r/x', 1)),
      });
      const mode = (path: string): [string, number, number] => {
        const { mode: bits, uid, gid } = statSync(join(generation.directory, path));
        return [(bits & 0o777).toString(8), uid, gid];
      };
      expect(mode('.')).toEqual(['711', 0, 0]);
      expect(mode('packets.fifo')).toEqual(['640', 0, NOBODY]);
      expect(mode('config')).toEqual(['755', 0, 0]);
      expect(mode('config/rules-0/a.rules')).toEqual(['644', 0, 0]);
      for (const name of ['output', 'patterns']) expect(mode(name)).toEqual(['700', NOBODY, NOBODY]);
      expect(mode('state')).toEqual(['700', 0, 0]);
      writeFileSync(generation.fifo, 'packets');
      await generation.exited;
      const read = (name: string) => readFileSync(join(generation.outputDirectory, name), 'utf8');
      expect([read('rules.txt'), read('read.txt')]).toEqual(['alert\n', 'packets']);
      expect(readdirSync(generation.directory).toSorted()).toEqual([
        'config',
        'engine.pid',
        'generation.json',
        'output',
        'packets.fifo',
        'patterns',
        'state',
      ]);
    },
  );

  (isRoot ? test : test.skip)('says which folder the engine’s user can’t pass, and leaves nothing behind', async () => {
    mkdirSync(lane, { recursive: true });
    chmodSync(join(folder, 'lanes'), 0o700);
    const refused = startGeneration(options(READ_TO_END, { sandbox: asNobody }));
    await expect(refused).rejects.toThrow(
      `the engine's user (uid ${NOBODY}) cannot pass through ${join(folder, 'lanes')}: run  chmod o+x ${join(folder, 'lanes')} `,
    );
    expect(readdirSync(lane)).toEqual([]);
    chmodSync(join(folder, 'lanes'), 0o701);
    await start(READ_TO_END, { sandbox: asNobody });
  });

  test('is told by a signal to go on in a new alert file where it does not rotate it itself', async () => {
    const script =
      "exec 3>>alerts.txt; trap 'echo after >&3; exec 3>>alerts.txt; echo new >&3' HUP; echo large >&3; while :; do sleep 0.1; done";
    const rotating: EngineDriver = {
      ...driver,
      prepare: async (install, input) => ({
        ...(await driver.prepare(install, input)),
        rotation: { bytes: 5, reopen: 'SIGHUP' },
      }),
    };
    const { outputDirectory } = await start(script, { driver: rotating });
    const read = (name: string): string => readFileSync(join(outputDirectory, name), 'utf8');
    await poll(
      () => existsSync(join(outputDirectory, 'alerts.txt.1')) && existsSync(join(outputDirectory, 'alerts.txt')),
    );
    await poll(() => read('alerts.txt') === 'new\n');
    expect(read('alerts.txt.1')).toBe('large\nafter\n');
  });

  test('that can’t be made leaves nothing behind', async () => {
    const nowhere = { ...staged('a', '/r/x', 1), name: 'missing/a.rules' };
    await expect(startGeneration(options('', { engineRules: () => rulesOf(nowhere) }))).rejects.toThrow(/ENOENT/);
    await expect(
      startGeneration(options('', { driver: { ...driver, prepare: () => Promise.reject(new Error('no')) } })),
    ).rejects.toThrow('no');
    expect(readdirSync(lane)).toEqual([]);
  });
});

describe('validateRules', () => {
  test('runs the engine with what it needs to check the rules, gives its output with their names, and cleans up', async () => {
    const rules = '/etc/rules/my.rules';
    const {
      lane: _lane,
      mode: _mode,
      ...given
    } = options('echo "$1: ERROR: $2:7 bad"; exit 1', { engineRules: () => rulesOf(staged('a', rules, 7)) });
    await expect(validateRules(given)).resolves.toEqual({
      code: 1,
      signal: null,
      output: `-T: ERROR: ${rules}:7 bad\n`,
    });
    expect(readdirSync(lane)).toEqual([]);
  });

  test('tells an engine that can’t be run', async () => {
    const { lane: _lane, mode: _mode, ...given } = options('');
    rmSync(given.install.binary);
    await expect(validateRules(given)).resolves.toMatchObject({
      code: null,
      output: expect.stringContaining('ENOENT'),
    });
    expect(readdirSync(lane)).toEqual([]);
  });
});

describe('judgeRules', () => {
  test.each([
    ['accepts them where the engine does', 'exit 0', { is: 'accepted', skipped: [] }],
    [
      'says what is wrong with which rule',
      'echo "ERROR: /r/x:7 bad"; exit 1',
      { is: 'refused', reason: 'bad', errors: [{ file: '/r/x', line: 7, reason: 'bad' }] },
    ],
    [
      'gives the last line where no rule is named',
      'echo "first"; echo "no memory"; exit 3',
      { is: 'refused', reason: 'snort ended with 3: no memory', errors: [] },
    ],
  ])('%s', async (_, script, verdict) => {
    const { lane: _lane, mode: _mode, ...given } = options(script);
    await expect(judgeRules(given)).resolves.toEqual(verdict);
  });

  test('tells an engine that can’t be started', async () => {
    const { lane: _lane, mode: _mode, ...given } = options('');
    const broken = { ...driver, validateArguments: () => Promise.reject(new Error('no')) };
    await expect(judgeRules({ ...given, driver: broken })).rejects.toThrow('snort cannot be started: no');
  });
});

describe('verdictOf', () => {
  test('makes the reasons of one rule one, without those that only follow from its own', () => {
    const at = { file: 'a', line: 1 };
    const ruleErrors = (): RuleError[] => [
      { ...at, reason: 'unknown x' },
      { ...at, reason: 'syntax error', follows: true },
      { ...at, reason: 'unknown y' },
      { file: 'a', line: 2, reason: 'lost', follows: true },
      { reason: 'of no rule' },
    ];
    expect(
      verdictOf(
        { code: 1, signal: null, output: '' },
        { ...driver, ruleErrors },
        { files: [], defaults: [], policies: [] },
      ),
    ).toEqual({
      is: 'refused',
      reason: 'unknown x',
      errors: [
        { ...at, reason: 'unknown x; unknown y' },
        { file: 'a', line: 2, reason: 'lost', follows: true },
      ],
    });
  });
});
