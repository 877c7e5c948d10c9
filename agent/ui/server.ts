/**
 * The Alerts page's server: the page's files, and what it asks for in JSON under `/api/`.
 *
 * Every answer forbids what the page does not need: inline scripts and styles, other sites, frames. Requests that
 * change something have to be JSON from the page itself. Without access control only requests for this machine's own
 * name are answered, so that no other site can reach the page under a name of its own.
 */
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { Access, User } from './access.ts';
import { ACKNOWLEDGE_PATH, addAcknowledge, type AcknowledgeOptions } from './acknowledge.ts';
import { HEADERS, sendFile, signalOf } from './answers.ts';
import { elsewhere, prefixOf, type FurtherCluster } from './clusters.ts';
import type {
  AlertDetail,
  AlertRow,
  Coverage,
  DryRun,
  MarkAnswer,
  RuleText,
  Session,
  SignInNeeded,
  State,
} from './api.ts';
import { contentsOf } from '../rulesets/contents.ts';
import { EXPORTS, exported, formatOf } from './export.ts';
import type { PageFile } from './files.ts';
import { openApi } from './openapi.ts';
import { shownPackets } from './packets.ts';
import { createLive, type Live } from './live.ts';
import { addResponse, type ResponseAsker } from './response.ts';
import { inScope, parseQuery, single, type AlertQuery, type Scope } from './query.ts';
import { refusalOf, Refused } from './refused.ts';
import { adviceFor } from './advice.ts';
import { addUnderstanding } from './understanding.ts';
import { fields, text } from './row.ts';
import { wordsOf } from './rules.ts';
import {
  checkLoopback,
  checkOwn,
  credentialsOf,
  groupingOf,
  isId,
  marksOf,
  MAX_MARKED,
  pageOf,
  parameters,
  type MarkRequest,
} from './requests.ts';
import type { AlertSource, Marked } from './source.ts';
import { addTuning, type Tuning } from './tuning.ts';
import { createVisitors, type Visitors } from './visitors.ts';

const BODY_BYTES = 256 << 10;

export interface ServerOptions extends AcknowledgeOptions {
  source: AlertSource;
  access: Access;
  page: Map<string, PageFile>;
  version: string;
  log: Logger;
  kibanaUrl?: string;
  /** Certificate and key in PEM. */
  tls?: { cert: Buffer; key: Buffer };
  /** Whether browsers reach it over TLS, its own or that of a proxy. */
  secure: boolean;
  /** Addresses and networks of proxies whose word on where a request is from is taken. */
  trustedProxies: string[];
  /** The rule with this number, where the server has it. */
  rule(gid: number, sid: number): Promise<RuleText | undefined>;
  /** What became known of an alert's flow after it was journaled, where the server has it. */
  evidence?: (id: string) => Promise<object | undefined>;
  /** The capture file of an alert's flow, where the server has it. */
  packets?: (id: string) => Promise<Buffer | undefined>;
  coverage(scope: Scope): Promise<Coverage>;
  /** @throws Refused */
  dryRun?: (namespace: string, selector: string) => Promise<DryRun>;
  /** Absent where nothing can be quietened. */
  tuning?: Tuning;
  /** Called for alerts that were acknowledged or dismissed. */
  onHandled?: (ids: readonly string[]) => void;
  /** Who isolates pods, where somebody does. */
  response?: ResponseAsker;
  /** The name of this cluster, and others whose alerts can be seen here. */
  clusters?: { own: string; further: readonly FurtherCluster[] };
}

/** What a request is answered from. */
interface Site extends ServerOptions {
  readonly visitors: Visitors;
  readonly live: Live;
}

export function createUiServer(options: ServerOptions): FastifyInstance {
  const app = openServer(options);
  checkRequests(app, options);
  answerFailures(app, options.log);
  addFiles(app, options.page);
  const site: Site = { ...options, visitors: createVisitors(options), live: createLive(options.source) };
  // It says nothing of alerts, nor of who may see them.
  app.get('/api/openapi.json', () => openApi(options.version));
  addSession(app, site);
  addAlerts(app, site);
  addCoverage(app, site);
  addTuning(app, site);
  addUnderstanding(app, site);
  addAcknowledge(app, { ...site, onHandled: (ids) => site.onHandled?.(ids) });
  if (options.response !== undefined) addResponse(app, site.visitors, options.response);
  for (const cluster of options.clusters?.further ?? []) addFurther(app, site, cluster);
  return app;
}

/** What another cluster's index knows, below a path of its own. */
function addFurther(app: FastifyInstance, site: Site, { name, source }: FurtherCluster): void {
  const nothing = (): Promise<undefined> => Promise.resolve(undefined);
  const of = { source, visitors: elsewhere(site.visitors), live: createLive(source) };
  const there: Site = { ...site, ...of, evidence: nothing, packets: nothing, onHandled: () => undefined };
  void app.register(
    (own, _, done) => {
      addAlerts(own, there);
      addUnderstanding(own, there);
      done();
    },
    { prefix: prefixOf(name) },
  );
}

function openServer({ tls, trustedProxies }: ServerOptions): FastifyInstance {
  const settings = {
    bodyLimit: BODY_BYTES,
    trustProxy: trustedProxies,
    requestTimeout: 60_000,
    connectionTimeout: 0,
    keepAliveTimeout: 30_000,
    // Streams would keep it from ending.
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 200 },
  } as const;
  return tls === undefined ? fastify(settings) : fastify({ ...settings, https: { ...tls, minVersion: 'TLSv1.2' } });
}

function checkRequests(app: FastifyInstance, { access, secure }: ServerOptions): void {
  app.addHook('onRequest', async (request, reply) => {
    reply.headers(HEADERS);
    if (secure) reply.header('strict-transport-security', 'max-age=31536000');
    if (request.url.includes('/api/')) reply.header('cache-control', 'no-store');
    if (access.mode === 'none') checkLoopback(request);
    // What a link may do its signature says, wherever it is sent from.
    const isLink = request.routeOptions.url === ACKNOWLEDGE_PATH;
    if (request.method !== 'GET' && request.method !== 'HEAD' && !isLink) checkOwn(request);
  });
}

function answerFailures(app: FastifyInstance, log: Logger): void {
  app.setErrorHandler((error: unknown, request, reply) => {
    if (reply.raw.headersSent) return reply.raw.destroy();
    const [status, message, more] = refusalOf(error);
    if ('retryAfter' in more) reply.header('retry-after', more.retryAfter);
    if (status >= 500) log.warn({ err: error, url: request.url.split('?')[0] }, 'a request failed');
    return reply.code(status).send({ error: message, ...more });
  });
  app.setNotFoundHandler((_, reply) => reply.code(404).send({ error: 'there is nothing here' }));
}

function addFiles(app: FastifyInstance, page: ServerOptions['page']): void {
  app.get('/health', (_, reply) => reply.type('text/plain').send('ok\n'));
  for (const [path, file] of page) app.get(path, (request, reply) => sendFile(file, request, reply));
}

function addSession(app: FastifyInstance, site: Site): void {
  const { visitors } = site;
  app.get('/api/session', async (request, reply) => {
    const user = await visitors.whoIs(request);
    if (user === undefined) return reply.code(401).send(signInNeeded(site));
    return sessionOf(site, user);
  });
  app.post('/api/session', async (request, reply) => {
    const { user, cookie } = await visitors.signIn(request, credentialsOf(request.body));
    reply.header('set-cookie', cookie);
    return sessionOf(site, user);
  });
  app.delete('/api/session', async (request, reply) => reply.header('set-cookie', visitors.signOut(request)).send({}));
}

function signInNeeded({ access }: Site): SignInNeeded {
  return { error: 'sign in first', access: access.mode === 'kubernetes' ? 'kubernetes' : 'password' };
}

async function sessionOf(site: Site, user: User): Promise<Session> {
  const { access, version, source, kibanaUrl, dryRun, tuning, response } = site;
  return {
    access: access.mode,
    user: user.name,
    version,
    source: source.about,
    ...(kibanaUrl === undefined ? {} : { kibanaUrl }),
    dryRun: dryRun !== undefined,
    ...(tuning === undefined ? {} : { tuning: tuning.where }),
    isolates: response !== undefined && access.mode === 'kubernetes',
    ...(await clustersOf(site, user)),
  };
}

/** Those whose alerts this user may see; nothing where there is one only. */
async function clustersOf({ clusters }: Site, user: User): Promise<Pick<Session, 'clusters'>> {
  if (clusters === undefined || (await user.readable()) !== 'all') return {};
  const further = clusters.further.map(({ name, source }) => ({ name, source: source.about }));
  return { clusters: { own: clusters.own, further } };
}

function addAlerts(app: FastifyInstance, site: Site): void {
  const { source } = site;
  app.get('/api/alerts', async (request, reply) => {
    const { query, scope } = await asked(site, request);
    return source.list(query, scope, pageOf(request), signalOf(reply));
  });
  app.get('/api/summary', async (request, reply) => {
    const { query, scope } = await asked(site, request);
    return source.summary(query, scope, signalOf(reply));
  });
  app.get('/api/groups', async (request, reply) => {
    const { query, scope } = await asked(site, request);
    return source.groups(groupingOf(request), query, scope, signalOf(reply));
  });
  app.get('/api/export', (request, reply) => sendExport(site, request, reply));
  app.get('/api/alerts/:id', (request, reply) => detailOf(site, request, reply));
  app.get('/api/alerts/:id/packets', async (request, reply) => {
    const { row, content, ruleText } = await packetsOf(site, request, reply);
    return shownPackets(content, row, contentsOf(ruleText));
  });
  app.get('/api/alerts/:id/pcap', async (request, reply) => {
    const { row, content } = await packetsOf(site, request, reply);
    reply.type('application/vnd.tcpdump.pcap').header('content-disposition', `attachment; filename="${row.id}.pcapng"`);
    return reply.send(content);
  });
  app.post('/api/marks', (request, reply) => mark(site, request, reply));
  app.get('/api/live', (request, reply) => follow(site, request, reply));
}

async function asked(
  { visitors }: Site,
  request: FastifyRequest,
): Promise<{ user: User; query: AlertQuery; scope: Scope }> {
  const user = await visitors.signedIn(request);
  return { user, query: parseQuery(parameters(request), Date.now()), scope: await user.readable() };
}

async function detailOf(site: Site, request: FastifyRequest, reply: FastifyReply): Promise<AlertDetail> {
  const user = await site.visitors.signedIn(request);
  const { id } = request.params as { id: string };
  const alert = isId(id) ? (await site.source.get([id], signalOf(reply)))[0] : undefined;
  // Who may not see it does not learn that it is there.
  if (alert === undefined || !inScope(await user.readable(), alert.row.namespace))
    throw new Refused(404, `there is no alert ${id.slice(0, 128)}, or you may not see it`);
  const { row, event, history } = alert;
  const rule = await site.rule(Number(row.gid), Number(row.sid));
  const evidence = await site.evidence?.(row.id);
  const record = fields(fields(event)['record']);
  const words = wordsOf(text(record['rule']) || (rule?.text ?? ''));
  return {
    row,
    event: withKnown(event, evidence),
    ...(rule === undefined ? {} : { rule }),
    ...(words === undefined ? {} : { words }),
    advice: adviceFor(text(record['classtype']) || (rule?.classtype ?? ''), row.techniques),
    history,
  };
}

function withKnown(event: unknown, evidence: object | undefined): unknown {
  if (evidence === undefined) return event;
  const known = fields(event);
  return { ...known, record: { ...fields(known['record']), ...evidence } };
}

/** @throws Refused where there are none, or the alert may not be seen. */
async function packetsOf(
  site: Site,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<{ row: AlertRow; content: Buffer; ruleText: string }> {
  const { row, event, rule } = await detailOf(site, request, reply);
  // What is here is whole; a source may have a part.
  const content = (await site.packets?.(row.id)) ?? (await site.source.packets?.(row, signalOf(reply)));
  if (content === undefined) throw new Refused(404, `there are no packets of alert ${row.id} here`);
  // The alert's own is the one that fired.
  return { row, content, ruleText: text(fields(fields(event)['record'])['rule']) || (rule?.text ?? '') };
}

async function mark(site: Site, request: FastifyRequest, reply: FastifyReply): Promise<MarkAnswer> {
  const { source, live, log } = site;
  const user = await site.visitors.signedIn(request);
  const { which, act } = marksOf(request.body);
  const { alerts, more } = await wanted(site, which, await user.readable(), signalOf(reply));
  for (const namespace of new Set(alerts.map((alert) => alert.namespace))) await checkMayMark(user, namespace);
  const done = { ...act, by: user.name, at: new Date().toISOString() };
  const ids = alerts.map(({ id }) => id);
  if (ids.length > 0) await source.mark(ids, done);
  live.tell(alerts, done);
  if (done.state !== 'open' && ids.length > 0) site.onHandled?.(ids);
  log.info({ ...done, user: user.name, alerts: ids.length }, 'marked');
  return { marked: ids.length, more, before: byState(alerts) };
}

/** @throws Refused where one of the alerts is not there, or may not be seen. */
async function wanted(
  { source }: Site,
  which: MarkRequest['which'],
  scope: Scope,
  signal: AbortSignal,
): Promise<{ alerts: Marked[]; more: boolean }> {
  if ('query' in which) {
    const found = await source.matching(which.query, scope, MAX_MARKED + 1, signal);
    return { alerts: found.slice(0, MAX_MARKED), more: found.length > MAX_MARKED };
  }
  const rows = (await source.get(which.ids, signal)).map(({ row }) => row);
  const alerts = rows.filter(({ namespace }) => inScope(scope, namespace));
  if (alerts.length < which.ids.length)
    throw new Refused(404, 'some of these alerts are not there, or you may not see them: nothing was changed');
  return { alerts, more: false };
}

function byState(alerts: readonly Marked[]): MarkAnswer['before'] {
  const ids = new Map<State, string[]>();
  for (const { id, state } of alerts) {
    const of = ids.get(state);
    if (of === undefined) ids.set(state, [id]);
    else of.push(id);
  }
  return [...ids].map(([state, of]) => ({ state, ids: of }));
}

async function sendExport(site: Site, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { query, scope } = await asked(site, request);
  const format = formatOf(parameters(request)['as']);
  const { order } = pageOf(request);
  const { type, ending } = EXPORTS[format];
  const name = `alerts-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}Z.${ending}`;
  reply.type(type).header('content-disposition', `attachment; filename="${name}"`);
  return reply.send(exported(site.source, format, { query, scope, order }, signalOf(reply)));
}

/** @throws Refused */
async function checkMayMark(user: User, namespace: string): Promise<void> {
  if (await user.mayMark(namespace)) return;
  throw new Refused(
    403,
    `you may not mark alerts of namespace ${namespace}: that takes the verb "update" on "deeppacketinspections/alerts" there`,
  );
}

async function follow(site: Site, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { visitors, live } = site;
  const { user, query, scope } = await asked(site, request);
  // Who asked may have gone while its rights were looked up; nothing would end its stream.
  if (reply.raw.destroyed) return reply.hijack();
  live.follow(reply, { user, query, scope, whoIs: () => visitors.whoIs(request) });
  return reply;
}

function addCoverage(app: FastifyInstance, site: Site): void {
  app.get('/api/coverage', async (request) => {
    const user = await site.visitors.signedIn(request);
    return site.coverage(await user.readable());
  });
  app.get('/api/dry-run', (request) => tryOut(site, request));
}

async function tryOut({ visitors, dryRun }: Site, request: FastifyRequest): Promise<DryRun> {
  const user = await visitors.signedIn(request);
  const { namespace, selector } = parameters(request);
  const where = single('namespace', namespace) ?? 'default';
  const what = single('selector', selector) ?? '';
  if (dryRun === undefined) throw new Refused(404, 'there is no API server to ask for pods');
  if (!(await user.mayListPods(where)))
    throw new Refused(403, `you may not list pods in namespace ${where.slice(0, 63)}`);
  return dryRun(where, what);
}
