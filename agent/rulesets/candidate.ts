/** What the files say now: the sets that are used, those that did not change as they were before, and the overrides. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import type { EngineRules, RulePolicy } from '../engine/rules.ts';
import type { VariableValues } from '../rule-variables.ts';
import type { Candidate, SetVersion } from './admit.ts';
import { CLASSES_FILE, readClasses, readReferenceTypes, REFERENCES_FILE } from './classes.ts';
import { fingerprintOf, placesNamed } from './data.ts';
import { readRuleFile, type Place } from './files.ts';
import { readOverrides } from './overrides.ts';
import type { RuleInfo } from './rule.ts';
import {
  besideOf,
  defaultSets,
  findSets,
  loadSets,
  namedBy,
  stageSets,
  type RuleHooks,
  type RuleIndex,
  type RuleSet,
  type SetSources,
} from './sets.ts';

/** Lines of the log for each set. */
const MAX_WARNINGS = 5;

/** What rules go through, what of it makes a difference, and the files that it is in. */
export interface LiveHooks {
  hooks: RuleHooks;
  hash: string;
  files: string[];
}

export interface CandidateOptions {
  sources: SetSources;
  /** Sets of resources that name none. */
  ruleSets: readonly string[];
  /** Further sets that are used from the beginning. */
  alsoUsed: readonly string[];
  /** What rules name, as far as it is set now. */
  variables?: () => VariableValues;
  overridesFile?: string;
  /** Name and version. */
  engine: string;
  hooks?: () => Promise<LiveHooks>;
  log: Pick<Logger, 'warn'>;
}

export interface FoundRules {
  /** All that there are, used or not. */
  sets: ReadonlyMap<string, RuleSet>;
  /** Names of those that resources get that name none. */
  defaults: string[];
  /** Where files may be that rules name, whether they are there or not. */
  named: string[];
  candidate: Candidate;
}

/** @param before Where its sets are the same, they are taken. @throws Error that names what cannot be read. */
export async function readCandidate(
  options: CandidateOptions,
  policies: () => readonly RulePolicy[],
  before: Candidate | undefined,
): Promise<FoundRules> {
  const sets = await findSets(options.sources);
  const defaults = defaultSets(options.ruleSets, sets);
  const used = new Set([...defaults, ...options.alsoUsed, ...policies().flatMap((policy) => policy.sets)]);
  const { hooks, hash: hooksHash } = (await options.hooks?.()) ?? { hooks: {}, hash: '' };
  const versions = new Map<string, SetVersion>();
  const named = new Set<string>();
  for (const name of used) {
    const set = sets.get(name);
    if (set === undefined) continue;
    const { hash, changedAt, named: ofSet } = await hashOf(set, options.engine + hooksHash);
    for (const path of ofSet) named.add(path);
    const same = before?.sets.get(name);
    if (same?.hash === hash) {
      versions.set(name, same);
      continue;
    }
    const translate = same?.hooksHash === hooksHash ? reusing(same, hooks.translate) : hooks.translate;
    const rules = await readSet(options, set, { ...hooks, ...(translate === undefined ? {} : { translate }) });
    versions.set(name, { name, hash, hooksHash, changedAt, ...rules });
  }
  const variables = options.variables?.();
  const overrides = await readOverrides(options.overridesFile);
  const candidate = {
    sets: versions,
    ...(variables === undefined ? {} : { variables }),
    ...(overrides === undefined ? {} : { overrides }),
  };
  return { sets, defaults, named: [...named], candidate };
}

async function readSet(
  { sources, log }: CandidateOptions,
  set: RuleSet,
  hooks: RuleHooks,
): Promise<Pick<SetVersion, 'rules' | 'failed'>> {
  const loaded = await loadSets([set], sources.engine, hooks);
  for (const { file, line, reason } of loaded.problems.slice(0, MAX_WARNINGS)) log.warn({ file, line, reason }, 'rule');
  for (const { sid, kept, dropped } of loaded.duplicates.slice(0, MAX_WARNINGS))
    log.warn({ sid, kept: place(kept), dropped: place(dropped) }, 'rule stands twice');
  const failed = loaded.refused.map(({ gid, sid, file, line, reason }) => ({
    set: set.name,
    gid,
    sid,
    file,
    line,
    reason,
  }));
  return { rules: [...loaded.index.values()], failed };
}

/** Thousands of rules take seconds to translate: those that stay as they are in their file are not translated again. */
function reusing({ rules }: SetVersion, translate: RuleHooks['translate']): RuleHooks['translate'] {
  if (translate === undefined) return undefined;
  const key = ({ file, text }: RuleInfo): string => `${file}\0${text}`;
  // Of a file that was not taken for Snort's, no rule is another text but for the files that it names.
  const translated = rules.filter(({ staged, text, data }) => staged !== text && data === undefined);
  const known = new Map(translated.map((rule) => [key(rule), rule.staged]));
  return (rule) => {
    const text = known.get(key(rule));
    return text === undefined ? translate(rule) : { kind: 'rule', text };
  };
}

const place = ({ file, line }: Place): string => `${file}:${line}`;

async function hashOf(set: RuleSet, salt: string): Promise<{ hash: string; changedAt: number; named: string[] }> {
  const hash = createHash('sha256').update(salt);
  let changedAt = 0;
  const named: string[] = [];
  for (const { path, syntax, root = dirname(path) } of set.files) {
    changedAt = Math.max(changedAt, (await stat(path)).mtimeMs);
    const text = await readRuleFile(path);
    hash.update(`\0${path}\0${syntax}\0`).update(text);
    named.push(...placesNamed(text, path, root));
  }
  for (const file of besideOf(set, CLASSES_FILE)) hash.update(`\0${file}\0${JSON.stringify([...readClasses(file)])}`);
  for (const file of besideOf(set, REFERENCES_FILE)) hash.update(JSON.stringify([...readReferenceTypes(file)]));
  hash.update(fingerprintOf(named));
  return { hash: hash.digest('hex'), changedAt: Math.round(changedAt), named };
}

/** The same for candidates that are the same. */
export function signatureOf({ sets, variables = {}, overrides }: Candidate): string {
  const names = [...sets.values()].map(({ name, hash }) => `${name} ${hash}`).toSorted();
  return JSON.stringify([names, Object.entries(variables).toSorted(([a], [b]) => (a < b ? -1 : 1)), overrides]);
}

/** What an engine gets of it. @param defaults Sets for all, of those that there are. */
export function stageCandidate(
  { sets, variables, overrides }: Candidate,
  index: RuleIndex,
  defaults: readonly string[],
  policies: readonly RulePolicy[],
): EngineRules {
  const used = new Set([...defaults, ...policies.flatMap((policy) => policy.sets)].filter((name) => sets.has(name)));
  return {
    files: stageSets(index, used),
    ...namedBy(index, used),
    defaults: [...defaults],
    policies: policies.map(({ id, sets: named, vlans }) => ({ id, sets: [...named], vlans: [...vlans] })),
    ...(variables === undefined ? {} : { variables }),
    ...(overrides === undefined ? {} : { overrides }),
  };
}

/** Files and folders by which a candidate may become another one. */
export async function pathsOf(
  { sources, hooks, overridesFile }: CandidateOptions,
  named: readonly string[],
): Promise<string[]> {
  const files = [...(await findSets(sources)).values()].flatMap((set) => [
    ...set.files.map(({ path }) => path),
    ...besideOf(set, CLASSES_FILE),
    ...besideOf(set, REFERENCES_FILE),
  ]);
  const further = (await hooks?.())?.files ?? [];
  // A link on the way may be swapped: folders too.
  const folders = [...new Set([...files, ...named].map((path) => dirname(path)))];
  const overrides = overridesFile === undefined || overridesFile === '' ? [] : [overridesFile];
  return [sources.rulesDirectory, ...sources.paths, ...folders, ...files, ...named, ...further, ...overrides];
}
