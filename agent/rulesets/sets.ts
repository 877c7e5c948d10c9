/**
 * Rule sets: folders of rule files. Finds them, reads them into one index, and makes the text of which an engine is to
 * load them.
 *
 *   built-in                     rules/<set>/ of this package: `kubernetes`
 *   <rulesDirectory>/<set>/      the operator's own; one of a built-in set's name takes its place
 *   <rulesDirectory>/*.rules     and the paths of `rules:` are the set `custom`
 *
 * Invariants: a signature (`gid:sid`) is one rule, that with the highest rev, whatever sets have it; an engine gets
 * rules only, one behind the other, and nothing else of a file: an `include` leads nowhere.
 */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { hasCanarySignature } from '../engine/canary.ts';
import type { EngineName } from '../engine/engine.ts';
import type { DataFile, EngineRules, Origin, StagedFile } from '../engine/rules.ts';
import { errorCode } from '../files/errors.ts';
import { CLASSES_FILE, readClasses, readReferenceTypes, REFERENCES_FILE } from './classes.ts';
import { createDataReader, type DataReader, type DataSource } from './data.ts';
import { findRuleFiles, place, readRuleFile, ruleKey, type Place } from './files.ts';
import { mergeReputations, type Reputation } from './reputation.ts';
import { parseRules, type RuleClass, type RuleInfo } from './rule.ts';

/** Of thousands of rules: between two turns in which the agent does other things. */
const TURN_MILLIS = 20;
/** The set of what lies in no folder of its own. */
export const CUSTOM = 'custom';
/** What a folder must be called to be a set. */
export const SET_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

/** In whose language a file is written; `either`: its name does not say. */
export type Syntax = EngineName | 'either';

export interface SetFile {
  path: string;
  syntax: Syntax;
  /** The folder of the set that it is in, where that is not its own: files that its rules name are below it. */
  root?: string;
}

export interface RuleSet {
  name: string;
  /** In the order in which they are loaded. */
  files: SetFile[];
}

export interface SetSources {
  rulesDirectory: string;
  /** Further files and folders of the set `custom`. */
  paths: readonly string[];
  engine: EngineName;
}

/**
 * A rule that is loaded: what it says of itself, the sets that have it, the text that the engine gets, and the files
 * and reputations that it names.
 */
export type IndexedRule = RuleInfo & {
  sets: readonly string[];
  staged: string;
  data?: readonly DataFile[];
  reputation?: Reputation;
  /** Of the same signature, with the next lower rev: what is loaded where the engine does not take this one. */
  earlier?: IndexedRule;
};

/** Rules that are loaded, by `ruleKey`. */
export type RuleIndex = ReadonlyMap<string, IndexedRule>;

export interface DuplicateRule {
  gid: number;
  sid: number;
  /** The rule with the higher rev, or the first of equal ones. */
  kept: Place & { rev: number };
  dropped: Place & { rev: number };
}

export interface LoadedSets {
  index: RuleIndex;
  /** In the order in which they were found. */
  duplicates: DuplicateRule[];
  problems: (Place & { set: string; reason: string })[];
  /** Problems beyond those listed. */
  unlistedProblems: number;
  /** Rules that are commented out, or turned off. */
  disabled: number;
  /** Rules that the engine can't be given, and why: by what it lacks, or for what the rule names. */
  refused: (Place & { set: string; gid: number; sid: number; by: RefusedBy; reason: string })[];
}

/** What rules go through between a file and the engine; its functions are pure. */
export interface RuleHooks {
  /** Turns the rules of a file on and off, and changes them; none is added or moved. Gets those commented out too. */
  modify?: (rules: readonly RuleInfo[], set: string) => RuleInfo[];
  /** Why an enabled rule is not to be given to the engine; undefined where it is. */
  refuse?: (rule: RuleInfo) => string | undefined;
  /** A rule in Snort's syntax as Suricata takes it, or why there is none that means the same. */
  translate?: (rule: RuleInfo) => { kind: 'rule'; text: string } | { kind: 'refused'; reason: string };
  /** Whether rules may run scripts of their set; not, unless it says so. */
  allowScripts?: boolean;
  /** Told of each rule of each file, also of those that are not loaded. */
  seen?: (rule: SeenRule) => void;
}

export interface SeenRule {
  set: string;
  rule: RuleInfo;
  outcome: { kind: 'enabled'; staged: string } | { kind: 'disabled' } | { kind: 'refused'; reason: string };
}

/** rules/ of the package, from agent/rulesets/ as well as from dist/agent/rulesets/. */
function builtInDirectory(): string {
  const places = ['../../rules/', '../../../rules/'].map((up) => fileURLToPath(new URL(up, import.meta.url)));
  return places.find((path) => existsSync(join(path, 'kubernetes'))) ?? places[0] ?? 'rules';
}

/**
 * All sets that there are, by name.
 * @throws Error that names what can't be read: a path of `custom`, or a folder; a missing `rulesDirectory` has no sets.
 */
export async function findSets({ rulesDirectory, paths, engine }: SetSources): Promise<Map<string, RuleSet>> {
  const sets = new Map<string, RuleSet>();
  const add = (name: string, files: SetFile[]): void => {
    if (files.length > 0) sets.set(name, { name, files });
  };
  const found = async (path: string): Promise<SetFile[]> =>
    forEngine(await findRuleFiles(path).catch(noFiles), path, engine);
  const custom: string[] = [];
  for (const directory of [builtInDirectory(), rulesDirectory]) {
    for (const entry of await entriesOf(directory)) {
      const path = join(directory, entry);
      // A folder by that name is one of files of the set.
      if (entry === CUSTOM || (directory === rulesDirectory && entry.endsWith('.rules'))) custom.push(path);
      else if (SET_NAME.test(entry)) add(entry, await found(path));
    }
  }
  add(CUSTOM, (await Promise.all(custom.map(found))).flat());
  for (const path of paths) {
    const rulePaths = await findRuleFiles(path);
    // A file that was named is taken whatever it is called.
    const added =
      rulePaths.length === 1 && rulePaths[0] === path
        ? [{ path, syntax: syntaxOf(path) }]
        : forEngine(rulePaths, path, engine);
    const set = sets.get(CUSTOM) ?? { name: CUSTOM, files: [] };
    const known = new Set(set.files.map((file) => file.path));
    set.files.push(...added.filter((file) => !known.has(file.path)));
    if (set.files.length > 0) sets.set(CUSTOM, set);
  }
  return sets;
}

/**
 * Sets that those get whose resource names none: the configured ones, and `custom` where it has files, as they were put
 * there to be used.
 */
export function defaultSets(configured: readonly string[], sets: ReadonlyMap<string, RuleSet>): string[] {
  return [...new Set([...configured, ...(sets.has(CUSTOM) ? [CUSTOM] : [])])];
}

/** Why a set that somebody names is not loaded. */
export function unknownSet(name: string, sets: ReadonlyMap<string, RuleSet>): string {
  return `there is no rule set ${name}; there is: ${[...sets.keys()].join(', ') || 'none'}`;
}

async function entriesOf(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => !name.startsWith('.')).toSorted();
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw new Error(`cannot read rule sets from ${directory}: ${String(error)}`, { cause: error });
  }
}

/** A file that is no rule file, or a folder without any, is no set. */
function noFiles(error: unknown): string[] {
  if (error instanceof Error && /^no rule files|neither a file nor a folder$/.test(error.message)) return [];
  throw error;
}

/** `snort.rules`, `….snort.rules` and `snort3-….rules` are Snort's, and likewise for Suricata. */
function syntaxOf(file: string): Syntax {
  const name = basename(file);
  const owner = /(?:^|\.)(snort|suricata)\.rules$/.exec(name)?.[1] ?? /^(snort)3[-_.]/.exec(name)?.[1];
  return owner === 'snort' || owner === 'suricata' ? owner : 'either';
}

/**
 * @param found The folder in which they were found, or the file itself.
 * Snort's files are Suricata's too, translated, but where the same rules are there in its own syntax. Nothing
 * translates the other way.
 */
function forEngine(files: readonly string[], found: string, engine: EngineName): SetFile[] {
  const all = new Set(files);
  return files
    .map((path) => ({
      path,
      syntax: syntaxOf(path),
      ...(path === found || dirname(path) === found ? {} : { root: found }),
    }))
    .filter(({ path, syntax }) => {
      if (syntax === 'either' || syntax === engine) return true;
      return (
        engine === 'suricata' &&
        !(path.endsWith('snort.rules') && all.has(path.replace(/snort\.rules$/, 'suricata.rules')))
      );
    });
}

/** Reads sets in the order given. @throws Error that names a file that can't be read; damaged rules are listed. */
export async function loadSets(
  sets: Iterable<RuleSet>,
  engine: EngineName,
  hooks: RuleHooks = {},
): Promise<LoadedSets> {
  const index = new Map<string, IndexedRule>();
  const { allowScripts = false } = hooks;
  let began = performance.now();
  const loaded: LoadedSets = { index, duplicates: [], problems: [], unlistedProblems: 0, disabled: 0, refused: [] };
  for (const set of sets) {
    const classes = new Map(besideOf(set, CLASSES_FILE).flatMap((file) => [...readClasses(file)]));
    const types = new Map(besideOf(set, REFERENCES_FILE).flatMap((file) => [...readReferenceTypes(file)]));
    const reader = engine === 'suricata' ? createDataReader() : undefined;
    for (const { path, syntax, root = dirname(path) } of set.files) {
      const text = await readRuleFile(path);
      const parsed = parseRules(text, { file: path });
      for (const { line, reason } of parsed.problems) loaded.problems.push({ file: path, line, set: set.name, reason });
      loaded.unlistedProblems += parsed.unlistedProblems;
      const translate =
        engine === 'suricata' && (syntax === 'either' ? looksLikeSnort(text) : syntax) === 'snort'
          ? hooks.translate
          : undefined;
      for (const read of hooks.modify?.(parsed.rules, set.name) ?? parsed.rules) {
        if (performance.now() - began > TURN_MILLIS) {
          await turn();
          began = performance.now();
        }
        const rule = withOwn(read, classes, types);
        if (!rule.enabled) {
          loaded.disabled += 1;
          hooks.seen?.({ set: set.name, rule, outcome: { kind: 'disabled' } });
          continue;
        }
        if (hasCanarySignature(rule)) {
          const { file, line } = rule;
          const reason = `${ruleKey(rule)} is the signature of the agent's own canary, whose alerts are no events: give it another sid`;
          loaded.problems.push({ file, line, set: set.name, reason });
          hooks.seen?.({ set: set.name, rule, outcome: { kind: 'refused', reason } });
          continue;
        }
        const outcome = await prepare(rule, { refuse: hooks.refuse, translate, reader }, { root, allowScripts });
        if (outcome.kind === 'refused') {
          const { gid, sid, file, line } = rule;
          const { by, reason } = outcome;
          loaded.refused.push({ set: set.name, gid, sid, file, line, by, reason });
          hooks.seen?.({ set: set.name, rule, outcome });
          continue;
        }
        const { text: staged, data, reputation } = outcome;
        // Another name of a file is no other rule.
        const said = translate === undefined ? rule.text : staged;
        hooks.seen?.({ set: set.name, rule, outcome: { kind: 'enabled', staged: said } });
        const named = { ...(data.length === 0 ? {} : { data }), ...(reputation === undefined ? {} : { reputation }) };
        keepRule({ ...rule, sets: [set.name], staged, ...named }, index, loaded.duplicates);
      }
    }
  }
  return loaded;
}

/**
 * What a rule fails at before an engine sees it: its syntax, what it names in its header, or the files that it names.
 */
export type RefusedBy = 'translation' | 'setting' | 'files';

type Prepared =
  | { kind: 'rule'; text: string; data: readonly DataFile[]; reputation?: Reputation }
  | { kind: 'refused'; by: RefusedBy; reason: string };

interface Preparation {
  refuse: RuleHooks['refuse'];
  translate: RuleHooks['translate'];
  reader: DataReader | undefined;
}

/** An enabled rule as the engine is to get it, or why it is not. */
async function prepare(
  rule: RuleInfo,
  { refuse, translate, reader }: Preparation,
  source: DataSource,
): Promise<Prepared> {
  const dead = refuse?.(rule);
  if (dead !== undefined) return { kind: 'refused', by: 'setting', reason: dead };
  // Nothing of Snort's names a file.
  const translated = translate?.(rule);
  if (translated?.kind === 'refused') return { ...translated, by: 'translation' };
  if (translated !== undefined || reader === undefined)
    return { kind: 'rule', text: translated?.text ?? rule.text, data: [] };
  const read = await reader.read(rule, source);
  return read.kind === 'refused' ? { ...read, by: 'files' } : read;
}

/** With what its set says of its class, and of the types of its references. */
function withOwn(
  rule: RuleInfo,
  classes: ReadonlyMap<string, RuleClass>,
  types: ReadonlyMap<string, string>,
): RuleInfo {
  const ownClass = classes.get(rule.classtype.toLowerCase());
  const own =
    types.size === 0 ? [] : rule.references.map(({ type }) => type.toLowerCase()).filter((type) => types.has(type));
  if (ownClass === undefined && own.length === 0) return rule;
  return {
    ...rule,
    ...(ownClass === undefined ? {} : { ownClass }),
    ...(own.length === 0
      ? {}
      : { ownReferences: Object.fromEntries(own.map((type) => [type, types.get(type) ?? ''])) }),
  };
}

/**
 * Where a set may have a file that goes for all its rules: beside its files, and in the folder above those. The nearer
 * counts.
 */
export function besideOf({ files }: Pick<RuleSet, 'files'>, name: string): string[] {
  const folders = new Set(files.map(({ path }) => dirname(path)));
  const above = files.length < 2 ? [] : [commonFolder([...folders])];
  return [...new Set([...above, ...folders])].map((folder) => join(folder, name));
}

function commonFolder(folders: readonly string[]): string {
  const [first = [], ...others] = folders.map((folder) => folder.split('/'));
  let length = 0;
  while (length < first.length && others.every((steps) => steps[length] === first[length])) length++;
  return first.slice(0, length).join('/') || '/';
}

/** Adds a rule to an index, where one of its signature may be. */
export function keepRule(rule: IndexedRule, index: Map<string, IndexedRule>, duplicates: DuplicateRule[]): void {
  const key = ruleKey(rule);
  const other = index.get(key);
  if (other === undefined) {
    index.set(key, rule);
    return;
  }
  const [kept, dropped] = rule.rev > other.rev ? [rule, other] : [other, rule];
  const earlier = earlierOf(kept, dropped);
  const sets = [...new Set([...other.sets, ...rule.sets])];
  index.set(key, { ...kept, sets, ...(earlier === undefined ? {} : { earlier }) });
  // A set may well repeat another's rules.
  if (other.sets.includes(rule.sets[0] ?? '') || other.text !== rule.text)
    duplicates.push({ gid: rule.gid, sid: rule.sid, kept: place(kept), dropped: place(dropped) });
}

/** One alone, however many there are. */
function earlierOf(kept: IndexedRule, { earlier: last, ...dropped }: IndexedRule): IndexedRule | undefined {
  const others = [kept.earlier, dropped, last].filter((rule) => rule !== undefined && rule.staged !== kept.staged);
  return others.reduce((best, rule) => (best === undefined || (rule?.rev ?? 0) > best.rev ? rule : best), undefined);
}

/** Options that only Snort 3 has, or that it alone writes so. */
function looksLikeSnort(text: string): EngineName | 'either' {
  return /[(;]\s*(?:service\s*:|rem\s*:|content\s*:\s*!?"(?:[^"\\\n]|\\.)*"\s*,)/.test(text) ? 'snort' : 'either';
}

/**
 * The files that an engine is to load, one for all rules that are in the same sets: so each policy has each of its
 * rules once.
 * @param sets Those that are used; rules of no other are left out.
 */
export function stageSets(index: RuleIndex, sets: ReadonlySet<string>): StagedFile[] {
  const groups = new Map<string, { sets: string[]; rules: IndexedRule[] }>();
  for (const rule of index.values()) {
    const used = rule.sets.filter((name) => sets.has(name)).toSorted();
    if (used.length === 0) continue;
    const group = groups.get(used.join()) ?? { sets: used, rules: [] };
    group.rules.push(rule);
    groups.set(used.join(), group);
  }
  return [...groups.values()].map(({ sets: members, rules }, number) => {
    const origins: Origin[] = [];
    let line = 1;
    for (const rule of rules) {
      const endLine = line + rule.staged.split('\n').length - 1;
      origins.push({ line, endLine, file: rule.file, fileLine: rule.line });
      line = endLine + 1;
    }
    const name = `${String(number).padStart(3, '0')}-${members.join('+').slice(0, 100).replaceAll('+', '.')}.rules`;
    return { name, sets: members, text: rules.map(({ staged }) => `${staged}\n`).join(''), origins };
  });
}

/** What rules of these sets name beside themselves, each once. */
export function namedBy(index: RuleIndex, sets: ReadonlySet<string>): Pick<EngineRules, 'data' | 'reputation'> {
  const files = new Map<string, DataFile>();
  const reputations = new Set<Reputation>();
  for (const { data = [], reputation, sets: own } of index.values()) {
    if ((data.length === 0 && reputation === undefined) || !own.some((name) => sets.has(name))) continue;
    for (const file of data) files.set(file.name, file);
    if (reputation !== undefined) reputations.add(reputation);
  }
  const reputation = mergeReputations(reputations);
  return {
    ...(files.size === 0 ? {} : { data: [...files.values()] }),
    ...(reputation === undefined ? {} : { reputation }),
  };
}
