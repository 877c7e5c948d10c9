/**
 * Events by HTTP: a request for each, or for a batch of them, in one of many formats.
 *
 * A status of success confirms the events of a request: at least once. A request whose answer was lost is sent again;
 * ids are the same then, in the body and, of one event alone, in `Idempotency-Key`. Secrets, certificates and the
 * address are read again when their files change, and after each answer that does not take them. Nothing of them gets
 * into a message, also where the server repeats it.
 *
 * The signature is GitHub's (https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries):
 * `sha256=` and the HMAC of the body.
 *
 * Not promised: that a server which lies about its success is found out, unless its format says how.
 */
import { createHmac } from 'node:crypto';
import type { Dispatcher } from 'undici';
import type { HttpSettings } from '../../config/sinks.ts';
import { messageOf } from '../../files/errors.ts';
import { SendError, type Destination, type Item, type Outcome } from '../destination.ts';
import { toAlert, type About, type Alert } from '../formats/alert.ts';
import type { Format } from '../formats/format.ts';
import { formatOf } from '../formats/formats.ts';
import type { WatchedFiles } from '../secret-files.ts';
import { excerpt, failureOf, isSuccess } from './classify.ts';
import { createDispatcher } from './connect.ts';
import { withinTime } from './limit.ts';
import { exchange, type Answer } from './request.ts';
import { createMask, watchSecrets, type Secrets } from './secrets.ts';

/** So many requests at most are made before it is saved that their events were taken. */
const MAX_SINGLE = 10;

export interface HttpOptions extends About {
  settings: HttpSettings;
  /** Gives what a message's link to acknowledge is made with; without it there are none. */
  links?: () => Promise<About['acknowledgeUrl']>;
  /** Instead of the one that the settings name. */
  format?: Format;
}

interface State {
  readonly options: HttpOptions;
  readonly files: WatchedFiles<Secrets>;
  readonly format: Format;
  readonly closing: AbortController;
  connections: { of: Secrets; dispatcher: Dispatcher } | undefined;
  /** What the latest request was answered. */
  answer: string | undefined;
}

export async function createHttp(options: HttpOptions): Promise<Destination> {
  const files = watchSecrets(options.settings);
  const state: State = {
    options,
    files,
    format: options.format ?? (await createFormat(options.settings, files)),
    closing: new AbortController(),
    connections: undefined,
    answer: undefined,
  };
  return {
    ...(isSingle(state) ? { maxEvents: MAX_SINGLE } : {}),
    send: (items, signal) => send(state, items, signal),
    answer: () => state.answer,
    async close() {
      state.closing.abort();
      await state.connections?.dispatcher.destroy();
    },
  };
}

async function createFormat(settings: HttpSettings, files: WatchedFiles<Secrets>): Promise<Format> {
  const { format, contentType } = settings;
  if (format !== 'template') return formatOf(format, settings.oneByOne);
  const { createTemplate, parseTemplate } = await import('../formats/template.ts');
  let parsed: { text: string; template: ReturnType<typeof parseTemplate> } | undefined;
  return createTemplate(async () => {
    const { template: text = '' } = await files.read();
    if (parsed?.text !== text) parsed = { text, template: parse(parseTemplate, text) };
    return parsed.template;
  }, contentType);
}

/** A template that is wrong is no event's fault. */
function parse<T>(parseTemplate: (text: string) => T, text: string): T {
  try {
    return parseTemplate(text);
  } catch (error) {
    throw new SendError('server_error', `the template is wrong: ${messageOf(error)}`);
  }
}

async function send(state: State, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  signal.throwIfAborted();
  const secrets = await state.files.read();
  const about = await aboutOf(state);
  const alerts = items.map(({ json }) => toAlert(json, about));
  if (isSingle(state)) return sendSingly(state, secrets, alerts, signal);
  await deliver(state, secrets, alerts, signal);
  return items.map(() => ({ is: 'delivered' }));
}

async function aboutOf({ options }: State): Promise<About> {
  const acknowledgeUrl = await options.links?.();
  return acknowledgeUrl === undefined ? options : { ...options, acknowledgeUrl };
}

function isSingle({ format, options }: State): boolean {
  return !format.batches || options.settings.oneByOne;
}

/**
 * One after the other. A server may stumble over one event, so the next one is tried too; after a failure that is of
 * all, or two in a row, the rest waits.
 */
async function sendSingly(
  state: State,
  secrets: Secrets,
  alerts: readonly Alert[],
  signal: AbortSignal,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  let first: unknown;
  let stumbled = false;
  for (const alert of alerts) {
    try {
      await deliver(state, secrets, [alert], signal);
      outcomes.push({ is: 'delivered' });
      stumbled = false;
    } catch (error) {
      first ??= error;
      outcomes.push(outcomeOf(error));
      if (isOwn(error)) continue;
      if (stumbled || !isStumble(error) || state.closing.signal.aborted || signal.aborted) break;
      stumbled = true;
    }
  }
  if (first !== undefined && outcomes.every(({ is }) => is === 'retry')) throw first;
  const waiting: Outcome = { is: 'retry', reason: 'the events before it were not taken', throttled: true };
  return alerts.map((_, index) => outcomes[index] ?? waiting);
}

/** Whether it is the fault of the event. */
function isOwn(error: unknown): boolean {
  return error instanceof SendError && (error.failure === 'refused' || error.failure === 'too_large');
}

/** Whether it may be. */
function isStumble(error: unknown): boolean {
  if (!(error instanceof SendError) || error.afterMillis !== undefined) return false;
  return error.failure === 'server_error' || error.failure === 'incomplete';
}

function outcomeOf(error: unknown): Outcome {
  const reason = messageOf(error);
  if (isOwn(error)) return { is: 'rejected', reason };
  const afterMillis = error instanceof SendError ? error.afterMillis : undefined;
  return {
    is: 'retry',
    reason,
    throttled: !isStumble(error),
    ...(afterMillis === undefined ? {} : { afterMillis }),
  };
}

/** One request. @throws SendError unless its events were taken. */
async function deliver(state: State, secrets: Secrets, alerts: readonly Alert[], signal: AbortSignal): Promise<void> {
  const { format, options, files } = state;
  const body = await bodyOf(state, secrets, alerts);
  const mask = createMask(secrets);
  const { origin } = new URL(secrets.url);
  state.answer = undefined;
  try {
    const answer = await ask(state, secrets, alerts, body, signal);
    state.answer = `${answer.status} ${excerpt(answer.text, mask)}`.trim();
    if (!isSuccess(answer.status, options.settings.success)) throw refusedBy(format, answer, origin, mask);
    const refusal = format.refusal?.(answer.text, alerts.length);
    if (refusal !== undefined) throw saidBy(refusal, answer, origin, mask);
  } catch (error) {
    signal.throwIfAborted();
    const isStale = error instanceof SendError && (error.failure === 'unauthorized' || error.failure === 'tls');
    if (isStale) files.forget();
    throw error;
  }
}

function refusedBy(format: Format, answer: Answer, origin: string, mask: (text: string) => string): SendError {
  const error = failureOf(answer, origin, mask);
  if (error.failure !== 'refused' || format.isOperators?.(answer.text) !== true) return error;
  return new SendError('server_error', error.message, undefined, error.afterMillis);
}

/** What the format read in an answer. */
function saidBy(
  refusal: SendError,
  { afterMillis }: Answer,
  origin: string,
  mask: (text: string) => string,
): SendError {
  const message = `${origin}: ${excerpt(refusal.message, mask)}`;
  return new SendError(refusal.failure, message, undefined, afterMillis);
}

async function bodyOf({ format, options }: State, { token }: Secrets, alerts: readonly Alert[]): Promise<string> {
  try {
    return await format.body(alerts, { secret: token ?? '', labels: options.settings.labels });
  } catch (error) {
    if (error instanceof SendError) throw error;
    throw new SendError('refused', `the event can't be said in the format: ${messageOf(error)}`);
  }
}

async function ask(
  state: State,
  secrets: Secrets,
  alerts: readonly Alert[],
  body: string,
  signal: AbortSignal,
): Promise<Answer> {
  const { options, closing, format } = state;
  const { settings } = options;
  const { timeoutMillis } = settings;
  const late = (): SendError =>
    new SendError('timeout', `${new URL(secrets.url).origin} did not answer in ${timeoutMillis} ms`);
  return withinTime({ signal, closing: closing.signal, timeoutMillis, late }, (within) =>
    exchange(
      {
        url: secrets.url,
        method: settings.method,
        headers: headersOf(state, secrets, alerts, body),
        body,
        allowLinkLocal: settings.allowLinkLocal,
        needsText: format.refusal !== undefined,
      },
      connectionsOf(state, secrets),
      within,
    ),
  );
}

function headersOf(
  { options: { settings }, format }: State,
  secrets: Secrets,
  alerts: readonly Alert[],
  body: string,
): Record<string, string> {
  const [first, second] = alerts;
  return {
    'user-agent': 'dpi-agent',
    accept: '*/*',
    // What unpacks to more than was asked for has no bound.
    'accept-encoding': 'identity',
    'content-type': format.contentType(alerts),
    ...(first === undefined || second !== undefined ? {} : { 'idempotency-key': first.id }),
    ...lowerCased(settings.headers),
    ...credentialsOf(settings, format, secrets),
    ...(secrets.hmac === undefined ? {} : { [settings.hmacHeader.toLowerCase()]: signatureOf(secrets.hmac, body) }),
  };
}

function credentialsOf(
  { username, secretHeader }: HttpSettings,
  { secret }: Format,
  { token, password }: Secrets,
): Record<string, string> {
  const basic = Buffer.from(`${username ?? ''}:${password ?? ''}`).toString('base64');
  const user = password === undefined ? {} : { authorization: `Basic ${basic}` };
  if (token === undefined || secret === 'body') return user;
  const header = secretHeader.toLowerCase();
  if (header !== 'authorization') return { ...user, [header]: token };
  return { ...user, authorization: `${secret === 'splunk' ? 'Splunk' : 'Bearer'} ${token}` };
}

export function signatureOf(key: string, body: string): string {
  return `sha256=${createHmac('sha256', key).update(body).digest('hex')}`;
}

function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

function connectionsOf(state: State, secrets: Secrets): Dispatcher {
  if (state.connections?.of !== secrets) {
    // It has no requests: they go one after the other.
    state.connections?.dispatcher.destroy().catch(() => undefined);
    state.connections = { of: secrets, dispatcher: createDispatcher(state.options.settings, secrets) };
  }
  return state.connections.dispatcher;
}
