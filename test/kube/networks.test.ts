import { describe, expect, test } from '@jest/globals';
import { chooseNetworks, parseNetworkStatus, type PodNetwork } from '../../agent/kube/networks.ts';
import { toPod, type ApiPod } from '../../agent/kube/pods.ts';

const STATUS = 'k8s.v1.cni.cncf.io/network-status';

describe('the annotation of Multus', () => {
  test('gives further networks, and what the own interface is called', () => {
    // As Multus 4 writes it.
    const annotation = JSON.stringify([
      {
        name: 'k8s-pod-network',
        interface: 'eth0',
        ips: ['10.1.2.3'],
        mac: '0a:58:0a:01:02:03',
        default: true,
        dns: {},
      },
      { name: 'shop/storage', interface: 'net1', ips: ['192.168.1.2', 'FD00::0:2'], mac: '0a:58:0a:01:02:04', dns: {} },
      { name: 'shop/sriov', interface: 'net2', 'device-info': { type: 'pci' } },
    ]);
    expect(parseNetworkStatus(annotation)).toEqual({
      own: 'eth0',
      further: [
        { name: 'shop/storage', interface: 'net1', addresses: ['192.168.1.2', 'fd00::2'] },
        { name: 'shop/sriov', interface: 'net2', addresses: [] },
      ],
    });
    const pod = {
      metadata: { annotations: { [STATUS]: annotation, 'dpi-agent.io/networks': 'net2' } },
    } as unknown as ApiPod;
    expect(toPod(pod)).toMatchObject({ networks: { own: 'eth0' }, chosenNetworks: 'net2' });
    expect(toPod({ metadata: {} } as unknown as ApiPod)).not.toHaveProperty('networks');
  });

  test.each([
    ['[{', 'is not JSON'],
    ['{}', 'is no list'],
    ['null', 'is no list'],
    [`[${'{},'.repeat(16)}{}]`, 'has more than 16 networks'],
    [`[${' '.repeat(70_000)}]`, 'has more than 65536 characters'],
  ])('of another form is a problem, and nothing more: %.20s', (annotation, what) => {
    expect(parseNetworkStatus(annotation)).toEqual({
      further: [],
      problem: `annotation ${STATUS} ${what}: further networks are not inspected`,
    });
  });

  test.each([['../../x'], [''], ['lo'], ['a b'], ['sixteen-letters-'], [7], ['..'], ['a\nb'], ['a:b']])(
    'an interface that none can be is not looked for: %j',
    (name) => {
      const { further, problem } = parseNetworkStatus(
        JSON.stringify([{ name: 'x', interface: name }, null, 5, { interface: 'net1', ips: 'none', name: {} }]),
      );
      expect(further).toEqual([{ name: '', interface: 'net1', addresses: [] }]);
      expect(problem).toBe(`annotation ${STATUS} names no interface for network "x"`);
    },
  );

  test('of the addresses of a network no more is kept than can be', () => {
    const ips = Array.from({ length: 100 }, (_, index) => `10.0.0.${index}`);
    expect(parseNetworkStatus(JSON.stringify([{ interface: 'net1', ips }])).further[0]?.addresses).toHaveLength(16);
  });
});

describe('networks are chosen', () => {
  const further: PodNetwork[] = ['a', 'b', 'c'].map((name) => ({
    name: `shop/${name}`,
    interface: `net-${name}`,
    addresses: [],
  }));
  const chosen = (...annotations: (string | undefined)[]): string[] =>
    chooseNetworks(further, annotations).chosen.map(({ interface: name }) => name);

  test('all of them without an annotation, and with *', () => {
    expect(chosen(undefined)).toEqual(['net-a', 'net-b', 'net-c']);
    expect(chosen('net-a, *')).toHaveLength(3);
  });

  test('by names of networks, with and without their namespace, and of interfaces', () => {
    expect(chosen('shop/a, b ,net-c')).toHaveLength(3);
    expect(chosen('net-b')).toEqual(['net-b']);
    expect(chosen('')).toEqual([]);
  });

  test('what any of several asks for', () => {
    expect(chosen('a', 'b')).toEqual(['net-a', 'net-b']);
    expect(chosen('a', undefined)).toHaveLength(3);
  });

  test('names that are none are told', () => {
    expect(chooseNetworks(further, ['a,other/a,d']).unknown).toEqual(['other/a', 'd']);
    expect(chooseNetworks([], ['*']).unknown).toEqual([]);
  });
});
