import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { clock, day, fullMoment, moment, setZone, zoneName } from '../../web/src/time.ts';

/** Newfoundland's. */
beforeEach(() => {
  jest.spyOn(Date.prototype, 'getTimezoneOffset').mockImplementation(function (this: Date) {
    return this.getUTCMonth() === 6 ? 150 : 210;
  });
});
afterEach(() => void jest.restoreAllMocks());

const TIME = '2025-01-31T01:02:03.456789Z';

test('times are of one form, in the zone of the browser or in UTC, and name it', () => {
  expect(fullMoment(TIME)).toBe('Jan 30 2025, 21:32:03 UTC-3:30');
  expect(moment(TIME, false)).toBe('Jan 30 2025, 21:32');
  expect(zoneName(Date.parse('2025-07-01T00:00:00Z'))).toBe('UTC-2:30');
  setZone('utc');
  expect(fullMoment(TIME)).toBe('Jan 31 2025, 01:02:03 UTC');
  expect(zoneName()).toBe('UTC');
  setZone('local');
});

test('what is no time is unknown', () => {
  expect(fullMoment('yesterday')).toBe('unknown');
});

test('what is obvious is left out: today, and this year', () => {
  const now = Date.now();
  expect(clock(now)).toMatch(/^\d\d:\d\d:\d\d$/);
  expect(clock(TIME)).toBe('Jan 30 2025, 21:32:03');
  expect(day(now)).toMatch(/^[A-Z][a-z]{2} \d{1,2}$/);
});
