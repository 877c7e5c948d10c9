/**
 * The tutorial, word for word: its commands run in a shell on the node of a real cluster, with the operator, a real
 * Elasticsearch, and the Alerts page in a real browser. `npm run tutorial` writes docs/tutorial.md from what is seen
 * here, with the pictures.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Page } from 'playwright-core';
import { stringify } from 'yaml';
import { NODE, NODE_ADDRESS, openCluster, whyNoCluster, type Cluster } from '../../scripts/cluster.ts';
import {
  AGENT_IMAGE,
  buildAgentImage,
  buildRulesImage,
  buildSnortImage,
  buildWorkloadImage,
  RULES_IMAGE,
  saveImage,
  SNORT_IMAGE,
  WORKLOAD_IMAGE,
} from '../../scripts/image.ts';
import { CLUSTER, kubernetesDirectory, missingPrograms, whyNoKubernetes } from '../../scripts/kubernetes.mjs';
import { findChromium, openBrowser, type TestBrowser } from '../support/chromium.ts';
import { createAuthority } from '../support/certificates.ts';
import { startElasticsearch, whyNoElasticsearch, type TestElasticsearch } from '../support/elasticsearch.ts';
import { findTestEngine } from '../support/engines.ts';
import { startRelay, type Relay } from '../support/fault-proxy.ts';
import { PROJECT } from '../support/project.ts';
import { writeTutorial, type Step } from './support/page.ts';

/** Every wait fails by then; a machine of a tenth of the speed is within it. */
const DEADLINE_MILLIS = 300_000;
const SETUP_MILLIS = 1_800_000;
const NAMESPACE = 'hipstershop';
const EE_ALIAS = 'tigera_secure_ee_events.cluster.';
/** The rules of the community are not ours to hand on: they are taken from where they lie beside the project. */
const COMMUNITY = resolve(PROJECT, '../shared/rules/snort3-community.rules');
/** Where kubectl port-forward listens. */
const PAGE = 'https://localhost:9443/';
const WRITES = process.env['DPI_AGENT_TEST_TUTORIAL'] === 'write';

const missing =
  whyNoCluster() ??
  (missingPrograms(CLUSTER).length === 0
    ? undefined
    : (whyNoKubernetes(CLUSTER) ?? `${missingPrograms(CLUSTER).join(', ')} are not built: run npm run test:cluster`)) ??
  whyNoElasticsearch() ??
  (findChromium() === undefined ? 'Chromium is not installed' : undefined) ??
  (existsSync(COMMUNITY) ? undefined : '../shared/rules/snort3-community.rules is not there');
if (missing !== undefined) process.stderr.write(`skipped: the tutorial: ${missing}\n`);
const snort = findTestEngine('snort')?.binary;

/** What stands for the storefront: anything that answers. */
const SERVER = `require('node:http').createServer((request, response) => {
  request.resume().on('end', () => response.end('ok'));
}).listen(80)`;

/** On the node: passes connections on to a socket in a folder that the test serves. */
const RELAY = `const net = require('node:net');
net.createServer((client) => {
  const upstream = net.connect({ path: process.argv[1] });
  for (const [from, to] of [[client, upstream], [upstream, client]]) {
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.once('close', () => to.destroy());
  }
}).listen(9200, process.argv[2], () => console.log('up'));`;

(missing === undefined ? describe : describe.skip)(missing ?? 'the tutorial', () => {
  let cluster: Cluster;
  let elasticsearch: TestElasticsearch;
  let browser: TestBrowser;
  let page: Page;
  let directory = '';
  let door: Relay;
  let token = '';
  const steps: Step[] = [];
  const pictures: { name: string; bytes: Buffer }[] = [];
  const image = snort === undefined ? AGENT_IMAGE : SNORT_IMAGE;

  beforeAll(async () => {
    const say = (line: string): void => void process.stderr.write(`tutorial: ${line}\n`);
    await buildAgentImage(say);
    if (snort !== undefined) await buildSnortImage(snort, say);
    await buildWorkloadImage(say);
    await buildRulesImage(COMMUNITY, say);
    const images = [await saveImage(image), await saveImage(WORKLOAD_IMAGE), await saveImage(RULES_IMAGE)];
    cluster = await openCluster({ cni: 'ptp', binaries: join(kubernetesDirectory(), 'bin'), say });
    say('loading images');
    for (const file of images) cluster.loadImage(file);
    say('starting Elasticsearch');
    elasticsearch = await startElasticsearch();
    directory = mkdtempSync(join(tmpdir(), 'dpi-tutorial-'));
    await relayElasticsearch();
    await deploy();
    await addShop();
    browser = await openInNode();
    say('testing');
  }, SETUP_MILLIS);

  afterAll(async () => {
    await browser?.close();
    await cluster?.close();
    await door?.close();
    await elasticsearch?.stop();
    if (directory !== '') rmSync(directory, { recursive: true, force: true });
    if (WRITES) writeTutorial(steps, pictures);
  }, SETUP_MILLIS);

  /** The node's network is its own: pods reach Elasticsearch, which runs on the machine, by the node's address. */
  async function relayElasticsearch(): Promise<void> {
    const path = join(directory, 'es.sock');
    door = await startRelay(elasticsearch.url, path);
    const relay = cluster.spawn(process.execPath, ['-e', RELAY, path, NODE_ADDRESS], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (relay.stdout !== null) await once(relay.stdout, 'data');
  }

  /** What an administrator has done before: agents with the operator, the Alerts page, Elasticsearch's address. */
  async function deploy(): Promise<void> {
    const overlay = cluster.nodePath('/run/overlay');
    mkdirSync(overlay, { recursive: true });
    const deployFolder = join(PROJECT, 'deploy');
    const part = (...path: string[]): string => relative(overlay, join(deployFolder, ...path));
    // No authority, no key: this Elasticsearch has neither.
    const env = [
      { name: 'DPI_AGENT_SINKS_ELASTICSEARCH_NODES', value: `http://${NODE_ADDRESS}:9200` },
      { name: 'DPI_AGENT_SINKS_ELASTICSEARCH_API_KEY_FILE', value: '' },
      { name: 'DPI_AGENT_SINKS_ELASTICSEARCH_CA_FILE', value: '' },
    ];
    const patch = (kind: string, name: string, container: string): { patch: string } => ({
      patch: stringify({
        apiVersion: 'apps/v1',
        kind,
        metadata: { name, namespace: 'tigera-dpi' },
        spec: { template: { spec: { containers: [{ name: container, env }] } } },
      }),
    });
    const config = stringify({ cluster: 'cluster', logFormat: 'json', ruleSets: ['community', 'kubernetes'] });
    writeFileSync(
      join(overlay, 'kustomization.yaml'),
      stringify({
        resources: ['base'],
        components: [part('components/operator'), part('components/copies')],
        images: [{ name: 'dpi-agent', newName: image.split(':')[0], newTag: image.split(':')[1] }],
      }),
    );
    mkdirSync(join(overlay, 'base'), { recursive: true });
    const up = (path: string): string => join('..', path);
    writeFileSync(
      join(overlay, 'base/kustomization.yaml'),
      stringify({
        resources: [up(part())],
        components: [up(part('components/elasticsearch')), up(part('ui'))],
        patches: [
          patch('DaemonSet', 'tigera-dpi', 'dpi-agent'),
          patch('Deployment', 'dpi-agent-ui', 'dpi-agent-ui'),
          {
            patch: stringify({
              apiVersion: 'v1',
              kind: 'ConfigMap',
              metadata: { name: 'tigera-dpi', namespace: 'tigera-dpi' },
              data: { 'dpi-agent.yaml': config },
            }),
          },
        ],
      }),
    );
    const { key, certificate } = createAuthority(join(directory, 'authority')).issue('localhost');
    writeFileSync(join(overlay, 'tls.key'), key);
    writeFileSync(join(overlay, 'tls.crt'), certificate);
    await sh(`kubectl apply -k ${overlay}`);
    await sh(
      `kubectl -n tigera-dpi create secret tls dpi-agent-ui-tls --cert=${overlay}/tls.crt --key=${overlay}/tls.key`,
    );
    for (const name of ['dpi-agent-operator', 'dpi-agent-ui']) {
      await until(name, async () => /^[1-9]/.test(await available(name)));
    }
  }

  const available = (name: string): Promise<string> =>
    sh(`kubectl -n tigera-dpi get deployment ${name} -o 'jsonpath={.status.availableReplicas}'`);

  /** Online Boutique, reduced to a frontend and a backend; and somebody who means no good. */
  async function addShop(): Promise<void> {
    await sh(`kubectl create namespace ${NAMESPACE}`);
    await until('its service account', async () => {
      return (await sh(`kubectl -n ${NAMESPACE} get serviceaccount default`)) !== '';
    });
    for (const name of ['frontend', 'backend']) {
      await cluster.addWorkload({
        name,
        namespace: NAMESPACE,
        labels: { app: name },
        command: ['node', '-e', SERVER],
      });
      cluster.apply({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name, namespace: NAMESPACE },
        spec: { selector: { app: name }, ports: [{ port: 80 }] },
      });
    }
    await cluster.addWorkload({ name: 'attacker', namespace: NAMESPACE });
    await until('the name of the backend', async () => {
      return (await sh(`kubectl exec -n ${NAMESPACE} attacker -- curl -sS --max-time 10 http://backend:80`)) === 'ok';
    });
  }

  /** In the node's network, where the cluster's addresses are. */
  async function openInNode(): Promise<TestBrowser> {
    await sh(`kubectl -n ${NAMESPACE} create serviceaccount analyst`);
    await sh(
      `kubectl -n ${NAMESPACE} create rolebinding analyst --clusterrole=dpi-agent-alerts --serviceaccount=${NAMESPACE}:analyst`,
    );
    token = (await sh(`kubectl -n ${NAMESPACE} create token analyst`)).trim();
    const forward = cluster.spawn('kubectl', ['-n', 'tigera-dpi', 'port-forward', 'service/dpi-agent-ui', '9443:443'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (forward.stdout !== null) await once(forward.stdout, 'data');
    const wrapper = join(directory, 'browser');
    writeFileSync(wrapper, `#!/bin/sh\nexec ${cluster.enterNetwork.join(' ')} ${findChromium() ?? ''} "$@"\n`, {
      mode: 0o755,
    });
    return openBrowser({ executablePath: wrapper, ignoreHTTPSErrors: true });
  }

  /** Runs a command in a shell on the node; rejects with what it said. */
  async function sh(command: string): Promise<string> {
    const child = cluster.spawn('bash', ['-c', command], { stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const [code] = (await once(child, 'close')) as [number | null];
    if (code === 0) return stdout;
    throw new Error(`${command}: ${stderr}${stdout}`);
  }

  /** A command of the tutorial, whose output the page shows. */
  async function step(text: string, command: string): Promise<string> {
    const output = await sh(command);
    steps.push({ text, command, output });
    return output;
  }

  async function until(what: string, check: () => Promise<boolean>): Promise<void> {
    let last: unknown;
    for (const end = performance.now() + DEADLINE_MILLIS; performance.now() < end; await sleep(200)) {
      try {
        if (await check()) return;
        last = undefined;
      } catch (error) {
        last = error;
      }
    }
    throw new Error(`waited in vain: ${what}\n${await diagnosis()}`, { cause: last });
  }

  async function diagnosis(): Promise<string> {
    const commands = [
      'kubectl get pods -A -o wide',
      'kubectl get deeppacketinspections,intrusiondetections -A -o yaml',
      'kubectl -n tigera-dpi describe pods | tail -60',
      'kubectl -n tigera-dpi logs daemonset/tigera-dpi --tail=30',
      'kubectl -n tigera-dpi logs deployment/dpi-agent-operator --tail=30',
      'kubectl -n tigera-dpi logs deployment/dpi-agent-ui --tail=30',
    ];
    return (await Promise.all(commands.map((command) => sh(command).catch(String)))).join('\n');
  }

  async function picture(name: string, shows: string): Promise<void> {
    pictures.push({ name, bytes: await page.screenshot() });
    steps.push({ picture: name, shows });
  }

  const agentPods = (): Promise<string> =>
    sh("kubectl get pods -n tigera-dpi -l k8s-app=tigera-dpi -o 'jsonpath={.items[*].metadata.name}'");
  const attack = `kubectl exec -n ${NAMESPACE} attacker -- curl -sS http://backend:80 -H 'User-Agent: Mozilla/4.0' -XPOST --data-raw 'smk=1234'`;
  const search = `curl -s 'http://${NODE_ADDRESS}:9200/${EE_ALIAS}/_search?q=record.snort_signature_id:21562&filter_path=hits.hits._source&_source_excludes=record.payload,record.rule&pretty'`;
  const found = async (): Promise<{ _source: Record<string, unknown> }[]> =>
    (JSON.parse(await sh(search)) as { hits?: { hits: { _source: Record<string, unknown> }[] } }).hits?.hits ?? [];

  test('without a resource there is no agent', async () => {
    expect(await agentPods()).toBe('');
  });

  test('CPU, memory and the rules are set in the IntrusionDetection', async () => {
    await step(
      'CPU and memory of the agents, and an image that puts the community rules in place, are set in the resource `IntrusionDetection`:',
      `kubectl apply -f - <<EOF
apiVersion: operator.tigera.io/v1
kind: IntrusionDetection
metadata:
  name: tigera-secure
spec:
  componentResources:
    - componentName: DeepPacketInspection
      resourceRequirements:
        limits: { cpu: '1', memory: 1Gi }
        requests: { cpu: 100m, memory: 256Mi }
  deepPacketInspectionDaemonset:
    spec:
      template:
        spec:
          initContainers:
            - name: snort-rules
              image: ${RULES_IMAGE}
EOF`,
    );
  });

  test('the resource selects the backend, and an agent runs on each node', async () => {
    await step(
      'A `DeepPacketInspection` says whose traffic is inspected:',
      `kubectl apply -f - <<EOF
apiVersion: projectcalico.org/v3
kind: DeepPacketInspection
metadata:
  name: sample-dpi
  namespace: ${NAMESPACE}
spec:
  selector: app == "backend"
EOF`,
    );
    await until(
      'the backend is captured',
      async () =>
        (await sh(
          `kubectl get deeppacketinspection -n ${NAMESPACE} sample-dpi -o 'jsonpath={.status.podsCaptured}'`,
        )) === '1',
    );
    await until('one agent is ready', async () =>
      /\b1\/1\b.*Running/.test(await sh('kubectl get pods -n tigera-dpi -l k8s-app=tigera-dpi')),
    );
    const pods = await step('One agent runs on each node:', 'kubectl get pods -n tigera-dpi -o wide');
    expect(pods.split('\n').filter((line) => line.startsWith('tigera-dpi-'))).toEqual([
      expect.stringMatching(new RegExp(`^tigera-dpi-\\w+ +1/1 +Running .* ${NODE} `)),
    ]);
    const limits = 'jsonpath={.spec.template.spec.containers[0].resources}';
    expect(JSON.parse(await sh(`kubectl -n tigera-dpi get daemonset tigera-dpi -o '${limits}'`))).toMatchObject({
      limits: { cpu: '1', memory: '1Gi' },
      requests: { cpu: '100m', memory: '256Mi' },
    });
    const row = await step(
      'It says how many pods it captures:',
      `kubectl get deeppacketinspections.crd.projectcalico.org -n ${NAMESPACE}`,
    );
    expect(row).toMatch(/^sample-dpi +app == "backend"/m);
  });

  test('the request becomes an alert of 1:21562 in Elasticsearch', async () => {
    await step('Somebody asks the backend for what malware asks its server for:', attack);
    await until('the event', async () => (await found()).length > 0);
    await step('The alert is in Elasticsearch:', search);
    const events = await found();
    expect(events).toHaveLength(1);
    expect(events[0]?._source).toMatchObject({
      type: 'deep_packet_inspection',
      origin: `dpi.${NAMESPACE}/sample-dpi`,
      source_name: 'attacker',
      source_namespace: NAMESPACE,
      dest_name: 'backend',
      dest_namespace: NAMESPACE,
      dest_port: 80,
      record: { snort_signature_id: '21562' },
    });
  });

  test('the alert is on the Alerts page', async () => {
    steps.push({
      text: 'The Alerts page is behind the Service `dpi-agent-ui`. It asks for a token of the cluster, and shows the alerts of the namespaces in which its owner may look:',
      command: `kubectl -n ${NAMESPACE} create token analyst\nkubectl -n tigera-dpi port-forward service/dpi-agent-ui 9443:443`,
    });
    page = await browser.context.newPage();
    await page.goto(PAGE);
    await page.getByLabel('Token of this cluster').fill(token);
    await page.getByRole('button', { name: 'Sign in' }).click();
    const alert = page.getByRole('region', { name: 'Alerts', exact: true }).getByText('1:21562').first();
    await alert.waitFor({ timeout: DEADLINE_MILLIS });
    // The histogram and the filters come after the list.
    await page.getByRole('checkbox', { name: NAMESPACE }).first().waitFor({ timeout: DEADLINE_MILLIS });
    await picture('tutorial-alerts', 'The Alerts page: the alert in the list, the time histogram and the filters');
    // The newest first: its row is a link that lies over what is in it.
    await page.locator('a[href*="alert="]').first().click();
    const detail = page.locator('.detail');
    await detail.getByText('1:21562').first().waitFor({ timeout: DEADLINE_MILLIS });
    for (const end of ['attacker', 'backend'])
      await detail.getByText(end).first().waitFor({ timeout: DEADLINE_MILLIS });
    await detail.getByLabel('Text of the rule').getByText('sid:21562').waitFor({ timeout: DEADLINE_MILLIS });
    // The text of the rule is not ours to publish: it is below.
    await page.setViewportSize({ width: 1440, height: 780 });
    await picture('tutorial-detail', 'The alert: both endpoints, what the rule looks for, and what to do');
  });

  test('a new alert appears on the page by itself', async () => {
    await page.goto(PAGE);
    const rows = page.getByRole('region', { name: 'Alerts', exact: true }).getByText('1:21562');
    await rows.first().waitFor({ timeout: DEADLINE_MILLIS });
    const before = await rows.count();
    const asked = performance.now();
    await sh(attack);
    await until('one more alert', async () => (await rows.count()) > before);
    process.stderr.write(
      `tutorial: ${Math.round(performance.now() - asked)} ms from the request to the alert on the page\n`,
    );
  });

  test('without the resource, inspection stops', async () => {
    const before = (await found()).length;
    await step(
      'Without its resource, nothing is inspected, and no agent runs:',
      `kubectl delete deeppacketinspection.projectcalico.org -n ${NAMESPACE} sample-dpi`,
    );
    await until('no agent', async () => (await agentPods()) === '');
    await step('', 'kubectl get pods -n tigera-dpi');
    await sh(attack);
    // What would be inspected is on the page within this time, as the test before has shown.
    await sleep(3_000);
    expect((await found()).length).toBe(before);
    expect(await sh(`kubectl get deeppacketinspections.crd.projectcalico.org -n ${NAMESPACE} 2>&1`)).toContain(
      'No resources found',
    );
  });
});
