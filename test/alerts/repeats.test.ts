import { expect, test } from '@jest/globals';
import { createRepeats } from '../../agent/alerts/repeats.ts';
import type { Alert } from '../../agent/engine/alert.ts';
import { engineAlert } from '../support/attributed.ts';

const packet = engineAlert({ sid: 7, timeMicros: 1_000_000, vlan: 3, rebuilt: false });
const body: Alert = { ...packet, rebuilt: true };

/** Which of the alerts are repeats, in this order. */
function repeatsOf(...alerts: Alert[]): boolean[] {
  const repeats = createRepeats();
  return alerts.map((alert) => repeats.isRepeat(alert));
}

test('an alert of a packet’s body repeats that of the packet, whichever comes first', () => {
  expect(repeatsOf(packet, { ...packet, sid: 8 }, body)).toEqual([false, false, true]);
  expect(repeatsOf(body, packet)).toEqual([false, true]);
});

test.each<[string, Partial<Alert>]>([
  ['signature', { sid: 8 }],
  ['revision', { rev: 9 }],
  ['endpoint', { vlan: 4 }],
  ['packet', { timeMicros: 1_000_001 }],
  ['flow', { source: { ip: '10.9.9.9', port: 1 } }],
])('one of another %s is none', (_, other) => {
  expect(repeatsOf(packet, { ...body, ...other })).toEqual([false, false]);
});

test('two packets of one time, two bodies of one packet, and alerts of formats that do not say are all kept', () => {
  expect(repeatsOf(packet, packet)).toEqual([false, false]);
  expect(repeatsOf(packet, body, body)).toEqual([false, true, false]);
  const { rebuilt: _, ...unknown } = packet;
  expect(repeatsOf(unknown, unknown, body)).toEqual([false, false, false]);
});
