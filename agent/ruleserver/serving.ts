/**
 * What a rule server does beside answering: it fetches by the sources of its configuration, checks what is new with its
 * engines, and makes a version of it that nodes get one after the other (rollout.ts).
 *
 * Invariants: what is served was taken by an engine of this image; the set's link in the rules directory says which
 * version is to be rolled out, so `dpi-agent rules rollback` here is one for all nodes. A version that was stopped is
 * left there, and told of until another one comes.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import { systemClock, type Clock } from '../files/clock.ts';
import { messageOf } from '../files/errors.ts';
import { followSources, type SourceStatus } from '../rulesets/schedule.ts';
import { shortDigest, type FollowAnswer, type FollowRequest } from '../rulesets/served.ts';
import { setOf, type RuleSource } from '../rulesets/sources.ts';
import { installedSet, leaveRefused, type UpdateResult } from '../rulesets/update.ts';
import { versionsOf } from '../rulesets/version-files.ts';
import { createRollOut, versionOf, type RollOut, type ServedVersion } from './rollout.ts';
import { openStore, type Store } from './store.ts';

/** How often it is looked whether somebody rolled a set back. */
const LOOK_MILLIS = 5_000;

export type CheckedBy = ServedVersion['engines'];

export interface ServingOptions {
  sources: readonly RuleSource[];
  rulesDirectory: string;
  /** Where what is served is kept. */
  directory: string;
  /** How long a node may take to prove a version. */
  leaseMillis: number;
  /** Takes a source's newest version. @throws UpdateError, whose message has no secrets. */
  update: (
    source: RuleSource,
    check: (directory: string) => Promise<void>,
    signal: AbortSignal,
  ) => Promise<UpdateResult>;
  /** What the engines say of a version. @throws RefusedError where none takes it. */
  check: (set: string, directory: string) => Promise<CheckedBy>;
  log: Logger;
  clock?: Pick<Clock, 'now' | 'wait'>;
}

export interface SetStatus {
  set: string;
  /** Of the version that is to be rolled out. */
  target: ServedVersion;
  proven?: string;
  /** The node that proves it now. */
  prover?: string;
  /** Nodes that were heard of of late: with the target, the last proven one, another one. */
  nodes: Record<'target' | 'proven' | 'other', number>;
}

export interface Serving {
  follow: (request: FollowRequest) => FollowAnswer;
  fileOf: Store['fileOf'];
  sets: () => SetStatus[];
  sources: () => SourceStatus[];
  manifest: () => object;
  /** Why nothing can be served; undefined where something can. */
  problem: () => string | undefined;
  /** Resolves when nothing of it runs any more. */
  stop: () => Promise<void>;
}

interface State extends Required<ServingOptions> {
  readonly store: Store;
  readonly rollOut: RollOut;
  /** What the engines said of versions that were not published yet. */
  readonly checked: Map<string, CheckedBy>;
  /** Why a set is not served as its link says. */
  readonly problems: Map<string, string>;
  readonly stopping: AbortController;
}

/** @throws the system's error. */
export async function startServing(options: ServingOptions): Promise<Serving> {
  const { sources, directory, rulesDirectory, leaseMillis, log } = options;
  const store = await openStore(directory, sources.map(setOf));
  const rollOut = createRollOut(store.sets, leaseMillis, (set, version) => {
    logState(log, set, version, rollOut.prover(set, state.clock.now()));
    keep(state, set, version).catch((error: unknown) =>
      log.warn({ set, reason: messageOf(error) }, 'rule server: state is not kept'),
    );
  });
  const state: State = {
    clock: systemClock,
    ...options,
    store,
    rollOut,
    checked: new Map(),
    problems: new Map(),
    stopping: new AbortController(),
  };
  for (const source of sources) await publish(state, setOf(source));
  const schedule = followSources({
    sources,
    rulesDirectory,
    log,
    clock: state.clock,
    update: (source, signal) => bring(state, source, signal),
  });
  const looking = look(state);
  return {
    follow: (request) => ({ sets: rollOut.answer(request, state.clock.now()) }),
    fileOf: (digest) => store.fileOf(digest),
    sets: () => setsOf(state),
    sources: schedule.status,
    manifest: () => ({
      sets: setsOf(state).map((each) => ({ ...each, versions: store.sets.get(each.set)?.versions })),
    }),
    problem: () => (store.sets.size === 0 ? 'no version of any set is there yet' : undefined),
    async stop() {
      state.stopping.abort();
      await Promise.all([schedule.stop(), looking]);
      await store.save();
    },
  };
}

/** What became of a version. One that is stopped is not what somebody goes back to later. */
async function keep({ store, rulesDirectory }: State, set: string, version: ServedVersion): Promise<void> {
  await store.save();
  const { state, version: name, reason = 'it did not inspect on the first node' } = version;
  if (state === 'stopped') await leaveRefused(rulesDirectory, set, { version: name, reason });
}

async function bring(state: State, source: RuleSource, signal: AbortSignal): Promise<UpdateResult> {
  const set = setOf(source);
  const check = async (directory: string): Promise<void> => {
    state.checked.set(set, await state.check(set, directory));
  };
  const result = await state.update(source, check, signal);
  await publish(state, set);
  return result;
}

/** Until it ends. */
async function look(state: State): Promise<void> {
  const { sources, clock, stopping } = state;
  while (!stopping.signal.aborted) {
    await clock.wait(LOOK_MILLIS, stopping.signal);
    for (const source of sources) if (!stopping.signal.aborted) await publish(state, setOf(source));
  }
}

/** What the set's link leads to is to be rolled out. */
async function publish(state: State, set: string): Promise<void> {
  const { rulesDirectory, store, checked, problems, log } = state;
  try {
    const installed = await installedSet(rulesDirectory, set);
    if (installed === undefined || (await store.aim(set, installed.version))) return;
    const { version, rules, installedAt: since } = installed;
    const directory = join(versionsOf(rulesDirectory, set), version);
    const engines = checked.get(set) ?? (await state.check(set, directory));
    checked.delete(set);
    const published = await store.publish(set, directory, { version, rules, engines, since });
    problems.delete(set);
    logState(log, set, published, undefined);
  } catch (error) {
    const reason = messageOf(error);
    if (problems.get(set) !== reason) log.error({ set, reason }, 'rule server: a version cannot be served');
    problems.set(set, reason);
  }
}

function logState(log: Logger, set: string, version: ServedVersion, prover: string | undefined): void {
  const { state, digest, version: name, rules, node, reason } = version;
  const about = { set, version: name, digest: shortDigest(digest), rules };
  if (state === 'proven') log.info({ ...about, node }, 'rule server: a version is proven, all nodes get it');
  else if (state === 'stopped') log.error({ ...about, node, reason }, 'rule server: a version is stopped');
  else if (prover !== undefined) log.info({ ...about, node: prover }, 'rule server: a node proves a version');
  else log.info(about, 'rule server: a version waits for a node that proves it');
}

function setsOf({ store, rollOut, clock }: State): SetStatus[] {
  const now = clock.now();
  return [...store.sets].flatMap(([set, versions]) => {
    const { target: wanted, proven } = versions;
    const target = versionOf(versions, wanted);
    if (target === undefined) return [];
    const prover = rollOut.prover(set, now);
    const nodes = { target: 0, proven: 0, other: 0 };
    for (const [digest, count] of rollOut.nodes(set, now))
      nodes[digest === wanted ? 'target' : digest === proven ? 'proven' : 'other'] += count;
    return [
      {
        set,
        target,
        ...(proven === undefined ? {} : { proven }),
        ...(prover === undefined ? {} : { prover }),
        nodes,
      },
    ];
  });
}
