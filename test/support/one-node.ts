/**
 * An API server of fixed answers in a lab's node, for tests of the agent that need pods and resources but nothing that
 * a real server does: lists are what they were at first, watches say nothing, and what the agent writes into a status
 * is kept.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Lab, Pod } from '../../scripts/lab.ts';
import type { NodeStatus } from '../../agent/kube/resources.ts';
import type { Workspace } from './agent.ts';
import type { PodCgroups } from './cgroups.ts';
import { enter } from './network.ts';

const SERVER = `
const http = require('node:http');
const fs = require('node:fs');
const [, objectsFile, statusFile] = process.argv;
const { resources, pods } = JSON.parse(fs.readFileSync(objectsFile, 'utf8'));
const DPI = '/apis/projectcalico.org/v3';
const find = (path) => resources.find(({ metadata }) => path === DPI + '/namespaces/' + metadata.namespace + '/deeppacketinspections/' + metadata.name);
function answer(method, path, body) {
  const list = (items) => ({ metadata: { resourceVersion: '1' }, items });
  if (path === DPI) return { resources: [{ name: 'deeppacketinspections' }] };
  if (path === DPI + '/deeppacketinspections') return list(resources);
  if (path === '/api/v1/pods') return list(pods);
  const namespace = /^\\/api\\/v1\\/namespaces\\/([^/]+)\\/pods$/.exec(path)?.[1];
  if (namespace !== undefined) return list(pods.filter(({ metadata }) => metadata.namespace === namespace));
  if (path === '/api/v1/services') return list([]);
  const resource = find(path.replace(/\\/status$/, ''));
  if (resource === undefined) return undefined;
  if (method === 'PATCH') {
    resource.status = { ...resource.status, ...JSON.parse(body).status };
    // In one step: it is read at any time.
    fs.writeFileSync(statusFile + '.new', JSON.stringify(resource.status));
    fs.renameSync(statusFile + '.new', statusFile);
  }
  return resource;
}
http.createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://node');
  let body = '';
  request.on('data', (chunk) => { body += chunk; });
  request.on('end', () => {
    const isWatch = searchParams.get('watch') !== null;
    const object = isWatch ? {} : answer(request.method, pathname, body);
    response.writeHead(object === undefined ? 404 : 200, { 'content-type': 'application/json' });
    if (isWatch) response.flushHeaders();
    else response.end(JSON.stringify(object ?? { kind: 'Status', reason: 'NotFound', message: 'not found' }));
  });
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });`;

/** A running pod as the API server has it, with a process of it as its runtime starts it. */
export async function announce(
  lab: Lab,
  { enroll }: PodCgroups,
  pod: Pod,
  annotations: Record<string, string> = {},
): Promise<{ object: object; pid: number }> {
  const uid = randomUUID();
  const pid = await enter(lab, pod.netns);
  enroll(pid, `kubepods/pod${uid}/1`);
  const object = {
    metadata: { name: pod.name, namespace: pod.namespace, uid, labels: { app: 'inspected' }, annotations },
    spec: { nodeName: 'test-node' },
    status: { phase: 'Running', podIP: pod.address, podIPs: [{ ip: pod.address }] },
  };
  return { object, pid };
}

/** Of these pods. */
export function resourceOfAll(): object {
  const metadata = { name: 'all', namespace: 'default', uid: randomUUID() };
  return { metadata, spec: { selector: "app == 'inspected'" } };
}

export interface OneNode {
  /** Of the agent's configuration. */
  kubeconfig: string;
  /** The agent's entry of the resource's status, as it was last written. */
  status(): NodeStatus | undefined;
}

/** @param objects As the API server has them. */
export async function serveOneNode(
  lab: Lab,
  workspace: Workspace,
  objects: { resources: object[]; pods: object[] },
): Promise<OneNode> {
  const [objectsFile, statusFile, kubeconfig] = ['objects.json', 'status.json', 'kubeconfig.yaml'].map((name) =>
    join(workspace.directory, name),
  ) as [string, string, string];
  writeFileSync(objectsFile, JSON.stringify(objects));
  writeFileSync(statusFile, '{}');
  const child = lab.spawn(lab.node, process.execPath, ['-e', SERVER, objectsFile, statusFile], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const port = await new Promise<string>((resolve) =>
    child.stdout?.once('data', (line: Buffer) => resolve(String(line).trim())),
  );
  writeFileSync(
    kubeconfig,
    stringify({
      'current-context': 'one',
      contexts: [{ name: 'one', context: { cluster: 'one', user: 'one' } }],
      clusters: [{ name: 'one', cluster: { server: `http://127.0.0.1:${port}`, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'one', user: {} }],
    }),
  );
  return {
    kubeconfig,
    status: () => (JSON.parse(readFileSync(statusFile, 'utf8')) as { nodes?: NodeStatus[] }).nodes?.[0],
  };
}
