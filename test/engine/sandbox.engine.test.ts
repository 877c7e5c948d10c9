import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCapability, makeFifo, planSandbox, spawnSandboxed, type Sandbox } from '../../agent/engine/sandbox.ts';
import { loadNative } from '../../agent/native.ts';
import { PROJECT } from '../support/project.ts';

const NOBODY = 65_534;
const CAP_SYS_ADMIN = 21;
const isRoot = process.getuid?.() === 0;

const why = ((): string | undefined => {
  if (!isRoot) return 'only root can start a process as somebody else';
  try {
    execFileSync('unshare', ['--net', '--', 'setpriv', '--reuid=65534', 'true'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'setpriv or unshare do not work here';
  }
})();
if (why !== undefined) process.stderr.write(`skipped: ${why}\n`);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-sandbox-'));
  chmodSync(folder, 0o755);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function run(
  sandbox: Sandbox,
  binary: string,
  ...args: string[]
): Promise<{ pid: number | undefined; stdout: string; code: number | null }> {
  const child = spawnSandboxed(sandbox, binary, args, folder);
  let stdout = '';
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  const code = await new Promise<number | null>((resolve, reject) =>
    child.once('close', resolve).once('error', reject),
  );
  return { pid: child.pid, stdout, code };
}

const field = (status: string, name: string): string[] =>
  (new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '?').split(/\s+/).filter(Boolean);

(why === undefined ? describe : describe.skip)('a child of root', () => {
  test('is nobody, without groups, capabilities and the way to new privileges', async () => {
    const sandbox = await planSandbox('auto', true);
    expect(sandbox).toMatchObject({ uid: NOBODY, gid: NOBODY, isolateNetwork: true, missing: [] });
    const groups = process.getgroups?.() ?? [];
    let status: Promise<{ stdout: string }>;
    try {
      process.setgroups?.([4, 5]);
      status = run(sandbox, '/bin/cat', '/proc/self/status');
    } finally {
      process.setgroups?.(groups);
    }
    const { stdout } = await status;
    const id = String(NOBODY);
    expect(field(stdout, 'Uid')).toEqual([id, id, id, id]);
    expect(field(stdout, 'Gid')).toEqual([id, id, id, id]);
    expect(field(stdout, 'Groups')).toEqual([]);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      expect([set, ...field(stdout, set)]).toEqual([set, '0000000000000000']);
    expect(field(stdout, 'NoNewPrivs')).toEqual(['1']);
  });

  test('has a network namespace of its own with nothing but a loopback interface', async () => {
    const { stdout } = await run(await planSandbox('auto', true), '/bin/cat', '/proc/self/net/dev');
    expect([...stdout.matchAll(/^ *(\S+): /gm)].map(([, name]) => name)).toEqual(['lo']);
  });

  test('keeps the agent’s network where that is wanted', async () => {
    const sandbox = await planSandbox('auto', false);
    expect(sandbox).toMatchObject({ isolateNetwork: false, missing: [] });
    const { stdout } = await run(sandbox, '/bin/readlink', '/proc/self/ns/net');
    expect(stdout).toBe(execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' }));
  });

  test('has the pid that the agent knows, its folder, and an environment of fixed names', async () => {
    const script = 'echo $$; pwd; env | cut -d= -f1';
    const { stdout, pid } = await run(await planSandbox('auto', true), '/bin/sh', '-c', script);
    const [own, cwd, ...names] = stdout.trimEnd().split('\n');
    expect([own, cwd]).toEqual([String(pid), folder]);
    const allowed = ['LANG', 'LD_LIBRARY_PATH', 'PATH', 'PWD', 'TZ', '_', 'SHLVL', 'OLDPWD'];
    expect(names.filter((name) => !allowed.includes(name))).toEqual([]);
    // What it would have inherited.
    expect(process.env['NODE_ENV']).toBe('test');
  });

  test('can’t write what is root’s', async () => {
    const { code } = await run(await planSandbox('auto', true), '/bin/sh', '-c', ': > mine');
    expect(code).not.toBe(0);
  });

  test('runs as the user that is named, or as a uid', async () => {
    expect(await planSandbox('nobody', false)).toMatchObject({ uid: Number(execFileSync('id', ['-u', 'nobody'])) });
    expect(await planSandbox('54321', false)).toMatchObject({ uid: 54_321, gid: 54_321 });
    const { stdout } = await run(await planSandbox('54321', false), '/bin/cat', '/proc/self/status');
    expect(field(stdout, 'Uid')[0]).toBe('54321');
    await expect(planSandbox('no-such-user', false)).rejects.toThrow(
      'engine.user: there is no user no-such-user on this machine',
    );
  });

  test('lacks a network namespace for the reason that is so, and not for want of a right', () => {
    const sandbox = join(PROJECT, 'agent/engine/sandbox.ts');
    const script = `const { planSandbox } = await import('${sandbox}');
      process.stdout.write(JSON.stringify((await planSandbox('auto', true)).missing));`;
    const loader = join(PROJECT, 'test/journal/fixtures/typescript.mjs');
    const args = ['--import', loader, '--input-type=module', '--eval', script];
    // Neither setpriv nor unshare is found.
    const missing = execFileSync(process.execPath, args, { env: { PATH: folder }, encoding: 'utf8' });
    expect(JSON.parse(missing)).toEqual([
      'an emptied capability set (setpriv of util-linux does not work here)',
      'a network namespace of its own (setpriv does not work here)',
    ]);
  });

  test('is another user without capabilities also where setpriv does not work', async () => {
    const missing = ['an emptied capability set (setpriv of util-linux does not work here)'];
    const { stdout } = await run(
      { uid: NOBODY, gid: NOBODY, isolateNetwork: false, setpriv: undefined, missing },
      '/bin/cat',
      '/proc/self/status',
    );
    expect([field(stdout, 'Uid')[0], field(stdout, 'Gid')[0]]).toEqual([String(NOBODY), String(NOBODY)]);
    expect(field(stdout, 'Groups')).toEqual([]);
    expect(field(stdout, 'CapEff')).toEqual(['0000000000000000']);
  });
});

const { native } = loadNative();
if (native === undefined) process.stderr.write('skipped: without the native part an engine has no timer slack\n');

(native === undefined ? describe.skip : describe)('the timers of a child', () => {
  const slack = '/proc/self/timerslack_ns';

  test.each([
    ['as the agent itself', undefined],
    ['as somebody else', NOBODY],
  ])('%s may be 10 ms late, and those of the agent no later than before', async (_, uid) => {
    if (uid !== undefined && !isRoot) return;
    const before = readFileSync(slack, 'latin1');
    const sandbox = { uid, gid: uid, isolateNetwork: false, setpriv: undefined, missing: [] };
    expect((await run(sandbox, '/bin/cat', slack)).stdout).toBe('10000000\n');
    await expect(run(sandbox, join(folder, 'missing'))).rejects.toThrow('ENOENT');
    expect(readFileSync(slack, 'latin1')).toBe(before);
    expect(before).not.toBe('10000000\n');
  });

  (why === undefined ? test : test.skip)('may be so in the whole sandbox', async () => {
    expect((await run(await planSandbox('auto', true), '/bin/cat', slack)).stdout).toBe('10000000\n');
  });
});

describe('the session of a child', () => {
  /** proc(5): the sixth field; the name of the command has no space here. */
  const sessionOf = (stat: string): string | undefined => stat.split(' ')[5];
  const sandboxes: [string, Sandbox][] = [
    ['as the agent itself', { uid: undefined, gid: undefined, isolateNetwork: false, setpriv: undefined, missing: [] }],
    ['as somebody else', { uid: NOBODY, gid: NOBODY, isolateNetwork: false, setpriv: undefined, missing: [] }],
  ];

  test.each(isRoot ? sandboxes : sandboxes.slice(0, 1))(
    '%s is its own, or the agent’s where asked',
    async (_, sandbox) => {
      const own = await run(sandbox, '/bin/cat', '/proc/self/stat');
      expect(sessionOf(own.stdout)).toBe(String(own.pid));
      const shared = await run({ ...sandbox, session: 'shared' }, '/bin/cat', '/proc/self/stat');
      expect(sessionOf(shared.stdout)).toBe(sessionOf(readFileSync('/proc/self/stat', 'latin1')));
    },
  );

  (why === undefined ? test : test.skip)('is its own in the whole sandbox', async () => {
    const { stdout, pid } = await run(await planSandbox('auto', true), '/bin/cat', '/proc/self/stat');
    expect(sessionOf(stdout)).toBe(String(pid));
  });
});

test('an executable that is not there is an error', async () => {
  const sandbox: Sandbox = { uid: undefined, gid: undefined, isolateNetwork: false, setpriv: undefined, missing: [] };
  const child = spawnSandboxed(sandbox, join(folder, 'missing'), [], folder);
  await expect(new Promise((_, reject) => child.once('error', reject))).rejects.toMatchObject({ code: 'ENOENT' });
});

test('makeFifo makes a FIFO for its owner and group, whatever the umask', () => {
  const path = join(folder, 'a.fifo');
  const umask = process.umask(0o077);
  try {
    makeFifo(path);
  } finally {
    process.umask(umask);
  }
  expect(statSync(path).isFIFO()).toBe(true);
  expect(statSync(path).mode & 0o777).toBe(0o640);
  expect(() => makeFifo(path)).toThrow();
});

test('hasCapability reads what the kernel says', () => {
  const effective = field(readFileSync('/proc/self/status', 'latin1'), 'CapEff')[0] ?? '0';
  expect(hasCapability(CAP_SYS_ADMIN)).toBe(((Number.parseInt(effective, 16) / 2 ** CAP_SYS_ADMIN) & 1) === 1);
  expect(hasCapability(63)).toBe(false);
});
