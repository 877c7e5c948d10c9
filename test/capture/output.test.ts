import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  MAX_FRAME_BYTES,
  MAX_PREFIX,
  pcapFileHeader,
  REST_OFFSET,
  writeTaggedPrefix,
} from '../../agent/capture/frame.ts';
import { createOutput, type Accepted, type Output } from '../../agent/capture/output.ts';
import { createPcapParser, type PcapOutcome } from '../../agent/capture/pcap-file.ts';

let folder: string;
/** Reading ends that a test has open. */
let readers: number[];
let outputs: Output[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-output-'));
  readers = [];
  outputs = [];
});

afterEach(async () => {
  for (const fd of readers) closeSync(fd);
  for (const output of outputs) await output.close(0);
  rmSync(folder, { recursive: true });
});

let fifos = 0;

function makeFifo(): string {
  const path = join(folder, `${fifos++}.fifo`);
  execFileSync('mkfifo', [path]);
  return path;
}

interface Closed {
  path: string;
  reason: string;
  lost: Map<number, number>;
}

interface Sink {
  output: Output;
  opened: string[];
  closed: Closed[];
}

function createSink(queueLimit = 1 << 20): Sink {
  const opened: string[] = [];
  const closed: Closed[] = [];
  const output = createOutput(queueLimit, {
    opened: (path) => opened.push(path),
    closed: (path, reason, lost) => closed.push({ path, reason, lost }),
  });
  outputs.push(output);
  return { output, opened, closed };
}

function openReader(path: string): number {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  readers.push(fd);
  return fd;
}

function closeReader(fd: number): void {
  closeSync(fd);
  readers = readers.filter((open) => open !== fd);
}

/** What can be read without waiting, `limit` bytes at most. */
function readSome(fd: number, limit = Infinity): { bytes: Buffer; end: boolean } {
  const chunks: Buffer[] = [];
  for (let rest = limit; rest > 0;) {
    const chunk = Buffer.alloc(Math.min(65_536, rest));
    let length: number;
    try {
      length = readSync(fd, chunk);
    } catch {
      return { bytes: Buffer.concat(chunks), end: false };
    }
    if (length === 0) return { bytes: Buffer.concat(chunks), end: true };
    chunks.push(chunk.subarray(0, length));
    rest -= length;
  }
  return { bytes: Buffer.concat(chunks), end: false };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(1);
}

/** A record as its reader finds it: `number` is where its capture time stood. */
interface Seen {
  number: number;
  vlan: number;
  length: number;
  intact: boolean;
}

const prefix = Buffer.alloc(MAX_PREFIX);

/** Offers a frame of `length` bytes that tells its number, in the capture's buffer, which is used again at once. */
function offer({ output }: Sink, number: number, vlan: number, length: number): Accepted {
  const frame = Buffer.alloc(length, number & 0xff);
  frame.writeUInt16BE(0x0800, 12);
  const prefixLength = writeTaggedPrefix(prefix, 0, frame, length, length, number, 0, 'ethernet', vlan);
  const accepted = output.write(prefix, prefixLength, frame, REST_OFFSET.ethernet, length);
  prefix.fill(0xee);
  frame.fill(0xee);
  return accepted;
}

function parse(bytes: Buffer): { records: Seen[]; outcome: PcapOutcome } {
  const records: Seen[] = [];
  const parser = createPcapParser((seconds, _micros, caplen, _originalLength, _link, buffer, start) => {
    const content = buffer.subarray(start + 18, start + caplen);
    records.push({
      number: seconds,
      vlan: buffer.readUInt16BE(start + 14) & 0xfff,
      length: caplen - 4,
      intact: content.equals(Buffer.alloc(content.length, seconds & 0xff)),
    });
  });
  parser.push(bytes);
  return { records, outcome: parser.end() };
}

function countByVlan(records: readonly { vlan: number }[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { vlan } of records) counts.set(vlan, (counts.get(vlan) ?? 0) + 1);
  return counts;
}

/** An output with a reader that is this process. */
function openBoth(queueLimit?: number): Sink & { path: string; reader: number } {
  const path = makeFifo();
  const reader = openReader(path);
  const sink = createSink(queueLimit);
  sink.output.open(path);
  return { ...sink, path, reader };
}

type Step =
  | { do: 'write'; vlan: number; length: number }
  | { do: 'flush' }
  | { do: 'read'; bytes: number }
  /** Lets the writer's own timers run. */
  | { do: 'wait' };

const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('write' as const),
        vlan: fc.integer({ min: 1, max: 4094 }),
        // Around each border: the smallest, copied or written in place, the FIFO's capacity, the largest.
        length: fc.oneof(
          fc.integer({ min: 14, max: 200 }),
          fc.integer({ min: 4080, max: 4130 }),
          fc.integer({ min: 65_480, max: 65_560 }),
          fc.constant(MAX_FRAME_BYTES - 4),
        ),
      }),
    },
    { weight: 2, arbitrary: fc.constant({ do: 'flush' as const }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('read' as const), bytes: fc.integer({ min: 1, max: 200_000 }) }),
    },
    { weight: 1, arbitrary: fc.constant({ do: 'wait' as const }) },
  ),
  { maxLength: 30 },
);

/** Does the steps. @returns what was accepted, and what the reader got so far. */
async function run(sink: Sink & { reader: number }, plan: Step[]): Promise<{ accepted: Seen[]; got: Buffer[] }> {
  const accepted: Seen[] = [];
  const got: Buffer[] = [];
  for (const [number, step] of plan.entries()) {
    if (step.do === 'flush') sink.output.flush();
    else if (step.do === 'read') got.push(readSome(sink.reader, step.bytes).bytes);
    else if (step.do === 'wait') await sleep(2);
    else if (offer(sink, number, step.vlan, step.length) === 'accepted')
      accepted.push({ ...step, number, intact: true });
  }
  return { accepted: accepted.map(({ number, vlan, length }) => ({ number, vlan, length, intact: true })), got };
}

describe('what the reader gets', () => {
  test('is the file header and then the records, also in another process', async () => {
    const path = makeFifo();
    const sink = createSink();
    sink.output.open(path);
    const cat = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const chunks: Buffer[] = [];
    cat.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    const ended = new Promise((resolve) => cat.once('close', resolve));
    await until(() => sink.opened.length === 1);
    const lengths = [60, 9000, 14, 70_000, 61];
    lengths.forEach((length, index) => expect(offer(sink, index, 7, length)).toBe('accepted'));
    await sink.output.close(10_000);
    await ended;
    const bytes = Buffer.concat(chunks);
    expect(bytes.subarray(0, 24)).toEqual(pcapFileHeader());
    expect(parse(bytes).records).toEqual(lengths.map((length, number) => ({ number, vlan: 7, length, intact: true })));
    expect(sink.closed).toEqual([{ path, reason: 'closed by the agent', lost: new Map() }]);
  });

  test('is nothing but the header while there is no packet, at once', () => {
    const { reader, opened, path } = openBoth();
    expect(readSome(reader)).toEqual({ bytes: pcapFileHeader(), end: false });
    expect(opened).toEqual([path]);
  });

  test('small records are batched until flush', () => {
    const sink = openBoth();
    readSome(sink.reader);
    offer(sink, 1, 1, 60);
    offer(sink, 2, 1, 60);
    expect(readSome(sink.reader).bytes).toHaveLength(0);
    sink.output.flush();
    expect(readSome(sink.reader).bytes).toHaveLength(2 * (16 + 60 + 4));
  });

  test('is every accepted record, whole, once and in order, whatever the sizes and the reader’s pace', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        const sink = openBoth(150_000);
        const { accepted, got } = await run(sink, plan);
        const closing = sink.output.close(10_000);
        for (let end = false; !end;) {
          const more = readSome(sink.reader, 50_000);
          got.push(more.bytes);
          end = more.end;
          await sleep(0);
        }
        await closing;
        const { records, outcome } = parse(Buffer.concat(got));
        expect(records).toEqual(accepted);
        expect(outcome).toMatchObject({ kind: 'read', damageCount: 0 });
        expect(sink.closed.map(({ lost }) => lost)).toEqual([new Map()]);
      }),
      { numRuns: 10 },
    );
  });
});

describe('a reader that does not read', () => {
  const LIMIT = 300_000;
  /** The FIFO's capacity as the kernel has it, and one batch or record that went over the limit. */
  const BOUND = LIMIT + 65_536 + 262_144;

  test.each([
    ['small records', 60, false],
    ['small records that are flushed one by one', 60, true],
    ['large records', 20_000, false],
    ['the largest records', MAX_FRAME_BYTES - 4, true],
  ])(
    '%s are refused when the queue is full, accepted again later, and counted right',
    async (_what, length, flushed) => {
      const sink = openBoth(LIMIT);
      let accepted = 0;
      const write = (): Accepted => {
        const result = offer(sink, accepted, 1, length);
        if (result === 'accepted') accepted++;
        if (flushed) sink.output.flush();
        return result;
      };
      while (write() === 'accepted') expect(accepted * length).toBeLessThan(BOUND);
      const before = accepted;
      for (let more = 0; more < 50; more++) expect(write()).toBe('queue-full');
      expect(accepted).toBe(before);
      // It reads: there is room again.
      const got: Buffer[] = [];
      while (write() === 'queue-full') {
        got.push(readSome(sink.reader).bytes);
        await sleep(1);
      }
      const closing = sink.output.close(10_000);
      for (let end = false; !end;) {
        const more = readSome(sink.reader);
        got.push(more.bytes);
        end = more.end;
        await sleep(0);
      }
      await closing;
      const { records } = parse(Buffer.concat(got));
      expect(records.map(({ number }) => number)).toEqual(Array.from({ length: accepted }, (_, number) => number));
      expect(records.every(({ intact }) => intact)).toBe(true);
    },
  );
});

describe('opening', () => {
  test('waits for a reader that comes later, and refuses records until then', async () => {
    const path = makeFifo();
    const sink = createSink();
    sink.output.open(path);
    expect(offer(sink, 0, 1, 60)).toBe('closed');
    await sleep(25);
    expect(sink.opened).toEqual([]);
    const reader = openReader(path);
    await until(() => sink.opened.length > 0);
    expect(offer(sink, 1, 1, 60)).toBe('accepted');
    sink.output.flush();
    expect(parse(readSome(reader).bytes).records.map(({ number }) => number)).toEqual([1]);
  });

  test.each(['missing', 'link'])('a path that is no FIFO of ours (%s) is told as closed, with the reason', (kind) => {
    const path = join(folder, kind);
    const reader = openReader(makeFifo());
    expect(reader).toBeGreaterThan(0);
    if (kind === 'link') symlinkSync(join(folder, `${fifos - 1}.fifo`), path);
    const sink = createSink();
    sink.output.open(path);
    expect(sink.closed).toEqual([
      { path, reason: expect.stringContaining(kind === 'link' ? 'ELOOP' : 'ENOENT'), lost: new Map() },
    ]);
    expect(offer(sink, 0, 1, 60)).toBe('closed');
  });

  test('behind another process, the stream goes on without a second header', async () => {
    const first = openBoth();
    offer(first, 1, 1, 60);
    await first.output.empty(1000);
    const second = createSink();
    second.output.open(first.path, true);
    await first.output.close(1000);
    offer(second, 2, 1, 60);
    await second.output.close(1000);
    const { bytes, end } = readSome(first.reader);
    expect(end).toBe(true);
    expect(parse(bytes)).toMatchObject({
      records: [{ number: 1 }, { number: 2 }],
      outcome: { damageCount: 0, packets: 2 },
    });
  });

  test('another one gives up what the first one’s reader did not take, and counts it', () => {
    const sink = openBoth();
    for (let number = 0; number < 10; number++) offer(sink, number, 1 + (number % 2), 30_000);
    const next = makeFifo();
    const reader = openReader(next);
    sink.output.open(next);
    const received = countByVlan(parse(readSome(sink.reader).bytes).records);
    expect(sink.closed).toEqual([
      {
        path: sink.path,
        reason: 'replaced by another output',
        lost: new Map([
          [1, 5 - (received.get(1) ?? 0)],
          [2, 5 - (received.get(2) ?? 0)],
        ]),
      },
    ]);
    expect(sink.opened).toEqual([sink.path, next]);
    offer(sink, 10, 1, 60);
    sink.output.flush();
    expect(parse(readSome(reader).bytes).records.map(({ number }) => number)).toEqual([10]);
  });

  test('another one, in place of one that nobody opened, is the only one that is opened', async () => {
    const sink = createSink();
    const [first, second] = [makeFifo(), makeFifo()];
    sink.output.open(first);
    sink.output.open(second);
    openReader(first);
    openReader(second);
    await until(() => sink.opened.length > 0);
    await sleep(25);
    expect(sink.opened).toEqual([second]);
  });
});

describe('a reader that dies', () => {
  test('is noticed without a further packet when something is queued', async () => {
    const sink = openBoth();
    for (let number = 0; number < 4; number++) offer(sink, number, 5, 50_000);
    closeReader(sink.reader);
    await until(() => sink.closed.length > 0);
    expect(sink.closed[0]).toMatchObject({ path: sink.path, reason: 'the engine closed its input' });
    expect(offer(sink, 4, 5, 60)).toBe('closed');
  });

  test('loses the records that were not written, by VLAN id: written + lost = accepted', async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (plan) => {
        const sink = openBoth(150_000);
        const { accepted, got } = await run(sink, plan);
        // Nothing is written between the last look at the FIFO and the reader's end.
        got.push(readSome(sink.reader).bytes);
        closeReader(sink.reader);
        // Written at once, it finds out; behind a queue, it is lost with it.
        if (offer(sink, plan.length, 4094, 5000) === 'accepted') {
          accepted.push({ number: plan.length, vlan: 4094, length: 5000, intact: true });
        }
        await until(() => sink.closed.length > 0);
        expect(sink.closed).toHaveLength(1);
        const { records } = parse(Buffer.concat(got));
        expect(records).toEqual(accepted.slice(0, records.length));
        expect(sink.closed[0]?.lost).toEqual(countByVlan(accepted.slice(records.length)));
      }),
      { numRuns: 10 },
    );
  });

  test('while the writer waits for it, does not turn what it got into a loss', async () => {
    const path = makeFifo();
    const sink = createSink();
    sink.output.open(path);
    const head = spawn('head', ['-c', '30000', path], { stdio: ['ignore', 'pipe', 'inherit'] });
    const chunks: Buffer[] = [];
    head.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    const ended = new Promise((resolve) => head.once('close', resolve));
    await until(() => sink.opened.length === 1);
    // The first batch is larger than the FIFO.
    let accepted = 0;
    while (accepted < 2000 && offer(sink, accepted, 3, 60) === 'accepted') accepted++;
    sink.output.flush();
    await ended;
    while (sink.closed.length === 0) offer(sink, 0, 4, 9000);
    const received = parse(Buffer.concat(chunks)).records.length;
    expect(received).toBeGreaterThan(300);
    expect(received + (sink.closed[0]?.lost.get(3) ?? 0)).toBeLessThanOrEqual(accepted);
  });

  test('can be followed by another one on a new FIFO', () => {
    const sink = openBoth();
    closeReader(sink.reader);
    expect(offer(sink, 1, 1, 9000)).toBe('closed');
    const path = makeFifo();
    const reader = openReader(path);
    sink.output.open(path);
    expect(offer(sink, 2, 1, 9000)).toBe('accepted');
    expect(parse(readSome(reader).bytes).records.map(({ number }) => number)).toEqual([2]);
  });
});

describe('closing', () => {
  test('first writes what is batched and queued', async () => {
    const sink = openBoth();
    for (let number = 0; number < 5; number++) offer(sink, number, 1, 40_000);
    offer(sink, 5, 1, 60);
    let closed = false;
    const closing = sink.output.close(10_000).then(() => (closed = true));
    const got: Buffer[] = [];
    while (!closed) {
      got.push(readSome(sink.reader, 1000).bytes);
      await sleep(0);
    }
    await closing;
    const last = readSome(sink.reader);
    expect(last.end).toBe(true);
    expect(parse(Buffer.concat([...got, last.bytes])).records).toHaveLength(6);
    expect(sink.closed).toEqual([{ path: sink.path, reason: 'closed by the agent', lost: new Map() }]);
  });

  test('gives up after the grace time and counts what was not written', async () => {
    const sink = openBoth();
    for (let number = 0; number < 5; number++) offer(sink, number, 9, 40_000);
    await sink.output.close(5);
    const { bytes, end } = readSome(sink.reader);
    expect(end).toBe(true);
    const written = parse(bytes).records.length;
    expect(written).toBeLessThan(5);
    expect(sink.closed[0]?.lost).toEqual(new Map([[9, 5 - written]]));
  });

  test('what nobody opened ends the waiting and tells nothing', async () => {
    const path = makeFifo();
    const sink = createSink();
    sink.output.open(path);
    await sink.output.close(10_000);
    const reader = openReader(path);
    await sleep(25);
    expect(readSome(reader)).toEqual({ bytes: Buffer.alloc(0), end: true });
    expect([sink.opened, sink.closed]).toEqual([[], []]);
  });

  test('does not close another one that was opened meanwhile', async () => {
    const sink = openBoth();
    for (let number = 0; number < 5; number++) offer(sink, number, 1, 40_000);
    const closing = sink.output.close(10_000);
    const next = makeFifo();
    const reader = openReader(next);
    sink.output.open(next);
    for (let number = 5; number < 10; number++) offer(sink, number, 1, 40_000);
    // Though the new one has a queue too, and its reader is slow.
    await closing;
    expect(sink.closed.map(({ path }) => path)).toEqual([sink.path]);
    expect(offer(sink, 10, 1, 60)).toBe('accepted');
    expect(readSome(reader).bytes.subarray(0, 24)).toEqual(pcapFileHeader());
  });

  test('twice, or without anything open, is nothing special', async () => {
    const sink = openBoth();
    await sink.output.close(1000);
    await sink.output.close(1000);
    await sink.output.empty(1000);
    sink.output.flush();
    expect(sink.closed).toHaveLength(1);
    expect(offer(sink, 1, 1, 60)).toBe('closed');
  });
});
