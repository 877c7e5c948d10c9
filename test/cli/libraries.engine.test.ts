/** What captures packets where native parts can't be loaded: an installation whose files a test damages. */
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Finding } from '../../agent/cli/finding.ts';
import type { Snapshot } from '../../agent/observe/snapshot.ts';
import { openLab, type Lab } from '../../scripts/lab.ts';
import { createWorkspace, type LogLine, type Workspace } from '../support/agent.ts';
import { describeLive } from '../support/live.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';

const ADDON = 'dist/native/capture.node';
const NODE_PCAP = 'node_modules/pcap/build/Release/pcap_binding.node';
const BACKOFFS = 3;

/** Less than the parts of it that are loaded: where the rest should be, there is no page. */
const TRUNCATED_BYTES = 0x4000;
/** One that was built before there were more calls. */
const OLD_SOURCE = `
#include <node_api.h>
static napi_value nothing(napi_env env, napi_callback_info info) { return NULL; }
NAPI_MODULE_INIT() {
  napi_value call;
  napi_create_function(env, "open", NAPI_AUTO_LENGTH, nothing, NULL, &call);
  napi_set_named_property(env, exports, "open", call);
  return exports;
}`;

describeLive((engine) => {
  let lab: Lab;
  let workspace: Workspace;
  let program: string;
  let agent: ChildProcess | undefined;

  beforeAll(() => {
    lab = openLab(`dpi-l-${engine}`);
    workspace = createWorkspace();
    program = install(join(workspace.directory, 'installation'));
  });
  afterEach(async () => {
    if (agent?.exitCode !== null) return;
    const exited = new Promise((resolve) => agent?.once('exit', resolve));
    agent.kill('SIGTERM');
    await exited;
  });
  afterAll(() => {
    workspace.remove();
    lab.close();
  });

  const flags = (): string[] => [
    '-e',
    engine,
    '-i',
    'lo',
    '--stateDirectory',
    join(workspace.directory, 'state'),
    '--journal.directory',
    workspace.journal,
    '--http.port',
    '0',
  ];
  const damage = (...paths: string[]): void => {
    for (const path of [ADDON, NODE_PCAP]) {
      const file = join(program, path);
      if (paths.includes(path)) writeFileSync(file, 'not a library\n'.repeat(100));
      else cpSync(join(PROJECT, path), file, { force: true });
    }
  };

  const truncate = (path: string): void => {
    damage();
    truncateSync(join(program, path), TRUNCATED_BYTES);
  };
  const buildOld = (): void => {
    damage();
    const source = join(workspace.directory, 'old.c');
    writeFileSync(source, OLD_SOURCE);
    const headers = join(PROJECT, 'node_modules/node-api-headers/include');
    execFileSync('cc', ['-shared', '-fPIC', '-I', headers, source, '-o', join(program, ADDON)]);
  };

  async function ask(...args: string[]): Promise<{ answer: unknown; code: number | null }> {
    const child = spawn(process.execPath, [join(program, 'bin/dpi-agent.js'), ...args, '-o', 'json'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let stdout = '';
    child.stdout.on('data', (chunk) => (stdout += String(chunk)));
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
    return { answer: JSON.parse(stdout), code };
  }

  const captureFindings = async (...more: string[]): Promise<unknown> => {
    const { answer, code } = await ask('check', ...flags(), ...more);
    return { code, found: (answer as Finding[]).filter(({ subject }) => subject === 'capture') };
  };

  const status = async (): Promise<Snapshot> =>
    (await ask('status', '--socket', join(workspace.directory, 'state/agent.sock'))).answer as Snapshot;

  /** What it writes to standard error, a line each. */
  function run(): string[] {
    const lines: string[] = [];
    agent = lab.spawn(lab.node, process.execPath, [join(program, 'bin/dpi-agent.js'), 'run', ...flags()], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, DPI_AGENT_LOG_FORMAT: 'json', DPI_AGENT_LOG_LEVEL: 'debug' },
    });
    if (agent.stderr !== null) createInterface({ input: agent.stderr }).on('line', (line) => lines.push(line));
    return lines;
  }

  const logged = (lines: string[], message: string): LogLine[] =>
    lines.map((line) => JSON.parse(line) as LogLine).filter(({ msg }) => msg?.startsWith(message));

  test('check takes the native one where both can be loaded', async () => {
    damage();
    expect(await captureFindings()).toEqual({
      code: 0,
      found: [{ level: 'ok', subject: 'capture', message: 'packets are captured by native' }],
    });
  });

  const unloadable: [string, () => void, string][] = [
    ['is no library', () => damage(ADDON), 'invalid ELF header'],
    ['is truncated', () => truncate(ADDON), 'ends a process with SIGBUS'],
    ['was built from an older source', buildOld, 'lacks fill, .*, timerSlack: it was built from another source'],
  ];
  test.each(unloadable)(
    'where the native one %s, node-pcap captures, and check, log and status say why',
    async (_, spoil, why) => {
      spoil();
      const reason = expect.stringMatching(`^the native capture cannot be loaded: .*capture\\.node.*${why}`);
      expect(await captureFindings()).toEqual({
        code: 0,
        found: [
          {
            level: 'warning',
            subject: 'capture',
            message: expect.stringMatching(`captured by node-pcap: the native .*${why}`),
            remedy: 'npm run setup',
          },
        ],
      });
      const lines = run();
      await poll(() => logged(lines, 'capturing').length > 0);
      expect(logged(lines, 'packets are captured by node-pcap')).toMatchObject([
        { reason, remedy: 'run  npm run setup' },
      ]);
      expect((await status()).lanes).toMatchObject([{ capture: { library: 'node-pcap', instead: reason } }]);
    },
  );

  test('one that was chosen is not replaced by the other', async () => {
    damage(NODE_PCAP);
    expect(await captureFindings('--capture.library', 'node-pcap')).toMatchObject({
      code: 1,
      found: [
        { level: 'error', message: expect.stringContaining('node-pcap cannot be loaded: '), remedy: 'npm run setup' },
      ],
    });
  });

  test('a node-pcap that ends who loads it is one that cannot be loaded', async () => {
    truncate(NODE_PCAP);
    expect(await captureFindings('--capture.library', 'node-pcap')).toMatchObject({
      code: 1,
      found: [
        {
          level: 'error',
          message: expect.stringMatching(/node-pcap cannot be loaded: .*SIGBUS/),
          remedy: 'npm run setup',
        },
      ],
    });
  });

  test('an agent that waits for them ends when it is told to', async () => {
    damage(ADDON, NODE_PCAP);
    const lines = run();
    await poll(() => logged(lines, 'nothing can be captured').length > 0);
    const code = new Promise((resolve) => agent?.once('exit', resolve));
    agent?.kill('SIGTERM');
    expect(await code).toBe(0);
  });

  test('where none can be loaded, it is one line with the remedy, however often it is tried, and over when they are mended', async () => {
    damage(ADDON, NODE_PCAP);
    const reason = expect.stringMatching(/^nothing can be captured: the native capture .*; node-pcap .*[^ ]$/);
    expect(await captureFindings()).toEqual({
      code: 1,
      found: [{ level: 'error', subject: 'capture', message: reason, remedy: 'npm run setup' }],
    });
    const lines = run();
    await poll(() => logged(lines, 'capture process').length > BACKOFFS);
    expect(logged(lines, 'nothing can be captured')).toMatchObject([
      { level: 'error', msg: expect.stringMatching(/native.*node-pcap.*: run {2}npm run setup$/) },
    ]);
    expect(logged(lines, 'capture process ended')).toEqual([]);
    // Where all this took long, a canary is missing, too.
    expect((await status()).problems).toContainEqual(
      expect.stringMatching(/^nothing can be captured: .*: run {2}npm run setup$/),
    );
    damage();
    await poll(() => logged(lines, 'capturing').length > 0);
    await poll(async () => (await status()).problems.length === 0);
  });
});

/** A copy of this project's build, with node-pcap of its own. @returns its folder. */
function install(folder: string): string {
  for (const part of ['bin', 'dist/agent', 'dist/native', 'package.json', 'node_modules/pcap']) {
    cpSync(join(PROJECT, part), join(folder, part), { recursive: true });
  }
  symlinkSync(join(PROJECT, 'rules'), join(folder, 'rules'));
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  for (const name of readdirSync(join(PROJECT, 'node_modules')).filter((entry) => entry !== 'pcap'))
    symlinkSync(join(PROJECT, 'node_modules', name), join(folder, 'node_modules', name));
  return folder;
}
