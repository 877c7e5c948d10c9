/**
 * What messages say of an event. The journal's lines may be from anybody who can write there: nothing in them is
 * trusted, and what is missing is empty. Texts are printable and short; a destination escapes them for its own
 * language.
 */
import { levelOf, type Level } from '../../events/level.ts';
import { TACTICS } from '../../events/tactics.ts';
import { isRecord } from '../../files/record.ts';
import { stripControls } from '../../text.ts';

export interface End {
  ip: string;
  port?: number;
  /** Of the pod; empty where it is none that is known. */
  namespace: string;
  name: string;
  /** The name of its pods, `<owner>-*`. */
  owner: string;
  /** `shop/web-1 (10.0.0.2:40000)`, or only the address. */
  text: string;
}

export interface Alert {
  /** `record.event_id`: stable, 40 hexadecimal digits. */
  id: string;
  level: Level;
  /** 0..100. */
  severity: number;
  /** What fired, in words. */
  message: string;
  /** `gid:sid:rev`. */
  signature: string;
  sid: string;
  gid: string;
  class: string;
  classtype: string;
  /** In words; empty without one. */
  tactic: string;
  techniques: string[];
  cves: string[];
  links: string[];
  source: End;
  destination: End;
  protocol: string;
  /** `<namespace>/<name>` of the DeepPacketInspection. */
  resource: string;
  /** Of the resource. */
  namespace: string;
  /** `<namespace>/<name>` of the inspected pod; empty where none is known. */
  pod: string;
  node: string;
  cluster: string;
  engine: { name: string; version: string };
  /** Capture time, in milliseconds since the Unix epoch, and as RFC 3339. */
  time: number;
  timestamp: string;
  /** Alerts that it stands for, and the time of the last. */
  count: number;
  last: string;
  /** Of the alert on the page; empty where the page's address is not known. */
  url: string;
  /** Where it is acknowledged without signing in, and empty where that is not set up. */
  acknowledgeUrl: string;
  /** The line that Snort's alert_fast would print. */
  fast: string;
  event: Fields;
  /** The journal's line. */
  json: string;
}

type Fields = Record<string, unknown>;

export interface About {
  cluster: string;
  /** Of the page. */
  publicUrl?: string;
  /** Where an alert is acknowledged. */
  acknowledgeUrl?: (id: string) => string;
}

/** @param json The journal's line, or a digest of several. @throws SyntaxError when it is no JSON. */
export function toAlert(json: string, about: About): Alert {
  const value: unknown = JSON.parse(json);
  const event = isRecord(value) ? value : {};
  const record = isRecord(event['record']) ? event['record'] : {};
  const severity = number(event['severity']) ?? 0;
  const [gid, sid, rev] = ['generator_id', 'snort_signature_id', 'snort_signature_revision'].map((key) =>
    text(record[key], 32),
  );
  const signature = `${gid || 1}:${sid || 0}:${rev || 0}`;
  const resource = text(event['origin'], 330).replace(/^dpi\./, '');
  const time = timeOf(event, record);
  const timestamp = timestampOf(record['timestamp']) || new Date(time).toISOString();
  const id = text(record['event_id'], 64);
  const [seenAt] = Array.isArray(record['seen_at']) ? (record['seen_at'] as unknown[]) : [];
  const engine = isRecord(record['engine']) ? record['engine'] : {};
  return {
    id,
    level: levelOf(severity),
    severity,
    message: text(record['message'], 1024) || `signature ${signature}`,
    signature,
    sid: sid || '0',
    gid: gid || '1',
    class: text(record['classification'], 256),
    classtype: text(record['classtype'], 64),
    tactic: tacticOf(event['mitre_tactic']),
    techniques: texts(event['mitre_ids']),
    cves: texts(record['cves']),
    links: texts(record['links']).filter((link) => /^https?:\/\//.test(link)),
    source: endOf(event, 'source'),
    destination: endOf(event, 'dest'),
    protocol: text(record['protocol'], 32),
    resource,
    namespace: resource.split('/')[0] ?? '',
    pod: isRecord(seenAt) ? `${text(seenAt['namespace'], 63)}/${text(seenAt['name'], 253)}` : '',
    node: text(event['host'], 253),
    cluster: about.cluster,
    engine: { name: text(engine['name'], 32), version: text(engine['version'], 64) },
    time,
    timestamp,
    count: Math.max(1, number(record['count']) ?? 1),
    last: timestampOf(record['last_timestamp']) || timestamp,
    url: about.publicUrl === undefined ? '' : pageOf(about.publicUrl, id),
    acknowledgeUrl: about.acknowledgeUrl?.(id) ?? '',
    fast: text(record['snort_alert'], 2048),
    event,
    json,
  };
}

/** The alert on the page, whatever its age. */
function pageOf(publicUrl: string, id: string): string {
  const url = new URL(publicUrl);
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  url.search = new URLSearchParams({ range: 'all', alert: id }).toString();
  return url.href;
}

function timeOf(event: Fields, record: Fields): number {
  const stated = typeof record['timestamp'] === 'string' ? Date.parse(record['timestamp']) : Number.NaN;
  const time = Number.isNaN(stated) ? Number(event['time']) * 1000 : stated;
  return Math.abs(time) <= 8.64e15 ? time : 0;
}

/** Empty where it is none of RFC 3339 in UTC. */
function timestampOf(value: unknown): string {
  const stated = text(value, 40);
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/.test(stated) && !Number.isNaN(Date.parse(stated))
    ? stated
    : '';
}

/** Rules state it by its id or by its name. */
function tacticOf(value: unknown): string {
  const tactic = text(value, 128);
  return tactic === 'n/a' ? '' : (TACTICS[tactic] ?? tactic);
}

function endOf(event: Fields, side: 'source' | 'dest'): End {
  const known = (value: unknown): string => text(value, 255).replace(/^-$/, '');
  const ip = text(event[`${side}_ip`], 64);
  const port = number(event[`${side}_port`]);
  const [namespace, name, owner] = ['namespace', 'name', 'name_aggr'].map((key) => known(event[`${side}_${key}`]));
  const address = port === undefined ? ip : `${ip.includes(':') ? `[${ip}]` : ip}:${port}`;
  return {
    ip,
    ...(port === undefined ? {} : { port }),
    namespace: namespace ?? '',
    name: name ?? '',
    owner: owner ?? '',
    text: name ? `${namespace ? `${namespace}/` : ''}${name} (${address})` : address,
  };
}

function text(value: unknown, limit: number): string {
  return typeof value === 'string' ? stripControls(value.slice(0, limit)) : '';
}

function texts(value: unknown): string[] {
  return Array.isArray(value)
    ? value
        .slice(0, 32)
        .map((item) => text(item, 512))
        .filter((item) => item !== '')
    : [];
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}
