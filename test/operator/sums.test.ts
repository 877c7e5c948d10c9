import { describe, expect, test } from '@jest/globals';
import { fitting, type Inspection, type NodeObject } from '../../agent/kube/node-object.ts';
import { changedResources, statusOf, toEntries } from '../../agent/operator/sums.ts';

const TIME = '2026-01-01T00:00:00Z';

function inspection(uid: string, podsCaptured: number, errors: string[] = []): Inspection {
  return {
    api: 'projectcalico.org/v3',
    namespace: 'shop',
    name: `of-${uid}`,
    uid,
    active: { success: errors.length === 0, lastUpdated: TIME },
    podsSelected: 3,
    podsCaptured,
    resolvers: { route: podsCaptured },
    errorConditions: errors.map((message) => ({ message, timestamp: TIME })),
  };
}

const object = (name: string, ...inspections: unknown[]): NodeObject => ({
  metadata: { name, uid: `uid-${name}`, resourceVersion: '1' },
  inspections: inspections as Inspection[],
});

describe('the status of a resource', () => {
  test('is what the nodes say of it, by their names, with the sums', () => {
    const nodes = [object('b', inspection('u', 1, ['x'])), object('a', inspection('u', 2), inspection('v', 7))];
    expect(statusOf('u', nodes.map(toEntries))).toEqual({
      nodes: [
        { node: 'a', ...said(inspection('u', 2)) },
        { node: 'b', ...said(inspection('u', 1, ['x'])) },
      ],
      nodesActive: 1,
      podsSelected: 6,
      podsCaptured: 3,
      errors: 1,
      nodesOmitted: 0,
    });
    expect(statusOf('w', nodes.map(toEntries))).toMatchObject({ nodes: [], podsCaptured: 0 });
  });

  test.each([
    [500, 131_072, 500],
    [1_000, 67_108, 300],
    [5_000, 16_384, 50],
  ])(
    'of %d nodes has %d bytes; first those with errors, with the newest of each; sums are of all',
    (count, bytes, least) => {
      const all = [...Array(count).keys()].map((index) => {
        const errors = index >= count - 30 ? ['newest', 'older', 'oldest'].map((text) => text.repeat(20)) : [];
        return toEntries(object(`node-${10_000 + index}`, inspection('u', 2, errors)));
      });
      const status = statusOf('u', all);
      const listed = status.nodes ?? [];
      expect(JSON.stringify(listed).length).toBeLessThanOrEqual(bytes);
      expect(listed.length).toBeGreaterThanOrEqual(least);
      expect(listed.filter(({ active }) => !active.success)).toHaveLength(30);
      expect(listed.map(({ node }) => node)).toEqual(listed.map(({ node }) => node).toSorted());
      expect(status).toMatchObject({ nodesActive: count - 30, podsCaptured: 2 * count, errors: 90 });
      expect((status.nodesOmitted ?? 0) + listed.length).toBe(count);
    },
  );

  test.each([
    undefined,
    null,
    'none',
    [null, 7, {}, { uid: 5 }, { uid: '' }],
    [{ uid: 'u', podsCaptured: -1, errorConditions: 'x' }],
  ])('is not misled by an object that holds %j', (inspections) => {
    const entries = toEntries({ ...object('a'), inspections } as unknown as NodeObject);
    expect(statusOf('u', [entries])).toMatchObject({ nodesActive: 0, podsCaptured: 0, errors: 0 });
  });
});

test('what changed of an object is told by resource', () => {
  const before = toEntries(object('a', inspection('u', 1), inspection('v', 1), inspection('w', 1)));
  const after = toEntries(object('a', inspection('u', 1), inspection('v', 2), inspection('x', 1)));
  expect(changedResources(before, after).toSorted()).toEqual(['v', 'w', 'x']);
  expect(changedResources(undefined, after).toSorted()).toEqual(['u', 'v', 'x']);
});

test('what a node says is bounded: by fewer errors, then by fewer resources', () => {
  const errors = [...Array(10).keys()].map((index) => `${index} ${'x'.repeat(500)}`);
  const many = [...Array(200).keys()].map((index) => inspection(`u${index}`, 1, errors));
  const fewer = fitting(many);
  expect(JSON.stringify(fewer).length).toBeLessThanOrEqual(512 << 10);
  expect(fewer).toHaveLength(200);
  expect(fewer[0]?.errorConditions.map(({ message }) => message[0])).toEqual(['0', '1', '2']);
  const few = fitting(many, 10_000);
  expect(few.length).toBeGreaterThan(20);
  expect(JSON.stringify(few).length).toBeLessThanOrEqual(10_000);
});

function said({ active, podsSelected, podsCaptured, resolvers, errorConditions }: Inspection): object {
  return { active, podsSelected, podsCaptured, resolvers, errorConditions };
}
