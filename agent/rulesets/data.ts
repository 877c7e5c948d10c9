/**
 * Files that rules of Suricata name beside themselves: lists of datasets (`dataset`, `datarep`), of checksums
 * (`filemd5` and its like), scripts (`lua`), and reputations (`iprep`). They travel with the rules: the engine gets a
 * copy below its own configuration, by a name that says what is in it, and the staged rule names that copy.
 *
 * Invariants: nothing is read but plain files below the set's folder: no absolute path, no `..`, no link that leads
 * out; at most `MAX_FILE_BYTES` of each, and `MAX_SET_BYTES` of a set. A rule whose file can't be had has the reason.
 *
 * Not promised: that what a dataset learns outlives its engine. `state` is a list to begin with, `save` is passed over.
 */
import { createHash } from 'node:crypto';
import { constants, readdirSync, statSync } from 'node:fs';
import { open, readdir, realpath } from 'node:fs/promises';
import { isIP } from 'node:net';
import { basename, dirname, join, relative } from 'node:path';
import { CATEGORIES_FILE } from '../engine/folder.ts';
import type { DataFile } from '../engine/rules.ts';
import { errorCode } from '../files/errors.ts';
import { LIST_NAME, parseCategories, type Reputation } from './reputation.ts';
import { replaceOptions, ruleOptions, type RuleInfo, type RuleOption } from './rule.ts';

const MAX_FILE_BYTES = 64 << 20;
const MAX_SET_BYTES = 128 << 20;
const MAX_NAME = 100;

const SCRIPTS = new Set(['lua', 'luajit', 'luaxform']);
const LISTS = new Set(['filemd5', 'filesha1', 'filesha256']);
const SETS = new Set(['dataset', 'datarep']);
/** Whether a text may name a file at all. */
const MAY_NAME = /\b(?:lua|luajit|luaxform|filemd5|filesha1|filesha256|dataset|datarep|iprep)\s*:/;
const CATEGORIES = [CATEGORIES_FILE, `iprep/${CATEGORIES_FILE}`];

/** What stands in the folder of a set. */
export interface DataSource {
  /** Nothing outside of it is read. */
  root: string;
  /** Whether scripts may be run. */
  allowScripts: boolean;
}

export type WithData =
  | { kind: 'rule'; text: string; data: readonly DataFile[]; reputation?: Reputation }
  | { kind: 'refused'; reason: string };

export interface DataReader {
  /** A rule as the engine is to get it, with the files that it names. */
  read(rule: RuleInfo, source: DataSource): Promise<WithData>;
}

/** What was read for the rules of one set. */
interface Known {
  /** By path. */
  readonly files: Map<string, DataFile>;
  /** Of all of them. */
  bytes: number;
  /** By the path of the categories. */
  readonly reputations: Map<string, Reputation>;
  /** What is wrong with a list, by its name, and what it is to be. */
  readonly checked: Map<string, string | undefined>;
}

/** For the rules of one set: each file is read once. */
export function createDataReader(): DataReader {
  const known: Known = { files: new Map(), bytes: 0, reputations: new Map(), checked: new Map() };
  return { read: (rule, source) => read(known, rule, source) };
}

async function read(known: Known, rule: RuleInfo, source: DataSource): Promise<WithData> {
  if (!MAY_NAME.test(rule.text)) return { kind: 'rule', text: rule.text, data: [] };
  const files = new Map<string, DataFile | undefined>();
  let reputation: Reputation | undefined;
  try {
    for (const option of ruleOptions(rule)) {
      if (option.key === 'iprep') reputation = await reputationOf(known, rule, source, option.value);
      for (const { path, isNeeded } of filesOf(option)) {
        files.set(path, await loadFor(known, rule, source, option, path, isNeeded));
      }
    }
  } catch (error) {
    if (error instanceof DataError) return { kind: 'refused', reason: error.message };
    throw error;
  }
  const text = replaceOptions(rule, (option) => stagedOption(option, files));
  const data = [...files.values()].filter((file) => file !== undefined);
  return { kind: 'rule', text, data, ...(reputation === undefined ? {} : { reputation }) };
}

/** The file that an option names; undefined: there is none, and none is needed. @throws DataError */
async function loadFor(
  known: Known,
  rule: RuleInfo,
  { root, allowScripts }: DataSource,
  option: RuleOption,
  path: string,
  isNeeded: boolean,
): Promise<DataFile | undefined> {
  const { key } = option;
  if (SCRIPTS.has(key) && !allowScripts)
    throw new DataError(`${key}: rules may run no scripts, unless rulesLua is true`);
  const found = await find(path, rule.file, root, key);
  if (found === undefined && isNeeded) {
    throw new DataError(`${key}: there is no file ${shown(path)} beside ${rule.file}`);
  }
  if (found === undefined) return undefined;
  const file = await load(known, found, `${key}: ${shown(path)}`);
  const wrong = wrongLineOf(known, file, option);
  if (wrong !== undefined) throw new DataError(`${key}: ${found}:${wrong}`);
  return file;
}

async function load(known: Known, path: string, where: string): Promise<DataFile> {
  const before = known.files.get(path);
  if (before !== undefined) return before;
  const content = await readPlain(path, where);
  known.bytes += content.length;
  if (known.bytes > MAX_SET_BYTES)
    throw new DataError(`${where}: a set has more than ${MAX_SET_BYTES >> 20} MB of such files`);
  const digest = createHash('sha256').update(content).digest('hex').slice(0, 16);
  const name = `${digest}-${basename(path)
    .replaceAll(/[^\w.+-]/g, '_')
    .slice(-MAX_NAME)}`;
  const file: DataFile = { name, file: path, content };
  known.files.set(path, file);
  return file;
}

function wrongLineOf({ checked }: Known, { name, content }: DataFile, option: RuleOption): string | undefined {
  const expected = SETS.has(option.key) ? listOf(option) : undefined;
  if (expected === undefined) return undefined;
  const key = `${name} ${expected.type} ${expected.hasNumbers}`;
  if (!checked.has(key)) checked.set(key, wrongLine(content, expected));
  return checked.get(key);
}

/** Undefined where the set has none: overrides of the engine's configuration may name some. */
async function reputationOf(
  known: Known,
  rule: RuleInfo,
  { root }: DataSource,
  value: string,
): Promise<Reputation | undefined> {
  const places = await Promise.all(CATEGORIES.map((path) => find(path, rule.file, root, 'iprep')));
  const path = places.find((place) => place !== undefined);
  if (path === undefined) return undefined;
  const reputation = known.reputations.get(path) ?? (await readReputation(known, path, root));
  known.reputations.set(path, reputation);
  const [, category = ''] = value.split(',').map((part) => part.trim());
  if (!reputation.categories.some(({ name }) => name === category))
    throw new DataError(`iprep: ${path} has no category ${shown(category)}`);
  return reputation;
}

async function readReputation(known: Known, path: string, root: string): Promise<Reputation> {
  const names = (await readdir(dirname(path))).filter((name) => LIST_NAME.test(name)).toSorted();
  const found = await Promise.all(names.map((name) => find(name, path, root, 'iprep')));
  const files = [path, ...found.filter((file) => file !== undefined)];
  const texts: string[] = [];
  for (const file of files) texts.push(String((await load(known, file, `iprep: ${shown(file)}`)).content));
  const [categories = '', ...lists] = texts;
  return { categories: parseCategories(categories), list: lists.map((list) => `${list}\n`).join(''), files };
}

/** Why a rule's file can't be had. */
class DataError extends Error {}

/** Files that an option names. A dataset may begin without the one of its state. */
function filesOf({ key, value }: RuleOption): { path: string; isNeeded: boolean }[] {
  if (SCRIPTS.has(key) || LISTS.has(key)) return [{ path: plainPath(value.replace(/^!\s*/, '')), isNeeded: true }];
  if (!SETS.has(key)) return [];
  return partsOf(value).flatMap(({ word, rest }) =>
    word === 'load' || word === 'state' ? [{ path: rest, isNeeded: word === 'load' }] : [],
  );
}

const plainPath = (value: string): string => /^"(.*)"$/s.exec(value.trim())?.[1] ?? value.trim();

/** `isset,name,type string,load ua.lst` */
function partsOf(value: string): { word: string; rest: string; text: string }[] {
  return value.split(',').map((part) => {
    const text = part.trim();
    const [, word = text, rest = ''] = /^(\w+)\s+(.+)$/s.exec(text) ?? [];
    return { word, rest: plainPath(rest), text };
  });
}

/** The option with the engine's own copies in it; undefined where it names no file. */
function stagedOption(option: RuleOption, files: ReadonlyMap<string, DataFile | undefined>): string | undefined {
  const { key, value } = option;
  const staged = (path: string): string | undefined => {
    const file = files.get(path);
    return file === undefined ? undefined : `data/${file.name}`;
  };
  if (SETS.has(key)) {
    const parts = partsOf(value);
    if (!parts.some(({ word, rest }) => rest !== '' && /^(?:load|state|save)$/.test(word))) return undefined;
    const kept = parts.flatMap(({ word, rest, text }) => {
      if (rest === '' || !/^(?:load|state|save)$/.test(word)) return [text];
      const copy = word === 'save' ? undefined : staged(rest);
      return copy === undefined ? [] : [`load ${copy}`];
    });
    return `${key}:${kept.join(',')}`;
  }
  const [only] = filesOf(option);
  const copy = only === undefined ? undefined : staged(only.path);
  return copy === undefined ? undefined : `${key}:${value.startsWith('!') ? '!' : ''}${copy}`;
}

/** Beside the rule's file, else in the set's folder. @throws DataError for what leads out of that. */
async function find(path: string, ruleFile: string, root: string, key: string): Promise<string | undefined> {
  const refused = (why: string): DataError => new DataError(`${key}: ${shown(path)} ${why}`);
  if (path === '' || path.includes('\0')) throw refused('is no name of a file');
  if (path.startsWith('/')) throw refused("is an absolute path: expected one below the set's folder");
  if (path.split('/').includes('..')) throw refused("leads out of the set's folder by ..");
  const realRoot = await realpath(root).catch(() => root);
  for (const folder of new Set([dirname(ruleFile), root])) {
    const real = await realpath(join(folder, path)).catch(() => undefined);
    if (real === undefined) continue;
    const within = relative(realRoot, real);
    if (within.startsWith('..') || within.startsWith('/'))
      throw refused("is a link that leads out of the set's folder");
    return join(folder, path);
  }
  return undefined;
}

async function readPlain(path: string, where: string): Promise<Buffer> {
  try {
    const file = await open(await realpath(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) throw new DataError(`${where} is no plain file`);
      if (stats.size > MAX_FILE_BYTES)
        throw new DataError(`${where} has ${stats.size >> 20} MB: expected at most ${MAX_FILE_BYTES >> 20}`);
      const content = Buffer.alloc(stats.size);
      const { bytesRead } = await file.read(content, 0, stats.size, 0);
      return content.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof DataError) throw error;
    throw new DataError(`${where} cannot be read: ${errorCode(error) ?? String(error)}`);
  }
}

/** What a line of a dataset is, by its type. https://docs.suricata.io/en/suricata-7.0.10/rules/datasets.html */
const LINES: Readonly<Record<string, readonly [is: RegExp | ((text: string) => boolean), what: string]>> = {
  string: [/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, 'base64'],
  md5: [/^[0-9A-Fa-f]{32}$/, 'an MD5 in hexadecimal'],
  sha256: [/^[0-9A-Fa-f]{64}$/, 'a SHA-256 in hexadecimal'],
  ipv4: [(text) => isIP(text) === 4, 'an IPv4 address'],
  ip: [(text) => isIP(text) !== 0, 'an IP address'],
};

/** What a list of a dataset has on each line. */
interface ExpectedList {
  type: string;
  /** Behind a comma, as `datarep` has them. */
  hasNumbers: boolean;
}

/** Undefined where it is a list of another form. */
function listOf({ key, value }: RuleOption): ExpectedList | undefined {
  const parts = partsOf(value);
  const part = (word: string): string | undefined => parts.find((one) => one.word === word)?.rest;
  return (part('format') ?? 'csv') === 'csv' ? { type: part('type') ?? '', hasNumbers: key === 'datarep' } : undefined;
}

/**
 * The first line of a list that is not of its dataset's type, with what is expected: Suricata ends at one, and does not
 * say where it is. Undefined where all are, and for a type that is not known.
 */
function wrongLine(content: Buffer, { type, hasNumbers }: ExpectedList): string | undefined {
  const [is, what] = LINES[type] ?? [];
  if (is === undefined || what === undefined) return undefined;
  const isRight = (text: string): boolean => (typeof is === 'function' ? is(text) : is.test(text));
  for (const [index, line] of content.toString('latin1').split(/\r?\n/).entries()) {
    const [, text = line, number] = hasNumbers ? (/^([^,]*),\s*(\d{1,5})$/.exec(line) ?? []) : [];
    if (line === '' || (isRight(text) && (!hasNumbers || number !== undefined))) continue;
    return `${index + 1}: expected ${what}${hasNumbers ? ', and a number behind a comma' : ''} on each line`;
  }
  return undefined;
}

const shown = (path: string): string => JSON.stringify(path.slice(0, 200));

/** Where the files may be that rules of a text name, and some that only look so; whether they are there or not. */
export function placesNamed(text: string, ruleFile: string, root: string): string[] {
  const folders = [...new Set([dirname(ruleFile), root])];
  const paths = mentionedFiles(text).flatMap((path) => folders.map((folder) => join(folder, path)));
  const lists = paths.filter((path) => basename(path) === CATEGORIES_FILE).flatMap((path) => listsIn(dirname(path)));
  return [...paths, ...lists];
}

/** What tells one state of files from another, without reading them. */
export function fingerprintOf(paths: readonly string[]): string {
  return paths.map(stamp).join();
}

function listsIn(folder: string): string[] {
  try {
    const names = readdirSync(folder).filter((name) => LIST_NAME.test(name));
    return names.toSorted().map((name) => join(folder, name));
  } catch {
    return [];
  }
}

/** Paths that rules of a text may name, each once, and some that only look so. */
export function mentionedFiles(text: string): string[] {
  if (!MAY_NAME.test(text)) return [];
  const found = text.matchAll(
    /\b(?:lua|luajit|luaxform|filemd5|filesha1|filesha256)\s*:\s*!?\s*"?([^";\n]{1,1000})|\b(?:load|state)\s+"?([^",;\n]{1,1000})/g,
  );
  const paths = [...found].map(([, list = '', loaded = '']) => (list || loaded).trim());
  return [...new Set([...paths, ...(/\biprep\s*:/.test(text) ? CATEGORIES : [])])];
}

function stamp(path: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(path);
    return `${path} ${ino} ${size} ${mtimeMs}`;
  } catch {
    return '-';
  }
}
