/**
 * Suricata's command socket, for what can change while it runs: the rules of all, and tenants, which are rules for some
 * VLAN ids.
 *
 * Protocol: JSON objects, one a line; the first one says `version`, and each is answered with `return: OK` or `NOK` and
 * a message. https://docs.suricata.io/en/suricata-7.0.10/unix-socket.html
 *
 * Each command ends when all threads that inspect use what is new, so packets must come meanwhile.
 *
 * The socket's folder is the engine's, which may be hostile, and the agent may be root: it connects to a socket of the
 * engine's own only, never through a link.
 */
import { constants } from 'node:fs';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from '../../files/errors.ts';
import { isRecord } from '../../files/record.ts';
import type { PolicyInput } from '../engine.ts';

/** How long it is waited for, and between two looks. */
const APPEARS_MILLIS = 10_000;
const LOOK_MILLIS = 50;
/** A ruleset of any size is loaded in less. */
const ANSWER_MILLIS = 300_000;
/** The engine may write anything. */
const MAX_ANSWER_BYTES = 1 << 20;
/** Of open(2): the file itself, to look at and to connect to, and not its content; Node has no name for it. */
const O_PATH = 0o10_000_000;

type Command = (name: string, args?: Record<string, unknown>) => Promise<void>;

/**
 * Goes from one state of rules and tenants to another; files are already those of `next`.
 * @throws Error with what Suricata says.
 */
export async function reloadSuricata(
  socket: string | undefined,
  before: readonly PolicyInput[],
  next: readonly PolicyInput[],
  tenantFile: (id: number) => string,
): Promise<void> {
  if (socket === undefined) throw new Error('stateDirectory is too long a path for a command socket');
  const file = await openOnceThere(socket);
  try {
    await checkOwn(file, socket);
    // What was looked at, whatever has its name by now.
    const { command, close } = await connectTo(`/proc/self/fd/${file.fd}`);
    try {
      await command('reload-rules');
      await reloadTenants(command, before, next, tenantFile);
    } finally {
      close();
    }
  } finally {
    await file.close();
  }
}

/** Suricata makes it some time after it has begun to read packets. */
async function openOnceThere(path: string): Promise<FileHandle> {
  for (const deadline = performance.now() + APPEARS_MILLIS; ; await sleep(LOOK_MILLIS)) {
    try {
      return await open(path, O_PATH | constants.O_NOFOLLOW);
    } catch (error) {
      if (errorCode(error) === 'ENOENT' && performance.now() < deadline) continue;
      throw new Error(`Suricata's command socket: ${String(error)}`, { cause: error });
    }
  }
}

/** @throws Error where it is no socket of the folder's owner, who is the engine's user. */
async function checkOwn(file: FileHandle, path: string): Promise<void> {
  const [found, { uid }] = await Promise.all([file.stat(), stat(dirname(path))]);
  const problem = found.isSocket()
    ? `belongs to uid ${found.uid}, and not to the engine's user (uid ${uid})`
    : 'is no socket';
  if (!found.isSocket() || found.uid !== uid) throw new Error(`Suricata's command socket: ${path} ${problem}`);
}

async function reloadTenants(
  command: Command,
  before: readonly PolicyInput[],
  next: readonly PolicyInput[],
  tenantFile: (id: number) => string,
): Promise<void> {
  const had = new Set(before.map(({ id }) => id));
  for (const { id } of next)
    await command(had.has(id) ? 'reload-tenant' : 'register-tenant', { id, filename: tenantFile(id) });
  const mappings = (policies: readonly PolicyInput[]): Map<number, number> =>
    new Map(policies.flatMap(({ id, vlans }) => vlans.map((vlan) => [vlan, id] as const)));
  const [old, wanted] = [mappings(before), mappings(next)];
  const handler = (vlan: number, id: number): Record<string, unknown> => ({ id, htype: 'vlan', hargs: vlan });
  for (const [vlan, id] of old)
    if (wanted.get(vlan) !== id) await command('unregister-tenant-handler', handler(vlan, id));
  for (const [vlan, id] of wanted)
    if (old.get(vlan) !== id) await command('register-tenant-handler', handler(vlan, id));
  const kept = new Set(next.map(({ id }) => id));
  for (const id of had) if (!kept.has(id)) await command('unregister-tenant', { id });
}

async function connectTo(path: string): Promise<{ command: Command; close: () => void }> {
  const socket = connect(path);
  let received = '';
  let waiting: { resolve: (answer: unknown) => void; reject: (error: Error) => void } | undefined;
  const fail = (error: Error): void => {
    waiting?.reject(error);
    socket.destroy();
  };
  socket.setEncoding('utf8');
  socket.on('error', (error) => fail(new Error(`Suricata's command socket: ${error.message}`)));
  socket.on('close', () => fail(new Error('Suricata closed its command socket')));
  socket.on('data', (text: string) => {
    received += text;
    if (received.length > MAX_ANSWER_BYTES) return fail(new Error('Suricata answers without end'));
    const answer = parse(received);
    if (answer === undefined) return;
    received = '';
    waiting?.resolve(answer);
  });
  await ask('version', { version: '0.2' });

  async function ask(name: string, request: Record<string, unknown>): Promise<void> {
    const timer = setTimeout(() => fail(new Error(`Suricata does not answer ${name}`)), ANSWER_MILLIS);
    try {
      const answer = await new Promise<unknown>((resolve, reject) => {
        waiting = { resolve, reject };
        socket.write(`${JSON.stringify(request)}\n`);
      });
      if (!isRecord(answer) || answer['return'] !== 'OK') {
        const message = isRecord(answer) ? String(answer['message']) : '';
        throw new Error(`Suricata refuses ${name}: ${message.slice(0, 200)}`);
      }
    } finally {
      waiting = undefined;
      clearTimeout(timer);
    }
  }

  return {
    command: (name, args) => ask(name, { command: name, ...(args === undefined ? {} : { arguments: args }) }),
    close: () => void (socket satisfies Socket).destroy(),
  };
}

/** Undefined while it is not complete. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
