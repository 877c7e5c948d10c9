/** Where pods are captured, on real namespaces: veth, macvlan, ipvlan, netkit, several networks. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { holdNamespace, isStillThere } from '../../../agent/endpoints/hold.ts';
import { readHost, type Root } from '../../../agent/endpoints/resolve/host.ts';
import { findPlaces, type PlaceAnswer, type PlaceRequest } from '../../../agent/endpoints/resolve/place.ts';
import { openLab, whyNoDevice, type Lab, type Pod as LabPod } from '../../../scripts/lab.ts';
import { openCgroups, whyNoCgroups } from '../../support/cgroups.ts';
import { aPod } from '../../support/kube-objects.ts';
import { describeNetwork, enter, rootOf } from '../../support/network.ts';

if (whyNoCgroups !== undefined) process.stderr.write(`skipped: ${whyNoCgroups}\n`);
const describeCgroups = whyNoCgroups === undefined ? describe : describe.skip;
const { enroll, remove } = openCgroups();

let lab: Lab;
let root: Root;

beforeAll(async () => {
  lab = openLab('dpi-place');
  root = rootOf(await enter(lab, lab.node));
});

afterAll(async () => {
  lab?.close();
  await remove();
});

type Asked = Partial<Omit<PlaceRequest, 'pod'>> & { networks?: (string | undefined)[] };

/** A pod of the lab with a process, as the agent sees it. */
async function run(pod: LabPod, fields: Parameters<typeof aPod>[1] = {}) {
  const uid = randomUUID();
  const pid = await enter(lab, pod.netns);
  enroll(pid, `kubepods/pod${uid}/1`);
  const known = aPod(`default/${pod.name}`, { uid, addresses: [pod.address], ...fields });
  const place = (asked: Asked = {}, barred?: string): PlaceAnswer | undefined =>
    findPlaces(
      [{ pod: known, side: 'auto', loopback: false, networks: [undefined], ...asked }],
      barred,
      readHost(root),
    ).get(known.key);
  return { pid, known, place };
}

const linkOf = (pid: number): unknown => ({ link: expect.stringMatching(/^net:\[\d+\]$/), members: [pid] });

/** A test that is skipped with a line where the kernel has no such devices. */
function testDevice(kind: Parameters<typeof whyNoDevice>[0], name: string, body: () => Promise<void>): void {
  const missing = whyNoCgroups === undefined ? whyNoDevice(kind) : undefined;
  if (missing === undefined) return test(name, body);
  process.stderr.write(`skipped: ${missing}\n`);
  test.skip(name, body);
}

describeNetwork('a pod is captured', () => {
  describeCgroups('of which a process is known', () => {
    test('on the host side of its veth, or on its own side where that is asked for', async () => {
      const pod = lab.addPod({ name: 'veth', address: '10.71.0.1' });
      const { pid, place } = await run(pod);
      const host = { kind: 'found', interface: pod.interface, by: 'calico', addresses: [], lacking: [] };
      expect(place()).toEqual({ ...host, ifindex: expect.any(Number) });
      expect(place({ side: 'host' })).toMatchObject(host);
      expect(place({ side: 'pod' })).toEqual({
        kind: 'found',
        interface: 'eth0',
        by: 'pod',
        inside: { namespace: linkOf(pid), interfaces: ['eth0'] },
        addresses: [],
        lacking: [],
      });
    });

    test.each(['macvlan', 'ipvlan'] as const)('without a host side, on its own: %s', async (kind) => {
      const missing = whyNoDevice(kind);
      if (missing !== undefined) return void process.stderr.write(`skipped: ${missing}\n`);
      const { pid, place } = await run(lab.addUplinkPod(kind, { name: kind, address: '10.72.0.1' }));
      expect(place()).toMatchObject({
        kind: 'found',
        interface: 'eth0',
        by: 'pod',
        inside: { namespace: linkOf(pid), interfaces: ['eth0'] },
      });
      expect(place({ side: 'host' })).toMatchObject({ kind: 'missing' });
    });

    testDevice('netkit', 'a netkit is recognised, and captured in the pod', async () => {
      const pod = lab.addPod({ name: 'netkit', address: '10.73.0.1' });
      lab.exec(lab.node, 'ip', 'link', 'del', pod.interface);
      const add = `link add ${pod.interface} type netkit mode l2 peer name eth0 netns ${pod.netns}`;
      lab.exec(lab.node, 'ip', ...add.split(' '));
      lab.exec(lab.node, 'ip', 'link', 'set', pod.interface, 'up');
      for (const command of ['link set eth0 up', 'addr add 10.73.0.1/32 dev eth0'])
        lab.exec(pod.netns, 'ip', ...command.split(' '));
      const { place } = await run(pod);
      expect(place()).toMatchObject({ interface: 'eth0', by: 'pod' });
      expect(place({}, 'barred')).toMatchObject({ interface: pod.interface, by: 'calico' });
    });

    test('with its further networks, which it has, and with the addresses that it has there', async () => {
      const pod = lab.addPod({ name: 'multi', address: '10.74.0.1' });
      lab.addNetwork(pod, 'net1', '10.75.0.1/24');
      const further = [
        // The second address is not its own.
        { name: 'default/storage', interface: 'net1', addresses: ['10.75.0.1', '10.75.0.99'] },
        { name: 'default/dpdk', interface: 'net2', addresses: ['10.76.0.1'] },
        // Its own is not captured a second time.
        { name: 'default/twice', interface: 'eth0', addresses: [] },
      ];
      const { place, pid } = await run(pod, { networks: { further } });
      expect(place()).toMatchObject({
        interface: pod.interface,
        by: 'calico',
        inside: { namespace: linkOf(pid), interfaces: ['net1'] },
        addresses: ['10.75.0.1'],
        lacking: ['network default/dpdk is not inspected: there is no net2 in the pod'],
      });
      expect(place({ networks: ['storage'] })).toMatchObject({ inside: { interfaces: ['net1'] }, lacking: [] });
      expect(place({ networks: [''] })).not.toHaveProperty('inside');
      expect(place({ networks: ['nothing'] })).toMatchObject({ lacking: ['it has no further network nothing'] });
      expect(place({ networks: ['nothing,net1'] })).toMatchObject({ inside: { interfaces: ['net1'] }, lacking: [] });
      expect(place({ side: 'pod', loopback: true, networks: ['net1'] })).toMatchObject({
        by: 'pod',
        inside: { interfaces: ['eth0', 'net1', 'lo'] },
      });
      expect(place({ side: 'host' })).not.toHaveProperty('inside');
    });

    test('with its loopback where that is asked for', async () => {
      const { place } = await run(lab.addPod({ name: 'lo', address: '10.77.0.1' }));
      expect(place({ loopback: true })).toMatchObject({ by: 'calico', inside: { interfaces: ['lo'] } });
      expect(place({ loopback: true }, 'no right')).toMatchObject({
        by: 'calico',
        lacking: ['its loopback can not be inspected: no right'],
      });
    });

    test('not in a namespace that lacks its address, and not without a right to enter', async () => {
      const pod = lab.addPod({ name: 'other', address: '10.78.0.1' });
      const { place, pid } = await run(pod, { addresses: ['10.78.0.2'] });
      expect(place({ side: 'pod' })).toEqual({
        kind: 'missing',
        reason: `the network namespace of process ${pid} does not have 10.78.0.2`,
      });
      expect(place({ side: 'pod' }, 'no right')).toEqual({ kind: 'missing', reason: 'no right' });
    });

    test('its namespace is held by a path of the agent, also when its process is gone', async () => {
      const pod = lab.addPod({ name: 'held', address: '10.79.0.1' });
      const { place, pid } = await run(pod);
      const answer = place({ side: 'pod' });
      const namespace = answer?.kind === 'found' ? answer.inside?.namespace : undefined;
      if (namespace === undefined) throw new Error('it has no namespace');
      const held = holdNamespace(namespace);
      expect(isStillThere(namespace)).toBe(true);
      process.kill(pid, 'SIGKILL');
      while (isStillThere(namespace)) await new Promise((resolve) => setTimeout(resolve, 5));
      expect(() => holdNamespace(namespace)).toThrow();
      const shown = lab.exec(lab.node, 'nsenter', `--net=${held.path}`, 'ip', '-o', 'addr', 'show', 'dev', 'eth0');
      expect(shown).toContain('10.79.0.1');
      held.release();
      expect(() => readFileSync(held.path)).toThrow();
      // Another process is not taken for it.
      expect(() => holdNamespace({ ...namespace, members: [process.pid] })).toThrow(
        /no longer in the pod's network namespace/,
      );
    });
  });
});
