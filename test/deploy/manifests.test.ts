/** What deploy/ promises, read from its files. */
import { expect, test } from '@jest/globals';
import { readdirSync, readFileSync, rmSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../../agent/config/load.ts';
import { MAX_SELECTOR_LENGTH } from '../../agent/kube/selector/selector.ts';
import { PROJECT } from '../support/project.ts';
import {
  COMPONENTS,
  containerOf,
  daemonSetOf,
  DEPLOY,
  objects,
  one,
  read,
  type Container,
  type Manifest,
} from './support.ts';

const daemonSet = daemonSetOf(read('daemonset.yaml'));
const { spec } = daemonSet.spec.template;
const container = containerOf(daemonSet);
const page = readFileSync(join(PROJECT, 'docs/kubernetes.md'), 'utf8');

test('the DaemonSet tigera-dpi runs on every Linux node, in its namespaces, before others', () => {
  expect(daemonSet.metadata).toMatchObject({ name: 'tigera-dpi', namespace: 'tigera-dpi' });
  expect(daemonSet.spec.selector).toEqual({ matchLabels: { 'k8s-app': 'tigera-dpi' } });
  expect(daemonSet.spec.template.metadata.labels).toMatchObject({ 'k8s-app': 'tigera-dpi' });
  expect(spec).toMatchObject({
    serviceAccountName: 'tigera-dpi',
    hostNetwork: true,
    hostPID: true,
    dnsPolicy: 'ClusterFirstWithHostNet',
    enableServiceLinks: false,
    nodeSelector: { 'kubernetes.io/os': 'linux' },
    tolerations: [{ operator: 'Exists' }],
    priorityClassName: 'system-node-critical',
    terminationGracePeriodSeconds: 30,
  });
  expect(daemonSet.spec.updateStrategy).toEqual({ type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } });
});

test('the agent starts with the ConfigMap and the name of its node', () => {
  expect([...container.command, ...container.args]).toEqual([
    'dpi-agent',
    'run',
    '--config',
    '/etc/dpi-agent/dpi-agent.yaml',
  ]);
  expect(container.env).toEqual([{ name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }]);
});

test('the configuration in the ConfigMap is valid', () => {
  const directory = mkdtempSync(join(tmpdir(), 'dpi-deploy-'));
  try {
    const file = join(directory, 'dpi-agent.yaml');
    const { data } = one(read('configmap.yaml'), 'ConfigMap') as Manifest & { data: Record<string, string> };
    expect(Object.keys(data)).toEqual(['dpi-agent.yaml']);
    writeFileSync(file, data['dpi-agent.yaml'] ?? '');
    const loaded = loadConfig({ file, env: { NODE_NAME: 'node-1' }, flags: {} });
    expect(loaded).toMatchObject({ config: { node: 'node-1', logFormat: 'json' } });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('probes and metrics are on port 9097', () => {
  expect(container).toMatchObject({
    startupProbe: { httpGet: { path: '/health', port: 9097 } },
    livenessProbe: { httpGet: { path: '/health', port: 9097 } },
    readinessProbe: { httpGet: { path: '/readiness', port: 9097 } },
    ports: [{ name: 'metrics', containerPort: 9097, protocol: 'TCP' }],
  });
  expect(daemonSet.spec.template.metadata.annotations).toEqual({
    'prometheus.io/scrape': 'true',
    'prometheus.io/port': '9097',
    'prometheus.io/path': '/metrics',
  });
});

test('memory is bounded and the CPU is not', () => {
  expect(container.resources).toEqual({ requests: { cpu: '100m', memory: '256Mi' }, limits: { memory: '1Gi' } });
});

test('the journal and the state are folders of the node, and nothing else can be written but /tmp', () => {
  expect(spec.volumes.flatMap(({ hostPath }) => hostPath ?? [])).toEqual([
    { path: '/var/log/calico/snort-alerts', type: 'DirectoryOrCreate' },
    { path: '/var/lib/dpi-agent', type: 'DirectoryOrCreate' },
  ]);
  expect(container.securityContext['readOnlyRootFilesystem']).toBe(true);
  expect(container.volumeMounts.filter(({ readOnly }) => readOnly !== true).map(({ mountPath }) => mountPath)).toEqual([
    '/var/log/calico/snort-alerts',
    '/var/lib/dpi-agent',
    '/tmp',
  ]);
});

test('the container is root without privileges, and its capabilities are those that the page gives reasons for', () => {
  expect(spec['securityContext']).toEqual({ seccompProfile: { type: 'RuntimeDefault' } });
  const { capabilities, ...rest } = container.securityContext;
  expect(rest).toEqual({
    runAsUser: 0,
    runAsGroup: 0,
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
  });
  expect(capabilities.drop).toEqual(['ALL']);
  const table = section('Capabilities');
  expect([...capabilities.add].sort()).toEqual([...table].sort());
});

test('the rights in the ClusterRole are those that the page gives reasons for', () => {
  const { rules } = one(read('rbac.yaml'), 'ClusterRole') as Manifest & {
    rules: { resources: string[]; verbs: string[] }[];
  };
  expect(rules.map(({ resources }) => resources.join(', '))).toEqual(section('Rights in the cluster'));
  for (const { resources, verbs } of rules) {
    expect(page).toMatch(new RegExp(`\\| \`${resources.join(', ')}\` +\\| \`${verbs.join(', ')}\` +\\|`));
  }
});

test('kustomization.yaml names the version of package.json, and one CRD only', () => {
  const { images, resources } = read('kustomization.yaml')[0] as unknown as { images: object[]; resources: string[] };
  const { version } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8')) as { version: string };
  expect(images).toEqual([{ name: 'dpi-agent', newTag: version }]);
  expect(container.image).toBe('dpi-agent');
  // With two groups, `kubectl get deeppacketinspections` shows the one that nobody uses.
  expect(resources.filter((name) => name.startsWith('crds/'))).toEqual(['crds/projectcalico.org']);
});

test('the operator runs without rights on its node, in the image of the same version', () => {
  const { images } = read('components/operator/kustomization.yaml')[0] as unknown as { images: object[] };
  expect(images).toEqual((read('kustomization.yaml')[0] as unknown as { images: object[] }).images);
  const { spec: deployment } = one(read('components/operator/deployment.yaml'), 'Deployment') as unknown as {
    spec: { replicas: number; template: { spec: { containers: Container[] } & Record<string, unknown> } };
  };
  expect(deployment.replicas).toBe(2);
  const { containers, ...rest } = deployment.template.spec;
  expect(rest).toMatchObject({
    serviceAccountName: 'dpi-agent-operator',
    securityContext: { runAsNonRoot: true, runAsUser: 65534, seccompProfile: { type: 'RuntimeDefault' } },
  });
  for (const shared of ['hostNetwork', 'hostPID', 'volumes']) expect(rest).not.toHaveProperty(shared);
  expect(containers).toMatchObject([
    {
      image: 'dpi-agent',
      command: ['dpi-agent', 'operator'],
      securityContext: {
        readOnlyRootFilesystem: true,
        allowPrivilegeEscalation: false,
        capabilities: { drop: ['ALL'] },
      },
    },
  ]);
});

test("the operator's rights are those that its page gives reasons for", () => {
  const operatorPage = readFileSync(join(PROJECT, 'docs/operator.md'), 'utf8');
  const all = [...read('components/operator/rbac.yaml'), ...read('components/copies/rbac.yaml')] as (Manifest & {
    rules?: { resources: string[]; verbs: string[] }[];
  })[];
  const rules = all.flatMap((object) => object.rules ?? []);
  expect(rules).toHaveLength(15);
  for (const { resources, verbs } of rules) {
    expect(operatorPage).toMatch(new RegExp(`\\| \`${resources.join(', ')}\` +\\| \`${verbs.join(', ')}\` +\\|`));
  }
});

test('the page names each component', () => {
  expect(readdirSync(join(DEPLOY, 'components')).sort()).toEqual([...COMPONENTS]);
  for (const name of COMPONENTS) expect(page).toContain(`components/${name}`);
});

test('the component elasticsearch sets what the agent reads, in files of a Secret that need not be there', () => {
  const { patches } = read('components/elasticsearch/kustomization.yaml')[0] as unknown as {
    patches: { patch: string }[];
  };
  const values = (objects(patches[0]?.patch ?? '')[0] as unknown as { path: string; value: Added }[]).map(
    ({ value }) => value,
  );
  const env = Object.fromEntries(values.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]])));
  const loaded = loadConfig({ env: { ...env, NODE_NAME: 'node-1' }, flags: {} });
  expect(loaded).toMatchObject({
    config: {
      sinks: {
        elasticsearch: {
          nodes: ['https://elasticsearch-es-http.elastic.svc:9200'],
          apiKeyFile: '/etc/dpi-agent-elasticsearch/apiKey',
          caFile: '/etc/dpi-agent-elasticsearch/ca.crt',
          verifyTls: true,
        },
      },
    },
  });
  expect(values).toContainEqual({
    name: 'elasticsearch',
    mountPath: '/etc/dpi-agent-elasticsearch',
    readOnly: true,
  });
  expect(values).toContainEqual({
    name: 'elasticsearch',
    secret: { secretName: 'dpi-agent-elasticsearch', optional: true, defaultMode: 0o400 },
  });
});

test('the two CRDs differ in their group and version only, and take selectors as long as the agent does', () => {
  const [ours, other] = ['projectcalico.org', 'crd.projectcalico.org'].map((group) => {
    const crd = one(read(`crds/${group}/deeppacketinspections.yaml`), 'CustomResourceDefinition');
    expect(crd.metadata.name).toBe(`deeppacketinspections.${group}`);
    return JSON.stringify(crd);
  });
  expect(other?.replaceAll('crd.projectcalico.org', 'projectcalico.org').replace('"name":"v1"', '"name":"v3"')).toBe(
    ours,
  );
  expect(ours).toContain(`"maxLength":${MAX_SELECTOR_LENGTH}`);
});

/** Of an environment variable, a mount or a volume. */
interface Added {
  name: string;
  value?: string;
}

/** The first column of the table below a heading of the page, without its code marks. */
function section(heading: string): string[] {
  const [, text = ''] = page.split(`## ${heading}\n`);
  return [...(text.split('\n## ')[0] ?? '').matchAll(/^\| `([^`]+)`/gm)].map((match) => match[1] ?? '');
}

test('what OpenShift allows the agents is what their pods ask for', () => {
  const constraints = one(read('components/openshift/scc.yaml'), 'SecurityContextConstraints') as unknown as Record<
    string,
    unknown
  >;
  expect(constraints).toMatchObject({
    allowHostNetwork: spec['hostNetwork'],
    allowHostPID: spec['hostPID'],
    allowPrivilegedContainer: container.securityContext['privileged'],
    allowPrivilegeEscalation: container.securityContext['allowPrivilegeEscalation'],
    readOnlyRootFilesystem: container.securityContext['readOnlyRootFilesystem'],
    allowedCapabilities: container.securityContext.capabilities.add,
  });
  const kinds = new Set(spec.volumes.flatMap((volume) => Object.keys(volume).filter((key) => key !== 'name')));
  for (const kind of kinds) expect(constraints['volumes']).toContain(kind);
});
