/** Suricata's command socket, with a server in Suricata's place; test/rulesets/swap.engine.test.ts has the real one. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { chownSync, linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reloadSuricata } from '../../agent/engine/suricata/reload.ts';

const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;

let folder: string;
let output: string;
let socket: string;
const servers: Server[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-reload-'));
  output = join(folder, 'output');
  mkdirSync(output);
  socket = join(output, 'command.socket');
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true });
});

/** Answers every command. @returns what it was told, a command each; the first is the version. */
async function serve(path: string): Promise<string[]> {
  const told: string[] = [];
  const server = createServer((connection) => {
    createInterface({ input: connection }).on('line', (line) => {
      told.push((JSON.parse(line) as { command?: string }).command ?? 'version');
      connection.write('{"return":"OK"}\n');
    });
  }).listen(path);
  servers.push(server);
  await once(server, 'listening');
  return told;
}

const reload = (): Promise<void> => reloadSuricata(socket, [], [{ id: 2, vlans: [7], ruleFiles: [] }], String);

test('rules and tenants are told to the socket of the engine', async () => {
  const told = await serve(socket);
  await reload();
  expect(told).toEqual(['version', 'reload-rules', 'register-tenant', 'register-tenant-handler']);
});

test('a socket that Suricata has not made yet is waited for', async () => {
  const reloading = reload();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const told = await serve(socket);
  await reloading;
  expect(told).toContain('reload-rules');
});

describe('the agent connects to nothing else', () => {
  test('a link to another socket', async () => {
    const elsewhere = join(folder, 'other.socket');
    const told = await serve(elsewhere);
    symlinkSync(elsewhere, socket);
    await expect(reload()).rejects.toThrow(`${socket} is no socket`);
    expect(told).toEqual([]);
  });

  test('a file', async () => {
    writeFileSync(socket, '');
    await expect(reload()).rejects.toThrow(`${socket} is no socket`);
  });

  (isRoot ? test : test.skip)("another user's socket under the engine's name", async () => {
    chownSync(output, NOBODY, NOBODY);
    const elsewhere = join(folder, 'other.socket');
    const told = await serve(elsewhere);
    linkSync(elsewhere, socket);
    await expect(reload()).rejects.toThrow(/belongs to uid 0, and not to the engine's user \(uid 65534\)/);
    expect(told).toEqual([]);
  });
});
