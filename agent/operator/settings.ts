/**
 * What an IntrusionDetection (operator.tigera.io/v1) says of deep packet inspection, checked as strictly as can be
 * without a node: a value that is refused here would make every agent of the cluster fail at once.
 *
 * The fields are those of Calico Enterprise:
 * https://docs.tigera.io/calico-enterprise/latest/reference/installation/api#operator.tigera.io/v1.IntrusionDetectionSpec
 */
import { plain, shown } from '../config/text.ts';
import { isRecord } from '../files/record.ts';
import { list, record } from '../kube/fields.ts';
import { parseQuantity } from './quantity.ts';

export type Quantities = Record<string, string | number>;

export interface Resources {
  limits?: Quantities;
  requests?: Quantities;
}

export interface InitContainer {
  name: string;
  image: string;
  resources?: Resources;
}

/** Fields that are not set leave what the template has. */
export interface Settings {
  resources?: Resources;
  initContainers?: InitContainer[];
}

const COMPONENT = 'DeepPacketInspection';
/** Resources that a container of the DaemonSet can be given. */
const KNOWN = ['cpu', 'memory', 'ephemeral-storage'];
const EXAMPLES: Record<string, string> = { cpu: '500m or 2', memory: '512Mi or 2Gi', 'ephemeral-storage': '1Gi' };
const MAX_INIT_CONTAINERS = 8;
const NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** A reference as a container runtime takes it: host, path, tag, digest. */
const IMAGE = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,511}(@[a-z0-9+._-]+:[A-Fa-f0-9]{32,128})?$/;

/** @returns settings. Each problem names the field and the value; with one, the settings are not to be used. */
export function readSettings(spec: unknown): { settings: Settings; problems: string[] } {
  const problems: string[] = [];
  const refuse = (field: string, value: unknown, reason: string): void => {
    problems.push(`${field}: ${value === undefined ? 'missing' : shown(value)}: ${reason}`);
  };
  const settings: Settings = {};

  const entries = isListOr(record(spec)['componentResources'], 'spec.componentResources', refuse);
  for (const [index, entry] of entries.entries()) {
    const field = `spec.componentResources[${index}]`;
    const { componentName, resourceRequirements } = record(entry);
    if (componentName !== COMPONENT) {
      refuse(`${field}.componentName`, componentName, `expected ${COMPONENT}`);
    } else if (settings.resources !== undefined) {
      refuse(`${field}.componentName`, componentName, 'stands twice; keep one');
    } else {
      settings.resources = readResources(resourceRequirements, `${field}.resourceRequirements`, refuse);
    }
  }

  const path = ['deepPacketInspectionDaemonset', 'spec', 'template', 'spec', 'initContainers'];
  const value = path.reduce<unknown>((object, key) => record(object)[key], spec);
  const field = `spec.${path.join('.')}`;
  if (value !== undefined && value !== null) {
    const containers = isListOr(value, field, refuse);
    if (containers.length > MAX_INIT_CONTAINERS) {
      refuse(field, value, `has ${containers.length} entries; expected at most ${MAX_INIT_CONTAINERS}`);
    }
    settings.initContainers = containers
      .slice(0, MAX_INIT_CONTAINERS)
      .map((entry, index) => readInitContainer(record(entry), `${field}[${index}]`, refuse));
    const names = settings.initContainers.map(({ name }) => name);
    for (const [index, name] of names.entries()) {
      if (names.indexOf(name) < index)
        refuse(`${field}[${index}].name`, name, 'stands twice; each needs a name of its own');
    }
  }
  return { settings, problems };
}

/** The part of a spec that says these settings. */
export function toSpec({ resources, initContainers }: Settings): object {
  return {
    ...(resources === undefined
      ? {}
      : { componentResources: [{ componentName: COMPONENT, resourceRequirements: resources }] }),
    ...(initContainers === undefined
      ? {}
      : { deepPacketInspectionDaemonset: { spec: { template: { spec: { initContainers } } } } }),
  };
}

type Refuse = (field: string, value: unknown, reason: string) => void;

function isListOr(value: unknown, field: string, refuse: Refuse): unknown[] {
  if (value !== undefined && value !== null && !Array.isArray(value)) refuse(field, value, 'expected a list');
  return list(value);
}

function readInitContainer(container: Record<string, unknown>, field: string, refuse: Refuse): InitContainer {
  const { name, image, resources, ...others } = container;
  if (typeof name !== 'string' || !NAME.test(name)) {
    refuse(`${field}.name`, name, 'expected a-z, 0-9 and "-", at most 63 characters, such as snort-rules');
  }
  if (typeof image !== 'string' || !IMAGE.test(image)) {
    refuse(`${field}.image`, image, 'expected the name of an image, such as registry.example/snort-rules:1');
  }
  for (const key of Object.keys(others)) {
    refuse(`${field}.${plain(key, 80)}`, others[key], 'unknown key; expected name, image and resources');
  }
  return {
    name: String(name),
    image: String(image),
    ...(resources === undefined || resources === null
      ? {}
      : { resources: readResources(resources, `${field}.resources`, refuse) }),
  };
}

function readResources(value: unknown, field: string, refuse: Refuse): Resources {
  if (!isRecord(value)) {
    refuse(field, value, 'expected limits and requests');
    return {};
  }
  const { limits, requests, ...others } = record(value);
  for (const key of Object.keys(others)) {
    refuse(`${field}.${plain(key, 80)}`, others[key], 'unknown key; expected limits and requests');
  }
  const resources: Resources = {};
  if (limits !== undefined) resources.limits = readQuantities(limits, `${field}.limits`, refuse);
  if (requests !== undefined) resources.requests = readQuantities(requests, `${field}.requests`, refuse);
  for (const [name, request] of Object.entries(resources.requests ?? {})) {
    const limit = resources.limits?.[name];
    if (limit !== undefined && (parseQuantity(request) ?? 0) > (parseQuantity(limit) ?? Infinity)) {
      refuse(`${field}.requests.${name}`, request, `is more than the limit, ${limit}`);
    }
  }
  return resources;
}

function readQuantities(value: unknown, field: string, refuse: Refuse): Quantities {
  const quantities: Quantities = {};
  if (!isRecord(value)) {
    refuse(field, value, 'expected resources with their quantities');
    return quantities;
  }
  const isLimit = field.endsWith('.limits');
  for (const [name, quantity] of Object.entries(value)) {
    const place = `${field}.${plain(name, 80)}`;
    if (!KNOWN.includes(name)) {
      refuse(place, quantity, `unknown resource; expected one of ${KNOWN.join(', ')}`);
      continue;
    }
    const parsed = parseQuantity(quantity);
    if (parsed === undefined || (typeof quantity !== 'string' && typeof quantity !== 'number')) {
      refuse(place, quantity, `not a quantity of Kubernetes; write for example ${EXAMPLES[name]}`);
    } else if (name === 'cpu' ? (isLimit && parsed < 0.001) || parsed > 1024 : parsed > 2 ** 50) {
      refuse(place, quantity, `out of range; write for example ${EXAMPLES[name]}`);
    } else if (name !== 'cpu' && !Number.isInteger(parsed)) {
      refuse(place, quantity, `not a whole number of bytes; write for example ${EXAMPLES[name]}`);
    } else {
      quantities[name] = quantity;
    }
  }
  return quantities;
}
