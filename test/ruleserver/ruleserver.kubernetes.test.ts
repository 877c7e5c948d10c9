/**
 * One download for a cluster, with nothing played: a real API server that reviews tokens, a rule server, and two agents
 * with real engines on the veths of their pods.
 */
import type { ChildProcess } from 'node:child_process';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { openLab, type Lab, type Pod } from '../../scripts/lab.ts';
import {
  createWorkspace,
  observeAgent,
  runAgent,
  type LogLine,
  type RunningAgent,
  type Workspace,
} from '../support/agent.ts';
import { createAuthority, type Authority } from '../support/certificates.ts';
import { findTestEngine } from '../support/engines.ts';
import { describeKubernetes, podObject, useControlPlane } from '../support/kubernetes.ts';
import { conversation, describeLive, inject } from '../support/live.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';

const AUDIENCE = 'dpi-agent-rule-server';
const RESOURCES = 'deeppacketinspections.projectcalico.org';
const SECRET = 'oinkcode-0123456789abcdef';
const FIRST = findTestEngine('snort') === undefined ? 'suricata' : 'snort';

/** In a network namespace of their own. */
const PUBLISHER_PORT = 8080;
const SERVER_PORT = 9099;

const rule = (message: string, more = ''): string =>
  `alert tcp any any -> any any ( msg:"${message}"; content:"known"; ${more}sid:9000500; rev:1; )\n`;

describeKubernetes(() => {
  describeLive((engine) => {
    if (engine !== FIRST) return;
    let lab: Lab;
    let directory: string;
    let authority: Authority;
    let namespace: string;
    let pods: Pod[];
    let nodes: Node[];
    /** Of commands. */
    let outputs: string[];
    let server: RunningServer;
    let publisher: ChildProcess;

    beforeAll(() => {
      lab = openLab('dpi-rs');
    });
    afterAll(() => lab.close());

    const cluster = useControlPlane({
      wrap: (command, args) => ['ip', ['netns', 'exec', lab.node, command, ...args]],
    });

    beforeAll(() => {
      const apply = (path: string): string => cluster().kubectl('apply', '-f', join(PROJECT, 'deploy', path));
      apply('namespace.yaml');
      apply('rbac.yaml');
      apply('components/rule-server/rbac.yaml');
      apply('crds/projectcalico.org/deeppacketinspections.yaml');
      cluster().kubectl('wait', '--for=condition=Established', '--timeout=300s', `crd/${RESOURCES}`);
      cluster().kubectl('get', RESOURCES, '-A');
      namespace = cluster().namespace();
      pods = ['n1', 'n2'].map((node, index) => {
        const pod = lab.addPod({ name: `pod-${node}`, namespace, address: `10.65.7.${index + 2}` });
        cluster().apply(podObject(namespace, pod.name, node, { app: 'web' }));
        const status = { phase: 'Running', podIP: pod.address, podIPs: [{ ip: pod.address }] };
        const patch = JSON.stringify({ status });
        cluster().kubectl('patch', 'pod', pod.name, '-n', namespace, '--subresource=status', '-p', patch);
        return pod;
      });
      cluster().apply({
        apiVersion: 'projectcalico.org/v3',
        kind: 'DeepPacketInspection',
        metadata: { name: 'web', namespace },
        spec: { selector: 'app == "web"' },
      });
    });

    beforeEach(async () => {
      directory = mkdtempSync(join(tmpdir(), 'dpi-rs-'));
      authority = createAuthority(join(directory, 'ca'));
      writeFileSync(join(directory, 'paid.rules'), rule('first'));
      await startPublisher();
      nodes = [];
      outputs = [];
    });
    afterEach(async () => {
      for (const { agent, workspace } of nodes) {
        await agent.stop('SIGKILL');
        workspace.remove();
      }
      await (server as RunningServer | undefined)?.stop();
      publisher.kill('SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    });

    interface Node {
      name: string;
      pod: Pod;
      agent: RunningAgent;
      workspace: Workspace;
    }

    interface RunningServer {
      config: string;
      log: LogLine[];
      logged(test: (line: LogLine) => boolean): Promise<LogLine>;
      stop(): Promise<void>;
    }

    /** A paid source on the lab's node: it gives the file to who sends the secret. */
    async function startPublisher(): Promise<void> {
      const code = `
        const { createServer } = require('node:http');
        const { readFileSync } = require('node:fs');
        createServer(({ headers }, response) => {
          if (headers.authorization !== 'Bearer ${SECRET}') response.writeHead(401).end();
          else response.end(readFileSync(${JSON.stringify(join(directory, 'paid.rules'))}));
        }).listen(${PUBLISHER_PORT}, '127.0.0.1', () => console.log('{}'));`;
      publisher = lab.spawn(lab.node, process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
      if (publisher.stdout !== null) await once(publisher.stdout, 'data');
    }

    const token = (account: string, audience = AUDIENCE): string =>
      cluster().kubectl('create', 'token', account, '-n', 'tigera-dpi', '--audience', audience).trim();

    async function startServer(): Promise<RunningServer> {
      const config = join(directory, 'rule-server.yaml');
      const { key, certificate } = authority.issue('rules.test');
      writeFileSync(join(directory, 'tls.key'), key);
      writeFileSync(join(directory, 'tls.crt'), certificate);
      writeFileSync(join(directory, 'secret'), SECRET);
      writeFileSync(
        config,
        stringify({
          logFormat: 'json',
          stateDirectory: join(directory, 'state'),
          rulesDirectory: join(directory, 'sets'),
          engine: { type: engine },
          ruleSources: [
            {
              name: 'shared',
              url: `http://127.0.0.1:${PUBLISHER_PORT}/shared.rules`,
              secretFile: join(directory, 'secret'),
              every: '1m',
            },
          ],
          ruleServing: {
            port: SERVER_PORT,
            tlsCertFile: join(directory, 'tls.crt'),
            tlsKeyFile: join(directory, 'tls.key'),
            leaseMillis: '5m',
          },
          kubernetes: { kubeconfig: cluster().serviceAccount('tigera-dpi', 'dpi-agent-rule-server').kubeconfig },
        }),
      );
      const child = lab.spawn(
        lab.node,
        process.execPath,
        [join(PROJECT, 'bin/dpi-agent.js'), 'rules', 'serve', '-c', config],
        { stdio: ['ignore', 'pipe', 'pipe'] },
      );
      const running = observeAgent(child);
      server = {
        config,
        logged: (check) => running.logged(check),
        log: running.log,
        stop: async () => void (await running.stop('SIGKILL')),
      };
      await server.logged(({ msg }) => msg === 'rule server: is up');
      return server;
    }

    /** What the source has from now on: taken at once, as an operator would. */
    async function publish(text: string): Promise<void> {
      writeFileSync(join(directory, 'paid.rules'), text);
      const args = ['rules', 'update', 'shared', '-c', server.config];
      outputs.push(lab.exec(lab.node, process.execPath, join(PROJECT, 'bin/dpi-agent.js'), ...args));
      await Promise.resolve();
    }

    async function startNode(index: number, config: object = {}): Promise<Node> {
      const pod = pods[index];
      if (pod === undefined) throw new Error('no pod');
      const name = `n${index + 1}`;
      const workspace = createWorkspace();
      const tokenFile = join(workspace.directory, 'token');
      writeFileSync(tokenFile, token('tigera-dpi'));
      const agent = await runAgent({
        lab,
        engine,
        workspace,
        pods: [],
        ruleSets: ['shared'],
        config: {
          node: name,
          kubernetes: { kubeconfig: cluster().serviceAccount('tigera-dpi', 'tigera-dpi').kubeconfig },
          http: { port: 0 },
          ruleServer: { url: `https://127.0.0.1:${SERVER_PORT}`, caFile: authority.file, tokenFile, every: '1s' },
          ...config,
        },
      });
      const node = { name, pod, agent, workspace };
      nodes.push(node);
      await inUse(node);
      await agent.logged(({ msg, endpoint }) => msg === 'capturing' && endpoint === `${namespace}/${pod.name}`);
      return node;
    }

    let port = 30_000;
    async function fires({ agent, pod, workspace }: Node, message: string): Promise<void> {
      inject(lab, workspace, pod.netns, 'eth0', conversation('known', port++, pod.address, '10.66.0.99'));
      await agent.event(({ record }) => record.message === message);
    }

    const versionOn = ({ workspace }: Node): string =>
      readFileSync(join(realpathSync(join(workspace.directory, 'sets/shared')), 'version.json'), 'utf8');
    /** `from`: index of the first line of the log to look at. */
    const inUse = ({ agent }: Node, from = 0): Promise<LogLine> =>
      agent.logged(({ msg }) => msg === 'rule server: a new version is in use', from);

    interface NodeEntry {
      node: string;
      ruleVersions?: Record<string, string>;
      errorConditions: { message: string }[];
    }
    const entries = (): NodeEntry[] => {
      const text = cluster().kubectl('get', RESOURCES, 'web', '-n', namespace, '-o', 'jsonpath={.status.nodes}');
      return text === '' ? [] : (JSON.parse(text) as NodeEntry[]);
    };

    /** As an agent asks. */
    function ask(path: string, bearer?: string): { status: number; text: string } {
      const options = {
        host: '127.0.0.1',
        port: SERVER_PORT,
        path,
        rejectUnauthorized: false,
        headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
      };
      const code = `
        require('node:https').get(${JSON.stringify(options)}, (answer) => {
          let text = '';
          answer.on('data', (part) => (text += part));
          answer.on('end', () => console.log(JSON.stringify({ status: answer.statusCode, text })));
        });`;
      return JSON.parse(lab.exec(lab.node, process.execPath, '-e', code)) as { status: number; text: string };
    }

    test('a good version arrives at both nodes, a bad one stops at the first', async () => {
      await startServer();
      const first = await startNode(0);
      const second = await startNode(1);
      await fires(first, 'first');
      await fires(second, 'first');

      const before = nodes.map(({ agent }) => agent.log.length);
      await publish(rule('second'));
      await Promise.all(nodes.map((node, index) => inUse(node, before[index])));
      await fires(first, 'second');
      await fires(second, 'second');
      const proven = await server.logged(({ msg, node }) => msg?.includes('is proven') === true && node !== undefined);
      const good = [versionOn(first), versionOn(second)];
      await poll(() => entries().filter(({ ruleVersions }) => ruleVersions?.['shared'] !== undefined).length === 2);

      // Engines take it, and no alert comes past it any more, the canary's neither.
      await publish('pass ip any any -> any any ( msg:"all"; sid:9000501; rev:1; )\n');
      const stopped = await server.logged(({ msg }) => msg === 'rule server: a version is stopped');
      expect([proven['node'], stopped['node']]).toEqual([
        expect.stringMatching(/^n[12]$/),
        expect.stringMatching(/^n[12]$/),
      ]);
      const provers = nodes.filter(({ agent }) =>
        agent.log.some(
          ({ msg, version }) => msg === 'rule server: this node proves a version' && version === stopped['version'],
        ),
      );
      expect(provers.map(({ name }) => name)).toEqual([stopped['node']]);
      // Both say so in the status of the resource.
      await poll(() =>
        Promise.resolve(
          ['n1', 'n2'].every((name) =>
            entries().some(
              ({ node, errorConditions }) =>
                node === name && errorConditions.some(({ message }) => message.includes('the version before stays')),
            ),
          ),
        ),
      );
      expect([versionOn(first), versionOn(second)]).toEqual(good);
      await fires(first, 'second');
      await fires(second, 'second');

      const metrics = lab.exec(
        lab.node,
        process.execPath,
        '-e',
        `fetch('http://127.0.0.1:9097/metrics').then((a) => a.text()).then((t) => process.stdout.write(t))`,
      );
      expect(metrics).toContain('dpi_agent_ruleserver_version_state{set="shared",state="stopped"} 1');
      expect(metrics).toContain('dpi_agent_ruleserver_nodes{set="shared",version="proven"} 2');
      const manifest = ask('/v1/manifest', token('tigera-dpi'));
      expect(JSON.parse(manifest.text)).toMatchObject({
        sets: [{ set: 'shared', target: { state: 'stopped', node: stopped['node'], bytes: expect.any(Number) } }],
      });
      // The source's secret is where it was put, and nowhere else.
      const kept = readdirSync(directory, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name !== 'secret')
        .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
      const said = [
        metrics,
        manifest.text,
        ...outputs,
        ...kept,
        JSON.stringify([server.log, nodes.map(({ agent }) => agent.log)]),
      ];
      expect(said.filter((text) => text.includes(SECRET))).toEqual([]);
    }, 400_000);

    test('tokens: of the agents for this server only', async () => {
      await startServer();
      expect(ask('/v1/manifest').status).toBe(401);
      expect(ask('/v1/manifest', 'no-token').status).toBe(401);
      expect(ask('/v1/manifest', token('tigera-dpi', 'https://kubernetes.default.svc')).status).toBe(401);
      cluster().serviceAccount('tigera-dpi', 'other');
      expect(ask('/v1/manifest', token('other'))).toMatchObject({
        status: 403,
        text: expect.stringContaining(':other is none'),
      });
      expect(ask('/v1/manifest', token('tigera-dpi')).status).toBe(200);
    }, 200_000);
  });
});
