/**
 * The rules that an agent inspects by, from files to lanes, and how they change while it runs:
 * files → sets → admission (what the engine takes) → a swap of all lanes → the last good rules on disk.
 *
 * Invariants: one change at a time, and any number that come together are one; what inspects is what was last good
 * whenever a change fails; what is not loaded has a reason, in the conditions of each resource that named it.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { whyNotWhileRunning } from '../engine/memory.ts';
import type { EngineRules, RulePolicy, RulesChange } from '../engine/rules.ts';
import type { Verdict } from '../engine/validate.ts';
import { systemClock, type Clock } from '../files/clock.ts';
import { collectGarbage } from '../files/collect.ts';
import { messageOf } from '../files/errors.ts';
import { stripControls } from '../text.ts';
import { admitAdditions } from './additions.ts';
import { admit, countOf, describeFailed, indexOf, type Admitted, type Candidate } from './admit.ts';
import {
  pathsOf,
  readCandidate,
  signatureOf,
  stageCandidate,
  type CandidateOptions,
  type FoundRules,
} from './candidate.ts';
import { conditionsOf, type RulesCondition } from './conditions.ts';
import { UpdateError } from './fetch.ts';
import { remember, type RuleState } from './membership.ts';
import { waitForQuiet } from './quiet.ts';
import { unknownSet, type RuleIndex } from './sets.ts';
import { shareRules } from './share.ts';
import { readGood, writeGood } from './store.ts';
import { swapRules, type SwapLane } from './swap.ts';
import { watchFiles } from './watch.ts';

/** How long the canary may take to prove a change, and that much more for what loading takes the engine. */
const PROOF_MILLIS = 20_000;
const PROOF_LOADS = 5;
/** What loading a rule takes at least, where it was not measured. */
const LOAD_MILLIS = 2;
/** Lines of the log for each change. */
const MAX_WARNINGS = 5;

export interface LiveOptions extends CandidateOptions {
  leaveOut: boolean;
  /** Sets that need not be there yet: something will bring them. */
  awaited?: readonly string[];
  /** Where the last good rules are kept. */
  directory: string;
  /** Bytes that an engine shall take at most. */
  memoryLimit: number;
  /** How long a change for which engines start anew waits for a quiet moment, in milliseconds. */
  quietMillis: number;
  /** Loads it in a process of its own. */
  validate(rules: EngineRules): Promise<Verdict>;
  log: Logger;
}

export interface RulesStatus {
  sets: { name: string; loaded: number; failed: number; version: string; changedAt: number; problem?: string }[];
  swaps: Record<'swapped' | 'rolled_back' | 'restarted' | 'refused', number>;
  /** Of the last swap. */
  lastMillis?: number;
  overridesProblem?: string;
}

/** At all rules of a candidate, or, where that will do, only at those that what inspects does not have. */
type Look = 'whole' | 'additions';

/** What of the agent the rules depend on. */
export interface Users {
  lanes: () => readonly (Omit<SwapLane, 'reload'> & {
    reload(rules: EngineRules, change: RulesChange): Promise<string | undefined>;
  })[];
  policies: () => readonly RulePolicy[];
  /** Of all endpoints, those that were captured up to now. */
  packets: () => number;
}

export interface LiveRules {
  /** What an engine that starts now is to inspect by. */
  engineRules: () => EngineRules;
  index: () => RuleIndex;
  states: () => readonly RuleState[];
  defaults: () => readonly string[];
  /** Rules can be swapped from now on, and files are watched. @returns what ends it. */
  follow(users: Users): () => void;
  /** Files, or what the agent needs, may have changed. Resolves when that is done. */
  changed: () => Promise<void>;
  /**
   * Brings the newest files to the lanes. @returns why those of a set do not inspect; undefined when they do, or nobody
   * uses the set. @throws UpdateError where they could not be read, so that nobody knows.
   */
  prove: (set: string) => Promise<string | undefined>;
  /** Why the files of a set that were read last do not inspect; undefined when they do, or nobody uses the set. */
  problemOf: (set: string) => string | undefined;
  /** What a resource should know that names these sets; undefined: the defaults. */
  conditions: (named: readonly string[] | undefined) => string[];
  status: () => RulesStatus;
}

/** What inspects, as far as this agent knows. */
interface InForce {
  candidate: Candidate;
  defaults: readonly string[];
  index: RuleIndex;
  rules: EngineRules;
}

const NOTHING: InForce = {
  candidate: { sets: new Map() },
  defaults: [],
  index: new Map(),
  rules: { files: [], defaults: [], policies: [] },
};

/** What is around the rules: the machine's own, or what is simulated. */
export interface LiveSystem {
  read: typeof readCandidate;
  readGood: (directory: string, engine: string) => Candidate | undefined;
  /** @throws the system's error. */
  writeGood: (directory: string, engine: string, candidate: Candidate) => void;
  watch: typeof watchFiles;
  clock: Pick<Clock, 'now' | 'wait'>;
}

const machine: LiveSystem = { read: readCandidate, readGood, writeGood, watch: watchFiles, clock: systemClock };

interface LiveState {
  readonly options: LiveOptions;
  readonly system: LiveSystem;
  /** While the agent follows. */
  users: Users | undefined;
  /** All sets that there are. */
  known: FoundRules['sets'];
  /** Where files may be that rules name. */
  named: readonly string[];
  current: InForce;
  /** What was in force of late. */
  states: RuleState[];
  /** What was last validated: all of it, or only what was new. */
  last: { signature: string; admitted: Admitted; look: Look } | undefined;
  /** How long all of it took. */
  loadMillis: number;
  /** Sets that are refused, and why; likewise the overrides. */
  refusals: ReadonlyMap<string, string>;
  overridesProblem: string | undefined;
  /** Why the last change failed as a whole, and whether that is that its files could not be read. */
  problem: string | undefined;
  isUnread: boolean;
  /** The candidate that the lanes did not go over to, or the engine did not take, and why. */
  unproven: { candidate: Candidate; reason: string } | undefined;
  readonly counts: RulesStatus['swaps'];
  /** Of the last swap. */
  lastMillis: number | undefined;
  /** The change that runs, and the one that is to come. */
  running: Promise<unknown>;
  waiting: Promise<void> | undefined;
  /** While the one that runs waits for a quiet moment: what ends that, and when it is up. */
  quiet: AbortController | undefined;
  quietUntil: number | undefined;
}

/** How a swap ended; `superseded`: by a change that came while it waited for a quiet moment. */
type Swapped = 'swapped' | 'failed' | 'superseded';

/**
 * @throws Error when there are no rules that the engine takes, a path of `rules` does not exist, or a default set is
 * unknown.
 */
export async function openRules(options: LiveOptions, system: Partial<LiveSystem> = {}): Promise<LiveRules> {
  const live: LiveState = {
    options,
    system: { ...machine, ...system },
    users: undefined,
    known: new Map(),
    named: [],
    current: NOTHING,
    states: [],
    last: undefined,
    loadMillis: 0,
    refusals: new Map(),
    overridesProblem: undefined,
    problem: undefined,
    isUnread: false,
    unproven: undefined,
    counts: { swapped: 0, rolled_back: 0, restarted: 0, refused: 0 },
    lastMillis: undefined,
    running: Promise.resolve(),
    waiting: undefined,
    quiet: undefined,
    quietUntil: undefined,
  };
  await begin(live);
  return {
    engineRules: () => live.current.rules,
    index: () => live.current.index,
    states: () => live.states,
    defaults: () => live.current.defaults,
    follow: (users) => follow(live, users),
    changed: () => requestChange(live),
    prove: (set) => prove(live, set),
    problemOf: (set) => problemOf(live, set),
    conditions: (named) => conditionsOf(describe(live), named ?? live.current.defaults),
    status: () => statusOf(live),
  };
}

/** By what the files say, or where they are bad by what was last good. */
async function begin(live: LiveState): Promise<void> {
  const { directory, engine, ruleSets, awaited = [], log } = live.options;
  const good = live.system.readGood(directory, engine);
  const read = await readRules(live, good);
  for (const name of ruleSets) {
    if (!read.sets.has(name) && !awaited.includes(name)) throw new Error(`ruleSets: ${unknownSet(name, read.sets)}`);
  }
  const admitted = await decide(live, read.candidate, good);
  putInForce(live, compose(live, admitted.candidate, read.defaults));
  const { index } = live.current;
  if (index.size === 0) throw new Error(noRules(admitted));
  log.info({ rules: index.size, sets: [...admitted.candidate.sets.keys()] }, 'rules');
}

function noRules({ candidate, refused }: Admitted): string {
  const [set, reason] = [...refused][0] ?? [];
  if (set !== undefined) return `no rules: the set ${set} is refused: ${reason}`;
  const [failed] = [...candidate.sets.values()].flatMap((version) => version.failed);
  return failed === undefined
    ? 'no rules: name some with --rules or --rule-sets'
    : `no rules: the engine takes none of them: ${describeFailed(failed)}`;
}

function follow(live: LiveState, users: Users): () => void {
  live.users = users;
  keepGood(live, live.current.candidate);
  const unwatch = live.system.watch({
    paths: () => pathsOf(live.options, live.named),
    changed: () => void requestChange(live),
  });
  return () => {
    unwatch();
    live.users = undefined;
    live.quiet?.abort();
  };
}

/** One at a time; those that come while one waits are that one. */
function requestChange(live: LiveState): Promise<void> {
  if (live.waiting !== undefined) return live.waiting;
  const next = live.running.then(async () => {
    live.waiting = undefined;
    const { heapUsed } = process.memoryUsage();
    try {
      return { by: (await change(live)) === 'superseded' ? live.waiting : undefined };
    } catch (error) {
      live.options.log.error({ err: error }, 'rules could not be changed');
      return { by: undefined };
    } finally {
      // Thousands of rules, their files and what was in force before.
      collectGarbage(heapUsed);
    }
  });
  live.running = next;
  // What is done by a later one is done when that is.
  live.waiting = next.then(({ by }) => by);
  live.quiet?.abort();
  return live.waiting;
}

/** The way of a change: found, decided, and where it makes a difference brought to all lanes. */
async function change(live: LiveState): Promise<Swapped | undefined> {
  if (isOver(live)) return undefined;
  const read = await readChange(live);
  if (read === undefined) return undefined;
  const next = await nextOf(live, read, 'additions');
  if (next === undefined || isSame(next.rules, live.current.rules)) return undefined;
  const outcome = await swap(live, next);
  if (outcome !== 'failed' || isOver(live) || live.last?.look !== 'additions') return outcome;
  // They may not go with the others.
  const other = await nextOf(live, read, 'whole');
  return other === undefined || [next, live.current].some(({ rules }) => isSame(rules, other.rules))
    ? outcome
    : swap(live, other);
}

/** What is to inspect; undefined where nothing new is, or the agent has ended. */
async function nextOf(live: LiveState, read: FoundRules, look: Look): Promise<InForce | undefined> {
  const admitted = await decideChange(live, read, look);
  return admitted === undefined || isOver(live) ? undefined : compose(live, admitted.candidate, read.defaults);
}

const isOver = ({ users }: LiveState): boolean => users === undefined;

async function readChange(live: LiveState): Promise<FoundRules | undefined> {
  try {
    const read = await readRules(live, live.current.candidate);
    live.problem = undefined;
    live.isUnread = false;
    live.unproven = undefined;
    return read;
  } catch (error) {
    live.problem = messageOf(error);
    live.isUnread = true;
    live.options.log.error({ reason: live.problem }, 'rules cannot be read; the last good ones stay');
    return undefined;
  }
}

async function decideChange(live: LiveState, { candidate }: FoundRules, look: Look): Promise<Admitted | undefined> {
  try {
    return await decide(live, candidate, live.current.candidate, look);
  } catch (error) {
    live.problem = messageOf(error);
    live.unproven = { candidate, reason: live.problem };
    live.counts.refused++;
    live.options.log.error({ reason: live.problem }, 'rules are refused; the last good ones stay');
    return undefined;
  }
}

async function readRules(live: LiveState, before: Candidate | undefined): Promise<FoundRules> {
  const read = await live.system.read(live.options, () => live.users?.policies() ?? [], before);
  live.known = read.sets;
  live.named = read.named;
  return read;
}

/** What of a candidate the engine takes. @throws Error when that is nothing, and nothing was good before. */
async function decide(
  live: LiveState,
  candidate: Candidate,
  before: Candidate | undefined,
  look: Look = 'whole',
): Promise<Admitted> {
  const signature = signatureOf(candidate);
  const admitted =
    before !== undefined && signatureOf(before) === signature
      ? { candidate: before, refused: new Map<string, string>() }
      : await admitOnce(live, candidate, { signature, before, look });
  live.refusals = admitted.refused;
  live.overridesProblem = admitted.overridesRefused;
  return admitted;
}

/** The same candidate is not validated twice in the same way. */
async function admitOnce(
  live: LiveState,
  candidate: Candidate,
  { signature, before, look }: { signature: string; before: Candidate | undefined; look: Look },
): Promise<Admitted> {
  const { last } = live;
  if (last?.signature === signature && (last.look === 'whole' || look === 'additions')) return last.admitted;
  const { leaveOut } = live.options;
  const validate = (tried: Candidate): Promise<Verdict> => validateCandidate(live.options, tried);
  const ofAdditions =
    look === 'additions' && before !== undefined
      ? await admitAdditions(candidate, { good: before, leaveOut, validate })
      : undefined;
  const started = performance.now();
  const admitted = ofAdditions ?? (await admit(candidate, { good: before, leaveOut, validate }));
  live.last = { signature, admitted, look: ofAdditions === undefined ? 'whole' : 'additions' };
  if (ofAdditions === undefined) live.loadMillis = performance.now() - started;
  if (admitted.refused.size > 0 || admitted.overridesRefused !== undefined) live.counts.refused++;
  logAdmitted(live.options.log, admitted, before);
  return admitted;
}

async function validateCandidate(options: LiveOptions, tried: Candidate): Promise<Verdict> {
  const index = indexOf(tried.sets.values());
  if (index.size === 0 && tried.overrides === undefined) return { is: 'accepted' };
  return options.validate(stageCandidate(tried, index, [...tried.sets.keys()], []));
}

function logAdmitted(log: Logger, { candidate, refused, overridesRefused }: Admitted, before?: Candidate): void {
  for (const [set, reason] of refused) {
    log.error({ set, reason: short(reason), keptLastGood: before?.sets.has(set) === true }, 'rule set is refused');
  }
  if (overridesRefused !== undefined)
    log.error({ reason: short(overridesRefused) }, 'engine.extraConfig is refused; the last good one stays');
  const failed = [...candidate.sets.values()]
    .filter((set) => before?.sets.get(set.name) !== set)
    .flatMap((set) => set.failed);
  for (const { reason, ...rule } of failed.slice(0, MAX_WARNINGS))
    log.warn({ ...rule, reason: short(reason) }, 'rule is left out');
  if (failed.length > MAX_WARNINGS) log.warn({ rules: failed.length - MAX_WARNINGS }, 'and more rules are left out');
}

/** What an engine or a file says, for one line of the log. */
function short(text: string): string {
  return stripControls(text.slice(0, 2_000).replaceAll(/\s+/g, ' ')).slice(0, 500);
}

function compose({ users, options }: LiveState, candidate: Candidate, defaults: readonly string[]): InForce {
  const index = indexOf(candidate.sets.values());
  const rules = stageCandidate(candidate, index, defaults, users?.policies() ?? []);
  const { engine } = options.sources;
  return { candidate, defaults, index, rules: engine === 'suricata' ? shareRules(rules, index) : rules };
}

function isSame(a: EngineRules, b: EngineRules): boolean {
  const about = ({ files, data = [], ...rest }: EngineRules): unknown[] => [
    rest,
    data.map(({ name }) => name),
    files.map(({ text, sets }) => [sets, text]),
  ];
  return isDeepStrictEqual(about(a), about(b));
}

function putInForce(live: LiveState, next: InForce): void {
  live.current = next;
  live.states = remember(live.states, stateOf(next));
}

/** Without the rules themselves: former states are kept for a while. */
function stateOf({ index, defaults }: InForce): RuleState {
  const sets = new Map([...index].map(([key, rule]) => [key, rule.sets]));
  return { since: Date.now() * 1000, defaults, setsOf: (key) => sets.get(key) };
}

/**
 * Why engines start anew for the next rules, once the moment has come; undefined: they go over while they run.
 * Superseded by a change that comes before that moment.
 */
async function settleAnew(live: LiveState, next: InForce): Promise<{ whyAnew: string | undefined } | 'superseded'> {
  const { options, current, users } = live;
  const { sources, memoryLimit, quietMillis, log } = options;
  const whyAnew = whyNotWhileRunning(sources.engine, current.rules, next.rules, memoryLimit);
  if (whyAnew === undefined) return { whyAnew };
  const { clock } = live.system;
  live.quietUntil ??= clock.now() + quietMillis;
  // Pods that ask for other sets are not inspected before they have them.
  const mostMillis = asksOthers(current, next) ? 0 : Math.max(0, live.quietUntil - clock.now());
  if (mostMillis > 0 && users !== undefined) {
    if (live.waiting !== undefined) return 'superseded';
    log.warn(
      { reason: whyAnew, mostMillis: Math.round(mostMillis) },
      'the engine is to start anew with the changed rules, in a quiet moment',
    );
    live.quiet = new AbortController();
    const moment = await waitForQuiet({ packets: users.packets, mostMillis, clock, signal: live.quiet.signal });
    live.quiet = undefined;
    if (moment === 'aborted') return 'superseded';
  }
  live.quietUntil = undefined;
  log.warn({ reason: whyAnew }, 'the engine starts anew with the changed rules');
  return { whyAnew };
}

function asksOthers(before: InForce, next: InForce): boolean {
  const asked = ({ rules: { defaults, policies } }: InForce): string => JSON.stringify([defaults, policies]);
  return asked(before) !== asked(next);
}

/** Brings all lanes to the next rules, or back to those before. */
async function swap(live: LiveState, next: InForce): Promise<Swapped> {
  const { options, counts, current: before } = live;
  const { log } = options;
  const settled = await settleAnew(live, next);
  if (settled === 'superseded') return settled;
  const { whyAnew } = settled;
  const started = performance.now();
  putInForce(live, next);
  const outcome = await swapRules(lanesOf(live, whyAnew === undefined ? 'running' : 'anew'), before.rules, next.rules);
  // What fails while the agent ends says nothing.
  if (outcome.is !== 'swapped' && isOver(live)) return 'failed';
  counts[outcome.is]++;
  live.lastMillis = performance.now() - started;
  if (outcome.is === 'swapped') {
    keepGood(live, next.candidate);
    const sets = [...next.candidate.sets.keys()];
    log.info({ millis: Math.round(live.lastMillis), rules: next.index.size, sets }, 'rules were swapped');
    live.problem = undefined;
    live.unproven = undefined;
    return 'swapped';
  }
  const { is, reason } = outcome;
  live.problem = `rules could not be swapped, the last good ones stay: ${reason}`;
  log.error({ outcome: is, reason }, 'rules could not be swapped; the last good ones stay');
  live.unproven = { candidate: next.candidate, reason: live.problem };
  putInForce(live, before);
  return 'failed';
}

function lanesOf({ users, loadMillis, current }: LiveState, engine: RulesChange['engine']): SwapLane[] {
  const proofMillis = PROOF_MILLIS + PROOF_LOADS * Math.max(loadMillis, LOAD_MILLIS * current.index.size);
  return (users?.lanes() ?? []).map((lane) => ({
    ...lane,
    reload: (next: EngineRules) => lane.reload(next, { engine, proofMillis }),
  }));
}

/** For the next start. */
function keepGood({ options: { directory, engine, log }, system }: LiveState, candidate: Candidate): void {
  try {
    system.writeGood(directory, engine, candidate);
  } catch (error) {
    log.warn({ err: error }, 'the last good rules cannot be kept for the next start');
  }
}

async function prove(live: LiveState, set: string): Promise<string | undefined> {
  await requestChange(live);
  if (live.isUnread) throw new UpdateError(live.problem ?? '');
  return problemOf(live, set);
}

function problemOf({ refusals, unproven }: LiveState, set: string): string | undefined {
  return refusals.get(set) ?? (unproven?.candidate.sets.has(set) === true ? unproven.reason : undefined);
}

function describe({ known, current, refusals, problem, overridesProblem }: LiveState): RulesCondition {
  return { known, sets: current.candidate.sets, refusals, problem, overridesProblem };
}

function statusOf({ current, refusals, counts, lastMillis, overridesProblem }: LiveState): RulesStatus {
  return {
    sets: [...current.candidate.sets.values()].map((set) => {
      const refusal = refusals.get(set.name);
      return {
        name: set.name,
        loaded: countOf(set),
        failed: set.failed.length,
        version: set.hash.slice(0, 12),
        changedAt: set.changedAt,
        ...(refusal === undefined ? {} : { problem: refusal }),
      };
    }),
    swaps: { ...counts },
    ...(lastMillis === undefined ? {} : { lastMillis }),
    ...(overridesProblem === undefined ? {} : { overridesProblem }),
  };
}
