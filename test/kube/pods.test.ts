import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { canonicalAddress } from '../../agent/kube/fields.ts';
import { selectorLabels, toPod, type ApiPod } from '../../agent/kube/pods.ts';

const metadata = { name: 'backend-7d4b-x2x9k', namespace: 'shop', uid: 'u1', resourceVersion: '1' };

describe('a pod', () => {
  test('is what the agent needs of the API object, and no more', () => {
    const api: ApiPod = {
      metadata: { ...metadata, generateName: 'backend-7d4b-', labels: { app: 'backend' }, annotations: { a: 'b' } },
      spec: { nodeName: 'n1', serviceAccountName: 'default' },
      status: {
        phase: 'Running',
        podIP: '10.1.2.3',
        podIPs: [{ ip: '10.1.2.3' }, { ip: 'FD00:0:0::0005' }],
        conditions: [
          { type: 'PodScheduled', status: 'True' },
          { type: 'Ready', status: 'True' },
        ],
      },
    };
    expect(toPod(api)).toEqual({
      key: 'shop/backend-7d4b-x2x9k',
      namespace: 'shop',
      name: 'backend-7d4b-x2x9k',
      uid: 'u1',
      nameAggr: 'backend-7d4b-*',
      labels: { app: 'backend' },
      serviceAccount: 'default',
      node: 'n1',
      hostNetwork: false,
      phase: 'Running',
      ready: true,
      terminating: false,
      addresses: ['10.1.2.3', 'fd00::5'],
    });
  });

  test('has the address that only podIP names', () => {
    expect(toPod({ metadata, status: { podIP: '10.1.2.3' } }).addresses).toEqual(['10.1.2.3']);
    expect(toPod({ metadata, status: { podIP: '', podIPs: [{}, { ip: 'none' }] } }).addresses).toEqual([]);
  });

  test('is terminating when it was asked to end, and not ready when it says so', () => {
    const ended = toPod({
      metadata: { ...metadata, deletionTimestamp: '2026-01-01T00:00:00Z' },
      spec: { hostNetwork: true },
      status: { phase: 'Sideways', conditions: [{ type: 'Ready', status: 'False' }] },
    });
    expect(ended).toMatchObject({ terminating: true, ready: false, hostNetwork: true, phase: 'Unknown' });
  });

  test.each([
    ['the name that it was generated from', { generateName: 'web-' }, 'web-*'],
    ['its controller', { ownerReferences: [{ kind: 'StatefulSet', name: 'db', controller: true }] }, 'db-*'],
    ['nothing but a controller', { ownerReferences: [{ kind: 'Backup', name: 'nightly' }] }, '-'],
    ['no node', { ownerReferences: [{ kind: 'Node', name: 'n1', controller: true }] }, '-'],
    ['nothing', {}, '-'],
  ])('shares its name with others by %s', (_, more, expected) => {
    expect(toPod({ metadata: { ...metadata, ...more } }).nameAggr).toBe(expected);
  });

  test('comes out of anything', () => {
    const anything = fc.anything({ maxDepth: 3, withNullPrototype: true });
    const object = fc.record({ metadata: anything, spec: anything, status: anything }, { requiredKeys: [] });
    fc.assert(
      fc.property(object, (api) => {
        const pod = toPod(api as unknown as ApiPod);
        expect(typeof pod.name).toBe('string');
        expect(pod.addresses.every((address) => canonicalAddress(address) === address)).toBe(true);
        selectorLabels(pod)('a');
      }),
    );
    const lists = { podIPs: [null, 7, { ip: 9 }, { ip: '1.2.3.4' }], conditions: [null, 'Ready'] };
    expect(toPod({ metadata, status: lists } as unknown as ApiPod).addresses).toEqual(['1.2.3.4']);
    const labels = JSON.parse('{"__proto__": "a", "b": 1, "c": "d"}') as Record<string, string>;
    expect(Object.entries(toPod({ metadata: { ...metadata, labels } }).labels)).toEqual([
      ['__proto__', 'a'],
      ['c', 'd'],
    ]);
  });
});

describe('labels for selectors', () => {
  test("are the pod's, and those that Calico sets over them", () => {
    const labels = {
      app: 'backend',
      'projectcalico.org/namespace': 'pretended',
      'projectcalico.org/orchestrator': 'x',
    };
    const label = selectorLabels({ namespace: 'shop', serviceAccount: 'till', labels });
    expect(label('app')).toBe('backend');
    expect(label('projectcalico.org/namespace')).toBe('shop');
    expect(label('projectcalico.org/orchestrator')).toBe('k8s');
    expect(label('projectcalico.org/serviceaccount')).toBe('till');
    expect(label('absent')).toBeUndefined();
    expect(label('constructor')).toBeUndefined();
  });

  test("lack a service account's name where there is none, and never have a namespace's or service account's labels", () => {
    const labels = { 'projectcalico.org/serviceaccount': 'own', 'pcns.team': 'red', 'pcsa.team': 'blue' };
    const label = selectorLabels({ namespace: 'shop', serviceAccount: '', labels });
    expect(label('projectcalico.org/serviceaccount')).toBe('own');
    expect(label('pcns.team')).toBeUndefined();
    expect(label('pcsa.team')).toBeUndefined();
  });
});

test.each([
  ['10.1.2.3', '10.1.2.3'],
  ['FD00:0:0:0:0:0:0:1', 'fd00::1'],
  ['fe80::1%eth0', undefined],
  ['010.1.2.3', undefined],
  ['backend', undefined],
  ['', undefined],
])('the canonical form of %p is %p', (address, expected) => {
  expect(canonicalAddress(address)).toBe(expected);
});
