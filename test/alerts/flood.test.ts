import { describe, expect, test } from '@jest/globals';
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import { createFloodControl, MAX_KINDS, type FloodControl } from '../../agent/alerts/flood.ts';
import { positionText } from '../../agent/engine/alert.ts';

const LIMIT = { burst: 3, ratePerSecond: 2, foldMillis: 10_000 };

function alertAt(
  offset: number,
  about: { generation?: string; sid?: number; endpoint?: string; resource?: string } = {},
) {
  const { generation = 'g', sid = 1, endpoint = 'shop/one', resource = 'shop/dpi' } = about;
  return {
    alert: { gid: 1, sid, timeMicros: 1_000_000 + offset },
    position: { generation, offset },
    resource,
    seenAt: [{ id: endpoint }],
  } as unknown as AttributedAlert;
}

const offsets = (alerts: AttributedAlert[]): string[] => alerts.map(({ position }) => positionText(position));

/** Those of `count` alerts, a millisecond apart, that pass. */
function passed(flood: FloodControl, count: number, from = 0): number {
  let sum = 0;
  for (let index = 0; index < count; index++) {
    if (flood.admit(alertAt(from + index), from + index) === 'passed') sum++;
  }
  return sum;
}

describe('flood control', () => {
  test('lets the burst pass, and folds what follows into one with its exact count', () => {
    const flood = createFloodControl(LIMIT);
    expect(passed(flood, 1000)).toBe(3);
    expect(flood.closeDue(10_002)).toEqual([]);
    const [fold, ...others] = flood.closeDue(10_003);
    expect(others).toEqual([]);
    expect(fold?.position).toEqual({ generation: 'g', offset: 3 });
    expect(fold?.fold).toEqual({
      count: 997,
      lastPosition: { generation: 'g', offset: 999 },
      lastTimeMicros: 1_000_999,
    });
    expect(flood.nextDue()).toBeUndefined();
  });

  test('passes and folds all: none is lost or counted twice', () => {
    const flood = createFloodControl({ ...LIMIT, foldMillis: 100 });
    let sum = 0;
    for (let now = 0; now < 5_000; now++) {
      if (flood.admit(alertAt(now), now) === 'passed') sum++;
      for (const closed of flood.closeDue(now)) sum += closed.fold?.count ?? 1;
    }
    for (const closed of flood.closeAll()) sum += closed.fold?.count ?? 1;
    expect(sum).toBe(5_000);
  });

  test('folds all of a kind while a fold is open, though tokens are there again', () => {
    const flood = createFloodControl(LIMIT);
    passed(flood, 4);
    expect(flood.admit(alertAt(10), 9_000)).toBe('folded');
    flood.closeDue(20_000);
    expect(flood.admit(alertAt(11), 20_000)).toBe('passed');
  });

  test('fills again with time, never beyond the burst', () => {
    const flood = createFloodControl(LIMIT);
    expect(passed(flood, 3)).toBe(3);
    expect(flood.admit(alertAt(5), 502)).toBe('passed');
    expect(flood.admit(alertAt(6), 502)).toBe('folded');
    flood.closeAll();
    expect(passed(flood, 100, 1_000_000)).toBe(3);
  });

  test('a single alert in a fold is an ordinary one', () => {
    const flood = createFloodControl(LIMIT);
    passed(flood, 4);
    expect(flood.closeAll()[0]).not.toHaveProperty('fold');
  });

  test.each([
    ['signature', { sid: 2 }],
    ['endpoint', { endpoint: 'shop/two' }],
    ['resource', { resource: 'shop/other' }],
  ])('another %s has a bucket of its own', (_, about) => {
    const flood = createFloodControl(LIMIT);
    passed(flood, 10);
    expect(flood.admit(alertAt(10, about), 10)).toBe('passed');
  });

  test('a fold never spans generations, and says what it holds of each', () => {
    const flood = createFloodControl(LIMIT);
    passed(flood, 10);
    for (let offset = 0; offset < 5; offset++) flood.admit(alertAt(offset, { generation: 'h' }), 10 + offset);
    expect(flood.heldFrom('g')).toBe(3);
    expect(flood.heldFrom('h')).toBe(3);
    expect(flood.heldFrom('other')).toBeUndefined();
    expect(offsets(flood.closeAll())).toEqual(['g:3', 'h:3']);
    expect(flood.heldFrom('g')).toBeUndefined();
  });

  test('a burst of 0 lets all pass', () => {
    const flood = createFloodControl({ ...LIMIT, burst: 0 });
    expect(passed(flood, 100)).toBe(100);
  });

  test('keeps its bounds with any number of kinds: those that opened first are due at once, with their counts', () => {
    const flood = createFloodControl({ ...LIMIT, burst: 1 });
    const kinds = MAX_KINDS + 1_000;
    let sum = 0;
    for (let sid = 0; sid < kinds; sid++) {
      if (flood.admit(alertAt(2 * sid, { sid }), 0) === 'passed') sum++;
      if (flood.admit(alertAt(2 * sid + 1, { sid }), 0) === 'passed') sum++;
    }
    const closed = flood.closeDue(0);
    expect(offsets(closed).slice(0, 2)).toEqual(['g:1', 'g:3']);
    expect(closed).toHaveLength(1_000);
    expect(sum + closed.length + flood.closeAll().length).toBe(2 * kinds);
  });
});
