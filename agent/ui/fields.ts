/** What the fields of an alert are called in Elasticsearch, in each schema. */
import { fromEcs } from '../events/ecs.ts';
import type { Schema } from '../ship/elasticsearch/template.ts';
import { fields, type Fields } from './row.ts';

interface PodFields {
  namespace: string;
  name: string;
}

/** As they are stored. */
export interface MarkFields {
  dismissed: boolean;
  acknowledged: boolean;
  handled_by: string;
  handled_at: string;
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
  /** Keywords that the text filter looks into. */
  texts: readonly string[];
  /** The event that a document holds. */
  document(source: unknown): unknown;
  markOf(source: unknown): Fields;
  /** What of a document is changed. */
  mark(mark: MarkFields): object;
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
    texts: [
      'record.message.keyword',
      'record.snort_signature_id',
      'record.classification',
      'record.cves',
      'mitre_tactic',
      'mitre_ids',
      'origin',
      'host',
      'source_name',
      'source_namespace',
      'dest_name',
      'dest_namespace',
    ],
    document: (source) => source,
    markOf(source) {
      const { acknowledged, handled_by, handled_at } = fields(fields(source)['record']);
      return { dismissed: fields(source)['dismissed'], acknowledged, handled_by, handled_at };
    },
    mark: ({ dismissed, ...record }) => ({ dismissed, record }),
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
    texts: [
      'rule.name',
      'rule.id',
      'rule.category',
      'vulnerability.id',
      'threat.tactic.id',
      'threat.technique.id',
      'threat.technique.subtechnique.id',
      'dpi_agent.origin',
      'observer.name',
      'dpi_agent.source.name',
      'dpi_agent.source.namespace',
      'dpi_agent.destination.name',
      'dpi_agent.destination.namespace',
    ],
    document: fromEcs,
    markOf: (source) => fields(fields(source)['dpi_agent']),
    mark: (mark) => ({ dpi_agent: mark }),
  },
};
