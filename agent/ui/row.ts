/**
 * An event document as a row of the page. The document may come from anybody who can write the journal or the index:
 * nothing in it is trusted.
 */
import { levelOf } from '../events/level.ts';
import { isRecord } from '../files/record.ts';
import { REASONS, STATES, type Act, type AlertRow, type End, type Reason, type RowApp, type State } from './api.ts';
import { domainOf } from '../events/ecs-app.ts';

/** What somebody made of an alert. */
export interface Mark {
  state: State;
  by?: string;
  /** RFC 3339. */
  at?: string;
  reason?: Reason;
  assignee?: string;
}

export type Fields = Record<string, unknown>;

export function fields(value: unknown): Fields {
  return isRecord(value) ? value : {};
}

function markedAs({ state, by, at, reason, assignee }: Mark): Marks {
  return {
    state,
    ...(by === undefined ? {} : { handledBy: by }),
    ...(at === undefined ? {} : { handledAt: at }),
    ...(reason === undefined ? {} : { reason }),
    ...optional('assignee', assignee ?? ''),
  };
}

type Marks = Pick<AlertRow, 'state' | 'handledBy' | 'handledAt' | 'reason' | 'assignee'>;

export function withMark(row: AlertRow, mark: Mark): AlertRow {
  const { state: _, handledBy: _by, handledAt: _at, reason: _why, assignee: _whose, ...rest } = row;
  return { ...rest, ...markedAs(mark) };
}

/** @returns undefined when it is no event that can be shown. */
export function rowOf(document: unknown, mark: Mark = { state: 'open' }): AlertRow | undefined {
  const event = fields(document);
  const record = fields(event['record']);
  const id = text(record['event_id']);
  const timestamp = text(record['timestamp']);
  const sid = text(record['snort_signature_id']);
  if (id === '' || sid === '' || Number.isNaN(Date.parse(timestamp))) return undefined;
  const resource = text(event['origin']).replace(/^dpi\./, '');
  const severity = number(event['severity']) ?? 0;
  const tactic = text(event['mitre_tactic']);
  return {
    id,
    timestamp,
    severity,
    level: levelOf(severity),
    ...markedAs(mark),
    resource: resource,
    namespace: resource.split('/')[0] ?? '',
    gid: text(record['generator_id']) || '1',
    sid: sid,
    rev: text(record['snort_signature_revision']),
    message: text(record['message']),
    ...optional('classification', text(record['classification'])),
    ...(tactic === '' || tactic === 'n/a' ? {} : { tactic: tactic }),
    techniques: texts(event['mitre_ids']),
    cves: texts(record['cves']),
    protocol: text(record['protocol']),
    ...optional('service', text(record['service'])),
    source: endOf(event, 'source'),
    destination: endOf(event, 'dest'),
    count: Math.max(1, number(record['count']) ?? 1),
    seenAt: seenAt(record['seen_at']),
    node: text(event['host']),
    ...flowOf(record),
  };
}

/** @param record Of an event, or what became known of its flow. */
export function flowOf(record: Fields): Pick<AlertRow, 'outcome' | 'community' | 'app'> {
  return {
    ...optional('outcome', text(record['outcome'])),
    ...optional('community', text(record['community_id'])),
    ...appOf(record['app']),
  };
}

function appOf(value: unknown): { app?: RowApp } {
  const app = fields(value);
  const protocol = text(app['protocol']);
  if (protocol === '') return {};
  const [http, tls, ssh, dns] = ['http', 'tls', 'ssh', 'dns'].map((name) => fields(app[name]));
  const status = number(http?.['status']);
  const questions = dns?.['questions'];
  const domains = Array.isArray(questions) ? texts(questions.map((question) => fields(question)['name'])) : [];
  const hassh = texts([ssh?.['hassh'], ssh?.['hassh_server']]);
  return {
    app: {
      protocol: protocol,
      ...optional('host', domainOf(text(http?.['host'])) ?? ''),
      ...optional('method', text(http?.['method'])),
      ...optional('url', text(http?.['url'])),
      ...(status === undefined ? {} : { status }),
      ...optional('useragent', text(http?.['user_agent'])),
      ...(domains.length === 0 ? {} : { domains: domains }),
      ...optional('sni', text(tls?.['sni'])),
      ...optional('ja3', text(tls?.['ja3'])),
      ...optional('ja4', text(tls?.['ja4'])),
      ...(hassh.length === 0 ? {} : { hassh: hassh }),
    },
  };
}

function seenAt(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.map((place) => `${text(fields(place)['namespace'])}/${text(fields(place)['name'])}`);
}

/** What somebody did, as it is stored; undefined for what is nothing of the kind. */
export function actOf(value: unknown): Act | undefined {
  const { at, by, state, reason, comment, assignee, tuned } = fields(value);
  const made = STATES.find((name) => name === state);
  const why = reasonOf(reason);
  if (text(at) === '' && made === undefined) return undefined;
  return {
    at: text(at),
    by: text(by),
    ...(made === undefined ? {} : { state: made }),
    ...(why === undefined ? {} : { reason: why }),
    ...optional('comment', text(comment)),
    ...(typeof assignee === 'string' ? { assignee } : {}),
    ...optional('tuned', text(tuned)),
  };
}

export function reasonOf(value: unknown): Reason | undefined {
  return REASONS.find((name) => name === value);
}

function endOf(event: Fields, side: 'source' | 'dest'): End {
  const port = number(event[`${side}_port`]);
  return {
    ip: text(event[`${side}_ip`]),
    ...(port === undefined ? {} : { port }),
    ...optional('name', known(event[`${side}_name`])),
    ...optional('namespace', known(event[`${side}_namespace`])),
  };
}

/** Events have `-` where a name is not known. */
function known(value: unknown): string {
  const name = text(value);
  return name === '-' ? '' : name;
}

function optional<Key extends string>(key: Key, value: string): Partial<Record<Key, string>> {
  const field: Partial<Record<Key, string>> = {};
  if (value !== '') field[key] = value;
  return field;
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

/** `<namespace>/<name>`; undefined where it is not known whose the end is. */
export function podOf({ namespace, name }: End): string | undefined {
  return namespace === undefined || name === undefined ? undefined : `${namespace}/${name}`;
}

/** The pods at both ends, as `<namespace>/<name>`; one of them where they are the same. */
export function podsOf({ source, destination }: Pick<AlertRow, 'source' | 'destination'>): string[] {
  const pods = [source, destination].flatMap((end) => podOf(end) ?? []);
  return pods[0] === pods[1] ? pods.slice(0, 1) : pods;
}
