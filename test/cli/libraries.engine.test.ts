/** What captures packets where native parts can't be loaded: an installation whose files a test damages. */
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Finding } from '../../agent/cli/check.ts';
import type { Snapshot } from '../../agent/observe/snapshot.ts';
import { openLab, type Lab } from '../../scripts/lab.ts';
import { createWorkspace, type LogLine, type Workspace } from '../support/agent.ts';
import { describeLive } from '../support/live.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';

const ADDON = 'dist/native/capture.node';
const NODE_PCAP = 'node_modules/pcap/build/Release/pcap_binding.node';
const BACKOFFS = 3;

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

  test('where the native one cannot be loaded, node-pcap captures, and check, log and status say why', async () => {
    damage(ADDON);
    const reason = expect.stringMatching(/^the native capture cannot be loaded: .*capture\.node/);
    expect(await captureFindings()).toEqual({
      code: 0,
      found: [
        {
          level: 'warning',
          subject: 'capture',
          message: expect.stringContaining('captured by node-pcap: the native'),
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
  });

  test('one that was chosen is not replaced by the other', async () => {
    damage(NODE_PCAP);
    expect(await captureFindings('--capture.library', 'node-pcap')).toMatchObject({
      code: 1,
      found: [
        { level: 'error', message: expect.stringContaining('node-pcap cannot be loaded: '), remedy: 'npm run setup' },
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
    expect((await status()).problems).toEqual([
      expect.stringMatching(/^nothing can be captured: .*: run {2}npm run setup$/),
    ]);
    damage();
    await poll(() => logged(lines, 'capturing').length > 0);
    expect((await status()).problems).toEqual([]);
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
