/**
 * Gets the bytes of a rule set from a web server or a file, with their digests.
 *
 * Invariants: a secret goes into the request and nowhere else: `from` has `{secret}` in its place, and every message
 * goes through `shown`, which takes out what a server says of it again. A header with it goes to the server that was
 * asked and to no other that this one leads to. Bounded: bytes, redirections, and silence; who calls bounds the time of
 * all of it.
 *
 * Not promised: that a server which knows the secret can't say it in another form than its own or that of a URL.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Dispatcher } from 'undici';
import { errorCode } from '../files/errors.ts';
import { stripControls } from '../text.ts';
import { maskUrls } from './mask.ts';

const MAX_REDIRECTIONS = 5;
const MAX_CHECKSUM_BYTES = 4096;
const MAX_VALIDATOR_LENGTH = 256;
/** Without a byte. */
const SILENCE_MILLIS = 30_000;
/** Where it belongs in a URL. */
export const SECRET_PLACE = '{secret}';

export class UpdateError extends Error {}

export interface FetchOptions {
  /** http(s) URL, in which `{secret}` stands for the secret, or a path. */
  from: string;
  /** `header`: the one whose value it is, where it is not in the URL; `authorization` gets it as a bearer's token. */
  secret?: { value: string; header: string };
  /** `sha256:…` or `md5:…`, only the digits, or the URL of a file that has one of them. */
  checksum?: string;
  /** Instead of those of the environment. */
  proxy?: string;
  /** Of the authorities that are trusted instead of those that Node.js knows. */
  caFile?: string;
  /** Bytes that are downloaded at most. */
  maxBytes: number;
  userAgent: string;
  onProgress?: (bytes: number, total: number | undefined) => void;
}

/** By which a server tells whether it has something newer. */
export interface Validators {
  etag?: string;
  lastModified?: string;
}

/** What was downloaded or copied, and who vouches for it. */
export interface Fetched extends Validators {
  is: 'fetched';
  sha256: string;
  /** How its bytes were verified: `sha256`, `md5`, or `none` where nothing was published. */
  verified: 'sha256' | 'md5' | 'none';
}

interface Checksum {
  algorithm: 'sha256' | 'md5';
  hex: string;
  /** Who says so. */
  from: string;
}

type Digests = Record<'sha256' | 'md5', string>;

/** With what all requests share. */
interface Download extends FetchOptions {
  dispatcher: Dispatcher;
  signal: AbortSignal;
  shown: Shown;
}

/** A text from outside for a message: short, printable, and without secrets. */
export type Shown = (text: string) => string;

export function shownWithout(secret: string | undefined): Shown {
  const forms = secret === undefined ? [] : [secret, encodeURIComponent(secret), encodeURI(secret)];
  return (text) => {
    // Before it is cut: a half of it is too much.
    const clean = forms.reduce((rest, form) => rest.replaceAll(form, '***'), text);
    return stripControls(maskUrls(clean).slice(0, 300));
  };
}

const isUrl = (from: string): boolean => /^[a-z][a-z0-9+.-]*:\/\//i.test(from);

/**
 * @param known What the server is told of the bytes that are there already.
 * @throws UpdateError when they are not what their checksum says, or the error of what failed.
 */
export async function fetchSource(
  options: FetchOptions,
  file: string,
  known: Validators,
  signal: AbortSignal,
): Promise<Fetched | { is: 'not modified' }> {
  const shown = shownWithout(options.secret?.value);
  const expected =
    options.checksum === undefined || isUrl(options.checksum) ? undefined : parse(options.checksum, shown);
  if (!isUrl(options.from)) {
    const digests = await copyFile(options, file, shown);
    return verify(digests, expected, options.from, shown);
  }
  const dispatcher = await connections(options);
  try {
    const download = { ...options, dispatcher, signal, shown };
    const answer = await get(addressOf(options.from, options), download, known);
    if (answer.is === 'not modified') return answer;
    const digests = await receive(answer, download, file);
    const published = expected ?? (await publishedChecksum(download));
    return { ...verify(digests, published, options.from, shown), ...answer.validators };
  } finally {
    await dispatcher.destroy();
  }
}

function verify(digests: Digests, published: Checksum | undefined, from: string, shown: Shown): Fetched {
  if (published !== undefined && digests[published.algorithm] !== published.hex) {
    throw new UpdateError(
      `${shown(from)}: its ${published.algorithm} is ${digests[published.algorithm]}, expected ${published.hex} (${shown(published.from)}): nothing was changed`,
    );
  }
  return { is: 'fetched', sha256: digests.sha256, verified: published?.algorithm ?? 'none' };
}

/** For whom asks more than once; to be destroyed. @throws UpdateError that names a file that can't be read. */
export async function connections({ proxy, caFile }: Pick<FetchOptions, 'proxy' | 'caFile'>): Promise<Dispatcher> {
  const tls = caFile === undefined ? undefined : { ca: await readAuthorities(caFile) };
  // Takes a while to load, and most commands download nothing.
  const { EnvHttpProxyAgent } = await import('undici');
  return new EnvHttpProxyAgent({
    headersTimeout: SILENCE_MILLIS,
    bodyTimeout: SILENCE_MILLIS,
    // Proxies let tunnels through to port 443, and not to port 80.
    proxyTunnel: false,
    ...(proxy === undefined ? {} : { httpProxy: proxy, httpsProxy: proxy, noProxy: '' }),
    ...(tls === undefined ? {} : { connect: tls, requestTls: tls }),
  });
}

async function readAuthorities(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new UpdateError(`cannot read caFile ${file}: ${errorCode(error) ?? String(error)}`);
  }
}

function parse(text: string, shown: Shown): Checksum {
  const [, name, hex = ''] = /^(?:(sha256|md5):)?([0-9a-f]+)$/i.exec(text.trim()) ?? [];
  const algorithm = hex.length === 64 ? 'sha256' : hex.length === 32 ? 'md5' : undefined;
  if (algorithm === undefined || (name !== undefined && name.toLowerCase() !== algorithm)) {
    throw new UpdateError(
      `flag --checksum: ${shown(text)}: expected sha256: and 64 hexadecimal digits, or md5: and 32`,
    );
  }
  return { algorithm, hex: hex.toLowerCase(), from: '--checksum' };
}

/**
 * What the URL of the checksum has, or what lies beside the file with `.sha256` or `.md5` at its name's end; undefined
 * where none was named and none is there.
 */
async function publishedChecksum(download: Download): Promise<Checksum | undefined> {
  if (download.checksum !== undefined) {
    const found = checksumIn(await readShort(addressOf(download.checksum, download), download), ['sha256', 'md5']);
    if (found !== undefined) return { ...found, from: download.checksum };
    throw new UpdateError(`${download.shown(download.checksum)}: has no sha256 and no md5: nothing was changed`);
  }
  for (const algorithm of ['sha256', 'md5'] as const) {
    const url = addressOf(download.from, download);
    url.pathname += `.${algorithm}`;
    try {
      const found = checksumIn(await readShort(url, download), [algorithm]);
      if (found !== undefined) return { ...found, from: url.href };
    } catch (error) {
      // The file itself was there: that its digest is not is no error, but silence may hide one.
      if (!(error instanceof UpdateError && /answered with status [34]/.test(error.message))) throw error;
    }
  }
  return undefined;
}

/** As sha256sum and BSD's md5 print it; a web page is none. */
function checksumIn(
  text: string,
  algorithms: readonly Checksum['algorithm'][],
): Pick<Checksum, 'algorithm' | 'hex'> | undefined {
  if (text.length > MAX_CHECKSUM_BYTES) return undefined;
  for (const algorithm of algorithms) {
    const length = algorithm === 'sha256' ? 64 : 32;
    const hex = new RegExp(`^(?:.*= *)?([0-9a-f]{${length}})(?:\\s|$)`, 'im').exec(text)?.[1];
    if (hex !== undefined) return { algorithm, hex: hex.toLowerCase() };
  }
  return undefined;
}

async function readShort(url: URL, download: Download): Promise<string> {
  let text = '';
  const answer = await get(url, download, {});
  if (answer.is === 'not modified') return text;
  for await (const chunk of answer.stream) {
    text += String(chunk);
    if (text.length > MAX_CHECKSUM_BYTES) break;
  }
  return text;
}

/** With the secret in its place. */
function addressOf(url: string, { secret }: Pick<FetchOptions, 'secret'>): URL {
  return new URL(secret === undefined ? url : url.replaceAll(SECRET_PLACE, encodeURIComponent(secret.value)));
}

interface Answer {
  is: 'sent';
  stream: Readable;
  length: number | undefined;
  validators: Validators;
}

/** Follows redirections, but not away from https. */
async function get(url: URL, download: Download, known: Validators): Promise<Answer | { is: 'not modified' }> {
  const { dispatcher, signal, shown } = download;
  const { request } = await import('undici');
  let at = url;
  for (let redirections = 0; ; redirections++) {
    if (at.protocol !== 'http:' && at.protocol !== 'https:') {
      throw new UpdateError(`${shown(at.href)}: expected a URL with http or https, or a file`);
    }
    if (at.username !== '' || at.password !== '') throw new UpdateError('a URL must not have a user and a password');
    const headers = { ...headersFor(at, download), ...conditions(known) };
    const { statusCode, headers: answered, body } = await request(at, { dispatcher, signal, headers });
    if (statusCode === 200) {
      const length = Number(answered['content-length'] ?? Number.NaN);
      const validators = validatorsOf(answered, download);
      return { is: 'sent', stream: body, length: Number.isSafeInteger(length) ? length : undefined, validators };
    }
    await body.dump();
    if (statusCode === 304 && (known.etag ?? known.lastModified) !== undefined) return { is: 'not modified' };
    const { location } = answered;
    if (statusCode < 300 || statusCode > 399 || typeof location !== 'string' || !URL.canParse(location, at.href)) {
      throw new UpdateError(`${shown(at.href)}: answered with status ${statusCode}${hintOf(statusCode, download)}`);
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

function headersFor(at: URL, { from, secret, userAgent }: Download): Record<string, string> {
  const common = { 'user-agent': userAgent, accept: '*/*' };
  const isInUrl = from.includes(SECRET_PLACE);
  if (secret === undefined || isInUrl || at.origin !== new URL(from).origin) return common;
  const name = secret.header.toLowerCase();
  return { ...common, [name]: name === 'authorization' ? `Bearer ${secret.value}` : secret.value };
}

function conditions({ etag, lastModified }: Validators): Record<string, string> {
  return {
    ...(etag === undefined ? {} : { 'if-none-match': etag }),
    ...(lastModified === undefined ? {} : { 'if-modified-since': lastModified }),
  };
}

/** They are written down: nothing of a server that may be the secret. */
function validatorsOf(headers: Dispatcher.ResponseData['headers'], { secret }: Download): Validators {
  const usable = (value: string | string[] | undefined): string | undefined =>
    typeof value === 'string' &&
    value.length <= MAX_VALIDATOR_LENGTH &&
    /^[\x20-\x7e]+$/.test(value) &&
    (secret === undefined || !value.includes(secret.value))
      ? value
      : undefined;
  const etag = usable(headers['etag']);
  const lastModified = usable(headers['last-modified']);
  return {
    ...(etag === undefined ? {} : { etag }),
    ...(lastModified === undefined ? {} : { lastModified }),
  };
}

function hintOf(statusCode: number, { secret }: Download): string {
  if (statusCode !== 401 && statusCode !== 403) return '';
  return secret === undefined ? ': it may want a secret (secretFile of ruleSources)' : ': it does not take the secret';
}

async function receive({ stream, length }: Answer, download: Download, file: string): Promise<Digests> {
  const { from, maxBytes, signal, shown } = download;
  if (length !== undefined && length > maxBytes) {
    stream.on('error', () => undefined).destroy();
    throw tooLarge(shown(from), maxBytes);
  }
  return store(stream, file, { ...download, total: length }, signal);
}

async function copyFile(options: FetchOptions, file: string, shown: Shown): Promise<Digests> {
  const { from } = options;
  const found = await stat(from).catch((error: unknown) => {
    throw new UpdateError(`${shown(from)}: ${errorCode(error) === 'ENOENT' ? 'no such file' : String(error)}`);
  });
  if (!found.isFile()) throw new UpdateError(`${shown(from)}: is not a file`);
  return store(createReadStream(from), file, { ...options, shown, total: undefined });
}

/** Passes bytes on to a file, counts and digests them. */
async function store(
  source: Readable,
  file: string,
  { from, maxBytes, onProgress, shown, total }: FetchOptions & { shown: Shown; total: number | undefined },
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
        if (bytes > maxBytes) return done(tooLarge(shown(from), maxBytes));
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
  return new UpdateError(
    `${from}: is larger than ${maxBytes} bytes: raise --max-size, or maxBytes of the source, if it is what you want`,
  );
}
