/**
 * What makes alerts fewer: tried on the alerts of the last days, kept, listed, taken out. It is for all namespaces, so
 * it takes a right of its own; what it is tried on are alerts that the one who asks may see.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { User } from './access.ts';
import { signalOf } from './answers.ts';
import { TUNE_KINDS, TUNE_TRACKS, type AlertRow, type TuneOutcome, type TuneRequest, type Tuned } from './api.ts';
import { quoted } from './language/write.ts';
import { inScope, parseQuery, QueryError } from './query.ts';
import { Refused } from './refused.ts';
import { isId } from './requests.ts';
import { fields } from './row.ts';
import { SourceError, type AlertSource } from './source.ts';
import type { Visitors } from './visitors.ts';

/** Alerts that an entry is tried on. */
const MOST_TRIED = 10_000;

export interface Tuning {
  /** Where it is kept, for people. */
  readonly where: string;
  list(): Promise<Tuned[]>;
  /** What it would have left out. */
  attempt(request: TuneRequest, past: readonly AlertRow[]): Omit<TuneOutcome, 'more'>;
  add(request: TuneRequest, by: string): Promise<Tuned>;
  /** @returns what it was. */
  remove(name: string): Promise<Tuned>;
  /** Whether an error is for who asked. */
  isRefusal(error: unknown): error is Error;
}

interface Site {
  readonly visitors: Visitors;
  readonly source: AlertSource;
  readonly log: Logger;
  readonly tuning?: Tuning;
}

export function addTuning(app: FastifyInstance, site: Site): void {
  app.get('/api/tuning', async (request) => {
    const { tuning } = await allowed(site, request);
    return { where: tuning.where, entries: await answered(tuning, () => tuning.list()) };
  });
  app.post('/api/tuning/attempt', async (request, reply) => {
    const { tuning, user } = await allowed(site, request);
    return attempt(site, tuning, user, entryOf(request.body), reply);
  });
  app.post('/api/tuning', async (request, reply) => {
    const { tuning, user } = await allowed(site, request);
    const entry = entryOf(request.body);
    const added = await answered(tuning, () => tuning.add(entry, user.name));
    site.log.info({ user: user.name, entry: added, where: tuning.where }, 'tuned');
    await tell(site, user, fields(request.body)['alert'], added, reply);
    return added;
  });
  app.delete('/api/tuning/:id', async (request) => {
    const { tuning, user } = await allowed(site, request);
    const { id } = request.params as { id: string };
    const removed = await answered(tuning, () => tuning.remove(id));
    site.log.info({ user: user.name, entry: removed, where: tuning.where }, 'no longer tuned');
    return removed;
  });
}

/** @throws Refused */
async function allowed({ visitors, tuning }: Site, request: FastifyRequest): Promise<{ user: User; tuning: Tuning }> {
  const user = await visitors.signedIn(request);
  if (tuning === undefined)
    throw new Refused(404, 'there is no policy to tune: alerts.policy, or ui.policyConfigMap in a cluster, names one');
  if (!(await user.mayTune()))
    throw new Refused(403, `you may not tune alerts: that takes the verb "update" on the ${tuning.where}`);
  return { user, tuning };
}

/** What is wrong with the entry, or where it is kept, is for who asked. */
async function answered<T>(tuning: Tuning, action: () => T | Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (tuning.isRefusal(error)) throw new QueryError(error.message);
    throw error instanceof Error ? new SourceError(error.message) : error;
  }
}

async function attempt(
  { source }: Site,
  tuning: Tuning,
  user: User,
  entry: TuneRequest,
  reply: FastifyReply,
): Promise<TuneOutcome> {
  // Before anything is looked for: an entry that is none.
  await answered(tuning, () => tuning.attempt(entry, []));
  const query = parseQuery(
    { range: '7d', state: ['open', 'acknowledged', 'dismissed'], q: selecting(entry) },
    Date.now(),
  );
  const past = await source.matching(query, await user.readable(), MOST_TRIED, signalOf(reply));
  const outcome = await answered(tuning, () => tuning.attempt(entry, past));
  return { ...outcome, more: past.length === MOST_TRIED };
}

/** At least what the entry selects: it is judged itself, on what is found. */
function selecting({ signature, pod, source, destination }: TuneRequest): string {
  const [namespace] = pod?.split('/') ?? [];
  return [
    ...(signature === undefined ? [] : [`signature: ${quoted(signature)}`]),
    ...(source === undefined ? [] : [`source.ip: ${quoted(source)}`]),
    ...(destination === undefined ? [] : [`destination.ip: ${quoted(destination)}`]),
    ...(namespace === undefined || namespace === '' ? [] : [`namespace: ${namespace}`]),
  ].join(' and ');
}

/** The alert that it was made for has it in its history; that it can't be noted takes nothing back. */
async function tell(
  { source, log }: Site,
  user: User,
  id: unknown,
  { name }: Tuned,
  reply: FastifyReply,
): Promise<void> {
  if (typeof id !== 'string' || !isId(id)) return;
  try {
    const [alert] = await source.get([id], signalOf(reply));
    if (alert === undefined || !inScope(await user.readable(), alert.row.namespace)) return;
    await source.mark([id], { tuned: name, by: user.name, at: new Date().toISOString() });
  } catch (error) {
    log.warn({ err: error, alert: id }, 'the history of an alert does not say that its like was tuned');
  }
}

const TEXTS = ['signature', 'pod', 'source', 'destination', 'days', 'hours', 'until'] as const;
const MAX_TEXT = 512;

/** @throws QueryError */
function entryOf(body: unknown): TuneRequest {
  const entry = fields(fields(body)['entry']);
  const kind = TUNE_KINDS.find((name) => name === entry['kind']);
  if (kind === undefined) throw new QueryError(`kind: expected one of ${TUNE_KINDS.join(', ')}`);
  const track = TUNE_TRACKS.find((name) => name === entry['track']);
  const texts = TEXTS.flatMap((name) => {
    const value = entry[name];
    if (value === undefined || value === '') return [];
    if (typeof value !== 'string' || value.length > MAX_TEXT)
      throw new QueryError(`${name}: expected a text of at most ${MAX_TEXT} characters`);
    return [[name, value]];
  });
  const numbers = (['count', 'seconds'] as const).flatMap((name) => {
    const value = entry[name];
    if (value === undefined) return [];
    if (typeof value !== 'number') throw new QueryError(`${name}: expected a number`);
    return [[name, value]];
  });
  const { reason } = entry;
  if (typeof reason !== 'string') throw new QueryError('reason: expected a text');
  return {
    kind,
    reason,
    ...Object.fromEntries([...texts, ...numbers]),
    ...(track === undefined ? {} : { track }),
  };
}
