import { expect, test } from '@jest/globals';
import { createAttempts, type Attempts } from '../../agent/ui/attempts.ts';

function create(): {
  attempts: Attempts;
  fail: (address: string, times?: number) => void;
  advance: (millis: number) => void;
} {
  let now = 0;
  const attempts = createAttempts(() => now);
  return {
    attempts,
    fail(address, times = 10) {
      for (let number = 0; number < times; number += 1) attempts.count(address);
    },
    advance: (millis) => void (now += millis),
  };
}

test('ten failures of a sender in a minute make it wait, and nobody else', () => {
  const { attempts, fail, advance } = create();
  fail('192.0.2.1', 9);
  expect(attempts.wait('192.0.2.1')).toBe(0);
  advance(20_000);
  fail('192.0.2.1', 1);
  expect(attempts.wait('192.0.2.1')).toBe(40);
  for (let sender = 2; sender < 200; sender += 1) fail(`192.0.2.${sender}`);
  expect(attempts.wait('198.51.100.1')).toBe(0);
  advance(40_000);
  expect(attempts.wait('192.0.2.1')).toBe(0);
});

test('what was no failure is taken back', () => {
  const { attempts, fail } = create();
  fail('192.0.2.1', 9);
  const takeBack = attempts.count('192.0.2.1');
  expect(attempts.wait('192.0.2.1')).toBe(60);
  takeBack();
  expect(attempts.wait('192.0.2.1')).toBe(0);
});

test.each([
  ['2001:db8:0:7::1', '2001:db8:0:7:8000::ffff', true],
  ['2001:db8:0:7::1', '2001:db8:0:8::1', false],
  ['2001:db8:0:7::1', '2001:0DB8:0000:0007:1:2:3:4', true],
  ['fe80::1%eth0', 'fe80::2', true],
  ['::1', '2001:db8::1', false],
  ['::ffff:192.0.2.1', '192.0.2.1', true],
  ['::ffff:192.0.2.1', '::ffff:192.0.2.2', false],
  ['192.0.2.1', '192.0.2.2', false],
])('%s and %s are one sender: %s', (one, other, are) => {
  const { attempts, fail } = create();
  fail(one);
  expect(attempts.wait(other) > 0).toBe(are);
});

test('of many senders the one that failed longest ago is forgotten', () => {
  const { attempts, fail } = create();
  fail('192.0.2.1');
  fail('192.0.2.2');
  for (let sender = 0; sender < 9_999; sender += 1) fail(`10.0.${sender >> 8}.${sender & 255}`, 1);
  expect(attempts.wait('192.0.2.1')).toBe(0);
  expect(attempts.wait('192.0.2.2')).toBeGreaterThan(0);
});
