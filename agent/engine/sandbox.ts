/**
 * Starts a child with as few rights as this machine lets us give it: its own uid without groups and capabilities, and a
 * network namespace of its own with nothing in it. The engine parses hostile bytes; a hole in it shall not be a hole in
 * the node.
 */
import { execFile, execFileSync, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { messageOf } from '../files/errors.ts';
import { loadNative } from '../native.ts';

const run = promisify(execFile);

/** An unprivileged user that every Linux has. */
const NOBODY = 65_534;

export interface Sandbox {
  /** Who the child runs as; undefined: as the agent itself, which is not root. */
  uid: number | undefined;
  gid: number | undefined;
  isolateNetwork: boolean;
  /** How setpriv empties the child's capability sets; undefined: it can't, and only uid and gid change. */
  setpriv: string[] | undefined;
  /** What could not be had, for the log. */
  missing: string[];
  /**
   * A session of its own keeps the signals of the agent's terminal from the child: it ends when its input ends or the
   * agent ends it. `shared` is for a child that nobody else would end after a Ctrl-C.
   */
  session?: 'own' | 'shared';
}

/**
 * @param user `auto` (nobody, when the agent is root), a user's name, or a uid.
 * @throws Error when the named user does not exist, or the agent isn't root and so can't change to it.
 */
export async function planSandbox(user: string, isolateNetwork: boolean): Promise<Sandbox> {
  const missing: string[] = [];
  const isRoot = process.getuid?.() === 0;
  let uid: number | undefined;
  let gid: number | undefined;
  if (user !== 'auto' && !isRoot) {
    throw new Error(`engine.user: only root can start the engine as ${user}; run the agent as root or leave it out`);
  }
  if (!isRoot) {
    missing.push('an own user (the agent is not root)');
  } else if (user === 'auto') {
    uid = gid = NOBODY;
  } else {
    uid = await idOf(user, '-u');
    gid = await idOf(user, '-g');
  }
  const setpriv = isRoot ? await privileges(uid, gid) : undefined;
  if (isRoot && setpriv === undefined)
    missing.push('an emptied capability set (setpriv of util-linux does not work here)');
  const whyNoNamespace = isolateNetwork ? await whyNotIsolated(isRoot, setpriv) : undefined;
  if (whyNoNamespace !== undefined) missing.push(`a network namespace of its own (${whyNoNamespace})`);
  return { uid, gid, isolateNetwork: isolateNetwork && whyNoNamespace === undefined, setpriv, missing };
}

async function whyNotIsolated(isRoot: boolean, setpriv: string[] | undefined): Promise<string | undefined> {
  if (!isRoot) return 'the agent is not root';
  if (setpriv === undefined) return 'setpriv does not work here';
  return whyFails('unshare', ['--net', '--', 'true']);
}

/**
 * Starts `binary`; the child keeps the returned pid, whatever wraps it. Its environment is small and fixed, its session
 * its own unless the sandbox says otherwise.
 * @param addressSpace Bytes that it may map at most, where setpriv works (prlimit is of util-linux too).
 */
export function spawnSandboxed(
  sandbox: Sandbox,
  binary: string,
  args: string[],
  cwd: string,
  addressSpace?: number,
): ChildProcess {
  const stdio: ['ignore', 'pipe', 'pipe'] = ['ignore', 'pipe', 'pipe'];
  const env = { PATH: process.env['PATH'] ?? '', LANG: 'C.UTF-8', TZ: 'UTC', ...libraryPath() };
  // The kernel sends Ctrl-C to the terminal's whole process group, in its session only: setsid(2).
  const common = { stdio, env, cwd, detached: sandbox.session !== 'shared' };
  if (sandbox.uid === undefined) return spawnWithSlack(binary, args, common);
  if (sandbox.setpriv === undefined) {
    return spawnWithSlack(binary, args, {
      ...common,
      uid: sandbox.uid,
      ...(sandbox.gid === undefined ? {} : { gid: sandbox.gid }),
    });
  }
  const command = ['setpriv', ...sandbox.setpriv, binary, ...args];
  if (sandbox.isolateNetwork) command.unshift('unshare', '--net', '--');
  if (addressSpace !== undefined) command.unshift('prlimit', `--as=${addressSpace}`, '--');
  const [program, ...rest] = command;
  return spawnWithSlack(program ?? binary, rest, common);
}

/** Whether this process has a capability in effect, by its number in capabilities(7). */
export function hasCapability(bit: number): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> BigInt(bit)) & 1n) === 1n;
}

/** Readable by the engine's group only, writable by the agent only. */
export function makeFifo(path: string): void {
  const { native } = loadNative();
  if (native !== undefined) native.makeFifo(path, 0o640);
  else execFileSync('mkfifo', ['-m', '0640', path]);
}

/**
 * An engine that reads a file asks for the time instead of waiting: Suricata's flow managers wake up 4,000 times a
 * second (https://redmine.openinfosecfoundation.org/issues/4421, mended for live capture only). Where timers may be
 * late, it wakes up a twentieth as often (docs/performance.md).
 */
const TIMER_SLACK_NANOSECONDS = 10_000_000;

function spawnWithSlack(program: string, args: string[], options: SpawnOptions): ChildProcess {
  const { native } = loadNative();
  if (native === undefined) return spawn(program, args, options);
  // A child has that of the thread that starts it.
  const before = native.timerSlack(TIMER_SLACK_NANOSECONDS);
  try {
    return spawn(program, args, options);
  } finally {
    native.timerSlack(before);
  }
}

/** setpriv's arguments, the strictest that work here; the bounding set can be emptied with CAP_SETPCAP only. */
async function privileges(uid: number | undefined, gid: number | undefined): Promise<string[] | undefined> {
  const base = [
    ...(uid === undefined ? [] : [`--reuid=${uid}`]),
    ...(gid === undefined ? [] : [`--regid=${gid}`, '--clear-groups']),
    '--no-new-privs',
    '--inh-caps=-all',
    '--ambient-caps=-all',
  ];
  for (const list of [[...base, '--bounding-set=-all'], base])
    if ((await whyFails('setpriv', [...list, 'true'])) === undefined) return list;
  return undefined;
}

function libraryPath(): Record<string, string> {
  const path = process.env['LD_LIBRARY_PATH'];
  return path === undefined ? {} : { LD_LIBRARY_PATH: path };
}

async function idOf(user: string, flag: '-u' | '-g'): Promise<number> {
  try {
    const { stdout } = await run('id', [flag, '--', user]);
    return Number(stdout.trim());
  } catch {
    if (/^\d+$/.test(user)) return Number(user);
    throw new Error(`engine.user: there is no user ${user} on this machine`);
  }
}

/** @returns undefined where it works. */
async function whyFails(program: string, args: string[]): Promise<string | undefined> {
  try {
    await run(program, args, { timeout: 5_000 });
    return undefined;
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    return stderr?.trim().split('\n')[0] || messageOf(error);
  }
}
