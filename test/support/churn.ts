/**
 * Attaches and detaches idle endpoints many times beside one that is under traffic, with the real capture process, and
 * says what came out.
 *   node dist/test/support/churn.js LIBRARY RING-BYTES MAX-RING-BYTES BUSY-INTERFACE ROUNDS IDLE-INTERFACE...
 * A round attaches and detaches each idle interface; without any, it is a tenth of a second.
 * Runs in the lab's node namespace; frames with `seq <n>;` arrive on the busy interface meanwhile. Ends on a line on
 * stdin, which says how many there were.
 */
import { execFileSync } from 'node:child_process';
import { createReadStream, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';
import { lostOf, zeroCounters, type CaptureSettings } from '../../agent/capture/protocol.ts';
import { whyNoProc } from './proc.ts';
import { superviseCapture } from '../../agent/capture/supervisor.ts';

export interface Measured {
  residentBytes: number;
  descriptors: number;
  /** In the node's network namespace. */
  packetSockets: number;
}

export interface ChurnResult {
  /** Frames of the busy endpoint that reached the FIFO, by sequence number. */
  sequences: number[];
  /** VLAN ids of all frames in the FIFO. */
  vlans: number[];
  damages: number;
  /** How often the capture process was replaced. */
  renewals: number;
  /** Of the capture process while only the busy one is attached: after the first round, and after the last one. */
  before: Measured;
  after: Measured;
  /** The most that its rings had together. */
  ringBytes: number;
  counters: Record<string, number>;
}

/** For the last packets, on a slow machine. */
const LATE_MILLIS = 60_000;

/** Until what nobody has seen is counted exactly, the interface has to be quiet over two reports. */
const QUIET_MILLIS = 3_500;
const TICK_MILLIS = 100;

const [, , library = 'native', ringBytes = '0', maxRingBytes = '0', busy = '', rounds = '0', ...idle] = process.argv;
const directory = mkdtempSync(join(tmpdir(), 'dpi-churn-'));
const fifo = join(directory, 'fifo');
execFileSync('mkfifo', [fifo]);

const result: ChurnResult = {
  sequences: [],
  vlans: [],
  damages: 0,
  renewals: 0,
  before: { residentBytes: 0, descriptors: 0, packetSockets: 0 },
  after: { residentBytes: 0, descriptors: 0, packetSockets: 0 },
  ringBytes: 0,
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
reader.on('data', (chunk) => parser.push(Buffer.from(chunk)));
const readerEnded = new Promise<void>((resolve) => {
  reader.once('close', () => resolve());
});

const states = new Map<string, () => void>();
let opened = (): void => undefined;
const open = new Promise<void>((resolve) => {
  opened = resolve;
});
const settings: CaptureSettings = {
  library: library as CaptureSettings['library'],
  shunt: false,
  shuntAfter: 65_536,
  recentBytes: 0,
  recentRate: 0,
  snaplen: 262_144,
  ringSize: Number(ringBytes),
  maxRingSize: Number(maxRingBytes),
  timeoutMillis: 10,
  filter: '',
  queueSize: 4 << 20,
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
const measure = (): Measured => {
  const packetSockets = readFileSync('/proc/thread-self/net/packet', 'latin1').trim().split('\n').length - 1;
  if (whyNoProc !== undefined) return { residentBytes: 0, descriptors: 0, packetSockets };
  const resident = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '0';
  const descriptors = readdirSync(`/proc/${pid}/fd`).length;
  return { residentBytes: Number(resident) * 1024, descriptors, packetSockets };
};
const measureRings = (): number => {
  if (whyNoProc !== undefined) return 0;
  const maps = readFileSync(`/proc/${pid}/maps`, 'latin1').matchAll(/^([0-9a-f]+)-([0-9a-f]+) .*socket:/gm);
  return [...maps].reduce((sum, [, from = '', to = '']) => sum + parseInt(to, 16) - parseInt(from, 16), 0);
};
// What nobody sees later is told from two reports in which nothing came.
await sleep(QUIET_MILLIS);
process.stdout.write('ready\n');

for (let round = 0; round < Number(rounds); round++) {
  if (idle.length === 0) {
    await sleep(TICK_MILLIS);
  } else {
    await Promise.all(idle.map((name, index) => attach(name, name, 8 + index)));
    await Promise.all(idle.map((name) => capture.detach(name)));
  }
  if (capture.pid() !== pid) {
    result.renewals++;
    pid = capture.pid();
  }
  if (round === 0) result.before = measure();
  result.ringBytes = Math.max(result.ringBytes, measureRings());
}
// The kernel may release the last sockets a little later.
for (const end = performance.now() + LATE_MILLIS; performance.now() < end; await sleep(TICK_MILLIS)) {
  result.after = measure();
  if (result.after.packetSockets <= result.before.packetSockets) break;
}
process.stdout.write('churned\n');
const sent = Number(await new Promise<Buffer>((resolve) => process.stdin.once('data', resolve)));
const lost = (): number => lostOf(capture.counters().get('busy') ?? zeroCounters());
// What is read late is not lost; what does not come at all is missed by who asks.
for (const end = performance.now() + LATE_MILLIS; result.sequences.length + lost() < sent && performance.now() < end;)
  await sleep(50);
if (result.renewals > 0) await sleep(QUIET_MILLIS);
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
