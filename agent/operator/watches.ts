/** What the operator knows of the cluster. What can't be known (a list that was never read) is undefined. */
import type { Logger } from 'pino';
import type { ApiClient, ApiObject } from '../kube/api.ts';
import { reflect, type Reflector, type ReflectorState } from '../kube/reflector.ts';
import {
  followResourceApi,
  isCopy,
  resourcePath,
  type ApiDeepPacketInspection,
  type ResourceApi,
} from '../kube/resources.ts';
import { DETECTION, DETECTIONS, type IntrusionDetection } from './condition.ts';
import { DAEMON_SETS } from './daemon-set.ts';
import { NODE_OBJECTS, type NodeObject } from '../kube/node-object.ts';
import { NAME, type ApiPodTemplate } from './desired.ts';
import { toEntries, type NodeEntries } from './sums.ts';

const V1 = 'crd.projectcalico.org/v1';
const TEMPLATES = `/api/v1/namespaces/${NAME}/podtemplates`;

export interface WatchOptions {
  client: ApiClient;
  /** Ends all of it. */
  signal: AbortSignal;
  /** Something of it is another one, or is known now. */
  onChange: () => void;
  /** What a node says is another one. */
  onNode: (before: NodeEntries | undefined, after: NodeEntries | undefined) => void;
  log: Logger;
}

export interface Watches {
  readonly daemonSets: Reflector<ApiObject>;
  readonly templates: Reflector<ApiPodTemplate>;
  readonly detections: Reflector<IntrusionDetection>;
  /** What the nodes say of the resources. */
  readonly nodes: Reflector<NodeEntries>;
  /** The group that is served: null: none; undefined: not known. */
  api: () => ResourceApi | null | undefined;
  /** Resources that count; undefined: not known. */
  inspections: () => ApiDeepPacketInspection[] | undefined;
  /** What is not known, in plural nouns. */
  unknown: () => string[];
  /** Begins to follow copies in the other group, where there are some to keep. */
  followCopies: () => Reflector<ApiDeepPacketInspection>;
}

export function watchCluster(options: WatchOptions): Watches {
  const { client, signal, onChange, log } = options;
  let api: ResourceApi | null | undefined;
  let resources: Reflector<ApiDeepPacketInspection> | undefined;

  const only = (name: string): Query => ({ fieldSelector: `metadata.name=${name}` });
  const daemonSets = follow<ApiObject>(options, DAEMON_SETS, only(NAME));
  const templates = follow<ApiPodTemplate>(options, TEMPLATES, only(NAME));
  const detections = follow<IntrusionDetection>(options, DETECTIONS, only(DETECTION));

  const nodes = followNodes(options);

  const followResources = (group: ResourceApi): Reflector<ApiDeepPacketInspection> =>
    follow<ApiDeepPacketInspection>(options, resourcePath(group), {}, () => discovery.recheck());
  const discovery = followResourceApi({
    client,
    log,
    noneMillis: 2_000,
    noneLastMillis: 2_000,
    v1Millis: 20_000,
    v3Millis: 600_000,
    onChange(served) {
      api = served ?? null;
      resources?.stop();
      resources = served === undefined ? undefined : followResources(served);
      log.info({ api: served ?? 'none' }, 'following DeepPacketInspection resources');
      onChange();
    },
  });
  signal.addEventListener('abort', () => discovery.stop());

  function inspections(): ApiDeepPacketInspection[] | undefined {
    if (api === null) return [];
    return resources?.state().synced === true ? resources.list().filter((object) => !isCopy(object)) : undefined;
  }

  return {
    daemonSets,
    templates,
    detections,
    nodes,
    api: () => api,
    inspections,
    unknown: () => [
      ...(isKnown(daemonSets) ? [] : [`DaemonSets of namespace ${NAME}`]),
      ...(isKnown(templates) ? [] : [`PodTemplates of namespace ${NAME}`]),
      ...(isKnown(detections) ? [] : ['IntrusionDetections']),
      ...(inspections() === undefined ? ['DeepPacketInspections'] : []),
    ],
    followCopies: () => followResources(V1),
  };
}

function followNodes({ client, signal, onNode, onChange, log }: WatchOptions): Reflector<NodeEntries> {
  const reflector = reflect<NodeObject, NodeEntries>({
    client,
    path: NODE_OBJECTS,
    convert: toEntries,
    onChange(change) {
      const before = change.type === 'updated' ? change.before : undefined;
      if (change.type === 'deleted') onNode(change.object, undefined);
      else onNode(before, change.object);
    },
    onState: logState(NODE_OBJECTS, log),
  });
  void reflector.synced.then(onChange);
  signal.addEventListener('abort', () => reflector.stop());
  return reflector;
}

interface Query {
  fieldSelector?: string;
}

/** Mirrors a collection. @param onMissing The cluster has no such kind. */
function follow<T extends ApiObject>(
  { client, signal, onChange, log }: WatchOptions,
  path: string,
  query: Query,
  onMissing: () => void = () => undefined,
): Reflector<T> {
  const logChange = logState(path, log);
  const reflector = reflect<T, T>({
    client,
    path,
    query,
    convert: (object) => object,
    onChange,
    onState(next) {
      if (next.failure?.status === 404) onMissing();
      logChange(next);
      onChange();
    },
  });
  void reflector.synced.then(onChange);
  if (signal.aborted) reflector.stop();
  else signal.addEventListener('abort', () => reflector.stop());
  return reflector;
}

/** Logs when a cache can't be kept up to date, and when it can again. A kind that there is not is no failure. */
function logState(path: string, log: Logger): (state: ReflectorState) => void {
  let failing = '';
  return ({ failure }) => {
    const message = failure?.status === 404 ? '' : (failure?.message ?? '');
    if (message === failing) return;
    if (message === '') log.info({ path }, 'the API server answers again');
    else log.warn({ path, reason: message }, 'the API server does not answer; what is known stays');
    failing = message;
  };
}

/** A kind that the cluster does not have has no objects. */
function isKnown<T>(reflector: Reflector<T>): boolean {
  const { synced, failure } = reflector.state();
  return synced || failure?.status === 404;
}
