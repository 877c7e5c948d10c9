import { expect, test } from '@jest/globals';
import { addressBytes } from '../../agent/endpoints/address.ts';

test.each([
  ['10.65.0.2', '0a410002'],
  ['fd65::2', 'fd650000000000000000000000000002'],
  ['::', '00000000000000000000000000000000'],
  ['::1', '00000000000000000000000000000001'],
  ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
  ['fe80::', 'fe800000000000000000000000000000'],
  ['::ffff:10.0.0.1', '00000000000000000000ffff0a000001'],
  ['::10.0.0.1', '0000000000000000000000000a000001'],
])('the bytes of %s', (address, hex) => {
  expect(addressBytes(address)?.toString('hex')).toBe(hex);
});

test('a text that is no address has no bytes', () => {
  expect(addressBytes('fe80::1%eth0')).toBeUndefined();
  expect(addressBytes('fe80::1%eth0/64')).toBeUndefined();
  expect(addressBytes('backend')).toBeUndefined();
});
