import { expect, test } from '@jest/globals';
import { staticEndpoints } from '../../agent/config/endpoints.ts';
import { loadConfig } from '../../agent/config/load.ts';
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';

function endpoints(...entries: unknown[]): Endpoint[] {
  return configured({ endpoints: entries });
}

function configured(flags: Record<string, unknown>): Endpoint[] {
  const loaded = loadConfig({ env: {}, flags });
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  return staticEndpoints(loaded.config);
}

test('an interface alone is an endpoint under its own name, for the default resource', () => {
  expect(endpoints({ interface: 'veth0' })).toEqual([
    {
      id: 'veth0',
      namespace: 'default',
      name: 'veth0',
      nameAggr: '-',
      interface: 'veth0',
      labels: {},
      addresses: [],
      resources: ['default/dpi-agent'],
    },
  ]);
});

test('a pod has all that the configuration says of it', () => {
  expect(
    endpoints({
      interface: 'cali0123456789a',
      namespace: 'shop',
      pod: 'backend-7d4b-x2x9z',
      owner: 'backend-7d4b',
      labels: { app: 'backend', 'app.kubernetes.io/version': '1.2' },
      addresses: ['10.0.0.7', '2001:DB8:0:0::7'],
      resources: ['shop/backend', 'shop/all', 'shop/backend'],
    }),
  ).toEqual([
    {
      id: 'shop/backend-7d4b-x2x9z',
      namespace: 'shop',
      name: 'backend-7d4b-x2x9z',
      nameAggr: 'backend-7d4b-*',
      interface: 'cali0123456789a',
      labels: { app: 'backend', 'app.kubernetes.io/version': '1.2' },
      addresses: ['10.0.0.7', '2001:db8::7'],
      resources: ['shop/backend', 'shop/all'],
    },
  ]);
  expect(endpoints({ interface: 'v', resource: 'shop/one' })[0]?.resources).toEqual(['shop/one']);
});

test('an interface in another network namespace is captured there, and the loopback with it where that is asked for', () => {
  const inside = { interface: 'eth0', pod: 'a', netns: '/run/netns/a' };
  const entries = [inside, { interface: 'eth0', pod: 'b', netns: '/run/netns/b' }, { interface: 'veth0', pod: 'c' }];
  expect(endpoints(...entries).map(({ interface: name, taps }) => [name, taps])).toEqual([
    ['eth0', [{ interface: 'eth0', netns: '/run/netns/a' }]],
    ['eth0', [{ interface: 'eth0', netns: '/run/netns/b' }]],
    ['veth0', undefined],
  ]);
  expect(configured({ endpoints: entries, 'capture.loopback': true }).map(({ taps }) => taps)).toEqual([
    ['eth0', 'lo'].map((name) => ({ interface: name, netns: '/run/netns/a' })),
    ['eth0', 'lo'].map((name) => ({ interface: name, netns: '/run/netns/b' })),
    undefined,
  ]);
  expect(() => endpoints(inside, { ...inside, pod: 'b' })).toThrow(/the interface is taken by endpoints\[0\]/);
});
