/**
 * Downloads a rule set and puts it in place; goes back to the one before.
 *
 *     <rulesDirectory>/.versions/<set>/<version>/     its rule files, and version.json
 *     <rulesDirectory>/.versions/<set>/.source.json   what its source last had, and whether that was refused
 *     <rulesDirectory>/.versions/<set>/.pinned        there while nobody but an operator changes the set
 *     <rulesDirectory>/.versions/<set>/.unproven.json  there from before a version goes live until it is proven
 *     <rulesDirectory>/<set>                          a link to the version in use
 *
 * Invariants: the link always leads to a whole version that is on disk, also after a crash at any moment, because it is
 * replaced in one step; the version in use and the one before are kept, until a new one has been proven; one that was
 * to be proven and is not, because the process ended, is left by the next start (unproven.ts). A secret is in none of
 * these files. Bounded: fetch.ts bounds what is downloaded, archive.ts what is unpacked, and a time all of it.
 *
 * Not promised: that two updates of one set at the same time keep each other's version.
 */
import { randomBytes } from 'node:crypto';
import { basename, join, relative } from 'node:path';
import { isNativeError } from 'node:util/types';
import { errorCode } from '../files/errors.ts';
import { isThere, makeDirectory } from '../files/folder.ts';
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
import { forgetUnproven, noteUnproven } from './unproven.ts';
import { nodeVersionFiles, pointTo, removeLink, versionsOf, type VersionFiles } from './version-files.ts';

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
  /**
   * Whether it inspects, once it is live; else the version before comes back.
   * @returns what is wrong. @throws UpdateError where that can't be told: then it is tried again.
   */
  prove?: () => Promise<string | undefined>;
  now?: () => Date;
  system?: Partial<UpdateSystem>;
}

/** What is around updates: node's own, or a simulated one. */
export interface UpdateSystem {
  files: VersionFiles;
  fetch: typeof fetchSource;
  unpack: typeof unpackRules;
  /** Another one for each update at the same time. */
  id: () => string;
}

const nodeSystem: UpdateSystem = {
  files: nodeVersionFiles,
  fetch: fetchSource,
  unpack: unpackRules,
  id: () => `${process.pid}-${randomBytes(4).toString('hex')}`,
};

/** With what is around it. */
type Update = Omit<UpdateOptions, 'system'> & { system: UpdateSystem };

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
  const options: Update = {
    ...asked,
    from: withoutFileScheme(asked.from),
    system: { ...nodeSystem, ...asked.system },
  };
  const { rulesDirectory, set, from, system } = options;
  const { files } = system;
  const shown = shownWithout(options.secret?.value);
  await assertOurs(join(rulesDirectory, set), files);
  const late = AbortSignal.timeout(options.timeoutMillis);
  const signal = AbortSignal.any([late, ...(options.signal === undefined ? [] : [options.signal])]);
  const staging = join(versionsOf(rulesDirectory, set), `.new-${system.id()}`);
  try {
    await makeDirectory(versionsOf(rulesDirectory, set), 0o755, files);
    await files.mkdir(staging, { recursive: true, mode: 0o755 });
    return await takeNewest(options, staging, signal, shown);
  } catch (error) {
    if (error instanceof UpdateError) throw error;
    if (options.signal?.aborted === true) throw new UpdateError(`${shown(from)}: was interrupted`);
    if (late.aborted) throw new UpdateError(`${shown(from)}: was not there after ${options.timeoutMillis} ms`);
    throw asUpdateError(error, rulesDirectory, from, shown);
  } finally {
    await files.rm(staging, { recursive: true, force: true }).catch(() => undefined);
  }
}

async function takeNewest(options: Update, staging: string, signal: AbortSignal, shown: Shown): Promise<UpdateResult> {
  const { rulesDirectory, set, from, again = false, system } = options;
  const { files } = system;
  const versions = versionsOf(rulesDirectory, set);
  const inUse = await installedSet(rulesDirectory, set, files);
  const state = await readState(versions, from, files);
  const isKnown = state !== undefined && (state.refused === undefined ? state.sha256 === inUse?.sha256 : !again);
  const file = join(staging, '.download');
  const fetched = await system.fetch(options, file, isKnown ? state : {}, signal);
  const isOld = fetched.is === 'not modified' || fetched.sha256 === state?.sha256;
  if (isOld && !again && state?.refused !== undefined) throw new RefusedError(state.refused);
  if (inUse !== undefined && (fetched.is === 'not modified' || fetched.sha256 === inUse.sha256)) {
    if (fetched.is === 'fetched') await writeState(versions, from, fetched, files);
    return { ...inUse, changed: false, directory: join(versions, inUse.version) };
  }
  if (fetched.is === 'not modified') throw new UpdateError(`${shown(from)}: answered with status 304`);
  const installed = await refusing(options, fetched, shown, () => install(options, fetched, staging, shown));
  await writeState(versions, from, fetched, files);
  return installed;
}

/** Remembers what is refused: it is not tried at each look. */
async function refusing<T>(
  { rulesDirectory, set, from, system }: Update,
  fetched: Fetched,
  shown: Shown,
  action: () => Promise<T>,
): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof RefusedError || error instanceof ArchiveError) {
      const refused = error instanceof RefusedError ? error.message : `${shown(from)}: ${shown(error.message)}`;
      await writeState(versionsOf(rulesDirectory, set), from, fetched, system.files, refused);
      throw new RefusedError(refused);
    }
    throw error;
  }
}

/** Makes a version of it in `staging`, and puts that into use. */
async function install(options: Update, fetched: Fetched, staging: string, shown: Shown): Promise<UpdateResult> {
  const { rulesDirectory, set, from, now = (): Date => new Date(), system } = options;
  const { files } = system;
  const file = join(staging, '.download');
  const { inner } = await system.unpack(file, nameOf(from), staging, options.maxUnpackedBytes);
  await files.rm(file, { force: true });
  const counts = await countRules(staging, from, inner, shown, files);
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
  await files.writeFile(join(staging, 'version.json'), `${JSON.stringify(installed, null, 2)}\n`, { mode: 0o644 });
  await options.check?.(staging);
  options.signal?.throwIfAborted();
  if (options.again !== true && (await isPinned(rulesDirectory, set, files)))
    throw new UpdateError(`${shown(from)}: ${set} was rolled back meanwhile`);
  const versions = versionsOf(rulesDirectory, set);
  const directory = join(versions, version);
  const before = await files.readlink(join(rulesDirectory, set)).catch(() => undefined);
  await syncFiles(staging, files);
  await files.rm(directory, { recursive: true, force: true });
  await files.rename(staging, directory);
  await syncDirectory(versions, files);
  if (options.prove !== undefined) await noteUnproven(versions, version, before, files);
  await pointTo(join(rulesDirectory, set), join('.versions', set, version), files);
  if (options.prove !== undefined) await prove({ ...options, prove: options.prove }, directory, before);
  await prune(rulesDirectory, set, version, files);
  return { ...installed, changed: true, directory };
}

/**
 * Brings the version before back where the new one does not inspect.
 * @throws RefusedError, what `prove` throws, and the signal's reason where all ends meanwhile:
 * the next start leaves it.
 */
async function prove(
  { rulesDirectory, set, prove: isProven, signal, system: { files } }: Update & Required<Pick<Update, 'prove'>>,
  directory: string,
  before: string | undefined,
): Promise<void> {
  const refusal = await isProven().then(
    (problem) => (problem === undefined ? undefined : new RefusedError(problem)),
    (error: unknown) => error,
  );
  // Who ends says nothing of it.
  signal?.throwIfAborted();
  const versions = versionsOf(rulesDirectory, set);
  if (refusal === undefined) return forgetUnproven(versions, files);
  const link = join(rulesDirectory, set);
  if (before === undefined) await removeLink(link, files);
  else await pointTo(link, before, files);
  await files.rm(directory, { recursive: true, force: true });
  await forgetUnproven(versions, files);
  await isProven().catch(() => undefined);
  throw refusal;
}

/** So that a power cut after the link is replaced takes nothing of it. */
async function syncFiles(directory: string, files: VersionFiles): Promise<void> {
  for await (const { path, isFile } of below(directory, files)) {
    if (!isFile) await syncDirectory(path, files);
    else {
      const handle = await files.open(path, 'r');
      await handle.sync().finally(() => handle.close());
    }
  }
  await syncDirectory(directory, files);
}

/** The files and folders in a folder and in those. */
async function* below(directory: string, files: VersionFiles): AsyncGenerator<{ path: string; isFile: boolean }> {
  for (const entry of await files.readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* below(path, files);
    if (entry.isDirectory() || entry.isFile()) yield { path, isFile: entry.isFile() };
  }
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
  const files = nodeVersionFiles;
  const link = join(rulesDirectory, set);
  const versions = versionsOf(rulesDirectory, set);
  try {
    await assertOurs(link, files);
    const current = await installedSet(rulesDirectory, set);
    const other = (await listVersions(versions, files)).toReversed().find((version) => version !== current?.version);
    const found = other === undefined ? undefined : await readVersion(join(versions, other), files);
    if (other === undefined || found === undefined)
      throw new UpdateError(`no other version of ${set} is kept in ${versions}`);
    // First: what comes in between would bring the newest back.
    await replaceFile(join(versions, PIN_FILE), `${other}\n`, 0o644);
    await pointTo(link, join('.versions', set, other), files);
    return found;
  } catch (error) {
    throw asUpdateError(error, rulesDirectory, set, shownWithout(undefined));
  }
}

/**
 * Leaves a version that is in use and did not inspect elsewhere: the one before is back, where there is one, and the
 * source's bytes are not tried again. Does nothing where another version is in use by now.
 * @throws the system's error.
 */
export async function leaveRefused(
  rulesDirectory: string,
  set: string,
  { version, reason }: { version: string; reason: string },
): Promise<void> {
  const files = nodeVersionFiles;
  const current = await installedSet(rulesDirectory, set);
  if (current?.version !== version) return;
  const versions = versionsOf(rulesDirectory, set);
  const { sha256, source, verified } = current;
  await writeState(versions, source, { is: 'fetched', sha256, verified }, files, reason);
  const before = (await listVersions(versions, files)).toReversed().find((other) => other !== version);
  if (before === undefined) return;
  await pointTo(join(rulesDirectory, set), join('.versions', set, before), files);
  await files.rm(join(versions, version), { recursive: true, force: true });
}

/** The version in use of a set that was downloaded; undefined of any other. */
export async function installedSet(
  rulesDirectory: string,
  set: string,
  files = nodeVersionFiles,
): Promise<InstalledVersion | undefined> {
  const target = await files.readlink(join(rulesDirectory, set)).catch(() => undefined);
  if (target === undefined || !target.startsWith(join('.versions', set))) return undefined;
  return readVersion(join(rulesDirectory, target), files);
}

/**
 * The folder of a kept version: by its name, or by a beginning that no other has; `previous`: the newest that is not in
 * use. @throws UpdateError that says which there are.
 */
export async function findVersion(rulesDirectory: string, set: string, name: string): Promise<string> {
  const versions = versionsOf(rulesDirectory, set);
  const kept = await listVersions(versions, nodeVersionFiles);
  const current = await installedSet(rulesDirectory, set);
  const found =
    name === 'previous'
      ? kept.filter((version) => version !== current?.version).slice(-1)
      : kept.filter((version) => version.startsWith(name));
  const [only] = found;
  if (only !== undefined && found.length === 1) return join(versions, only);
  throw new UpdateError(`there is no version ${name} of ${set}; there is: ${kept.join(', ') || 'none'}`);
}

async function readVersion(directory: string, files: VersionFiles): Promise<InstalledVersion | undefined> {
  try {
    const value: unknown = JSON.parse((await files.readFile(join(directory, 'version.json'))).toString());
    if (!isRecord(value) || !('version' in value) || !('sha256' in value)) return undefined;
    const installed = value as unknown as InstalledVersion;
    // Earlier agents wrote it as it was given.
    return { ...installed, source: maskUrls(installed.source) };
  } catch {
    return undefined;
  }
}

/** Oldest first: their names begin with the time. */
async function listVersions(versions: string, files: VersionFiles): Promise<string[]> {
  const names = await namesIn(versions, files).catch(() => []);
  return names.filter((name) => !name.startsWith('.')).toSorted();
}

async function namesIn(directory: string, files: VersionFiles): Promise<string[]> {
  return (await files.readdir(directory, { withFileTypes: true })).map(({ name }) => name);
}

async function prune(rulesDirectory: string, set: string, current: string, files: VersionFiles): Promise<void> {
  const versions = versionsOf(rulesDirectory, set);
  const others = (await listVersions(versions, files)).filter((version) => version !== current);
  for (const version of others.slice(0, Math.max(0, others.length - (KEPT_VERSIONS - 1)))) {
    await files.rm(join(versions, version), { recursive: true, force: true });
  }
  await removeLeft(versions, '.new-', files);
  await removeLeft(rulesDirectory, `.${set}.new-`, files);
}

/** What updates left that were killed an hour ago or more. */
async function removeLeft(directory: string, prefix: string, files: VersionFiles): Promise<void> {
  for (const name of await namesIn(directory, files)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(directory, name);
    const { mtimeMs } = await files.lstat(path).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > LEFT_MILLIS) await files.rm(path, { recursive: true, force: true });
  }
}

async function readState(versions: string, from: string, files: VersionFiles): Promise<SourceState | undefined> {
  try {
    const value: unknown = JSON.parse((await files.readFile(join(versions, STATE_FILE))).toString());
    if (!isRecord(value) || typeof value['sha256'] !== 'string') return undefined;
    return value['source'] === maskUrls(from) ? (value as unknown as SourceState) : undefined;
  } catch {
    return undefined;
  }
}

async function writeState(
  versions: string,
  from: string,
  fetched: Fetched,
  files: VersionFiles,
  refused?: string,
): Promise<void> {
  const { sha256, etag, lastModified } = fetched;
  // What is undefined is left out.
  const state = JSON.stringify({ source: maskUrls(from), sha256, etag, lastModified, refused }, null, 2);
  await replaceFile(join(versions, STATE_FILE), `${state}\n`, 0o644, files);
}

/** Whether nobody but an operator changes the set: it was rolled back, and not released. */
export async function isPinned(rulesDirectory: string, set: string, files = nodeVersionFiles): Promise<boolean> {
  return isThere(join(versionsOf(rulesDirectory, set), PIN_FILE), files);
}

/** @returns whether it was pinned. */
export async function releasePin(rulesDirectory: string, set: string): Promise<boolean> {
  const wasPinned = await isPinned(rulesDirectory, set);
  if (wasPinned) await nodeVersionFiles.rm(join(versionsOf(rulesDirectory, set), PIN_FILE), { force: true });
  return wasPinned;
}

/** A folder that somebody else made is not replaced. */
async function assertOurs(link: string, files: VersionFiles): Promise<void> {
  const found = await files.lstat(link).catch(() => undefined);
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
  files: VersionFiles,
): Promise<{ rules: number; problems: number }> {
  let rules = 0;
  let problems = 0;
  for await (const { path, isFile } of below(directory, files)) {
    if (!isFile || !path.endsWith('.rules')) continue;
    const name = relative(directory, path);
    const decoded = decodeRules(await files.readFile(path));
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
