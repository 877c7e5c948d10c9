/** What the component ui promises, read from its files. */
import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../../agent/config/load.ts';
import { PROJECT } from '../support/project.ts';
import { one, read, type Manifest, type PodTemplate } from './support.ts';

const deployment = one(read('ui/deployment.yaml'), 'Deployment') as Manifest & {
  spec: { replicas: number; template: PodTemplate };
};
const { spec, metadata } = deployment.spec.template;
const [container] = spec.containers;

test('the page is open to tokens of the cluster only, over TLS, with the alerts of Elasticsearch', () => {
  const env = Object.fromEntries((container?.env ?? []).map(({ name, value }) => [name, value]));
  expect(loadConfig({ env: { ...env, NODE_NAME: 'n' }, flags: {} })).toMatchObject({
    config: {
      ui: {
        address: '0.0.0.0',
        access: 'kubernetes',
        source: 'elasticsearch',
        behindTlsProxy: false,
        tlsCertFile: '/etc/dpi-agent-ui-tls/tls.crt',
        tlsKeyFile: '/etc/dpi-agent-ui-tls/tls.key',
      },
      sinks: { elasticsearch: { verifyTls: true } },
    },
  });
});

test('it runs without rights on its node', () => {
  expect(spec['securityContext']).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
  expect(container?.securityContext).toEqual({
    privileged: false,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  });
  expect(spec['hostNetwork']).toBeUndefined();
  expect(spec.volumes.filter(({ hostPath }) => hostPath !== undefined)).toEqual([]);
});

test('it asks the API server, and changes nothing there', () => {
  const [role] = read('ui/rbac.yaml').filter(
    ({ kind, metadata: { name } }) => kind === 'ClusterRole' && name === 'dpi-agent-ui',
  );
  const { rules } = role as Manifest & { rules: { resources: string[]; verbs: string[] }[] };
  expect(rules.flatMap(({ resources, verbs }) => resources.map((resource) => `${resource} ${verbs.join()}`))).toEqual([
    'tokenreviews create',
    'subjectaccessreviews create',
    'namespaces list',
    'pods list',
    'deeppacketinspections list',
  ]);
});

test('the Service leads to its pods, and the page says what else is needed', () => {
  const service = one(read('ui/service.yaml'), 'Service') as Manifest & {
    spec: { selector: Record<string, string>; ports: { targetPort: string }[] };
  };
  expect(metadata.labels).toMatchObject(service.spec.selector);
  expect(service.spec.ports).toMatchObject([{ targetPort: 'https' }]);
  const page = readFileSync(join(PROJECT, 'docs/ui.md'), 'utf8');
  const secrets = spec.volumes.flatMap((volume) =>
    'secret' in volume ? [(volume.secret as { secretName: string }).secretName] : [],
  );
  expect(secrets).toEqual(['dpi-agent-ui-tls', 'dpi-agent-elasticsearch']);
  expect(page).toContain('create secret tls dpi-agent-ui-tls');
});
