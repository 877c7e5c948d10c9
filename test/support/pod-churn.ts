/**
 * Plays kubelet and network plugin for many pods, in the network namespace that it runs in:
 *   node dist/test/support/pod-churn.js KUBECONFIG NAMESPACE NODE COUNT PER_SECOND SECONDS
 * Makes COUNT pods with a veth each, then, PER_SECOND times a second, deletes one and makes it again under its name
 * with another address and another veth of the same name. Ends with a line of JSON: what each pod is in the end.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https, { Agent, type RequestOptions } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { calicoInterface } from '../../agent/endpoints/resolve/calico-name.ts';

export interface ChurnedPod {
  name: string;
  uid: string;
  address: string;
  /** The pod's side of its veth, in the same namespace. */
  inside: string;
  /** When its status began to say that it is ready: milliseconds since the epoch. */
  readyAt: number;
}

const [, , kubeconfig = '', namespace = '', node = '', count = '0', perSecond = '0', seconds = '0'] = process.argv;
const config = new KubeConfig();
config.loadFromFile(kubeconfig);
/** Without a new connection for each request. */
const agent = new Agent({ keepAlive: true });
const pods: ChurnedPod[] = [];
let addresses = 0;
/** Several of these programs may share a network namespace. */
const network = 100 + ((createHash('sha1').update(namespace).digest()[0] ?? 0) % 100);

function ip(...commands: string[]): void {
  const { status, stderr } = spawnSync('ip', ['-batch', '-'], { input: commands.join('\n'), encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

async function request(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const options: RequestOptions = { method, headers: { 'content-type': 'application/json' } };
  await config.applyToHTTPSOptions(options);
  Object.assign(agent.options, { ca: options.ca });
  const sent = https.request(`${config.getCurrentCluster()?.server}/api/v1/namespaces/${namespace}/pods${path}`, {
    ...options,
    agent,
  });
  sent.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const text = (await response.setEncoding('utf8').toArray()).join('');
  if ((response.statusCode ?? 0) >= 300) throw new Error(`${method} ${path}: ${text}`);
  return JSON.parse(text) as Record<string, unknown>;
}

async function add(index: number): Promise<void> {
  const name = `pod-${index}`;
  const inside = calicoInterface(namespace, name).replace('cali', 'in');
  const address = `10.${network}.${(addresses >> 8) & 255}.${addresses & 255}`;
  addresses++;
  const outside = calicoInterface(namespace, name);
  ip(
    `link add ${outside} type veth peer name ${inside}`,
    `link set ${outside} up`,
    `link set ${inside} up`,
    `route add ${address}/32 dev ${outside}`,
  );
  const created = await request('POST', '', {
    metadata: { name, labels: { app: 'churn' } },
    spec: { nodeName: node, terminationGracePeriodSeconds: 0, containers: [{ name: 'main', image: 'none' }] },
  });
  const conditions = [{ type: 'Ready', status: 'True' }];
  const status = { phase: 'Running', podIP: address, podIPs: [{ ip: address }], conditions };
  const readyAt = Date.now();
  await request('PUT', `/${name}/status`, { ...created, status });
  pods[index] = { name, uid: (created['metadata'] as { uid: string }).uid, address, inside, readyAt };
}

for (let index = 0; index < Number(count); index++) await add(index);
process.stdout.write('made\n');
const rounds = Number(perSecond) * Number(seconds);
const startedAt = Date.now();
for (let round = 0; round < rounds; round++) {
  const index = round % Number(count);
  const pod = pods[index];
  if (pod === undefined) break;
  await request('DELETE', `/${pod.name}?gracePeriodSeconds=0`);
  ip(`link del ${pod.inside}`);
  await add(index);
  await sleep(Math.max(0, startedAt + ((round + 1) * 1000) / Number(perSecond) - Date.now()));
}
process.stdout.write(`${JSON.stringify(pods)}\n`);
agent.destroy();
