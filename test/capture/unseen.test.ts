import { describe, expect, test } from '@jest/globals';
import { watchUnseen } from '../../agent/capture/unseen.ts';
import { seeded } from '../support/random.ts';

describe('packets that no process has seen', () => {
  test('are those that the interface counted and no process captured', () => {
    const unseen = watchUnseen();
    unseen.attached('a', 3);
    expect(unseen.report('a', { interface: 1000, captured: 0, openings: 1 })).toBe(0);
    expect(unseen.report('a', { interface: 1010, captured: 10, openings: 1 })).toBe(0);
    unseen.processEnded();
    unseen.attached('a', 3);
    // 20 of these 40 came while no process had it open.
    expect(unseen.report('a', { interface: 1050, captured: 20, openings: 1 })).toBe(20);
    expect(unseen.report('a', { interface: 1050, captured: 20, openings: 1 })).toBe(0);
    expect(unseen.report('a', { interface: 1060, captured: 30, openings: 1 })).toBe(0);
  });

  test('are not what the kernel counted a little before it was captured', () => {
    const unseen = watchUnseen();
    unseen.attached('a', 3);
    unseen.report('a', { interface: 0, captured: 0, openings: 1 });
    unseen.report('a', { interface: 0, captured: 0, openings: 1 });
    expect(unseen.report('a', { interface: 100, captured: 60, openings: 1 })).toBe(0);
    expect(unseen.report('a', { interface: 200, captured: 190, openings: 1 })).toBe(0);
    unseen.processEnded();
    // What was in flight then is counted at first, and is right when it is quiet.
    expect(unseen.report('a', { interface: 300, captured: 40, openings: 1 })).toBe(70);
    expect(unseen.report('a', { interface: 300, captured: 100, openings: 1 })).toBe(-60);
    expect(unseen.report('a', { interface: 300, captured: 100, openings: 1 })).toBe(0);
  });

  test('are not told of an interface that is another one now, or whose counters began anew', () => {
    const unseen = watchUnseen();
    unseen.attached('a', 3);
    unseen.report('a', { interface: 100, captured: 100, openings: 1 });
    unseen.processEnded();
    unseen.attached('a', 4);
    expect(unseen.report('a', { interface: 5000, captured: 0, openings: 1 })).toBe(0);
    unseen.processEnded();
    expect(unseen.report('a', { interface: 10, captured: 0, openings: 1 })).toBe(0);
    unseen.processEnded();
    expect(unseen.report('a', { interface: 17, captured: 3, openings: 1 })).toBe(4);
  });

  test('are forgotten with their endpoint', () => {
    const unseen = watchUnseen();
    unseen.attached('a', 3);
    unseen.report('a', { interface: 100, captured: 100, openings: 1 });
    unseen.processEnded();
    unseen.forget('a');
    unseen.attached('a', 3);
    expect(unseen.report('a', { interface: 900, captured: 0, openings: 1 })).toBe(0);
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
        told += unseen.report('a', { interface: count, captured: reported, openings: 1 });
      };
      const settle = (): void => {
        report();
        report();
        expect(told).toBe(missed);
      };
      unseen.attached('a', 3);
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
          unseen.attached('a', 3);
        }
      }
      settle();
    }
  });
});
