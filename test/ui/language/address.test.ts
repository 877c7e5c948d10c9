import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { BlockList, isIP, isIPv6 } from 'node:net';
import { addressNumber, parseNetwork } from '../../../agent/ui/language/address.ts';

const family = (address: string): 'ipv4' | 'ipv6' => (isIPv6(address) ? 'ipv6' : 'ipv4');
const addresses = fc.oneof(fc.ipV4(), fc.ipV6());

test('an address is one to Node as well', () => {
  const texts = fc.oneof(
    addresses,
    fc.string({ unit: fc.constantFrom(...'0123456789abcdefF:.%/'.split('')), maxLength: 24 }),
  );
  fc.assert(
    fc.property(texts, (text) => {
      expect(addressNumber(text) !== undefined).toBe(isIP(text) !== 0 && !text.includes('%'));
    }),
    { numRuns: 5000 },
  );
});

test('a network has the addresses that Node says', () => {
  fc.assert(
    fc.property(addresses, addresses, fc.nat({ max: 128 }), (address, other, length) => {
      const prefix = Math.min(length, isIPv6(address) ? 128 : 32);
      fc.pre(isIPv6(address) === isIPv6(other));
      const network = parseNetwork(`${address}/${prefix}`);
      const number = addressNumber(other);
      const list = new BlockList();
      list.addSubnet(address, prefix, family(address));
      for (const [text, value] of [
        [other, number],
        [address, addressNumber(address)],
      ] as const) {
        if (network === undefined || value === undefined) throw new Error('no address');
        expect(value >= network.first && value <= network.last).toBe(list.check(text, family(text)));
      }
    }),
    { numRuns: 2000 },
  );
});

test('IPv4 is a part of IPv6', () => {
  expect(addressNumber('::ffff:10.0.0.1')).toBe(addressNumber('10.0.0.1'));
  expect(addressNumber('010.0.0.1')).toBeUndefined();
});
