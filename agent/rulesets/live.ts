/**
 * The rules that an agent inspects by, from files to lanes, and how they change while it runs:
 * files → sets → admission (what the engine takes) → a swap of all lanes → the last good rules on disk.
 *
 * Invariants: one change at a time, and any number that come together are one; what inspects is what was last good whenever a change fails; what
 * is not loaded has a reason, in the conditions of each resource that named it.
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import type { EngineRules, RulePolicy } from '../engine/rules.ts';
import { messageOf } from '../files/errors.ts';
import { stripControls } from '../text.ts';
import {
  admit,
  countOf,
  describeFailed,
  indexOf,
  type Admitted,
  type Candidate,
  type SetVersion,
  type Verdict,
} from './admit.ts';
import { readRuleFile } from './files.ts';
import { remember, type RuleState } from './membership.ts';
import {
  defaultSets,
  findSets,
  loadSets,
  stageSets,
  unknownSet,
  type DuplicateRule,
  type RuleHooks,
  type RuleIndex,
  type RuleSet,
  type SetSources,
} from './sets.ts';
import { readGood, writeGood } from './store.ts';
import { swapRules, type SwapLane } from './swap.ts';
import { watchFiles } from './watch.ts';

/** How long the canary may take to prove a change, and that much more for what loading takes the engine. */
const PROOF_MILLIS = 20_000;
const PROOF_LOADS = 5;
/** Conditions of one set; the rest is a number. */
const MAX_FAILED_CONDITIONS = 3;
const MAX_OVERRIDES_BYTES = 1 << 20;
/** Lines of the log for each change. */
const MAX_WARNINGS = 5;

export interface LiveOptions {
  sources: SetSources;
  /** Sets of resources that name none. */
  ruleSets: readonly string[];
  /** Further sets that are used from the beginning. */
  alsoUsed: readonly string[];
  overridesFile?: string;
  leaveOut: boolean;
  /** Where the last good rules are kept. */
  directory: string;
  /** Name and version. */
  engine: string;
  /** What rules go through, and what of it makes a difference. */
  hooks?: () => Promise<{ hooks: RuleHooks; hash: string; files: string[] }>;
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

/** What of the agent the rules depend on. */
export interface Users {
  lanes: () => readonly (Omit<SwapLane, 'reload'> & {
    reload(rules: EngineRules, proofMillis: number): Promise<string | undefined>;
  })[];
  policies: () => readonly RulePolicy[];
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
  /** What a resource should know that names these sets; undefined: the defaults. */
  conditions: (named: readonly string[] | undefined) => string[];
  status: () => RulesStatus;
}

interface Found {
  sets: Map<string, RuleSet>;
  defaults: string[];
  candidate: Candidate;
}

/** @throws Error when there are no rules that the engine takes, a path of `rules` does not exist, or a default set is unknown. */
export async function openRules(options: LiveOptions): Promise<LiveRules> {
  const { log, leaveOut, directory, engine } = options;
  const counts: RulesStatus['swaps'] = { swapped: 0, rolled_back: 0, restarted: 0, refused: 0 };
  let good = readGood(directory, engine);
  let users: Users | undefined;
  let known = new Map<string, RuleSet>();
  let refusals = new Map<string, string>();
  let problem: string | undefined;
  let overridesProblem: string | undefined;
  let loadMillis = 0;
  let lastMillis: number | undefined;
  let last: { signature: string; admitted: Admitted } | undefined;
  let states: RuleState[] = [];

  const first = await find(good);
  for (const name of options.ruleSets) {
    if (!first.sets.has(name)) throw new Error(`ruleSets: ${unknownSet(name, first.sets)}`);
  }
  let admitted = await decide(first, good);
  let current = put(admitted.candidate, first.defaults);
  if (current.index.size === 0) throw new Error(noRules());
  log.info({ rules: current.index.size, sets: [...admitted.candidate.sets.keys()] }, 'rules');

  function noRules(): string {
    const [set, reason] = [...refusals][0] ?? [];
    if (set !== undefined) return `no rules: the set ${set} is refused: ${reason}`;
    const [failed] = [...admitted.candidate.sets.values()].flatMap((version) => version.failed);
    return failed === undefined
      ? 'no rules: name some with --rules or --rule-sets'
      : `no rules: the engine takes none of them: ${describeFailed(failed)}`;
  }

  /** What files say now. Sets that did not change are taken from `before`. */
  async function find(before: Candidate | undefined): Promise<Found> {
    const sets = await findSets(options.sources);
    const defaults = defaultSets(options.ruleSets, sets);
    const policies = users?.policies() ?? [];
    const used = new Set([...defaults, ...options.alsoUsed, ...policies.flatMap((policy) => policy.sets)]);
    const { hooks, hash: hooksHash } = (await options.hooks?.()) ?? { hooks: {}, hash: '' };
    const versions = new Map<string, SetVersion>();
    for (const name of used) {
      const set = sets.get(name);
      if (set === undefined) continue;
      const { hash, changedAt } = await hashOf(set, engine + hooksHash);
      const same = before?.sets.get(name);
      versions.set(name, same?.hash === hash ? same : await read(set, hash, changedAt, hooks));
    }
    const overrides = await readOverrides(options.overridesFile);
    known = sets;
    return { sets, defaults, candidate: { sets: versions, ...(overrides === undefined ? {} : { overrides }) } };
  }

  async function read(set: RuleSet, hash: string, changedAt: number, hooks: RuleHooks): Promise<SetVersion> {
    const loaded = await loadSets([set], options.sources.engine, hooks);
    for (const { file, line, reason } of loaded.problems.slice(0, MAX_WARNINGS))
      log.warn({ file, line, reason }, 'rule');
    const failed = loaded.refused.map(({ ...rule }) => rule);
    return { name: set.name, hash, changedAt, rules: [...loaded.index.values()], failed };
  }

  async function decide({ candidate }: Found, before: Candidate | undefined): Promise<Admitted> {
    const signature = signatureOf(candidate);
    if (before !== undefined && signatureOf(before) === signature) {
      refusals = new Map();
      overridesProblem = undefined;
      return { candidate: before, refused: refusals };
    }
    if (last?.signature !== signature) {
      const started = performance.now();
      const validate = (tried: Candidate): Promise<Verdict> => {
        const index = indexOf(tried.sets.values());
        if (index.size === 0 && tried.overrides === undefined) return Promise.resolve({ is: 'accepted' });
        return options.validate(engineRulesOf(tried, index, [...tried.sets.keys()], []));
      };
      last = { signature, admitted: await admit(candidate, { good: before, leaveOut, validate }) };
      loadMillis = performance.now() - started;
      tell(last.admitted, before);
    }
    refusals = last.admitted.refused;
    overridesProblem = last.admitted.overridesRefused;
    return last.admitted;
  }

  function tell(result: Admitted, before: Candidate | undefined): void {
    for (const [set, reason] of result.refused) {
      log.error({ set, reason: short(reason), keptLastGood: before?.sets.has(set) === true }, 'rule set is refused');
    }
    if (result.overridesRefused !== undefined)
      log.error({ reason: short(result.overridesRefused) }, 'engine.extraConfig is refused; the last good one stays');
    if (result.refused.size > 0 || result.overridesRefused !== undefined) counts.refused++;
    const failed = [...result.candidate.sets.values()]
      .filter((set) => before?.sets.get(set.name) !== set)
      .flatMap((set) => set.failed);
    for (const { reason, ...rule } of failed.slice(0, MAX_WARNINGS))
      log.warn({ ...rule, reason: short(reason) }, 'rule is left out');
    if (failed.length > MAX_WARNINGS) log.warn({ rules: failed.length - MAX_WARNINGS }, 'and more rules are left out');
  }

  /** Makes a candidate what inspects, as far as this agent knows. */
  function put(candidate: Candidate, defaults: readonly string[]) {
    const duplicates: DuplicateRule[] = [];
    const index = indexOf(candidate.sets.values(), duplicates);
    const rules = engineRulesOf(candidate, index, defaults, users?.policies() ?? []);
    states = remember(states, stateOf(index, defaults));
    return { candidate, defaults, index, rules, duplicates };
  }

  async function change(): Promise<void> {
    if (users === undefined) return;
    let found: Found;
    try {
      found = await find(current.candidate);
      problem = undefined;
    } catch (error) {
      problem = messageOf(error);
      log.error({ reason: problem }, 'rules cannot be read; the last good ones stay');
      return;
    }
    try {
      admitted = await decide(found, current.candidate);
    } catch (error) {
      problem = messageOf(error);
      counts.refused++;
      log.error({ reason: problem }, 'rules are refused; the last good ones stay');
      return;
    }
    // The agent ended meanwhile.
    if (isOver()) return;
    const before = current;
    const rules = engineRulesOf(
      admitted.candidate,
      indexOf(admitted.candidate.sets.values()),
      found.defaults,
      users.policies(),
    );
    if (isSame(rules, before.rules)) return;
    const started = performance.now();
    current = put(admitted.candidate, found.defaults);
    const proofMillis = PROOF_MILLIS + PROOF_LOADS * loadMillis;
    const lanes = users.lanes().map((lane) => ({
      ...lane,
      reload: (next: EngineRules) => lane.reload(next, proofMillis),
    }));
    const outcome = await swapRules(lanes, before.rules, current.rules);
    // What fails while the agent ends says nothing.
    if (outcome.is !== 'swapped' && isOver()) return;
    counts[outcome.is]++;
    lastMillis = performance.now() - started;
    if (outcome.is === 'swapped') {
      good = admitted.candidate;
      keep(good);
      log.info(
        { millis: Math.round(lastMillis), rules: current.index.size, sets: [...good.sets.keys()] },
        'rules were swapped',
      );
      return;
    }
    problem = `rules could not be swapped, the last good ones stay: ${outcome.reason}`;
    log.error({ outcome: outcome.is, reason: outcome.reason }, 'rules could not be swapped; the last good ones stay');
    current = before;
    states = remember(states, stateOf(before.index, before.defaults));
  }

  // The compiler can't see that it changes meanwhile.
  const isOver = (): boolean => users === undefined;

  function keep(candidate: Candidate): void {
    try {
      writeGood(directory, engine, candidate);
    } catch (error) {
      log.warn({ err: error }, 'the last good rules cannot be kept for the next start');
    }
  }

  let running: Promise<void> = Promise.resolve();
  let waiting: Promise<void> | undefined;

  function changed(): Promise<void> {
    if (waiting !== undefined) return waiting;
    const next = running.then(async () => {
      waiting = undefined;
      try {
        await change();
      } catch (error) {
        log.error({ err: error }, 'rules could not be changed');
      }
    });
    waiting = next;
    running = next;
    return next;
  }

  async function paths(): Promise<string[]> {
    const files = [...(await findSets(options.sources)).values()].flatMap((set) => set.files.map(({ path }) => path));
    const further = (await options.hooks?.())?.files ?? [];
    const { rulesDirectory, paths: given } = options.sources;
    // A link on the way may be swapped: folders too.
    const folders = [...new Set(files.map((path) => dirname(path)))];
    return [
      rulesDirectory,
      ...given,
      ...folders,
      ...files,
      ...further,
      ...((options.overridesFile ?? '') ? [options.overridesFile ?? ''] : []),
    ];
  }

  return {
    engineRules: () => current.rules,
    index: () => current.index,
    states: () => states,
    defaults: () => current.defaults,
    follow(given) {
      users = given;
      keep(current.candidate);
      const unwatch = watchFiles({ paths, changed: () => void changed() });
      return () => {
        unwatch();
        users = undefined;
      };
    },
    changed,
    conditions(named) {
      const messages = problem === undefined ? [] : [problem];
      if (overridesProblem !== undefined)
        messages.push(`engine.extraConfig is refused, the last good one stays: ${overridesProblem}`);
      for (const name of named ?? current.defaults) {
        const set = current.candidate.sets.get(name);
        const refusal = refusals.get(name);
        if (!known.has(name)) messages.push(unknownSet(name, known));
        else if (refusal !== undefined && set !== undefined)
          messages.push(`rule set ${name} is refused, its last good rules stay: ${refusal}`);
        else if (refusal !== undefined) messages.push(`rule set ${name} is refused: ${refusal}`);
        else if (set?.rules.length === 0) messages.push(`rule set ${name} has no rules that can be loaded`);
        const failed = set?.failed ?? [];
        for (const { gid, sid, file, line, reason } of failed.slice(0, MAX_FAILED_CONDITIONS))
          messages.push(`rule set ${name}: rule ${gid}:${sid} is left out (${file}:${line}): ${reason}`);
        if (failed.length > MAX_FAILED_CONDITIONS)
          messages.push(`rule set ${name}: ${failed.length - MAX_FAILED_CONDITIONS} more rules are left out`);
      }
      return messages;
    },
    status: () => ({
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
    }),
  };
}

/** What an engine or a file says, for one line of the log. */
function short(text: string): string {
  return stripControls(text.slice(0, 2_000).replaceAll(/\s+/g, ' ')).slice(0, 500);
}

/** @param defaults Sets for all, of those that there are. */
function engineRulesOf(
  { sets, overrides }: Candidate,
  index: RuleIndex,
  defaults: readonly string[],
  policies: readonly RulePolicy[],
): EngineRules {
  const used = new Set([...defaults, ...policies.flatMap((policy) => policy.sets)].filter((name) => sets.has(name)));
  return {
    files: stageSets(index, used),
    defaults: [...defaults],
    policies: policies.map(({ id, sets: named, vlans }) => ({ id, sets: [...named], vlans: [...vlans] })),
    ...(overrides === undefined ? {} : { overrides }),
  };
}

/** Without the rules themselves: former states are kept for a while. */
function stateOf(index: RuleIndex, defaults: readonly string[]): RuleState {
  const sets = new Map([...index].map(([key, rule]) => [key, rule.sets]));
  return { since: Date.now() * 1000, defaults, setsOf: (key) => sets.get(key) };
}

function isSame(a: EngineRules, b: EngineRules): boolean {
  const about = ({ files, ...rest }: EngineRules): string =>
    JSON.stringify([rest, files.map(({ text, sets }) => [sets, text])]);
  return about(a) === about(b);
}

function signatureOf({ sets, overrides }: Candidate): string {
  return JSON.stringify([[...sets.values()].map(({ name, hash }) => `${name} ${hash}`).toSorted(), overrides]);
}

async function hashOf(set: RuleSet, salt: string): Promise<{ hash: string; changedAt: number }> {
  const hash = createHash('sha256').update(salt);
  let changedAt = 0;
  for (const { path, syntax } of set.files) {
    changedAt = Math.max(changedAt, (await stat(path)).mtimeMs);
    hash.update(`\0${path}\0${syntax}\0`).update(await readRuleFile(path));
  }
  return { hash: hash.digest('hex'), changedAt: Math.round(changedAt) };
}

/** @throws Error that names the file. */
export async function readOverrides(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new Error(`engine.extraConfig: cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  if (text.length > MAX_OVERRIDES_BYTES) throw new Error(`engine.extraConfig: ${path} is larger than 1 MB`);
  return text;
}

/** What checking rules may take of memory: a part of what the container still has. */
export function validationBytes(): number {
  const number = (path: string): number => {
    try {
      return Number(readFileSync(path, 'latin1').trim());
    } catch {
      return Number.NaN;
    }
  };
  const root = '/sys/fs/cgroup';
  const [limit, used] = [
    [join(root, 'memory.max'), join(root, 'memory.current')],
    [join(root, 'memory/memory.limit_in_bytes'), join(root, 'memory/memory.usage_in_bytes')],
  ]
    .map(([max = '', current = '']) => [number(max), number(current)] as const)
    .find(([max]) => Number.isFinite(max)) ?? [Infinity, 0];
  return Math.max(256 << 20, Math.min(2 ** 31, 0.8 * (limit - used)));
}
