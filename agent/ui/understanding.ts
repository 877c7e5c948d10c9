/** What helps to understand alerts: values of fields, who attacks whom, and what is around one alert. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { signalOf } from './answers.ts';
import { RELATIONS, VALUE_FIELDS, type AlertRow, type FacetValue, type Related, type Relation } from './api.ts';
import { quoted } from './language/write.ts';
import { inScope, parseQuery, QueryError, single, type Scope } from './query.ts';
import { Refused } from './refused.ts';
import { isId, parameters } from './requests.ts';
import { FACET_VALUES, type AlertSource } from './source.ts';
import type { Visitors } from './visitors.ts';

const DAY_MILLIS = 86_400_000;
const MAX_PREFIX = 100;
const MOST_ROWS = 50;

interface Site {
  readonly visitors: Visitors;
  readonly source: AlertSource;
}

export function addUnderstanding(app: FastifyInstance, site: Site): void {
  app.get('/api/values', (request, reply) => values(site, request, reply));
  app.get('/api/flows', async (request, reply) => {
    const user = await site.visitors.signedIn(request);
    const query = parseQuery(parameters(request), Date.now());
    return site.source.flows(query, await user.readable(), signalOf(reply));
  });
  app.get('/api/alerts/:id/related', (request, reply) => related(site, request, reply));
}

async function values({ visitors, source }: Site, request: FastifyRequest, reply: FastifyReply): Promise<FacetValue[]> {
  const user = await visitors.signedIn(request);
  const { of, prefix, ...rest } = parameters(request);
  const field = VALUE_FIELDS.find((name) => name === of);
  if (field === undefined) throw new QueryError(`of: expected one of ${VALUE_FIELDS.join(', ')}`);
  const begins = (single('prefix', prefix) ?? '').toLowerCase();
  if (begins.length > MAX_PREFIX) throw new QueryError(`prefix: expected at most ${MAX_PREFIX} characters`);
  const query = parseQuery(rest, Date.now());
  return source.values({ field, prefix: begins, limit: FACET_VALUES }, query, await user.readable(), signalOf(reply));
}

async function related({ visitors, source }: Site, request: FastifyRequest, reply: FastifyReply): Promise<Related> {
  const user = await visitors.signedIn(request);
  const scope = await user.readable();
  const { id } = request.params as { id: string };
  const signal = signalOf(reply);
  const alert = isId(id) ? (await source.get([id], signal))[0] : undefined;
  if (alert === undefined || !inScope(scope, alert.row.namespace))
    throw new Refused(404, `there is no alert ${id.slice(0, 128)}, or you may not see it`);
  const { row } = alert;
  const time = Date.parse(row.timestamp);
  const [from, to] = [time - DAY_MILLIS, time + DAY_MILLIS].map((millis) => new Date(millis).toISOString());
  const around = { from, to, state: ALL_STATES };
  const whenever = { range: 'all', state: ALL_STATES };
  const [of, signature, all] = await Promise.all([
    Promise.all(RELATIONS.flatMap((by) => relatedBy(source, by, row, around, scope, signal))),
    source.span(parseQuery({ ...whenever, signature: signatureOf(row) }, Date.now()), scope, signal),
    source.span(parseQuery(whenever, Date.now()), scope, signal),
  ]);
  return { from: from ?? '', to: to ?? '', of, signature, all };
}

const ALL_STATES = ['open', 'acknowledged', 'dismissed'];

/** Its signature, where it has the form of one: documents may come from anybody. */
function signatureOf({ gid, sid }: AlertRow): string[] {
  return /^\d{1,10}:\d{1,10}$/.test(`${gid}:${sid}`) ? [`${gid}:${sid}`] : [];
}

function relatedBy(
  source: AlertSource,
  by: Relation,
  row: AlertRow,
  around: Readonly<Record<string, unknown>>,
  scope: Scope,
  signal: AbortSignal,
): Promise<Related['of'][number]>[] {
  const q = commonOf(by, row);
  if (q === undefined) return [];
  const query = parseQuery({ ...around, q }, Date.now());
  return [
    Promise.all([
      source.list(query, scope, { size: MOST_ROWS, order: 'time' }, signal),
      source.span(query, scope, signal),
    ]).then(([{ rows }, { count }]) => ({ by, q, count, rows })),
  ];
}

/** What alerts have in common with it, in words; undefined: it has none of it. */
function commonOf(by: Relation, row: AlertRow): string | undefined {
  const { source, destination, techniques, seenAt } = row;
  switch (by) {
    case 'flow':
      return row.source.port === undefined ? undefined : flowQuery(row);
    case 'source':
      return source.ip === '' ? undefined : `source.ip: ${quoted(source.ip)}`;
    case 'pod': {
      const pod = seenAt[0] ?? '';
      return /^[^/]+\/[^/]+$/.test(pod) ? `pod: ${quoted(pod)}` : undefined;
    }
    case 'technique':
      return techniques[0] === undefined || destination.ip === '' ? undefined : `technique: ${quoted(techniques[0])}`;
  }
}

/** In both directions. */
function flowQuery({ source, destination, protocol }: AlertRow): string {
  const one = (from: AlertRow['source'], to: AlertRow['source']): string =>
    `(source.ip: ${quoted(from.ip)} and source.port: ${from.port ?? 0} and destination.ip: ${quoted(to.ip)} and destination.port: ${to.port ?? 0})`;
  return `protocol: ${quoted(protocol)} and (${one(source, destination)} or ${one(destination, source)})`;
}
