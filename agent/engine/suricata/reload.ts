/**
 * Suricata's command socket, for what can change while it runs: the rules of all, and tenants, which are rules for some VLAN ids.
 *
 * Protocol: JSON objects, one a line; the first one says `version`, and each is answered with `return: OK` or `NOK` and a message.
 * https://docs.suricata.io/en/suricata-7.0.10/unix-socket.html
 *
 * Each command ends when all threads that inspect use what is new, so packets must come meanwhile.
 */
import { connect, type Socket } from 'node:net';
import type { PolicyInput } from '../engine.ts';

/** A ruleset of any size is loaded in less. */
const ANSWER_MILLIS = 300_000;
/** The engine may write anything. */
const MAX_ANSWER_BYTES = 1 << 20;

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
  const { command, close } = await open(socket);
  try {
    await command('reload-rules');
    await reloadTenants(command, before, next, tenantFile);
  } finally {
    close();
  }
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

async function open(path: string): Promise<{ command: Command; close: () => void }> {
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

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
