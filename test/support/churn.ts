/**
 * Attaches and detaches an idle endpoint many times beside one that is under traffic, with the real capture process, and says what came out.
 *   node dist/test/support/churn.js BUSY-INTERFACE TIMES IDLE-INTERFACE
 * Or reads so slowly what the busy one forwards that its ring never becomes empty, for TIMES tenths of a second, and on until two rings were
 * open at a time where /proc tells, for ten times that at most:
 *   node dist/test/support/churn.js BUSY-INTERFACE TIMES
 * Runs in the lab's node namespace; frames with `seq <n>;` arrive on the busy interface meanwhile. Ends on a line on stdin, which says how
 * many there were.
 */
import { execFileSync } from 'node:child_process';
import { createReadStream, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { createPcapParser } from '../../agent/capture/pcap-file.ts';
import type { CaptureSettings } from '../../agent/capture/protocol.ts';
import { whyNoProc } from './proc.ts';
import { superviseCapture } from '../../agent/capture/supervisor.ts';

export interface ChurnResult {
  /** Frames of the busy endpoint that reached the FIFO, by sequence number. */
  sequences: number[];
  /** VLAN ids of all frames in the FIFO. */
  vlans: number[];
  damages: number;
  /** How often the capture process was replaced. */
  renewals: number;
  /** Of the capture process: before, and the most that was seen. */
  residentBytes: [number, number];
  descriptors: [number, number];
  counters: Record<string, number>;
}

/** For the last packets, on a slow machine. */
const LATE_MILLIS = 60_000;

/** Between two reads of what the FIFO holds, at most 64 KB, by a slow reader. */
const PAUSE_MILLIS = 20;

const [, , busy = '', times = '0', idle] = process.argv;
const directory = mkdtempSync(join(tmpdir(), 'dpi-churn-'));
const fifo = join(directory, 'fifo');
execFileSync('mkfifo', [fifo]);

const result: ChurnResult = {
  sequences: [],
  vlans: [],
  damages: 0,
  renewals: 0,
  residentBytes: [0, 0],
  descriptors: [0, 0],
  counters: {},
};
const vlans = new Set<number>();
const parser = createPcapParser((_s, _us, caplen, _length, _link, buffer, start) => {
  const frame = buffer.subarray(start, start + caplen);
  vlans.add(frame.readUInt16BE(14) & 0xfff);
  const sequence = /seq (\d+);/.exec(frame.toString('latin1'))?.[1];
  if (sequence !== undefined) result.sequences.push(Number(sequence));
});
const reader = createReadStream(fifo);
let slow = idle === undefined;
reader.on('data', (chunk) => {
  parser.push(Buffer.from(chunk));
  if (!slow) return;
  reader.pause();
  setTimeout(() => reader.resume(), PAUSE_MILLIS);
});
const readerEnded = new Promise<void>((resolve) => {
  reader.once('close', () => resolve());
});

const states = new Map<string, () => void>();
let opened = (): void => undefined;
const open = new Promise<void>((resolve) => {
  opened = resolve;
});
const settings: CaptureSettings = {
  library: 'auto',
  shunt: false,
  shuntAfter: 65_536,
  snaplen: 262_144,
  ringSize: slow ? 64 << 20 : 2 << 20,
  maxRingSize: slow ? 64 << 20 : 2 << 20,
  timeoutMillis: 10,
  filter: '',
  // A slow reader may pause for longer than it is waited for.
  queueSize: slow ? 64 << 20 : 4 << 20,
  promiscuous: false,
};
const capture = superviseCapture(
  settings,
  {
    failed: () => undefined,
    endpoint: (id, state) => {
      if (state.is === 'capturing') states.get(id)?.();
    },
    outputOpen: () => opened(),
    outputClosed: () => undefined,
    injected: () => undefined,
  },
  pino({ level: 'warn' }, pino.destination(2)),
);
const attach = (id: string, name: string, vlan: number): Promise<void> => {
  const capturing = new Promise<void>((resolve) => states.set(id, resolve));
  capture.attach({ id, taps: [{ interface: name }], vlan });
  return capturing;
};

capture.setOutput(fifo);
await open;
await attach('busy', busy, 7);
let pid = capture.pid();
const measure = (): [number, number] => {
  if (whyNoProc !== undefined) return [0, 0];
  const resident = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0';
  return [Number(resident) * 1024, readdirSync(`/proc/${pid}/fd`).length];
};
const [resident, descriptors] = measure();
result.residentBytes = [resident, resident];
result.descriptors = [descriptors, descriptors];
process.stdout.write('ready\n');

const hadTwoRings = (): boolean => whyNoProc !== undefined || result.descriptors[1] > descriptors;
const goesOn = (round: number): boolean =>
  round < Number(times) || (idle === undefined && round < 10 * Number(times) && !hadTwoRings());
for (let round = 0; goesOn(round); round++) {
  if (idle === undefined) {
    await sleep(100);
  } else {
    await attach('idle', idle, 8);
    await capture.detach('idle');
  }
  if (capture.pid() !== pid) {
    result.renewals++;
    pid = capture.pid();
  }
  const [residentNow, descriptorsNow] = measure();
  result.residentBytes[1] = Math.max(result.residentBytes[1], residentNow);
  result.descriptors[1] = Math.max(result.descriptors[1], descriptorsNow);
}
process.stdout.write('churned\n');
slow = false;
const sent = Number(await new Promise<Buffer>((resolve) => process.stdin.once('data', resolve)));
// What is read late is not lost; what does not come at all is missed by who asks.
for (const end = performance.now() + LATE_MILLIS; result.sequences.length < sent && performance.now() < end;)
  await sleep(50);
const counters = await capture.detach('busy');
await capture.stop();
await readerEnded;
const outcome = parser.end();
result.damages = outcome.kind === 'read' ? outcome.damageCount : -1;
result.vlans = [...vlans];
result.counters = { ...counters };
process.stdout.write(`${JSON.stringify(result)}\n`);
rmSync(directory, { recursive: true, force: true });
process.exit(0);
