/** Which files an engine reads by itself, and what is said of them without it. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { array, assert, asyncProperty, boolean, integer, record } from 'fast-check';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Sandbox } from '../../agent/engine/sandbox.ts';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';
import { readPlain } from '../../agent/replay/plain.ts';
import { DEFAULT_START_MICROS, LINKTYPE, writePcap, writePcapng, type Frame } from '../support/packets.ts';

const NOBODY = 65_534;
const asNobody = { uid: NOBODY, gid: NOBODY } as Sandbox;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'plain-'));
  chmodSync(folder, 0o755);
});
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(bytes: Buffer): string {
  const path = join(folder, 'a.pcap');
  writeFileSync(path, bytes);
  return path;
}

const frame = (length: number, more: Partial<Frame> = {}): Frame => ({
  timeMicros: DEFAULT_START_MICROS,
  data: Buffer.alloc(length, 1),
  ...more,
});
const FRAMES = [frame(60), frame(65_535), frame(14, { originalLength: 900 }), frame(1_500)];
const readAll = (bytes: Buffer, most = Infinity): ReturnType<typeof readPlain> =>
  readPlain(fileOf(bytes), asNobody, most);

describe('a plain file', () => {
  test('is counted as the parser counts it', async () => {
    await assert(
      asyncProperty(
        array(record({ length: integer({ min: 14, max: 20_000 }), cut: boolean() }), { minLength: 1, maxLength: 60 }),
        boolean(),
        async (packets, nanoseconds) => {
          const frames = packets.map(({ length, cut }) => frame(length, cut ? { originalLength: length + 1 } : {}));
          const bytes = writePcap(frames, { nanoseconds });
          let truncated = 0;
          const parser = createPcapParser((_seconds, _micros, captured, length) => {
            if (captured < length) truncated++;
          });
          parser.push(bytes);
          expect(parser.end()).toMatchObject({ packets: frames.length, damageCount: 0 });
          expect(await readAll(bytes)).toMatchObject({ packets: frames.length, truncated, bytes: bytes.length });
        },
      ),
      { numRuns: 50 },
    );
  });

  test('can be counted up to a packet', async () => {
    const bytes = writePcap(FRAMES);
    expect(await readAll(bytes, 2)).toMatchObject({ packets: 2, truncated: 0 });
    expect(await readAll(bytes, 3)).toMatchObject({ packets: 3, truncated: 1 });
  });

  test('is not read on once it is stopped', async () => {
    const path = fileOf(writePcap(FRAMES));
    expect(await readPlain(path, asNobody, Infinity, AbortSignal.abort())).toBeUndefined();
  });
});

describe('through the FIFO goes', () => {
  const withFrame = (one: Frame): Buffer => writePcap([...FRAMES, one, ...FRAMES]);
  const patched = (offset: number, value: number): Buffer => {
    const bytes = writePcap(FRAMES);
    bytes.writeUInt32LE(value, offset);
    return bytes;
  };

  test.each<[string, Buffer]>([
    ['pcapng', writePcapng(FRAMES)],
    ['gzip', gzipSync(writePcap(FRAMES))],
    ['the modified format', writePcap(FRAMES, { modified: true })],
    ["another machine's order of bytes", writePcap(FRAMES, { bigEndian: true })],
    ['another link type', writePcap(FRAMES, { linkType: LINKTYPE.raw })],
    ['frames with a check sequence', patched(20, 0x2400_0001)],
    ['a version before 2.4', patched(4, 0x0003_0002)],
    ['no packets', writePcap([])],
    ['half a header', writePcap([]).subarray(0, 20)],
    ['a record that is cut off', writePcap(FRAMES).subarray(0, -1)],
    ["a record's header that is cut off", Buffer.concat([writePcap(FRAMES), Buffer.alloc(15)])],
    ['zeros at the end', Buffer.concat([writePcap(FRAMES), Buffer.alloc(64)])],
    ['a time that no engine holds', withFrame(frame(60, { timeMicros: 2 ** 32 * 1e6 - 1e6 }))],
    ['less than a link header', withFrame(frame(13))],
    ['more than an engine takes', withFrame(frame(65_536))],
    ['more bytes than the packet had', withFrame(frame(60, { originalLength: 59 }))],
    ['more than the file says that packets have', patched(16, 1_000)],
  ])('%s', async (_name, bytes) => {
    expect(await readAll(writePcap(FRAMES))).toMatchObject({ packets: FRAMES.length });
    expect(await readAll(bytes)).toBeUndefined();
  });

  test("a file that the engine's user may not read", async () => {
    const path = fileOf(writePcap(FRAMES));
    chmodSync(path, 0o640);
    expect(await readPlain(path, asNobody, Infinity)).toBeUndefined();
    expect(await readPlain(path, {} as Sandbox, Infinity)).toMatchObject({ packets: FRAMES.length });
    chmodSync(path, 0o644);
    const closed = join(folder, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    writeFileSync(join(closed, 'b.pcap'), writePcap(FRAMES));
    expect(await readPlain(join(closed, 'b.pcap'), asNobody, Infinity)).toBeUndefined();
  });

  test('what is no file', async () => {
    expect(await readPlain(folder, asNobody, Infinity)).toBeUndefined();
    expect(await readPlain('/dev/stdin', asNobody, Infinity)).toBeUndefined();
    expect(await readPlain(join(folder, 'none'), asNobody, Infinity)).toBeUndefined();
  });
});
