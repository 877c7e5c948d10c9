import { expect, test } from '@jest/globals';
import type { Alert, Decoded } from '../../agent/engine/alert.ts';
import { locate } from '../../agent/lane/locate.ts';

const alert = (vlan: number, packetNumber?: number): Decoded => {
  const fields: Alert = {
    timeMicros: 1,
    vlan,
    gid: 1,
    sid: 2,
    rev: 3,
    message: '',
    classification: '',
    priority: 1,
    protocol: 'TCP',
    source: { ip: '10.0.0.1' },
    destination: { ip: '10.0.0.2' },
    ...(packetNumber === undefined ? {} : { packetNumber }),
  };
  return { kind: 'alert', start: 0, end: 1, alert: fields };
};

test('alerts without a VLAN id get the one of their record, all others stay as they are', async () => {
  const damage: Decoded = { kind: 'damage', reason: 'x', start: 0, end: 1 };
  const asked: (readonly number[])[] = [];
  const located = await locate([alert(5, 1), alert(0, 2), damage, alert(0), alert(0, 9), alert(0, 2)], (records) => {
    asked.push(records);
    return Promise.resolve(records.map((record) => (record === 2 ? 7 : undefined)));
  });
  expect(located).toEqual([alert(5, 1), alert(7, 2), damage, alert(0), alert(0, 9), alert(7, 2)]);
  expect(asked).toEqual([[2, 9]]);
});

test('nobody is asked where all have one', async () => {
  const items = [alert(5, 1), alert(0)];
  expect(await locate(items, () => Promise.reject(new Error('asked')))).toEqual(items);
});
