import { expect, test } from '@jest/globals';
import { brokenSeeds } from './seeds.ts';

test('nor on 250 more', async () => {
  expect(await brokenSeeds(251, 500)).toEqual([]);
});
