import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { scanConsumed } from '../../agent/journal/journal.ts';
import type { EventLine } from '../../agent/journal/journal.ts';
import { eventLine } from './fixtures/lines.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'consumed-'));
});
afterEach(() => rm(directory, { recursive: true }));

/** Writes segments 1, 2, … */
async function segments(...contents: EventLine[][]): Promise<void> {
  for (const [index, lines] of contents.entries()) {
    await writeFile(name(index + 1), lines.map(({ json }) => `${json}\n`).join(''));
  }
}

const name = (sequence: number): string => path.join(directory, `snort-alerts-0000000${sequence}.ndjson`);

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
        ['lane1-y', { offset: 900, ids: new Set(['y1']), merged: new Map() }],
        ['lane0-x', { offset: 250, ids: new Set(['web', 'api']), merged: new Map() }],
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
    });
    expect(consumed.get('other')).toEqual({
      offset: 0,
      ids: new Set(),
      merged: new Map([[40, new Set(['dpi.shop/web'])]]),
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
    await appendFile(name(1), '{"record":{"position":"g:96","event_id":"torn"}}');
    expect(await scanConsumed(directory, ['g'], ({ bytes }) => skipped.push(bytes))).toEqual(
      new Map([['g', { offset: 10, ids: new Set(['g-10']), merged: new Map() }]]),
    );
    expect(skipped).toEqual([29, (2 << 20) + 1, 9]);
  });

  test('is nothing in an empty journal, and when nothing is asked', async () => {
    expect(await scanConsumed(directory, ['g'])).toEqual(new Map());
    await segments([eventLine('g', 10)]);
    expect(await scanConsumed(directory, [])).toEqual(new Map());
  });
});
