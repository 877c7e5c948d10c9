/** Rules as an engine gets them: text that was made of the operator's files, and where each line of it came from. */
import type { VariableValues } from '../rule-variables.ts';

/** Where a rule of a staged file came from. */
export interface Origin {
  /** In the staged text, from 1. */
  line: number;
  endLine: number;
  /** The operator's file, and the rule's first line there. */
  file: string;
  fileLine: number;
}

export interface StagedFile {
  /** Base name, of word characters, `.` and `-`. */
  name: string;
  /** The rule sets that have its rules: all rules in it are in all of them, and in no other. */
  sets: readonly string[];
  text: string;
  /** In the order of their lines. */
  origins: readonly Origin[];
}

/** What a rule names beside itself: the engine gets it as `data/<name>` below its configuration. */
export interface DataFile {
  /** Begins with what tells its content from any other; of word characters, `.`, `+` and `-`. */
  name: string;
  /** The operator's. */
  file: string;
  content: Buffer;
}

/** Everything of rules and overrides that an engine inspects by; one that runs can go from one to the next. */
export interface EngineRules {
  files: readonly StagedFile[];
  /** What they name beside themselves. */
  data?: readonly DataFile[];
  /** Reputations of addresses that they ask for, in Suricata's formats. */
  reputation?: { categories: string; list: string } | undefined;
  /** Sets of which all are loaded that no policy names: those of VLAN ids that share rules. Absent: the defaults. */
  shared?: readonly string[];
  /** The sets of all VLAN ids that have no others. */
  defaults: readonly string[];
  policies: readonly RulePolicy[];
  /** What rules name, as far as it is set. */
  variables?: VariableValues;
  /** The operator's overrides, in the engine's language. */
  overrides?: string;
}

/** Rule sets of some VLAN ids, in place of the defaults. */
export interface RulePolicy {
  /** From 2; a policy keeps its id for as long as it has the same sets. */
  id: number;
  sets: readonly string[];
  vlans: readonly number[];
}

/** How an engine is to go over to other rules. */
export interface RulesChange {
  /** While it runs, where it can, or by a new start. */
  engine: 'running' | 'anew';
  /** How long it may take until the canary proves it. */
  proofMillis: number;
}

/** The files of which an engine has to load the rules of these sets, each rule once. */
export function filesOf({ files }: Pick<EngineRules, 'files'>, sets: readonly string[]): StagedFile[] {
  return files.filter((file) => file.sets.some((name) => sets.includes(name)));
}

/** Puts the operator's files and lines into what an engine says of staged ones, in whatever folder they lie. */
export function unstage(text: string, { files, data = [] }: Pick<EngineRules, 'files' | 'data'>): string {
  let result = text.replaceAll(/[^\s"']*\/rules-\d+\/overrides\b/g, 'engine.extraConfig');
  for (const { name, file } of data) {
    const escaped = name.replaceAll(/[.+]/g, String.raw`\$&`);
    result = result.replaceAll(new RegExp(`(?:[^\\s"']*/)?data/${escaped}`, 'g'), () => file);
  }
  for (const { name, origins } of files) {
    const pattern = new RegExp(`[^\\s"]*/${name.replaceAll('.', '\\.')}(?:(:| at line )(\\d+))?`, 'g');
    result = result.replace(pattern, (whole, between: string | undefined, line: string | undefined) => {
      const origin = line === undefined ? undefined : originOf(origins, Number(line));
      return origin === undefined ? whole : `${origin.file}${between}${origin.fileLine}`;
    });
  }
  return result;
}

/** Where the rules stand that name a file that a text is about. */
export function placesOfData(text: string, { files, data = [] }: Pick<EngineRules, 'files' | 'data'>): Origin[] {
  const names = data.filter(({ file }) => text.includes(file)).map(({ name }) => `data/${name}`);
  if (names.length === 0) return [];
  return files.flatMap(({ text: staged, origins }) =>
    staged
      .split('\n')
      .flatMap((line, index) => (names.some((name) => line.includes(name)) ? [originOf(origins, index + 1)] : []))
      .filter((origin) => origin !== undefined),
  );
}

/** Whose line it is, of origins in order. */
function originOf(origins: readonly Origin[], line: number): Origin | undefined {
  let low = 0;
  let high = origins.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((origins[middle]?.endLine ?? 0) < line) low = middle + 1;
    else high = middle;
  }
  const origin = origins[low];
  return origin !== undefined && origin.line <= line ? origin : undefined;
}
