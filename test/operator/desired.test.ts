import { describe, expect, test } from '@jest/globals';
import { loadConfig } from '../../agent/config/load.ts';
import {
  buildDaemonSet,
  decide,
  describeSizing,
  readTemplate,
  SETTINGS_ANNOTATION,
  share,
  type ApiPodTemplate,
  type DaemonSet,
  type Inputs,
  type PodTemplateSpec,
} from '../../agent/operator/desired.ts';
import { containerOf, daemonSetOf, read } from '../deploy/support.ts';

const MIB = 2 ** 20;
const manifest = daemonSetOf(read('daemonset.yaml'));
const template: ApiPodTemplate = {
  metadata: { name: 'tigera-dpi', uid: 'u', resourceVersion: '1' },
  template: manifest.spec.template,
};
const spec = (resourceRequirements: object, initContainers?: object[]): object => ({
  componentResources: [{ componentName: 'DeepPacketInspection', resourceRequirements }],
  ...(initContainers && { deepPacketInspectionDaemonset: { spec: { template: { spec: { initContainers } } } } }),
});
const RULES = { name: 'snort-rules', image: 'rules:1' };

function pods(): PodTemplateSpec {
  const parsed = readTemplate(template);
  if ('problem' in parsed) throw new Error(parsed.problem);
  return parsed.template;
}

function decided(inputs: Partial<Inputs>): {
  kind: string;
  daemonSet: DaemonSet | undefined;
  reason: string;
  message: string;
} {
  const decision = decide({ inspections: 1, template, spec: undefined, live: undefined, ...inputs });
  const { kind, verdict } = decision;
  return { kind, daemonSet: kind === 'apply' ? decision.daemonSet : undefined, ...verdict };
}

const env = (daemonSet: DaemonSet | undefined): Record<string, string> =>
  Object.fromEntries(
    (daemonSet?.spec.template.spec.containers[0]?.env ?? []).flatMap(({ name, value }) =>
      value === undefined ? [] : [[name, value]],
    ),
  );

describe('the DaemonSet', () => {
  test('is that of deploy/daemonset.yaml, with the memory that its limit leaves to the engine', () => {
    const { daemonSet, reason } = decided({});
    expect(reason).toBe('Applied');
    const { labels, ...metadata } = daemonSet?.metadata ?? {};
    expect(labels).toEqual(manifest.metadata.labels);
    expect(metadata).toMatchObject({ name: 'tigera-dpi', namespace: 'tigera-dpi' });
    expect(daemonSet?.spec.selector).toEqual(manifest.spec.selector);
    expect(daemonSet?.spec.updateStrategy).toEqual(manifest.spec.updateStrategy);
    const container = containerOf(manifest);
    expect(daemonSet?.spec.template).toEqual({
      metadata: manifest.spec.template.metadata,
      spec: {
        ...manifest.spec.template.spec,
        containers: [
          {
            ...container,
            env: [
              ...container.env,
              { name: 'DPI_AGENT_KUBERNETES_STATUS', value: 'node' },
              { name: 'DPI_AGENT_ENGINE_MEMORY_LIMIT', value: '768MiB' },
            ],
          },
        ],
      },
    });
  });

  test('has variables that the agent takes', () => {
    const { daemonSet } = decided({ spec: spec({ limits: { cpu: '64', memory: '64Gi' } }) });
    expect(env(daemonSet)).toEqual({
      DPI_AGENT_KUBERNETES_STATUS: 'node',
      DPI_AGENT_LANES: '64',
      DPI_AGENT_ENGINE_MEMORY_LIMIT: '957MiB',
    });
    expect(loadConfig({ env: env(daemonSet), flags: {} })).toMatchObject({
      config: { kubernetes: { status: 'node' }, lanes: 64, engine: { memoryLimit: 957 * MIB } },
    });
  });

  test('keeps variables that the template sets itself', () => {
    const own = pods();
    own.spec.containers = own.spec.containers.map((one) => ({
      ...one,
      env: [{ name: 'DPI_AGENT_LANES', value: '7' }],
    }));
    const built = buildDaemonSet(own, { resources: { limits: { cpu: '2' } } });
    expect('daemonSet' in built && env(built.daemonSet)).toEqual({
      DPI_AGENT_KUBERNETES_STATUS: 'node',
      DPI_AGENT_LANES: '7',
    });
  });

  test('has the init containers behind those of the template, with the folder of rules that the agent only reads', () => {
    const own = pods();
    own.spec.initContainers = [{ name: 'first', image: 'first:1' }];
    const built = buildDaemonSet(own, { initContainers: [RULES] });
    const made = 'daemonSet' in built ? built.daemonSet.spec.template.spec : undefined;
    expect(made?.initContainers?.map(({ name }) => name)).toEqual(['first', 'snort-rules']);
    expect(made?.initContainers?.[1]?.volumeMounts).toEqual([
      { name: 'snort-cache', mountPath: '/usr/etc/snort/rules' },
    ]);
    expect(made?.containers[0]?.volumeMounts).toContainEqual({
      name: 'snort-cache',
      mountPath: '/usr/etc/snort/rules',
      readOnly: true,
    });
    expect(made?.volumes).toContainEqual({ name: 'snort-cache', emptyDir: { sizeLimit: '1Gi' } });
  });

  test('takes no init containers that collide with the template', () => {
    const own = pods();
    own.spec.containers = own.spec.containers.map((one) => ({
      ...one,
      volumeMounts: [{ name: 'mine', mountPath: '/usr/etc/snort/rules' }],
    }));
    expect(buildDaemonSet(own, { initContainers: [{ name: 'dpi-agent', image: 'x' }] })).toEqual({
      problems: [
        'initContainers: "dpi-agent": the template has a container of that name',
        expect.stringContaining('the template mounts its volume mine at /usr/etc/snort/rules'),
      ],
    });
  });
});

describe('limits', () => {
  test.each([
    [{}, {}],
    [{ cpu: '500m' }, { lanes: 1 }],
    [{ cpu: '1' }, { lanes: 1 }],
    [{ cpu: '3999m' }, { lanes: 3 }],
    [{ cpu: 200 }, { lanes: 64 }],
    [{ memory: '1Gi' }, { engineBytes: 768 * MIB }],
    [{ memory: '384Mi' }, { engineBytes: 128 * MIB }],
    [
      { cpu: '2', memory: '2Gi' },
      { lanes: 2, engineBytes: 864 * MIB },
    ],
    [
      { cpu: '4', memory: '512Mi' },
      { lanes: 1, engineBytes: 256 * MIB, note: '1 of 4 lanes: each needs 192Mi of memory' },
    ],
    [
      { cpu: '1', memory: '2Ti' },
      { lanes: 1, engineBytes: 2 ** 40 },
    ],
  ])('%j are shared as %j', (limits, sizing) => expect(share({ limits })).toEqual(sizing));

  test('below the least that everything needs they are refused', () => {
    expect(share({ limits: { memory: '383Mi' } })).toEqual({
      problem: 'limits.memory: "383Mi": agent, capture and engine need at least 384Mi',
    });
  });

  test('are told in a sentence', () => {
    expect(describeSizing({ limits: { cpu: 1, memory: '1Gi' } }, { lanes: 1, engineBytes: 768 * MIB })).toBe(
      'limits cpu 1, memory 1Gi: 1 lane, 768Mi for each engine',
    );
    expect(describeSizing({}, {})).toBe('no limits');
  });
});

describe('decisions', () => {
  const live = (settings?: string) => ({
    containers: ['dpi-agent'],
    annotations: settings === undefined ? {} : { [SETTINGS_ANNOTATION]: settings },
  });

  test('without a resource there is no DaemonSet, whatever else there is', () => {
    expect(decided({ inspections: 0, live: live(), template: undefined })).toMatchObject({
      kind: 'remove',
      reason: 'NoInspection',
    });
    expect(decided({ inspections: 0, spec: spec({ limits: { memory: '1X' } }) })).toMatchObject({
      kind: 'remove',
      reason: 'InvalidSettings',
    });
  });

  test.each([
    undefined,
    { ...template, template: {} },
    { ...template, template: { spec: { containers: [{ name: 'x' }] } } },
  ])('without a usable template nothing is changed', (broken) =>
    expect(decided({ template: broken, live: live() })).toMatchObject({ kind: 'keep', reason: 'TemplateMissing' }),
  );

  test('a DaemonSet without the agent is not touched, with and without resources', () => {
    const other = { containers: ['tigera-dpi'], annotations: {} };
    for (const inspections of [0, 1]) {
      expect(decided({ inspections, live: other })).toMatchObject({ kind: 'keep', reason: 'ForeignDaemonSet' });
    }
  });

  test('refused settings leave those that were taken last', () => {
    const taken = decided({ spec: spec({ limits: { cpu: '2', memory: '1Gi' } }, [RULES]) }).daemonSet;
    const settings = taken?.metadata.annotations[SETTINGS_ANNOTATION];
    for (const refused of [spec({ limits: { memory: '1X' } }), spec({ limits: { memory: '1Mi' } })]) {
      const { daemonSet, reason } = decided({ spec: refused, live: live(settings) });
      expect(reason).toBe('InvalidSettings');
      expect(daemonSet).toEqual(taken);
    }
  });

  test.each([undefined, '', '{', '[]', '{"componentResources":[{"componentName":"X"}]}'])(
    'refused settings over a DaemonSet that remembers %j leave what the template has',
    (remembered) => {
      const { daemonSet } = decided({ spec: spec({ limits: { memory: '1Mi' } }), live: live(remembered) });
      expect(daemonSet).toEqual(decided({}).daemonSet);
    },
  );

  test('the message names each problem, up to ten', () => {
    const containers = Array.from({ length: 8 }, (_, index) => ({ name: `A${index}`, image: ' ' }));
    const { message } = decided({ spec: spec({ limits: { memory: '1X' } }, containers) });
    expect(message).toContain('componentResources[0].resourceRequirements.limits.memory: "1X"');
    expect(message).toMatch(/; 7 more$/);
  });
});
