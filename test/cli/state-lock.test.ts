/** What an agent says that waits for the disk of its state. */
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { loadConfig } from '../../agent/config/load.ts';
import { poll } from '../support/poll.ts';

/** Why the lock can't be taken; undefined: it can. */
let problem: Error | undefined;
jest.unstable_mockModule('../../agent/files/lock.ts', () => ({
  LockedError: class extends Error {},
  takeLock() {
    if (problem !== undefined) throw problem;
    return () => undefined;
  },
}));
const { lockState } = await import('../../agent/cli/state-lock.ts');

const loaded = loadConfig({ env: {}, flags: {} });
if ('errors' in loaded) throw new Error('the defaults are no configuration');
const { config } = loaded;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-state-lock-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const failure = (code: string, message: string): Error => Object.assign(new Error(`${code}: ${message}`), { code });

test('who may not write the folder is told what to do', async () => {
  problem = failure('EACCES', 'permission denied');
  const silent = pino({ level: 'silent' });
  const elsewhere = 'set stateDirectory and journal.directory to folders that this user may write (EACCES)';
  const asUser = jest.spyOn(process as { getuid(): number }, 'getuid');
  for (const [uid, advice] of [
    [65_534, `run as root, or ${elsewhere}`],
    [0, elsewhere],
  ] as const) {
    asUser.mockReturnValue(uid);
    await expect(lockState({ ...config, stateDirectory: folder }, silent)).rejects.toThrow(
      `may not write ${folder} (stateDirectory): ${advice}`,
    );
  }
  asUser.mockRestore();
});

test('probes are answered while the disk is full, and their port is free once it is not', async () => {
  problem = failure('ENOSPC', 'no space left on device');
  const port = await freePort();
  const http = { ...config.http, port, address: '127.0.0.1' };
  const locked = lockState({ ...config, stateDirectory: folder, http }, pino({ level: 'silent' }));
  const ask = (path: string): Promise<Response | undefined> =>
    fetch(`http://127.0.0.1:${port}${path}`).catch(() => undefined);

  await poll(async () => (await ask('/health'))?.status === 200);
  const readiness = await ask('/readiness');
  expect(readiness?.status).toBe(503);
  expect(await readiness?.json()).toMatchObject({
    ready: false,
    components: [{ reason: 'stateDirectory cannot be locked: ENOSPC: no space left on device' }],
  });

  problem = undefined;
  const unlock = await locked;
  unlock();
  expect(await ask('/health')).toBeUndefined();
});
