/** The chart: the same objects as kustomize makes, and its life on a real API server. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { COPIES } from '../../scripts/chart.ts';
import { HELM, kubernetesDirectory, missingPrograms, whyNoKubernetes } from '../../scripts/kubernetes.mjs';
import { describeKubernetes, testOnOwnServer, useControlPlane, whyNoCluster } from '../support/kubernetes.ts';
import { DEPLOY, objects, overlay, type Manifest } from './support.ts';

const CHART = join(DEPLOY, 'helm/dpi-agent');
const IMAGE = { image: { repository: 'registry.example/dpi-agent', tag: 'test' } };

const whyNoHelm = missingPrograms(HELM).length === 0 ? undefined : (whyNoKubernetes(HELM) ?? 'helm is not built yet');
if (whyNoHelm !== undefined) process.stderr.write(`skipped: ${whyNoHelm}: run node scripts/kubernetes.mjs\n`);

let folder: string;
let files = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-helm-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(program: string, args: readonly string[]): string {
  return execFileSync(join(kubernetesDirectory(), 'bin', program), args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, HELM_CACHE_HOME: folder, HELM_CONFIG_HOME: folder, HELM_DATA_HOME: folder },
  });
}

/** Arguments that give these values. */
function valuesOf(values: object): string[] {
  const path = join(folder, `values-${files++}.yaml`);
  writeFileSync(path, stringify(values));
  return ['--values', path];
}

/** A helm that is built by `go build` takes clusters to be old. */
const VERSION = ['--kube-version', '1.34.0'];

const template = (values: object): Manifest[] =>
  objects(run('helm', ['template', 'dpi-agent', CHART, ...VERSION, ...valuesOf({ ...IMAGE, ...values })]));

function kustomize(components: readonly string[]): Manifest[] {
  const made = overlay(components);
  try {
    return objects(run('kubectl', ['kustomize', made.folder]));
  } finally {
    rmSync(made.parent, { recursive: true });
  }
}

const NAME_LABEL = 'app.kubernetes.io/name';
/** What the chart alone has: Helm's own, and what starts the pods anew when the configuration changes. */
const OWN_ANNOTATIONS = ['helm.sh/resource-policy', 'checksum/config'];
/** Lists in which only the names matter, not the order. */
const NAMED = ['env', 'volumeMounts', 'volumes'];

/** Without what may differ between the two, which is in no pod's behaviour. */
function comparable(value: unknown, key = ''): unknown {
  if (Array.isArray(value)) {
    const list = value.map((item) => comparable(item));
    const nameOf = (item: unknown): string => String((item as { name?: unknown }).name);
    return NAMED.includes(key) ? list.toSorted((a, b) => nameOf(a).localeCompare(nameOf(b))) : list;
  }
  if (typeof value !== 'object' || value === null) return value;
  const left = key === 'labels' ? [NAME_LABEL] : key === 'annotations' ? OWN_ANNOTATIONS : [];
  const entries = Object.entries(value)
    .filter(([name]) => !left.includes(name))
    .map(([name, member]) => [
      name,
      /^(?:dpi-agent|rule-server|response)\.yaml$/.test(name) ? parse(String(member)) : comparable(member, name),
    ]);
  const isEmpty = (member: unknown): boolean => JSON.stringify(member) === '{}';
  return Object.fromEntries(
    entries.filter(([name, member]) => !/^(labels|annotations)$/.test(name as string) || !isEmpty(member)),
  );
}

const sorted = (all: Manifest[]): unknown[] =>
  all
    .toSorted((a, b) => `${a.kind} ${a.metadata.name}`.localeCompare(`${b.kind} ${b.metadata.name}`))
    .map((object) => comparable(object));

test.each(COPIES)('the chart’s copy of deploy/%s is not stale: node dist/scripts/chart.js', (from, to) => {
  expect(readFileSync(join(CHART, 'files', to), 'utf8')).toBe(readFileSync(join(DEPLOY, from), 'utf8'));
});

const withHelm = whyNoHelm === undefined && whyNoCluster() === undefined ? describe : describe.skip;

withHelm('the chart', () => {
  const on = { enabled: true };
  test.each<[string[], object]>([
    [[], {}],
    [['calico-api-server', 'fewer-rights'], { crds: { group: 'crd.projectcalico.org' }, agent: { fewerRights: true } }],
    [
      ['calico-enterprise', 'elasticsearch', 'rules', 'pod-monitor', 'prometheus-rules', '../grafana'],
      {
        crds: { group: 'none' },
        elasticsearch: on,
        rules: { configMap: on },
        monitoring: { podMonitor: true, prometheusRules: true, grafanaDashboard: true },
      },
    ],
    [
      ['rules-image', 'pod-networks', 'openshift'],
      { rules: { image: on }, agent: { podNetworks: true }, openshift: true },
    ],
    [['operator'], { operator: on }],
    [['rule-server', 'response'], { ruleServer: on, response: on }],
    [['elasticsearch', 'rule-server', 'operator'], { elasticsearch: on, ruleServer: on, operator: on }],
    [
      [
        'fewer-rights',
        'elasticsearch',
        '../ui',
        'policy',
        'rules-image',
        'pod-networks',
        'response',
        'operator',
        'copies',
      ],
      {
        agent: { fewerRights: true, podNetworks: true },
        elasticsearch: on,
        ui: on,
        policy: on,
        rules: { image: on },
        response: on,
        operator: { enabled: true, copies: true },
      },
    ],
  ])('has the objects of kustomize with the components %j', (components, values) => {
    const made = template(values);
    expect(sorted(made)).toEqual(sorted(kustomize(components)));
    for (const { metadata } of made) expect(metadata.labels).toMatchObject({ [NAME_LABEL]: 'dpi-agent' });
  });

  test('is without fault for helm lint, whatever is enabled', () => {
    const all = {
      operator: { enabled: true, copies: true },
      elasticsearch: on,
      ui: on,
      policy: on,
      rules: { configMap: on },
      ruleServer: on,
      response: on,
      monitoring: { podMonitor: true, prometheusRules: true, grafanaDashboard: true },
    };
    for (const values of [{}, all])
      expect(run('helm', ['lint', '--strict', CHART, ...VERSION, ...valuesOf(values)])).toContain('0 chart(s) failed');
  });

  test.each<[object, string]>([
    [{ operator: { enabeld: true } }, 'enabeld'],
    [{ agent: { maxUnavailable: 'all' } }, 'maxUnavailable'],
    [{ crds: { group: 'calico' } }, 'group'],
    [{ operator: { copies: true } }, 'operator'],
    [{ rules: { configMap: on, image: on } }, 'rules'],
    [{ ui: on }, 'ui.enabled needs elasticsearch.enabled'],
  ])('refuses the values %j', (values, why) => {
    expect(() => template(values)).toThrow(why);
  });

  test('puts values where they belong', () => {
    const [daemonSet] = template({
      image: { digest: `sha256:${'a'.repeat(64)}`, pullSecrets: ['own'] },
      commonLabels: { team: 'security' },
      agent: { env: [{ name: 'DPI_AGENT_LANES', value: '2' }], tolerations: [], maxUnavailable: 1 },
      config: { variables: { HOME_NET: 'pods' } },
    }).filter(({ kind }) => kind === 'DaemonSet');
    expect(daemonSet).toMatchObject({
      metadata: { labels: { team: 'security' } },
      spec: {
        updateStrategy: { rollingUpdate: { maxUnavailable: 1 } },
        template: { spec: { imagePullSecrets: [{ name: 'own' }] } },
      },
    });
    const text = stringify(daemonSet);
    expect(text).toContain(`@sha256:${'a'.repeat(64)}`);
    expect(text).toContain('DPI_AGENT_LANES');
    expect(text).not.toContain('tolerations');
  });
});

if (whyNoHelm === undefined)
  describeKubernetes(() => {
    const cluster = useControlPlane();
    const kubectl = (...args: string[]): string => cluster().kubectl(...args);
    const helm = (...args: string[]): string => run('helm', ['--kubeconfig', cluster().kubeconfig, ...args]);

    testOnOwnServer('is installed, upgraded, rolled back and removed, and resources outlive all of it', () => {
      const selector = (): string =>
        kubectl(
          'get',
          'deeppacketinspections.projectcalico.org',
          '-n',
          'default',
          'kept',
          '-o',
          'jsonpath={.spec.selector}',
        );
      const there = (kind: string): boolean =>
        kubectl('get', kind, '-n', 'tigera-dpi', '-o', 'name').includes('tigera-dpi');
      helm('install', 'dpi-agent', CHART, ...valuesOf(IMAGE));
      expect(there('daemonset')).toBe(true);
      const crd = 'crd/deeppacketinspections.projectcalico.org';
      kubectl('wait', '--for', 'condition=Established', '--timeout=30s', crd);
      cluster().apply({
        apiVersion: 'projectcalico.org/v3',
        kind: 'DeepPacketInspection',
        metadata: { name: 'kept', namespace: 'default' },
        spec: { selector: 'all()' },
      });
      // As an older version had it: an upgrade brings the new one.
      kubectl(
        'patch',
        crd,
        '--type',
        'json',
        '-p',
        '[{"op":"remove","path":"/spec/versions/0/additionalPrinterColumns"}]',
      );

      const notes = helm(
        'upgrade',
        'dpi-agent',
        CHART,
        ...valuesOf({
          ...IMAGE,
          operator: { enabled: true },
          commonLabels: { team: 'x' },
          elasticsearch: { enabled: true },
          ui: { enabled: true },
          policy: { enabled: true, configMap: 'tuned' },
        }),
      );
      // What the page may save, where, and who.
      expect(notes).toContain('create configmap tuned');
      expect(notes).toContain('--role=dpi-agent-tune');
      expect([there('daemonset'), there('podtemplate')]).toEqual([false, true]);
      helm('rollback', 'dpi-agent', '1');
      expect([there('daemonset'), there('podtemplate')]).toEqual([true, false]);
      expect(selector()).toBe('all()');

      helm('uninstall', 'dpi-agent');
      expect(there('daemonset')).toBe(false);
      expect(selector()).toBe('all()');
    });
  });
