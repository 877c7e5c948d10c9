/**
 * Downloads a rule set and puts it in place; goes back to the one before.
 *
 *     <rulesDirectory>/.versions/<set>/<version>/     its rule files, and version.json
 *     <rulesDirectory>/.versions/<set>/.source.json   what its source last had, and whether that was refused
 *     <rulesDirectory>/.versions/<set>/.pinned        there while nobody but an operator changes the set
 *     <rulesDirectory>/<set>                          a link to the version in use
 *
 * Invariants: the link always leads to a whole version that is on disk, also after a crash at any moment, because it is
 * replaced in one step; the version in use and the one before are kept, until a new one has been proven. A secret is in
 * none of these files. Bounded: fetch.ts bounds what is downloaded, archive.ts what is unpacked, and a time all of it.
 *
 * Not promised: that two updates of one set at the same time keep each other's version.
 */
import { randomBytes } from 'node:crypto';
import {
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { isNativeError } from 'node:util/types';
import { errorCode } from '../files/errors.ts';
import { isThere } from '../files/folder.ts';
import { isRecord } from '../files/record.ts';
import { replaceFile, syncDirectory } from '../files/replace.ts';
import { unpackRules } from './archive.ts';
import { decodeRules } from './encoding.ts';
import {
  fetchSource,
  shownWithout,
  UpdateError,
  type Fetched,
  type FetchOptions,
  type Shown,
  type Validators,
} from './fetch.ts';
import { maskUrls } from './mask.ts';
import { parseRules } from './rule.ts';
import { ArchiveError } from './shelf.ts';

const KEPT_VERSIONS = 2;
/** After which what a killed update left is nobody's. */
const LEFT_MILLIS = 3_600_000;
const STATE_FILE = '.source.json';
const PIN_FILE = '.pinned';
/** A set of which more than this share can't be read is something else. */
const MAX_UNREADABLE_SHARE = 0.1;

/** The source has a version, and it is not used. */
export class RefusedError extends UpdateError {}

export interface UpdateOptions extends FetchOptions {
  rulesDirectory: string;
  set: string;
  /** For all of the download. */
  timeoutMillis: number;
  /** And unpacked; 256 MiB unless given. */
  maxUnpackedBytes?: number;
  signal?: AbortSignal;
  /** Somebody asks for it: bytes are tried that were refused before, and what was rolled back is changed. */
  again?: boolean;
  /** Looks at the new version's folder before it goes live. @throws to keep it from that. */
  check?: (directory: string) => Promise<void>;
  /** Whether it inspects, once it is live; else the version before comes back. @returns what is wrong. */
  prove?: () => Promise<string | undefined>;
  now?: () => Date;
}

export interface InstalledVersion extends Pick<Fetched, 'sha256' | 'verified'> {
  version: string;
  /** Where it came from, without secrets. */
  source: string;
  /** RFC 3339. */
  installedAt: string;
  rules: number;
  /** Places in its files that are no rules. */
  problems: number;
}

export interface UpdateResult extends InstalledVersion {
  /** False where it is the version that was in use already. */
  changed: boolean;
  directory: string;
}

/** Of what a source last had. */
interface SourceState extends Validators {
  /** Where it was, without secrets. */
  source: string;
  /** Of the bytes that the validators are about. */
  sha256: string;
  /** Why they are not used. */
  refused?: string;
}

/**
 * @throws RefusedError for a version that is not to be used, UpdateError that says what else is wrong; nothing has
 * changed then.
 */
export async function updateSet(asked: UpdateOptions): Promise<UpdateResult> {
  const options = { ...asked, from: withoutFileScheme(asked.from) };
  const { rulesDirectory, set, from } = options;
  const shown = shownWithout(options.secret?.value);
  await assertOurs(join(rulesDirectory, set));
  const late = AbortSignal.timeout(options.timeoutMillis);
  const signal = AbortSignal.any([late, ...(options.signal === undefined ? [] : [options.signal])]);
  const staging = join(versionsOf(rulesDirectory, set), `.new-${process.pid}-${randomBytes(4).toString('hex')}`);
  try {
    await mkdir(staging, { recursive: true, mode: 0o755 });
    return await takeNewest(options, staging, signal, shown);
  } catch (error) {
    if (error instanceof UpdateError) throw error;
    if (options.signal?.aborted === true) throw new UpdateError(`${shown(from)}: was interrupted`);
    if (late.aborted) throw new UpdateError(`${shown(from)}: was not there after ${options.timeoutMillis} ms`);
    throw asUpdateError(error, rulesDirectory, from, shown);
  } finally {
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
  }
}

async function takeNewest(
  options: UpdateOptions,
  staging: string,
  signal: AbortSignal,
  shown: Shown,
): Promise<UpdateResult> {
  const { rulesDirectory, set, from, again = false } = options;
  const versions = versionsOf(rulesDirectory, set);
  const inUse = await installedSet(rulesDirectory, set);
  const state = await readState(versions, from);
  const isKnown = state !== undefined && (state.refused === undefined ? state.sha256 === inUse?.sha256 : !again);
  const file = join(staging, '.download');
  const fetched = await fetchSource(options, file, isKnown ? state : {}, signal);
  const isOld = fetched.is === 'not modified' || fetched.sha256 === state?.sha256;
  if (isOld && !again && state?.refused !== undefined) throw new RefusedError(state.refused);
  if (inUse !== undefined && (fetched.is === 'not modified' || fetched.sha256 === inUse.sha256)) {
    if (fetched.is === 'fetched') await writeState(versions, from, fetched);
    return { ...inUse, changed: false, directory: join(versions, inUse.version) };
  }
  if (fetched.is === 'not modified') throw new UpdateError(`${shown(from)}: answered with status 304`);
  const installed = await refusing(options, fetched, shown, () => install(options, fetched, staging, shown));
  await writeState(versions, from, fetched);
  return installed;
}

/** Remembers what is refused: it is not tried at each look. */
async function refusing<T>(
  { rulesDirectory, set, from }: UpdateOptions,
  fetched: Fetched,
  shown: Shown,
  action: () => Promise<T>,
): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof RefusedError || error instanceof ArchiveError) {
      const refused = error instanceof RefusedError ? error.message : `${shown(from)}: ${shown(error.message)}`;
      await writeState(versionsOf(rulesDirectory, set), from, fetched, refused);
      throw new RefusedError(refused);
    }
    throw error;
  }
}

/** Makes a version of it in `staging`, and puts that into use. */
async function install(options: UpdateOptions, fetched: Fetched, staging: string, shown: Shown): Promise<UpdateResult> {
  const { rulesDirectory, set, from, now = (): Date => new Date() } = options;
  const file = join(staging, '.download');
  const { inner } = await unpackRules(file, nameOf(from), staging, options.maxUnpackedBytes);
  await rm(file);
  const counts = await countRules(staging, from, inner, shown);
  const time = now();
  const version = `${time.toISOString().replace(/[-:]/g, '').replace(/\..*/, 'Z')}-${fetched.sha256.slice(0, 12)}`;
  const installed: InstalledVersion = {
    version,
    source: maskUrls(from),
    sha256: fetched.sha256,
    verified: fetched.verified,
    installedAt: time.toISOString(),
    ...counts,
  };
  await writeFile(join(staging, 'version.json'), `${JSON.stringify(installed, null, 2)}\n`, { mode: 0o644 });
  await options.check?.(staging);
  options.signal?.throwIfAborted();
  if (options.again !== true && (await isPinned(rulesDirectory, set)))
    throw new UpdateError(`${shown(from)}: ${set} was rolled back meanwhile`);
  const versions = versionsOf(rulesDirectory, set);
  const directory = join(versions, version);
  const before = await readlink(join(rulesDirectory, set)).catch(() => undefined);
  await syncFiles(staging);
  await rm(directory, { recursive: true, force: true });
  await rename(staging, directory);
  await syncDirectory(versions);
  await pointTo(join(rulesDirectory, set), join('.versions', set, version));
  await prove(options, directory, before);
  await prune(rulesDirectory, set, version);
  return { ...installed, changed: true, directory };
}

/** Brings the version before back where the new one does not inspect. @throws RefusedError */
async function prove(options: UpdateOptions, directory: string, before: string | undefined): Promise<void> {
  const problem = await options.prove?.();
  if (problem === undefined) return;
  const link = join(options.rulesDirectory, options.set);
  if (before === undefined) await rm(link, { force: true });
  else await pointTo(link, before);
  await rm(directory, { recursive: true, force: true });
  await options.prove?.();
  throw new RefusedError(problem);
}

/** So that a power cut after the link is replaced takes nothing of it. */
async function syncFiles(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await syncDirectory(path);
    if (!entry.isFile()) continue;
    const handle = await open(path, 'r');
    await handle.sync().finally(() => handle.close());
  }
  await syncDirectory(directory);
}

/** `file:` is another way to name a path, also a relative one. */
function withoutFileScheme(from: string): string {
  if (!/^file:/i.test(from)) return from;
  return /^file:\/\//i.test(from) && URL.canParse(from)
    ? decodeURIComponent(new URL(from).pathname)
    : from.slice('file:'.length);
}

/**
 * Puts the kept version that is not in use into use, and pins the set to it; a second time goes forward again.
 * @throws UpdateError
 */
export async function rollBack(rulesDirectory: string, set: string): Promise<InstalledVersion> {
  const link = join(rulesDirectory, set);
  const versions = versionsOf(rulesDirectory, set);
  try {
    await assertOurs(link);
    const current = await installedSet(rulesDirectory, set);
    const other = (await listVersions(versions)).toReversed().find((version) => version !== current?.version);
    const found = other === undefined ? undefined : await readVersion(join(versions, other));
    if (other === undefined || found === undefined)
      throw new UpdateError(`no other version of ${set} is kept in ${versions}`);
    // First: what comes in between would bring the newest back.
    await replaceFile(join(versions, PIN_FILE), `${other}\n`, 0o644);
    await pointTo(link, join('.versions', set, other));
    return found;
  } catch (error) {
    throw asUpdateError(error, rulesDirectory, set, shownWithout(undefined));
  }
}

/** The version in use of a set that was downloaded; undefined of any other. */
export async function installedSet(rulesDirectory: string, set: string): Promise<InstalledVersion | undefined> {
  const target = await readlink(join(rulesDirectory, set)).catch(() => undefined);
  if (target === undefined || !target.startsWith(join('.versions', set))) return undefined;
  return readVersion(join(rulesDirectory, target));
}

/**
 * The folder of a kept version: by its name, or by a beginning that no other has; `previous`: the newest that is not in
 * use. @throws UpdateError that says which there are.
 */
export async function findVersion(rulesDirectory: string, set: string, name: string): Promise<string> {
  const versions = versionsOf(rulesDirectory, set);
  const kept = await listVersions(versions);
  const current = await installedSet(rulesDirectory, set);
  const found =
    name === 'previous'
      ? kept.filter((version) => version !== current?.version).slice(-1)
      : kept.filter((version) => version.startsWith(name));
  const [only] = found;
  if (only !== undefined && found.length === 1) return join(versions, only);
  throw new UpdateError(`there is no version ${name} of ${set}; there is: ${kept.join(', ') || 'none'}`);
}

const versionsOf = (rulesDirectory: string, set: string): string => join(rulesDirectory, '.versions', set);

async function readVersion(directory: string): Promise<InstalledVersion | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(directory, 'version.json'), 'utf8'));
    if (!isRecord(value) || !('version' in value) || !('sha256' in value)) return undefined;
    const installed = value as unknown as InstalledVersion;
    // Earlier agents wrote it as it was given.
    return { ...installed, source: maskUrls(installed.source) };
  } catch {
    return undefined;
  }
}

/** Oldest first: their names begin with the time. */
async function listVersions(versions: string): Promise<string[]> {
  const names = await readdir(versions).catch(() => []);
  return names.filter((name) => !name.startsWith('.')).toSorted();
}

async function prune(rulesDirectory: string, set: string, current: string): Promise<void> {
  const versions = versionsOf(rulesDirectory, set);
  const others = (await listVersions(versions)).filter((version) => version !== current);
  for (const version of others.slice(0, Math.max(0, others.length - (KEPT_VERSIONS - 1)))) {
    await rm(join(versions, version), { recursive: true, force: true });
  }
  await removeLeft(versions, '.new-');
  await removeLeft(rulesDirectory, `.${set}.new-`);
}

/** What updates left that were killed an hour ago or more. */
async function removeLeft(directory: string, prefix: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(directory, name);
    const { mtimeMs } = await lstat(path).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > LEFT_MILLIS) await rm(path, { recursive: true, force: true });
  }
}

async function pointTo(link: string, target: string): Promise<void> {
  const directory = dirname(link);
  const next = join(directory, `.${basename(link)}.new-${process.pid}`);
  await rm(next, { force: true });
  await symlink(target, next);
  await rename(next, link);
  await syncDirectory(directory);
}

async function readState(versions: string, from: string): Promise<SourceState | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(versions, STATE_FILE), 'utf8'));
    if (!isRecord(value) || typeof value['sha256'] !== 'string') return undefined;
    return value['source'] === maskUrls(from) ? (value as unknown as SourceState) : undefined;
  } catch {
    return undefined;
  }
}

async function writeState(versions: string, from: string, fetched: Fetched, refused?: string): Promise<void> {
  const { sha256, etag, lastModified } = fetched;
  // What is undefined is left out.
  const state = JSON.stringify({ source: maskUrls(from), sha256, etag, lastModified, refused }, null, 2);
  await replaceFile(join(versions, STATE_FILE), `${state}\n`, 0o644);
}

/** Whether nobody but an operator changes the set: it was rolled back, and not released. */
export async function isPinned(rulesDirectory: string, set: string): Promise<boolean> {
  return isThere(join(versionsOf(rulesDirectory, set), PIN_FILE), { stat });
}

/** @returns whether it was pinned. */
export async function releasePin(rulesDirectory: string, set: string): Promise<boolean> {
  const wasPinned = await isPinned(rulesDirectory, set);
  if (wasPinned) await rm(join(versionsOf(rulesDirectory, set), PIN_FILE), { force: true });
  return wasPinned;
}

/** A folder that somebody else made is not replaced. */
async function assertOurs(link: string): Promise<void> {
  const found = await lstat(link).catch(() => undefined);
  if (found === undefined || found.isSymbolicLink()) return;
  throw new UpdateError(`${link} is no link to a downloaded version: move it away, or name another set with --set`);
}

/** What a URL or a path calls a file. */
function nameOf(from: string): string {
  return basename(new URL(from, 'file:///').pathname);
}

async function countRules(
  directory: string,
  from: string,
  inner: string | undefined,
  shown: Shown,
): Promise<{ rules: number; problems: number }> {
  let rules = 0;
  let problems = 0;
  for (const name of await readdir(directory, { recursive: true })) {
    if (!name.endsWith('.rules')) continue;
    const decoded = decodeRules(await readFile(join(directory, name)));
    if ('problem' in decoded) throw new UpdateError(`${shown(from)}: ${name}: ${decoded.problem}`);
    const parsed = parseRules(decoded.text, { file: name });
    rules += parsed.rules.length;
    problems += parsed.problems.length + parsed.unlistedProblems;
  }
  if (rules === 0) {
    const hint = inner === undefined ? 'is it a web page?' : `they may be in ${shown(inner)}, which is in it`;
    throw new UpdateError(`${shown(from)}: has no rules: ${hint}`);
  }
  if (problems > MAX_UNREADABLE_SHARE * rules) {
    throw new UpdateError(
      `${shown(from)}: has ${rules} ${rules === 1 ? 'rule' : 'rules'}, and ${problems} places that are none: it is not used`,
    );
  }
  return { rules, problems };
}

const ADVICE: Record<string, string> = {
  EROFS: 'it is read-only',
  EACCES: 'permission denied',
  ENOSPC: 'the disk is full',
};

function asUpdateError(error: unknown, rulesDirectory: string, about: string, shown: Shown): UpdateError {
  if (error instanceof UpdateError) return error;
  if (!isNativeError(error)) return new UpdateError(`${shown(about)}: ${shown(String(error))}`);
  const code = errorCode(error) ?? '';
  const advice = ADVICE[code];
  if (advice !== undefined) return new UpdateError(`cannot write ${rulesDirectory}: ${advice}`);
  if (code.startsWith('Z_')) return new UpdateError(`${shown(about)}: is no whole gzip file: ${shown(error.message)}`);
  const cause = isNativeError(error.cause) ? error.cause.message : '';
  const texts = [error.message, cause].filter((text) => text !== '').join(': ');
  return new UpdateError(`${shown(about)}: ${shown(texts === '' ? code : texts)}`);
}
