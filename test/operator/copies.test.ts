import { expect, test } from '@jest/globals';
import type { ApiDeepPacketInspection } from '../../agent/kube/resources.ts';
import { planCopies } from '../../agent/operator/copies.ts';

function source(name: string, fields: Partial<ApiDeepPacketInspection['metadata']> = {}): ApiDeepPacketInspection {
  return {
    metadata: { name, namespace: 'shop', uid: `uid of ${name}`, resourceVersion: '1', ...fields },
    spec: { selector: 'all()' },
  };
}

function copy(name: string, fields: Partial<ApiDeepPacketInspection> = {}): ApiDeepPacketInspection {
  const labels = { 'dpi-agent.io/copy': 'true' };
  const annotations = { 'dpi-agent.io/copy-of': `uid of ${name}` };
  return { ...source(name, { uid: `uid of copy ${name}`, labels, annotations }), ...fields };
}

const kinds = (sources: ApiDeepPacketInspection[], found: ApiDeepPacketInspection[]): string[] =>
  planCopies(sources, found).map(({ kind, key }) => `${kind} ${key}`);

test('copies that are right need nothing', () => {
  expect(kinds([source('a'), source('b')], [copy('a'), copy('b')])).toEqual([]);
});

test('a copy has what the agents read of its source, and not what kubectl remembers', () => {
  const annotations = { 'dpi-agent.io/rule-sets': 'x', 'kubectl.kubernetes.io/last-applied-configuration': '{}' };
  const [step] = planCopies([source('a', { annotations, labels: { team: 'red' } })], []);
  expect(step).toMatchObject({
    kind: 'write',
    object: {
      apiVersion: 'crd.projectcalico.org/v1',
      metadata: {
        name: 'a',
        namespace: 'shop',
        labels: { team: 'red', 'dpi-agent.io/copy': 'true' },
        annotations: { 'dpi-agent.io/rule-sets': 'x', 'dpi-agent.io/copy-of': 'uid of a' },
      },
      spec: { selector: 'all()' },
    },
  });
  expect(JSON.stringify(step)).not.toContain('last-applied');
});

test.each([
  ['its selector', { spec: { selector: 'has(x)' } }],
  [
    'its source',
    { metadata: { ...copy('a').metadata, annotations: { 'dpi-agent.io/copy-of': 'uid of a former one' } } },
  ],
  ['one of its marks', { metadata: { ...copy('a').metadata, labels: {} } }],
])('a copy that differs by %s is written', (_, fields) => {
  expect(kinds([source('a')], [copy('a', fields)])).toEqual(['write shop/a']);
});

test('a status is copied, and taken back', () => {
  const status = { errors: 1 };
  expect(kinds([{ ...source('a'), status }], [copy('a')])).toEqual(['status shop/a']);
  expect(kinds([source('a')], [copy('a', { status })])).toEqual(['status shop/a']);
  expect(kinds([{ ...source('a'), status }], [copy('a', { status })])).toEqual([]);
});

test('a copy without its source goes, and only a copy does', () => {
  expect(kinds([], [copy('a'), source('own')])).toEqual(['remove shop/a']);
});

test("somebody's own object in its place is left as it is", () => {
  expect(kinds([source('a')], [source('a')])).toEqual(['taken shop/a']);
});
