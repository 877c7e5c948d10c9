import { expect, test } from '@jest/globals';
import { brokenSeeds } from './seeds.ts';

test('nor on 190 more', async () => {
  expect(await brokenSeeds('alerts', 191, 380)).toEqual([]);
});

test('what is captured is what the resources select, on 60 seeds', async () => {
  expect(await brokenSeeds('cluster', 1, 60)).toEqual([]);
});

test('lanes keep their engines running, on 30 seeds', async () => {
  expect(await brokenSeeds('engines', 1, 30)).toEqual([]);
});
