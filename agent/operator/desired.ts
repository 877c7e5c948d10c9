/**
 * The DaemonSet that shall be, out of the pod template that was deployed and the settings of the IntrusionDetection.
 * Pure.
 *
 * The template is a PodTemplate in the cluster, which deploy/components/operator makes out of deploy/daemonset.yaml and
 * of all that the user's own kustomization changes in it: so what was set there holds with the operator too.
 */
import { plain } from '../config/text.ts';
import type { ApiObject } from '../kube/api.ts';
import { list, record, texts } from '../kube/fields.ts';
import { mebibytes, parseQuantity } from './quantity.ts';
import { readSettings, toSpec, type InitContainer, type Resources, type Settings } from './settings.ts';

/** Namespace and name of the DaemonSet, and of its template. */
export const NAME = 'tigera-dpi';
/** The settings that a DaemonSet was made with: what holds while those of the IntrusionDetection are refused. */
export const SETTINGS_ANNOTATION = 'dpi-agent.io/settings';
/** The agent's container. */
const CONTAINER = 'dpi-agent';

const LABEL = { 'k8s-app': NAME };
const RULES_VOLUME = 'snort-cache';
/** Where the agent looks for rule sets (`rulesDirectory`), and where the images of Calico's users put them. */
const RULES_PATH = '/usr/etc/snort/rules';
const RULES_SIZE = '1Gi';

const MIB = 2 ** 20;
/** The agent's own process, with its caches and what waits for a sink. */
const AGENT_BYTES = 192 * MIB;
/** The capture process of a lane. */
const CAPTURE_BYTES = 64 * MIB;
/** The least that `engine.memoryLimit` takes. */
const LEAST_ENGINE_BYTES = 128 * MIB;
const LEAST_BYTES = AGENT_BYTES + CAPTURE_BYTES + LEAST_ENGINE_BYTES;
/** The most that `engine.memoryLimit` and `lanes` take. */
const MOST_ENGINE_BYTES = 1024 ** 4;
const MOST_LANES = 64;

export interface Container {
  name: string;
  image?: string;
  env?: { name: string; value?: string; valueFrom?: object }[];
  resources?: Resources;
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
  [field: string]: unknown;
}

export interface PodTemplateSpec {
  metadata: { labels: Record<string, string>; annotations: Record<string, string> };
  spec: {
    containers: Container[];
    initContainers?: Container[];
    volumes?: { name: string; [source: string]: unknown }[];
    [field: string]: unknown;
  };
}

export interface DaemonSet {
  apiVersion: 'apps/v1';
  kind: 'DaemonSet';
  metadata: { name: string; namespace: string; labels: Record<string, string>; annotations: Record<string, string> };
  spec: { selector: object; updateStrategy: object; template: PodTemplateSpec };
}

export interface ApiPodTemplate extends ApiObject {
  template?: unknown;
}

/** How a container's limits are shared out; undefined where there is no such limit. */
export interface Sizing {
  lanes?: number;
  /** For each lane's engine. */
  engineBytes?: number;
  /** What a reader would not expect of it. */
  note?: string;
}

/** @returns the template with the parts that everything here counts on, or what is wrong with it. */
export function readTemplate(object: ApiPodTemplate): { template: PodTemplateSpec } | { problem: string } {
  const { metadata, spec } = record(object.template);
  const containers = list(record(spec)['containers']).map(record);
  if (!containers.some(({ name }) => name === CONTAINER)) {
    return {
      problem: `PodTemplate ${NAME} has no container ${CONTAINER}: apply deploy/ with components/operator again`,
    };
  }
  return {
    template: {
      metadata: { labels: texts(record(metadata)['labels']), annotations: texts(record(metadata)['annotations']) },
      spec: record(spec) as PodTemplateSpec['spec'],
    },
  };
}

export type Built =
  | { daemonSet: DaemonSet; sizing: Sizing; resources: Resources }
  /** Settings that do not fit the template. */
  | { problems: string[] };

export function buildDaemonSet(template: PodTemplateSpec, settings: Settings): Built {
  const { metadata, spec } = template;
  const agent = spec.containers.find(({ name }) => name === CONTAINER);
  if (agent === undefined) return { problems: [`the template has no container ${CONTAINER}`] };
  const resources = settings.resources ?? agent.resources ?? {};
  const sizing = share(resources);
  const added = settings.initContainers ?? [];
  const problems = 'problem' in sizing ? [sizing.problem] : [];
  problems.push(...conflicts(template, agent, added));
  if (problems.length > 0 || 'problem' in sizing) return { problems };

  const initContainers = [...(spec.initContainers ?? []), ...added.map(initContainer)];
  const volumes = [
    ...(spec.volumes ?? []),
    ...(added.length === 0 ? [] : [{ name: RULES_VOLUME, emptyDir: { sizeLimit: RULES_SIZE } }]),
  ];
  const container = agentContainer(agent, resources, sizing, added.length > 0);
  return {
    sizing,
    resources,
    daemonSet: {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: {
        name: NAME,
        namespace: NAME,
        labels: { ...metadata.labels, ...LABEL },
        annotations: { [SETTINGS_ANNOTATION]: JSON.stringify(toSpec(settings)) },
      },
      spec: {
        selector: { matchLabels: LABEL },
        // Two agents can't share a node: as in deploy/daemonset.yaml.
        updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } },
        template: {
          metadata: { labels: { ...metadata.labels, ...LABEL }, annotations: metadata.annotations },
          spec: {
            ...spec,
            containers: spec.containers.map((existing) => (existing === agent ? container : existing)),
            ...(initContainers.length === 0 ? {} : { initContainers }),
            ...(volumes.length === 0 ? {} : { volumes }),
          },
        },
      },
    },
  };
}

/** The template's, with what follows from its resources. What the template sets itself is somebody's wish. */
function agentContainer(
  agent: Container,
  resources: Resources,
  { lanes, engineBytes }: Sizing,
  hasRules: boolean,
): Container {
  const env = [...(agent.env ?? [])];
  const setDefault = (name: string, value: string): void => {
    if (!env.some((variable) => variable.name === name)) env.push({ name, value });
  };
  setDefault('DPI_AGENT_KUBERNETES_STATUS', 'node');
  if (lanes !== undefined) setDefault('DPI_AGENT_LANES', String(lanes));
  if (engineBytes !== undefined) setDefault('DPI_AGENT_ENGINE_MEMORY_LIMIT', `${mebibytes(engineBytes)}B`);
  const rules = hasRules ? [{ name: RULES_VOLUME, mountPath: RULES_PATH, readOnly: true }] : [];
  return { ...agent, env, resources, volumeMounts: [...(agent.volumeMounts ?? []), ...rules] };
}

/** One lane for each whole CPU, as far as the memory goes; the memory that agent and captures leave is the engines'. */
export function share({ limits = {} }: Resources): Sizing | { problem: string } {
  const cpu = parseQuantity(limits['cpu']);
  const memory = parseQuantity(limits['memory']);
  const wanted = cpu === undefined ? undefined : Math.min(MOST_LANES, Math.max(1, Math.floor(cpu)));
  if (memory === undefined) return wanted === undefined ? {} : { lanes: wanted };
  if (memory < LEAST_BYTES) {
    return {
      problem: `limits.memory: "${limits['memory']}": agent, capture and engine need at least ${mebibytes(LEAST_BYTES)}`,
    };
  }
  const fitting = Math.floor((memory - AGENT_BYTES) / (CAPTURE_BYTES + LEAST_ENGINE_BYTES));
  const lanes = Math.min(wanted ?? 1, fitting);
  const engineBytes = Math.min(MOST_ENGINE_BYTES, (memory - AGENT_BYTES) / lanes - CAPTURE_BYTES);
  return {
    ...(wanted === undefined ? {} : { lanes }),
    engineBytes,
    ...(wanted !== undefined && lanes < wanted
      ? { note: `${lanes} of ${wanted} lanes: each needs ${mebibytes(CAPTURE_BYTES + LEAST_ENGINE_BYTES)} of memory` }
      : {}),
  };
}

function conflicts(template: PodTemplateSpec, agent: Container, added: InitContainer[]): string[] {
  if (added.length === 0) return [];
  const field = 'initContainers';
  const names = [...template.spec.containers, ...(template.spec.initContainers ?? [])].map(({ name }) => name);
  const problems = added
    .filter(({ name }) => names.includes(name))
    .map(({ name }) => `${field}: ${JSON.stringify(name)}: the template has a container of that name`);
  const mounted = agent.volumeMounts?.find(({ mountPath }) => mountPath === RULES_PATH);
  if (mounted !== undefined) {
    problems.push(
      `${field}: the template mounts its volume ${plain(mounted.name, 63)} at ${RULES_PATH}, where they would put rules: remove one`,
    );
  }
  return problems;
}

function initContainer({ name, image, resources }: InitContainer): Container {
  return {
    name,
    image,
    ...(resources === undefined ? {} : { resources }),
    // It only fills a folder, which `cp -a` and tar do as root with these.
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'], add: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER'] },
    },
    volumeMounts: [{ name: RULES_VOLUME, mountPath: RULES_PATH }],
  };
}

/** The settings that a DaemonSet was made with; none where that can't be told. */
export function settingsOf(annotations: Record<string, string> | undefined): Settings {
  try {
    const { settings, problems } = readSettings(JSON.parse(annotations?.[SETTINGS_ANNOTATION] ?? '{}'));
    return problems.length === 0 ? settings : {};
  } catch {
    return {};
  }
}

/** In a sentence: `limits cpu 2, memory 2Gi: 2 lanes, 864Mi for each engine`. */
export function describeSizing({ limits = {} }: Resources, { lanes, engineBytes, note }: Sizing): string {
  const named = Object.entries(limits).map(([name, quantity]) => `${name} ${quantity}`);
  const shared = [
    ...(lanes === undefined ? [] : [`${lanes} ${lanes === 1 ? 'lane' : 'lanes'}`]),
    ...(engineBytes === undefined ? [] : [`${mebibytes(engineBytes)} for each engine`]),
    ...(note === undefined ? [] : [note]),
  ];
  return `${named.length === 0 ? 'no limits' : `limits ${named.join(', ')}`}${shared.length === 0 ? '' : `: ${shared.join(', ')}`}`;
}

/** What is said of it all in the IntrusionDetection's status. */
export interface Verdict {
  status: boolean;
  /** One word, for programs. */
  reason: 'Applied' | 'NoInspection' | 'InvalidSettings' | 'TemplateMissing' | 'Refused' | 'ForeignDaemonSet';
  message: string;
}

export interface Inputs {
  /** DeepPacketInspection resources in all namespaces. */
  inspections: number;
  template: ApiPodTemplate | undefined;
  /** `spec` of the IntrusionDetection; undefined where there is none. */
  spec: unknown;
  /** The DaemonSet that is there. */
  live: { annotations: Record<string, string>; containers: string[] } | undefined;
}

/** What to do about the DaemonSet, and what to say about it. `keep`: nothing. */
export type Decision = { verdict: Verdict } & (
  { kind: 'apply'; daemonSet: DaemonSet } | { kind: 'remove' } | { kind: 'keep' }
);

export function decide({ inspections, template: object, spec, live }: Inputs): Decision {
  if (live !== undefined && !live.containers.includes(CONTAINER)) {
    const message = `DaemonSet ${NAME}/${NAME} has no container ${CONTAINER}, so it is not this agent's: remove it, or this operator`;
    return { kind: 'keep', verdict: { status: false, reason: 'ForeignDaemonSet', message } };
  }
  const { settings, problems } = readSettings(spec);
  if (inspections === 0) {
    const message = `no DeepPacketInspection in any namespace: no DaemonSet`;
    return {
      kind: 'remove',
      verdict: problems.length > 0 ? invalid(problems) : { status: true, reason: 'NoInspection', message },
    };
  }
  const read = object === undefined ? undefined : readTemplate(object);
  if (read === undefined || 'problem' in read) {
    const message = read?.problem ?? `PodTemplate ${NAME}/${NAME} is not there: apply deploy/ with components/operator`;
    return { kind: 'keep', verdict: { status: false, reason: 'TemplateMissing', message } };
  }
  const { template } = read;
  if (problems.length === 0) {
    const built = buildDaemonSet(template, settings);
    if ('daemonSet' in built) {
      const message = describeSizing(built.resources, built.sizing);
      return { kind: 'apply', daemonSet: built.daemonSet, verdict: { status: true, reason: 'Applied', message } };
    }
    problems.push(...built.problems);
  }
  // What holds on: the last settings that were taken, or the template's own.
  const verdict = invalid(problems);
  for (const fallback of [settingsOf(live?.annotations), {}]) {
    const built = buildDaemonSet(template, fallback);
    if ('daemonSet' in built) return { kind: 'apply', daemonSet: built.daemonSet, verdict };
  }
  return { kind: 'keep', verdict };
}

function invalid(problems: string[]): Verdict {
  const more = problems.length > MAX_PROBLEMS ? `; ${problems.length - MAX_PROBLEMS} more` : '';
  return {
    status: false,
    reason: 'InvalidSettings',
    message: `not applied, the DaemonSet stays as it was: ${problems.slice(0, MAX_PROBLEMS).join('; ')}${more}`,
  };
}

const MAX_PROBLEMS = 10;
