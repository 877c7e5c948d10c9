/**
 * Alerts are acknowledged from outside: by a link that a sink's message has, or by a program with a token.
 *
 *   GET  /acknowledge        shows what the link is for and asks; changes nothing: chats and mail scanners open links
 *   POST /acknowledge        the form of that page acts
 *   POST /api/acknowledge    `{"ids": […]}` with `Authorization: Bearer <token>` of `ui.acknowledgeTokensFile`
 *
 * Neither sees more than the alert that it names, and neither dismisses, opens, or takes back what somebody decided.
 * The link's signature is all its right, so the form takes no cookie. Whoever sends wrong ones too often waits.
 * Every acknowledgement is logged, with who and from where; signatures and tokens never are.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { Logger } from 'pino';
import { checkLink, readKeys, type Acknowledgement } from '../events/acknowledgement.ts';
import { errorCode } from '../files/errors.ts';
import { stripControls } from '../text.ts';
import { signalOf } from './answers.ts';
import type { AcknowledgeAnswer, Act, AlertRow, End } from './api.ts';
import { createAttempts, type Attempts } from './attempts.ts';
import type { Live } from './live.ts';
import { QueryError } from './query.ts';
import { Refused, refusalOf } from './refused.ts';
import { isId, parameters } from './requests.ts';
import type { AlertSource } from './source.ts';

export const ACKNOWLEDGE_PATH = '/acknowledge';
export const MAX_ACKNOWLEDGED = 100;
const MAX_FORM_BYTES = 4096;
const MAX_FILE_BYTES = 65_536;
const MIN_TOKEN = 32;

/** Lines of a file that may change while the page runs. @throws Error that names the file. */
export type SecretLines<T> = () => Promise<T>;

export interface AcknowledgeOptions {
  /** Of links; undefined: there are none. */
  keys?: SecretLines<string[]>;
  /** Of programs, by their names; undefined: there are none. */
  tokens?: SecretLines<ReadonlyMap<string, Buffer>>;
}

interface Desk extends AcknowledgeOptions {
  readonly source: AlertSource;
  readonly live: Live;
  readonly log: Logger;
  readonly attempts: Attempts;
  /** Alerts that somebody took care of. */
  readonly onHandled: (ids: readonly string[]) => void;
}

export function addAcknowledge(app: FastifyInstance, options: Omit<Desk, 'attempts'>): void {
  const desk: Desk = { ...options, attempts: createAttempts() };
  if (desk.keys !== undefined) app.register(async (scope) => addLinks(scope, desk, desk.keys));
  if (desk.tokens !== undefined) {
    const { tokens } = desk;
    app.post('/api/acknowledge', (request, reply) => acknowledgeByToken(desk, tokens, request, reply));
  }
}

function addLinks(scope: FastifyInstance, desk: Desk, keys: AcknowledgeOptions['keys']): void {
  const form = { parseAs: 'string', bodyLimit: MAX_FORM_BYTES } as const;
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser<string>('application/x-www-form-urlencoded', form, (_, body, done) =>
    done(null, Object.fromEntries(new URLSearchParams(body))),
  );
  // For people: an error is a page, too.
  scope.setErrorHandler((error: unknown, _, reply) => {
    const [status, message, more] = refusalOf(error);
    if ('retryAfter' in more) reply.header('retry-after', more.retryAfter);
    if (status >= 500) desk.log.warn({ err: error, url: ACKNOWLEDGE_PATH }, 'a request failed');
    return sendPage(reply.code(status), 'This alert was not acknowledged', [message]);
  });
  const linkOf = async (request: FastifyRequest, asked: unknown): Promise<Acknowledgement> =>
    checkedLink(desk, request, (asked ?? {}) as Record<string, unknown>, (await keys?.()) ?? []);
  scope.get(ACKNOWLEDGE_PATH, async (request, reply) => {
    const asked = parameters(request);
    const row = await alertOf(desk, await linkOf(request, asked), reply);
    if (row.state !== 'open') return sendPage(reply, handledText(row), describe(row));
    return sendPage(reply, 'Acknowledge this alert?', describe(row), asked);
  });
  scope.post(ACKNOWLEDGE_PATH, async (request, reply) => {
    const link = await linkOf(request, request.body);
    const row = await alertOf(desk, link, reply);
    const isOpen = row.state === 'open';
    if (isOpen) await acknowledge(desk, [row], `link of ${link.via}`, request);
    return sendPage(reply, isOpen ? 'The alert is acknowledged' : handledText(row), describe(row));
  });
}

/** @throws Refused */
function checkedLink(
  desk: Desk,
  request: FastifyRequest,
  asked: Readonly<Record<string, unknown>>,
  keys: readonly string[],
): Acknowledgement {
  refuseTooMany(desk, request);
  const checked = checkLink(asked, keys, Date.now());
  if (checked.is === 'valid') return checked.link;
  if (checked.is === 'expired') throw new Refused(410, 'The link has ended: open the alert on the page, and sign in.');
  desk.attempts.count(request.ip);
  desk.log.warn({ address: request.ip }, 'a link to acknowledge an alert was refused: its signature is wrong');
  throw new Refused(
    403,
    'The link is not right: was it cut, or its key replaced? Open the alert on the page, and sign in.',
  );
}

function refuseTooMany({ attempts }: Desk, request: FastifyRequest): void {
  const wait = attempts.wait(request.ip);
  if (wait > 0) throw new Refused(429, `too many attempts: try again in ${wait} s`, { retryAfter: wait });
}

/** @throws Refused where it is not there. */
async function alertOf({ source }: Desk, { alert }: Acknowledgement, reply: FastifyReply): Promise<AlertRow> {
  const found = isId(alert) ? (await source.get([alert], signalOf(reply)))[0] : undefined;
  if (found === undefined) throw new Refused(404, 'The alert is not here: not yet, or not any more.');
  return found.row;
}

async function acknowledge(desk: Desk, rows: readonly AlertRow[], by: string, request: FastifyRequest): Promise<void> {
  const { source, live, log, onHandled } = desk;
  const ids = rows.map(({ id }) => id);
  const act: Act = { state: 'acknowledged', by, at: new Date().toISOString() };
  await source.mark(ids, act);
  live.tell(rows, act);
  log.info({ by, address: request.ip, alerts: ids }, 'acknowledged from outside');
  onHandled(ids);
}

async function acknowledgeByToken(
  desk: Desk,
  tokens: SecretLines<ReadonlyMap<string, Buffer>>,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<AcknowledgeAnswer> {
  refuseTooMany(desk, request);
  const name = ownerOf(request.headers.authorization, await tokens());
  if (name === undefined) {
    desk.attempts.count(request.ip);
    desk.log.warn({ address: request.ip }, 'a token to acknowledge alerts was refused');
    throw new Refused(401, 'expected Authorization: Bearer with a token of ui.acknowledgeTokensFile');
  }
  const ids = idsOf(request.body);
  const rows = (await desk.source.get(ids, signalOf(reply))).map(({ row }) => row);
  const open = rows.filter(({ state }) => state === 'open');
  if (open.length > 0) await acknowledge(desk, open, `token ${name}`, request);
  const known = new Set(rows.map(({ id }) => id));
  return {
    acknowledged: open.map(({ id }) => id),
    before: rows.filter(({ state }) => state !== 'open').map(({ id }) => id),
    unknown: ids.filter((id) => !known.has(id)),
  };
}

/** @throws QueryError */
function idsOf(body: unknown): string[] {
  const { ids } = (body ?? {}) as Record<string, unknown>;
  const valid = (id: unknown): id is string => typeof id === 'string' && isId(id);
  if (!Array.isArray(ids) || ids.length === 0 || ids.length > MAX_ACKNOWLEDGED || !ids.every(valid))
    throw new QueryError(`ids: expected 1 to ${MAX_ACKNOWLEDGED} ids of alerts`);
  return [...new Set(ids)];
}

/** Looks at all, each in the same time. */
function ownerOf(header: string | undefined, tokens: ReadonlyMap<string, Buffer>): string | undefined {
  const [, token] = /^Bearer (\S{1,1024})$/.exec(header ?? '') ?? [];
  const given = digestOf(token ?? '');
  const [owner] = [...tokens].filter(([, digest]) => timingSafeEqual(digest, given));
  return token === undefined ? undefined : owner?.[0];
}

function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function handledText({ state, handledBy }: AlertRow): string {
  return `The alert is ${state}${handledBy === undefined ? '' : ` by ${handledBy}`}`;
}

function describe({ message, level, timestamp, source, destination, resource, id }: AlertRow): string[] {
  return [
    `${level}: ${message}`,
    `${endText(source)} → ${endText(destination)}`,
    `${timestamp}, ${resource}`,
    `event ${id}`,
  ];
}

function endText({ ip, port, name, namespace }: End): string {
  const address = port === undefined ? ip : `${ip} port ${port}`;
  return name === undefined ? address : `${namespace === undefined ? '' : `${namespace}/`}${name} (${address})`;
}

/** @param form What it sends where somebody agrees; without it there is nothing to agree to. */
function sendPage(
  reply: FastifyReply,
  title: string,
  lines: readonly string[],
  form?: Readonly<Record<string, unknown>>,
): FastifyReply {
  const fields = Object.entries(form ?? {}).map(
    ([name, value]) => `<input type="hidden" name="${escape(name)}" value="${escape(String(value))}">`,
  );
  // Relative: a proxy may have the page under a path.
  const button =
    form === undefined
      ? ''
      : `<form method="post" action="acknowledge">${fields.join('')}<button type="submit">Acknowledge</button></form>`;
  return reply
    .type('text/html; charset=utf-8')
    .header('cache-control', 'no-store')
    .header('x-robots-tag', 'noindex')
    .send(
      `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
        `<title>${escape(title)}</title><h1>${escape(title)}</h1>${lines.map((line) => `<p>${escape(line)}</p>`).join('')}${button}`,
    );
}

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escape(text: string): string {
  return stripControls(text).replaceAll(/[&<>"']/g, (mark) => ENTITIES[mark] ?? mark);
}

/** Keys of links. @throws Error that says what is wrong with the file. */
export function openKeys(file: string): Promise<SecretLines<string[]>> {
  return openSecrets(file, (text) => readKeys(text, file));
}

/** Tokens of programs: a line each, `<name>:<token>`. @throws Error that says what is wrong with the file. */
export function openTokens(file: string): Promise<SecretLines<ReadonlyMap<string, Buffer>>> {
  return openSecrets(file, (text) => {
    const lines = text.split('\n').filter((line) => line.trim() !== '' && !line.startsWith('#'));
    const entries = lines.map((line, index) => {
      const [, name, token] = /^([a-z0-9-]{1,63}):(\S{1,1024})\s*$/.exec(line) ?? [];
      if (name === undefined || token === undefined || token.length < MIN_TOKEN) {
        throw new Error(
          `${file}: entry ${index + 1}: expected <name>:<token>, the token with at least ${MIN_TOKEN} characters`,
        );
      }
      return [name, digestOf(token)] as const;
    });
    if (entries.length === 0) throw new Error(`${file}: expected lines of <name>:<token>`);
    return new Map(entries);
  });
}

/** Read again when it changes; one that is damaged then keeps what it had. */
async function openSecrets<T>(file: string, parse: (text: string) => T): Promise<SecretLines<T>> {
  let print = '';
  let value: T;
  const read = async (): Promise<T> => {
    const { mtimeMs, size, ino } = await stat(file);
    const now = `${mtimeMs} ${size} ${ino}`;
    if (now === print) return value;
    if (size > MAX_FILE_BYTES) throw new Error(`${file} is larger than ${MAX_FILE_BYTES} bytes`);
    value = parse(await readFile(file, 'utf8'));
    print = now;
    return value;
  };
  try {
    value = await read();
  } catch (error) {
    const code = errorCode(error);
    throw code === undefined ? error : new Error(`can't read ${file}: ${code}`, { cause: error });
  }
  return () => read().catch(() => value);
}
