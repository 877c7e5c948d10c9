import { expect, test } from '@jest/globals';
import { networkInterfaces } from 'node:os';
import { interfaceState } from '../../agent/capture/interfaces.ts';

test('the loopback interface has index 1, and is up where it has addresses', () => {
  expect(interfaceState('lo')).toEqual({ is: networkInterfaces()['lo'] === undefined ? 'down' : 'up', ifindex: 1 });
});

test.each(['nosuch0', '', '.', '..', '../../..', 'lo/../nosuch', 'a\0b'])('%j is absent', (name) => {
  expect(interfaceState(name)).toEqual({ is: 'absent' });
});
