/**
 * The agent on a real cluster of one node, from the image of the Dockerfile and the manifests in deploy/: what a user
 * does, in order. Each test goes on where the one before it ended.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import type { ResourceStatus } from '../../agent/kube/resources.ts';
import type { EeEvent } from '../../agent/events/event.ts';
import { NODE, openCluster, whyNoCluster, type Cluster } from '../../scripts/cluster.ts';
import {
  AGENT_IMAGE,
  buildAgentImage,
  buildSnortImage,
  buildWorkloadImage,
  saveImage,
  SNORT_IMAGE,
  WORKLOAD_IMAGE,
} from '../../scripts/image.ts';
import { CLUSTER, kubernetesDirectory, missingPrograms, whyNoKubernetes } from '../../scripts/kubernetes.mjs';
import { findTestEngine } from '../support/engines.ts';
import { PROJECT } from '../support/project.ts';

/** Every wait fails by then; a machine of a tenth of the speed is within it. */
const DEADLINE_MILLIS = 240_000;
const SETUP_MILLIS = 1_800_000;

const SERVER = `require('node:http').createServer((request, response) => {
  request.resume().on('end', () => response.end('ok'));
}).listen(80)`;

const missing =
  whyNoCluster() ??
  (missingPrograms(CLUSTER).length === 0
    ? undefined
    : (whyNoKubernetes(CLUSTER) ?? `${missingPrograms(CLUSTER).join(', ')} are not built: run npm run test:cluster`));
if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);
const snort = findTestEngine('snort')?.binary;
if (missing === undefined && snort === undefined)
  process.stderr.write('skipped: Snort 3 on a cluster: it is not installed; both run with Suricata\n');

for (const { cni, resolver, quiet } of [
  { cni: 'ptp', resolver: 'route', quiet: 'route' },
  // Until a pod has spoken with the node, the bridge does not say which address is behind which interface.
  { cni: 'bridge', resolver: 'bridge', quiet: 'netns' },
] as const) {
  (missing === undefined ? describe : describe.skip)(missing ?? `with CNI ${cni}`, () => {
    let cluster: Cluster;
    let backend = '';
    /** One of them has Snort, where there is one. */
    const image = snort !== undefined && cni === 'ptp' ? SNORT_IMAGE : AGENT_IMAGE;

    beforeAll(async () => {
      const say = (line: string): void => void process.stderr.write(`cluster: ${line}\n`);
      await buildAgentImage(say);
      if (snort !== undefined && image === SNORT_IMAGE) await buildSnortImage(snort, say);
      await buildWorkloadImage(say);
      const images = [await saveImage(image), await saveImage(WORKLOAD_IMAGE)];
      cluster = await openCluster({ cni, binaries: join(kubernetesDirectory(), 'bin'), say });
      say('loading images');
      for (const file of images) cluster.loadImage(file);
      say('testing');
    }, SETUP_MILLIS);

    afterAll(async () => {
      await cluster?.close();
    }, SETUP_MILLIS);

    /** The tutorial's request, from a pod. */
    function attack(body = 'smk=1234'): void {
      const curl = `curl -sS --max-time 60 http://${backend}:80 -XPOST --data-raw ${body} -H`.split(' ');
      cluster.kubectl('exec', 'attacker', '--', ...curl, 'User-Agent: Mozilla/4.0');
    }

    /** What the node's log has of the tutorial's rule. */
    function events(): EeEvent[] {
      const folder = cluster.nodePath('/var/log/calico/snort-alerts');
      if (!existsSync(folder)) return [];
      return readdirSync(folder)
        .filter((name) => name.endsWith('.ndjson'))
        .sort()
        .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n').slice(0, -1))
        .map((line) => JSON.parse(line) as EeEvent)
        .filter(({ record }) => record.snort_signature_id === '1000001');
    }

    /** The bodies of the requests that were found, in order. */
    const bodies = (): string[] =>
      events().map(
        ({ record }) => /smk=[\w-]*/.exec(Buffer.from(record.payload ?? '', 'base64').toString('latin1'))?.[0] ?? '',
      );

    const status = (): ResourceStatus | undefined =>
      (cluster.get('deeppacketinspections', 'sample-dpi') as { status?: ResourceStatus }).status;

    const agentPod = (): string =>
      cluster.kubectl(
        '-n',
        'tigera-dpi',
        'get',
        'pods',
        '-l',
        'k8s-app=tigera-dpi',
        '-o',
        'jsonpath={.items[*].metadata.name}',
      );

    /** What the agent itself says it captures, whatever the status says. */
    const capturing = (): number =>
      Number(
        /^dpi_agent_endpoints\{state="capturing"\} (\d+)$/m.exec(
          cluster.onNode('curl', '-sS', '--max-time', '10', 'http://127.0.0.1:9097/metrics'),
        )?.[1],
      );

    const addBackend = async (): Promise<void> => {
      backend = await cluster.addWorkload({
        name: 'backend',
        labels: { app: 'backend' },
        command: ['node', '-e', SERVER],
      });
      await until('the backend listens', () => cluster.onNode('curl', '-sS', '--max-time', '10', backend) === 'ok');
    };

    /** Waits until it holds; what it throws meanwhile counts as no. */
    async function until(what: string, check: () => boolean): Promise<void> {
      const deadline = Date.now() + DEADLINE_MILLIS;
      let last: unknown;
      while (Date.now() < deadline) {
        try {
          if (check()) return;
          last = undefined;
        } catch (error) {
          last = error;
        }
        // Most looks start kubectl.
        await sleep(500);
      }
      throw new Error(`waited in vain: ${what}\n${diagnosis()}`, { cause: last });
    }

    function diagnosis(): string {
      return [
        ['get', 'pods', '-A', '-o', 'wide'],
        ['get', 'deeppacketinspections', '-A', '-o', 'yaml'],
        ['-n', 'tigera-dpi', 'describe', 'pods'],
        ['-n', 'tigera-dpi', 'logs', 'daemonset/tigera-dpi', '--tail=50'],
      ]
        .map((args) => {
          try {
            return cluster.kubectl(...args);
          } catch (error) {
            return String(error);
          }
        })
        .join('\n');
    }

    test('deploy/ makes an agent that becomes ready on the node', async () => {
      const overlay = join(cluster.nodePath('/run/overlay'));
      mkdirSync(overlay, { recursive: true });
      const kustomization = {
        resources: [relative(overlay, join(PROJECT, 'deploy'))],
        images: [{ name: 'dpi-agent', newName: image.split(':')[0], newTag: image.split(':')[1] }],
      };
      writeFileSync(join(overlay, 'kustomization.yaml'), stringify(kustomization));
      cluster.kubectl('apply', '-k', overlay);
      await until('the agent is ready', () => {
        const ready = 'jsonpath={.status.numberReady}/{.status.desiredNumberScheduled}';
        return cluster.kubectl('-n', 'tigera-dpi', 'get', 'daemonset', 'tigera-dpi', '-o', ready) === '1/1';
      });
    });

    test('check finds nothing wrong inside the pod', () => {
      const command = ['dpi-agent', 'check', '--config', '/etc/dpi-agent/dpi-agent.yaml', '--output', 'json'];
      const findings = JSON.parse(
        cluster.kubectl('-n', 'tigera-dpi', 'exec', 'daemonset/tigera-dpi', '--', ...command),
      ) as { level: string; subject: string; message: string }[];
      // No interface is named: the cluster names them.
      expect(findings.filter(({ level, subject }) => level !== 'ok' && subject !== 'interface')).toEqual([]);
    });

    test('the example resource selects the backend, and the status says by which resolver', async () => {
      await addBackend();
      await cluster.addWorkload({ name: 'attacker' });
      cluster.kubectl('apply', '-f', join(PROJECT, 'deploy/examples/backend.yaml'));
      await until('the backend is captured', () => status()?.podsCaptured === 1);
      expect(status()).toEqual({
        nodes: [
          {
            node: NODE,
            active: { success: true, lastUpdated: expect.any(String) },
            podsSelected: 1,
            podsCaptured: 1,
            resolvers: { [resolver]: 1 },
            errorConditions: [],
          },
        ],
        nodesActive: 1,
        podsSelected: 1,
        podsCaptured: 1,
        errors: 0,
      });
      const [header = '', row = ''] = cluster.kubectl('get', 'deeppacketinspections', '-A').split('\n');
      expect(header.split(/\s{2,}/)).toEqual(['NAMESPACE', 'NAME', 'SELECTOR', 'NODES', 'PODS', 'ERRORS', 'AGE']);
      expect(row.split(/\s{2,}/).slice(0, -1)).toEqual(['default', 'sample-dpi', 'app == "backend"', '1', '1', '0']);
    });

    test('a second pod with the label is captured too, and is let go of when it is deleted', async () => {
      await cluster.addWorkload({ name: 'quiet', labels: { app: 'backend' } });
      await until('both are captured', () => capturing() === 2 && status()?.podsCaptured === 2);
      const resolvers = resolver === quiet ? { [resolver]: 2 } : { [resolver]: 1, [quiet]: 1 };
      expect(status()?.nodes?.[0]?.resolvers).toEqual(resolvers);
      cluster.kubectl('delete', 'pod', 'quiet');
      await until('one is captured', () => capturing() === 1 && status()?.podsCaptured === 1);
    });

    test("the tutorial's request becomes an event in the node's log, with the names of both pods", async () => {
      attack();
      await until('the event', () => events().length > 0);
      expect(events()).toEqual([
        expect.objectContaining({
          type: 'deep_packet_inspection',
          origin: 'dpi.default/sample-dpi',
          host: NODE,
          source_name: 'attacker',
          source_namespace: 'default',
          dest_ip: backend,
          dest_port: 80,
          dest_name: 'backend',
          dest_namespace: 'default',
        }),
      ]);
    });

    test('a label that is taken away ends the inspection, and the label put back begins it again', async () => {
      cluster.kubectl('label', 'pod', 'backend', 'app-');
      await until('nothing is captured', () => capturing() === 0 && (status()?.podsCaptured ?? 0) === 0);
      attack('smk=unlabelled');
      cluster.kubectl('label', 'pod', 'backend', 'app=backend');
      await until('the backend is captured', () => capturing() === 1 && status()?.podsCaptured === 1);
      attack('smk=labelled');
      await until('the event', () => events().length > 1);
      expect(bodies()).toEqual(['smk=1234', 'smk=labelled']);
    });

    test('a pod that is deleted and made again under its name is inspected again', async () => {
      cluster.kubectl('delete', 'pod', 'backend');
      await addBackend();
      await until('the new backend is captured', () => capturing() === 1 && status()?.podsCaptured === 1);
      attack('smk=again');
      await until('the event', () => bodies().includes('smk=again'));
      expect(events().at(-1)).toMatchObject({ source_name: 'attacker', dest_name: 'backend', dest_ip: backend });
    });

    test('an agent that is killed comes back, inspects, and reports nothing twice', async () => {
      const restarts = (): number =>
        Number(
          cluster.kubectl(
            '-n',
            'tigera-dpi',
            'get',
            'pod',
            agentPod(),
            '-o',
            'jsonpath={.status.containerStatuses[0].restartCount}',
          ),
        );
      const before = restarts();
      const [pid = ''] = cluster.onNode('pgrep', '-f', '^node .*dpi-agent.* run').split('\n');
      cluster.onNode('kill', '-9', pid);
      await until('the container was started again', () => restarts() > before);
      await until('the backend is captured', () => capturing() === 1);
      attack('smk=restarted');
      await until('the event', () => bodies().includes('smk=restarted'));
      expect(bodies()).toEqual(['smk=1234', 'smk=labelled', 'smk=again', 'smk=restarted']);
    });

    test('an agent pod that is deleted is replaced, and inspects', async () => {
      const before = agentPod();
      cluster.kubectl('-n', 'tigera-dpi', 'delete', 'pod', before);
      await until('another pod', () => !['', before].includes(agentPod()));
      await until('the backend is captured', () => capturing() === 1);
      attack('smk=replaced');
      await until('the event', () => bodies().includes('smk=replaced'));
    });

    test('without its resource nothing is inspected, and no status is left', async () => {
      const count = bodies().length;
      cluster.kubectl('delete', 'deeppacketinspection', 'sample-dpi');
      await until('nothing is captured', () => capturing() === 0);
      attack('smk=unselected');
      cluster.kubectl('apply', '-f', join(PROJECT, 'deploy/examples/backend.yaml'));
      await until('the backend is captured', () => capturing() === 1);
      attack('smk=selected');
      await until('the event', () => bodies().includes('smk=selected'));
      expect(bodies().slice(count)).toEqual(['smk=selected']);
    });

    test('a resource that selects no pod of the node has no status of it', async () => {
      cluster.kubectl(
        'patch',
        'deeppacketinspection',
        'sample-dpi',
        '--type=merge',
        '-p',
        '{"spec":{"selector":"app == \\"none\\""}}',
      );
      await until('nothing is captured', () => capturing() === 0);
      await until('no entry of the node', () => (status()?.nodes ?? []).length === 0);
    });

    // Their objects are the same with every network, and so is the image's part in it.
    if (cni === 'bridge')
      test('uninstall leaves nothing, and quickstart brings it back and proves it by a request', async () => {
        const program = join(PROJECT, 'bin/dpi-agent.js');
        const run = async (...args: string[]): Promise<string> => {
          const child = cluster.spawn('node', [program, ...args, '--yes'], { stdio: ['ignore', 'pipe', 'inherit'] });
          const [[code], said] = await Promise.all([once(child, 'close'), child.stdout ? textOf(child.stdout) : '']);
          if (code !== 0) throw new Error(`${said}\n${diagnosis()}`);
          return said;
        };
        const left = (): string[] =>
          cluster
            .kubectl('get', 'namespaces,clusterroles,clusterrolebindings,crds', '-o', 'name')
            .split('\n')
            .filter((name) => /dpi|deeppacketinspection/.test(name));
        expect(left()).not.toEqual([]);
        await run('uninstall');
        expect(left()).toEqual([]);
        const said = await run('quickstart', '--image', image, '-s', 'app == "backend"');
        expect(said).toContain('agents inspect on 1 node: a canary came through each');
        expect(said).toMatch(/a test request raised its alert within \d+ s\npods captured: 1 on 1 nodes, 0 errors/);
      });
  });
}
