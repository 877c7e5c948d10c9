/**
 * Composes the operator: what it watches → what shall be → what it writes, as long as it leads.
 *
 * Level-triggered: each round compares what is with what shall be, whatever happened before it. All replicas watch;
 * only the leader writes, and asks before each write whether it still leads. What can't be known (a list that was never
 * read) changes nothing.
 */
import type { Logger } from 'pino';
import { ApiError, type ApiClient, type ApiObject } from '../kube/api.ts';
import { record, text } from '../kube/fields.ts';
import { reflect, type Reflector } from '../kube/reflector.ts';
import {
  followResourceApi,
  isCopy,
  resourcePath,
  type ApiDeepPacketInspection,
  type ResourceApi,
} from '../kube/resources.ts';
import { DETECTION, DETECTIONS, report, type IntrusionDetection } from './condition.ts';
import { carryOut, planCopies } from './copies.ts';
import { createKeeper, DAEMON_SETS, toLive } from './daemon-set.ts';
import { decide, NAME, type ApiPodTemplate, type Verdict } from './desired.ts';
import { holdLease, type LeaseOptions } from './lease.ts';
import { createPatience } from './patience.ts';

const LEASE = 'dpi-agent-operator';
const V3 = 'projectcalico.org/v3';
const V1 = 'crd.projectcalico.org/v1';
const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

/** Rounds that follow each other at once become one; a status that changes all the time is copied that often. */
const SETTLE_MILLIS = 100;
const COPIES_MILLIS = 1_000;
/** A round is made that often at least: for what the watches can't tell. */
const RESYNC_MILLIS = 60_000;
/** First and longest wait after a failure. */
const FAILURE_MILLIS = [500, 60_000] as const;
/** How often it is asked whose CRDs there are. */
const OWNERSHIP_MILLIS = 30_000;

export interface OperatorOptions {
  client: ApiClient;
  /** Of this process, and no other. */
  identity: string;
  log: Logger;
  lease?: Pick<LeaseOptions, 'durationMillis' | 'renewMillis' | 'retryMillis'>;
  ownershipMillis?: number;
}

export interface OperatorStatus {
  leader: boolean;
  /** Undefined until it is known. */
  inspections: number | undefined;
  verdict: Verdict | undefined;
  /** Copies that there are; undefined where none are kept. */
  copies: number | undefined;
  /** Objects that stand where a copy should. */
  copiesTaken: number;
  putBack: { daemonSet: number; copy: number };
  rounds: { done: number; failed: number };
}

export interface Operator {
  status(): OperatorStatus;
  /** What keeps it from acting, were it to lead. */
  problems(): string[];
  /** Ends its requests and releases the Lease. */
  stop(): Promise<void>;
}

export function startOperator(options: OperatorOptions): Operator {
  const { identity, log, ownershipMillis = OWNERSHIP_MILLIS } = options;
  const ended = new AbortController();
  const lease = holdLease({
    ...options.lease,
    client: options.client,
    namespace: NAME,
    name: LEASE,
    identity,
    log,
    onChange,
  });
  const client = whileLeading(options.client, () => lease.isLeader());
  const keeper = createKeeper({ client, log });
  const copyPatience = createPatience(() => performance.now());

  const onlyOwn = { fieldSelector: `metadata.name=${NAME}` };
  const daemonSets = follow<ApiObject>(DAEMON_SETS, (object) => object, onlyOwn);
  const templates = follow<ApiPodTemplate>(`/api/v1/namespaces/${NAME}/podtemplates`, (object) => object, onlyOwn);
  const detections = follow<IntrusionDetection>(DETECTIONS, (object) => object, {
    fieldSelector: `metadata.name=${DETECTION}`,
  });

  /** The group that is served: null: none; undefined: not known. */
  let api: ResourceApi | null | undefined;
  let resources: Reflector<ApiDeepPacketInspection> | undefined;
  /** The other group's, where there are copies to keep. */
  let copies: Reflector<ApiDeepPacketInspection> | undefined;
  /** Whether this project's CRDs serve the groups; undefined: not known, or not to be known. */
  let ownership: { v3: 'ours' | 'other' | 'none'; v1: 'ours' | 'other' | 'none' } | undefined;
  let verdict: Verdict | undefined;
  let copiesTaken = 0;
  const rounds = { done: 0, failed: 0 };

  const discovery = followResourceApi({
    client: options.client,
    log,
    noneMillis: 2_000,
    onChange(served) {
      api = served ?? null;
      resources?.stop();
      resources =
        served === undefined ? undefined : follow<ApiDeepPacketInspection>(resourcePath(served), (object) => object);
      log.info({ api: served ?? 'none' }, 'following DeepPacketInspection resources');
      onChange();
    },
  });

  function follow<T extends ApiObject>(
    path: string,
    convert: (object: T) => T,
    query: { fieldSelector?: string } = {},
  ): Reflector<T> {
    let failing = '';
    const reflector = reflect<T, T>({
      client: options.client,
      path,
      query,
      convert,
      onChange,
      onState({ failure }) {
        const message = failure?.status === 404 ? '' : (failure?.message ?? '');
        if (failure?.status === 404 && path.endsWith('deeppacketinspections')) discovery.recheck();
        if (message !== failing) {
          if (message === '') log.info({ path }, 'the API server answers again');
          else log.warn({ path, reason: message }, 'the API server does not answer; what is known stays');
        }
        failing = message;
        onChange();
      },
    });
    void reflector.synced.then(onChange);
    if (ended.signal.aborted) reflector.stop();
    else ended.signal.addEventListener('abort', () => reflector.stop());
    return reflector;
  }

  /** Undefined: not known. A kind that the cluster does not have has no objects. */
  function known<T>(reflector: Reflector<T>): T[] | undefined {
    const { synced, failure } = reflector.state();
    return synced || failure?.status === 404 ? reflector.list() : undefined;
  }

  /** Resources that count; undefined: not known. */
  function inspections(): ApiDeepPacketInspection[] | undefined {
    if (api === null) return [];
    return resources?.state().synced === true ? resources.list().filter((object) => !isCopy(object)) : undefined;
  }

  function unknown(): string[] {
    return [
      ...(known(daemonSets) === undefined ? [`DaemonSets of namespace ${NAME}`] : []),
      ...(known(templates) === undefined ? [`PodTemplates of namespace ${NAME}`] : []),
      ...(known(detections) === undefined ? ['IntrusionDetections'] : []),
      ...(inspections() === undefined ? ['DeepPacketInspections'] : []),
    ];
  }

  async function keepDaemonSet(signal: AbortSignal): Promise<number> {
    const found = inspections();
    if (found === undefined || unknown().length > 0) return RESYNC_MILLIS;
    const there = daemonSets.get(`${NAME}/${NAME}`);
    const live = there && toLive(there);
    const detection = detections.get(DETECTION);
    const decision = decide({
      inspections: found.length,
      template: templates.get(`${NAME}/${NAME}`),
      spec: detection?.spec,
      live,
    });
    let again: number | undefined;
    let refusal: ApiError | undefined;
    try {
      if (decision.kind === 'apply') again = await keeper.apply(decision.daemonSet, live, signal);
      if (decision.kind === 'remove') await keeper.remove(live, signal);
    } catch (error) {
      // What the server finds wrong with it is for whoever can mend it.
      if (!(error instanceof ApiError) || (error.status !== 422 && error.status !== 400)) throw error;
      refusal = error;
    }
    setVerdict(
      refusal === undefined ? decision.verdict : { status: false, reason: 'Refused', message: refusal.message },
    );
    if (detection !== undefined && verdict !== undefined) await report(client, detection, verdict, signal);
    if (refusal !== undefined) throw refusal;
    return again ?? RESYNC_MILLIS;
  }

  function setVerdict(next: Verdict): void {
    if (next.reason !== verdict?.reason || next.message !== verdict.message) {
      log[next.status ? 'info' : 'warn']({ reason: next.reason }, next.message);
    }
    verdict = next;
  }

  async function keepCopies(signal: AbortSignal): Promise<number> {
    const sources = api === V3 ? inspections() : ownership?.v3 === 'none' && api !== undefined ? [] : undefined;
    const wanted = ownership?.v1 === 'ours' && ownership.v3 !== 'other' && sources !== undefined;
    if (!wanted) {
      copies?.stop();
      copies = undefined;
      return RESYNC_MILLIS;
    }
    copies ??= follow<ApiDeepPacketInspection>(resourcePath(V1), (object) => object);
    if (!copies.state().synced) return RESYNC_MILLIS;
    let again = RESYNC_MILLIS;
    copiesTaken = 0;
    for (const step of planCopies(sources, copies.list())) {
      if (step.kind === 'taken') copiesTaken++;
      const pause = step.kind === 'write' && step.before !== undefined ? copyPatience.wait() : 0;
      if (pause > 0) again = Math.min(again, pause);
      else if (await carryOut(client, step, log, signal)) copyPatience.used();
    }
    return again;
  }

  const daemonSetLoop = startLoop((signal) => keepDaemonSet(signal), SETTLE_MILLIS);
  const copyLoop = startLoop((signal) => keepCopies(signal), COPIES_MILLIS);

  /** Runs rounds while this replica leads: after changes, after what a round asks for, and after failures. */
  function startLoop(round: (signal: AbortSignal) => Promise<number>, settleMillis: number): { changed(): void } {
    let timer: NodeJS.Timeout | undefined;
    let due = Infinity;
    let running = false;
    let failures = 0;

    function plan(millis: number): void {
      if (ended.signal.aborted || performance.now() + millis >= due) return;
      due = performance.now() + millis;
      clearTimeout(timer);
      if (!running) timer = setTimeout(() => void run(), millis).unref();
    }

    async function run(): Promise<void> {
      due = Infinity;
      if (!lease.isLeader()) return;
      running = true;
      let next: number;
      try {
        next = await round(AbortSignal.any([ended.signal, lease.signal()]));
        if (failures > 0) log.info('a round succeeds again');
        failures = 0;
        rounds.done++;
      } catch (error) {
        next = Math.min(FAILURE_MILLIS[0] * 2 ** failures++, FAILURE_MILLIS[1]);
        // Read again, and compared again.
        const isRoutine = error instanceof ApiError && (error.status === 409 || error.reason === 'Aborted');
        if (!isRoutine) {
          rounds.failed++;
          if (failures === 1) log.warn({ err: error }, 'a round failed; it is tried again');
        }
      }
      running = false;
      const soonest = due;
      due = Infinity;
      plan(Math.max(settleMillis, Math.min(next, soonest - performance.now())));
    }

    return { changed: () => plan(settleMillis) };
  }

  function onChange(): void {
    // Called while the parts are still being made.
    queueMicrotask(() => {
      daemonSetLoop.changed();
      copyLoop.changed();
    });
  }

  /** Asks whose CRDs there are. Without the right to, there are no copies. */
  async function lookAtCrds(): Promise<void> {
    let refused = false;
    const ask = async (group: string): Promise<'ours' | 'other' | 'none'> => {
      try {
        const crd = await options.client.get<ApiObject>(
          `${CRDS}/deeppacketinspections.${group}`,
          undefined,
          ended.signal,
        );
        return text(record(crd.metadata.labels)['app.kubernetes.io/name']) === 'dpi-agent' ? 'ours' : 'other';
      } catch (error) {
        if (error instanceof ApiError && error.status === 404) return 'none';
        refused = error instanceof ApiError && error.status === 403;
        throw error;
      }
    };
    try {
      const owners = { v3: await ask('projectcalico.org'), v1: await ask('crd.projectcalico.org') };
      const changed = owners.v3 !== ownership?.v3 || owners.v1 !== ownership.v1;
      ownership = owners;
      if (changed) onChange();
    } catch (error) {
      if (refused && ownership !== undefined) ownership = undefined;
      if (!ended.signal.aborted && !refused) log.debug({ err: error }, 'it cannot be told whose CRDs there are');
    }
    if (!ended.signal.aborted) ownershipTimer = setTimeout(() => void lookAtCrds(), ownershipMillis).unref();
  }
  let ownershipTimer = setTimeout(() => void lookAtCrds(), 0);

  return {
    status: () => ({
      leader: lease.isLeader(),
      inspections: inspections()?.length,
      verdict: lease.isLeader() ? verdict : undefined,
      copies: copies?.list().filter(isCopy).length,
      copiesTaken,
      putBack: { daemonSet: keeper.putBacks(), copy: copyPatience.count() },
      rounds: { ...rounds },
    }),
    problems: () => unknown().map((what) => `${what} are not known yet`),
    async stop() {
      ended.abort();
      clearTimeout(ownershipTimer);
      discovery.stop();
      await lease.stop();
    },
  };
}

/** The same client, for one who leads: a process that was stopped for a while finds out here that it no longer does. */
function whileLeading(client: ApiClient, isLeader: () => boolean): ApiClient {
  const check = (): void => {
    if (!isLeader()) throw new ApiError('this replica does not lead', undefined, 'Aborted');
  };
  return {
    ...client,
    async mergePatch(path, patch, signal) {
      check();
      return client.mergePatch(path, patch, signal);
    },
    async apply(path, object, manager, signal) {
      check();
      return client.apply(path, object, manager, signal);
    },
    async create(path, object, signal) {
      check();
      return client.create(path, object, signal);
    },
    async remove(path, uid, signal) {
      check();
      return client.remove(path, uid, signal);
    },
  };
}
