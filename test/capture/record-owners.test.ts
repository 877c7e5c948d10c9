import { expect, test } from '@jest/globals';
import { createOwnerQueries } from '../../agent/capture/owner-queries.ts';
import type { ToCapture } from '../../agent/capture/protocol.ts';
import { createRecordOwners, ownerIn } from '../../agent/capture/record-owners.ts';

test('a record is of the endpoint that was noted last before it', () => {
  const owners = createRecordOwners();
  expect(owners.of(1)).toBeUndefined();
  owners.note(2, 7);
  owners.note(5, 7);
  owners.note(9, 8);
  owners.note(10, 7);
  expect([1, 2, 8, 9, 10, 1e9].map((record) => owners.of(record))).toEqual([undefined, 7, 7, 8, 7, 7]);
  expect(owners.latest()).toEqual({ firsts: [2, 9, 10], vlans: [7, 8, 7] });
  expect(ownerIn(owners.latest(), 9)).toBe(8);
});

test('the oldest are forgotten, and never given to another endpoint', () => {
  const owners = createRecordOwners();
  const count = 200_000;
  for (let record = 1; record <= count; record++) owners.note(record, 1 + (record % 4000));
  const known = Array.from({ length: count }, (_, index) => owners.of(index + 1));
  expect(known.every((vlan, index) => vlan === undefined || vlan === 1 + ((index + 1) % 4000))).toBe(true);
  expect(known.filter((vlan) => vlan !== undefined)).toHaveLength(131_072);
  expect(known.at(-1)).toBeDefined();
  expect(owners.latest().firsts).toHaveLength(16_384);
});

test('a process is asked by its own numbers; what it does not know, it may have passed on', async () => {
  const sent: ToCapture[] = [];
  const queries = createOwnerQueries((message) => sent.push(message) > 0);
  queries.passedOn({ path: '/fifo', records: 10, ranges: { firsts: [3, 6], vlans: [7, 8] } });
  const answer = queries.ask('/fifo', [2, 4, 10, 11, 12]);
  expect(sent).toEqual([{ type: 'whose', query: 1, path: '/fifo', records: [-8, -6, 0, 1, 2] }]);
  queries.answered(1, [0, 0, 0, 9, 0]);
  expect(await answer).toEqual([undefined, 7, 8, 9, undefined]);
});

test('without a process, or where it ends, what it has passed on answers', async () => {
  let isThere = true;
  const queries = createOwnerQueries(() => isThere);
  const answer = queries.ask('/fifo', [1, 2]);
  queries.passedOn({ path: '/fifo', records: 2, ranges: { firsts: [2], vlans: [7] } });
  queries.processEnded();
  expect(await answer).toEqual([undefined, 7]);
  isThere = false;
  expect(await queries.ask('/fifo', [2, 3])).toEqual([7, undefined]);
  expect(await queries.ask('/other', [2])).toEqual([undefined]);
});
