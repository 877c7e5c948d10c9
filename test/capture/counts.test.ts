import { describe, expect, test } from '@jest/globals';
import { createCounts } from '../../agent/capture/counts.ts';
import { zeroCounters, type Counters, type Report } from '../../agent/capture/protocol.ts';

const ATTACHED = new Set(['a']);
const FIFO = '/run/g/packets.fifo';

function counters(changes: Partial<Counters>): Counters {
  return { ...zeroCounters(), ...changes };
}

function report(of: Partial<Counters>, more: Partial<Report> = {}): Report {
  return { counters: { a: counters(of) }, seen: {}, ...more };
}

describe('an endpoint', () => {
  test('has what all its processes counted, and what lay in the rings of those that died is lost', () => {
    const counts = createCounts();
    counts.report(report({ received: 10, forwarded: 7 }), ATTACHED);
    counts.processEnded();
    counts.report(report({ received: 4, forwarded: 4 }), ATTACHED);
    expect(counts.total('a')).toEqual(counters({ received: 14, forwarded: 11, droppedCaptureDied: 3 }));
  });

  const seen = (counted: number): Pick<Report, 'seen'> => ({
    seen: { a: { name: 'cali1', ifindex: 3, interface: counted, captured: 0, openings: 1 } },
  });

  test('has what none of them saw', () => {
    const counts = createCounts();
    counts.report(report({}, seen(100)), ATTACHED);
    counts.report(report({}, seen(100)), ATTACHED);
    counts.processEnded();
    counts.report(report({}, seen(105)), ATTACHED);
    expect(counts.total('a')).toEqual(counters({ received: 5, droppedCaptureDied: 5 }));
  });

  test('has nothing of what passed an interface while it was captured on another one', () => {
    const counts = createCounts();
    counts.report(report({}, seen(100)), ATTACHED);
    counts.goesOver('a');
    counts.processEnded();
    counts.report(report({}, seen(900)), ATTACHED);
    expect(counts.total('a')).toEqual(zeroCounters());
  });

  test('has no counters when it is forgotten', () => {
    const counts = createCounts();
    counts.report(report({ received: 10, forwarded: 10 }), ATTACHED);
    counts.forget('a');
    expect(counts.total('a')).toEqual(zeroCounters());
  });

  test('that is not attached is not counted', () => {
    const counts = createCounts();
    counts.report(report({ received: 10 }), new Set());
    expect(counts.total('a')).toEqual(zeroCounters());
  });
});

describe('records of a FIFO', () => {
  test('are those of all processes that handed it over', () => {
    const counts = createCounts();
    expect(counts.handed(FIFO)).toBeUndefined();
    counts.report(report({}, { handed: { path: FIFO, records: 5 } }), ATTACHED);
    counts.handedOver({ path: FIFO, records: 6 });
    expect(counts.handed(FIFO)).toBe(6);
    counts.report(report({}, { handed: { path: FIFO, records: 2 } }), ATTACHED);
    expect(counts.handed(FIFO)).toBe(8);
  });

  test('are those of the one that is open', () => {
    const counts = createCounts();
    counts.report(report({}, { handed: { path: FIFO, records: 5 } }), ATTACHED);
    counts.report(report({}, { handed: { path: '/run/h/packets.fifo', records: 1 } }), ATTACHED);
    expect(counts.handed(FIFO)).toBeUndefined();
    expect(counts.handed('/run/h/packets.fifo')).toBe(1);
  });
});
