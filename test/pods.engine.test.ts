/**
 * The agent on pods that the node's interfaces do not show, or not all of: real namespaces, real engine, an API server
 * of fixed answers.
 */
import { afterAll, expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lostOf, zeroCounters } from '../agent/capture/protocol.ts';
import type { Snapshot } from '../agent/observe/snapshot.ts';
import type { Lab, Pod } from '../scripts/lab.ts';
import { MARKER, payloadOf, runAgent, type RunningAgent, type Workspace } from './support/agent.ts';
import { settledCounters } from './support/books.ts';
import { openCgroups, whyNoCgroups } from './support/cgroups.ts';
import { describeLive, send, serve, useLab, useWorkspace } from './support/live.ts';
import { poll } from './support/poll.ts';
import { announce, resourceOfAll, serveOneNode, type OneNode } from './support/one-node.ts';
import { PROJECT } from './support/project.ts';
import { redirectPeer } from './support/redirect-peer.ts';

const PORT = 7777;

/** Takes datagrams and says nothing. */
const SINK = `
import socket, sys
sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sink.bind(('0.0.0.0', int(sys.argv[1])))
print('up', flush=True)
while True: sink.recv(100)`;

/** Sends a numbered datagram each 5 ms until it is told to end; prints how many it has sent. */
const STEADY = `
import select, socket, sys
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
count = 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    out.sendto(f'{sys.argv[3]} steady {count} end'.encode(), (sys.argv[1], int(sys.argv[2])))
    count += 1
print(count)`;

describeLive((engine) => {
  if (whyNoCgroups !== undefined) {
    process.stderr.write(`skipped: ${whyNoCgroups}\n`);
    test.skip(whyNoCgroups, () => undefined);
    return;
  }

  const cgroups = openCgroups();
  let lab: Lab;
  let workspace: Workspace;
  let agent: RunningAgent | undefined;

  useLab(`dpi-side-${engine}`, (made) => (lab = made));
  afterAll(() => cgroups.remove());
  useWorkspace((made) => (workspace = made));

  /** Of pods. */
  const processes: number[] = [];

  async function announced(pod: Pod, annotations?: Record<string, string>): Promise<object> {
    const { object, pid } = await announce(lab, cgroups, pod, annotations);
    processes.push(pid);
    return object;
  }

  async function start(pods: object[], capture: Record<string, unknown> = {}): Promise<OneNode> {
    const node = await serveOneNode(lab, workspace, { resources: [resourceOfAll()], pods });
    agent = await runAgent({
      lab,
      engine,
      workspace,
      pods: [],
      config: {
        kubernetes: { kubeconfig: node.kubeconfig },
        coverage: { windowMillis: '1m' },
        // Room for what comes while the capture process is not run.
        capture: { ringSize: '32MiB', ...capture },
        // Every alert is an event of its own.
        alerts: { burst: 0 },
      },
    });
    return node;
  }

  const running = (): RunningAgent => {
    if (agent === undefined) throw new Error('no agent runs');
    return agent;
  };

  const logged = (msg: string, { name }: Pod): Promise<Record<string, unknown>> =>
    running().logged((line) => line.msg === msg && line['endpoint'] === `default/${name}`);

  function eventOf(text: string): ReturnType<RunningAgent['event']> {
    return running().event((event) => payloadOf(event).includes(text));
  }

  async function command(...args: string[]): Promise<string> {
    const program = [process.execPath, join(PROJECT, 'bin/dpi-agent.js'), ...args];
    return new Promise((resolve, reject) => {
      execFile('ip', ['netns', 'exec', lab.node, ...program], (error, stdout) =>
        error === null ? resolve(stdout) : reject(error),
      );
    });
  }

  const status = (...args: string[]): Promise<string> =>
    command('status', '--socket', join(workspace.directory, 'state/agent.sock'), ...args);

  async function endpointOf({ name }: Pod): Promise<Snapshot['endpoints'][number] | undefined> {
    const snapshot = JSON.parse(await status('-o', 'json')) as Snapshot;
    return snapshot.endpoints.find(({ id }) => id === `default/${name}`);
  }

  /** Packets that the interface in the pod carried, in both directions, by the kernel. */
  function packets({ netns }: Pod, device: string): number {
    const read = (direction: string): number =>
      Number(lab.exec(netns, 'cat', `/sys/class/net/${device}/statistics/${direction}_packets`));
    return read('rx') + read('tx');
  }

  /** What is sent to it by the other goes past the host side of its veth. */
  function bypass(from: Pod, to: Pod): void {
    const object = join(workspace.directory, 'bypass.o');
    writeFileSync(object, redirectPeer(Number(lab.exec(lab.node, 'cat', `/sys/class/net/${to.interface}/ifindex`))));
    lab.exec(lab.node, 'tc', 'qdisc', 'add', 'dev', from.interface, 'clsact');
    const filter = `filter add dev ${from.interface} ingress protocol ip bpf da obj ${object} sec tc`;
    lab.exec(lab.node, 'tc', ...filter.split(' '));
  }

  test('a pod that packets reach past the node goes over to its own side, and no packet is missed or counted twice', async () => {
    const pod = lab.addPod({ name: 'bypassed', address: '10.81.0.2' });
    const client = lab.addPod({ name: 'client', address: '10.81.0.3' });
    const steady = lab.addPod({ name: 'steady', address: '10.81.0.4' });
    await serve(lab, pod.netns, PORT);
    await listen(pod, PORT);
    bypass(client, pod);
    const node = await start([await announced(pod)]);
    expect(await logged('pod is selected', pod)).toMatchObject({ interface: pod.interface, by: 'calico' });
    const atFirst = packets(pod, 'eth0');
    await logged('capturing', pod);
    // What comes by the node all the while is inspected once: before, after, and when it goes over.
    const endSteady = sendSteadily(steady, pod);
    const isOver = logged("not all of its packets pass the node's side: it is captured in the pod from now on", pod);
    let over: Record<string, unknown> | undefined;
    void isOver.then((line) => (over = line));
    // Each flow shows that the pod gets what does not pass the node: its acknowledgements.
    for (let round = 0; over === undefined; round++) {
      send(lab, client.netns, pod.address, PORT, `${MARKER} unseen ${round}`, 300_000);
      await sleep(200);
    }
    expect(over).toMatchObject({ from: pod.interface, interface: 'eth0', inside: ['eth0'] });
    const isInside = (): boolean => running().events.some((event) => payloadOf(event).includes('inside'));
    for (let round = 0; !isInside(); round++) {
      send(lab, client.netns, pod.address, PORT, `${MARKER} inside ${round}`);
      await sleep(200);
    }
    const sent = await endSteady();
    const numbers = (): string[] =>
      running().events.flatMap((event) => /steady (\d+) end/.exec(payloadOf(event))?.[1] ?? []);
    const lost = async (): Promise<number> => lostOf((await endpointOf(pod))?.counters ?? zeroCounters());
    await poll(async () => numbers().length >= sent || numbers().length + (await lost()) >= sent);
    const seen = new Set(numbers().map(Number));
    const missing = Array.from({ length: sent }, (_, index) => index).filter((number) => !seen.has(number));
    expect({ missing: missing.slice(await lost()), count: numbers().length }).toEqual({
      missing: [],
      count: seen.size,
    });
    expect(await eventOf('inside')).toMatchObject({
      source_ip: client.address,
      dest_ip: pod.address,
      dest_name: pod.name,
      record: { seen_at: [{ name: pod.name, interface: 'eth0' }] },
    });
    // From now on each packet of its interface is counted, and once.
    const before = await atRest(pod, 'eth0');
    for (let round = 0; round < 5; round++) send(lab, client.netns, pod.address, PORT, 'more', 200_000);
    const after = await atRest(pod, 'eth0');
    expect(after.counted - before.counted).toBe(after.carried - before.carried);
    // Nor was one counted twice when it went over: at first only one direction was.
    expect(after.counted).toBeLessThan(after.carried - atFirst);

    expect(await endpointOf(pod)).toMatchObject({
      state: { is: 'capturing' },
      taps: [{ interface: 'eth0', side: 'pod' }],
    });
    expect(await status()).toMatch(/^default\/bypassed +eth0 \(pod\) /m);
    await poll(() => {
      const { resolvers, active, podsCaptured } = node.status() ?? {};
      return resolvers?.['pod'] === 1 && active?.success === true && podsCaptured === 1;
    });
    // It stays there, though both directions are seen.
    expect(await endpointOf(pod)).toMatchObject({
      taps: [{ side: 'pod' }],
      coverage: { sending: true, receiving: true },
    });
    expect((await endpointOf(pod))?.coverage).not.toHaveProperty('oneWay');
    expect(running().log.filter((line) => line.msg === 'capture ends')).toEqual([]);
  });

  async function listen({ netns }: Pod, port: number): Promise<void> {
    const child = lab.spawn(netns, 'python3', ['-c', SINK, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => child.stdout?.once('data', resolve));
  }

  /** @returns ends it, and gives the number of datagrams. */
  function sendSteadily({ netns }: Pod, to: Pod): () => Promise<number> {
    const args = ['-c', STEADY, to.address, String(PORT), MARKER];
    const child = lab.spawn(netns, 'python3', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    return () =>
      new Promise((resolve) => {
        child.stdout?.once('data', (line: Buffer) => resolve(Number(String(line))));
        child.stdin?.end('\n');
      });
  }

  /** Packets that were counted, and that its interface carried, once neither becomes more. */
  async function atRest(pod: Pod, device: string): Promise<{ counted: number; carried: number }> {
    for (;;) {
      const carried = packets(pod, device);
      const [counters = zeroCounters()] = await settledCounters(workspace, [pod]);
      if (packets(pod, device) === carried) return { counted: counters.received, carried };
    }
  }

  test('capture.side host stays, and says what is not inspected', async () => {
    const pod = lab.addPod({ name: 'staying', address: '10.82.0.2' });
    const client = lab.addPod({ name: 'client2', address: '10.82.0.3' });
    await serve(lab, pod.netns, PORT);
    bypass(client, pod);
    const node = await start([await announced(pod)], { side: 'host' });
    await logged('capturing', pod);
    while (!node.status()?.errorConditions.some(({ message }) => message.includes('capture.side is host'))) {
      send(lab, client.netns, pod.address, PORT, 'unseen', 300_000);
      await sleep(200);
    }
    expect(await endpointOf(pod)).toMatchObject({ taps: [{ interface: pod.interface, side: 'host' }] });
  });

  test('a pod without a host side is captured in the pod from the beginning: macvlan', async () => {
    const pod = lab.addUplinkPod('macvlan', { name: 'macvlan', address: '10.83.0.2' });
    const client = lab.addUplinkPod('macvlan', { name: 'macvlan-client', address: '10.83.0.3' });
    await serve(lab, pod.netns, PORT);
    const object = await announced(pod);
    const node = await start([object]);
    expect(await logged('pod is selected', pod)).toMatchObject({ interface: 'eth0', by: 'pod' });
    await logged('capturing', pod);
    send(lab, client.netns, pod.address, PORT, `${MARKER} macvlan`);
    expect(await eventOf('macvlan')).toMatchObject({ dest_ip: pod.address, dest_name: pod.name });
    await poll(() => {
      const { resolvers, errorConditions, podsCaptured } = node.status() ?? {};
      return podsCaptured === 1 && resolvers?.['pod'] === 1 && errorConditions?.length === 0;
    });
    const explain = ['explain', '--kubeconfig', node.kubeconfig, '--node', 'test-node', '-n', 'default'];
    expect(await command(...explain, '--selector', "app == 'inspected'")).toMatch(
      /^macvlan +test-node +yes +eth0 in the pod$/m,
    );

    // Another capture process finds the namespace, though no process of the pod leads to it any more.
    for (const pid of processes.splice(0)) process.kill(pid, 'SIGKILL');
    const from = running().log.length;
    for (const pid of running().children('capture')) process.kill(pid, 'SIGKILL');
    await running().logged(({ msg, endpoint }) => msg === 'capturing' && endpoint === 'default/macvlan', from);
    await running().logged(({ msg }) => msg === 'engine reads packets', from);
    const isBack = (): boolean => running().events.some((event) => payloadOf(event).includes('again'));
    for (let round = 0; !isBack(); round++) {
      send(lab, client.netns, pod.address, PORT, `${MARKER} again ${round}`);
      await sleep(200);
    }
  });

  test('without the native library, such a pod is not captured, and the status says why', async () => {
    const pod = lab.addUplinkPod('macvlan', { name: 'unseen', address: '10.87.0.2' });
    const node = await start([await announced(pod)], { library: 'node-pcap' });
    const isTold = ({ message }: { message: string }): boolean =>
      /default\/unseen: .*node-pcap cannot enter/.test(message);
    while (!node.status()?.errorConditions.some(isTold)) await sleep(50);
    expect(node.status()).toMatchObject({ active: { success: false }, podsCaptured: 0 });
  });

  test('further networks and the loopback are captured beside the host side', async () => {
    const pod = lab.addPod({ name: 'wide', address: '10.84.0.2' });
    const client = lab.addPod({ name: 'wide-client', address: '10.84.0.3' });
    lab.addNetwork(pod, 'net1', '10.85.0.2/24');
    lab.addNetwork(client, 'net1', '10.85.0.3/24');
    await serve(lab, pod.netns, PORT);
    const networks = [
      { name: 'cni0', interface: 'eth0', ips: [pod.address], default: true },
      { name: 'default/storage', interface: 'net1', ips: ['10.85.0.2'] },
    ];
    const object = await announced(pod, {
      'k8s.v1.cni.cncf.io/network-status': JSON.stringify(networks),
    });
    await start([object], { loopback: true });
    await logged('capturing', pod);
    send(lab, client.netns, pod.address, PORT, `${MARKER} own`);
    send(lab, client.netns, '10.85.0.2', PORT, `${MARKER} further`);
    send(lab, pod.netns, '127.0.0.1', PORT, `${MARKER} decrypted`);
    expect(await eventOf('own')).toMatchObject({ source_ip: client.address, dest_name: pod.name });
    expect(await eventOf('further')).toMatchObject({
      source_ip: '10.85.0.3',
      dest_ip: '10.85.0.2',
      dest_name: pod.name,
    });
    expect(await eventOf('decrypted')).toMatchObject({ source_name: pod.name, dest_name: pod.name });
    expect(await endpointOf(pod)).toMatchObject({
      taps: [
        { interface: pod.interface, side: 'host' },
        { interface: 'net1', side: 'pod' },
        { interface: 'lo', side: 'pod' },
      ],
    });
    // What a pod says to its own address passes only its loopback.
    for (let round = 0; round < 4; round++) {
      send(lab, pod.netns, pod.address, PORT, `${MARKER} self ${round}`, 300_000);
      await sleep(1_100);
    }
    await running().event((event) => event.source_ip === pod.address && event.dest_ip === pod.address);
    await atRest(pod, 'lo');
    expect((await endpointOf(pod))?.coverage).not.toHaveProperty('oneWay');
    const { counters } = (await endpointOf(pod)) ?? {};
    // A loopback shows each packet twice, and one of them is nobody's.
    expect((counters?.forwarded ?? 0) + lostOf(counters ?? zeroCounters())).toBe(counters?.received);
  });

  test('an endpoint of the configuration is captured in the namespace that it names', async () => {
    const pod = lab.addUplinkPod('macvlan', { name: 'named', address: '10.86.0.2' });
    const client = lab.addUplinkPod('macvlan', { name: 'named-client', address: '10.86.0.3' });
    await serve(lab, pod.netns, PORT);
    const endpoint = { interface: 'eth0', netns: `/run/netns/${pod.netns}`, pod: pod.name, addresses: [pod.address] };
    agent = await runAgent({ lab, engine, workspace, pods: [], config: { endpoints: [endpoint] } });
    await logged('capturing', pod);
    send(lab, client.netns, pod.address, PORT, `${MARKER} named`);
    expect(await eventOf('named')).toMatchObject({ dest_name: pod.name });
  });
});
