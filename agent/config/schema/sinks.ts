/** `sinks`: where events go. */
import * as z from 'zod';
import { about, boolean, bytes, integer, list, millis, text } from '../leaves.ts';
import { ALWAYS, caFile } from './common.ts';

/** How a sink gathers events into batches. */
const batch = {
  batchEvents: about(
    integer(1, 10_000).prefault(1000),
    'an integer from 1 to 10000',
    'At most this many events are sent together.',
  ),
  batchSize: about(
    bytes('64KiB', '64MiB').prefault('5MiB'),
    'a size from 64KiB to 64MiB',
    'At most this much is sent together, before compression; an event that is larger goes alone.',
  ),
  batchMillis: about(
    millis(0, 60_000).prefault(200),
    'milliseconds from 0 to 60000, such as 200ms',
    'How long an event waits at most for others to be sent with it.',
  ),
};

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
    timeoutMillis: about(
      millis(1000, 600_000).prefault(30_000),
      'milliseconds from 1000 to 600000, such as 30s',
      'How long an answer may take.',
    ),
    ...batch,
  })
  .superRefine((value, context) => {
    const conflict = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message });
    };
    if (value.apiKeyFile !== undefined && (value.username ?? value.usernameFile ?? value.passwordFile) !== undefined) {
      conflict('apiKeyFile', 'expected an API key or a user with a password, not both');
    }
    if (value.username !== undefined && value.usernameFile !== undefined) {
      conflict('usernameFile', 'expected username or usernameFile, not both');
    }
    if (((value.username ?? value.usernameFile) !== undefined) !== (value.passwordFile !== undefined)) {
      conflict('passwordFile', 'expected both a user (username or usernameFile) and passwordFile, or neither');
    }
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
    z
      .string()
      .refine(
        (value) =>
          /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253}):([1-9]\d{0,4})$/.test(value) &&
          Number(value.split(':').at(-1)) < 65_536,
      )
      .optional(),
    '<host>:<port>, such as syslog.example.com:514 or [2001:db8::1]:514',
    'Where events are sent in the format of RFC 5424; without it, nothing is.',
  ),
  protocol: about(
    z.enum(['tcp', 'udp', 'tls']).prefault('tcp'),
    'one of tcp, udp, tls',
    'The transport: TCP with octet counting (RFC 6587), UDP (RFC 5426) or TLS (RFC 5425).',
  ),
  facility: about(z.enum(FACILITIES).prefault('local4'), `one of ${FACILITIES.join(', ')}`, "The messages' facility."),
  caFile,
  ...batch,
});

export const sinks = z.strictObject({
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
    bytes('1MiB', '1024GiB').prefault('64MiB'),
    'a size from 1MiB to 1024GiB',
    'Disk budget, for each sink, of events that it refused for good; the oldest are deleted and counted.',
  ),
});
