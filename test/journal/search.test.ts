import { appendFile, mkdtemp, rm, truncate, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { followJournal, journalEnd, searchJournal, type JournalFilter } from '../../agent/journal/search.ts';
import { segmentPath } from '../../agent/journal/segment.ts';
import { foundEvent } from './fixtures/events.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'search-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const segment = (sequence: number): string => segmentPath(directory, sequence);
const write = (sequence: number, ...lines: string[]): Promise<void> =>
  writeFile(segment(sequence), lines.map((line) => `${line}\n`).join(''));
const append = (sequence: number, text: string): Promise<void> => appendFile(segment(sequence), text);
const idOf = (line: string): number => JSON.parse(line).record.number;

async function search(
  filter: JournalFilter = {},
  order: 'newest' | 'oldest' = 'oldest',
): Promise<{ ids: number[]; skipped: number }> {
  const ids = [];
  let skipped = 0;
  for await (const { line } of searchJournal({ directory, filter, order, onSkip: () => void (skipped += 1) })) {
    ids.push(idOf(line));
  }
  return { ids, skipped };
}

describe('searching', () => {
  test('gives the events of all segments in both orders, as the lines that they are', async () => {
    await write(0, foundEvent(0), foundEvent(1));
    await write(2, foundEvent(2));
    await write(3);
    await write(1_000_000, foundEvent(3), foundEvent(4));
    expect((await search({}, 'oldest')).ids).toEqual([0, 1, 2, 3, 4]);
    expect((await search({}, 'newest')).ids).toEqual([4, 3, 2, 1, 0]);
    for await (const { line } of searchJournal({ directory, filter: {}, order: 'newest' })) {
      expect(line).toBe(foundEvent(4));
      break;
    }
  });

  test.each<[string, JournalFilter, number[]]>([
    ['a signature', { signatures: [{ id: '21562' }] }, [1, 2]],
    ['a signature with its generator', { signatures: [{ generator: '1', id: '21562' }] }, [1]],
    ['a signature with its revision', { signatures: [{ id: '21562', revision: '9' }] }, []],
    ['one of several signatures', { signatures: [{ id: '999' }, { generator: '116', id: '21562' }] }, [2, 5]],
    ['the pod that sent', { pods: [{ namespace: 'shop', name: 'client' }] }, [3]],
    ['the pod that received', { pods: [{ namespace: 'shop', name: 'server' }] }, [4]],
    ['the pod that saw it', { pods: [{ namespace: 'shop', name: 'seer' }] }, [5]],
    ['a pod of that name in that namespace only', { pods: [{ namespace: 'other', name: 'client' }] }, []],
    ['a resource', { resources: [{ namespace: 'shop', name: 'own' }] }, [6]],
    ['an address at either end', { ips: ['10.9.9.9'] }, [6, 7]],
    ['a least severity', { minSeverity: 90 }, [7]],
    ['several of these at once', { ips: ['10.9.9.9'], minSeverity: 90, signatures: [{ id: '100' }] }, [7]],
    ['no event at all', { ips: ['10.9.9.9'], signatures: [{ id: '21562' }] }, []],
  ])('finds the events of %s', async (_, filter, expected) => {
    await write(
      0,
      foundEvent(0),
      foundEvent(1, {}, { snort_signature_id: '21562' }),
      foundEvent(2, {}, { snort_signature_id: '21562', generator_id: '116' }),
      foundEvent(3, { source_namespace: 'shop', source_name: 'client' }),
      foundEvent(4, { dest_namespace: 'shop', dest_name: 'server' }),
      foundEvent(5, {}, { snort_signature_id: '999', seen_at: [{ namespace: 'shop', name: 'seer', interface: 'c' }] }),
      foundEvent(6, { origin: 'dpi.shop/own', source_ip: '10.9.9.9' }),
      foundEvent(7, { dest_ip: '10.9.9.9', severity: 100 }),
      foundEvent(8, {}, { message: '"snort_signature_id":"21562" 10.9.9.9 client' }),
    );
    expect(await search(filter, 'oldest')).toEqual({ ids: expected, skipped: 0 });
    expect((await search(filter, 'newest')).ids).toEqual(expected.toReversed());
  });

  test('since is included, until is not, and an event that stands for many covers their time', async () => {
    const at = (minute: number): string => `2026-11-24T00:0${minute}:00.000000Z`;
    await write(
      0,
      foundEvent(0, {}, { timestamp: at(1), count: 7, last_timestamp: at(4) }),
      foundEvent(3, {}, { timestamp: at(3) }),
      foundEvent(2, {}, { timestamp: at(2) }),
      foundEvent(9, {}, { timestamp: 'yesterday' }),
    );
    const ids = async (filter: JournalFilter): Promise<number[]> => (await search(filter)).ids;
    expect(await ids({ since: Date.parse(at(3)) })).toEqual([0, 3]);
    expect(await ids({ until: Date.parse(at(3)) })).toEqual([0, 2]);
    expect(await ids({ since: Date.parse(at(2)), until: Date.parse(at(3)) })).toEqual([0, 2]);
    expect(await ids({ since: Date.parse(at(5)) })).toEqual([]);
  });

  test('a segment that was last changed before since is not opened', async () => {
    await write(0, foundEvent(0, {}, { timestamp: '2026-11-24T00:00:00Z' }), '}');
    await utimes(segment(0), new Date('2026-11-01T00:00:00Z'), new Date('2026-11-01T00:00:00Z'));
    expect(await search({ since: Date.parse('2026-11-02T00:00:00Z') })).toEqual({ ids: [], skipped: 0 });
    expect(await search({ since: Date.parse('2026-10-02T00:00:00Z') })).toEqual({ ids: [0], skipped: 1 });
  });

  test.each(['newest', 'oldest'] as const)('damage is passed over and counted, %s first', async (order) => {
    await write(
      0,
      foundEvent(0),
      '',
      'no JSON',
      '{"torn":',
      '[]',
      '{"severity":100,"record":{}}',
      `{"filler":"${'x'.repeat(3 << 20)}"}`,
      foundEvent(1).replace('{', '{\0'),
      foundEvent(1),
    );
    await append(0, foundEvent(2).slice(0, -3));
    const { ids, skipped } = await search({}, order);
    expect(ids.toSorted((a, b) => a - b)).toEqual([0, 1]);
    expect(skipped).toBe(7);
  });

  test.each(['newest', 'oldest'] as const)(
    'lines of all lengths that lie across the chunks come whole, %s first',
    async (order) => {
      const lines = Array.from({ length: 60 }, (_, number) =>
        foundEvent(number, {}, { payload: 'x'.repeat((number * 7919 * 13) % 200_000) }),
      );
      lines.push(foundEvent(60, {}, { payload: 'x'.repeat(1_040_000) }), foundEvent(61));
      await write(0, ...lines);
      const expected = order === 'newest' ? lines.toReversed() : lines;
      const found = [];
      for await (const { line } of searchJournal({ directory, filter: {}, order })) found.push(line);
      expect(found.length).toBe(62);
      expect(found.every((line, index) => line === expected[index])).toBe(true);
      const every = { signatures: [{ id: '100' }] };
      expect((await search(every, order)).ids).toEqual((await search({}, order)).ids);
    },
  );

  test('a segment that is evicted during the search is left out or read to its end', async () => {
    await write(0, foundEvent(0));
    await write(1, foundEvent(1), foundEvent(2));
    const ids = [];
    for await (const { line } of searchJournal({ directory, filter: {}, order: 'newest' })) {
      ids.push(idOf(line));
      if (ids.length === 1) await Promise.all([unlink(segment(0)), unlink(segment(1))]);
    }
    expect(ids).toEqual([2, 1]);
  });

  test('a folder that is not there is an error', async () => {
    await rm(directory, { recursive: true });
    await expect(search()).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('following', () => {
  /** Follows until `count` events have come; `then` is called with how many came so far. */
  async function follow(
    count: number,
    then: (came: number) => Promise<unknown> | undefined,
    options: Partial<Parameters<typeof followJournal>[0]> = {},
  ): Promise<number[]> {
    const stopping = new AbortController();
    const ids: number[] = [];
    const events = followJournal({ directory, filter: {}, signal: stopping.signal, ...options });
    const first = then(0);
    for await (const { line } of events) {
      ids.push(idOf(line));
      await then(ids.length);
      // What comes now was not to come.
      if (ids.length >= count) setTimeout(() => stopping.abort(), 600);
    }
    await first;
    return ids;
  }

  test('what is there comes first, then what is appended, over rotation, once and in order', async () => {
    await write(0, foundEvent(0), foundEvent(1));
    const ids = await follow(6, async (came) => {
      if (came === 2) await append(0, `${foundEvent(2)}\n`);
      if (came === 3) {
        await append(0, `${foundEvent(3)}\n`);
        await write(4, foundEvent(4));
        await append(4, `${foundEvent(5)}\n`);
      }
    });
    expect(ids).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('a line is given when it has its end', async () => {
    await write(0, foundEvent(0));
    const line = foundEvent(1);
    const ids = await follow(2, async (came) => {
      if (came !== 1) return;
      await append(0, line.slice(0, 50));
      void delay(400).then(() => append(0, `${line.slice(50)}\n`));
    });
    expect(ids).toEqual([0, 1]);
  });

  test('a segment that is evicted while it is read is read to its end', async () => {
    await write(0, foundEvent(0));
    const ids = await follow(3, async (came) => {
      if (came !== 1) return;
      await append(0, `${foundEvent(1)}\n`);
      await unlink(segment(0));
      await write(2, foundEvent(2));
    });
    expect(ids).toEqual([0, 1, 2]);
  });

  test('what a writer cuts off and writes again comes once', async () => {
    await write(0, foundEvent(0), foundEvent(1));
    const ids = await follow(3, async (came) => {
      if (came !== 2) return;
      await truncate(segment(0), foundEvent(0).length + 1);
      await delay(400);
      await append(0, `${foundEvent(1)}\n${foundEvent(2)}\n`);
    });
    expect(ids).toEqual([0, 1, 2]);
  });

  test('from the end of a journal only what is new comes', async () => {
    await write(0, foundEvent(0));
    await write(1, foundEvent(1));
    await append(1, foundEvent(2).slice(0, 9));
    const from = await journalEnd(directory);
    expect(from).toEqual({ segment: 1, offset: foundEvent(1).length + 1 });
    await append(1, `${foundEvent(2).slice(9)}\n`);
    expect(await follow(1, () => undefined, from === undefined ? {} : { from })).toEqual([2]);
  });

  test('a journal without segments is waited for, and one that was emptied begins again', async () => {
    expect(await journalEnd(directory)).toBeUndefined();
    const ids = await follow(2, async (came) => {
      if (came === 0) await delay(300).then(() => write(0, foundEvent(7)));
      if (came !== 1) return;
      void (async () => {
        await unlink(segment(0));
        // Long enough for the emptied folder to be noticed.
        await delay(2_000);
        await write(0, foundEvent(0));
      })();
    });
    expect(ids).toEqual([7, 0]);
  });

  test('the filter holds for what comes', async () => {
    await write(0, foundEvent(0), foundEvent(1, { severity: 100 }));
    const ids = await follow(
      2,
      (came) => (came === 1 ? append(0, `${foundEvent(2)}\n${foundEvent(3, { severity: 90 })}\n`) : undefined),
      { filter: { minSeverity: 90 } },
    );
    expect(ids).toEqual([1, 3]);
  });
});
