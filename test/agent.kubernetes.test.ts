/** The agent as it runs on a node: real API server, real veths, real engine. Only the kubelet is played by the test. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLab, type Lab, type Pod } from '../scripts/lab.ts';
import {
  createWorkspace,
  journaled,
  MARKER,
  payloadOf,
  runAgent,
  type RunningAgent,
  type Workspace,
} from './support/agent.ts';
import { findTestEngine } from './support/engines.ts';
import { describeKubernetes, podObject, testOnOwnServer, useControlPlane } from './support/kubernetes.ts';
import { conversation, describeLive, inject, sendFrames } from './support/live.ts';
import { ethernet, ipBytes, tcpConversation, udpPacket, type Frame } from './support/packets.ts';
import type { ChurnedPod } from './support/pod-churn.ts';
import { whyNoProc } from './support/proc.ts';
import { PROJECT } from './support/project.ts';

const NODE = 'test-node';
const RESOURCES = 'deeppacketinspections.projectcalico.org';

interface NodeEntry {
  node: string;
  active: { success: boolean };
  podsSelected: number;
  podsCaptured: number;
  resolvers: Record<string, number>;
  errorConditions: { message: string }[];
}

/** What has nothing to do with the engine is tested with one. */
const FIRST = findTestEngine('snort') === undefined ? 'suricata' : 'snort';

describeKubernetes(() => {
  describeLive((engine) => {
    let lab: Lab;
    let workspace: Workspace;
    let namespace: string;
    let agent: RunningAgent;
    /** With the rights of the DaemonSet's service account, and no more. */
    let kubeconfig: string;

    beforeAll(() => {
      lab = openLab(`dpi-kube-${engine}`);
    });
    afterAll(() => lab.close());
    const cluster = useControlPlane({
      wrap: (command, args) => ['ip', ['netns', 'exec', lab.node, command, ...args]],
    });
    const kubectl = (...args: string[]): string => cluster().kubectl(...args, '-n', namespace);

    beforeAll(() => {
      cluster().kubectl('apply', '-f', join(PROJECT, 'deploy/namespace.yaml'), '-f', join(PROJECT, 'deploy/rbac.yaml'));
      kubeconfig = cluster().serviceAccount('tigera-dpi', 'tigera-dpi').kubeconfig;
      install('projectcalico.org');
    });
    beforeEach(() => {
      workspace = createWorkspace();
      namespace = cluster().namespace();
    });
    afterEach(async () => {
      // Not every test starts one.
      await (agent as RunningAgent | undefined)?.stop('SIGKILL');
      kubectl('delete', `pods,${RESOURCES}`, '--all', '--grace-period=0', '--force', '--wait=false');
      workspace.remove();
    });

    function install(group: string): void {
      const file = join(PROJECT, `deploy/crds/${group}/deeppacketinspections.yaml`);
      cluster().kubectl('apply', '-f', file);
      cluster().kubectl('wait', '--for=condition=Established', '--timeout=300s', `crd/deeppacketinspections.${group}`);
      // For a moment it is established and refuses requests; kubectl asks again.
      cluster().kubectl('get', `deeppacketinspections.${group}`, '-A');
    }

    async function start(config: object = {}): Promise<void> {
      agent = await runAgent({
        lab,
        engine,
        workspace,
        pods: [],
        config: { node: NODE, kubernetes: { kubeconfig }, ...config },
      });
    }

    /** A pod with its veth, as a kubelet and a network plugin make it. */
    function addPod(name: string, address: string, labels: Record<string, string> = {}): Pod {
      const pod = lab.addPod({ name, namespace, address });
      announce(name, address, labels);
      return pod;
    }

    function announce(name: string, address: string, labels: Record<string, string> = {}, spec: object = {}): void {
      const object = podObject(namespace, name, NODE, labels);
      cluster().apply({ ...object, spec: { ...object.spec, ...spec } });
      setStatus(name, { phase: 'Running', podIP: address, podIPs: [{ ip: address }] });
    }

    function setStatus(name: string, status: object): void {
      kubectl('patch', 'pod', name, '--subresource=status', '-p', JSON.stringify({ status }));
    }

    function addResource(name: string, selector: string, apiVersion = 'projectcalico.org/v3'): void {
      cluster().apply({ apiVersion, kind: 'DeepPacketInspection', metadata: { name, namespace }, spec: { selector } });
    }

    /** This node's entry of a status, once it is as `check` wants it. */
    async function entry(
      resource: string,
      check: (entry: NodeEntry | undefined) => boolean,
    ): Promise<NodeEntry | undefined> {
      for (let last = ''; ; await sleep(500)) {
        last = kubectl('get', RESOURCES, resource, '-o', 'jsonpath={.status.nodes}');
        const own = (last === '' ? [] : (JSON.parse(last) as NodeEntry[])).find(({ node }) => node === NODE);
        if (check(own)) return own;
      }
    }

    const logged = (msg: string, name: string, from = 0): Promise<unknown> =>
      agent.logged((line) => line.msg === msg && line['endpoint'] === `${namespace}/${name}`, from);

    function say(pod: Pod, text: string, port: number): void {
      inject(lab, workspace, pod.netns, 'eth0', conversation(`${MARKER} ${text}`, port, pod.address, '10.66.0.99'));
    }

    /** Resolves when what the pod says becomes an event. */
    async function isInspected(pod: Pod, text: string, port = 5000): Promise<void> {
      say(pod, text, port);
      const event = await agent.event((e) => payloadOf(e).includes(text));
      expect(event).toMatchObject({ source_namespace: namespace, source_name: pod.name });
    }

    test('a resource and a pod become an event that names both ends, and status tells of it', async () => {
      const backend = addPod('backend-7d4b-x', '10.66.0.2', { app: 'backend' });
      const attacker = addPod('attacker', '10.66.0.3');
      await start();
      addResource('dpi', 'app == "backend"');
      await logged('capturing', 'backend-7d4b-x');
      inject(lab, workspace, backend.netns, 'eth0', conversation(MARKER, 5001, backend.address, attacker.address));
      expect(await agent.event(() => true)).toMatchObject({
        origin: `dpi.${namespace}/dpi`,
        host: NODE,
        source_namespace: namespace,
        source_name: 'backend-7d4b-x',
        dest_namespace: namespace,
        dest_name: 'attacker',
        record: { seen_at: [{ namespace, name: 'backend-7d4b-x', interface: backend.interface }] },
      });
      expect(await entry('dpi', (own) => own?.podsCaptured === 1)).toMatchObject({
        active: { success: true },
        podsSelected: 1,
        resolvers: { calico: 1 },
        errorConditions: [],
      });
      expect(kubectl('get', RESOURCES, 'dpi')).toMatch(
        /SELECTOR +NODES +PODS +ERRORS +AGE\ndpi +app == "backend" +1 +1 +0 /,
      );
      for (const pod of [backend, attacker]) lab.removePod(pod);
    });

    if (engine !== FIRST) return;

    test('a pod of which only one direction passes is a condition with what to do, until both pass', async () => {
      const pod = addPod('bypassed', '10.66.0.20', { app: 'bypassed' });
      await start({ coverage: { windowMillis: '5s' } });
      addResource('one-way', 'app == "bypassed"');
      await logged('capturing', 'bypassed');
      const talk = (exchange: string[]): Frame[] =>
        tcpConversation({
          client: pod.address,
          server: '10.66.0.99',
          exchange: exchange.flatMap((data) => [
            { from: 'client' as const, data },
            { from: 'server' as const, data },
          ]),
        });
      const isOwn = ({ data }: Frame): boolean => data.subarray(26, 30).equals(ipBytes(pod.address, 4));
      let frames = talk(['one', 'two', 'three']).filter(isOwn);
      const sending = setInterval(() => inject(lab, workspace, pod.netns, 'eth0', frames), 1_000);
      try {
        const complains = (own: NodeEntry | undefined): boolean =>
          own?.errorConditions.some(({ message }) => message.includes('only what it sends passes')) === true;
        expect(await entry('one-way', complains)).toMatchObject({
          active: { success: true },
          podsCaptured: 1,
          errorConditions: [{ message: expect.stringContaining('bpfRedirectToPeer') }],
        });
        frames = talk(['one', 'two', 'three']);
        await entry('one-way', (own) => own !== undefined && !complains(own));
      } finally {
        clearInterval(sending);
      }
    });

    test('labels and resources that change start and end the capture', async () => {
      const pod = addPod('one', '10.66.0.2', { app: 'backend' });
      addResource('dpi', 'app == "backend"');
      await start();
      await logged('capturing', 'one');
      let from = agent.log.length;
      kubectl('label', 'pod', 'one', 'app=frontend', '--overwrite');
      await logged('capture ends', 'one', from);
      expect(await entry('dpi', (own) => own === undefined)).toBeUndefined();
      say(pod, 'unseen', 5000);
      from = agent.log.length;
      kubectl('label', 'pod', 'one', 'app=backend', '--overwrite');
      await logged('capturing', 'one', from);
      addResource('second', 'all()');
      await entry('second', (own) => own?.podsCaptured === 1);
      await isInspected(pod, 'seen', 5001);
      from = agent.log.length;
      kubectl('delete', RESOURCES, 'dpi', 'second');
      await logged('capture ends', 'one', from);
      await agent.stop();
      // Once for each resource; nothing of the time when none selected it.
      expect(
        journaled(workspace)
          .map(({ origin }) => origin)
          .toSorted(),
      ).toEqual([`dpi.${namespace}/dpi`, `dpi.${namespace}/second`]);
      lab.removePod(pod);
    });

    test('a pod deleted and made again under its name is inspected by its new interface', async () => {
      const before = addPod('one', '10.66.0.2', { app: 'backend' });
      addResource('dpi', 'all()');
      await start();
      await logged('capturing', 'one');
      const from = agent.log.length;
      kubectl('delete', 'pod', 'one', '--grace-period=0', '--force');
      lab.removePod(before);
      const after = addPod('one', '10.66.0.3', { app: 'backend' });
      await logged('capturing', 'one', from);
      await isInspected(after, 'reborn');
      lab.removePod(after);
    });

    test('what cannot be inspected is left alone, and what lacks an interface is in the status until it has one', async () => {
      announce('on-the-node', '10.66.0.1', {}, { hostNetwork: true });
      announce('done', '10.66.0.5');
      setStatus('done', { phase: 'Succeeded' });
      announce('late', '10.66.0.6');
      addResource('dpi', 'all()');
      await start();
      const wrong = await entry('dpi', (own) => own?.errorConditions.length === 1);
      expect(wrong).toMatchObject({ active: { success: false }, podsSelected: 1, podsCaptured: 0 });
      expect(wrong?.errorConditions[0]?.message).toMatch(/^pod dpi-test-\w+\/late: .*no host route to 10\.66\.0\.6/);
      expect(kubectl('describe', RESOURCES, 'dpi')).toContain('no host route to 10.66.0.6');
      const late = lab.addPod({ name: 'late', namespace, address: '10.66.0.6' });
      await entry('dpi', (own) => own?.podsCaptured === 1 && own.errorConditions.length === 0);
      await isInspected(late, 'at last');
      lab.removePod(late);
    });

    test('ends on other nodes, and Services, have their names in events', async () => {
      const pod = addPod('one', '10.66.0.2');
      cluster().apply(podObject(namespace, 'far-away', 'another-node'));
      setStatus('far-away', { phase: 'Running', podIP: '10.66.9.9', podIPs: [{ ip: '10.66.9.9' }] });
      cluster().apply({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'web', namespace },
        spec: { ports: [{ port: 80 }], clusterIP: '10.96.77.7' },
      });
      addResource('dpi', 'all()');
      await start();
      await logged('capturing', 'one');
      for (const [address, name] of [
        ['10.66.9.9', 'far-away'],
        ['10.96.77.7', 'web'],
        ['10.66.8.8', '-'],
      ] as const) {
        // The first look-up of an address may take longer than an event waits.
        for (let port = 5000; ; port++) {
          inject(
            lab,
            workspace,
            pod.netns,
            'eth0',
            conversation(`${MARKER} ${name} ${port}`, port, pod.address, address),
          );
          const event = await agent.event((e) => payloadOf(e).includes(`${name} ${port}`));
          expect(event.source_name).toBe('one');
          if (event.dest_name === name) break;
          expect(event.dest_name).toBe('-');
          expect(port).toBeLessThan(5020);
        }
      }
      lab.removePod(pod);
    });

    test('a clean exit takes this node out of the status', async () => {
      const pod = addPod('one', '10.66.0.2');
      addResource('dpi', 'all()');
      await start();
      await entry('dpi', (own) => own?.podsCaptured === 1);
      await agent.stop('SIGTERM');
      expect(await entry('dpi', () => true)).toBeUndefined();
      lab.removePod(pod);
    });

    test('500 pods, of which 10 a second are made again for a minute, are each inspected as what they are', async () => {
      addResource('dpi', 'app == "churn"');
      await start();
      const script = join(PROJECT, 'dist/test/support/pod-churn.js');
      const child = lab.spawn(
        lab.node,
        process.execPath,
        [script, cluster().kubeconfig, namespace, NODE, '500', '10', '60'],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      const lines: string[] = [];
      if (child.stdout !== null) for await (const line of createInterface({ input: child.stdout })) lines.push(line);
      const pods = JSON.parse(lines.at(-1) ?? '') as ChurnedPod[];
      expect(pods).toHaveLength(500);
      await entry('dpi', (own) => own?.podsCaptured === 500 && own.errorConditions.length === 0);
      sendFrames(
        lab,
        workspace,
        lab.node,
        pods.map(({ name, uid, address, inside }) => [
          inside,
          ethernet(
            udpPacket({
              source: address,
              destination: '10.66.0.99',
              sourcePort: 1,
              destinationPort: 7,
              payload: `${MARKER} ${name} ${uid}`,
            }),
          ),
        ]),
      );
      for (const { name, uid } of pods) {
        const event = await agent.event((e) => payloadOf(e).includes(`${name} ${uid}`));
        expect(event).toMatchObject({ source_name: name, source_namespace: namespace });
      }
      const count = (msg: string): number => agent.log.filter((line) => line.msg === msg).length;
      // Made again while it was looked for is another one, too: there may be fewer, not more.
      expect(count('pod is selected') - count('capture ends')).toBe(500);
      const sockets =
        whyNoProc === undefined ? agent.children('capture').flatMap((pid) => readdirSync(`/proc/${pid}/fd`)) : [];
      expect(sockets.length).toBeLessThan(600);
      expect(agent.log.filter(({ level }) => level === 'error')).toEqual([]);
      expect(agent.events).toHaveLength(500);
    });

    test('check asks the API server what run would ask', () => {
      const check = (...args: string[]): string => {
        const command = [
          process.execPath,
          join(PROJECT, 'bin/dpi-agent.js'),
          'check',
          '-e',
          engine,
          '-o',
          'json',
          ...args,
        ];
        const folders = [
          '--stateDirectory',
          join(workspace.directory, 'state'),
          '--journal.directory',
          workspace.journal,
        ];
        const { stdout } = spawnSync('ip', ['netns', 'exec', lab.node, ...command, ...folders], { encoding: 'utf8' });
        return (JSON.parse(stdout) as { level: string; subject: string; message: string }[])
          .filter(({ subject }) => subject === 'cluster')
          .map(({ level, message }) => `${level}: ${message}`)
          .join('\n');
      };
      announce('one', '10.66.0.2');
      const server = cluster().server.replaceAll('.', '\\.');
      expect(check('--kubeconfig', kubeconfig, '--node', NODE)).toMatch(
        new RegExp(`^ok: ${server} has \\d+ resources? of projectcalico\\.org/v3\nok: node ${NODE} has \\d+ pods?$`),
      );
      expect(check('--kubeconfig', kubeconfig, '--node', 'nowhere')).toContain('warning: no pod is on a node nowhere');
      const { kubeconfig: powerless } = cluster().serviceAccount(namespace, 'nobody');
      expect(check('--kubeconfig', powerless)).toMatch(/^error: .*deeppacketinspections.* forbidden/);
    });

    describe('explain', () => {
      function explain(...args: string[]): { status: number | null; stdout: string; stderr: string } {
        const command = [
          process.execPath,
          join(PROJECT, 'bin/dpi-agent.js'),
          'explain',
          '--kubeconfig',
          kubeconfig,
          '--node',
          NODE,
        ];
        return spawnSync('ip', ['netns', 'exec', lab.node, ...command, ...args], { encoding: 'utf8' });
      }

      test('says of each pod whether it would be inspected, by which interface, and why not', () => {
        const pod = addPod('one', '10.66.0.2', { app: 'backend' });
        announce('two', '10.66.0.3', { app: 'backend' });
        announce('other', '10.66.0.4', { app: 'frontend' });
        announce('on-the-node', '10.66.0.1', { app: 'backend' }, { hostNetwork: true });
        cluster().apply(podObject(namespace, 'far-away', 'another-node', { app: 'backend' }));
        setStatus('far-away', { phase: 'Running', podIP: '10.66.9.9', podIPs: [{ ip: '10.66.9.9' }] });
        const { status, stdout } = explain('--selector', 'app == "backend"', '-n', namespace, '-o', 'json');
        expect(status).toBe(0);
        const said = stdout
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line) as Record<string, unknown>);
        expect(said.map(({ pod: name, selected, inspected }) => [name, selected, inspected])).toEqual([
          ['far-away', true, true],
          ['on-the-node', true, false],
          ['one', true, true],
          ['two', true, false],
          ['other', false, false],
        ]);
        expect(said[0]).toMatchObject({ node: 'another-node', why: 'by the agent on another-node' });
        expect(said[2]).toMatchObject({ interface: pod.interface, by: 'calico' });
        expect(said[3]?.['why']).toContain('no host route to 10.66.0.3');
        expect(said[4]?.['why']).toBe('not app == "backend": app is "frontend"');
        const table = explain('--selector', 'app == "backend"', '-n', namespace).stdout;
        expect(table).toContain('selects 4 of 5 pods');
        expect(table).toMatch(new RegExp(`^one +test-node +yes +${pod.interface} \\(calico\\)$`, 'm'));
        lab.removePod(pod);
      });

      test('takes resources of the cluster and of files', () => {
        announce('one', '10.66.0.2');
        addResource('dpi', 'all()');
        expect(explain('-n', namespace).stdout).toContain(`${namespace}/dpi  all()`);
        const file = join(workspace.directory, 'dpi.yaml');
        const resource = { kind: 'DeepPacketInspection', metadata: { name: 'filed' }, spec: { selector: 'has(app)' } };
        writeFileSync(file, `${JSON.stringify({ kind: 'Namespace' })}\n---\n${JSON.stringify(resource)}\n`);
        expect(explain('-f', file, '-n', namespace).stdout).toContain('not has(app): app is absent');
      });

      test('shows where a selector is wrong, and what it was not given', () => {
        expect(explain('--selector', 'app = "x"')).toMatchObject({
          status: 2,
          stderr: expect.stringContaining('app = "x"\ndpi-agent:       ^\n'),
        });
        expect(explain('-f', '/nowhere.yaml')).toMatchObject({
          status: 2,
          stderr: expect.stringContaining('/nowhere.yaml cannot be read'),
        });
        expect(explain('-n', namespace)).toMatchObject({
          status: 1,
          stderr: expect.stringContaining('there is no DeepPacketInspection'),
        });
      });
    });

    describe('an API server that changes', () => {
      testOnOwnServer('is away: inspection goes on, and what changed meanwhile is followed afterwards', async () => {
        const pod = addPod('one', '10.66.0.2', { app: 'backend' });
        addResource('dpi', 'app == "backend"');
        await start();
        await logged('capturing', 'one');
        const from = agent.log.length;
        await cluster().controlPlane().apiServer.kill('SIGKILL');
        await agent.logged(({ msg }) => msg === 'the API server does not answer; what is known stays', from);
        await isInspected(pod, 'meanwhile');
        await cluster().controlPlane().apiServer.start();
        kubectl('label', 'pod', 'one', 'app=frontend', '--overwrite');
        await logged('capture ends', 'one', from);
        for (const what of ['pods of this node', 'resources of projectcalico.org/v3']) {
          await agent.logged((line) => line.msg === 'the API server answers again' && line['what'] === what, from);
        }
        lab.removePod(pod);
      });

      testOnOwnServer('serves v1 only, then v3 in its place', async () => {
        const pod = addPod('one', '10.66.0.2');
        cluster().kubectl('delete', 'crd', RESOURCES);
        install('crd.projectcalico.org');
        addResource('old', 'all()', 'crd.projectcalico.org/v1');
        await start();
        await logged('capturing', 'one');
        install('projectcalico.org');
        const from = agent.log.length;
        addResource('new', 'all()');
        // While v1 is there, v3 is asked for once in ten minutes only.
        cluster().kubectl('delete', 'crd', 'deeppacketinspections.crd.projectcalico.org');
        await agent.logged(
          (line) => line.msg === 'following DeepPacketInspection resources' && line['api'] === 'projectcalico.org/v3',
          from,
        );
        await entry('new', (own) => own?.podsCaptured === 1);
        await isInspected(pod, 'by the new one');
        expect(agent.events.at(-1)?.origin).toBe(`dpi.${namespace}/new`);
        lab.removePod(pod);
      });
    });
  });
});
