/**
 * Names of indices, alias and templates, and how events and their packets are mapped.
 *
 * `dynamic: false` everywhere: what is not named here is kept but not indexed, so that no text from a packet becomes a
 * field. What has a form (addresses, times, numbers) has `ignore_malformed`, so that an event is never refused for it.
 * Capture times are `date_nanos`: `date` would lose microseconds, by which events of one millisecond are ordered.
 */
import { get } from './classify.ts';

/** Raise it with each change here: an agent leaves the template of a newer one alone. */
export const TEMPLATE_VERSION = 6;

/** `calico`: the events as they are. `ecs`: in the Elastic Common Schema, in an index of their own. */
export type Schema = 'calico' | 'ecs';

/** Of an index that an agent keeps. */
export interface IndexNames {
  schema: Schema | 'packets';
  index: string;
  alias?: string;
  template: string;
  /** `index` is a data stream. */
  isStream?: boolean;
}

/** Of the one with events. */
export interface Names extends IndexNames {
  schema: Schema;
  alias: string;
}

/** Of the one with the packets of events, by their ids. */
export function packetNamesOf(cluster: string): IndexNames {
  return {
    schema: 'packets',
    index: `tigera_secure_dpi_packets.${cluster}`,
    template: `dpi-agent-packets.${cluster}`,
  };
}

export function namesOf(cluster: string, schema: Schema = 'calico', isStream = false): Names {
  const names = indexNamesOf(cluster, schema);
  return isStream ? { ...names, isStream } : names;
}

function indexNamesOf(cluster: string, schema: Schema): Names {
  if (schema === 'ecs') {
    return {
      schema,
      // Elastic Security looks into logs-*.
      index: `logs-dpi_agent.alerts-${cluster}`,
      alias: `dpi-agent-alerts.${cluster}`,
      template: `dpi-agent-alerts-ecs.${cluster}`,
    };
  }
  return {
    schema,
    index: `tigera_secure_ee_events.${cluster}.lma`,
    alias: `tigera_secure_ee_events.${cluster}.`,
    template: `dpi-agent-events.${cluster}`,
  };
}

const keyword = (maxLength = 512): object => ({ type: 'keyword', ignore_above: maxLength });
const lenient = (type: string, more: object = {}): object => ({ type, ignore_malformed: true, ...more });
const object = (properties: object): object => ({ dynamic: false, properties });

/** Only to be looked at. */
const shownOnly = { type: 'keyword', index: false, doc_values: false };

const HTTP_BODY = object({
  content_type: keyword(),
  content_encoding: keyword(),
  content_length: lenient('long'),
  bytes: lenient('long'),
  body: shownOnly,
});

const SSH = object({ client: keyword(), server: keyword(), hassh: keyword(), hassh_server: keyword() });
const FTP = object({ user: keyword(), commands: keyword(), reply: shownOnly });
const GRPC = object({ service: keyword(), method: keyword(), status: lenient('integer'), message: shownOnly });

const FILES = object({
  name: keyword(),
  size: lenient('long'),
  type: keyword(),
  state: keyword(),
  md5: keyword(),
  sha1: keyword(),
  sha256: keyword(),
});
const SMB = object({
  command: keyword(),
  dialect: keyword(),
  status: keyword(),
  share: keyword(),
  filename: keyword(),
  named_pipe: keyword(),
  disposition: keyword(),
});

/** `AppFacts`. */
const APP = object({
  protocol: keyword(),
  http: object({
    version: keyword(),
    method: keyword(),
    host: keyword(),
    url: keyword(1024),
    user_agent: keyword(),
    referrer: keyword(1024),
    x_forwarded_for: keyword(),
    request: HTTP_BODY,
    status: lenient('integer'),
    reason: shownOnly,
    server: keyword(),
    location: keyword(1024),
    response: HTTP_BODY,
    upgrade: keyword(),
  }),
  grpc: GRPC,
  dns: object({
    id: lenient('integer'),
    questions: object({ name: keyword(), type: keyword() }),
    answers: object({ name: keyword(), type: keyword(), ttl: lenient('long'), data: keyword() }),
    rcode: keyword(),
  }),
  tls: object({
    sni: keyword(),
    version: keyword(),
    versions: keyword(),
    alpn: keyword(),
    cipher: keyword(),
    ja3: keyword(),
    ja3s: keyword(),
    ja4: keyword(),
    certificate: object({
      subject: keyword(),
      issuer: keyword(),
      serial: keyword(),
      not_before: lenient('date'),
      not_after: lenient('date'),
      sha1: keyword(),
      sha256: keyword(),
      names: keyword(),
    }),
    alert: keyword(),
  }),
  ssh: SSH,
  smtp: object({ helo: keyword(), from: keyword(), to: keyword(), subject: keyword(), reply: shownOnly }),
  ftp: FTP,
  smb: SMB,
});

/** `PacketsOfFlow`. */
const PACKETS = object({
  count: lenient('long'),
  bytes: lenient('long'),
  first: lenient('date_nanos'),
  last: lenient('date_nanos'),
  complete: { type: 'boolean' },
  file: shownOnly,
});

const PACKET_MAPPINGS = object({
  '@timestamp': lenient('date_nanos'),
  event_id: keyword(),
  origin: keyword(),
  host: keyword(),
  size: lenient('long'),
  cut: { type: 'boolean' },
  pcapng: { type: 'binary' },
});

const MAPPINGS = object({
  type: keyword(),
  origin: keyword(),
  severity: lenient('integer'),
  attack_vector: keyword(),
  description: keyword(1024),
  time: lenient('date', { format: 'epoch_second' }),
  host: keyword(),
  source_ip: lenient('ip'),
  source_port: lenient('integer'),
  source_name: keyword(),
  source_name_aggr: keyword(),
  source_namespace: keyword(),
  dest_ip: lenient('ip'),
  dest_port: lenient('integer'),
  dest_name: keyword(),
  dest_name_aggr: keyword(),
  dest_namespace: keyword(),
  mitre_ids: keyword(),
  mitre_tactic: keyword(),
  mitigations: keyword(1024),
  // Not the agent's: what somebody made of the alert. `dismissed` is Calico's.
  dismissed: { type: 'boolean' },
  record: object({
    acknowledged: { type: 'boolean' },
    handled_by: keyword(),
    handled_at: lenient('date'),
    assignee: keyword(),
    reason: keyword(),
    snort_signature_id: keyword(),
    snort_signature_revision: keyword(),
    snort_alert: { type: 'text' },
    event_id: keyword(),
    position: keyword(),
    last_position: keyword(),
    merged_positions: keyword(),
    checkpoint: { type: 'object', enabled: false },
    count: lenient('long'),
    timestamp: lenient('date_nanos'),
    last_timestamp: lenient('date_nanos'),
    generator_id: keyword(),
    message: { type: 'text', fields: { keyword: keyword(1024) } },
    classification: keyword(),
    priority: lenient('integer'),
    protocol: keyword(),
    service: keyword(),
    packet_number: lenient('long'),
    classtype: keyword(),
    flow: object({
      start: lenient('date_nanos'),
      packets_to_server: lenient('long'),
      packets_to_client: lenient('long'),
      bytes_to_server: lenient('long'),
      bytes_to_client: lenient('long'),
    }),
    packets: PACKETS,
    outcome: keyword(),
    app: APP,
    community_id: keyword(),
    files: FILES,
    traffic: object({
      from_server: { type: 'boolean' },
      packets_to_server: lenient('long'),
      packets_to_client: lenient('long'),
      bytes_to_server: lenient('long'),
      bytes_to_client: lenient('long'),
      duration_us: lenient('long'),
      answer_us: lenient('long'),
    }),
    references: keyword(),
    links: keyword(1024),
    mitre_source: keyword(),
    cves: keyword(),
    rule: shownOnly,
    engine: object({ name: keyword(), version: keyword() }),
    seen_at: object({ namespace: keyword(), name: keyword(), interface: keyword() }),
    // Up to 87 KB, more than a term may have.
    payload: shownOnly,
    payload_bytes: lenient('long'),
    payload_truncated: { type: 'boolean' },
  }),
});

const ECS_END = object({
  ip: lenient('ip'),
  address: keyword(),
  port: lenient('long'),
  bytes: lenient('long'),
  packets: lenient('long'),
});

const ECS_BODY = object({ bytes: lenient('long'), content: shownOnly });

const ECS_APP = {
  http: object({
    version: keyword(),
    request: object({ method: keyword(), referrer: keyword(1024), mime_type: keyword(), body: ECS_BODY }),
    response: object({ status_code: lenient('long'), mime_type: keyword(), body: ECS_BODY }),
  }),
  url: object({
    original: keyword(1024),
    full: keyword(2048),
    scheme: keyword(),
    domain: keyword(),
    port: lenient('long'),
    path: keyword(1024),
    query: keyword(1024),
  }),
  user_agent: object({ original: keyword() }),
  dns: object({
    id: keyword(),
    type: keyword(),
    question: object({ name: keyword(), type: keyword() }),
    answers: object({ name: keyword(), type: keyword(), ttl: lenient('long'), data: keyword() }),
    response_code: keyword(),
    resolved_ip: lenient('ip'),
  }),
  tls: object({
    version: keyword(),
    version_protocol: keyword(),
    cipher: keyword(),
    next_protocol: keyword(),
    client: object({ server_name: keyword(), ja3: keyword() }),
    server: object({
      ja3s: keyword(),
      subject: keyword(),
      issuer: keyword(),
      not_before: lenient('date'),
      not_after: lenient('date'),
      hash: object({ sha1: keyword(), sha256: keyword() }),
      x509: object({ serial_number: keyword(), alternative_names: keyword() }),
    }),
  }),
  email: object({ from: object({ address: keyword() }), to: object({ address: keyword() }), subject: keyword() }),
};

/** https://www.elastic.co/docs/reference/ecs/ecs-field-reference, as far as `toEcs` fills it. */
const ECS_MAPPINGS = object({
  '@timestamp': lenient('date'),
  ecs: object({ version: keyword() }),
  message: { type: 'text' },
  tags: keyword(),
  event: object({
    kind: keyword(),
    category: keyword(),
    type: keyword(),
    module: keyword(),
    dataset: keyword(),
    provider: keyword(),
    id: keyword(),
    severity: lenient('long'),
    risk_score: lenient('float'),
    start: lenient('date'),
    end: lenient('date'),
    duration: lenient('long'),
    original: shownOnly,
  }),
  rule: object({
    id: keyword(),
    uuid: keyword(),
    version: keyword(),
    name: keyword(1024),
    category: keyword(),
    reference: keyword(1024),
  }),
  source: ECS_END,
  destination: ECS_END,
  network: object({
    transport: keyword(),
    type: keyword(),
    protocol: keyword(),
    community_id: keyword(),
    forwarded_ip: lenient('ip'),
    bytes: lenient('long'),
    packets: lenient('long'),
  }),
  related: object({ ip: lenient('ip'), hosts: keyword() }),
  ...ECS_APP,
  threat: object({
    framework: keyword(),
    tactic: object({ id: keyword(), name: keyword() }),
    technique: object({ id: keyword(), subtechnique: object({ id: keyword() }) }),
  }),
  vulnerability: object({ id: keyword(), classification: keyword(), enumeration: keyword() }),
  observer: object({
    product: keyword(),
    vendor: keyword(),
    type: keyword(),
    name: keyword(),
    hostname: keyword(),
    version: keyword(),
  }),
  orchestrator: object({
    type: keyword(),
    cluster: object({ name: keyword() }),
    namespace: keyword(),
    resource: object({ type: keyword(), name: keyword() }),
  }),
  dpi_agent: object({
    origin: keyword(),
    resource: keyword(),
    generator_id: keyword(),
    priority: lenient('integer'),
    count: lenient('long'),
    source: object({ namespace: keyword(), name: keyword(), name_aggr: keyword() }),
    destination: object({ namespace: keyword(), name: keyword(), name_aggr: keyword() }),
    app: keyword(),
    packets: PACKETS,
    outcome: keyword(),
    answer_us: lenient('long'),
    tls: object({ ja4: keyword(), alert: keyword(), versions: keyword() }),
    http: object({ host: keyword(), server: keyword(), location: keyword(1024), x_forwarded_for: keyword() }),
    ssh: SSH,
    ftp: FTP,
    grpc: GRPC,
    smb: SMB,
    files: FILES,
    smtp: object({ helo: keyword(), reply: shownOnly }),
    payload: shownOnly,
    dismissed: { type: 'boolean' },
    acknowledged: { type: 'boolean' },
    handled_by: keyword(),
    handled_at: lenient('date'),
    assignee: keyword(),
    reason: keyword(),
  }),
});

/** What an index is made with. */
export function indexBody({ schema, alias, isStream }: IndexNames): IndexBody {
  const mappings = { calico: MAPPINGS, ecs: ECS_MAPPINGS, packets: PACKET_MAPPINGS }[schema];
  return {
    settings: {
      index: { number_of_shards: 1, auto_expand_replicas: '0-1', mapping: { total_fields: { limit: 300 } } },
    },
    mappings: isStream === true ? withTimestamp(mappings, schema) : mappings,
    aliases: alias === undefined ? {} : { [alias]: {} },
  };
}

interface IndexBody {
  settings: { index: object };
  mappings: object;
  aliases: object;
}

/** A data stream has its time in this field, and takes no document with a malformed one. */
function withTimestamp(mappings: object, schema: IndexNames['schema']): object {
  const type = schema === 'calico' ? 'date_nanos' : 'date';
  return { ...mappings, properties: { ...(get(mappings, 'properties') as object), '@timestamp': { type } } };
}

/** @param further Settings of the index. */
export function templateBody(names: IndexNames, further: object = {}): object {
  const { settings, ...body } = indexBody(names);
  return {
    index_patterns: [`${names.index}*`],
    priority: 500,
    ...(names.isStream === true ? { data_stream: {} } : {}),
    _meta: { managed_by: 'dpi-agent', template_version: TEMPLATE_VERSION },
    template: { settings: { index: { ...settings.index, ...further } }, ...body },
  };
}

/**
 * Paths at which `found` differs from `wanted`, sorted. Elasticsearch gives numbers and booleans back as texts at
 * times, lists of one as their element, and settings with or without `index.`: none of this counts.
 * @param further Whether more than what is wanted counts too.
 */
export function differences(wanted: unknown, actual: unknown, further: boolean): string[] {
  const want = flatten(wanted);
  const have = flatten(actual);
  const paths = new Set([...want.keys(), ...(further ? have.keys() : [])]);
  return [...paths].filter((path) => want.get(path) !== have.get(path)).sort();
}

/** Of a template, only what an agent sets. */
export function templateDifferences(wanted: object, actual: unknown): string[] {
  const keys = Object.keys(wanted);
  // Components would change the mapping too; without any, Elasticsearch gives an empty list.
  const components = get(actual, 'composed_of');
  const relevant = Object.fromEntries(keys.map((key) => [key, get(actual, key)]));
  // Filled with defaults: that it is there, or not, is all that counts.
  const stream = get(actual, 'data_stream');
  if (stream !== undefined) relevant['data_stream'] = {};
  if (Array.isArray(components) && components.length > 0) relevant['composed_of'] = components;
  return differences(wanted, relevant, true);
}

/** Leaves by their path. */
function flatten(value: unknown, path = '', leaves = new Map<string, string>()): Map<string, string> {
  if (value === undefined || value === null) return leaves;
  if (typeof value === 'string') return leaves.set(path, value);
  if (typeof value !== 'object') return leaves.set(path, JSON.stringify(value));
  if (Array.isArray(value)) return leaves.set(path, value.map(String).sort().join(','));
  const entries = Object.entries(value);
  if (entries.length === 0) return leaves.set(path, '{}');
  for (const [key, inner] of entries) {
    const below = path === '' ? key : `${path}.${key}`;
    flatten(inner, below.replace(/(^|\.)settings\.(?!index\.|index$)/, '$1settings.index.'), leaves);
  }
  return leaves;
}
