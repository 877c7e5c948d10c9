/**
 * The alerts in Elasticsearch, of all nodes. Each question is one request, or two, whose cost does not grow with the
 * answer: at most 50 documents, without their payload and rule; counts by aggregations; none counts hits. New alerts
 * are looked for every 2 s while somebody looks on: those of the last 15 minutes by their time; what is delivered later
 * shows when the list is loaded again.
 *
 * Marks are fields of the event's document. An agent only creates documents, so what it sends again undoes no mark.
 */
import { Client, ClusterConnectionPool, errors, type estypes } from '@elastic/elasticsearch';
import { LRUCache } from 'lru-cache';
import { isIP } from 'node:net';
import type { Config } from '../config/load.ts';
import { messageOf } from '../files/errors.ts';
import { createCredentialFiles, type Credentials } from '../ship/elasticsearch/credentials.ts';
import { namesOf } from '../ship/elasticsearch/template.ts';
import { LEVELS, STATES, type AlertRow, type FacetName, type FacetValue, type Group, type Level } from './api.ts';
import { barsOf, type AlertQuery, type Scope } from './query.ts';
import { FIELDS, type FieldNames } from './fields.ts';
import { fields, LEVEL_FROM, levelOf, rowOf, text, type Fields, type Mark } from './row.ts';
import { FACET_VALUES, GROUPS, PAGE_ROWS, SourceError, type AlertSource } from './source.ts';

type Query = estypes.QueryDslQueryContainer;
type Aggregations = Record<string, estypes.AggregationsAggregationContainer>;

const POLL_MILLIS = 2000;
const LIVE_MILLIS = 15 * 60_000;
const LIVE_ROWS = 200;
const DAY_MILLIS = 86_400_000;
const SEEN = 20_000;
/** Ids in `next`, of alerts of one moment; an address has room for so many. */
const MOST_SHOWN = 200;
const NAMES = 20_000;
const TIME_FORMAT = 'strict_date_optional_time_nanos';

export interface ElasticsearchSourceOptions {
  config: Config['sinks']['elasticsearch'];
  cluster: string;
  now?: () => number;
}

export function openElasticsearchSource(options: ElasticsearchSourceOptions): AlertSource {
  const { config, cluster, now = Date.now } = options;
  const names = namesOf(cluster, config.schema);
  const field = FIELDS[config.schema];
  const files = createCredentialFiles(config);
  const listeners = new Set<(rows: AlertRow[], more: boolean) => void>();
  /** Messages of signatures, `gid:sid`. */
  const messages = new LRUCache<string, string>({ max: NAMES });
  let client: { of: Credentials; client: Client } | undefined;

  async function connect(): Promise<Client> {
    const credentials = await files.read();
    if (client?.of !== credentials) {
      client?.client.close().catch(() => {});
      client = { of: credentials, client: clientOf(config, credentials) };
    }
    return client.client;
  }

  /** @throws SourceError. The signal's reason when it is aborted. */
  async function ask<T>(signal: AbortSignal | undefined, run: (client: Client) => Promise<T>): Promise<T> {
    try {
      return await run(await connect());
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof errors.ResponseError && (error.statusCode === 401 || error.statusCode === 403))
        files.forget();
      throw new SourceError(explain(error, names.alias, config.nodes));
    }
  }

  async function search(body: estypes.SearchRequest, signal?: AbortSignal): Promise<estypes.SearchResponse> {
    const request = {
      index: names.alias,
      ignore_unavailable: true,
      allow_no_indices: true,
      track_total_hits: false,
      timeout: `${config.timeoutMillis}ms`,
      ...body,
    };
    return ask(signal, (current) =>
      current.search(request, {
        maxRetries: Math.max(0, config.nodes.length - 1),
        ...(signal === undefined ? {} : { signal }),
      }),
    );
  }

  const source = { excludes: ['record.payload', 'record.rule', 'dpi_agent.payload'] };
  const newestFirst = [
    { [field.time]: { order: 'desc', format: TIME_FORMAT, unmapped_type: 'date_nanos' } },
  ] as estypes.Sort;

  function rowsOf(answer: estypes.SearchResponse): AlertRow[] {
    return answer.hits.hits.flatMap(({ _source }) => {
      const row = rowOf(field.document(_source), markOf(field, _source));
      if (row === undefined) return [];
      messages.set(`${row.gid}:${row.sid}`, row.message);
      return [row];
    });
  }

  /** What signatures are called: of those that no alert so far told, one document each is looked at. */
  async function nameSignatures(keys: readonly string[], signal: AbortSignal): Promise<void> {
    const unknown = keys.filter((key) => !messages.has(key));
    if (unknown.length === 0) return;
    const searches = unknown.flatMap((key) => {
      const [gid = '', sid = ''] = key.split(':');
      const query = { bool: { filter: [{ term: { [field.sid]: sid } }, { term: { [field.gid]: gid } }] } };
      return [
        { index: names.alias, ignore_unavailable: true, allow_no_indices: true },
        { size: 1, terminate_after: 1, track_total_hits: false, query, _source: [field.messageText] },
      ];
    });
    const answer = await ask(signal, (current) => current.msearch({ searches }, { signal }));
    for (const [index, key] of unknown.entries()) {
      const response = answer.responses[index];
      const [hit] = response !== undefined && 'hits' in response ? response.hits.hits : [];
      const message = field.messageText.split('.').reduce<unknown>((value, name) => fields(value)[name], hit?._source);
      messages.set(key, text(message));
    }
  }

  const live = createPoll(async (seen, first) => {
    const answer = await search({
      size: LIVE_ROWS,
      query: { bool: { filter: [...base(field), { range: { [field.time]: { gte: iso(now() - LIVE_MILLIS) } } }] } },
      sort: newestFirst,
      _source: source,
    });
    const rows = rowsOf(answer).filter((row) => !seen.has(row.id));
    for (const row of rows) seen.add(row.id);
    if (first || rows.length === 0) return;
    for (const listener of listeners) listener(rows, rows.length === LIVE_ROWS);
  });

  return {
    about: {
      kind: 'elasticsearch',
      url: config.nodes[0] ?? '',
      index: names.alias,
      idField: field.id,
    },
    async list(query, scope, after, signal) {
      const [last, ...seen] = after?.split(',') ?? [];
      const newest = (...more: Query[]): Promise<estypes.SearchResponse> =>
        search(
          {
            size: PAGE_ROWS + 1,
            query: {
              bool: {
                filter: [
                  ...base(field),
                  ...within(field, scope),
                  ...filters(field, query),
                  ...(last === undefined ? [] : [{ range: { [field.time]: { lte: last } } }]),
                  ...more,
                ],
                must_not: seen.length === 0 ? [] : [{ ids: { values: seen } }],
              },
            },
            sort: newestFirst,
            _source: source,
          },
          signal,
        );
      // In order of time, Elasticsearch looks at all that match. The newest day mostly has enough; where little more
      // than a day is asked for, it is no gain.
      const day = (last === undefined ? (query.to ?? now()) : Date.parse(last)) - DAY_MILLIS;
      const ofDay =
        query.from !== undefined && query.from >= day - DAY_MILLIS
          ? undefined
          : await newest({ range: { [field.time]: { gte: iso(day) } } });
      const answer = ofDay !== undefined && ofDay.hits.hits.length > PAGE_ROWS ? ofDay : await newest();
      const { hits } = answer.hits;
      const rows = rowsOf({ ...answer, hits: { ...answer.hits, hits: hits.slice(0, PAGE_ROWS) } });
      if (hits.length <= PAGE_ROWS) return { rows };
      // A second key of the order, which tells alerts of one moment apart, would make each page ten times as slow:
      // their ids do.
      const time = String(hits[PAGE_ROWS - 1]?.sort?.[0]);
      const shown = hits.slice(0, PAGE_ROWS).flatMap(({ _id = '', sort }) => (String(sort?.[0]) === time ? [_id] : []));
      return { rows, next: [time, ...[...(time === last ? seen : []), ...shown].slice(-MOST_SHOWN)].join(',') };
    },
    async summary(query, scope, signal) {
      const always = [...base(field), ...within(field, scope), ...filters(field, query, 'all')];
      const span = await spanOf(query, always, signal);
      const bars = barsOf(span.from, span.to);
      const own = (except?: FacetName): Query => ({ bool: { filter: facetFilters(field, query, except) } });
      const wrap = (
        except: FacetName | undefined,
        aggregations: Aggregations,
      ): estypes.AggregationsAggregationContainer => ({
        filter: own(except),
        aggs: aggregations,
      });
      const answer = await search(
        {
          size: 0,
          query: { bool: { filter: always } },
          aggs: {
            all: wrap(undefined, {
              time: {
                date_histogram: { field: field.time, fixed_interval: `${bars.interval}ms`, min_doc_count: 1 },
                aggs: { level: levels(field) },
              },
            }),
            namespace: wrap('namespace', { values: { terms: { field: field.origin, size: 500 } } }),
            pod: wrap('pod', podAggregations(field, FACET_VALUES)),
            signature: wrap('signature', {
              values: {
                terms: { field: field.sid, size: FACET_VALUES },
                aggs: { gid: { terms: { field: field.gid, size: 4 } } },
              },
            }),
            level: wrap('level', { values: levels(field) }),
            tactic: wrap('tactic', { values: { terms: { field: field.tactic, size: FACET_VALUES, missing: 'n/a' } } }),
            state: wrap('state', {
              values: {
                filters: { filters: Object.fromEntries(STATES.map((state) => [state, stateFilter(field, state)])) },
              },
            }),
          },
        },
        signal,
      );
      const aggregations = fields(answer.aggregations);
      const buckets = bucketsOf(fields(aggregations['all'])['time']).map((bucket) => ({
        start: Number(bucket['key']),
        counts: levelCounts(bucket['level']),
      }));
      const counts = levelCounts(undefined);
      for (const bucket of buckets) for (const level of LEVELS) counts[level] += bucket.counts[level];
      const signatures = bucketsOf(fields(aggregations['signature'])['values']).flatMap(signatureCounts);
      await nameSignatures([...signatures.map(({ value }) => value), ...query.signature], signal);
      const valuesOf = (name: FacetName): Fields[] => bucketsOf(fields(aggregations[name])['values']);
      return {
        total: Number(fields(aggregations['all'])['doc_count'] ?? 0),
        counts,
        histogram: { ...bars, buckets },
        facets: {
          namespace: chosen(
            sum(valuesOf('namespace').map((bucket) => [namespaceOf(bucket['key']), countOf(bucket)])),
            query.namespace,
          ),
          pod: chosen(sum(podCounts(fields(aggregations['pod']))), query.pod).slice(0, FACET_VALUES + query.pod.length),
          signature: chosen(signatures, query.signature).map((value) => ({
            ...value,
            label: messages.get(value.value) ?? '',
          })),
          level: LEVELS.map((value) => ({ value, count: levelCounts(fields(aggregations['level'])['values'])[value] })),
          tactic: chosen(
            sum(valuesOf('tactic').map((bucket) => [tacticOf(bucket['key']), countOf(bucket)])),
            query.tactic.map((tactic) => tactic || 'none'),
          ),
          state: STATES.map((value) => ({
            value,
            count: countOf(fields(fields(fields(fields(aggregations['state'])['values'])['buckets'])[value])),
          })),
        },
      };
    },
    async groups(by, query, scope, signal) {
      const about: Aggregations = {
        newest: { max: { field: field.time, format: 'strict_date_optional_time' } },
        severity: { max: { field: field.severity } },
      };
      const aggs: Aggregations =
        by === 'pod'
          ? podAggregations(field, GROUPS, about)
          : {
              values: {
                terms: { field: field.sid, size: GROUPS },
                aggs: { gid: { terms: { field: field.gid, size: 4 }, aggs: about } },
              },
            };
      const query_ = { bool: { filter: [...base(field), ...within(field, scope), ...filters(field, query)] } };
      const answer = await search({ size: 0, query: query_, aggs }, signal);
      const aggregations = fields(answer.aggregations);
      const parts: [string, Fields][] =
        by === 'pod'
          ? podBuckets(aggregations)
          : bucketsOf(aggregations['values']).flatMap((bucket) =>
              bucketsOf(bucket['gid']).map((gid): [string, Fields] => [
                `${text(gid['key'])}:${text(bucket['key'])}`,
                gid,
              ]),
            );
      const groups = new Map<string, Group>();
      for (const [key, bucket] of parts) {
        const newest = text(fields(bucket['newest'])['value_as_string']);
        const level = levelOf(Number(fields(bucket['severity'])['value'] ?? 0));
        const known = groups.get(key);
        if (known === undefined) groups.set(key, { key, label: key, count: countOf(bucket), level, newest });
        else {
          known.count += countOf(bucket);
          if (newest > known.newest) known.newest = newest;
          if (LEVELS.indexOf(level) < LEVELS.indexOf(known.level)) known.level = level;
        }
      }
      const sorted = [...groups.values()].toSorted((a, b) => b.count - a.count).slice(0, GROUPS);
      if (by === 'pod') return sorted;
      await nameSignatures(
        sorted.map(({ key }) => key),
        signal,
      );
      return sorted.map((group) => ({ ...group, label: messages.get(group.key) ?? '' }));
    },
    async get(ids, signal) {
      const answer = await search({ size: ids.length, query: { ids: { values: [...ids] } } }, signal);
      return answer.hits.hits.flatMap(({ _source }) => {
        const event = field.document(_source);
        const row = rowOf(event, markOf(field, _source));
        return row === undefined ? [] : [{ row, event }];
      });
    },
    async mark(ids, state, by, at) {
      // The alias has several indices, and a document is updated in its own.
      const { hits } = (await search({ size: ids.length, query: { ids: { values: [...ids] } }, _source: false })).hits;
      const change = field.mark({
        dismissed: state === 'dismissed',
        acknowledged: state === 'acknowledged',
        handled_by: by,
        handled_at: at.toISOString(),
      });
      const answer = await ask(undefined, (current) =>
        current.bulk({
          refresh: 'wait_for',
          operations: hits.flatMap(({ _index, _id = '' }) => [
            { update: { _index, _id, retry_on_conflict: 3 } },
            { doc: change },
          ]),
        }),
      );
      const failed = answer.items.find(({ update }) => update?.error !== undefined)?.update?.error;
      if (failed !== undefined) {
        throw new SourceError(
          `Elasticsearch did not store it: ${failed.reason ?? failed.type}. The page's user needs the index privilege "write"`,
        );
      }
    },
    subscribe(listener) {
      listeners.add(listener);
      live.start();
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) live.stop();
      };
    },
    async close() {
      live.stop();
      await client?.client.close();
    },
  };

  /** The time that the histogram shows: as asked, else of all alerts. */
  async function spanOf(
    query: AlertQuery,
    filter: Query[],
    signal: AbortSignal,
  ): Promise<{ from: number; to: number }> {
    if (query.from !== undefined) return { from: query.from, to: query.to ?? now() };
    const answer = await search(
      { size: 0, query: { bool: { filter } }, aggs: { from: { min: { field: field.time } } } },
      signal,
    );
    const first = fields(fields(answer.aggregations)['from'])['value'];
    const to = query.to ?? now();
    return { from: typeof first === 'number' ? Math.min(first, to - 1000) : to - 3_600_000, to };
  }
}

function clientOf(config: Config['sinks']['elasticsearch'], { auth, ca }: Credentials): Client {
  return new Client({
    nodes: config.nodes,
    ...(auth === undefined ? {} : { auth }),
    tls: { rejectUnauthorized: config.verifyTls, ...(ca === undefined ? {} : { ca }) },
    ConnectionPool: ClusterConnectionPool,
    requestTimeout: config.timeoutMillis,
    headers: { 'user-agent': 'dpi-agent-ui' },
    enableMetaHeader: false,
  });
}

/** What is wrong, for who runs the page. */
function explain(error: unknown, index: string, nodes: readonly string[]): string {
  const where = `Elasticsearch (${nodes.join(', ')})`;
  if (error instanceof errors.ResponseError) {
    if (error.statusCode === 401) return `${where} does not accept the credentials: look at sinks.elasticsearch`;
    if (error.statusCode === 403)
      return `${where} does not let this user read ${index}: it needs the index privilege "read"`;
    const reason = text(fields(fields(error.body)['error'])['reason']);
    return `${where} answered ${error.statusCode ?? 'strangely'}: ${reason || error.message}`.slice(0, 500);
  }
  if (error instanceof errors.TimeoutError) return `${where} did not answer in time`;
  return `${where} does not answer: ${messageOf(error)}`.slice(0, 500);
}

/** Repeats a look until it is stopped; what fails is tried again. */
function createPoll(look: (seen: Set<string>, first: boolean) => Promise<void>): { start(): void; stop(): void } {
  let timer: NodeJS.Timeout | undefined;
  let turn = 0;
  function run(current: number, seen: Set<string>, first: boolean): void {
    const again = (isFirst: boolean): void => {
      if (turn !== current) return;
      if (seen.size > SEEN) for (const id of [...seen].slice(0, seen.size - SEEN / 2)) seen.delete(id);
      timer = setTimeout(() => run(current, seen, isFirst), POLL_MILLIS);
    };
    look(seen, first).then(
      () => again(false),
      () => again(first),
    );
  }
  return {
    start() {
      if (timer !== undefined) return;
      turn += 1;
      timer = setTimeout(() => undefined, 0);
      run(turn, new Set(), true);
    },
    stop() {
      turn += 1;
      clearTimeout(timer);
      timer = undefined;
    },
  };
}

function base(field: FieldNames): Query[] {
  return field.only === undefined ? [] : [{ term: field.only }];
}

function within(field: FieldNames, scope: Scope): Query[] {
  if (scope === 'all') return [];
  // None of nothing would be all.
  if (scope.size === 0) return [{ match_none: {} }];
  return [anyOf([...scope].map((namespace) => ({ prefix: { [field.origin]: `dpi.${namespace}/` } })))];
}

function anyOf(should: Query[]): Query {
  return { bool: { should, minimum_should_match: 1 } };
}

/** @param facets `all`: without those of the facets */
function filters(field: FieldNames, query: AlertQuery, except?: 'all'): Query[] {
  const { from, to, words } = query;
  const queries: Query[] = [];
  if (from !== undefined || to !== undefined) {
    queries.push({
      range: {
        [field.time]: {
          ...(from === undefined ? {} : { gte: iso(from) }),
          ...(to === undefined ? {} : { lt: iso(to) }),
        },
      },
    });
  }
  for (const word of words) queries.push(anyOf(wordQueries(field, word)));
  return except === 'all' ? queries : [...queries, ...facetFilters(field, query)];
}

/** Of keywords that have few different values, so that looking into each is quick. */
function wordQueries(field: FieldNames, word: string): Query[] {
  const value = `*${word.replaceAll(/[*?\\]/g, '\\$&')}*`;
  return [
    ...field.texts.map((name) => ({ wildcard: { [name]: { value, case_insensitive: true } } })),
    ...(isIP(word) === 0 ? [] : [{ term: { [field.sourceIp]: word } }, { term: { [field.destinationIp]: word } }]),
  ];
}

function facetFilters(field: FieldNames, query: AlertQuery, except?: FacetName): Query[] {
  const queries: Query[] = [];
  const add = (name: FacetName, values: readonly string[], toQuery: (value: string) => Query): void => {
    if (name !== except && values.length > 0) queries.push(anyOf(values.map(toQuery)));
  };
  add('namespace', query.namespace, (namespace) => ({ prefix: { [field.origin]: `dpi.${namespace}/` } }));
  add('pod', query.pod, (pod) => {
    const [namespace = '', name = ''] = pod.split('/');
    const at = (end: { namespace: string; name: string }): Query => ({
      bool: { filter: [{ term: { [end.namespace]: namespace } }, { term: { [end.name]: name } }] },
    });
    return anyOf([at(field.sourcePod), at(field.destinationPod)]);
  });
  add('signature', query.signature, (signature) => {
    const [gid = '', sid = ''] = signature.split(':');
    return { bool: { filter: [{ term: { [field.sid]: sid } }, { term: { [field.gid]: gid } }] } };
  });
  add('level', query.level, (level) => {
    const { from, to } = levelRange(level as Level);
    return { range: { [field.severity]: { gte: from, ...(to === undefined ? {} : { lt: to }) } } };
  });
  add('tactic', query.tactic, (tactic) =>
    tactic === ''
      ? anyOf([{ term: { [field.tactic]: 'n/a' } }, { bool: { must_not: [{ exists: { field: field.tactic } }] } }])
      : { term: { [field.tactic]: tactic } },
  );
  if (except !== 'state') {
    if (query.state.length === 0) queries.push({ bool: { must_not: [{ term: { [field.dismissed]: true } }] } });
    else add('state', query.state, (state) => stateFilter(field, state));
  }
  return queries;
}

function stateFilter(field: FieldNames, state: string): Query {
  const dismissed = { term: { [field.dismissed]: true } };
  const acknowledged = { term: { [field.acknowledged]: true } };
  if (state === 'dismissed') return dismissed;
  if (state === 'acknowledged') return { bool: { filter: [acknowledged], must_not: [dismissed] } };
  return { bool: { must_not: [dismissed, acknowledged] } };
}

function markOf(field: FieldNames, source: unknown): Mark {
  const mark = field.markOf(source);
  const by = text(mark['handled_by']);
  const at = text(mark['handled_at']);
  return {
    state: mark['dismissed'] === true ? 'dismissed' : mark['acknowledged'] === true ? 'acknowledged' : 'open',
    ...(by === '' ? {} : { by }),
    ...(at === '' ? {} : { at }),
  };
}

function levelRange(level: Level): { from: number; to?: number } {
  const above = LEVELS[LEVELS.indexOf(level) - 1];
  return { from: LEVEL_FROM[level], ...(above === undefined ? {} : { to: LEVEL_FROM[above] }) };
}

function levels(field: FieldNames): estypes.AggregationsAggregationContainer {
  return { range: { field: field.severity, ranges: LEVELS.map((level) => ({ key: level, ...levelRange(level) })) } };
}

function levelCounts(aggregation: unknown): Record<Level, number> {
  const counts = { critical: 0, high: 0, medium: 0, low: 0 };
  for (const bucket of bucketsOf(aggregation)) {
    const level = LEVELS.find((name) => name === bucket['key']);
    if (level !== undefined) counts[level] = countOf(bucket);
  }
  return counts;
}

/** Names first, then their namespaces: both together would be a value for each document. */
function podAggregations(field: FieldNames, size: number, about: Aggregations = {}): Aggregations {
  const side = ({
    namespace,
    name,
  }: {
    namespace: string;
    name: string;
  }): estypes.AggregationsAggregationContainer => ({
    terms: { field: name, size, exclude: ['-'] },
    aggs: { namespace: { terms: { field: namespace, size: 5, exclude: ['-'] }, aggs: about } },
  });
  return { source: side(field.sourcePod), destination: side(field.destinationPod) };
}

function podBuckets(aggregations: Fields): [string, Fields][] {
  return ['source', 'destination'].flatMap((side) =>
    bucketsOf(aggregations[side]).flatMap((bucket) =>
      bucketsOf(bucket['namespace']).map((namespace): [string, Fields] => [
        `${text(namespace['key'])}/${text(bucket['key'])}`,
        namespace,
      ]),
    ),
  );
}

function podCounts(aggregations: Fields): [string, number][] {
  return podBuckets(aggregations).map(([pod, bucket]) => [pod, countOf(bucket)]);
}

function signatureCounts(bucket: Fields): FacetValue[] {
  return bucketsOf(bucket['gid']).map((gid) => ({
    value: `${text(gid['key'])}:${text(bucket['key'])}`,
    count: countOf(gid),
  }));
}

function bucketsOf(aggregation: unknown): Fields[] {
  const { buckets } = fields(aggregation);
  return Array.isArray(buckets) ? buckets.map(fields) : [];
}

function countOf(bucket: Fields): number {
  return Number(bucket['doc_count'] ?? 0);
}

function namespaceOf(origin: unknown): string {
  return /^dpi\.([^/]+)\//.exec(String(origin))?.[1] ?? '';
}

function tacticOf(value: unknown): string {
  return value === 'n/a' ? 'none' : String(value);
}

/** Most first. */
function sum(counts: readonly [string, number][]): FacetValue[] {
  const sums = new Map<string, number>();
  for (const [value, count] of counts) if (value !== '') sums.set(value, (sums.get(value) ?? 0) + count);
  return [...sums].map(([value, count]) => ({ value, count })).toSorted((a, b) => b.count - a.count);
}

/** With those that are chosen and have no alerts. */
function chosen(values: readonly FacetValue[], wanted: readonly string[]): FacetValue[] {
  const missing = wanted.filter((value) => !values.some((known) => known.value === value));
  return [...values, ...missing.map((value) => ({ value, count: 0 }))];
}

function iso(millis: number): string {
  return new Date(millis).toISOString();
}
