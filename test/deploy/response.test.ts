/** What the component response promises, read from its files. */
import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { loadConfig } from '../../agent/config/load.ts';
import { NEVER } from '../../agent/respond/isolate.ts';
import { PROJECT } from '../support/project.ts';
import { one, read, type Manifest, type PodTemplate } from './support.ts';

const FOLDER = 'components/response';
const deployment = one(read(`${FOLDER}/deployment.yaml`), 'Deployment') as Manifest & {
  spec: { template: PodTemplate };
};
const [container] = deployment.spec.template.spec.containers;

test('it serves over TLS only, and isolates nothing by itself until somebody says so', () => {
  const { data } = one(read(`${FOLDER}/configmap.yaml`), 'ConfigMap') as Manifest & { data: Record<string, string> };
  const directory = mkdtempSync(join(tmpdir(), 'dpi-response-'));
  try {
    const file = join(directory, 'response.yaml');
    writeFileSync(file, data['response.yaml'] ?? '');
    const env = Object.fromEntries((container?.env ?? []).map(({ name, value }) => [name, value]));
    expect(loadConfig({ file, env: { ...env, NODE_NAME: 'n' }, flags: {} })).toMatchObject({
      config: {
        respondServing: {
          automatic: false,
          automaticPods: [],
          protectedNamespaces: ['tigera-dpi'],
          tlsCertFile: '/etc/dpi-agent-response-tls/tls.crt',
        },
      },
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('agents and page get no right of it: they know where it is, and trust its authority', () => {
  const { patches } = read(`${FOLDER}/kustomization.yaml`)[0] as unknown as { patches: { patch: string }[] };
  expect(patches).toHaveLength(2);
  for (const { patch } of patches) expect(patch).not.toMatch(/serviceAccountName|role/i);
  const verbs = read('rbac.yaml').flatMap((object) =>
    ((object as Manifest & { rules?: { verbs: string[]; resources: string[] }[] }).rules ?? []).flatMap(
      ({ resources, verbs: of }) => resources.map((resource) => `${resource} ${of.join()}`),
    ),
  );
  expect(verbs.filter((right) => /networkpolic|pods .*(patch|create|delete)/.test(right))).toEqual([]);
});

test('the API server holds it to what the program leaves alone', () => {
  const admission = readFileSync(join(PROJECT, 'deploy', FOLDER, 'admission.yaml'), 'utf8');
  const lists = [...admission.matchAll(/request\.namespace in \[([^\]]*)\]/g)].map(([, names]) => names);
  expect(lists).toHaveLength(2);
  for (const names of lists)
    expect(names?.split(',').map((name) => name.trim().slice(1, -1))).toEqual([...NEVER, 'tigera-dpi']);
});
