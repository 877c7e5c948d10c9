import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findEvidence, withEvidence } from '../../agent/evidence/place.ts';
import { pcapng } from '../../agent/evidence/pcapng.ts';
import { openEvidenceStore } from '../../agent/evidence/store.ts';

const DAY = '2023-11-14';
const TIME = 1_700_000_000_000_000;
const MIB = 1 << 20;
const id = (number: number): string => number.toString(16).padStart(40, '0');
const event = (number: number, timeMicros = TIME) => ({ id: id(number), timeMicros });

const PACKETS = { count: 1, bytes: 60, first: 'then', last: 'now', complete: true };
const CONTENT = pcapng(
  [{ time: TIME, frame: Buffer.alloc(60), length: 60, linkType: 1 }],
  { interface: 'eth0', namespace: 'shop', pod: 'web', node: 'n' },
  [],
  JSON.stringify({ packets: PACKETS }),
);
const recordOf = (file: string): object => ({ packets: { ...PACKETS, file } });

let directory: string;
beforeEach(() => {
  directory = join(mkdtempSync(join(tmpdir(), 'dpi-evidence-')), 'evidence');
});
afterEach(() => rmSync(join(directory, '..'), { recursive: true, force: true }));

const settings = () => ({ directory, maxSize: 100 * MIB, maxAge: 0 });
const files = (): string[] =>
  existsSync(directory) ? readdirSync(directory, { recursive: true }).map(String).sort() : [];

test('a file is found by the id of each of its events, and only its owner and group read it', async () => {
  const store = await openEvidenceStore(settings());
  await store.save([event(1), event(2)], [CONTENT.subarray(0, 50), CONTENT.subarray(50)]);
  for (const eventId of [id(1), id(2)]) {
    const found = await findEvidence(directory, eventId);
    expect(found).toEqual(recordOf(`${DAY}/${eventId}.pcapng`));
    const file = join(directory, found?.packets.file ?? '');
    expect(readFileSync(file)).toEqual(CONTENT);
    expect(statSync(file).mode & 0o777).toBe(0o640);
  }
  expect(await findEvidence(directory, id(3))).toBeUndefined();
  expect(await findEvidence(directory, '../../etc/passwd')).toBeUndefined();
  expect(store.status()).toMatchObject({ files: 2, evicted: 0 });
});

test('each event has its file in the folder of its own day', async () => {
  const store = await openEvidenceStore(settings());
  await store.save([event(1), event(2, TIME + 86_400e6)], [CONTENT]);
  const recorded = { record: { event_id: id(2), timestamp: '2023-11-15T22:13:20.000000Z' } };
  expect(await withEvidence(directory, recorded)).toEqual({
    record: { ...recorded.record, ...recordOf(`2023-11-15/${id(2)}.pcapng`) },
  });
  const unknown = { record: { ...recorded.record, event_id: id(3) } };
  expect(await withEvidence(directory, unknown)).toBe(unknown);
});

test('the oldest files go first, so that all take no more than they may, also after a restart', async () => {
  const small = { ...settings(), maxSize: 3 * MIB };
  const store = await openEvidenceStore(small);
  for (let number = 1; number <= 4; number++) await store.save([event(number)], [Buffer.alloc(MIB)]);
  expect(store.status()).toMatchObject({ files: 3, bytes: 3 * MIB, evicted: 1 });
  expect(await findEvidence(directory, id(1))).toBeUndefined();
  const next = await openEvidenceStore({ ...small, maxSize: MIB });
  expect(next.status()).toMatchObject({ files: 1, bytes: MIB, evicted: 2 });
  expect(files().filter((name) => name.endsWith('.pcapng'))).toEqual([`${DAY}/${id(4)}.pcapng`]);
});

test('what is too old goes, and its folder with it', async () => {
  const store = await openEvidenceStore(settings());
  await store.save([event(1)], [Buffer.from('packets')]);
  utimesSync(join(directory, DAY, `${id(1)}.pcapng`), 1, 1);
  const next = await openEvidenceStore({ ...settings(), maxAge: 1000 });
  expect(next.status()).toEqual({ files: 0, bytes: 0, evicted: 1 });
  expect(files()).toEqual([]);
});

test('what an agent left that was killed while it wrote is no file', async () => {
  mkdirSync(join(directory, DAY), { recursive: true });
  writeFileSync(join(directory, DAY, `${id(1)}.pcapng.new`), CONTENT.subarray(0, 50));
  writeFileSync(join(directory, DAY, `${id(3)}.pcapng`), CONTENT);
  const store = await openEvidenceStore(settings());
  expect(store.status()).toMatchObject({ files: 1 });
  expect(files()).toEqual([DAY, `${DAY}/${id(3)}.pcapng`]);
});

test('what a power cut left of a file says nothing', async () => {
  mkdirSync(join(directory, DAY), { recursive: true });
  for (let length = 0; length < 200; length++) {
    writeFileSync(join(directory, DAY, `${id(1)}.pcapng`), CONTENT.subarray(0, length));
    const found = await findEvidence(directory, id(1));
    if (found !== undefined) expect(found).toEqual(recordOf(`${DAY}/${id(1)}.pcapng`));
  }
});

describe('a disk without room', () => {
  test('leaves nothing of the file that it refuses', async () => {
    const store = await openEvidenceStore(settings(), {
      write(path, [content]) {
        writeFileSync(path, content?.subarray(0, 10) ?? '');
        return Promise.reject(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' }));
      },
    });
    await expect(store.save([event(1)], [CONTENT])).rejects.toThrow('ENOSPC');
    expect(files()).toEqual([]);
    expect(store.status()).toMatchObject({ files: 0, bytes: 0 });
  });

  test('is left to the journal where there is little of it', async () => {
    let free = 60 * MIB;
    const store = await openEvidenceStore(settings(), {
      statfs: () => Promise.resolve({ bavail: free, blocks: 2 ** 40, bsize: 1 }),
    });
    await expect(store.save([event(1)], [Buffer.alloc(MIB)])).rejects.toThrow('little room');
    free = 80 * MIB;
    await store.save([event(1)], [Buffer.alloc(MIB)]);
    expect(store.status()).toMatchObject({ files: 1 });
  });
});
