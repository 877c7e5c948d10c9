import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GROWTH, MAX_FRAME_BYTES, tagFrame } from '../../agent/capture/frame.ts';
import { pcapFileHeader, RECORD_HEADER, writeRecordHeader } from '../../agent/capture/record.ts';
import { createOutput, type Accepted, type Output } from '../../agent/capture/output.ts';
import { createPcapParser, type PcapOutcome } from '../../agent/replay/pcap-file.ts';
import { native, whyNoNative } from '../support/native.ts';
import { seeded } from '../support/random.ts';

if (whyNoNative !== undefined) process.stderr.write(`skipped: ${whyNoNative}\n`);
/** Whether pages are given to the FIFO, or bytes copied into it. */
const WAYS: [string, typeof native][] = [['copied', undefined]];
if (native !== undefined) WAYS.push(['spliced', native]);

let way: typeof native;
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
  /** Each time that it was told: whether it was blocked then. */
  changes: boolean[];
}

function createSink(queueSize = 1 << 20): Sink {
  const opened: string[] = [];
  const closed: Closed[] = [];
  const changes: boolean[] = [];
  const output = createOutput(queueSize, way, {
    opened: (path) => opened.push(path),
    closed: (path, reason, lost) => closed.push({ path, reason, lost }),
    blocked: () => changes.push(true),
    drained: () => changes.push(false),
  });
  outputs.push(output);
  return { output, opened, closed, changes };
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

/** Adds a frame of `length` bytes that tells its number. */
function offer({ output }: Sink, number: number, vlan: number, length: number): Accepted {
  if (!output.isOpen) return 'closed';
  const { arena } = output;
  const { bytes, view } = arena;
  const size = RECORD_HEADER + GROWTH.ethernet + length;
  const from = arena.reserve(size);
  if (from < 0) return 'queue-full';
  const start = from + size - length;
  bytes.fill(number & 0xff, start, from + size);
  bytes.writeUInt16BE(0x0800, start + 12);
  tagFrame(bytes, start, length, 'ethernet', vlan);
  writeRecordHeader(view, from, number, 0, length + GROWTH.ethernet, length + GROWTH.ethernet);
  output.add(from, from + size, 1);
  return 'accepted';
}

/** The same, and writes it. */
function write(sink: Sink, number: number, vlan: number, length: number): Accepted {
  const accepted = offer(sink, number, vlan, length);
  sink.output.flush();
  return accepted;
}

/** Reads to the stream's end, while the writer closes it. */
async function closeAndRead(sink: Sink & { reader: number }): Promise<Buffer> {
  const closing = sink.output.close(10_000);
  const got: Buffer[] = [];
  for (let end = false; !end;) {
    const more = readSome(sink.reader, 50_000);
    got.push(more.bytes);
    end = more.end;
    await sleep(0);
  }
  await closing;
  return Buffer.concat(got);
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
function openBoth(queueSize?: number): Sink & { path: string; reader: number } {
  const path = makeFifo();
  const reader = openReader(path);
  const sink = createSink(queueSize);
  sink.output.open(path);
  return { ...sink, path, reader };
}

/** Takes the stream's header, before which nothing else comes. @returns what parses whatever is read then. */
function begin(reader: number): (bytes: Buffer) => ReturnType<typeof parse> {
  const header = readSome(reader).bytes;
  return (bytes) => parse(Buffer.concat([header, bytes]));
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
        // Around each border: the smallest, a page, the capacity of a FIFO as it is made, the largest.
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

describe.each(WAYS)('%s', (_way, found) => {
  beforeEach(() => {
    way = found;
  });

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
      expect(parse(bytes).records).toEqual(
        lengths.map((length, number) => ({ number, vlan: 7, length, intact: true })),
      );
      expect(sink.closed).toEqual([{ path, reason: 'closed by the agent', lost: new Map() }]);
    });

    test('is nothing but the header while there is no packet, at once', () => {
      const { reader, opened, path } = openBoth();
      expect(readSome(reader)).toEqual({ bytes: pcapFileHeader(), end: false });
      expect(opened).toEqual([path]);
    });

    (found === undefined ? test.skip : test)('is the header alone until it was read', async () => {
      const sink = openBoth();
      write(sink, 1, 1, 60);
      sink.output.flush();
      expect(readSome(sink.reader).bytes).toEqual(pcapFileHeader());
      await until(() => sink.output.arena.waiting === 0);
      expect(readSome(sink.reader).bytes).toHaveLength(16 + 60 + 4);
    });

    (found === undefined ? test.skip : test)('that goes before it has read the header, is told', async () => {
      const sink = openBoth();
      write(sink, 1, 5, 60);
      closeReader(sink.reader);
      await until(() => sink.closed.length > 0);
      expect(sink.closed).toEqual([
        { path: sink.path, reason: 'the engine closed its input', lost: new Map([[5, 1]]) },
      ]);
    });

    test('are records that were flushed', () => {
      const sink = openBoth();
      readSome(sink.reader);
      offer(sink, 1, 1, 60);
      offer(sink, 2, 1, 60);
      expect(readSome(sink.reader).bytes).toHaveLength(0);
      sink.output.flush();
      expect(readSome(sink.reader).bytes).toHaveLength(2 * (16 + 60 + 4));
      expect(sink.output.handed()).toEqual({ path: sink.path, records: 2 });
    });

    test('is every accepted record, whole, once and in order, whatever the sizes and the reader’s pace', async () => {
      await fc.assert(
        fc.asyncProperty(steps, async (plan) => {
          const sink = openBoth();
          const { accepted, got } = await run(sink, plan);
          got.push(await closeAndRead(sink));
          const { records, outcome } = parse(Buffer.concat(got));
          expect(records).toEqual(accepted);
          expect(outcome).toMatchObject({ kind: 'read', damageCount: 0 });
          expect(sink.closed.map(({ lost }) => lost)).toEqual([new Map()]);
        }),
        { numRuns: 10 },
      );
    });

    test('is right in each byte when it is read late: no place is used again before', () => {
      const number = seeded(7);
      const random = (below: number): number => Math.floor(number() * below);
      const sink = openBoth();
      let read = 0;
      const damaged: number[] = [];
      const parser = createPcapParser((seconds, _micros, caplen, _length, _link, buffer, start) => {
        const content = buffer.subarray(start + 18, start + caplen);
        if (seconds !== read++ || !content.equals(Buffer.alloc(content.length, seconds & 0xff))) damaged.push(seconds);
      });
      const arenaBytes = sink.output.arena.bytes.length;
      let written = 0;
      let bytes = 0;
      for (let refused = 0; bytes < 8 * arenaBytes;) {
        // Sometimes it is filled to the last byte, though it is blocked.
        const goesOn = random(20) === 0;
        while (!sink.output.blocked || goesOn) {
          const length = random(3) === 0 ? 14 + random(60_000) : 14 + random(1_400);
          if (offer(sink, written, 1, length) === 'accepted') {
            written++;
            bytes += length;
          } else {
            refused++;
            break;
          }
          if (random(3) === 0) sink.output.flush();
        }
        sink.output.flush();
        parser.push(readSome(sink.reader, random(2) === 0 ? random(10_000) : random(2_000_000)).bytes);
        sink.output.flush();
        if (bytes >= 8 * arenaBytes) expect(refused).toBeGreaterThan(0);
      }
      for (; sink.output.arena.waiting > 0; sink.output.flush()) parser.push(readSome(sink.reader).bytes);
      parser.push(readSome(sink.reader).bytes);
      expect({ read, damaged }).toEqual({ read: written, damaged: [] });
    });
  });

  describe('a reader that does not read', () => {
    /** What a FIFO holds at most, what waits then, and the last record. */
    const BOUND = (1 << 20) + 64 * 1024 + MAX_FRAME_BYTES;

    test.each([
      ['small records', 60, false],
      ['small records that are flushed one by one', 60, true],
      ['large records', 20_000, false],
      ['the largest records', MAX_FRAME_BYTES - 4, true],
    ])('of %s blocks at a bound, and is written to again when it reads', async (_what, length, flushed) => {
      const sink = openBoth();
      const { output } = sink;
      let accepted = 0;
      const fill = (): void => {
        while (!output.blocked) {
          expect(offer(sink, accepted++, 1, length)).toBe('accepted');
          if (flushed || output.arena.waiting > 64 * 1024) output.flush();
          expect(accepted * length).toBeLessThan(BOUND + (flushed ? 0 : 64 * 1024));
        }
      };
      fill();
      output.flush();
      expect(sink.changes).toEqual([true]);
      const got: Buffer[] = [];
      // Whoever writes what waits, it is told.
      for (; output.blocked; output.flush()) got.push(readSome(sink.reader).bytes);
      expect(sink.changes).toEqual([true, false]);
      got.push(await closeAndRead(sink));
      const { records } = parse(Buffer.concat(got));
      expect(records.map(({ number }) => number)).toEqual(Array.from({ length: accepted }, (_, number) => number));
      expect(records.every(({ intact }) => intact)).toBe(true);
    });

    test('is told to have room without a further packet', async () => {
      const sink = openBoth();
      for (let number = 0; !sink.output.blocked; number++) write(sink, number, 1, 9000);
      while (sink.changes.length < 2) {
        readSome(sink.reader, 20_000);
        await sleep(1);
      }
      expect(sink.changes).toEqual([true, false]);
    });

    test('leaves no place when the arena is full, and loses nothing that has one', async () => {
      const sink = openBoth();
      let accepted = 0;
      while (write(sink, accepted, 1, 30_000) === 'accepted') accepted++;
      expect(accepted * 30_000).toBeLessThan(sink.output.arena.bytes.length + BOUND);
      const got = await closeAndRead(sink);
      expect(parse(got).records).toEqual(
        Array.from({ length: accepted }, (_, number) => ({ number, vlan: 1, length: 30_000, intact: true })),
      );
    });
  });

  describe('opening', () => {
    test('waits for a reader that comes later, and refuses records until then', async () => {
      const path = makeFifo();
      const sink = createSink();
      sink.output.open(path);
      expect(offer(sink, 0, 1, 60)).toBe('closed');
      expect(sink.output.handed()).toBeUndefined();
      await sleep(25);
      expect(sink.opened).toEqual([]);
      const reader = openReader(path);
      await until(() => sink.opened.length > 0);
      const parseRest = begin(reader);
      expect(write(sink, 1, 1, 60)).toBe('accepted');
      expect(parseRest(readSome(reader).bytes).records.map(({ number }) => number)).toEqual([1]);
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
      const parseRest = begin(first.reader);
      offer(first, 1, 1, 60);
      expect(await first.output.empty(1000)).toBe(true);
      const second = createSink();
      second.output.open(first.path, true);
      offer(second, 2, 1, 60);
      expect(await second.output.empty(1000)).toBe(true);
      await first.output.close(0);
      await second.output.close(0);
      const { bytes, end } = readSome(first.reader);
      expect(end).toBe(true);
      expect(parseRest(bytes)).toMatchObject({
        records: [{ number: 1 }, { number: 2 }],
        outcome: { damageCount: 0, packets: 2 },
      });
    });

    test('another one gives up what the first one’s reader did not take, and counts it', () => {
      const sink = openBoth();
      const parseFirst = begin(sink.reader);
      for (let number = 0; number < 100; number++) write(sink, number, 1 + (number % 2), 30_000);
      const early = readSome(sink.reader, 100_000).bytes;
      const next = makeFifo();
      const reader = openReader(next);
      sink.output.open(next);
      const parseNext = begin(reader);
      // With other bytes in the same places.
      for (let number = 100; number < 120; number++) expect(write(sink, number, 1, 30_000)).toBe('accepted');
      const late = readSome(sink.reader).bytes;
      const { records } = parseFirst(Buffer.concat([early, late]));
      // Those that it reads later were given up all the same.
      const read = way === undefined ? records : parseFirst(early).records;
      expect(sink.closed).toEqual([
        {
          path: sink.path,
          reason: 'replaced by another output',
          lost: countByVlan(Array.from({ length: 100 - read.length }, (_, index) => ({ vlan: 2 - (index % 2) }))),
        },
      ]);
      expect(records).toEqual(
        records.map((_, number) => ({ number, vlan: 1 + (number % 2), length: 30_000, intact: true })),
      );
      expect(records.length).toBeGreaterThan(read.length - 1);
      expect(sink.opened).toEqual([sink.path, next]);
      expect(parseNext(readSome(reader).bytes).records[0]).toEqual({
        number: 100,
        vlan: 1,
        length: 30_000,
        intact: true,
      });
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
    test('is noticed without a further packet when something waits', async () => {
      const sink = openBoth();
      for (let number = 0; number < 40; number++) write(sink, number, 5, 50_000);
      closeReader(sink.reader);
      await until(() => sink.closed.length > 0);
      expect(sink.closed[0]).toMatchObject({ path: sink.path, reason: 'the engine closed its input' });
      expect(offer(sink, 4, 5, 60)).toBe('closed');
      expect(sink.output.blocked).toBe(false);
    });

    test('loses the records that were not read, by VLAN id: read + lost = accepted', async () => {
      await fc.assert(
        fc.asyncProperty(steps, async (plan) => {
          const sink = openBoth();
          const { accepted, got } = await run(sink, plan);
          // Of bytes that were copied, those that are in the FIFO count as read.
          if (way === undefined) got.push(readSome(sink.reader).bytes);
          closeReader(sink.reader);
          if (write(sink, plan.length, 4094, 5000) === 'accepted') {
            accepted.push({ number: plan.length, vlan: 4094, length: 5000, intact: true });
          } else {
            await sink.output.close(0);
          }
          expect(sink.closed).toHaveLength(1);
          const { records } = parse(Buffer.concat(got));
          expect(records).toEqual(accepted.slice(0, records.length));
          expect(sink.closed[0]?.lost).toEqual(countByVlan(accepted.slice(records.length)));
        }),
        { numRuns: 20 },
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
      let accepted = 0;
      while (accepted < 2000 && offer(sink, accepted, 3, 60) === 'accepted') accepted++;
      sink.output.flush();
      await ended;
      while (sink.closed.length === 0) write(sink, 0, 4, 9000);
      const received = parse(Buffer.concat(chunks)).records.length;
      expect(received).toBeGreaterThan(300);
      expect(received + (sink.closed[0]?.lost.get(3) ?? 0)).toBeLessThanOrEqual(accepted);
    });

    test('is closed at once, though it has left something in the FIFO', async () => {
      const sink = openBoth();
      for (let number = 0; number < 4; number++) write(sink, number, 9, 1000);
      closeReader(sink.reader);
      // It would take that long if it were waited for.
      await sink.output.close(2 ** 30);
      expect(sink.closed[0]?.lost).toEqual(way === undefined ? new Map() : new Map([[9, 4]]));
    });

    test('can be followed by another one on a new FIFO', () => {
      const sink = openBoth();
      closeReader(sink.reader);
      write(sink, 1, 1, 9000);
      expect(offer(sink, 1, 1, 9000)).toBe('closed');
      const path = makeFifo();
      const reader = openReader(path);
      sink.output.open(path);
      const parseRest = begin(reader);
      expect(write(sink, 2, 1, 9000)).toBe('accepted');
      expect(parseRest(readSome(reader).bytes).records.map(({ number }) => number)).toEqual([2]);
    });
  });

  describe('closing', () => {
    test('takes nothing more, and first writes what waits', async () => {
      const sink = openBoth();
      for (let number = 0; number < 50; number++) offer(sink, number, 1, 40_000);
      let closed = false;
      const closing = sink.output.close(10_000).then(() => (closed = true));
      expect(offer(sink, 50, 1, 60)).toBe('closed');
      const got: Buffer[] = [];
      while (!closed) {
        got.push(readSome(sink.reader, 100_000).bytes);
        await sleep(0);
      }
      await closing;
      const last = readSome(sink.reader);
      expect(last.end).toBe(true);
      expect(parse(Buffer.concat([...got, last.bytes])).records).toHaveLength(50);
      expect(sink.closed).toEqual([{ path: sink.path, reason: 'closed by the agent', lost: new Map() }]);
    });

    test('gives up after the grace time and counts what was not written, or not read', async () => {
      const sink = openBoth();
      for (let number = 0; number < 50; number++) offer(sink, number, 9, 40_000);
      await sink.output.close(5);
      const { bytes, end } = readSome(sink.reader);
      expect(end).toBe(true);
      const written = parse(bytes).records;
      expect(written.length).toBeLessThan(50);
      expect(written.every(({ intact }) => intact)).toBe(true);
      expect(sink.closed[0]?.lost).toEqual(new Map([[9, way === undefined ? 50 - written.length : 50]]));
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
      for (let number = 0; number < 50; number++) write(sink, number, 1, 40_000);
      const closing = sink.output.close(10_000);
      const next = makeFifo();
      const reader = openReader(next);
      sink.output.open(next);
      for (let number = 5; number < 10; number++) write(sink, number, 1, 40_000);
      await closing;
      expect(sink.closed.map(({ path }) => path)).toEqual([sink.path]);
      expect(offer(sink, 10, 1, 60)).toBe('accepted');
      expect(readSome(reader).bytes.subarray(0, 24)).toEqual(pcapFileHeader());
    });

    test('twice, or without anything open, is nothing special', async () => {
      const sink = openBoth();
      readSome(sink.reader);
      await sink.output.close(1000);
      await sink.output.close(1000);
      await sink.output.empty(1000);
      sink.output.flush();
      expect(sink.closed).toHaveLength(1);
      expect(offer(sink, 1, 1, 60)).toBe('closed');
    });
  });
});
