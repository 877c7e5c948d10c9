/** What the fields of an alert are called in Elasticsearch, in each schema. */
import { fromEcs } from '../events/ecs.ts';
import type { Schema } from '../ship/elasticsearch/template.ts';
import type { NumberField, TextField } from './language/condition.ts';
import { fields, type Fields } from './row.ts';

interface PodFields {
  namespace: string;
  name: string;
}

/** Where a text of an alert is. */
export interface TextNames {
  /** Keywords; in one of them. */
  names: readonly string[];
  /** What stands before it. */
  before?: string;
  /** What may stand behind it, with wildcards. */
  endings?: readonly string[];
  /** What is there for no text. */
  none?: string;
}

interface NumberName {
  name: string;
  /** What it is where it is not there. */
  missing?: number;
}

export interface FieldNames {
  /** What only alerts have, where the index has more. */
  only?: Record<string, string>;
  time: string;
  id: string;
  severity: string;
  origin: string;
  gid: string;
  sid: string;
  /** The message in a document. */
  messageText: string;
  tactic: string;
  sourceIp: string;
  destinationIp: string;
  sourcePod: PodFields;
  destinationPod: PodFields;
  dismissed: string;
  acknowledged: string;
  texts: Record<TextField, TextNames>;
  numbers: Record<Exclude<NumberField, 'time'>, NumberName>;
  /** The event that a document holds. */
  document(source: unknown): unknown;
  markOf(source: unknown): Fields;
  /** Where a document has what was done with it. */
  mark: { place: string; dismissedOnTop: boolean };
}

export const FIELDS: Record<Schema, FieldNames> = {
  calico: {
    only: { type: 'deep_packet_inspection' },
    time: 'record.timestamp',
    id: 'record.event_id',
    severity: 'severity',
    origin: 'origin',
    gid: 'record.generator_id',
    sid: 'record.snort_signature_id',
    messageText: 'record.message',
    tactic: 'mitre_tactic',
    sourceIp: 'source_ip',
    destinationIp: 'dest_ip',
    sourcePod: { namespace: 'source_namespace', name: 'source_name' },
    destinationPod: { namespace: 'dest_namespace', name: 'dest_name' },
    dismissed: 'dismissed',
    acknowledged: 'record.acknowledged',
    texts: {
      message: { names: ['record.message.keyword'] },
      gid: { names: ['record.generator_id'] },
      sid: { names: ['record.snort_signature_id'] },
      rev: { names: ['record.snort_signature_revision'] },
      class: { names: ['record.classification'] },
      tactic: { names: ['mitre_tactic'], none: 'n/a' },
      technique: { names: ['mitre_ids'], endings: ['', '.*'] },
      cve: { names: ['record.cves'] },
      resource: { names: ['origin'], before: 'dpi.' },
      namespace: { names: ['origin'], before: 'dpi.', endings: ['/*'] },
      protocol: { names: ['record.protocol'] },
      service: { names: ['record.service'] },
      node: { names: ['host'] },
      'source.name': { names: ['source_name'], none: '-' },
      'source.namespace': { names: ['source_namespace'], none: '-' },
      'destination.name': { names: ['dest_name'], none: '-' },
      'destination.namespace': { names: ['dest_namespace'], none: '-' },
      app: { names: ['record.app.protocol'] },
      outcome: { names: ['record.outcome'] },
      host: { names: ['record.app.http.host'], endings: ['', ':*'] },
      method: { names: ['record.app.http.method'] },
      url: { names: ['record.app.http.url'] },
      useragent: { names: ['record.app.http.user_agent'] },
      domain: { names: ['record.app.dns.questions.name'] },
      sni: { names: ['record.app.tls.sni'] },
      ja3: { names: ['record.app.tls.ja3'] },
      ja4: { names: ['record.app.tls.ja4'] },
      hassh: { names: ['record.app.ssh.hassh', 'record.app.ssh.hassh_server'] },
      community: { names: ['record.community_id'] },
      assignee: { names: ['record.assignee'] },
    },
    numbers: {
      severity: { name: 'severity' },
      'source.port': { name: 'source_port' },
      'destination.port': { name: 'dest_port' },
      count: { name: 'record.count', missing: 1 },
      status: { name: 'record.app.http.status' },
    },
    document: (source) => source,
    markOf(source) {
      return { ...fields(fields(source)['record']), dismissed: fields(source)['dismissed'] };
    },
    mark: { place: 'record', dismissedOnTop: true },
  },
  ecs: {
    time: '@timestamp',
    id: 'event.id',
    severity: 'event.severity',
    origin: 'dpi_agent.origin',
    gid: 'dpi_agent.generator_id',
    sid: 'rule.id',
    messageText: 'rule.name',
    tactic: 'threat.tactic.id',
    sourceIp: 'source.ip',
    destinationIp: 'destination.ip',
    sourcePod: { namespace: 'dpi_agent.source.namespace', name: 'dpi_agent.source.name' },
    destinationPod: { namespace: 'dpi_agent.destination.namespace', name: 'dpi_agent.destination.name' },
    dismissed: 'dpi_agent.dismissed',
    acknowledged: 'dpi_agent.acknowledged',
    texts: {
      message: { names: ['rule.name'] },
      gid: { names: ['dpi_agent.generator_id'] },
      sid: { names: ['rule.id'] },
      rev: { names: ['rule.version'] },
      class: { names: ['rule.category'] },
      tactic: { names: ['threat.tactic.id'] },
      technique: { names: ['threat.technique.id', 'threat.technique.subtechnique.id'] },
      cve: { names: ['vulnerability.id'] },
      resource: { names: ['dpi_agent.origin'], before: 'dpi.' },
      namespace: { names: ['dpi_agent.origin'], before: 'dpi.', endings: ['/*'] },
      protocol: { names: ['network.transport'] },
      service: { names: ['network.protocol'] },
      node: { names: ['observer.name'] },
      'source.name': { names: ['dpi_agent.source.name'], none: '-' },
      'source.namespace': { names: ['dpi_agent.source.namespace'], none: '-' },
      'destination.name': { names: ['dpi_agent.destination.name'], none: '-' },
      'destination.namespace': { names: ['dpi_agent.destination.namespace'], none: '-' },
      app: { names: ['dpi_agent.app'] },
      outcome: { names: ['dpi_agent.outcome'] },
      host: { names: ['url.domain'] },
      method: { names: ['http.request.method'] },
      url: { names: ['url.original'] },
      useragent: { names: ['user_agent.original'] },
      domain: { names: ['dns.question.name'] },
      sni: { names: ['tls.client.server_name'] },
      ja3: { names: ['tls.client.ja3'] },
      ja4: { names: ['dpi_agent.tls.ja4'] },
      hassh: { names: ['dpi_agent.ssh.hassh', 'dpi_agent.ssh.hassh_server'] },
      community: { names: ['network.community_id'] },
      assignee: { names: ['dpi_agent.assignee'] },
    },
    numbers: {
      severity: { name: 'event.severity' },
      'source.port': { name: 'source.port' },
      'destination.port': { name: 'destination.port' },
      count: { name: 'dpi_agent.count' },
      status: { name: 'http.response.status_code' },
    },
    document: fromEcs,
    markOf: (source) => fields(fields(source)['dpi_agent']),
    mark: { place: 'dpi_agent', dismissedOnTop: false },
  },
};
