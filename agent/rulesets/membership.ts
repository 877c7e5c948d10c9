/**
 * Which sets a signature was in when an alert of it fired: rules change while an engine runs, and alerts are read
 * later, even by a later agent.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ruleFolders, RULES_FILE, type RulesRecord } from '../engine/folder.ts';
import { isRecord } from '../files/record.ts';
import { parseRules } from './rule.ts';
import { ruleKey } from './files.ts';

/**
 * A packet may be inspected so long before or after its time stamp says: what waits in a ring, and a swap that takes
 * its time.
 */
const SLACK_MICROS = 60_000_000;
/** States that are remembered. */
const MAX_STATES = 8;

/** The rules from some time on. */
export interface RuleState {
  /** Microseconds since the epoch. */
  since: number;
  /** Sets of resources that name none. */
  defaults: readonly string[];
  /** The sets that a signature is in; undefined: it is in none. */
  setsOf: (key: string) => readonly string[] | undefined;
}

/** Adds a state to those before it, in order of time. */
export function remember(states: readonly RuleState[], state: RuleState): RuleState[] {
  return [...states, state].slice(-MAX_STATES);
}

/**
 * Whether a resource asked for a signature.
 * @param named Sets that it names; undefined: the defaults. @param timeMicros Of the packet.
 * @returns true for a signature that is of no set, such as one of the operator's own overrides: nobody could ask for
 * it.
 */
export function isWanted(
  states: readonly RuleState[],
  key: string,
  timeMicros: number,
  named: readonly string[] | undefined,
): boolean {
  for (let index = states.length - 1; index >= 0; index--) {
    const state = states[index];
    if (state === undefined) continue;
    const until = states[index + 1]?.since ?? Infinity;
    // The first one holds for all that was before.
    const since = index === 0 ? -Infinity : state.since;
    if (timeMicros < since - SLACK_MICROS || timeMicros > until + SLACK_MICROS) continue;
    const sets = state.setsOf(key);
    if (sets !== undefined) return (named ?? state.defaults).some((name) => sets.includes(name));
  }
  return true;
}

/**
 * The states that a generation of an engine had, by what lies in its configuration; none where that can't be read.
 * @param folders The generation's folders of rules.
 */
export function readStates(folders: readonly string[]): RuleState[] {
  const states: RuleState[] = [];
  for (const folder of folders) {
    try {
      const record: unknown = JSON.parse(readFileSync(join(folder, RULES_FILE), 'utf8'));
      if (!isRulesRecord(record)) continue;
      const sets = new Map<string, readonly string[]>();
      for (const [name, members] of Object.entries(record.files)) {
        const { rules } = parseRules(readFileSync(join(folder, name), 'utf8'), { file: name });
        for (const rule of rules) sets.set(ruleKey(rule), members);
      }
      states.push({ since: record.since, defaults: record.defaults, setsOf: (key) => sets.get(key) });
    } catch {
      // The agent died while it wrote it: it was never in force.
    }
  }
  return states.toSorted((a, b) => a.since - b.since).slice(-MAX_STATES);
}

/** The rules by which each generation of an engine inspected. */
export interface StatesByGeneration {
  of(generation: string): readonly RuleState[];
  /** All of its alerts were read. */
  forget(generation: string): void;
}

/**
 * @param left Generations that earlier agents left: what they inspected by is read when it is first asked for.
 * @param current The states of all others.
 */
export function statesByGeneration(
  left: readonly { name: string; directory: string }[],
  current: () => readonly RuleState[],
): StatesByGeneration {
  const directories = new Map(left.map(({ name, directory }) => [name, directory]));
  const known = new Map<string, RuleState[]>();
  return {
    of(generation) {
      const directory = directories.get(generation);
      if (directory === undefined) return current();
      const states = known.get(generation) ?? readStates(ruleFolders(directory));
      known.set(generation, states);
      return states;
    },
    forget: (generation) => void known.delete(generation),
  };
}

function isRulesRecord(value: unknown): value is RulesRecord {
  if (!isRecord(value)) return false;
  const { since, defaults, files } = value;
  return typeof since === 'number' && Array.isArray(defaults) && isRecord(files);
}
