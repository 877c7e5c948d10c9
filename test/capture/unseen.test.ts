import { describe, expect, test } from '@jest/globals';
import { watchUnseen } from '../../agent/capture/unseen.ts';
import type { Seen } from '../../agent/capture/protocol.ts';
import { seeded } from '../support/random.ts';

/** Of one process that opened an interface once, unless it says otherwise. */
function seen(counted: number, captured: number, changes: Partial<Seen> = {}): Seen {
  return { name: 'cali1', ifindex: 3, interface: counted, captured, openings: 1, ...changes };
}

describe('packets that no process has seen', () => {
  test('are those that the interface counted and no process captured', () => {
    const unseen = watchUnseen();
    expect(unseen.report('a', seen(1000, 0))).toBe(0);
    expect(unseen.report('a', seen(1010, 10))).toBe(0);
    unseen.processEnded();
    // 20 of these 40 came while no process had it open.
    expect(unseen.report('a', seen(1050, 20))).toBe(20);
    expect(unseen.report('a', seen(1050, 20))).toBe(0);
    expect(unseen.report('a', seen(1060, 30))).toBe(0);
  });

  test('are not what the kernel counted a little before it was captured', () => {
    const unseen = watchUnseen();
    unseen.report('a', seen(0, 0));
    unseen.report('a', seen(0, 0));
    expect(unseen.report('a', seen(100, 60))).toBe(0);
    expect(unseen.report('a', seen(200, 190))).toBe(0);
    unseen.processEnded();
    // What was in flight then is counted at first, and is right when it is quiet.
    expect(unseen.report('a', seen(300, 40))).toBe(70);
    expect(unseen.report('a', seen(300, 100))).toBe(-60);
    expect(unseen.report('a', seen(300, 100))).toBe(0);
  });

  test('are all that an interface has counted that was made anew, but for what is captured of it', () => {
    const unseen = watchUnseen();
    const anew = { ifindex: 4, openings: 2 };
    unseen.report('a', seen(100, 100));
    unseen.report('a', seen(100, 100));
    expect(unseen.report('a', seen(5000, 4000, anew))).toBe(1000);
    expect(unseen.report('a', seen(6000, 5100, anew))).toBe(-100);
    expect(unseen.report('a', seen(6000, 5100, anew))).toBe(0);
    // While no process ran.
    unseen.processEnded();
    expect(unseen.report('a', seen(50, 20, { ifindex: 5 }))).toBe(30);
    expect(unseen.report('a', seen(50, 20, { ifindex: 5 }))).toBe(0);
  });

  test('are not told of another interface, or of one whose counters began anew', () => {
    const unseen = watchUnseen();
    unseen.report('a', seen(100, 100));
    unseen.processEnded();
    expect(unseen.report('a', seen(5000, 0, { name: 'cali2', ifindex: 4 }))).toBe(0);
    unseen.processEnded();
    expect(unseen.report('a', seen(10, 0, { name: 'cali2', ifindex: 4 }))).toBe(0);
    unseen.processEnded();
    expect(unseen.report('a', seen(17, 3, { name: 'cali2', ifindex: 4 }))).toBe(4);
  });

  test('are forgotten with their endpoint', () => {
    const unseen = watchUnseen();
    unseen.report('a', seen(100, 100));
    unseen.processEnded();
    unseen.forget('a');
    expect(unseen.report('a', seen(900, 0))).toBe(0);
  });

  test('are counted exactly over any deaths, once the interface has been quiet', () => {
    const number = seeded(99);
    const random = (below: number): number => Math.floor(number() * below);
    for (let round = 0; round < 200; round++) {
      const unseen = watchUnseen();
      let count = random(1000);
      let captured = 0;
      let missed = 0;
      let told = 0;
      let reported = 0;
      /** What was captured last is not in it yet. */
      const report = (late = 0): void => {
        reported = Math.max(reported, captured - late);
        told += unseen.report('a', seen(count, reported));
      };
      const settle = (): void => {
        report();
        report();
        expect(told).toBe(missed);
      };
      settle();
      for (let step = 0; step < 40; step++) {
        const packets = random(50);
        count += packets;
        if (random(4) > 0) {
          captured += packets;
          report(random(Math.min(10, packets + 1)));
          if (random(3) === 0) settle();
        } else {
          // It dies with what it had not reported, and some come before the next one.
          missed += captured - reported + packets;
          captured = reported = 0;
          unseen.processEnded();
        }
      }
      settle();
    }
  });
});
