import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { calicoInterface } from '../../../agent/endpoints/resolve/calico-name.ts';
import { readHost, type Host, type Root } from '../../../agent/endpoints/resolve/host.ts';
import { resolveInterfaces, findConflicts, resolveInterface } from '../../../agent/endpoints/resolve/resolve.ts';
import type { PodIdentity } from '../../../agent/endpoints/resolve/resolver.ts';
import type { Pod } from '../../../agent/kube/pods.ts';
import { openLab, type Lab } from '../../../scripts/lab.ts';
import { describeNetwork, enter, rootOf } from '../../support/network.ts';

let lab: Lab;
let root: Root;
/** A namespace to put the other ends of veths into. */
let far: string;

beforeAll(async () => {
  lab = openLab('dpi-resolve');
  far = lab.addPod({ name: 'far', address: '10.99.0.1' }).netns;
  root = rootOf(await enter(lab, lab.node));
});

afterAll(() => lab?.close());

let host: Host;
beforeEach(() => {
  host = readHost(root);
});

function on(command: string): string {
  return lab.exec(lab.node, 'ip', ...command.split(' '));
}

function inFar(command: string): string {
  return lab.exec(far, 'ip', ...command.split(' '));
}

function pod(name: string, ...addresses: string[]): PodIdentity {
  return { namespace: 'default', name, uid: '00000000-0000-4000-8000-000000000000', addresses };
}

/** The host side of a veth, up, with `peer` as its other end. */
function veth(name: string, peer = `${name}-p`): number {
  on(`link add ${name} type veth peer name ${peer} netns ${far}`);
  on(`link set ${name} up`);
  inFar(`link set ${peer} up`);
  return indexOf(name);
}

function indexOf(name: string): number {
  return Number(lab.exec(lab.node, 'cat', `/sys/class/net/${name}/ifindex`));
}

describeNetwork('by Calico’s name', () => {
  test('a pod is found, with the present index of its interface', () => {
    const { interface: name } = lab.addPod({ name: 'calico', address: '10.1.0.1' });
    expect(resolveInterface(pod('calico', '10.1.0.1'), host)).toEqual({
      kind: 'found',
      interface: name,
      ifindex: indexOf(name),
      by: 'calico',
    });
  });

  test('dual stack leads to the same interface', () => {
    const { interface: name } = lab.addPod({ name: 'dual', address: '10.1.0.2', address6: 'fd00:1::2' });
    expect(resolveInterface(pod('dual', '10.1.0.2', 'fd00:1::2'), host)).toMatchObject({ interface: name });
  });

  test('a veth made again has another index', () => {
    const first = lab.addPod({ name: 'again', address: '10.1.0.3' });
    const before = resolveInterface(pod('again', '10.1.0.3'), host);
    lab.removePod(first);
    expect(resolveInterface(pod('again', '10.1.0.3'), readHost(root))).toMatchObject({ kind: 'missing' });
    lab.addPod({ name: 'again', address: '10.1.0.3' });
    const after = resolveInterface(pod('again', '10.1.0.3'), readHost(root));
    expect(before).toMatchObject({ kind: 'found', interface: first.interface });
    expect(after).toMatchObject({ kind: 'found', interface: first.interface });
    expect(after).not.toEqual(before);
  });

  test('it tells two pods with the same address apart', () => {
    const a = lab.addPod({ name: 'same-a', address: '10.1.0.4' });
    const b = lab.addPod({ name: 'same-b', address: '10.1.0.4' });
    expect(resolveInterface(pod('same-a', '10.1.0.4'), host)).toMatchObject({ by: 'calico', interface: a.interface });
    expect(resolveInterface(pod('same-b', '10.1.0.4'), host)).toMatchObject({ by: 'calico', interface: b.interface });
  });

  test('a veth of an earlier pod of that name is in doubt when the address leads elsewhere', () => {
    const old = lab.addPod({ name: 'reborn', address: '10.1.0.5' });
    veth('elsewhere');
    on('route add 10.1.0.6/32 dev elsewhere');
    expect(resolveInterface(pod('reborn', '10.1.0.6'), host)).toEqual({
      kind: 'ambiguous',
      candidates: [old.interface, 'elsewhere'],
      reason: `Calico's name is that of ${old.interface}, but other evidence leads to elsewhere`,
    });
  });

  test('a bridge of that name is nobody’s', () => {
    const name = calicoInterface('default', 'bridge');
    on(`link add ${name} type bridge`);
    expect(resolveInterface(pod('bridge', '10.1.0.7'), host)).toMatchObject({
      kind: 'missing',
      reason: expect.stringContaining(`${name} is a bridge; no host route to 10.1.0.7;`),
    });
  });

  test('a pod without an address is not looked for', () => {
    lab.addPod({ name: 'early', address: '10.1.0.8' });
    expect(resolveInterface(pod('early'), host)).toEqual({ kind: 'missing', reason: 'the pod has no address yet' });
  });

  test('/sys of another network namespace is not believed', async () => {
    lab.addPod({ name: 'sys', address: '10.1.0.9' });
    const { sys } = rootOf(await enter(lab, far));
    // The same name there, with another index.
    const name = calicoInterface('default', 'sys');
    inFar(`link add index 9000 name ${name} type veth peer name sys-p`);
    inFar(`link set ${name} up`);
    expect(resolveInterface(pod('sys', '10.1.0.9'), readHost({ ...root, sys }))).toMatchObject({ kind: 'missing' });
  });
});

describeNetwork('by host routes', () => {
  test.each([
    ['IPv4', ['10.2.0.1']],
    ['IPv6', ['fd00:2::1']],
    ['both', ['10.2.0.2', 'fd00:2::2']],
  ])('a ptp-like veth is found: %s', (family, addresses) => {
    const name = `ptp${family}`;
    const ifindex = veth(name);
    for (const address of addresses) on(`route add ${address}${address.includes(':') ? '/128' : '/32'} dev ${name}`);
    expect(resolveInterface(pod('ptp', ...addresses), host)).toEqual({
      kind: 'found',
      interface: name,
      ifindex,
      by: 'route',
    });
  });

  test('addresses that lead to different interfaces are in doubt', () => {
    veth('split4');
    veth('split6');
    on('route add 10.2.1.1/32 dev split4');
    on('route add fd00:2:1::1/128 dev split6');
    expect(resolveInterface(pod('split', '10.2.1.1', 'fd00:2:1::1'), host)).toMatchObject({
      kind: 'ambiguous',
      candidates: ['split4', 'split6'],
      reason: expect.stringMatching(
        /^the host route to 10\.2\.1\.1 leads to split4, the host route to fd00:2:1::1 leads to split6; no process/,
      ),
    });
  });

  test('two routes to one address are in doubt', () => {
    veth('stale');
    veth('fresh');
    on('route add 10.2.1.2/32 dev stale metric 5');
    on('route add 10.2.1.2/32 dev fresh metric 7');
    expect(resolveInterface(pod('twice', '10.2.1.2'), host)).toMatchObject({
      kind: 'ambiguous',
      candidates: ['stale', 'fresh'],
    });
  });

  test('the route of a deleted interface is gone with it', () => {
    veth('deleted');
    on('route add 10.2.1.3/32 dev deleted');
    on('link del deleted');
    expect(resolveInterface(pod('deleted', '10.2.1.3'), host)).toMatchObject({ kind: 'missing' });
  });

  test.each([
    ['a bridge', 'link add uplink0 type bridge', 'a bridge'],
    ['a VXLAN tunnel', 'link add uplink1 type vxlan id 5 dstport 4789', 'a device of type vxlan'],
    ['a tap', 'tuntap add uplink2 mode tap', 'a tun or tap device'],
    ['a tun', 'tuntap add uplink3 mode tun', 'a tun or tap device'],
    ['a macvlan', `link add link far-up name uplink4 type macvlan mode bridge`, 'an interface on top of another one'],
    ['an ifb', 'link add uplink5 type ifb', 'a dummy'],
  ])('a route to %s leads to no pod', (kind, command, what) => {
    if (kind === 'a macvlan') veth('far-up');
    const name = /uplink\d/.exec(command)?.[0] ?? '';
    const address = `10.2.2.${name.slice(-1)}`;
    on(command);
    on(`link set ${name} up`);
    on(`route add ${address}/32 dev ${name}`);
    expect(resolveInterface(pod('no', address), host)).toMatchObject({
      kind: 'missing',
      reason: expect.stringContaining(`the host route to ${address} leads to ${name}, ${what} and no pod's veth;`),
    });
  });

  test('networks, gateways, blackholes, loopback and own addresses lead to no pod', () => {
    veth('net0');
    on('addr add 10.2.3.1/24 dev net0');
    on('addr add fd00:2:3::1/64 dev net0 nodad');
    on('route add 10.2.4.1/32 via 10.2.3.2');
    on('route add fd00:2:4::1/128 via fd00:2:3::2');
    on('route add blackhole 10.2.4.2/32');
    on('route add blackhole fd00:2:4::2/128');
    on('route add 10.2.4.3/32 dev lo');
    const addresses = ['10.2.3.1', '10.2.3.2', 'fd00:2:3::1', '10.2.4.1', 'fd00:2:4::1', '10.2.4.2', 'fd00:2:4::2'];
    for (const address of addresses) {
      expect(resolveInterface(pod('none', address), readHost(root))).toMatchObject({
        kind: 'missing',
        reason: expect.stringContaining(`no host route to ${address};`),
      });
    }
    expect(resolveInterface(pod('none', '10.2.4.3'), host)).toMatchObject({
      reason: expect.stringContaining('leads to lo, the loopback'),
    });
  });

  test('an interface that is down is found as well', () => {
    const ifindex = veth('down0');
    on('route add fd00:2:5::1/128 dev down0');
    inFar('link set down0-p down');
    expect(resolveInterface(pod('down', 'fd00:2:5::1'), host)).toMatchObject({ kind: 'found', ifindex });
  });
});

const CONNECT = `require('node:net').connect({ host: process.argv[1], port: 9, timeout: 5000 })
  .on('error', () => process.exit()).on('timeout', () => process.exit())`;

describeNetwork('by bridges', () => {
  beforeAll(() => {
    on('link add cni0 type bridge');
    on('addr add 10.3.0.1/24 dev cni0');
    on('link set cni0 up');
  });

  /** A pod on the bridge, in a namespace of its own. */
  function bridged(name: string, address: string): { netns: string; ifindex: number } {
    const { netns } = lab.addPod({ name, address: '10.98.0.1' });
    on(`link add ${name} type veth peer name net1 netns ${netns}`);
    on(`link set ${name} master cni0 up`);
    lab.exec(netns, 'ip', 'link', 'set', 'net1', 'up');
    lab.exec(netns, 'ip', 'addr', 'add', `${address}/24`, 'dev', 'net1');
    return { netns, ifindex: indexOf(name) };
  }

  test('a pod is found once the node has talked to it', () => {
    bridged('brother', '10.3.0.4');
    const { ifindex } = bridged('bridged', '10.3.0.5');
    expect(resolveInterface(pod('x', '10.3.0.5'), host)).toMatchObject({
      kind: 'missing',
      reason: expect.stringContaining('no ARP entry of 10.3.0.5;'),
    });
    for (const address of ['10.3.0.4', '10.3.0.5']) lab.exec(lab.node, process.execPath, '-e', CONNECT, address);
    expect(resolveInterface(pod('x', '10.3.0.5'), readHost(root))).toEqual({
      kind: 'found',
      interface: 'bridged',
      ifindex,
      by: 'bridge',
    });
  });

  test('an address that the bridge has not learned leads nowhere', () => {
    on('neigh add 10.3.0.6 lladdr 02:00:00:00:00:06 dev cni0');
    expect(resolveInterface(pod('x', '10.3.0.6'), host)).toMatchObject({
      kind: 'missing',
      reason: expect.stringContaining('cni0 has not learned 02:00:00:00:00:06 of 10.3.0.6;'),
    });
  });

  test('an address behind two bridges is in doubt', () => {
    for (const side of ['left', 'right']) {
      on(`link add br-${side} type bridge`);
      on(`link set br-${side} up`);
      veth(side);
      on(`link set ${side} master br-${side}`);
      lab.exec(lab.node, 'bridge', 'fdb', 'add', '02:00:00:00:00:07', 'dev', side, 'master', 'static');
      on(`neigh add 10.3.0.7 lladdr 02:00:00:00:00:07 dev br-${side}`);
    }
    expect(resolveInterface(pod('x', '10.3.0.7'), host)).toMatchObject({
      kind: 'ambiguous',
      candidates: expect.arrayContaining(['left', 'right']),
      reason: expect.stringContaining('02:00:00:00:00:07 of 10.3.0.7 on br-left leads to left'),
    });
  });

  test('a neighbour behind no bridge leads nowhere', () => {
    veth('nobridge');
    on('neigh add 10.3.1.1 lladdr 02:00:00:00:01:01 dev nobridge');
    expect(resolveInterface(pod('x', '10.3.1.1'), host)).toMatchObject({
      reason: expect.stringContaining('10.3.1.1 is an ARP neighbour on nobridge, a veth and no bridge'),
    });
  });

  test('IPv6 neighbours are not looked for', () => {
    expect(resolveInterface(pod('x', 'fd00:3::1'), host)).toMatchObject({
      kind: 'missing',
      reason: expect.stringMatching(
        /^no interface cali\w+; no host route to fd00:3::1; no IPv4 address to look up in ARP and bridges; no process in a cgroup/,
      ),
    });
  });
});

describeNetwork('a round', () => {
  test('pods that share an interface are all in doubt', async () => {
    const ifindex = veth('shared');
    on('route add 10.4.0.1/32 dev shared');
    on('route add 10.4.0.2/32 dev shared');
    const pods = ['10.4.0.1', '10.4.0.2'].map((address, index): Pod => ({
      ...pod(`shared-${index}`, address),
      key: `default/shared-${index}`,
      nameAggr: '-',
      labels: {},
      serviceAccount: 'default',
      node: 'node',
      hostNetwork: false,
      phase: 'Running',
      ready: true,
      terminating: false,
    }));
    const alone = pods.map((one) => [one.key, resolveInterface(one, host)] as const);
    expect([...findConflicts(alone)]).toEqual([[ifindex, ['default/shared-0', 'default/shared-1']]]);
    expect(findConflicts(alone.slice(1)).size).toBe(0);
    const together = resolveInterfaces(pods, readHost(root));
    for (const { key } of pods) {
      expect(together.get(key)).toEqual({
        kind: 'ambiguous',
        candidates: ['shared'],
        reason: 'shared would be the interface of default/shared-0 and default/shared-1 (by route)',
      });
    }
  });
});
