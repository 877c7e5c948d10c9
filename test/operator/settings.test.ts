import { expect, test } from '@jest/globals';
import { readSettings, toSpec } from '../../agent/operator/settings.ts';

const PATH = 'spec.componentResources[0].resourceRequirements';
const INIT = 'spec.deepPacketInspectionDaemonset.spec.template.spec.initContainers';

const resources = (resourceRequirements: unknown): object => ({
  componentResources: [{ componentName: 'DeepPacketInspection', resourceRequirements }],
});
const init = (initContainers: unknown): object => ({
  deepPacketInspectionDaemonset: { spec: { template: { spec: { initContainers } } } },
});

const EXAMPLE = {
  ...resources({ limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '100m', memory: '100Mi' } }),
  ...init([{ name: 'snort-rules', image: 'registry.example:5000/team/snort-rules:rev01' }]),
};

test("the documentation's example is taken, and says itself again", () => {
  const { settings, problems } = readSettings(EXAMPLE);
  expect(problems).toEqual([]);
  expect(settings).toEqual({
    resources: { limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '100m', memory: '100Mi' } },
    initContainers: [{ name: 'snort-rules', image: 'registry.example:5000/team/snort-rules:rev01' }],
  });
  expect(readSettings(toSpec(settings))).toEqual({ settings, problems: [] });
});

test.each([undefined, null, {}, { anomalyDetection: {} }, { componentResources: [] }, { componentResources: null }])(
  '%j sets nothing',
  (spec) => expect(readSettings(spec)).toEqual({ settings: {}, problems: [] }),
);

test('an empty list of init containers is none, and no list leaves those of the template', () => {
  expect(readSettings(init([])).settings).toEqual({ initContainers: [] });
});

test.each([
  [
    resources({ limits: { cpu: '1 GB' } }),
    `${PATH}.limits.cpu: "1 GB": not a quantity of Kubernetes; write for example 500m or 2`,
  ],
  [resources({ limits: { memory: true } }), `${PATH}.limits.memory: true: not a quantity`],
  [resources({ limits: { memory: '1Gi\u001B[31m' } }), `${PATH}.limits.memory: "1Gi": not a quantity`],
  [resources({ limits: { memory: '500m' } }), `${PATH}.limits.memory: "500m": not a whole number of bytes`],
  [resources({ limits: { cpu: 0 } }), `${PATH}.limits.cpu: 0: out of range`],
  [resources({ limits: { cpu: '2000' } }), `${PATH}.limits.cpu: "2000": out of range`],
  [
    resources({ limits: { 'nvidia.com/gpu': 1 } }),
    `${PATH}.limits.nvidia.com/gpu: 1: unknown resource; expected one of cpu, memory`,
  ],
  [
    resources({ limits: { cpu: '1' }, requests: { cpu: '1500m' } }),
    `${PATH}.requests.cpu: "1500m": is more than the limit, 1`,
  ],
  [resources({ limits: 'much' }), `${PATH}.limits: "much": expected resources with their quantities`],
  [resources({ claims: [] }), `${PATH}.claims: a list: unknown key`],
  [resources(undefined), `${PATH}: missing: expected limits and requests`],
  [
    { componentResources: [{ componentName: 'Other' }] },
    'spec.componentResources[0].componentName: "Other": expected Deep',
  ],
  [{ componentResources: {} }, 'spec.componentResources: a mapping: expected a list'],
  [init([{ name: 'Rules', image: 'a' }]), `${INIT}[0].name: "Rules": expected a-z`],
  [init([{ name: 'a', image: 'a b' }]), `${INIT}[0].image: "a b": expected the name of an image`],
  [init([{ name: 'a' }]), `${INIT}[0].image: missing: expected the name of an image`],
  [init([{ name: 'a', image: 'b', command: ['sh'] }]), `${INIT}[0].command: a list: unknown key`],
  [
    init([
      { name: 'a', image: 'b' },
      { name: 'a', image: 'c' },
    ]),
    `${INIT}[1].name: "a": stands twice`,
  ],
  [
    init([{ name: 'a', image: 'b', resources: { limits: { memory: '1X' } } }]),
    `${INIT}[0].resources.limits.memory: "1X"`,
  ],
  [
    init(Array.from({ length: 9 }, (_, index) => ({ name: `a${index}`, image: 'b' }))),
    `${INIT}: a list: has 9 entries`,
  ],
  [init('snort-rules'), `${INIT}: "snort-rules": expected a list`],
])('%j is refused by field and value', (spec, problem) => {
  const { problems } = readSettings(spec);
  expect(problems).toHaveLength(1);
  expect(problems[0]).toContain(problem);
});

test('every problem is named, not the first one only', () => {
  const spec = { ...resources({ limits: { cpu: 'x', memory: 'y' } }), ...init([{ name: '', image: '' }]) };
  expect(readSettings(spec).problems).toHaveLength(4);
});
