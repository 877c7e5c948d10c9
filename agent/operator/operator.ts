/**
 * Composes the operator: what it watches → what shall be → what it writes, as long as it leads.
 *
 * Level-triggered: each round compares what is with what shall be, whatever happened before it. All replicas watch;
 * only the leader writes, and asks before each write whether it still leads. What can't be known (a list that was never
 * read) changes nothing.
 */
import type { Logger } from 'pino';
import { ApiError, type ApiClient } from '../kube/api.ts';
import type { Reflector } from '../kube/reflector.ts';
import { isCopy, type ApiDeepPacketInspection } from '../kube/resources.ts';
import { DETECTION, report } from './condition.ts';
import { carryOut, planCopies } from './copies.ts';
import { createKeeper, toLive, type Keeper, type LiveDaemonSet } from './daemon-set.ts';
import { decide, NAME, type Decision, type Verdict } from './desired.ts';
import { clientOfLeader, whileLeading } from './leading.ts';
import { holdLease, type Lease, type LeaseOptions } from './lease.ts';
import { followOwnership, type Ownership } from './ownership.ts';
import { createNodeStatuses, type NodeStatuses } from './node-statuses.ts';
import { createPatience, type Patience } from './patience.ts';
import { watchCluster, type Watches } from './watches.ts';

const LEASE = 'dpi-agent-operator';
const V3 = 'projectcalico.org/v3';

/** Rounds that follow each other at once become one; a status that changes all the time is copied that often. */
const SETTLE_MILLIS = 100;
const COPIES_MILLIS = 1_000;
/** A round is made that often at least: for what the watches can't tell. */
const RESYNC_MILLIS = 60_000;
const STATUS_MILLIS = 50;
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
  /** Nodes whose agents say something, and statuses of resources that were written out of that. */
  nodes: number;
  statusesWritten: number;
  rounds: { done: number; failed: number };
}

export interface Operator {
  status(): OperatorStatus;
  /** What keeps it from acting, were it to lead. */
  problems(): string[];
  /** Ends its requests and releases the Lease. */
  stop(): Promise<void>;
}

interface Parts {
  readonly lease: Lease;
  /** It writes only while this replica leads. */
  readonly client: ApiClient;
  readonly watches: Watches;
  readonly ownership: () => Ownership | undefined;
  readonly keeper: Keeper;
  readonly copyPatience: Patience;
  /** The other group's resources, where there are copies to keep. */
  copies: Reflector<ApiDeepPacketInspection> | undefined;
  copiesTaken: number;
  readonly nodeStatuses: NodeStatuses;
  verdict: Verdict | undefined;
  readonly rounds: OperatorStatus['rounds'];
  readonly log: Logger;
}

export function startOperator(options: OperatorOptions): Operator {
  const { identity, log, ownershipMillis = OWNERSHIP_MILLIS } = options;
  const ended = new AbortController();
  const { signal } = ended;
  const onChange = (): void => {
    // Called while the parts are still being made.
    queueMicrotask(() => {
      daemonSetRounds.changed();
      copyRounds.changed();
      statusRounds.changed();
    });
  };
  const lease = holdLease({
    ...options.lease,
    client: options.client,
    namespace: NAME,
    name: LEASE,
    identity,
    log,
    onChange,
  });
  const client = clientOfLeader(options.client, () => lease.isLeader());
  const watching = { client: options.client, signal, onChange, log };
  const watches = watchCluster({
    ...watching,
    onNode(before, after) {
      queueMicrotask(() => {
        nodeStatuses.changed(before, after);
        statusRounds.changed();
      });
    },
  });
  const nodeStatuses = createNodeStatuses({ client, nodes: watches.nodes, now: () => performance.now(), log });
  const parts: Parts = {
    lease,
    client,
    watches,
    nodeStatuses,
    ownership: followOwnership({ ...watching, everyMillis: ownershipMillis }),
    keeper: createKeeper({ client, log }),
    copyPatience: createPatience(() => performance.now()),
    copies: undefined,
    copiesTaken: 0,
    verdict: undefined,
    rounds: { done: 0, failed: 0 },
    log,
  };
  const leading = { lease, signal, rounds: parts.rounds, log };
  const daemonSetRounds = whileLeading(leading, (until) => keepDaemonSet(parts, until), SETTLE_MILLIS);
  const copyRounds = whileLeading(leading, (until) => keepCopies(parts, until), COPIES_MILLIS);
  const statusRounds = whileLeading(leading, (until) => keepStatuses(parts, until), STATUS_MILLIS);

  return {
    status: () => statusOf(parts),
    problems: () => parts.watches.unknown().map((what) => `${what} are not known yet`),
    async stop() {
      ended.abort();
      await lease.stop();
    },
  };
}

function statusOf({
  lease,
  watches,
  verdict,
  copies,
  copiesTaken,
  keeper,
  copyPatience,
  nodeStatuses,
  rounds,
}: Parts): OperatorStatus {
  return {
    leader: lease.isLeader(),
    inspections: watches.inspections()?.length,
    verdict: lease.isLeader() ? verdict : undefined,
    copies: copies?.list().filter(isCopy).length,
    copiesTaken,
    putBack: { daemonSet: keeper.putBacks(), copy: copyPatience.count() },
    nodes: watches.nodes.list().length,
    statusesWritten: nodeStatuses.written(),
    rounds: { ...rounds },
  };
}

/** @returns the milliseconds until it is to be compared again. */
async function keepDaemonSet(parts: Parts, signal: AbortSignal): Promise<number> {
  const { client, watches } = parts;
  const inspections = watches.inspections();
  if (inspections === undefined || watches.unknown().length > 0) return RESYNC_MILLIS;
  const there = watches.daemonSets.get(`${NAME}/${NAME}`);
  const live = there && toLive(there);
  const detection = watches.detections.get(DETECTION);
  const decision = decide({
    inspections: inspections.length,
    template: watches.templates.get(`${NAME}/${NAME}`),
    spec: detection?.spec,
    live,
  });
  const { again, refusal } = await carryOutDecision(parts, decision, live, signal);
  const verdict: Verdict =
    refusal === undefined ? decision.verdict : { status: false, reason: 'Refused', message: refusal.message };
  setVerdict(parts, verdict);
  if (detection !== undefined) await report(client, detection, verdict, signal);
  if (refusal !== undefined) throw refusal;
  return again ?? RESYNC_MILLIS;
}

interface Outcome {
  /** Milliseconds until it is to be tried again. */
  again?: number | undefined;
  /** What the server finds wrong with the DaemonSet, for whoever can mend it. */
  refusal?: ApiError;
}

async function carryOutDecision(
  { keeper }: Parts,
  decision: Decision,
  live: LiveDaemonSet | undefined,
  signal: AbortSignal,
): Promise<Outcome> {
  try {
    if (decision.kind === 'apply') return { again: await keeper.apply(decision.daemonSet, live, signal) };
    if (decision.kind === 'remove') await keeper.remove(live, signal);
    return {};
  } catch (error) {
    if (!(error instanceof ApiError) || (error.status !== 422 && error.status !== 400)) throw error;
    return { refusal: error };
  }
}

function setVerdict(parts: Parts, next: Verdict): void {
  const { verdict, log } = parts;
  if (next.reason !== verdict?.reason || next.message !== verdict.message) {
    log[next.status ? 'info' : 'warn']({ reason: next.reason }, next.message);
  }
  parts.verdict = next;
}

/** @returns the milliseconds until they are to be compared again. */
async function keepCopies(parts: Parts, signal: AbortSignal): Promise<number> {
  const { client, watches, copyPatience, log } = parts;
  const sources = copySources(parts);
  if (sources === undefined) {
    parts.copies?.stop();
    parts.copies = undefined;
    return RESYNC_MILLIS;
  }
  parts.copies ??= watches.followCopies();
  if (!parts.copies.state().synced) return RESYNC_MILLIS;
  let again = RESYNC_MILLIS;
  parts.copiesTaken = 0;
  for (const step of planCopies(sources, parts.copies.list())) {
    if (step.kind === 'taken') parts.copiesTaken++;
    const pause = step.kind === 'write' && step.before !== undefined ? copyPatience.wait() : 0;
    if (pause > 0) again = Math.min(again, pause);
    else if (await carryOut(client, step, log, signal)) copyPatience.used();
  }
  return again;
}

/** @returns the milliseconds until the next status may be written. */
async function keepStatuses({ watches, nodeStatuses }: Parts, signal: AbortSignal): Promise<number> {
  const api = watches.api();
  const resources = watches.inspections();
  if (!api || resources === undefined || !watches.nodes.state().synced) return RESYNC_MILLIS;
  const next = await nodeStatuses.writeNext({ api, resources }, signal);
  if (next !== undefined) return next;
  await nodeStatuses.prune(signal);
  return RESYNC_MILLIS;
}

/** What is to be copied into the other group; undefined: not known, or no copies are to be kept. */
function copySources({ watches, ownership }: Parts): ApiDeepPacketInspection[] | undefined {
  const owners = ownership();
  if (owners?.v1 !== 'ours' || owners.v3 === 'other') return undefined;
  if (watches.api() === V3) return watches.inspections();
  return owners.v3 === 'none' && watches.api() !== undefined ? [] : undefined;
}
