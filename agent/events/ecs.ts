/**
 * An event in the Elastic Common Schema (https://www.elastic.co/docs/reference/ecs), as Elastic Security's rules and
 * its timeline read it.
 *
 * Pure. `event.original` is the event's own JSON without the payload, which is in `dpi_agent.payload`: `fromEcs` puts
 * both together again, so nothing is lost. What ECS has no field for is under `dpi_agent`.
 */
import { isIPv6 } from 'node:net';
import { ecsApp } from './ecs-app.ts';
import type { EeEvent } from './event.ts';
import { TACTICS } from './tactics.ts';

const ECS_VERSION = '8.17.0';

/** @param cluster The name that the configuration gives the cluster. */
export function toEcs(event: EeEvent, cluster: string): Record<string, unknown> {
  const { record } = event;
  const techniques = event.mitre_ids ?? [];
  const tactic = event.mitre_tactic === 'n/a' ? undefined : event.mitre_tactic;
  const app = ecsApp(record);
  return {
    '@timestamp': record.timestamp,
    ecs: { version: ECS_VERSION },
    message: record.snort_alert,
    tags: ['dpi-agent'],
    event: { ...eventOf(event), ...app.event },
    rule: ruleOf(record),
    source: { ...endOf(event.source_ip, event.source_port), ...app.source },
    destination: { ...endOf(event.dest_ip, event.dest_port), ...app.destination },
    network: {
      transport: record.protocol.toLowerCase(),
      type: isIPv6(event.source_ip) ? 'ipv6' : 'ipv4',
      ...app.network,
      ...(record.service === undefined ? {} : { protocol: record.service.toLowerCase() }),
    },
    ...app.top,
    related: {
      ip: [...new Set([event.source_ip, event.dest_ip])],
      ...(app.hosts.length === 0 ? {} : { hosts: app.hosts }),
    },
    ...(tactic === undefined && techniques.length === 0 ? {} : { threat: threatOf(tactic, techniques) }),
    ...(record.cves === undefined
      ? {}
      : { vulnerability: { id: record.cves, classification: 'CVSS', enumeration: 'CVE' } }),
    observer: {
      product: 'dpi-agent',
      vendor: 'dpi-agent',
      type: 'ids',
      name: event.host,
      hostname: event.host,
      version: record.engine.version,
    },
    orchestrator: orchestratorOf(event, cluster),
    dpi_agent: { ...ownOf(event), ...app.own },
  };
}

/** Namespace and name of the resource that an event is of. */
function resourceOf({ origin }: EeEvent): { namespace: string; resource: string } {
  const [, namespace = '', resource = ''] = /^dpi\.([^/]*)\/(.*)$/.exec(origin) ?? [];
  return { namespace, resource };
}

function eventOf(event: EeEvent): object {
  const { record } = event;
  return {
    kind: 'alert',
    category: ['intrusion_detection', 'network'],
    type: ['info'],
    module: 'dpi_agent',
    dataset: 'dpi_agent.alerts',
    provider: record.engine.name,
    id: record.event_id,
    severity: event.severity,
    risk_score: event.severity,
    start: record.timestamp,
    ...(record.last_timestamp === undefined ? {} : { end: record.last_timestamp }),
    original: JSON.stringify({ ...event, record: { ...record, payload: undefined } }),
  };
}

function ruleOf(record: EeEvent['record']): object {
  const [url] = record.links ?? [];
  return {
    id: record.snort_signature_id,
    uuid: `${record.generator_id}:${record.snort_signature_id}:${record.snort_signature_revision}`,
    version: record.snort_signature_revision,
    name: record.message,
    ...(record.classification === undefined ? {} : { category: record.classification }),
    ...(url === undefined ? {} : { reference: url }),
  };
}

function orchestratorOf(event: EeEvent, cluster: string): object {
  const [seenAt] = event.record.seen_at;
  return {
    type: 'kubernetes',
    cluster: { name: cluster },
    namespace: resourceOf(event).namespace,
    ...(seenAt === undefined ? {} : { resource: { type: 'pod', name: seenAt.name } }),
  };
}

/** What ECS has no field for. */
function ownOf(event: EeEvent): object {
  const { record } = event;
  return {
    origin: event.origin,
    resource: resourceOf(event).resource,
    generator_id: record.generator_id,
    priority: record.priority,
    count: record.count ?? 1,
    source: { namespace: event.source_namespace, name: event.source_name, name_aggr: event.source_name_aggr },
    destination: { namespace: event.dest_namespace, name: event.dest_name, name_aggr: event.dest_name_aggr },
    ...(record.payload === undefined ? {} : { payload: record.payload }),
    ...(record.packets === undefined ? {} : { packets: record.packets }),
  };
}

/** The event that `toEcs` made a document of; undefined when it is none. */
export function fromEcs(document: unknown): unknown {
  const { event, dpi_agent: own } = (document ?? {}) as {
    event?: { original?: unknown };
    dpi_agent?: { payload?: unknown };
  };
  if (typeof event?.original !== 'string') return undefined;
  try {
    const original = JSON.parse(event.original) as { record?: object };
    if (own?.payload === undefined) return original;
    return { ...original, record: { ...original.record, payload: own.payload } };
  } catch {
    return undefined;
  }
}

function endOf(ip: string, port: number | undefined): object {
  return { ip, address: ip, ...(port === undefined ? {} : { port }) };
}

function threatOf(tactic: string | undefined, techniques: readonly string[]): object {
  const main = [...new Set(techniques.map((technique) => technique.split('.')[0] ?? technique))];
  const parts = techniques.filter((technique) => technique.includes('.'));
  const name = tactic === undefined ? undefined : TACTICS[tactic];
  return {
    framework: 'MITRE ATT&CK',
    ...(tactic === undefined ? {} : { tactic: { id: [tactic], ...(name === undefined ? {} : { name: [name] }) } }),
    ...(main.length === 0
      ? {}
      : { technique: { id: main, ...(parts.length === 0 ? {} : { subtechnique: { id: parts } }) } }),
  };
}
