/**
 * An attributed alert as an `ee_event` document: a security event as Calico's Elasticsearch indices hold it.
 *
 * Format: https://docs.tigera.io/calico-enterprise/latest/threat/deeppacketinspection and the fields that Calico's own
 * events have. What is ours is under `record`, beside Calico's three fields there.
 *
 * Pure and deterministic: the same alert gives the same document, with the same id. Whatever the alert holds, the
 * document is valid JSON of less than 128 KiB, and no text in it has control characters or terminal escapes. Longer
 * texts are cut; longer lists end early, `merged_positions` too: whoever merges has to stop at MAX_MERGED_POSITIONS.
 */
import { createHash } from 'node:crypto';
import type { AttributedAlert, Peer } from '../alerts/attributed.ts';
import { positionText, type Address, type Alert, type EngineFile, type Flow } from '../engine/alert.ts';
import { stripControls } from '../text.ts';
import type { AppFacts, Outcome, PacketsOfFlow, Traffic } from './app.ts';

/** Further alerts that one event can stand for. */
export const MAX_MERGED_POSITIONS = 64;

/** A document's JSON is shorter than this, in bytes. */
export const MAX_EVENT_BYTES = 128 << 10;

export interface EeEvent {
  type: 'deep_packet_inspection';
  /** `dpi.<namespace>/<name>` of the resource. */
  origin: string;
  /** 0..100. */
  severity: number;
  attack_vector: 'Network';
  description: string;
  /** Capture time: seconds since the Unix epoch. */
  time: number;
  /** The node. */
  host: string;
  source_ip: string;
  source_port?: number;
  source_name: string;
  source_name_aggr: string;
  source_namespace: string;
  dest_ip: string;
  dest_port?: number;
  dest_name: string;
  dest_name_aggr: string;
  dest_namespace: string;
  mitre_ids?: string[];
  mitre_tactic: string;
  mitigations?: string[];
  record: EventRecord;
}

export interface EventRecord {
  snort_signature_id: string;
  snort_signature_revision: string;
  /** The line that Snort's alert_fast would print, in UTC. */
  snort_alert: string;
  /** The document's `_id`: 40 hexadecimal digits. */
  event_id: string;
  /** `<generation>:<offset of its first byte>` in the engine's output. */
  position: string;
  merged_positions?: string[];
  /**
   * Alerts from this position on may have no line yet behind this one; absent where only those behind its own position
   * may.
   */
  checkpoint?: string;
  /** Alerts that the event stands for, where the flood control folded more than one: this one is the first. */
  count?: number;
  /** Of the last of them, as `position`. */
  last_position?: string;
  /** Of the last of them, as `timestamp`. */
  last_timestamp?: string;
  /** Capture time, RFC 3339 with microseconds. */
  timestamp: string;
  generator_id: string;
  message: string;
  classification?: string;
  /** 1 is the most severe; 0 when the engine gave none. */
  priority: number;
  protocol: string;
  service?: string;
  /** Of the packet in its file, from 1; only in replays. */
  packet_number?: number;
  /** The class's short name. */
  classtype?: string;
  /** The flow up to this alert, where the engine keeps one; `server` is who did not begin it. */
  flow?: {
    /** RFC 3339, as exact as the engine has it: Snort to the second, Suricata to the microsecond. */
    start: string;
    packets_to_server: number;
    packets_to_client: number;
    bytes_to_server: number;
    bytes_to_client: number;
  };
  /** Whether what the alert is about was answered; absent where its packets were not kept. */
  outcome?: Outcome;
  /** What the application said. */
  app?: AppFacts;
  /** https://github.com/corelight/community-id-spec, version 1. */
  community_id?: string;
  /** The flow's packets, as far as they were kept. */
  traffic?: Traffic;
  packets?: PacketsOfFlow;
  /** That the engine saw in the transaction; at most 8. */
  files?: EngineFile[];
  references?: string[];
  /** The references as URLs. */
  links?: string[];
  /** Whether the rule states `mitre_ids` and `mitre_tactic`, or they follow from its class. */
  mitre_source?: 'rule' | 'class';
  cves?: string[];
  /** The text of the rule that fired, as the engine had it. */
  rule?: string;
  engine: { name: string; version: string };
  seen_at: { namespace: string; name: string; interface: string }[];
  /** Base64. */
  payload?: string;
  /** Length of the whole payload, also when less of it or nothing is here. */
  payload_bytes?: number;
  payload_truncated?: boolean;
}

export interface EventOptions {
  /** Whether to put payload into events at all. */
  payload: boolean;
  /** At most this many bytes of it, before base64. */
  maxBytes: number;
  /** Whether to put the rule's text into events. */
  rule: boolean;
}

export function toEvent(attributed: AttributedAlert, options: EventOptions): EeEvent {
  const { alert, rule } = attributed;
  const source = createEnd(alert.source, attributed.source);
  const destination = createEnd(alert.destination, attributed.destination);
  const event: EeEvent = {
    type: 'deep_packet_inspection',
    origin: `dpi.${clean(attributed.resource, 320)}`,
    severity: severityOf(integer(alert.priority)),
    attack_vector: 'Network',
    description: 'Deep Packet Inspection found a matching snort rule(s) for some packets in your network',
    time: Math.floor(integer(alert.timeMicros) / 1e6),
    host: clean(attributed.node, 253),
    source_ip: source.ip,
    ...(source.port === undefined ? {} : { source_port: source.port }),
    source_name: source.name,
    source_name_aggr: source.nameAggr,
    source_namespace: source.namespace,
    dest_ip: destination.ip,
    ...(destination.port === undefined ? {} : { dest_port: destination.port }),
    dest_name: destination.name,
    dest_name_aggr: destination.nameAggr,
    dest_namespace: destination.namespace,
    ...filled('mitre_ids', rule?.mitreIds, 32, 32),
    mitre_tactic: clean(rule?.mitreTactic ?? '', 128) || 'n/a',
    ...filled('mitigations', rule?.mitigations, 8, 512),
    record: recordOf(attributed, options, `${source.text} -> ${destination.text}`),
  };
  if (options.payload && alert.payload && alert.payload.length > 0) {
    addPayload(event, alert.payload, options.maxBytes);
  }
  return event;
}

/** @param flow Its two ends. */
function recordOf(attributed: AttributedAlert, options: EventOptions, flow: string): EventRecord {
  const { alert, rule } = attributed;
  const message = clean(alert.message, 1024);
  const classification = clean(alert.classification, 256);
  const protocol = clean(alert.protocol, 32);
  const timestamp = rfc3339(alert.timeMicros);
  const priority = integer(alert.priority);
  return {
    snort_signature_id: String(integer(alert.sid)),
    snort_signature_revision: String(integer(alert.rev)),
    // Snort 3, alert_fast with `-y` (the year in the date) and `-U` (UTC).
    snort_alert:
      `${alertFastTime(timestamp)} [**] [${integer(alert.gid)}:${integer(alert.sid)}:${integer(alert.rev)}] "${message}" [**] ` +
      `${classification === '' ? '' : `[Classification: ${classification}] `}[Priority: ${priority}] ` +
      `{${protocol}} ${flow}`,
    event_id: eventId(attributed),
    ...placeOf(attributed),
    timestamp,
    generator_id: String(integer(alert.gid)),
    message,
    ...(classification === '' ? {} : { classification }),
    priority,
    protocol,
    ...(alert.service === undefined ? {} : { service: clean(alert.service, 64) }),
    ...(alert.packetNumber === undefined ? {} : { packet_number: integer(alert.packetNumber) }),
    ...(clean(rule?.classtype ?? '', 64) === '' ? {} : { classtype: clean(rule?.classtype ?? '', 64) }),
    ...(alert.flow === undefined ? {} : { flow: flowOf(alert.flow) }),
    ...saidOf(alert),
    ...filled('references', rule?.references, 16, 256),
    ...filled('links', rule?.links, 16, 512),
    ...(rule?.mitreSource === undefined ? {} : { mitre_source: rule.mitreSource }),
    ...filled('cves', rule?.cves, 32, 32),
    ...(options.rule && rule !== undefined && rule.text !== '' ? { rule: clean(rule.text, 4096) } : {}),
    engine: { name: clean(attributed.engine.name, 32), version: clean(attributed.engine.version, 64) },
    seen_at: attributed.seenAt.slice(0, 8).map((endpoint) => ({
      namespace: clean(endpoint.namespace, 63),
      name: clean(endpoint.name, 253),
      interface: clean(endpoint.interface, 15),
    })),
  };
}

type PlaceFields = 'position' | 'merged_positions' | 'checkpoint' | 'count' | 'last_position' | 'last_timestamp';

/** Which alerts in the engine's output it stands for. */
function placeOf({ position, mergedPositions, checkpoint, fold }: AttributedAlert): Pick<EventRecord, PlaceFields> {
  return {
    position: clean(positionText(position), 128),
    ...filled('merged_positions', mergedPositions.map(positionText), MAX_MERGED_POSITIONS, 128),
    ...(checkpoint === undefined ? {} : { checkpoint: clean(positionText(checkpoint), 128) }),
    ...(fold === undefined
      ? {}
      : {
          count: integer(fold.count),
          last_position: clean(positionText(fold.lastPosition), 128),
          last_timestamp: rfc3339(fold.lastTimeMicros),
        }),
  };
}

/** What the engine says of the application. */
function saidOf({ files, smb }: Alert): Pick<EventRecord, 'files' | 'app'> {
  const short = <T extends object>(values: T): T =>
    Object.fromEntries(
      Object.entries(values).map(([key, value]: [string, unknown]) => [
        key,
        typeof value === 'string' ? clean(value, 512) : integer(Number(value)),
      ]),
    ) as T;
  return {
    ...(files === undefined ? {} : { files: files.slice(0, 8).map(short) }),
    ...(smb === undefined ? {} : { app: { protocol: 'smb', smb: short(smb) } }),
  };
}

function flowOf(flow: Flow): NonNullable<EventRecord['flow']> {
  return {
    start: flow.isWholeSecond === true ? rfc3339(flow.startMicros).replace(/\.\d+/, '') : rfc3339(flow.startMicros),
    packets_to_server: integer(flow.packetsToServer),
    packets_to_client: integer(flow.packetsToClient),
    bytes_to_server: integer(flow.bytesToServer),
    bytes_to_client: integer(flow.bytesToClient),
  };
}

/** The document's id: one for an alert, resource and node, also where the agent reads the alert a second time. */
export function eventId({ position, resource, node }: Pick<AttributedAlert, 'position' | 'resource' | 'node'>): string {
  return createHash('sha256')
    .update([positionText(position), resource, node].join('\0'))
    .digest('hex')
    .slice(0, 40);
}

function addPayload(event: EeEvent, payload: Buffer, maxBytes: number): void {
  let length = Math.min(payload.length, Math.max(0, integer(maxBytes)));
  // The texts' limits leave room for a small payload; a large one gets what room they really left.
  if (length > 4096) {
    const room = MAX_EVENT_BYTES - Buffer.byteLength(JSON.stringify(event)) - 128;
    length = Math.min(length, Math.floor(room / 4) * 3);
  }
  if (length > 0) event.record.payload = payload.toString('base64', 0, length);
  event.record.payload_bytes = payload.length;
  if (length < payload.length) event.record.payload_truncated = true;
}

/** Priority 1 is 100, each further one 20 less, from 5 on 20. Without a priority 50: neither first nor last. */
export function severityOf(priority: number): number {
  return priority < 1 ? 50 : Math.max(20, 120 - 20 * priority);
}

interface End {
  ip: string;
  port?: number;
  name: string;
  nameAggr: string;
  namespace: string;
  /** As alert_fast prints it: `ip` or `ip:port`, for IPv6 too. */
  text: string;
}

function createEnd(address: Address, peer: Peer | undefined): End {
  const ip = clean(address.ip, 64);
  const port = address.port === undefined ? undefined : integer(address.port);
  return {
    ip,
    ...(port === undefined ? {} : { port }),
    name: clean(peer?.name ?? '', 253) || '-',
    nameAggr: clean(peer?.nameAggr ?? '', 255) || '-',
    namespace: clean(peer?.namespace ?? '', 63) || '-',
    text: port === undefined ? ip : `${ip}:${port}`,
  };
}

/** `2024-09-27T08:24:10.080704Z`. */
function rfc3339(timeMicros: number): string {
  const micros = integer(timeMicros);
  const seconds = Math.floor(micros / 1e6);
  const fraction = String(micros - seconds * 1e6).padStart(6, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, -5)}.${fraction}Z`;
}

/** `24/09/27-08:24:10.080704`. */
function alertFastTime(timestamp: string): string {
  return `${timestamp.slice(2, 10).replaceAll('-', '/')}-${timestamp.slice(11, -1)}`;
}

/** The field with its cleaned texts, or no field when there are none. */
function filled<Key extends string>(
  key: Key,
  texts: readonly string[] | undefined,
  maxTexts: number,
  maxLength: number,
): Partial<Record<Key, string[]>> {
  const cleaned = (texts ?? [])
    .slice(0, maxTexts)
    .map((text) => clean(text, maxLength))
    .filter((text) => text !== '');
  const field: Partial<Record<Key, string[]>> = {};
  if (cleaned.length > 0) field[key] = cleaned;
  return field;
}

/** Counts and times are integers; what is none becomes 0. Adding 0 takes the sign from -0, which JSON doesn't have. */
function integer(value: number): number {
  return Number.isSafeInteger(value) ? value + 0 : 0;
}

/** At most `limit` UTF-16 code units. */
function clean(text: string, limit: number): string {
  return stripControls(text.slice(0, limit));
}
