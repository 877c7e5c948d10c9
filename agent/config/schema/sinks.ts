/** `sinks`: where events go. */
import * as z from 'zod';
import { about, boolean, bytes, list, millis, text } from '../leaves.ts';
import { batch } from './batch.ts';
import { ALWAYS, caFile, hostAndPort, setName } from './common.ts';
import { http } from './http-sink.ts';
import { kafka } from './kafka-sink.ts';
import { quiet, when } from './sink-choice.ts';

const elasticsearch = z
  .strictObject({
    nodes: about(
      list(
        z.string().refine((value) => {
          const url = URL.canParse(value) ? new URL(value) : undefined;
          return (
            (url?.protocol === 'https:' || url?.protocol === 'http:') && url.username === '' && url.password === ''
          );
        }),
      ).prefault([]),
      'a list of URLs (https://host:9200) without user and password',
      'Elasticsearch nodes; with none, nothing is sent there.',
    ),
    apiKeyFile: about(
      text().optional(),
      'a path',
      'File with an API key, encoded or as `<id>:<key>`; read again when it changes.',
    ),
    username: about(text(256).optional(), 'a name', 'User for basic authentication.'),
    usernameFile: about(text().optional(), 'a path', 'File with that user; read again when it changes.'),
    passwordFile: about(text().optional(), 'a path', 'File with the password; read again when it changes.'),
    caFile,
    verifyTls: about(
      boolean().prefault(true),
      'true or false',
      'Whether the certificate is checked; false sends events, and credentials, to whoever answers.',
    ),
    schema: about(
      z.enum(['calico', 'ecs']).prefault('calico'),
      'one of calico, ecs',
      "The documents' form: Calico's, or the Elastic Common Schema, in an index of its own.",
    ),
    manageTemplate: about(
      boolean().prefault(true),
      'true or false',
      'Whether index template, index and alias are created, and put back when somebody changes them.',
    ),
    dataStream: about(
      boolean().prefault(false),
      'true or false',
      'Whether events go to a data stream instead of an index (docs/delivery.md).',
    ),
    rolloverAge: about(
      millis(3_600_000, 315_360_000_000).optional(),
      'a time from 1h to 3650d, such as 7d',
      'Of a data stream, after which its policy begins the next index; 30d where only other keys of the policy are set.',
    ),
    rolloverSize: about(
      bytes('1MiB', '1TiB').optional(),
      'a size from 1MiB to 1TiB, such as 20GiB',
      'The same by the size of the index; 50GiB where only other keys of the policy are set.',
    ),
    deleteAfter: about(
      millis(3_600_000, 315_360_000_000).optional(),
      'a time from 1h to 3650d, such as 90d',
      'How long after its rollover an index of the data stream is deleted; without it, never.',
    ),
    packetsSize: about(
      bytes('0', '4MiB').prefault('256KiB'),
      'a size from 0 to 4MiB, such as 256KiB',
      "At most this many bytes of packets of each event's flow go to an index of their own (docs/evidence.md); 0 sends none.",
    ),
    timeoutMillis: about(
      millis(1000, 600_000).prefault(30_000),
      'milliseconds from 1000 to 600000, such as 30s',
      'How long an answer may take.',
    ),
    ...batch,
  })
  .superRefine((value, context) => {
    if (value.apiKeyFile !== undefined && (value.username ?? value.usernameFile ?? value.passwordFile) !== undefined) {
      const message = 'expected an API key or a user with a password, not both';
      context.addIssue({ code: 'custom', path: ['apiKeyFile'], message });
    }
    checkUser(value, context);
    checkPolicy(value, context);
  }, ALWAYS);

function checkUser(
  value: { username?: unknown; usernameFile?: unknown; passwordFile?: unknown },
  context: z.RefinementCtx,
): void {
  const conflict = (path: string, message: string): void => {
    context.addIssue({ code: 'custom', path: [path], message });
  };
  if (value.username !== undefined && value.usernameFile !== undefined) {
    conflict('usernameFile', 'expected username or usernameFile, not both');
  }
  if (((value.username ?? value.usernameFile) !== undefined) !== (value.passwordFile !== undefined)) {
    conflict('passwordFile', 'expected both a user (username or usernameFile) and passwordFile, or neither');
  }
}

const POLICY = ['rolloverAge', 'rolloverSize', 'deleteAfter'] as const;

/** An index that takes all events for ever can't be rolled over. */
function checkPolicy(
  value: { dataStream: boolean } & Partial<Record<(typeof POLICY)[number], unknown>>,
  context: z.RefinementCtx,
): void {
  if (value.dataStream) return;
  for (const key of POLICY) {
    if (value[key] === undefined) continue;
    context.addIssue({ code: 'custom', path: [key], message: 'expected dataStream: true beside it' });
  }
}

const { apiKeyFile: _, ...ofBoth } = elasticsearch.shape;
const opensearch = z.strictObject(ofBoth).superRefine((value, context) => {
  checkUser(value, context);
  checkPolicy(value, context);
}, ALWAYS);

/** RFC 5424, 6.2.1: by their codes, from 0. */
const FACILITIES = [
  'kern',
  'user',
  'mail',
  'daemon',
  'auth',
  'syslog',
  'lpr',
  'news',
  'uucp',
  'cron',
  'authpriv',
  'ftp',
  'ntp',
  'audit',
  'alert',
  'clock',
  'local0',
  'local1',
  'local2',
  'local3',
  'local4',
  'local5',
  'local6',
  'local7',
] as const;

const syslog = z.strictObject({
  address: about(
    hostAndPort().optional(),
    '<host>:<port>, such as syslog.example.com:514 or [2001:db8::1]:514',
    'Where events are sent in the format of RFC 5424; without it, nothing is.',
  ),
  protocol: about(
    z.enum(['tcp', 'udp', 'tls']).prefault('tcp'),
    'one of tcp, udp, tls',
    'The transport: TCP (RFC 6587), UDP (RFC 5426) or TLS (RFC 5425).',
  ),
  framing: about(
    z.enum(['octets', 'newline']).prefault('octets'),
    'one of octets, newline',
    'How messages are told apart over TCP and TLS: by their length before them (RFC 6587, 3.4.1), or by a newline after them (3.4.2).',
  ),
  format: about(
    z.enum(['rfc5424', 'cef', 'leef']).prefault('rfc5424'),
    'one of rfc5424, cef, leef',
    'What the message says: the event as JSON, or the Common Event Format, or LEEF 2.0; the header is always that of RFC 5424.',
  ),
  facility: about(z.enum(FACILITIES).prefault('local4'), `one of ${FACILITIES.join(', ')}`, "The messages' facility."),
  caFile,
  ...batch,
});

const stdout = z.strictObject(batch);

const deadLetterSize = bytes('1MiB', '1024GiB');
const DEAD_LETTER_SIZE = 'a size from 1MiB to 1024GiB';

/** What a sink of the list can be: exactly one of them. */
const SINK_KINDS = ['elasticsearch', 'opensearch', 'kafka', 'syslog', 'stdout', 'http'] as const;

const entry = z
  .strictObject({
    name: about(
      setName(),
      'a name of a-z, 0-9 and "-"',
      'What the sink is called in logs, metrics and commands; its cursor and its dead letters go by it.',
    ),
    elasticsearch: about(
      elasticsearch.optional(),
      'a mapping with the keys of sinks.elasticsearch',
      'Events go to Elasticsearch.',
    ),
    opensearch: about(
      opensearch.optional(),
      'a mapping with the keys of sinks.elasticsearch but apiKeyFile',
      'Events go to OpenSearch.',
    ),
    syslog: about(syslog.optional(), 'a mapping with the keys of sinks.syslog', 'Events go to a syslog collector.'),
    stdout: about(
      stdout.optional(),
      'a mapping with the keys of sinks.stdout but enabled',
      'Events go to standard output.',
    ),
    kafka: kafka.optional(),
    http: http.optional(),
    when: when.optional(),
    quiet: quiet.optional(),
    deadLetterSize: about(
      deadLetterSize.optional(),
      DEAD_LETTER_SIZE,
      'As sinks.deadLetterSize, for this sink; by default that.',
    ),
  })
  .superRefine((value, context) => {
    const wrong = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message });
    };
    const kinds = SINK_KINDS.filter((kind) => value[kind] !== undefined);
    if (kinds.length !== 1) {
      const got = kinds.length === 0 ? 'none' : kinds.join(' and ');
      wrong('name', `expected one of ${SINK_KINDS.join(', ')} with it, got ${got}`);
    }
    if (value.elasticsearch?.nodes?.length === 0) wrong('elasticsearch', 'expected nodes');
    if (value.opensearch?.nodes?.length === 0) wrong('opensearch', 'expected nodes');
    if (value.syslog !== undefined && value.syslog.address === undefined) wrong('syslog', 'expected an address');
  }, ALWAYS);

const MAX_SINKS = 32;

export const sinks = z
  .strictObject({
    elasticsearch: elasticsearch.prefault({}),
    syslog: syslog.prefault({}),
    stdout: z
      .strictObject({
        enabled: about(
          boolean().prefault(false),
          'true or false',
          'Whether events are written to standard output as NDJSON, each once, also after a restart.',
        ),
        ...batch,
      })
      .prefault({}),
    deadLetterSize: about(
      deadLetterSize.prefault('64MiB'),
      DEAD_LETTER_SIZE,
      'Disk budget, for each sink, of events that it refused for good; the oldest are deleted and counted.',
    ),
    list: about(
      z.array(entry).max(MAX_SINKS).prefault([]),
      `a list of mappings, at most ${MAX_SINKS}`,
      'As a list: sinks with names (docs/destinations.md); not settable by the environment.',
    ),
  })
  .superRefine((value, context) => {
    if (!Array.isArray(value.list)) return;
    const first = new Map<string, number>();
    for (const [index, each] of value.list.entries()) {
      if (typeof each?.name !== 'string') continue;
      const { name } = each;
      const same = first.get(name);
      if (same !== undefined) nameIsTaken(context, index, ['list', same], `sinks[${same}]`);
      else if (isUsed(value, name)) nameIsTaken(context, index, [name], `sinks.${name}`);
      first.set(name, same ?? index);
    }
  }, ALWAYS);

/** Of the form without names; parts may be wrong and missing. */
interface WithoutNames {
  elasticsearch?: { nodes?: readonly string[] };
  syslog?: { address?: string | undefined };
  stdout?: { enabled?: boolean };
}

/** Whether the form without names has a sink of this name. */
function isUsed(value: WithoutNames, name: string): boolean {
  if (name === 'elasticsearch') return (value.elasticsearch?.nodes?.length ?? 0) > 0;
  if (name === 'syslog') return value.syslog?.address !== undefined;
  return name === 'stdout' && value.stdout?.enabled === true;
}

function nameIsTaken(context: z.RefinementCtx, index: number, other: (string | number)[], by: string): void {
  context.addIssue({
    code: 'custom',
    path: ['list', index, 'name'],
    params: { other: ['sinks', ...other] },
    message: `the name is taken by ${by}`,
  });
}
