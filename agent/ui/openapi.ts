/**
 * What the page's server answers, as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1): at `/api/openapi.json`, and as
 * docs/openapi.json. Values come from where requests are checked; a test holds its paths to the server's own.
 */
import { MAX_ACKNOWLEDGED } from './acknowledge.ts';
import { LEVELS, ORDERS, RANGES, REASONS, STATES, TUNE_KINDS, TUNE_TRACKS, VALUE_FIELDS } from './api.ts';
import { EXPORTS } from './export.ts';
import { MAX_MARKED } from './requests.ts';
import { MAX_PAGE_ROWS, PAGE_ROWS } from './source.ts';

type Schema = Record<string, unknown>;
type Method = 'get' | 'post' | 'delete';

interface Operation {
  summary: string;
  /** Of the query. */
  parameters?: Schema[];
  body?: Schema;
  /** What the answer is, of JSON; or its types. */
  answer?: Schema | readonly string[];
  /** Answered to everybody. */
  open?: boolean;
}

const string: Schema = { type: 'string' };
const time: Schema = { type: 'string', format: 'date-time' };
const count: Schema = { type: 'integer', minimum: 0 };
const namespaceName: Schema = { type: 'string', maxLength: 63 };

function query(name: string, schema: Schema, description: string, required = false): Schema {
  return { name, in: 'query', schema, description, ...(required ? { required } : {}) };
}

function several(name: string, item: Schema, description: string): Schema {
  return { ...query(name, { type: 'array', items: item }, description), style: 'form', explode: true };
}

function oneOf(values: readonly string[], fallback?: string): Schema {
  return { type: 'string', enum: values, ...(fallback === undefined ? {} : { default: fallback }) };
}

function object(properties: Record<string, Schema>, required: readonly string[] = Object.keys(properties)): Schema {
  return { type: 'object', properties, required };
}

function list(items: Schema): Schema {
  return { type: 'array', items };
}

/** The filters of the list. All have to hold; of one that is repeated, any. */
const FILTERS = [
  query('range', oneOf(RANGES, '24h'), 'How far back'),
  query('from', time, 'Not before, in place of range'),
  query('to', time, 'Before'),
  several('namespace', string, 'Of the DeepPacketInspection'),
  several('pod', string, '<namespace>/<pod>, at either end'),
  several('signature', string, '<gid>:<sid>'),
  several('level', oneOf(LEVELS), 'Severity'),
  several('tactic', string, 'Such as TA0011, or none'),
  several('state', oneOf(STATES), 'Without it, those that are not dismissed'),
  query('q', string, 'The search of the Alerts page'),
];
const ORDER = query('sort', oneOf(ORDERS, 'time'), 'What comes first');

const row = { $ref: '#/components/schemas/AlertRow' };
const isolation = { $ref: '#/components/schemas/Isolation' };
const wish = object(
  {
    namespace: namespaceName,
    pod: string,
    allow: oneOf(['nothing', 'dns'], 'nothing'),
    forMillis: { type: 'integer', minimum: 60_000, maximum: 2_592_000_000 },
    reason: { type: 'string', minLength: 1, maxLength: 500 },
    alert: string,
    partly: { type: 'boolean', default: false },
    dryRun: { type: 'boolean', default: true },
  },
  ['namespace', 'pod', 'forMillis', 'reason'],
);

const tuning = object(
  {
    kind: oneOf(TUNE_KINDS),
    ...Object.fromEntries(
      ['signature', 'pod', 'source', 'destination', 'days', 'hours', 'until'].map((name) => [name, string]),
    ),
    reason: string,
    count,
    seconds: count,
    track: oneOf(TUNE_TRACKS),
  },
  ['kind', 'reason'],
);
const act = {
  state: oneOf(STATES),
  reason: oneOf(REASONS),
  comment: string,
  assignee: string,
};

/** By path, with `{id}` for parameters. */
export const OPERATIONS: Record<string, Partial<Record<Method, Operation>>> = {
  '/api/openapi.json': { get: { summary: 'This document', open: true } },
  '/api/session': {
    get: {
      summary: 'Who is signed in, and what the server has',
      answer: object({ access: string, user: string, version: string, source: { type: 'object' } }),
    },
    post: {
      summary: 'Signs in; the session is a cookie',
      body: { oneOf: [object({ token: string }), object({ username: string, password: string })] },
      open: true,
    },
    delete: { summary: 'Signs out', open: true },
  },
  '/api/alerts': {
    get: {
      summary: 'Alerts, page by page',
      parameters: [
        ...FILTERS,
        query('after', string, '`next` of the page before'),
        query('size', { type: 'integer', minimum: 1, maximum: MAX_PAGE_ROWS, default: PAGE_ROWS }, 'Rows of a page'),
        ORDER,
      ],
      answer: object({ rows: list(row), next: string }, ['rows']),
    },
  },
  '/api/summary': {
    get: {
      summary: 'How many alerts there are, over time and by their values',
      parameters: FILTERS,
      answer: object(
        {
          total: count,
          reading: { type: 'boolean' },
          counts: object(Object.fromEntries(LEVELS.map((level) => [level, count]))),
          histogram: object({ from: count, to: count, interval: count, buckets: list({ type: 'object' }) }),
          facets: { type: 'object' },
        },
        ['total', 'counts', 'histogram', 'facets'],
      ),
    },
  },
  '/api/groups': {
    get: {
      summary: 'Alerts by signature or pod, the most frequent first',
      parameters: [query('by', oneOf(['signature', 'pod']), 'What they have in common', true), ...FILTERS],
      answer: list(object({ key: string, label: string, count, level: oneOf(LEVELS), newest: time })),
    },
  },
  '/api/export': {
    get: {
      summary: 'The list as a file',
      parameters: [query('as', oneOf(Object.keys(EXPORTS)), 'Its format', true), ...FILTERS, ORDER],
      answer: Object.values(EXPORTS).map(({ type }) => type.split(';')[0] ?? ''),
    },
  },
  '/api/live': {
    get: { summary: 'Alerts and marks as they come', parameters: FILTERS, answer: ['text/event-stream'] },
  },
  '/api/alerts/{id}': {
    get: {
      summary: 'One alert: its row, its document, its rule, and what was done with it',
      answer: object(
        {
          row,
          event: { type: 'object' },
          rule: { type: 'object' },
          words: { type: 'object' },
          advice: { type: 'object' },
          history: list({ type: 'object' }),
        },
        ['row', 'event'],
      ),
    },
  },
  '/api/alerts/{id}/related': {
    get: {
      summary: 'Alerts of its flow, source, pod and technique, a day before and behind it',
      answer: object({
        from: time,
        to: time,
        of: list({ type: 'object' }),
        signature: object({ count, first: time, last: time }, ['count']),
        all: object({ count, first: time, last: time }, ['count']),
      }),
    },
  },
  '/api/values': {
    get: {
      summary: 'Values of a field, the most frequent first',
      parameters: [
        query('of', oneOf(VALUE_FIELDS), 'The field', true),
        query('prefix', string, 'How they begin'),
        ...FILTERS,
      ],
      answer: list(object({ value: string, count })),
    },
  },
  '/api/flows': {
    get: {
      summary: 'Who attacks whom: pairs of namespaces and of pods, and sources; others: alerts in no pair of pods',
      parameters: FILTERS,
      answer: object({
        pairs: list({ type: 'object' }),
        edges: list({ type: 'object' }),
        others: count,
        talkers: list({ type: 'object' }),
      }),
    },
  },
  '/api/tuning': {
    get: {
      summary: 'What makes alerts fewer',
      answer: object({ where: string, entries: list({ type: 'object' }) }),
    },
    post: {
      summary: 'Keeps an entry; alert: what it was made for',
      body: object({ entry: tuning, alert: string }, ['entry']),
      answer: { type: 'object' },
    },
  },
  '/api/tuning/attempt': {
    post: {
      summary: 'What an entry would have left out of the last 7 days',
      body: object({ entry: tuning }),
      answer: object({ events: count, leftOut: count, alerts: count, alertsLeftOut: count, criticalLeftOut: count }),
    },
  },
  '/api/tuning/{id}': { delete: { summary: 'Takes the entry of this name out', answer: { type: 'object' } } },
  '/api/acknowledge': {
    post: {
      summary: 'Acknowledges alerts, with a token of ui.acknowledgeTokensFile',
      body: object({ ids: { ...list(string), minItems: 1, maxItems: MAX_ACKNOWLEDGED } }),
      answer: object({ acknowledged: list(string), before: list(string), unknown: list(string) }),
    },
  },
  '/api/alerts/{id}/packets': {
    get: {
      summary: "The packets of an alert's flow",
      answer: object({ packets: list({ type: 'object' }), left: count }),
    },
  },
  '/api/alerts/{id}/pcap': {
    get: { summary: 'The same as a capture file (pcapng)', answer: ['application/vnd.tcpdump.pcap'] },
  },
  '/api/marks': {
    post: {
      summary: 'Acknowledges, dismisses or opens alerts, with a comment or an assignee',
      body: {
        oneOf: [
          object({ ids: { ...list(string), minItems: 1, maxItems: MAX_MARKED }, ...act }, ['ids']),
          object({ query: string, until: time, ...act }, ['query']),
        ],
      },
      answer: object({
        marked: count,
        more: { type: 'boolean' },
        before: list(object({ state: oneOf(STATES), ids: list(string) })),
      }),
    },
  },
  '/api/coverage': {
    get: {
      summary: 'What is inspected, and what is not',
      answer: object({ nodes: list({ type: 'object' }), resources: list({ type: 'object' }), problems: list(string) }),
    },
  },
  '/api/dry-run': {
    get: {
      summary: 'Which pods a selector would inspect',
      parameters: [query('namespace', namespaceName, 'Where'), query('selector', string, "Calico's selector")],
      answer: object({ selector: string, namespace: string, pods: list({ type: 'object' }) }),
    },
  },
  '/api/isolations': {
    get: {
      summary: 'Isolated pods (where respond.url names who isolates)',
      parameters: [query('namespace', namespaceName, 'Of this one only')],
      answer: object({ isolations: list(isolation) }),
    },
    post: {
      summary: 'Isolates a pod; with dryRun, says what would be cut',
      body: wish,
      answer: object({ cut: { type: 'object' }, isolation }, ['cut']),
    },
  },
  '/api/isolations/release': {
    post: {
      summary: 'Lets an isolated pod go',
      body: object({ namespace: namespaceName, pod: string, reason: string }, ['namespace', 'pod']),
      answer: object({ released: string }),
    },
  },
};

const SCHEMAS: Record<string, Schema> = {
  AlertRow: object({
    id: string,
    timestamp: time,
    severity: { type: 'integer', minimum: 0, maximum: 100 },
    level: oneOf(LEVELS),
    state: oneOf(STATES),
    resource: string,
    namespace: string,
    gid: string,
    sid: string,
    rev: string,
    message: string,
    source: { $ref: '#/components/schemas/End' },
    destination: { $ref: '#/components/schemas/End' },
    protocol: string,
    techniques: list(string),
    cves: list(string),
    count,
    node: string,
  }),
  End: object({ ip: string, port: { type: 'integer' }, name: string, namespace: string }, ['ip']),
  Isolation: object(
    {
      namespace: string,
      pod: string,
      allow: oneOf(['nothing', 'dns']),
      by: string,
      reason: string,
      alert: string,
      since: time,
      until: time,
    },
    ['namespace', 'pod', 'allow', 'by', 'reason', 'since', 'until'],
  ),
  Refusal: object({ error: string, position: count }, ['error']),
};

/** The document. */
export function openApi(version: string): object {
  const paths = Object.entries(OPERATIONS).map(([path, operations]) => [
    path,
    Object.fromEntries(Object.entries(operations).map(([method, one]) => [method, described(path, method, one)])),
  ]);
  return {
    openapi: '3.1.0',
    info: {
      title: 'dpi-agent, the HTTP API of the Alerts page',
      version,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: [{ token: [] }, { session: [] }],
    paths: Object.fromEntries(paths) as object,
    components: {
      securitySchemes: {
        token: { type: 'http', scheme: 'bearer', description: 'A token of the cluster (ui.access: kubernetes)' },
        session: { type: 'apiKey', in: 'cookie', name: '__Host-dpi-agent', description: 'Of POST /api/session' },
      },
      schemas: SCHEMAS,
    },
  };
}

function contentOf(answer: Schema | readonly string[]): object {
  if (Array.isArray(answer)) return Object.fromEntries(answer.map((type) => [type as string, {}]));
  return { 'application/json': { schema: answer } };
}

function described(path: string, method: string, operation: Operation): object {
  const { summary, parameters = [], body, answer = { type: 'object' }, open = false } = operation;
  const ids = path.includes('{id}') ? [{ name: 'id', in: 'path', required: true, schema: string }] : [];
  const words = path
    .replaceAll(/[^a-z]+/gi, ' ')
    .trim()
    .split(' ')
    .slice(1);
  const json = (schema: unknown): object => ({ 'application/json': { schema } });
  return {
    operationId: [method, ...words].join('-'),
    summary,
    ...(open ? { security: [] } : {}),
    ...(ids.length + parameters.length === 0 ? {} : { parameters: [...ids, ...parameters] }),
    ...(body === undefined ? {} : { requestBody: { required: true, content: json(body) } }),
    responses: {
      200: { description: summary, content: contentOf(answer) },
      default: { description: 'Refused', content: json({ $ref: '#/components/schemas/Refusal' }) },
    },
  };
}
