/**
 * Puts the configuration together: flags over environment over file over defaults, by key. Lists replace each other.
 *
 * Reports every error at once, each with where the value came from. Keys that nobody reads are errors too: a setting
 * with a typing mistake must not look as if it worked. A key without a value (`lanes:` in YAML, an empty variable)
 * counts as not set.
 *
 * Does not check what only the machine can tell: whether paths, users and interfaces exist.
 */
import { hostname } from 'node:os';
import * as z from 'zod';
import { isRecord } from '../files/record.ts';
import { asWritten, describeConfig, ENV_PREFIX, facts, LIST_FORMS } from './describe.ts';
import { nearest } from './nearest.ts';
import type { Config } from './schema.ts';
import { schema } from './schema.ts';
import { plain, shown } from './text.ts';
import type { Path } from './yaml.ts';
import { readYaml } from './yaml.ts';

export type { Config, ConfigEndpoint } from './schema.ts';

export interface ConfigError {
  /** `file:line:column`, `environment variable NAME`, `flag --name`; `default` where one doesn't fit a neighbour. */
  source: string;
  /** Path of the key: `endpoints[1].pod`; empty when it is the source itself that is wrong. */
  key: string;
  /** The value as an error may show it: quoted, bounded, without control characters. Absent when there is none. */
  value?: string;
  /** What is wrong and what is expected. */
  problem: string;
  /** All of it in one line. */
  message: string;
}

export interface ConfigSources {
  /** Path of a YAML file. */
  file?: string;
  env: Record<string, string | undefined>;
  /**
   * By key path (`lanes`, `engine.searchMethod`, `engine.search-method`) or nested as in the file; undefined counts as
   * absent.
   */
  flags: Record<string, unknown>;
}

/** Past this many errors, one more says how many there are. */
const MAX_ERRORS = 100;

/** Where a value came from; `locate` answers for it and for what is inside it. */
interface Origin {
  locate(path: Path, key?: boolean): string;
}

/** @param host the machine's name, which is `node` where neither a source nor NODE_NAME gives one. */
export function loadConfig(
  { file, env, flags }: ConfigSources,
  host: () => string = hostname,
): { config: Config } | { errors: ConfigError[] } {
  const errors: ConfigError[] = [];
  let more = 0;
  const report: Report = (create) => {
    if (errors.length < MAX_ERRORS) errors.push(create());
    else more++;
  };
  const layers = createLayers(report);

  if (env.NODE_NAME) layers.add(['node'], env.NODE_NAME, { locate: () => 'environment variable NODE_NAME' });
  else layers.add(['node'], host(), { locate: () => "the machine's name" });

  if (file !== undefined) {
    const yaml = readYaml(file);
    if ('errors' in yaml) {
      for (const { source, problem } of yaml.errors) report(() => createError(source, '', undefined, problem));
    } else {
      layers.add([], yaml.data, yaml);
    }
  }
  addEnvironment(layers, env, report);
  for (const [name, value] of Object.entries(flags)) {
    layers.add(pathOf(name), value, { locate: () => `flag --${plain(name, 80)}` });
  }

  const parsed = schema.safeParse(layers.values);
  if (parsed.success && errors.length === 0) return { config: parsed.data };
  const seen = new Set<string>();
  for (const issue of parsed.error?.issues ?? []) {
    // One value can break several rules of one key, and is expected to be one thing.
    const place = keyText(issue.path.map(String));
    if (issue.code !== 'custom' && issue.code !== 'unrecognized_keys' && seen.has(place)) continue;
    seen.add(place);
    explain(issue, layers, report);
  }
  if (more > 0) errors.push(createError('configuration', '', undefined, `has ${more} more errors`));
  return { errors };
}

/** Takes an error; one that is past the limit is counted only. */
type Report = (create: () => ConfigError) => void;

function createError(source: string, key: string, value: unknown, problem: string): ConfigError {
  const error: ConfigError = { source, key, problem, message: '' };
  if (value !== undefined) error.value = shown(value);
  error.message =
    [source, key, error.value].filter(Boolean).join(': ') + (key || value !== undefined ? ': ' : ' ') + problem;
  return error;
}

const DEFAULT = 'default';

interface Layers {
  /** What the layers so far amount to. */
  values: Record<string, unknown>;
  /** Lays a value over what is there: key by key where the schema has a group, else as a whole. */
  add(path: Path, value: unknown, origin: Origin): void;
  /** Source of what stands at a path, or of what is nearest to it. */
  locate(path: Path, key?: boolean): string;
}

function createLayers(report: Report): Layers {
  const values: Record<string, unknown> = {};
  const origins = new Map<string, Origin>();

  function add(path: Path, given: unknown, origin: Origin): void {
    if (given === undefined || given === null) return;
    const listKey = LIST_FORMS[keyText(path)];
    if (listKey !== undefined && Array.isArray(given))
      return add([...path, listKey], given, below(origin, path.length));
    const type = schemaAt(path);
    const value = type instanceof z.ZodRecord ? splitPairs(given) : given;
    if (type === undefined || path.at(-1) === '__proto__') {
      report(() => unknownKey(origin.locate(path, true), path));
    } else if (type instanceof z.ZodObject && !isRecord(value)) {
      report(() => createError(origin.locate(path), keyText(path), value, 'expected a mapping of keys to values'));
    } else if ((type instanceof z.ZodObject || type instanceof z.ZodRecord) && isRecord(value)) {
      for (const [name, member] of Object.entries(value)) add([...path, name], member, origin);
    } else {
      // Every other step is a key of the schema.
      let group = values;
      for (const step of path.slice(0, -1)) {
        const next = (group[step] ??= {});
        if (!isRecord(next)) return;
        group = next;
      }
      group[path.at(-1) ?? ''] = value;
      origins.set(keyText(path), origin);
    }
  }

  function locate(path: Path, key?: boolean): string {
    for (let length = path.length; length > 0; length--) {
      const origin = origins.get(keyText(path.slice(0, length)));
      if (origin) return origin.locate(path, key);
    }
    return DEFAULT;
  }

  return { values, add, locate };
}

/** Of a list that stands where its group is expected: the key at this depth is not in the source. */
function below(origin: Origin, depth: number): Origin {
  return { locate: (path, key) => origin.locate(path.toSpliced(depth, 1), key) };
}

/** A mapping as text: `HOME_NET=10.0.0.0/8 EXTERNAL_NET=!$HOME_NET`, or JSON. */
function splitPairs(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  if (value.trim().startsWith('{')) return fromJson(value);
  const pairs = value.split(/\s+/).filter(Boolean);
  const entries = pairs.flatMap((pair) => {
    const [, name, text] = /^([^=]+)=(.+)$/.exec(pair) ?? [];
    return name === undefined || text === undefined ? [] : [[name, text] as const];
  });
  return entries.length === pairs.length ? Object.fromEntries(entries) : value;
}

function fromJson(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

/** Services of the cluster put variables into every container of their namespace: a Service `dpi-agent` makes
 * DPI_AGENT_SERVICE_HOST, DPI_AGENT_PORT_9097_TCP_ADDR and the like. They are not meant for the agent. */
const SERVICE_LINK =
  /^DPI_AGENT_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$/;

function addEnvironment(layers: Layers, env: ConfigSources['env'], report: Report): void {
  const keys = new Map(describeConfig().flatMap(({ key, env: name }) => (name === undefined ? [] : [[name, key]])));
  for (const [name, value] of Object.entries(env)) {
    // DPI_AGENT_TEST_… is for the project's tests, which pass their environment on.
    if (!name.startsWith(ENV_PREFIX) || name.startsWith(`${ENV_PREFIX}TEST_`) || value === undefined) continue;
    const path = keys.get(name)?.split('.');
    const source = `environment variable ${plain(name, 80)}`;
    if (path === undefined) {
      if (SERVICE_LINK.test(name)) continue;
      // All begin alike: that makes none nearer.
      const suffixes = [...keys.keys()].map((known) => known.slice(ENV_PREFIX.length));
      const advice = nearestText(name.slice(ENV_PREFIX.length), suffixes, ENV_PREFIX);
      report(() => createError(source, '', undefined, `is unknown${advice}`));
    } else if (value !== '' || schemaAt(path) instanceof z.ZodArray) {
      layers.add(path, value, { locate: () => source });
    }
  }
}

function explain(issue: z.core.$ZodIssue, layers: Layers, report: Report): void {
  const path = issue.path.map((step) => (typeof step === 'symbol' ? String(step) : step));
  if (issue.code === 'unrecognized_keys') {
    for (const key of issue.keys) report(() => unknownKey(layers.locate([...path, key], true), [...path, key]));
    return;
  }
  report(() => {
    const value = valueAt(layers.values, path);
    let source = layers.locate(path);
    let problem = issue.message;
    if (issue.code === 'custom' && isPath(issue.params?.other)) {
      // A rule between two keys. Where one of them is a default, the other's place is the one to look at.
      const other = layers.locate(issue.params.other);
      if (source === DEFAULT) source = other;
      else if (other !== DEFAULT) problem += ` (${other})`;
    } else if (issue.code !== 'custom' || problem === 'Invalid input') {
      problem = `${value === undefined ? 'missing; ' : ''}expected ${expectedAt(path)}`;
    }
    return createError(source, keyText(path), value, problem);
  });
}

function isPath(value: unknown): value is Path {
  return Array.isArray(value);
}

const KNOWN = new Set(describeConfig().flatMap(({ key }) => [key, ...key.split('.').slice(0, -1)]));

function unknownKey(source: string, path: Path): ConfigError {
  const name = keyText(path).replaceAll(/\[\d+\]/g, '[]');
  return createError(source, keyText(path), undefined, `unknown key${nearestText(name, KNOWN)}`);
}

/** @param prefix Of both. */
function nearestText(name: string, known: Iterable<string>, prefix = ''): string {
  const meant = nearest(name, known);
  return meant === undefined ? '; docs/configuration.md lists all' : `; the nearest known one is ${prefix}${meant}`;
}

/** Whether a flag is a key of the configuration. */
export function isKnownKey(name: string): boolean {
  return schemaAt(pathOf(name)) !== undefined;
}

/** `search-method`, as flags are written, and `searchMethod`. */
function pathOf(name: string): string[] {
  return name.split('.').map((part) => part.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()));
}

/** The schema of a key, without defaults and conversions; undefined for a key that there is not. */
function schemaAt(path: Path): z.core.$ZodType | undefined {
  let type: z.core.$ZodType = schema;
  for (const step of path) {
    const next: z.core.$ZodType | undefined = child(type, step);
    if (next === undefined) return undefined;
    type = facts(next).inner;
  }
  return type;
}

function child(type: z.core.$ZodType, step: string | number): z.core.$ZodType | undefined {
  if (type instanceof z.ZodObject) return Object.hasOwn(type.shape, step) ? type.shape[String(step)] : undefined;
  if (type instanceof z.ZodArray) return type.element;
  if (type instanceof z.ZodRecord) return type.valueType;
  return undefined;
}

/** What the innermost key around a path expects, in words. */
function expectedAt(path: Path): string {
  let type: z.core.$ZodType = schema;
  let expected = 'a mapping of keys to values';
  for (const step of path) {
    const next = child(type, step);
    if (next === undefined) break;
    const known = facts(next);
    if (known.inner instanceof z.ZodObject && known.expected === undefined) expected = 'a mapping of keys to values';
    else expected = known.expected ?? expected;
    type = known.inner;
  }
  return expected;
}

function valueAt(values: unknown, path: Path): unknown {
  let value = values;
  for (const step of path) {
    if (Array.isArray(value) && typeof step === 'number') value = value[step];
    else if (isRecord(value) && Object.hasOwn(value, step)) value = value[step];
    // An item of a list that is given as text: the text.
    else return typeof value === 'string' ? value : undefined;
  }
  return value;
}

/** `endpoints[1].pod`; unknown keys are text from outside. */
function keyText(path: Path): string {
  const text = path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : (index ? '.' : '') + plain(step, 80)))
    .join('');
  return asWritten(text);
}
