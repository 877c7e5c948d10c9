/** deploy/ on a real API server: rendered by kubectl's kustomize, applied, used by its service account. */
import { afterAll, beforeAll, describe, expect } from '@jest/globals';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCli } from '../support/cli.ts';
import { describeKubernetes, podObject, testOnOwnServer, useControlPlane } from '../support/kubernetes.ts';
import {
  COMPONENTS,
  containerOf,
  DEPLOY,
  daemonSetOf,
  objects,
  overlay,
  podsOf,
  type DaemonSet,
  type Manifest,
} from './support.ts';

const ACCOUNT = 'system:serviceaccount:tigera-dpi:tigera-dpi';
const RESOURCE = 'deeppacketinspections';
const GROUPS = ['projectcalico.org', 'crd.projectcalico.org'];

// They install on the whole cluster, so only on one of their own.
describeKubernetes(() => {
  const cluster = useControlPlane();
  const kubectl = (...args: string[]): string => cluster().kubectl(...args);
  const lines = (text: string): string[] => text.trim().split('\n');
  let files = 0;
  let applied = '';
  beforeAll(() => {
    applied = kubectl('apply', '-k', DEPLOY);
  });

  /** Path of a file with these objects. */
  function file(...content: object[]): string {
    const path = join(cluster().directory, `objects-${files++}.json`);
    writeFileSync(
      path,
      JSON.stringify(content.length === 1 ? content[0] : { apiVersion: 'v1', kind: 'List', items: content }),
    );
    return path;
  }

  function withOverlay<T>(components: readonly string[], use: (folder: string) => T): T {
    const { folder, parent } = overlay(components);
    try {
      return use(folder);
    } finally {
      rmSync(parent, { recursive: true });
    }
  }

  testOnOwnServer('kubectl apply -k deploy/ is accepted, and changes nothing the second time', () => {
    expect(lines(applied).filter((line) => !line.endsWith(' created'))).toEqual([]);
    expect(lines(kubectl('apply', '-k', DEPLOY)).filter((line) => !line.endsWith(' unchanged'))).toEqual([]);
  });

  testOnOwnServer('kubectl apply --server-side -k deploy/ is accepted on top of it', () => {
    expect(() => kubectl('apply', '--server-side', '--force-conflicts', '-k', DEPLOY)).not.toThrow();
    expect(() => kubectl('apply', '--server-side', '-k', DEPLOY)).not.toThrow();
  });

  describe.each([
    { components: [] },
    ...COMPONENTS.map((name) => ({ components: [name] })),
    { components: ['../grafana'] },
    { components: ['calico-api-server', 'fewer-rights', 'pod-monitor'] },
    { components: ['calico-api-server', 'fewer-rights', 'operator'] },
    { components: ['operator', 'copies'] },
    { components: ['elasticsearch', '../ui', 'policy', 'rules', 'operator'] },
    { components: ['elasticsearch', '../ui', 'rules-image', 'operator'] },
  ])('an overlay with $components', ({ components }: { components: string[] }) => {
    testOnOwnServer('renders, is accepted, and has the objects that it is about', () => {
      const rendered = objects(withOverlay(components, (folder) => kubectl('kustomize', folder)));
      const crds = rendered
        .filter(({ kind }) => kind === 'CustomResourceDefinition')
        .map(({ metadata }) => metadata.name);
      const serves = (...names: string[]): boolean => components.some((name) => names.includes(name));
      expect(crds.sort()).toEqual(
        [
          ...(serves('calico-api-server', 'copies') ? ['deeppacketinspections.crd.projectcalico.org'] : []),
          ...(serves('calico-api-server', 'calico-enterprise') ? [] : ['deeppacketinspections.projectcalico.org']),
          ...(serves('operator')
            ? ['deeppacketinspectionnodes.dpi-agent.io', 'intrusiondetections.operator.tigera.io']
            : []),
        ].sort(),
      );
      // With the operator, the DaemonSet is its own business.
      expect(rendered.some(({ kind }) => kind === 'DaemonSet')).toBe(!components.includes('operator'));
      expect(rendered.some(({ kind }) => kind === 'PodMonitor')).toBe(components.includes('pod-monitor'));
      const { securityContext, env, image } = containerOf({ spec: { template: podsOf(rendered) } });
      const { add } = securityContext.capabilities;
      expect(add.includes('SYS_ADMIN')).toBe(!components.includes('fewer-rights'));
      expect(env.map(({ name }) => name)).toEqual([
        'NODE_NAME',
        ...(serves('fewer-rights') ? ['DPI_AGENT_ENGINE_ISOLATE_NETWORK'] : []),
        ...(serves('elasticsearch')
          ? ['NODES', 'API_KEY_FILE', 'CA_FILE'].map((name) => `DPI_AGENT_SINKS_ELASTICSEARCH_${name}`)
          : []),
        ...(serves('policy') ? ['ALERTS_POLICY', 'RULE_CHANGES'].map((name) => `DPI_AGENT_${name}`) : []),
        ...(serves('response') ? ['RESPOND_URL', 'RESPOND_CA_FILE'].map((name) => `DPI_AGENT_${name}`) : []),
        ...(serves('rule-server')
          ? ['RULE_SERVER_URL', 'RULE_SERVER_CA_FILE', 'RULES_DIRECTORY'].map((name) => `DPI_AGENT_${name}`)
          : []),
      ]);
      expect(image).toBe('registry.example/dpi-agent:test');

      expect(rendered.some(({ kind }) => kind === 'PrometheusRule')).toBe(components.includes('prometheus-rules'));
      expect(rendered.some(({ metadata }) => metadata.labels?.['grafana_dashboard'] === '1')).toBe(
        components.includes('../grafana'),
      );

      // The Alerts page has the rules that its agents have, and runs nothing as root.
      const page = rendered.find(({ metadata: { name }, kind }) => kind === 'Deployment' && name === 'dpi-agent-ui');
      expect(page !== undefined).toBe(components.includes('../ui'));
      if (page !== undefined) {
        const { template } = (page as DaemonSet).spec;
        expect(containerOf({ spec: { template } }).volumeMounts.map(({ mountPath }) => mountPath)).toContain(
          '/usr/etc/snort/rules',
        );
        const inits = [template.spec['initContainers'] ?? []].flat() as { securityContext: object }[];
        expect(inits.map((container) => container.securityContext)).toEqual(
          components.includes('rules-image')
            ? [{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } }]
            : [],
        );
      }

      // Their CRDs are the Prometheus operator's, and OpenShift's.
      const foreign = ['PodMonitor', 'PrometheusRule', 'SecurityContextConstraints'];
      const known = rendered.filter(({ kind }) => !foreign.includes(kind));
      const accepted = kubectl('apply', '--server-side', '--force-conflicts', '--dry-run=server', '-f', file(...known));
      expect(lines(accepted)).toHaveLength(known.length);
    });
  });

  describe('Pod security admission', () => {
    function podIn(namespace: string): object {
      const { template } = daemonSetOf(objects(kubectl('kustomize', DEPLOY))).spec;
      return {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { ...template.metadata, name: 'agent', namespace },
        spec: template.spec,
      };
    }

    testOnOwnServer('lets the pod into its namespace', () => {
      expect(kubectl('create', '--dry-run=server', '-f', file(podIn('tigera-dpi')))).toBe(
        'pod/agent created (server dry run)\n',
      );
    });

    testOnOwnServer('would not let it into one of level baseline', () => {
      const namespace = cluster().namespace();
      kubectl('label', 'namespace', namespace, 'pod-security.kubernetes.io/enforce=baseline');
      kubectl('create', 'serviceaccount', 'tigera-dpi', '-n', namespace);
      expect(() => kubectl('create', '--dry-run=server', '-f', file(podIn(namespace)))).toThrow(
        'violates PodSecurity "baseline:latest"',
      );
    });
  });

  describe('the service account', () => {
    let kubeconfig = '';
    let namespace = '';
    beforeAll(() => {
      namespace = cluster().namespace();
      const token = kubectl('create', 'token', 'tigera-dpi', '-n', 'tigera-dpi').trim();
      kubeconfig = cluster().variant(cluster().kubeconfig, { user: { token } });
      cluster().apply({ ...SAMPLE, metadata: { name: 'sample-dpi', namespace } });
    });
    afterAll(() => {
      kubectl('delete', RESOURCE, 'sample-dpi', '-n', namespace);
    });
    const asAgent = (...args: string[]): string => kubectl(...args, '--kubeconfig', kubeconfig);

    testOnOwnServer('has exactly the rights of the ClusterRole', () => {
      const review = file({
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SelfSubjectRulesReview',
        spec: { namespace: 'default' },
      });
      const path = '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews';
      const { status } = JSON.parse(asAgent('create', '--raw', path, '-f', review)) as {
        status: { incomplete: boolean; resourceRules: { apiGroups: string[]; resources: string[]; verbs: string[] }[] };
      };
      // Who is authenticated may ask who it is and what it may do.
      const own = status.resourceRules.filter(({ apiGroups }) => !/^auth.*\.k8s\.io$/.test(apiGroups.join()));
      const text = own.map(({ apiGroups, resources, verbs }) => [apiGroups, resources, verbs].map(String).join(' '));
      expect(text.sort()).toEqual([
        ' pods list,watch',
        ' services list',
        'projectcalico.org,crd.projectcalico.org deeppacketinspections get,list,watch',
        'projectcalico.org,crd.projectcalico.org deeppacketinspections/status get,patch',
      ]);
    });

    testOnOwnServer('may do what the agent does, and nothing of a list of other things', () => {
      const may = [
        ['list', '', 'pods'],
        ['watch', '', 'pods'],
        ['list', '', 'services'],
        ...GROUPS.flatMap((group) => [
          ...['get', 'list', 'watch'].map((verb) => [verb, group, 'deeppacketinspections']),
          ...['get', 'patch'].map((verb) => [verb, group, 'deeppacketinspections', 'status']),
        ]),
      ];
      const mayNot = [
        ...['get', 'list', 'watch'].flatMap((verb) => [
          [verb, '', 'secrets'],
          [verb, '', 'configmaps'],
          [verb, '', 'nodes'],
        ]),
        ...['get', 'create', 'update', 'patch', 'delete', 'deletecollection'].map((verb) => [verb, '', 'pods']),
        ...['exec', 'attach', 'portforward', 'ephemeralcontainers'].map((name) => ['create', '', 'pods', name]),
        ['get', '', 'pods', 'log'],
        ['patch', '', 'pods', 'status'],
        ['watch', '', 'services'],
        ['patch', '', 'nodes', 'status'],
        ['create', '', 'events'],
        ['create', '', 'serviceaccounts', 'token'],
        ['impersonate', '', 'users'],
        ['patch', 'apps', 'daemonsets'],
        ['get', 'apiextensions.k8s.io', 'customresourcedefinitions'],
        ['bind', 'rbac.authorization.k8s.io', 'clusterroles'],
        ['escalate', 'rbac.authorization.k8s.io', 'clusterroles'],
        ['get', 'projectcalico.org', 'globalnetworkpolicies'],
        ...GROUPS.flatMap((group) => [
          ...['create', 'update', 'patch', 'delete'].map((verb) => [verb, group, 'deeppacketinspections']),
          ['update', group, 'deeppacketinspections', 'status'],
        ]),
      ];
      const reviews = [...may, ...mayNot].map(([verb, group, resource, subresource]) => ({
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SubjectAccessReview',
        spec: {
          user: ACCOUNT,
          groups: ['system:serviceaccounts', 'system:serviceaccounts:tigera-dpi', 'system:authenticated'],
          resourceAttributes: { verb, group, resource, subresource, namespace: 'tigera-dpi' },
        },
      }));
      const answers = kubectl(
        'create',
        '-f',
        file(...reviews),
        '-o',
        'jsonpath={.spec.resourceAttributes.verb} {.spec.resourceAttributes.group} {.spec.resourceAttributes.resource} {.spec.resourceAttributes.subresource} {.status.allowed}{"\\n"}',
      );
      const line =
        (allowed: string) =>
        ([verb, group, resource, subresource = '']: string[]) =>
          `${verb} ${group} ${resource} ${subresource} ${allowed}`;
      expect(lines(answers)).toEqual([...may.map(line('true')), ...mayNot.map(line('false'))]);
    });

    testOnOwnServer("finds its node's pods, the owner of an address, and writes a status, but no selector", () => {
      expect(asAgent('get', 'pods', '-A', '--field-selector=spec.nodeName=node-1', '-o', 'name')).toBe('');
      expect(asAgent('get', 'pods', '-A', '--field-selector=status.podIP=10.0.0.1', '-o', 'name')).toBe('');
      expect(asAgent('get', 'services', '-A', '--field-selector=spec.clusterIP=10.96.0.1', '-o', 'name')).toBe(
        'service/kubernetes\n',
      );
      const patch = (value: object, ...args: string[]): string =>
        asAgent('patch', RESOURCE, 'sample-dpi', '-n', namespace, '--type=merge', '-p', JSON.stringify(value), ...args);
      expect(patch({ status: { errors: 0 } }, '--subresource=status')).toBe(
        'deeppacketinspection.projectcalico.org/sample-dpi patched\n',
      );
      expect(() => patch({ spec: { selector: 'all()' } })).toThrow('cannot patch resource "deeppacketinspections"');
      // What comes with the status does not count.
      patch({ spec: { selector: 'all()' } }, '--subresource=status');
      const { spec } = JSON.parse(
        asAgent('get', 'deeppacketinspections', 'sample-dpi', '-n', namespace, '-o', 'json'),
      ) as {
        spec: unknown;
      };
      expect(spec).toEqual(SAMPLE.spec);
    });
  });

  // The last one: it takes all away.
  testOnOwnServer('quickstart asks, applies and waits for the agents; uninstall leaves nothing', async () => {
    const flags = ['--kubeconfig', cluster().kubeconfig];
    const said = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await runCli([...args, ...flags]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      return stdout;
    };
    await finalizing(() => said('uninstall', '--yes'));
    const before = ours();
    expect(before).toEqual([]);
    expect(await said('uninstall')).toContain('there is nothing of dpi-agent');

    const namespace = cluster().namespace();
    cluster().apply(podObject(namespace, 'web', 'node-1', { app: 'web' }), podObject(namespace, 'db', 'node-1'));
    const running = { status: { phase: 'Running', podIP: '10.65.0.9', podIPs: [{ ip: '10.65.0.9' }] } };
    for (const name of ['web', 'db'])
      kubectl('patch', 'pod', name, '-n', namespace, '--subresource=status', '-p', JSON.stringify(running));
    const args = ['quickstart', '-n', namespace, '-s', 'app == "web"', '--image', 'registry.example/own:1'];
    const plan = await said(...args);
    expect(plan).toContain('create DaemonSet tigera-dpi/tigera-dpi');
    expect(plan).toContain(`selects 1 pod of namespace ${namespace}:\n  ${namespace}/web`);
    expect(plan).toContain('Nothing was changed');
    expect(ours()).toEqual([]);

    const late = await runCli([...args, ...flags, '--yes', '--timeout', '1']);
    expect(late).toMatchObject({ code: 1, stderr: expect.stringContaining('agents are not ready after 1 s') });
    const { spec } = JSON.parse(kubectl('get', 'ds', '-n', 'tigera-dpi', '-o', 'json', 'tigera-dpi')) as DaemonSet;
    expect(containerOf({ spec }).image).toBe('registry.example/own:1');

    // In place of the controller, and of an agent.
    const counts = { desiredNumberScheduled: 2, numberReady: 2, updatedNumberScheduled: 2 };
    const ready = { ...counts, currentNumberScheduled: 2, numberMisscheduled: 0, observedGeneration: 1 };
    const patch = (what: string[], status: object): string =>
      kubectl('patch', ...what, '--subresource=status', '--type=merge', '-p', JSON.stringify({ status }));
    patch(['ds', 'tigera-dpi', '-n', 'tigera-dpi'], ready);
    patch([RESOURCE, 'quickstart', '-n', namespace], { podsCaptured: 1, nodesActive: 1, errors: 0 });
    const done = await said(...args, '--yes', '--no-trial');
    expect(done).toContain('agents inspect on 2 nodes');
    expect(done).toContain('pods captured: 1 on 1 nodes, 0 errors');

    const removed = await finalizing(() => said('uninstall', '--yes'));
    expect(removed).toContain('All DeepPacketInspection resources of all namespaces are among them');
    expect(ours()).toEqual([]);
    expect(kubectl('get', 'clusterroles,clusterrolebindings,crds', '-o', 'name')).not.toMatch(/dpi|calico/);
  });

  /** Objects of this project, by what the CLI does not know of. */
  function ours(): string[] {
    const kinds = 'namespaces,clusterroles,clusterrolebindings,crds,validatingadmissionpolicies';
    const all = lines(kubectl('get', kinds, '-o', 'name'));
    return all.filter((name) => /dpi|deeppacket|intrusion/.test(name) && !name.includes('/dpi-test-'));
  }

  /** Ends namespaces that are asked to end, as a controller does that is not here. */
  async function finalizing<T>(act: () => Promise<T>): Promise<T> {
    const timer = setInterval(() => {
      for (const name of ['tigera-dpi', 'dpi-agent-quickstart']) {
        const text = kubectl('get', 'namespace', name, '--ignore-not-found', '-o', 'json');
        if (!text.includes('"Terminating"')) continue;
        const path = file({ ...(JSON.parse(text) as object), spec: { finalizers: [] } });
        kubectl('replace', '--raw', `/api/v1/namespaces/${name}/finalize`, '-f', path);
      }
    }, 1_000);
    try {
      return await act();
    } finally {
      clearInterval(timer);
    }
  }
});

const SAMPLE = {
  apiVersion: 'projectcalico.org/v3',
  kind: 'DeepPacketInspection',
  spec: { selector: 'app == "backend"' },
} satisfies Partial<Manifest> & { spec: object };
