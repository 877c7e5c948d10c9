/**
 * Downloads a rule set and puts it in place; goes back to the one before.
 *
 *     <rulesDirectory>/.versions/<set>/<version>/   its rule files, and version.json
 *     <rulesDirectory>/<set>                        a link to the version in use
 *
 * Invariants: the link always leads to a whole version, also after a crash at any moment, because it is replaced in one
 * step; the version in use and the one before are kept. Bounded: bytes that are downloaded, redirections, and the time
 * of all of it; archive.ts bounds what is unpacked.
 *
 * Not promised: that two updates of one set at the same time keep each other's version.
 */
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
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
import { basename, join } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isNativeError } from 'node:util/types';
import { EnvHttpProxyAgent, request, type Dispatcher } from 'undici';
import { errorCode } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { stripControls } from '../text.ts';
import { ArchiveError, unpackRules } from './archive.ts';
import { decodeRules } from './encoding.ts';
import { maskUrls } from './mask.ts';
import { parseRules } from './rule.ts';

export const COMMUNITY_URL = 'https://www.snort.org/downloads/community/snort3-community-rules.tar.gz';

const MAX_REDIRECTIONS = 5;
const MAX_CHECKSUM_BYTES = 4096;
/** Without a byte. */
const SILENCE_MILLIS = 30_000;
const KEPT_VERSIONS = 2;
/** A set of which more than this share can't be read is something else. */
const MAX_UNREADABLE_SHARE = 0.1;

export class UpdateError extends Error {}

export interface UpdateOptions {
  rulesDirectory: string;
  set: string;
  /** http(s) URL, or a path. */
  from: string;
  /** `sha256:…` or `md5:…`, or only the digits. */
  checksum?: string;
  /** Bytes that are downloaded at most. */
  maxBytes: number;
  /** For all of the download. */
  timeoutMillis: number;
  /** And unpacked; 256 MiB unless given. */
  maxUnpackedBytes?: number;
  userAgent: string;
  signal?: AbortSignal;
  onProgress?: (bytes: number, total: number | undefined) => void;
  /** Looks at the new version's folder before it goes live. @throws to keep it from that. */
  check?: (directory: string) => Promise<void>;
  now?: () => Date;
}

/** With the connections that all requests share. */
interface Download extends UpdateOptions {
  dispatcher: Dispatcher;
}

export interface InstalledVersion {
  version: string;
  /** Where it came from, without secrets. */
  source: string;
  sha256: string;
  /** How its bytes were verified: `sha256`, `md5`, or `none` where nothing was published. */
  verified: 'sha256' | 'md5' | 'none';
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

/** @throws UpdateError that says what is wrong, and nothing has changed. */
export async function updateSet(asked: UpdateOptions): Promise<UpdateResult> {
  const options = { ...asked, from: withoutFileScheme(asked.from) };
  const { rulesDirectory, set, from } = options;
  await assertOurs(join(rulesDirectory, set));
  const expected = options.checksum === undefined ? undefined : parseChecksum(options.checksum);
  const dispatcher = new EnvHttpProxyAgent({
    headersTimeout: SILENCE_MILLIS,
    bodyTimeout: SILENCE_MILLIS,
    // Proxies let tunnels through to port 443, and not to port 80.
    proxyTunnel: false,
  });
  const late = AbortSignal.timeout(options.timeoutMillis);
  const signal = AbortSignal.any([late, ...(options.signal === undefined ? [] : [options.signal])]);
  const staging = join(versionsOf(rulesDirectory, set), `.new-${process.pid}-${randomBytes(4).toString('hex')}`);
  try {
    await mkdir(staging, { recursive: true, mode: 0o755 });
    const fetched = await fetchArchive({ ...options, dispatcher }, join(staging, '.download'), expected, signal);
    const inUse = await installedSet(rulesDirectory, set);
    if (inUse?.sha256 === fetched.sha256) {
      return { ...inUse, changed: false, directory: join(versionsOf(rulesDirectory, set), inUse.version) };
    }
    return await install(options, fetched, staging);
  } catch (error) {
    if (error instanceof UpdateError) throw error;
    if (error instanceof ArchiveError) throw new UpdateError(`${shown(from)}: ${shown(error.message)}`);
    if (options.signal?.aborted === true) throw new UpdateError(`${shown(from)}: was interrupted`);
    if (late.aborted) throw new UpdateError(`${shown(from)}: was not there after ${options.timeoutMillis} ms`);
    throw asUpdateError(error, rulesDirectory, from);
  } finally {
    await dispatcher.destroy();
    await rm(staging, { recursive: true, force: true }).catch(() => undefined);
  }
}

/** What was downloaded or copied, and who vouches for it. */
interface Fetched extends Pick<InstalledVersion, 'sha256' | 'verified'> {
  file: string;
}

/** @throws UpdateError when it is not what its checksum says. */
async function fetchArchive(
  options: Download,
  file: string,
  expected: Checksum | undefined,
  signal: AbortSignal,
): Promise<Fetched> {
  const { from } = options;
  const isUrl = /^[a-z][a-z0-9+.-]*:\/\//i.test(from);
  const digests = await (isUrl ? download(options, file, signal) : copyFile(options, file));
  const published = expected ?? (isUrl ? await publishedChecksum(options, signal) : undefined);
  if (published !== undefined && digests[published.algorithm] !== published.hex) {
    throw new UpdateError(
      `${shown(from)}: its ${published.algorithm} is ${digests[published.algorithm]}, expected ${published.hex} (${shown(published.from)}): nothing was changed`,
    );
  }
  return { file, sha256: digests.sha256, verified: published?.algorithm ?? 'none' };
}

/** Makes a version of it in `staging`, and puts that into use. */
async function install(options: UpdateOptions, fetched: Fetched, staging: string): Promise<UpdateResult> {
  const { rulesDirectory, set, from, now = (): Date => new Date() } = options;
  const { file, ...verified } = fetched;
  const { inner } = await unpackRules(file, nameOf(from), staging, options.maxUnpackedBytes);
  await rm(file);
  const counts = await countRules(staging, from, inner);
  const time = now();
  const version = `${time.toISOString().replace(/[-:]/g, '').replace(/\..*/, 'Z')}-${fetched.sha256.slice(0, 12)}`;
  const installed: InstalledVersion = {
    version,
    source: maskUrls(from),
    ...verified,
    installedAt: time.toISOString(),
    ...counts,
  };
  await writeFile(join(staging, 'version.json'), `${JSON.stringify(installed, null, 2)}\n`, { mode: 0o644 });
  await options.check?.(staging);
  const versions = versionsOf(rulesDirectory, set);
  const directory = join(versions, version);
  await rm(directory, { recursive: true, force: true });
  await rename(staging, directory);
  await pointTo(join(rulesDirectory, set), set, version);
  await prune(versions, version);
  return { ...installed, changed: true, directory };
}

/** `file:` is another way to name a path, also a relative one. */
function withoutFileScheme(from: string): string {
  if (!/^file:/i.test(from)) return from;
  return /^file:\/\//i.test(from) && URL.canParse(from)
    ? decodeURIComponent(new URL(from).pathname)
    : from.slice('file:'.length);
}

/** Puts the kept version that is not in use into use; a second time goes forward again. @throws UpdateError */
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
    await pointTo(link, set, other);
    return found;
  } catch (error) {
    throw asUpdateError(error, rulesDirectory, set);
  }
}

/** The version in use of a set that was downloaded; undefined of any other. */
export async function installedSet(rulesDirectory: string, set: string): Promise<InstalledVersion | undefined> {
  const target = await readlink(join(rulesDirectory, set)).catch(() => undefined);
  if (target === undefined || !target.startsWith(join('.versions', set))) return undefined;
  return readVersion(join(rulesDirectory, target));
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

async function prune(versions: string, current: string): Promise<void> {
  const others = (await listVersions(versions)).filter((version) => version !== current);
  for (const version of others.slice(0, Math.max(0, others.length - (KEPT_VERSIONS - 1)))) {
    await rm(join(versions, version), { recursive: true, force: true });
  }
  // What an update left that was killed an hour ago or more.
  for (const name of await readdir(versions)) {
    const path = join(versions, name);
    if (!name.startsWith('.new-')) continue;
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }));
    if (Date.now() - mtimeMs > 3_600_000) await rm(path, { recursive: true, force: true });
  }
}

async function pointTo(link: string, set: string, version: string): Promise<void> {
  const next = join(link, '..', `.${set}.new-${process.pid}`);
  await rm(next, { force: true });
  await symlink(join('.versions', set, version), next);
  await rename(next, link);
}

/** A folder that somebody else made is not replaced. */
async function assertOurs(link: string): Promise<void> {
  const found = await lstat(link).catch(() => undefined);
  if (found === undefined || found.isSymbolicLink()) return;
  throw new UpdateError(`${link} is no link to a downloaded version: move it away, or name another set with --set`);
}

interface Checksum {
  algorithm: 'sha256' | 'md5';
  hex: string;
  /** Who says so. */
  from: string;
}

function parseChecksum(text: string): Checksum {
  const [, name, hex = ''] = /^(?:(sha256|md5):)?([0-9a-f]+)$/i.exec(text.trim()) ?? [];
  const algorithm = hex.length === 64 ? 'sha256' : hex.length === 32 ? 'md5' : undefined;
  if (algorithm === undefined || (name !== undefined && name.toLowerCase() !== algorithm)) {
    throw new UpdateError(
      `flag --checksum: ${shown(text)}: expected sha256: and 64 hexadecimal digits, or md5: and 32`,
    );
  }
  return { algorithm, hex: hex.toLowerCase(), from: '--checksum' };
}

/** What lies beside the file with `.sha256` or `.md5` at its name's end; undefined where there is no such digest. */
async function publishedChecksum(options: Download, signal: AbortSignal): Promise<Checksum | undefined> {
  for (const [algorithm, length] of [
    ['sha256', 64],
    ['md5', 32],
  ] as const) {
    const url = new URL(options.from);
    url.pathname += `.${algorithm}`;
    let text = '';
    try {
      const body = await get(url, options, signal);
      for await (const chunk of body.stream) {
        text += String(chunk);
        if (text.length > MAX_CHECKSUM_BYTES) break;
      }
    } catch (error) {
      // The file itself was there: that its digest is not is no error, but silence may hide one.
      if (error instanceof UpdateError && /answered with status [34]/.test(error.message)) continue;
      throw error;
    }
    // As sha256sum and BSD's md5 print it; a web page is none.
    const hex = new RegExp(`^(?:.*= *)?([0-9a-f]{${length}})(?:\\s|$)`, 'im').exec(text)?.[1];
    if (hex !== undefined && text.length <= MAX_CHECKSUM_BYTES) {
      return { algorithm, hex: hex.toLowerCase(), from: url.href };
    }
  }
  return undefined;
}

type Digests = Record<'sha256' | 'md5', string>;

/** Passes bytes on to a file, counts and digests them. */
async function store(
  source: Readable,
  file: string,
  { from, maxBytes, onProgress }: UpdateOptions,
  total: number | undefined,
  signal?: AbortSignal,
): Promise<Digests> {
  const sha256 = createHash('sha256');
  const md5 = createHash('md5');
  let bytes = 0;
  const handle = await open(file, 'wx', 0o600);
  try {
    const count = new Transform({
      transform(chunk: Buffer, _, done) {
        bytes += chunk.length;
        if (bytes > maxBytes) return done(tooLarge(from, maxBytes));
        sha256.update(chunk);
        md5.update(chunk);
        onProgress?.(bytes, total);
        done(null, chunk);
      },
    });
    await pipeline(source, count, handle.createWriteStream(), ...(signal === undefined ? [] : [{ signal }]));
  } finally {
    await handle.close().catch(() => undefined);
  }
  if (total !== undefined && bytes !== total) {
    throw new UpdateError(`${shown(from)}: ended after ${bytes} of ${total} bytes`);
  }
  return { sha256: sha256.digest('hex'), md5: md5.digest('hex') };
}

function tooLarge(from: string, maxBytes: number): UpdateError {
  return new UpdateError(`${shown(from)}: is larger than ${maxBytes} bytes: raise --max-size if it is what you want`);
}

async function copyFile(options: UpdateOptions, file: string): Promise<Digests> {
  const found = await stat(options.from).catch((error: unknown) => {
    throw new UpdateError(`${shown(options.from)}: ${errorCode(error) === 'ENOENT' ? 'no such file' : String(error)}`);
  });
  if (!found.isFile()) throw new UpdateError(`${shown(options.from)}: is not a file`);
  return store(createReadStream(options.from), file, options, undefined);
}

async function download(options: Download, file: string, signal: AbortSignal): Promise<Digests> {
  const { stream, length } = await get(new URL(options.from), options, signal);
  if (length !== undefined && length > options.maxBytes) {
    stream.on('error', () => undefined).destroy();
    throw tooLarge(options.from, options.maxBytes);
  }
  return store(stream, file, options, length, signal);
}

/** Follows redirections, but not away from https. Proxies are those of the environment. */
async function get(
  url: URL,
  { userAgent, dispatcher }: Download,
  signal: AbortSignal,
): Promise<{ stream: Readable; length: number | undefined }> {
  let at = url;
  for (let redirections = 0; ; redirections++) {
    if (at.protocol !== 'http:' && at.protocol !== 'https:') {
      throw new UpdateError(`${shown(at.href)}: expected a URL with http or https, or a file`);
    }
    if (at.username !== '' || at.password !== '') throw new UpdateError('a URL must not have a user and a password');
    const { statusCode, headers, body }: Dispatcher.ResponseData = await request(at, {
      dispatcher,
      signal,
      headers: { 'user-agent': userAgent, accept: '*/*' },
    });
    if (statusCode === 200) {
      const length = Number(headers['content-length'] ?? Number.NaN);
      return { stream: body, length: Number.isSafeInteger(length) ? length : undefined };
    }
    await body.dump();
    const { location } = headers;
    if (statusCode < 300 || statusCode > 399 || typeof location !== 'string' || !URL.canParse(location, at.href)) {
      throw new UpdateError(`${shown(at.href)}: answered with status ${statusCode}`);
    }
    if (redirections >= MAX_REDIRECTIONS) {
      throw new UpdateError(
        `${shown(url.href)}: leads on more than ${MAX_REDIRECTIONS} times: answered with status ${statusCode}`,
      );
    }
    const next = new URL(location, at);
    if (at.protocol === 'https:' && next.protocol !== 'https:') {
      throw new UpdateError(`${shown(at.href)}: leads away from https, to ${shown(next.href)}`);
    }
    at = next;
  }
}

/** What a URL or a path calls a file. */
function nameOf(from: string): string {
  return basename(new URL(from, 'file:///').pathname);
}

async function countRules(
  directory: string,
  from: string,
  inner: string | undefined,
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
    throw new UpdateError(`${shown(from)}: has ${rules} rules, and ${problems} places that are none: it is not used`);
  }
  return { rules, problems };
}

/** For a message: short, printable, and without secrets. */
function shown(text: string): string {
  return stripControls(maskUrls(text).slice(0, 300));
}

const ADVICE: Record<string, string> = {
  EROFS: 'it is read-only',
  EACCES: 'permission denied',
  ENOSPC: 'the disk is full',
};

function asUpdateError(error: unknown, rulesDirectory: string, about: string): unknown {
  if (error instanceof UpdateError || !isNativeError(error)) return error;
  const code = errorCode(error) ?? '';
  const advice = ADVICE[code];
  if (advice !== undefined) return new UpdateError(`cannot write ${rulesDirectory}: ${advice}`);
  if (code.startsWith('Z_')) return new UpdateError(`${shown(about)}: is no whole gzip file: ${shown(error.message)}`);
  const cause = isNativeError(error.cause) ? error.cause.message : '';
  const texts = [error.message, cause].filter((text) => text !== '').join(': ');
  return new UpdateError(`${shown(about)}: ${shown(texts === '' ? code : texts)}`);
}
