/**
 * Asks a rule server. What it says is taken only in the form of served.ts, and its errors say what to do.
 *
 * Invariants: the token goes to the server that is configured and is in no message; nothing that leads elsewhere is
 * followed. Bounded: the answer's bytes, and the time of all of it.
 */
import type { Dispatcher } from 'undici';
import type * as z from 'zod';
import { errorCode, messageOf } from '../files/errors.ts';
import { connections, shownWithout, UpdateError, type Shown } from './fetch.ts';
import {
  FILES_PATH,
  FOLLOW_PATH,
  followAnswer,
  MANIFEST_PATH,
  MAX_MESSAGE_BYTES,
  type FollowRequest,
} from './served.ts';
import { readSecret } from './sources.ts';

/** A token of a service account has some 1,200. */
const MAX_TOKEN_BYTES = 16_384;
const ASK_MILLIS = 30_000;

/** `ruleServer` of the configuration. */
export interface RuleServerSettings {
  url: string;
  /** Of the authorities that are trusted instead of those that Node.js knows. */
  caFile?: string | undefined;
  tokenFile: string;
  /** Milliseconds. */
  every: number;
  /** Of a version's file. */
  maxBytes: number;
  /** Milliseconds, for a version's file. */
  timeout: number;
}

/** Where a version is. */
export const fileUrl = ({ url }: Pick<RuleServerSettings, 'url'>, digest: string): string =>
  addressOf(url, `${FILES_PATH}/${digest}`);

export const tokenOf = ({ tokenFile }: Pick<RuleServerSettings, 'tokenFile'>): Promise<string> =>
  readSecret(tokenFile, MAX_TOKEN_BYTES);

type Asked = Pick<RuleServerSettings, 'url' | 'caFile' | 'tokenFile'>;

/** Tells what the node has. @returns what it is to have. @throws UpdateError */
export function follow(server: Asked, request: FollowRequest, signal?: AbortSignal) {
  return ask(server, { path: FOLLOW_PATH, body: JSON.stringify(request), form: followAnswer }, signal);
}

/** What the server says to everybody that it lets in. @throws UpdateError */
export function readManifest<Form extends z.ZodType>(server: Asked, form: Form, signal?: AbortSignal) {
  return ask(server, { path: MANIFEST_PATH, form }, signal);
}

interface Question<Form extends z.ZodType> {
  path: string;
  body?: string;
  form: Form;
}

async function ask<Form extends z.ZodType>(
  server: Asked,
  { path, body, form }: Question<Form>,
  signal: AbortSignal | undefined,
): Promise<z.infer<Form>> {
  const token = await tokenOf(server);
  const shown = shownWithout(token);
  const dispatcher = await connections(server.caFile === undefined ? {} : { caFile: server.caFile });
  const late = AbortSignal.timeout(ASK_MILLIS);
  try {
    const { request } = await import('undici');
    const answer = await request(addressOf(server.url, path), {
      dispatcher,
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body }),
      signal: signal === undefined ? late : AbortSignal.any([late, signal]),
    });
    const text = await readBounded(answer.body);
    if (answer.statusCode !== 200) throw new UpdateError(refusal(answer.statusCode, text, server, shown));
    return parseAnswer(text, form);
  } catch (error) {
    if (error instanceof UpdateError) throw new UpdateError(`rule server ${server.url}: ${error.message}`);
    const why = late.aborted ? `no complete answer within ${ASK_MILLIS / 1000} s` : shown(reasonOf(error));
    throw new UpdateError(`rule server ${server.url}: ${why}${adviceOf(error)}`);
  } finally {
    await dispatcher.destroy();
  }
}

async function readBounded(body: Dispatcher.ResponseData['body']): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of body as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > MAX_MESSAGE_BYTES) throw new UpdateError(`its answer is larger than ${MAX_MESSAGE_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

function parseAnswer<Form extends z.ZodType>(text: string, form: Form): z.infer<Form> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new UpdateError('its answer is no JSON: is it a rule server?');
  }
  const parsed = form.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new UpdateError(`its answer is not understood (${issue?.path.join('.') ?? ''}): is it of another version?`);
}

function refusal(status: number, text: string, { tokenFile }: Asked, shown: Shown): string {
  const said = shown(saidIn(text));
  const because = said === '' ? '' : `: ${said}`;
  if (status === 401)
    return `does not take the token in ${tokenFile} (401)${because}: it must be one of this cluster, for the server's audience (ruleServing.audience)`;
  if (status === 403)
    return `does not let in whose token is in ${tokenFile} (403)${because}: name its service account in ruleServing.serviceAccounts`;
  return `answered with status ${status}${because}`;
}

/** What the server gives as the reason. */
function saidIn(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === 'string' ? error : '';
  } catch {
    return '';
  }
}

function reasonOf(error: unknown): string {
  const errors = error instanceof AggregateError ? error.errors : [error];
  return errors.map((each) => messageOf(each) || (errorCode(each) ?? 'unknown')).join('; ');
}

function adviceOf(error: unknown): string {
  const code = errorCode(error) ?? '';
  if (code === 'CERT_HAS_EXPIRED') return ': renew the certificate of the server (ruleServing.tlsCertFile)';
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return ': its certificate is for another name than that of ruleServer.url';
  if (/CERT|SIGNATURE/.test(code)) return ': name the authority of its certificate in ruleServer.caFile';
  if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|EHOSTUNREACH|UND_ERR/.test(code))
    return ': look whether its pod runs and ruleServer.url names its Service';
  return '';
}

function addressOf(url: string, path: string): string {
  return `${url.replace(/\/+$/, '')}${path}`;
}
