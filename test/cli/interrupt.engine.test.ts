/** How `dpi-agent replay` ends before its time, with the real engines. */
import { describe, expect, test } from '@jest/globals';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { MARKER, type Workspace } from '../support/agent.ts';
import { describeEngine } from '../support/engines.ts';
import { useWorkspace } from '../support/live.ts';
import { DEFAULT_START_MICROS, ethernet, udpPacket, writePcap } from '../support/packets.ts';
import { whyNoProc } from '../support/proc.ts';
import { PROJECT } from '../support/project.ts';
import { runOnTerminal, whyNoTerminal } from '../support/terminal.ts';

const missing = whyNoTerminal ?? whyNoProc;
if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);

const FILE_HEADER_BYTES = 24;
/** Packets that Snort takes from a file at once, or waits for. */
const BATCH = 64;

/** A file of packets with this payload. */
function batchOf(payload: string): Buffer {
  const ends = { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 1, destinationPort: 2 };
  const frame = { timeMicros: DEFAULT_START_MICROS, data: ethernet(udpPacket({ ...ends, payload })) };
  return writePcap(Array.from({ length: BATCH }, () => frame));
}

/** A file of a batch with `first`, and batches with `others` without end. */
function* endless(first: string, others: string): Generator<Buffer> {
  yield batchOf(first);
  const more = batchOf(others).subarray(FILE_HEADER_BYTES);
  for (;;) yield more;
}

/** Of a process; empty when there is none. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}

async function runInShell(
  command: string,
  env: NodeJS.ProcessEnv,
  onOutput: (stdout: string, kill: ChildProcess['kill']) => void = () => undefined,
): Promise<{ stdout: string; stderr: string }> {
  const child = spawn('sh', ['-c', command], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    said.stdout += String(chunk);
    onOutput(said.stdout, child.kill.bind(child));
  });
  child.stderr.on('data', (chunk) => (said.stderr += String(chunk)));
  await new Promise((resolve) => child.once('close', resolve));
  return said;
}

for (const engine of ['snort', 'suricata'] as const) {
  describeEngine(engine, () => {
    (missing === undefined ? describe : describe.skip)('replay', () => {
      let workspace: Workspace;
      /** Where the replay makes its folder. */
      let temporary: string;
      let fifo: string;
      let command: string;
      let env: NodeJS.ProcessEnv;
      useWorkspace((made) => {
        workspace = made;
        temporary = join(workspace.directory, 'tmp');
        fifo = join(workspace.directory, 'packets');
        mkdirSync(temporary, { mode: 0o711 });
        execFileSync('mkfifo', [fifo]);
        env = { TMPDIR: temporary };
        const rules = `--rule-sets= --rules ${workspace.rules}`;
        command = `${process.execPath} ${join(PROJECT, 'bin/dpi-agent.js')} replay -e ${engine} ${rules}`;
      });

      /** Writes packets to the FIFO until nobody reads it. */
      const pour = (first: string, others: string): Promise<unknown> =>
        pipeline(Readable.from(endless(first, others)), createWriteStream(fifo)).catch((error: unknown) => error);

      /** Processes that were started for this replay's folder. */
      const engines = (): number[] =>
        readdirSync('/proc')
          .map(Number)
          .filter((pid) => commandOf(pid).includes(`${temporary}/dpi-agent-replay-`));

      const expectNothingLeft = (): void => {
        expect(readdirSync(temporary)).toEqual([]);
        expect(engines()).toEqual([]);
      };

      test('Ctrl-C ends the reading, and all that was read is inspected', async () => {
        const poured = pour(MARKER, 'nothing');
        const terminal = runOnTerminal(`exec ${command} - < ${fifo}`, env);
        await terminal.shows('TEST marker');
        terminal.interrupt();
        const { code, screen } = await terminal.ended;
        await poured;
        const [, read, inspected] = /([\d,]+) packets read, ([\d,]+) inspected/.exec(screen) ?? [];
        expect(read).toBeDefined();
        expect(inspected).toBe(read);
        expect(screen).toMatch(/dpi-agent: interrupted by SIGINT after [\d,]+ bytes of \/dev\/stdin\r\n/);
        expect(code).toBe(1);
        expectNothingLeft();
      });

      test('Ctrl-C ends the wait for input that does not come', async () => {
        const file = join(workspace.directory, 'first.pcap');
        writeFileSync(file, batchOf(MARKER));
        const terminal = runOnTerminal(`exec 3<>${fifo}; exec ${command} ${file} - <&3`, env);
        await terminal.shows('TEST marker');
        terminal.interrupt();
        const { code, screen } = await terminal.ended;
        expect(screen).toContain(`${BATCH} packets read, ${BATCH} inspected`);
        expect(screen).toContain('dpi-agent: interrupted by SIGINT with 1 of 2 files unread\r\n');
        expect(code).toBe(1);
        expectNothingLeft();
      });

      test('Ctrl-C ends an engine that reads a file by itself', async () => {
        const file = join(workspace.directory, 'long.pcap');
        const [first, more] = [batchOf(MARKER), batchOf('nothing').subarray(FILE_HEADER_BYTES)];
        // More than an engine inspects before it is told to end.
        const bytes = Buffer.concat([first, ...Array.from({ length: 40_000 }, () => more)]);
        writeFileSync(file, bytes);
        const terminal = runOnTerminal(`exec ${command} ${file}`, env);
        await terminal.shows('TEST marker');
        for (const pid of engines()) process.kill(pid, 'SIGSTOP');
        terminal.interrupt();
        await terminal.shows('Ctrl-C again');
        for (const pid of engines()) process.kill(pid, 'SIGCONT');
        const { code, screen } = await terminal.ended;
        const [, read = '', inspected] = /([\d,]+) packets read, ([\d,]+) inspected/.exec(screen) ?? [];
        expect(inspected).toBe(read);
        expect(Number(read.replaceAll(',', ''))).toBeGreaterThanOrEqual(BATCH);
        expect(Number(read.replaceAll(',', ''))).toBeLessThan(40_001 * BATCH);
        expect(screen).toMatch(/dpi-agent: interrupted by SIGINT after [\d,]+ bytes of .*long\.pcap\r\n/);
        expect(code).toBe(1);
        expectNothingLeft();
      });

      test('a terminal that is closed ends the reading, and leaves nothing', async () => {
        const poured = pour(MARKER, 'nothing');
        const { stderr } = await runInShell(`exec ${command} - < ${fifo}`, env, (stdout, kill) => {
          if (stdout.includes('TEST marker')) kill('SIGHUP');
        });
        await poured;
        expect(stderr).toMatch(/dpi-agent: interrupted by SIGHUP after [\d,]+ bytes of \/dev\/stdin\n/);
        expectNothingLeft();
      });

      test('a second Ctrl-C ends an engine that does not go on', async () => {
        const poured = pour(MARKER, 'nothing');
        const terminal = runOnTerminal(`exec ${command} - < ${fifo}`, env);
        await terminal.shows('TEST marker');
        for (const pid of engines()) process.kill(pid, 'SIGSTOP');
        terminal.interrupt();
        await terminal.shows('Ctrl-C again');
        terminal.interrupt();
        const { code, screen } = await terminal.ended;
        await poured;
        expect(screen).toContain('dpi-agent: ended at once: not all that was read was inspected\r\n');
        expect(code).toBe(1);
        expectNothingLeft();
      });

      test.each(['table', 'json'])('a reader of the %s that has enough ends it quietly', async (output) => {
        const poured = pour(MARKER, MARKER);
        const replay = `{ ${command} -o ${output} - < ${fifo}; echo "status $?" >&2; }`;
        const { stdout, stderr } = await runInShell(`${replay} | head -n 1`, env);
        await poured;
        expect(stdout.split('\n')).toHaveLength(2);
        expect(stderr).toBe('status 0\n');
        expectNothingLeft();
      });

      test('an output that cannot be written is said', async () => {
        const poured = pour(MARKER, MARKER);
        const { stderr } = await runInShell(`${command} -o json - < ${fifo} > /dev/full; echo "status $?" >&2`, env);
        await poured;
        expect(stderr).toMatch(/^dpi-agent: standard output cannot be written: ENOSPC.*\nstatus 1\n$/);
        expectNothingLeft();
      });
    });
  });
}
