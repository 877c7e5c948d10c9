import { expect, test } from '@jest/globals';
import { listOfRows, rowReader } from '../../agent/kube/table.ts';

const SHOWS = 'Custom resource definition column (in JSONPath format): ';
const COLUMNS = [
  { name: 'Name', description: 'Name must be unique within a namespace.' },
  { name: 'Selector', description: `${SHOWS}.spec.selector` },
  { name: 'Nodes', description: 'Nodes on which it is active.' },
];

function table(version: string, cells: unknown, columnDefinitions?: unknown): object {
  const metadata = { name: 'web', namespace: 'shop', uid: 'u', resourceVersion: version };
  return {
    kind: 'Table',
    metadata: { resourceVersion: version },
    ...(columnDefinitions === undefined ? {} : { columnDefinitions }),
    rows: [{ cells, object: { kind: 'PartialObjectMetadata', metadata } }],
  };
}

test('of a watch, the first table says what the columns of all are', () => {
  const read = rowReader();
  const metadata = { name: 'web', namespace: 'shop', uid: 'u' };
  expect(read(table('1', ['web', 'all()', 2], COLUMNS))).toEqual({
    metadata: { ...metadata, resourceVersion: '1' },
    columns: { '.spec.selector': 'all()' },
  });
  expect(read(table('2', ['web', 'has(app)', 2]))).toEqual({
    metadata: { ...metadata, resourceVersion: '2' },
    columns: { '.spec.selector': 'has(app)' },
  });
});

test('a column counts by what it shows, never by its name', () => {
  const named = [{ name: 'Name' }, { name: 'Selector', description: 'What it selects.' }];
  expect(listOfRows(table('1', ['web', 'all()'], named))).toMatchObject({ items: [{ columns: {} }] });
});

test('what is no table stays as it is', () => {
  const whole = { kind: 'Thing', metadata: { name: 'a', uid: 'u', resourceVersion: '1' }, spec: {} };
  expect(rowReader()(whole)).toBe(whole);
  const list = { kind: 'ThingList', metadata: { resourceVersion: '1' }, items: [whole] };
  expect(listOfRows(list)).toBe(list);
});

test.each([
  ['no rows', { kind: 'Table' }],
  ['rows without objects', { kind: 'Table', rows: [{ cells: ['web'] }] }],
  ['rows that are none', { kind: 'Table', rows: ['web'] }],
])('of a table with %s nothing is made up', (_what, answer) => {
  expect(rowReader()(answer)).toBeUndefined();
  expect(listOfRows({ metadata: {}, ...answer })).toEqual('rows' in answer ? undefined : { metadata: {}, items: [] });
});
