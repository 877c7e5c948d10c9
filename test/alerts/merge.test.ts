import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import { createMerger, type Merger } from '../../agent/alerts/merge.ts';
import { positionText, type Position } from '../../agent/engine/alert.ts';
import { attributedAlert, endpointOf } from '../support/attributed.ts';

const WINDOW = 100;

interface Spec {
  at?: string;
  micros?: number;
  sid?: number;
  port?: number;
  resource?: string;
  generation?: string;
}

let offsets = 0;

function alert(spec: Spec = {}): AttributedAlert {
  const { at = 'a', micros = 0, sid = 1, port = 1000, resource = 'default/dpi', generation = 'g' } = spec;
  const source = { ip: '10.0.0.1', port };
  return attributedAlert(
    { timeMicros: 1_700_000_000_000_000 + micros, sid, source },
    { position: { generation, offset: offsets++ }, resource, seenAt: [endpointOf(at)] },
  );
}

const positions = (alerts: AttributedAlert[]): Position[] => alerts.map(({ position }) => position);
const seenAt = (alerts: AttributedAlert[]): string[] => alerts.map((one) => one.seenAt.map(({ id }) => id).join(' '));

/** Two endpoints, a and b: who was seen at both waits no more. */
const twoEndpoints = (): Merger => createMerger(WINDOW, ({ seenAt: { length } }) => length < 2);

describe('twins', () => {
  test('become one that names both endpoints, and both positions', () => {
    const merger = twoEndpoints();
    const [first, second] = [alert(), alert({ at: 'b', micros: 50 })];
    expect(merger.add(first, 0)).toBe('added');
    expect(merger.add(second, 1)).toBe('merged');
    expect(merger.releaseAll()).toEqual([
      { ...first, seenAt: [endpointOf('a'), endpointOf('b')], mergedPositions: [second.position] },
    ]);
  });

  test('tell the peers that one of them knows, and the first one’s where both do', () => {
    const merger = twoEndpoints();
    const peer = (name: string) => ({ namespace: 'default', name, nameAggr: '-' });
    merger.add({ ...alert(), source: peer('first') }, 0);
    merger.add({ ...alert({ at: 'b' }), source: peer('second'), destination: peer('other') }, 0);
    expect(merger.releaseAll()).toMatchObject([{ source: { name: 'first' }, destination: { name: 'other' } }]);
  });

  test('of one endpoint that moves between lanes are of one packet where they are of one time', () => {
    const merger = createMerger(
      WINDOW,
      () => true,
      (id) => id === 'a',
    );
    const first = alert({ generation: 'lane0-1' });
    const second = alert({ generation: 'lane1-1', micros: 900 });
    expect(merger.add(first, 0)).toBe('added');
    expect(merger.add(second, 0)).toBe('merged');
    // The next packet, and another alert of the same engine.
    expect(merger.add(alert({ generation: 'lane1-1', micros: 2_000 }), 0)).toBe('added');
    expect(merger.add(alert({ generation: 'lane0-1' }), 0)).toBe('added');
    expect(merger.add(alert({ generation: 'lane0-1', at: 'b', micros: 10 }), 0)).toBe('merged');
    const [one] = merger.releaseAll();
    expect(one).toMatchObject({ seenAt: [{ id: 'a' }, { id: 'b' }] });
  });

  test('of one endpoint that stays are of two packets, whatever engines found them', () => {
    const merger = createMerger(WINDOW, () => true);
    merger.add(alert({ generation: 'lane0-1' }), 0);
    merger.add(alert({ generation: 'lane0-1', at: 'b', micros: 10 }), 0);
    expect(merger.add(alert({ generation: 'lane0-2', micros: 900 }), 0)).toBe('added');
  });

  test.each([
    ['signature', { sid: 2 }],
    ['port', { port: 1001 }],
    ['resource', { resource: 'default/other' }],
    ['endpoint that is the same', { at: 'a' }],
    ['time further off than the window', { micros: WINDOW * 1000 + 1 }],
    ['time further back than the window', { micros: -WINDOW * 1000 - 1 }],
  ])('are not two alerts with another %s', (_what, other) => {
    const merger = twoEndpoints();
    expect(merger.add(alert(), 0)).toBe('added');
    expect(merger.add(alert({ at: 'b', ...other }), 0)).toBe('added');
    expect(merger.releaseAll()).toHaveLength(2);
  });

  test('are not the alerts of two pods with one address, at the same end of their flows', () => {
    const merger = createMerger(WINDOW, () => true);
    const seenBy = (id: string, address: string): AttributedAlert => ({
      ...alert(),
      seenAt: [{ ...endpointOf(id), addresses: [address] }],
    });
    merger.add(seenBy('red', '10.0.0.1'), 0);
    merger.add(seenBy('blue', '10.0.0.1'), 0);
    merger.add(seenBy('server', '10.0.0.2'), 0);
    expect(seenAt(merger.releaseAll())).toEqual(['red server', 'blue']);
  });

  test('have the same bytes, where both have some', () => {
    const merger = createMerger(WINDOW, () => true);
    const carrying = (at: string, text: string): AttributedAlert => {
      const { alert: inner, ...rest } = alert({ at });
      return { ...rest, alert: { ...inner, payload: Buffer.from(text) } };
    };
    merger.add(carrying('a', 'one'), 0);
    merger.add(carrying('b', 'other'), 0);
    merger.add(carrying('c', 'other'), 0);
    merger.add(alert({ at: 'd' }), 0);
    expect(seenAt(merger.releaseAll())).toEqual(['a d', 'b c']);
  });

  test('may lie a whole window apart, either way round', () => {
    for (const micros of [WINDOW * 1000, -WINDOW * 1000]) {
      const merger = twoEndpoints();
      merger.add(alert(), 0);
      expect(merger.add(alert({ at: 'b', micros }), 0)).toBe('merged');
    }
  });

  test.each([
    ['a a b b', ['a b', 'a b']],
    ['a b a b', ['a b', 'a b']],
    ['a b b a', ['a b', 'b a']],
    ['a a b', ['a b', 'a']],
    ['a b b', ['a b', 'b']],
  ])('are paired in order: %s', (order, expected) => {
    const merger = twoEndpoints();
    for (const at of order.split(' ')) merger.add(alert({ at }), 0);
    expect(seenAt(merger.releaseAll())).toEqual(expected);
  });

  test('can be three, where a third endpoint saw it too', () => {
    const merger = createMerger(WINDOW, () => true);
    for (const at of ['a', 'b', 'c']) merger.add(alert({ at }), 0);
    expect(seenAt(merger.releaseAll())).toEqual(['a b c']);
  });

  test('are none with a window of 0', () => {
    const merger = createMerger(0, () => true);
    expect(merger.add(alert(), 5)).toBe('added');
    expect(merger.add(alert({ at: 'b' }), 5)).toBe('added');
    expect(merger.releaseDue(5)).toHaveLength(2);
  });
});

describe('waiting', () => {
  test('lasts for the window, and no longer', () => {
    const merger = twoEndpoints();
    merger.add(alert(), 1000);
    expect(merger.nextDue()).toBe(1000 + WINDOW);
    expect(merger.releaseDue(1000 + WINDOW - 1)).toEqual([]);
    expect(merger.releaseDue(1000 + WINDOW)).toHaveLength(1);
    expect(merger.nextDue()).toBeUndefined();
  });

  test('ends at once for an alert that has no twin, or has found its last one', () => {
    const none = createMerger(WINDOW, () => false);
    none.add(alert(), 7);
    expect(none.releaseDue(7)).toHaveLength(1);
    const merger = twoEndpoints();
    merger.add(alert(), 7);
    merger.add(alert({ at: 'b' }), 8);
    expect(merger.nextDue()).toBe(8);
    expect(merger.releaseDue(8)).toHaveLength(1);
  });

  test('holds back those behind, which leave with it', () => {
    const merger = createMerger(WINDOW, ({ alert: { sid } }) => sid === 1);
    const [before, waits, behind] = [alert({ sid: 2 }), alert(), alert({ sid: 3 })];
    for (const one of [before, waits, behind]) merger.add(one, 0);
    expect(positions(merger.releaseDue(0))).toEqual([before.position]);
    expect(merger.nextDue()).toBe(WINDOW);
    expect(positions(merger.releaseDue(WINDOW))).toEqual(positions([waits, behind]));
  });

  test('goes on for the others of a flow when one has left', () => {
    const merger = twoEndpoints();
    merger.add(alert(), 0);
    merger.add(alert(), 50);
    expect(merger.releaseDue(WINDOW)).toHaveLength(1);
    expect(merger.add(alert({ at: 'b' }), WINDOW)).toBe('merged');
    expect(seenAt(merger.releaseAll())).toEqual(['a b']);
  });

  test('has ended for a twin that comes too late: it is an alert of its own', () => {
    const merger = twoEndpoints();
    merger.add(alert(), 0);
    merger.releaseDue(WINDOW);
    expect(merger.add(alert({ at: 'b' }), WINDOW)).toBe('added');
  });
});

describe('bounds', () => {
  test('a flow has 256 alerts that wait; further ones don’t, and can’t be joined', () => {
    const merger = twoEndpoints();
    for (let count = 0; count < 300; count++) merger.add(alert(), 0);
    const results = Array.from({ length: 300 }, () => merger.add(alert({ at: 'b' }), 0));
    expect(results.filter((result) => result === 'merged')).toHaveLength(256);
    expect(merger.releaseAll()).toHaveLength(600 - 256);
  });

  test('with 10,000 held no further one waits, and those that do can still be joined', () => {
    const merger = twoEndpoints();
    for (let count = 0; count < 10_010; count++) merger.add(alert({ sid: count }), 0);
    const results = Array.from({ length: 10_010 }, (_, sid) => merger.add(alert({ at: 'b', sid }), 0));
    expect(results.slice(0, 10_000).every((result) => result === 'merged')).toBe(true);
    expect(results.slice(10_000).every((result) => result === 'added')).toBe(true);
  });

  test('one alert takes 64 others in, and the next one begins anew', () => {
    const merger = createMerger(WINDOW, () => true);
    for (let count = 0; count < 70; count++) merger.add(alert({ at: `e${count}` }), 0);
    expect(merger.releaseAll().map(({ mergedPositions }) => mergedPositions.length)).toEqual([64, 4]);
  });

  test('what has left is forgotten: its flow can wait again', () => {
    const merger = twoEndpoints();
    for (let round = 0; round < 3; round++) {
      for (let count = 0; count < 256; count++) merger.add(alert(), 0);
      expect(merger.releaseDue(WINDOW)).toHaveLength(256);
    }
    merger.add(alert(), 0);
    expect(merger.add(alert({ at: 'b' }), 0)).toBe('merged');
  });
});

describe('whatever comes', () => {
  const step = fc.record({
    at: fc.constantFrom('a', 'b', 'c'),
    micros: fc.integer({ min: 0, max: 250_000 }),
    sid: fc.integer({ min: 1, max: 2 }),
    generation: fc.constantFrom('g', 'h'),
    /** Milliseconds until the next one. */
    pause: fc.integer({ min: 0, max: 60 }),
    take: fc.boolean(),
  });

  test('each alert leaves once, as itself or in another one; in order within a generation; after the window at the latest', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        // sid 1 may be seen at three places, sid 2 at one.
        const merger = createMerger(WINDOW, ({ alert: { sid }, seenAt: at }) => sid === 1 && at.length < 3);
        const added: Position[] = [];
        const addedAt = new Map<Position, number>();
        const left: AttributedAlert[] = [];
        let now = 0;
        for (const { pause, take, ...spec } of steps) {
          const one = alert(spec);
          added.push(one.position);
          addedAt.set(one.position, now);
          merger.add(one, now);
          now += pause;
          if (!take) continue;
          left.push(...merger.releaseDue(now));
          const gone = new Set(left.flatMap(({ position, mergedPositions }) => [position, ...mergedPositions]));
          for (const position of added) {
            if (now - (addedAt.get(position) ?? 0) >= WINDOW) expect(gone).toContain(position);
          }
          expect(merger.nextDue() ?? Infinity).toBeGreaterThan(now);
        }
        left.push(...merger.releaseAll());
        expect(merger.nextDue()).toBeUndefined();
        const out = left.flatMap(({ position, mergedPositions }) => [position, ...mergedPositions]);
        expect(out.map(positionText).toSorted()).toEqual(added.map(positionText).toSorted());
        for (const generation of ['g', 'h']) {
          const own = left.flatMap(({ position }) => (position.generation === generation ? [position.offset] : []));
          expect(own).toEqual(own.toSorted((x, y) => x - y));
        }
        for (const { seenAt: at } of left) expect(new Set(at.map(({ id }) => id)).size).toBe(at.length);
      }),
    );
  });
});
