/**
 * The last good rules on disk, so that an agent that starts with bad files goes on with what was good.
 *
 *   <directory>/good.json                    engine, overrides, and the sets with their hashes; replaced in one step
 *   <directory>/<set>-<hash>.ndjson          a set's rules, one a line: file, line, text, what the engine gets where it
 *                                            differs, what its set says of its class and references, and the files
 *                                            that it names
 *   <directory>/<digits>-<name>              such a file, by what is in it
 *
 * What can't be read is as if it were not there.
 */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DataFile } from '../engine/rules.ts';
import { makeDirectorySync } from '../files/folder.ts';
import { replaceFileByPieces } from '../files/replace.ts';
import type { VariableValues } from '../rule-variables.ts';
import type { Candidate, FailedRule, SetVersion } from './admit.ts';
import { asksReputation, type Reputation } from './reputation.ts';
import { parseRules, type RuleClass } from './rule.ts';
import type { IndexedRule } from './sets.ts';

const RULES_A_PIECE = 500;

/** How they reach the disk: nothing else runs until it has them. Errors are those of node:fs. */
export interface StoreFiles {
  makeDirectory(path: string): void;
  names(directory: string): string[];
  read(file: string): Buffer;
  /** In one step. */
  replace(file: string, pieces: Iterable<string | Uint8Array>): void;
  /** Where it is there. */
  remove(file: string): void;
}

const nodeFiles: StoreFiles = {
  makeDirectory: (path) => makeDirectorySync(path, 0o700),
  names: (directory) => readdirSync(directory),
  read: (file) => readFileSync(file),
  replace: (file, pieces) => replaceFileByPieces(file, pieces, 0o600),
  remove: (file) => rmSync(file, { force: true }),
};

interface Stored {
  engine: string;
  variables?: VariableValues;
  overrides?: string;
  sets: { name: string; hash: string; changedAt: number; failed: FailedRule[]; reputation?: Reputation }[];
}

interface StoredRule {
  file: string;
  line: number;
  text: string;
  staged?: string;
  ownClass?: RuleClass;
  ownReferences?: Readonly<Record<string, string>>;
  data?: Omit<DataFile, 'content'>[];
}

/** @param engine Name and version: another one may refuse what this one takes. */
export function writeGood(
  directory: string,
  engine: string,
  { sets, variables, overrides }: Candidate,
  files = nodeFiles,
): void {
  files.makeDirectory(directory);
  const there = new Set(files.names(directory));
  for (const set of sets.values()) {
    const name = fileOf(set);
    if (there.has(name)) continue;
    for (const { name: dataName, content } of dataIn(set)) {
      if (!there.has(dataName)) files.replace(join(directory, dataName), [content]);
      there.add(dataName);
    }
    files.replace(join(directory, name), linesOf(set));
  }
  const stored: Stored = {
    engine,
    ...(variables === undefined ? {} : { variables }),
    ...(overrides === undefined ? {} : { overrides }),
    sets: [...sets.values()].map(({ name, hash, changedAt, failed, rules }) => {
      const reputation = rules.find((rule) => rule.reputation !== undefined)?.reputation;
      return { name, hash, changedAt, failed, ...(reputation === undefined ? {} : { reputation }) };
    }),
  };
  files.replace(join(directory, 'good.json'), [JSON.stringify(stored)]);
  const kept = new Set([
    'good.json',
    ...[...sets.values()].flatMap((set) => [fileOf(set), ...dataIn(set).map(({ name }) => name)]),
  ]);
  for (const name of there) if (!kept.has(name)) files.remove(join(directory, name));
}

/** Some hundred at a time: of thousands of rules, all together would be tens of megabytes. */
function* linesOf({ rules }: SetVersion): Iterable<string> {
  for (let from = 0; from < rules.length; from += RULES_A_PIECE)
    yield rules
      .slice(from, from + RULES_A_PIECE)
      .map((rule) => `${JSON.stringify(storedOf(rule))}\n`)
      .join('');
}

function storedOf({ file, line, text, staged, ownClass, ownReferences, data }: IndexedRule): StoredRule {
  return {
    file,
    line,
    text,
    ...(staged === text ? {} : { staged }),
    ...(ownClass === undefined ? {} : { ownClass }),
    ...(ownReferences === undefined ? {} : { ownReferences }),
    ...(data === undefined ? {} : { data: data.map((named) => ({ name: named.name, file: named.file })) }),
  };
}

/** Undefined where there is none, or none of this engine. */
export function readGood(directory: string, engine: string, files = nodeFiles): Candidate | undefined {
  try {
    const stored = JSON.parse(files.read(join(directory, 'good.json')).toString()) as Stored;
    if (stored.engine !== engine) return undefined;
    const sets = new Map<string, SetVersion>();
    const contents = new Map<string, Buffer>();
    const readData = ({ name, file }: Omit<DataFile, 'content'>): DataFile => {
      const content = contents.get(name) ?? files.read(join(directory, name));
      contents.set(name, content);
      return { name, file, content };
    };
    for (const { name, hash, changedAt, failed, reputation } of stored.sets) {
      const text = files.read(join(directory, fileOf({ name, hash }))).toString();
      const rules = text
        .split('\n')
        .filter(Boolean)
        .flatMap((line) => readRule(line, name, readData))
        .map((rule) => (reputation !== undefined && asksReputation(rule) ? { ...rule, reputation } : rule));
      sets.set(name, { name, hash, changedAt, failed, rules });
    }
    const { variables, overrides } = stored;
    return {
      sets,
      ...(variables === undefined ? {} : { variables }),
      ...(overrides === undefined ? {} : { overrides }),
    };
  } catch {
    return undefined;
  }
}

const fileOf = ({ name, hash }: Pick<SetVersion, 'name' | 'hash'>): string => `${name}-${hash.slice(0, 16)}.ndjson`;

const dataIn = ({ rules }: SetVersion): DataFile[] => rules.flatMap(({ data }) => data ?? []);

function readRule(json: string, set: string, readData: (file: Omit<DataFile, 'content'>) => DataFile): IndexedRule[] {
  const { file, line, text, staged = text, ownClass, ownReferences, data } = JSON.parse(json) as StoredRule;
  const own = {
    ...(ownClass === undefined ? {} : { ownClass }),
    ...(ownReferences === undefined ? {} : { ownReferences }),
    ...(data === undefined ? {} : { data: data.map(readData) }),
  };
  return parseRules(text, { file }).rules.map((rule) => ({ ...rule, ...own, line, sets: [set], staged }));
}
