/**
 * `DeepPacketInspection` resources: which of two API groups serves them, and what the agent keeps of one.
 *
 * Only one group is followed at a time, v3 where it is served: on Calico's clusters both serve the same resources. An
 * error is no answer: what was known before holds. Does not notice at once that a group came or went: see
 * followResourceApi.
 */
import type { Logger } from 'pino';
import { holdingClock, type Clock } from '../files/clock.ts';
import { ApiError, type ApiClient, type ApiObject, type Row } from './api.ts';
import { list, record, text, texts } from './fields.ts';

/** The API group and version that the agent follows: v3 where it is served. */
export type ResourceApi = 'projectcalico.org/v3' | 'crd.projectcalico.org/v1';

export interface DeepPacketInspection {
  /** `<namespace>/<name>` */
  key: string;
  namespace: string;
  name: string;
  uid: string;
  /** The text of `spec.selector`; it may be unparsable. */
  selector: string;
  annotations: Record<string, string>;
}

export interface ApiDeepPacketInspection extends ApiObject {
  spec?: { selector?: unknown };
  status?: ResourceStatus;
}

/**
 * `status` of a resource. Each node's agent writes its own entry of `nodes`, and the sums; or the operator writes all of
 * it, out of what each agent says in the object of its node.
 */
export interface ResourceStatus {
  nodes?: NodeStatus[];
  /** Nodes whose entries did not fit into `nodes`; they are in the sums. */
  nodesOmitted?: number;
  /** Nodes whose entry is `active.success`. */
  nodesActive?: number;
  /** Sum of `podsSelected` of all nodes. */
  podsSelected?: number;
  /** Sum of `podsCaptured` of all nodes. */
  podsCaptured?: number;
  /** Sum of error conditions of all nodes. */
  errors?: number;
}

export interface NodeStatus {
  node: string;
  /** Times are RFC 3339, in seconds. */
  active: { success: boolean; lastUpdated: string };
  podsSelected: number;
  podsCaptured: number;
  /** How the interfaces were found, with the number of pods: `{ calico: 12, route: 1 }`. */
  resolvers: Record<string, number>;
  /** Versions of the rule sets that sources or a rule server brought, by set: `{ community: 20261130T071500Z-… }`. */
  ruleVersions?: Record<string, string>;
  /** The newest 10, newest first. */
  errorConditions: { message: string; timestamp: string }[];
}

const RESOURCE = 'deeppacketinspections';
const APIS = ['projectcalico.org/v3', 'crd.projectcalico.org/v1'] as const satisfies readonly ResourceApi[];

/**
 * Marks of a read-only copy that the operator keeps under crd.projectcalico.org/v1 of a resource of
 * projectcalico.org/v3: a label, and an annotation with the source's UID. One of them makes it a copy.
 */
export const COPY_LABEL = 'dpi-agent.io/copy';
export const COPY_OF = 'dpi-agent.io/copy-of';

/**
 * A group that was followed and is gone is looked for once more after this time: servers of one cluster learn of CRDs
 * one by one.
 */
const CONFIRM_MILLIS = 2_000;
/** Shortest time between two looks, however often the caller asks. */
const RECHECK_MILLIS = 1_000;

/** The path of a resource, of all of a namespace, or of all. */
export function resourcePath(api: ResourceApi, namespace?: string, name?: string): string {
  const inNamespace = namespace === undefined ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
  return `/apis/${api}${inNamespace}/${RESOURCE}${name === undefined ? '' : `/${encodeURIComponent(name)}`}`;
}

/** Names the rule sets of a resource, separated by commas; without it, a resource has the default ones. */
export const RULE_SETS_ANNOTATION = 'dpi-agent.io/rule-sets';
/** Rule sets of one resource; further ones are not looked at. */
const MAX_RULE_SETS = 32;

/** The rule sets that a resource names, in order, each once; undefined: none. Not each need exist. */
export function ruleSetsOf({ annotations }: Pick<DeepPacketInspection, 'annotations'>): string[] | undefined {
  const value = annotations[RULE_SETS_ANNOTATION];
  if (value === undefined) return undefined;
  const names = value.split(',').map((name) => name.trim().slice(0, 63));
  return [...new Set(names.filter((name) => name !== ''))].slice(0, MAX_RULE_SETS);
}

/** Says what is kept of the packets of its alerts' flows; without it, what the configuration says. */
export const EVIDENCE_ANNOTATION = 'dpi-agent.io/evidence';
const KEPT = ['off', 'headers', 'full'] as const;

/** undefined: it names none, or something else. */
export function evidenceOf({
  annotations,
}: Pick<DeepPacketInspection, 'annotations'>): (typeof KEPT)[number] | undefined {
  return KEPT.find((kept) => kept === annotations[EVIDENCE_ANNOTATION]);
}

/** Why the annotation is not followed; undefined: it is, or there is none. */
export function evidenceProblem(resource: Pick<DeepPacketInspection, 'annotations'>): string | undefined {
  const value = resource.annotations[EVIDENCE_ANNOTATION];
  if (value === undefined || evidenceOf(resource) !== undefined) return undefined;
  return `annotation ${EVIDENCE_ANNOTATION}: ${JSON.stringify(value.slice(0, 63))}: expected off, headers or full`;
}

/** What the agent keeps of a resource. Never throws: fields that are missing or of another type are empty. */
export function toResource(api: ApiDeepPacketInspection): DeepPacketInspection {
  const metadata = record(api.metadata);
  const namespace = text(metadata['namespace']);
  const name = text(metadata['name']);
  return {
    key: `${namespace}/${name}`,
    namespace,
    name,
    uid: text(metadata['uid']),
    selector: text(record(api.spec)['selector']),
    annotations: texts(metadata['annotations']),
  };
}

/** As far as the server's tables have it; undefined: they do not have its selector. */
export function resourceFromRow({ metadata, columns }: Row): ApiDeepPacketInspection | undefined {
  const selector = columns['.spec.selector'];
  return selector === undefined ? undefined : { metadata, spec: { selector } };
}

/** Whether it stands for a resource of the other group: then only that one counts. */
export function isCopy({ metadata }: ApiObject): boolean {
  return metadata.labels?.[COPY_LABEL] !== undefined || metadata.annotations?.[COPY_OF] !== undefined;
}

/**
 * Which API the server has for the resources; undefined: none. One request where it is v3, otherwise two.
 * @throws ApiError when the server does not say; then it is not known, not even whether the other one may be used.
 */
export async function discoverResourceApi(
  client: Pick<ApiClient, 'get'>,
  signal?: AbortSignal,
): Promise<ResourceApi | undefined> {
  for (const api of APIS) {
    if (await isServed(client, api, signal)) return api;
  }
  return undefined;
}

async function isServed(client: Pick<ApiClient, 'get'>, api: ResourceApi, signal?: AbortSignal): Promise<boolean> {
  try {
    const { resources } = record(await client.get(`/apis/${api}`, undefined, signal));
    return list(resources).some((resource) => record(resource)['name'] === RESOURCE);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

export interface FollowOptions {
  client: ApiClient;
  /** Called with the first answer, also when that is undefined, then with each other one. */
  onChange: (api: ResourceApi | undefined) => void;
  log?: Pick<Logger, 'warn'>;
  /**
   * Time between looks, in milliseconds, give or take a tenth: while none is served (doubled each time, up to
   * `noneLastMillis`), while v1 is, while v3 is.
   */
  noneMillis?: number;
  noneLastMillis?: number;
  v1Millis?: number;
  v3Millis?: number;
  clock?: Pick<Clock, 'now' | 'after'>;
  random?: () => number;
}

export interface FollowedResourceApi {
  /** Looks now, within a second: for a caller whose list was answered by 404. */
  recheck(): void;
  /** Nothing is called any more. */
  stop(): void;
}

interface State {
  readonly options: FollowOptions;
  /** Between two looks, by what is followed. */
  readonly intervals: Readonly<Record<ResourceApi | 'none', number>>;
  readonly noneLastMillis: number;
  readonly clock: Pick<Clock, 'now' | 'after'>;
  readonly random: () => number;
  readonly stopping: AbortController;
  /** Undefined before the first answer. */
  followed: ResourceApi | 'none' | undefined;
  missed: boolean;
  failures: number;
  /** Looks in a row that found none. */
  vain: number;
  /** Somebody found that it may be gone. */
  doubted: boolean;
  lookedAt: number;
  busy: boolean;
  again: boolean;
  /** Calls the next look off. */
  callOff: () => void;
}

/** Follows which API serves the resources: one installed later, a better one, one removed. Never throws. */
export function followResourceApi(options: FollowOptions): FollowedResourceApi {
  const { noneMillis = 10_000, noneLastMillis = 300_000, v1Millis = 600_000, v3Millis = 1_800_000 } = options;
  const { clock = holdingClock, random = Math.random } = options;
  const state: State = {
    options,
    intervals: { none: noneMillis, 'crd.projectcalico.org/v1': v1Millis, 'projectcalico.org/v3': v3Millis },
    clock,
    random,
    noneLastMillis,
    stopping: new AbortController(),
    followed: undefined,
    missed: false,
    failures: 0,
    vain: 0,
    doubted: false,
    lookedAt: -Infinity,
    busy: false,
    again: false,
    callOff: () => undefined,
  };
  plan(state, 0);
  return {
    recheck() {
      state.again = true;
      state.doubted = true;
      if (!state.busy) plan(state, Math.max(0, state.lookedAt + RECHECK_MILLIS - clock.now()));
    },
    stop() {
      state.stopping.abort();
      state.callOff();
    },
  };
}

function plan(state: State, millis: number): void {
  state.callOff();
  if (!state.stopping.signal.aborted) state.callOff = state.clock.after(millis, () => void look(state));
}

async function look(state: State): Promise<void> {
  const { stopping, random } = state;
  state.busy = true;
  state.again = false;
  state.lookedAt = state.clock.now();
  const answer = await findServed(state).then(
    (found) => ({ found: found ?? ('none' as const) }),
    (error: unknown) => ({ error }),
  );
  if (stopping.signal.aborted) return;
  state.busy = false;
  const wait = 'error' in answer ? fail(state, answer.error) : switchTo(state, answer.found);
  plan(state, state.again ? RECHECK_MILLIS : wait * (0.9 + 0.2 * random()));
}

/** Who follows v1 hears from its own watch when that is gone, so it asks for the better one only. */
async function findServed({ options, stopping, followed, doubted, missed }: State): Promise<ResourceApi | undefined> {
  const [v3, v1] = APIS;
  if (followed !== v1 || doubted || missed) return discoverResourceApi(options.client, stopping.signal);
  return (await isServed(options.client, v3, stopping.signal)) ? v3 : v1;
}

/** @returns how long to wait for the next look, in milliseconds. */
function fail(state: State, error: unknown): number {
  const { options, intervals } = state;
  if (state.failures++ === 0)
    options.log?.warn({ err: error }, 'cannot find out which API serves DeepPacketInspections');
  return Math.min(RECHECK_MILLIS * 2 ** (state.failures - 1), intervals.none);
}

/** @returns how long to wait for the next look, in milliseconds. */
function switchTo(state: State, served: ResourceApi | 'none'): number {
  const { followed, options, intervals } = state;
  state.failures = 0;
  const gone = followed !== undefined && followed !== 'none' && served !== followed && served !== APIS[0];
  if (gone && !state.missed) {
    state.missed = true;
    return CONFIRM_MILLIS;
  }
  state.missed = false;
  state.doubted = false;
  if (served !== followed) {
    state.followed = served;
    options.onChange(served === 'none' ? undefined : served);
  }
  if (served !== 'none') {
    state.vain = 0;
    return intervals[served];
  }
  const longest = Math.max(intervals.none, state.noneLastMillis);
  return Math.min(longest, intervals.none * 2 ** state.vain++);
}
