/** What the component rule-server promises, read from its files. */
import { expect, test } from '@jest/globals';
import { readFileSync, writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../../agent/config/load.ts';
import { PROJECT } from '../support/project.ts';
import { objects, one, read, type Manifest, type PodTemplate } from './support.ts';

const FOLDER = 'components/rule-server';
const deployment = one(read(`${FOLDER}/deployment.yaml`), 'Deployment') as Manifest & {
  spec: { replicas: number; template: PodTemplate };
};
const { spec, metadata } = deployment.spec.template;
const [container] = spec.containers;
const [{ patches, images }] = read(`${FOLDER}/kustomization.yaml`) as unknown as [
  { patches: { patch: string }[]; images: object[] },
];

interface Added {
  name: string;
  value?: string;
  mountPath?: string;
  projected?: { sources: { serviceAccountToken?: { audience: string; path: string } }[] };
}
const added = (objects(patches[0]?.patch ?? '')[0] as unknown as { value: Added }[]).map(({ value }) => value);

test('agents follow it with a token that is for it alone, and both sides agree on the audience', () => {
  const env = Object.fromEntries(added.flatMap(({ name, value }) => (value === undefined ? [] : [[name, value]])));
  const loaded = loadConfig({ env: { ...env, NODE_NAME: 'n' }, flags: {} });
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join());
  const { ruleServer, ruleServing, rulesDirectory } = loaded.config;
  expect(ruleServer.url).toBe('https://dpi-agent-rule-server.tigera-dpi.svc');
  const mount = added.find(({ mountPath }) => mountPath !== undefined)?.mountPath;
  const token = added.flatMap(({ projected }) => projected?.sources ?? []).find((each) => each.serviceAccountToken);
  expect(token?.serviceAccountToken).toMatchObject({ audience: ruleServing.audience });
  expect(ruleServer.tokenFile).toBe(`${mount}/${token?.serviceAccountToken?.path}`);
  expect(ruleServer.caFile).toBe(`${mount}/ca.crt`);
  // What the agents' root file system is not.
  expect(rulesDirectory).toMatch(/^\/var\/lib\/dpi-agent\//);
});

test('its configuration is one, and it serves over TLS what its sources have', () => {
  const { data } = one(read(`${FOLDER}/configmap.yaml`), 'ConfigMap') as Manifest & { data: Record<string, string> };
  const directory = mkdtempSync(join(tmpdir(), 'dpi-rule-server-'));
  try {
    const file = join(directory, 'rule-server.yaml');
    writeFileSync(file, data['rule-server.yaml'] ?? '');
    const env = Object.fromEntries((container?.env ?? []).map(({ name, value }) => [name, value]));
    expect(loadConfig({ file, env: { ...env, NODE_NAME: 'n' }, flags: {} })).toMatchObject({
      config: {
        ruleSources: [{ name: 'community', preset: 'snort3-community' }],
        ruleServing: {
          address: '0.0.0.0',
          port: 9099,
          tlsCertFile: '/etc/dpi-agent-rule-server-tls/tls.crt',
          serviceAccounts: ['tigera-dpi/tigera-dpi'],
        },
      },
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
  expect(container).toMatchObject({
    command: ['dpi-agent', 'rules', 'serve'],
    ports: [
      { name: 'https', containerPort: 9099 },
      { name: 'metrics', containerPort: 9097 },
    ],
  });
  expect(images).toEqual((read('kustomization.yaml')[0] as unknown as { images: object[] }).images);
});

test('it runs without rights on its node, and asks the API server whose tokens are, nothing else', () => {
  expect(spec['securityContext']).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
  expect(container?.securityContext).toEqual({
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  expect(spec['hostNetwork']).toBeUndefined();
  expect(spec.volumes.filter(({ hostPath }) => hostPath !== undefined)).toEqual([]);
  const rules = (read(`${FOLDER}/rbac.yaml`) as (Manifest & { rules?: object[] })[]).flatMap(
    (each) => each.rules ?? [],
  );
  expect(rules).toEqual([{ apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] }]);
});

test('Service and NetworkPolicy lead to its pods, and the page says what else is needed', () => {
  const service = one(read(`${FOLDER}/service.yaml`), 'Service') as Manifest & {
    spec: { selector: Record<string, string>; ports: object[] };
  };
  const policy = one(read(`${FOLDER}/networkpolicy.yaml`), 'NetworkPolicy') as Manifest & {
    spec: { podSelector: { matchLabels: Record<string, string> }; ingress: { ports: { port: string }[] }[] };
  };
  expect(metadata.labels).toMatchObject(service.spec.selector);
  expect(metadata.labels).toMatchObject(policy.spec.podSelector.matchLabels);
  expect(service.spec.ports).toMatchObject([{ port: 443, targetPort: 'https' }]);
  expect(policy.spec.ingress.flatMap(({ ports }) => ports.map(({ port }) => port))).toEqual(['https', 'metrics']);
  const page = readFileSync(join(PROJECT, 'docs/rule-server.md'), 'utf8');
  for (const name of ['dpi-agent-rule-server-tls', 'dpi-agent-rule-sources']) expect(page).toContain(name);
});
