import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { randomUUID } from 'node:crypto';
import { readHost, type Root } from '../../../agent/endpoints/resolve/host.ts';
import { resolveInterface } from '../../../agent/endpoints/resolve/resolve.ts';
import { openLab, type Lab } from '../../../scripts/lab.ts';
import { openCgroups, whyNoCgroups } from '../../support/cgroups.ts';
import { describeNetwork, enter, rootOf } from '../../support/network.ts';

if (whyNoCgroups !== undefined) process.stderr.write(`skipped: ${whyNoCgroups}\n`);

const describeCgroups = whyNoCgroups === undefined ? describe : describe.skip;
const { enroll, remove } = openCgroups();

let lab: Lab;
let root: Root;
let count = 0;
let lastIndex = 8000;

beforeAll(async () => {
  lab = openLab('dpi-netns');
  root = rootOf(await enter(lab, lab.node));
});

afterAll(async () => {
  lab?.close();
  await remove();
});

interface Sandbox {
  netns: string;
  uid: string;
  /** Host side of its veth, of a name and without routes that tell nothing. */
  name: string;
  pod: { namespace: string; name: string; uid: string; addresses: string[] };
}

/** A network namespace with a veth to the node, and no process yet. */
function sandbox(addresses: string | string[], index?: number): Sandbox {
  const { netns, interface: cali } = lab.addPod({ name: `pod${++count}`, address: '10.97.0.1' });
  lab.exec(lab.node, 'ip', 'link', 'del', cali);
  const name = `lxc${count}`;
  const all = [addresses].flat();
  link(netns, name, 'eth0', all, index);
  const uid = randomUUID();
  return { netns, uid, name, pod: { namespace: 'default', name: `other${count}`, uid, addresses: all } };
}

function link(netns: string, name: string, inside: string, addresses: string[], index?: number): void {
  // The kernel takes an index for the peer only with one for the other side.
  const [own, other] =
    index === undefined
      ? [[], []]
      : [
          ['index', `${++lastIndex}`],
          ['index', `${index}`],
        ];
  const peer = ['type', 'veth', 'peer', 'name', inside, ...other, 'netns', netns];
  lab.exec(lab.node, 'ip', 'link', 'add', ...own, 'name', name, ...peer);
  lab.exec(lab.node, 'ip', 'link', 'set', name, 'up');
  lab.exec(netns, 'ip', 'link', 'set', inside, 'up');
  for (const address of addresses) {
    const how = address.includes(':') ? ['/128', 'nodad'] : ['/32'];
    lab.exec(netns, 'ip', 'addr', 'add', `${address}${how[0]}`, 'dev', inside, ...how.slice(1));
  }
}

/** A process of the pod. */
async function run({ netns, uid }: Pick<Sandbox, 'netns' | 'uid'>): Promise<number> {
  const pid = await enter(lab, netns);
  enroll(pid, `kubepods/burstable/pod${uid}/${pid}`);
  return pid;
}

function indexOf(name: string): number {
  return Number(lab.exec(lab.node, 'cat', `/sys/class/net/${name}/ifindex`));
}

describeNetwork('by the network namespace', () => {
  describeCgroups('of a process in a cgroup', () => {
    test.each([
      ['IPv4', ['10.5.0.1']],
      ['IPv6', ['fd00:5::1']],
      ['both', ['10.5.0.2', 'fd00:5::2']],
    ])('a pod is found: %s', async (_, addresses) => {
      const pod = sandbox(addresses);
      // Another pod whose eth0 has the same index.
      await run(sandbox('10.5.0.3'));
      await run(pod);
      expect(resolveInterface(pod.pod, readHost(root))).toEqual({
        kind: 'found',
        interface: pod.name,
        ifindex: indexOf(pod.name),
        by: 'netns',
      });
    });

    test("systemd's names of cgroups do as well", async () => {
      const pod = sandbox('10.5.1.1');
      const slice = `kubepods-besteffort-pod${pod.uid.replaceAll('-', '_')}.slice`;
      enroll(await enter(lab, pod.netns), `kubepods.slice/kubepods-besteffort.slice/${slice}/cri-containerd-0.scope`);
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({ kind: 'found', interface: pod.name });
    });

    test('helpers in the namespace of the node, and namespaces within the pod, do not mislead', async () => {
      const pod = sandbox('10.5.1.2');
      const nested = sandbox('10.5.1.2');
      await run({ netns: lab.node, uid: pod.uid });
      await run(pod);
      await run({ netns: nested.netns, uid: pod.uid });
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({ kind: 'found', interface: pod.name });
    });

    test("of several interfaces the one with the pod's IPv6 address is taken, else eth0", async () => {
      const pod = sandbox('10.5.1.3');
      link(pod.netns, 'multus', 'net1', ['10.5.1.4', 'fd00:5:1::4']);
      await run(pod);
      const host = readHost(root);
      expect(resolveInterface(pod.pod, host)).toMatchObject({ kind: 'found', interface: pod.name });
      const addresses = ['10.5.1.4', 'fd00:5:1::4'];
      expect(resolveInterface({ ...pod.pod, addresses }, host)).toMatchObject({ kind: 'found', interface: 'multus' });
    });

    test('several interfaces without eth0 are in doubt', async () => {
      const pod = sandbox('10.5.1.5');
      lab.exec(pod.netns, 'ip', 'link', 'set', 'eth0', 'down');
      lab.exec(pod.netns, 'ip', 'link', 'set', 'eth0', 'name', 'net0');
      await run(pod);
      link(pod.netns, 'multi2', 'net1', ['10.5.1.5']);
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({
        kind: 'ambiguous',
        candidates: [pod.name, 'multi2'],
        reason: expect.stringMatching(/any of net0, net1 may be/),
      });
      lab.exec(lab.node, 'ip', 'link', 'del', pod.name);
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({ kind: 'found', interface: 'multi2' });
    });

    test("a namespace without the pod's address is not the pod's", async () => {
      const pod = sandbox('10.5.1.6');
      const pid = await run(pod);
      const addresses = ['10.5.1.6', 'fd00:5:1::6'];
      expect(resolveInterface({ ...pod.pod, addresses }, readHost(root))).toMatchObject({
        kind: 'missing',
        reason: expect.stringContaining(`the network namespace of process ${pid} does not have fd00:5:1::6`),
      });
    });

    test('a macvlan has nothing on the node', async () => {
      const pod = sandbox('10.5.1.7');
      lab.exec(lab.node, 'ip', 'link', 'del', pod.name);
      lab.exec(lab.node, 'ip', 'link', 'add', 'uplink', 'type', 'veth', 'peer', 'name', 'uplink-p');
      lab.exec(lab.node, 'ip', 'link', 'add', 'link', 'uplink', 'name', 'mv0', 'type', 'macvlan', 'mode', 'bridge');
      lab.exec(lab.node, 'ip', 'link', 'set', 'mv0', 'netns', pod.netns);
      for (const command of ['link set mv0 name eth0', 'link set eth0 up', 'addr add 10.5.1.7/24 dev eth0'])
        lab.exec(pod.netns, 'ip', ...command.split(' '));
      await run(pod);
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({
        kind: 'missing',
        reason: expect.stringMatching(/the pod's eth0 .*: nothing on the node carries its packets alone$/),
      });
    });

    test("the node's /sys in a pod is not taken for the pod's", async () => {
      const index = 7001;
      const pod = sandbox('10.5.1.8', index);
      // The node has an eth0 as well, of the same index, that is one side of a veth.
      lab.exec(lab.node, 'ip', 'link', 'add', 'index', `${index}`, 'name', 'eth0', 'type', 'veth', 'peer', 'name', 'x');
      const pid = await inNodeSys(pod.netns);
      enroll(pid, `kubepods/pod${pod.uid}/1`);
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({
        kind: 'missing',
        reason: expect.stringContaining(`no process of the pod has its own /sys (looked at ${pid})`),
      });
      // A second process, with the right one, is asked then.
      await run(pod);
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({ kind: 'found', interface: pod.name });
    });

    test('what a pod forges in the place of /sys is not believed', async () => {
      // Both have the same index for eth0: all but the files' origin is right.
      const index = 7002;
      const victim = sandbox('10.5.1.9', index);
      const pod = sandbox('10.5.1.10', index);
      const forge = (name: string, own: number, other: number) =>
        `d=/sys/class/net/${name}; mkdir -p $d; echo IFINDEX=${own} >$d/uevent; echo ${other} >$d/iflink; echo 1 >$d/type;`;
      const files = forge('lo', 1, 1) + forge('eth0', index, indexOf(victim.name));
      const pid = await spawned(pod.netns, `mount -t tmpfs none /sys; ${files} echo; exec sleep 3600`);
      enroll(pid, `kubepods/pod${pod.uid}/1`);
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({
        kind: 'missing',
        reason: expect.stringContaining(`no process of the pod has its own /sys (looked at ${pid})`),
      });
    });

    test('a FIFO in the place of a file does not hold up the reader', async () => {
      const pod = sandbox('10.5.1.11');
      const script =
        'd=$(mktemp -d) && mkfifo $d/fifo && mount --bind $d/fifo /sys/devices/virtual/net/eth0/uevent && rm -r $d; echo; exec sleep 3600';
      enroll(await spawned(pod.netns, script), `kubepods/pod${pod.uid}/1`);
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({ kind: 'missing' });
    });

    test("what a bridge has learned is doubted when the pod's namespace says otherwise", async () => {
      const pod = sandbox('10.5.2.1');
      await run(pod);
      const on = (command: string) => lab.exec(lab.node, ...(command.split(' ') as [string, ...string[]]));
      on('ip link add br5 type bridge');
      on('ip link add liar type veth peer name liar-p');
      on('ip link set liar master br5 up');
      on('ip link set br5 up');
      on('ip neigh add 10.5.2.1 lladdr 02:00:00:05:02:01 dev br5');
      on('bridge fdb add 02:00:00:05:02:01 dev liar master static');
      expect(resolveInterface(pod.pod, readHost(root))).toEqual({
        kind: 'ambiguous',
        candidates: ['liar', pod.name],
        reason: `the bridge leads to liar, but other evidence leads to ${pod.name}`,
      });
    });

    test('it settles which of two routes is right', async () => {
      const pod = sandbox('10.5.2.2');
      await run(pod);
      lab.exec(lab.node, 'ip', 'link', 'add', 'stale', 'type', 'veth', 'peer', 'name', 'stale-p');
      lab.exec(lab.node, 'ip', 'link', 'set', 'stale', 'up');
      lab.exec(lab.node, 'ip', 'route', 'add', '10.5.2.2/32', 'dev', 'stale', 'metric', '1');
      lab.exec(lab.node, 'ip', 'route', 'add', '10.5.2.2/32', 'dev', pod.name, 'metric', '2');
      expect(resolveInterface(pod.pod, readHost(root))).toMatchObject({ interface: pod.name, by: 'netns' });
    });

    test('a pod in the namespace of the node has none', async () => {
      const uid = randomUUID();
      await run({ netns: lab.node, uid });
      const pod = { namespace: 'default', name: 'hostnetwork', uid, addresses: ['10.5.3.1'] };
      expect(resolveInterface(pod, readHost(root))).toMatchObject({
        kind: 'missing',
        reason: expect.stringContaining("the pod's processes are in the node's network namespace"),
      });
    });
  });
});

/** A process in a network namespace that prints a line once it is ready; its own mounts. */
async function spawned(netns: string, script: string): Promise<number> {
  const child = lab.spawn(netns, 'sh', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  return child.pid ?? 0;
}

/** A process in the pod's network namespace with the node's /sys. */
async function inNodeSys(netns: string): Promise<number> {
  const node = root.self?.split('/').at(-1) ?? '';
  const child = lab.spawn(
    lab.node,
    'nsenter',
    [`--mount=/proc/${node}/ns/mnt`, `--net=/run/netns/${netns}`, 'sh', '-c', 'echo $$; exec sleep 3600'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  return new Promise((resolve) => child.stdout?.once('data', (line: Buffer) => resolve(Number(String(line)))));
}
