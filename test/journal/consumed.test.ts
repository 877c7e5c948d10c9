import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { foldKey, isConsumed, scanConsumed } from '../../agent/journal/journal.ts';
import type { EventLine } from '../../agent/journal/journal.ts';
import { eventLine } from './fixtures/lines.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'consumed-'));
});
afterEach(() => rm(directory, { recursive: true }));

/** Writes segments, oldest first. */
async function segments(...contents: EventLine[][]): Promise<void> {
  let sequence = 0;
  for (const lines of contents) {
    await writeFile(name(sequence), lines.map(({ json }) => `${json}\n`).join(''));
    sequence += lines.length;
  }
}

const name = (sequence: number): string =>
  path.join(directory, `snort-alerts-${String(sequence).padStart(12, '0')}.ndjson`);

const KEY = foldKey('dpi.shop/web', 1, '2001', 'shop/web-7d4b-x');

/** A line for many alerts of KEY. */
const fold = (generation: string, from: number, until: number, more: Record<string, unknown> = {}): EventLine =>
  eventLine(generation, from, {
    record: {
      count: 7,
      last_position: `${generation}:${until}`,
      generator_id: '1',
      snort_signature_id: '2001',
      seen_at: [
        { namespace: 'shop', name: 'web-7d4b-x', interface: 'cali1' },
        { namespace: 'shop', name: 'api', interface: 'cali2' },
      ],
      ...more,
    },
  });

/** A line that was written while alerts from `checkpoint` on were held. */
const held = (generation: string, offset: number, checkpoint: number): EventLine =>
  eventLine(generation, offset, { record: { checkpoint: `${generation}:${checkpoint}` } });

describe('what a restarting reader has consumed', () => {
  test('is the highest position of each generation, with the ids at it', async () => {
    await segments([
      eventLine('lane0-x', 100),
      eventLine('lane1-y', 900, { id: 'y1' }),
      eventLine('lane0-x', 250, { id: 'web' }),
      eventLine('lane0-x', 250, { id: 'api', origin: 'dpi.shop/api' }),
    ]);
    expect(await scanConsumed(directory, ['lane0-x', 'lane1-y', 'lane2-z'])).toEqual(
      new Map([
        ['lane1-y', { offset: 900, ids: new Set(['y1']), merged: new Map(), folds: new Map() }],
        ['lane0-x', { offset: 250, ids: new Set(['web', 'api']), merged: new Map(), folds: new Map() }],
      ]),
    );
  });

  test('includes alerts merged into another event, of any generation, but not those that the highest position covers', async () => {
    await segments([
      eventLine('g', 100, { merged: ['g:180', 'g:300', 'other:40'] }),
      eventLine('g', 150, { merged: ['g:300'], origin: 'dpi.shop/api' }),
      eventLine('g', 200, { merged: ['g:900'] }),
    ]);
    const consumed = await scanConsumed(directory, ['g', 'other']);
    expect(consumed.get('g')).toEqual({
      offset: 200,
      ids: new Set(['g-200']),
      merged: new Map([
        [300, new Set(['dpi.shop/web', 'dpi.shop/api'])],
        [900, new Set(['dpi.shop/web'])],
      ]),
      folds: new Map(),
    });
    expect(consumed.get('other')).toEqual({
      offset: 0,
      ids: new Set(),
      merged: new Map([[40, new Set(['dpi.shop/web'])]]),
      folds: new Map(),
    });
  });

  test('keeps what was merged of the alert at the highest position itself', async () => {
    await segments([eventLine('g', 100, { merged: ['g:200'] }), eventLine('g', 200, { origin: 'dpi.shop/api' })]);
    expect((await scanConsumed(directory, ['g'])).get('g')?.merged).toEqual(
      new Map([[200, new Set(['dpi.shop/web'])]]),
    );
  });

  test('is found across segments: ids of the highest position, and merged alerts, in the one before', async () => {
    await segments(
      [eventLine('g', 1)],
      [eventLine('g', 50, { merged: ['g:70'] }), eventLine('g', 60, { id: 'web' })],
      [eventLine('g', 60, { id: 'api' })],
    );
    expect((await scanConsumed(directory, ['g'])).get('g')).toEqual({
      offset: 60,
      ids: new Set(['web', 'api']),
      merged: new Map([[70, new Set(['dpi.shop/web'])]]),
      folds: new Map(),
    });
  });

  test('is looked for further back as long as segments add to it', async () => {
    await segments(...['x', 'y', 'z'].map((id) => [eventLine('g', 60, { id })]));
    expect((await scanConsumed(directory, ['g'])).get('g')?.ids).toEqual(new Set(['x', 'y', 'z']));
  });

  test('is not looked for further back than one segment that adds nothing', async () => {
    await segments(
      [eventLine('g', 9000, { id: 'never read' })],
      [eventLine('g', 10), eventLine('g', 20)],
      [eventLine('g', 30)],
      [eventLine('other', 5)],
    );
    expect((await scanConsumed(directory, ['g'])).get('g')?.offset).toBe(30);
    expect((await scanConsumed(directory, ['g', 'absent'])).get('g')?.offset).toBe(30);
  });

  test('is not confused by text in events, by damage and by a torn end', async () => {
    const skipped: number[] = [];
    await segments([
      eventLine('g', 10),
      { position: '', json: JSON.stringify({ record: { position: 'x:5', message: '"g:99"', note: ['g:98'] } }) },
      { position: '', json: '{"record":{"position":"g:97"' },
      { position: '', json: 'x'.repeat(2 << 20) },
      { position: '', json: '{"record":{"position":"g:9x6","event_id":7}}' },
      { position: '', json: '{"record":{"position":"gg:95"}}' },
      { position: '', json: '["g:94"]' },
    ]);
    await appendFile(name(0), '{"record":{"position":"g:96","event_id":"torn"}}');
    expect(await scanConsumed(directory, ['g'], ({ bytes }) => skipped.push(bytes))).toEqual(
      new Map([['g', { offset: 10, ids: new Set(['g-10']), merged: new Map(), folds: new Map() }]]),
    );
    expect(skipped).toEqual([29, (2 << 20) + 1, 9]);
  });

  test('is nothing in an empty journal, and when nothing is asked', async () => {
    expect(await scanConsumed(directory, ['g'])).toEqual(new Map());
    await segments([eventLine('g', 10)]);
    expect(await scanConsumed(directory, [])).toEqual(new Map());
  });
});

describe('with flood control', () => {
  test("a checkpoint takes the place of its line's position, and ids are those of all lines from there on", async () => {
    await segments([
      eventLine('g', 100),
      held('g', 200, 150),
      eventLine('g', 150, { id: 'late' }),
      held('g', 300, 180),
    ]);
    expect(await scanConsumed(directory, ['g'])).toEqual(
      new Map([['g', { offset: 180, ids: new Set(['g-200', 'g-300']), merged: new Map(), folds: new Map() }]]),
    );
  });

  test('the alert at the checkpoint itself is consumed only when a line, a merge or a fold says so', async () => {
    await segments([held('g', 300, 200)]);
    const consumed = (await scanConsumed(directory, ['g'])).get('g');
    expect(isConsumed(consumed, { offset: 200, id: 'g-200', origin: 'dpi.shop/web', key: KEY })).toBe(false);
    expect(isConsumed(consumed, { offset: 300, id: 'g-300', origin: 'dpi.shop/web', key: KEY })).toBe(true);
  });

  test('a fold claims nothing for the offset, unless it has a checkpoint', async () => {
    await segments([
      eventLine('g', 100),
      fold('g', 110, 900),
      fold('h', 10, 20),
      fold('i', 10, 50, { checkpoint: 'i:40' }),
    ]);
    const consumed = await scanConsumed(directory, ['g', 'h', 'i']);
    expect(consumed.get('g')).toEqual({
      offset: 100,
      ids: new Set(['g-100', 'g-110']),
      merged: new Map(),
      folds: new Map([[KEY, [{ from: 110, until: 900 }]]]),
    });
    expect(consumed.get('h')).toMatchObject({ offset: 0, folds: new Map([[KEY, [{ from: 10, until: 20 }]]]) });
    expect(consumed.get('i')).toMatchObject({
      offset: 40,
      ids: new Set(),
      folds: new Map([[KEY, [{ from: 10, until: 50 }]]]),
    });
  });

  test('folds are kept while their last alert is at the offset or behind it, wherever they begin', async () => {
    await segments([fold('g', 10, 199), fold('g', 20, 200), fold('g', 30, 300), eventLine('g', 200)]);
    expect((await scanConsumed(directory, ['g'])).get('g')?.folds).toEqual(
      new Map([
        [
          KEY,
          [
            { from: 20, until: 200 },
            { from: 30, until: 300 },
          ],
        ],
      ]),
    );
  });

  test('a count of 1, and a last position that is none or of another generation, make no fold', async () => {
    await segments([
      eventLine('g', 10),
      fold('g', 20, 90, { last_position: 'other:90' }),
      fold('g', 30, 90, { last_position: 90 }),
      fold('g', 40, 90, { count: 1 }),
    ]);
    expect((await scanConsumed(directory, ['g'])).get('g')).toEqual({
      offset: 40,
      ids: new Set(['g-40']),
      merged: new Map(),
      folds: new Map(),
    });
  });

  test('a checkpoint that is not readable claims nothing', async () => {
    await segments([eventLine('g', 10), eventLine('g', 90, { record: { checkpoint: 'g:x' } })]);
    expect((await scanConsumed(directory, ['g'])).get('g')).toMatchObject({
      offset: 10,
      ids: new Set(['g-10', 'g-90']),
    });
  });

  test('an alert is consumed by its id, by a merge for its resource, or by a fold of its key around it', async () => {
    await segments([eventLine('g', 100, { merged: ['g:500'] }), fold('g', 200, 400), held('g', 300, 150)]);
    const consumed = (await scanConsumed(directory, ['g'])).get('g');
    const alert = { offset: 250, id: 'unknown', origin: 'dpi.shop/web', key: 'other' };
    expect(isConsumed(consumed, alert)).toBe(false);
    expect(isConsumed(undefined, alert)).toBe(false);
    expect(isConsumed(consumed, { ...alert, id: 'g-300' })).toBe(true);
    expect(isConsumed(consumed, { ...alert, offset: 500 })).toBe(true);
    expect(isConsumed(consumed, { ...alert, offset: 500, origin: 'dpi.shop/api' })).toBe(false);
    const folded = [199, 200, 300, 400, 401].map((offset) => isConsumed(consumed, { ...alert, offset, key: KEY }));
    expect(folded).toEqual([false, true, true, true, false]);
  });

  test('lines behind the offset are found behind segments that other generations filled', async () => {
    await segments(
      [eventLine('g', 50), held('g', 200, 100)],
      [eventLine('other', 1)],
      [eventLine('other', 2)],
      [held('g', 300, 100)],
    );
    expect((await scanConsumed(directory, ['g', 'other'])).get('g')?.ids).toEqual(new Set(['g-200', 'g-300']));
  });

  test('an offset is looked for behind segments that only have folds, and segments that have nothing', async () => {
    await segments([eventLine('g', 700)], [eventLine('other', 1)], [fold('g', 10, 20)], [fold('g', 30, 800)]);
    expect((await scanConsumed(directory, ['g'])).get('g')).toEqual({
      offset: 700,
      ids: new Set(['g-700']),
      merged: new Map(),
      folds: new Map([[KEY, [{ from: 30, until: 800 }]]]),
    });
  });

  test('an offset is looked for behind segments that only have merged alerts of the generation', async () => {
    await segments([eventLine('g', 30)], [eventLine('other', 1)], [eventLine('other', 2, { merged: ['g:40'] })]);
    expect((await scanConsumed(directory, ['g'])).get('g')).toMatchObject({ offset: 30, ids: new Set(['g-30']) });
  });

  test('lines that a fold reaches over are found behind segments that other generations filled', async () => {
    await segments([held('g', 150, 40)], [eventLine('other', 1)], [eventLine('g', 100), fold('g', 50, 200)]);
    expect((await scanConsumed(directory, ['g'])).get('g')?.ids).toEqual(new Set(['g-100', 'g-150']));
  });

  test('the search ends at a segment with nothing but lines from before the offset', async () => {
    await segments(
      [eventLine('g', 9000, { id: 'never read' })],
      [eventLine('g', 10), fold('g', 5, 9)],
      [eventLine('other', 1)],
      [held('g', 300, 100)],
    );
    expect((await scanConsumed(directory, ['g'])).get('g')).toMatchObject({ offset: 100, ids: new Set(['g-300']) });
  });

  test('a segment with nothing but old folds does not end it', async () => {
    await segments([held('g', 200, 100)], [fold('g', 5, 9)], [held('g', 300, 100)]);
    expect((await scanConsumed(directory, ['g'])).get('g')?.ids).toEqual(new Set(['g-200', 'g-300']));
  });

  test('of very many lines, those before the offset are left out', async () => {
    const lines = Array.from({ length: 20_000 }, (_, index) =>
      index % 3 === 0 ? fold('g', index, index + 1) : held('g', index, Math.max(0, index - 10)),
    );
    await segments(lines);
    const consumed = (await scanConsumed(directory, ['g'])).get('g');
    expect(consumed?.offset).toBe(19_989);
    expect(consumed?.ids).toEqual(new Set(Array.from({ length: 11 }, (_, index) => `g-${19_989 + index}`)));
    expect(consumed?.folds.get(KEY)?.map(({ until }) => until)).toEqual([19_990, 19_993, 19_996, 19_999]);
  });
});
