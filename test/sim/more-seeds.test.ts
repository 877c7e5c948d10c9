import { expect, test } from '@jest/globals';
import { brokenSeeds } from './seeds.ts';

test('nor on 120 more', async () => {
  expect(await brokenSeeds('alerts', 121, 240)).toEqual([]);
});

test('what is captured is what the resources select, on 40 seeds', async () => {
  expect(await brokenSeeds('cluster', 1, 40)).toEqual([]);
});

// A power cut had taken the newest leases, and with them whose an id was.
test('nor does a power cut give alerts to an id’s owner of earlier', async () => {
  expect(await brokenSeeds('cluster', 97, 97)).toEqual([]);
});

test('lanes keep their engines running, on 20 seeds', async () => {
  expect(await brokenSeeds('engines', 1, 20)).toEqual([]);
});
