/** `http` of a sink: a request for each event, or for a batch of them. */
import * as z from 'zod';
import { about, boolean, list, millis, text } from '../leaves.ts';
import { batch } from './batch.ts';
import { ALWAYS, caFile, httpUrl } from './common.ts';

const HTTP_FORMATS = [
  'json',
  'ndjson',
  'cloudevents',
  'slack',
  'teams',
  'discord',
  'pagerduty',
  'alertmanager',
  'splunk-hec',
  'loki',
  'otlp',
  'elastic-ecs',
  'falcosidekick',
  'template',
] as const;

const MAX_TEMPLATE_LENGTH = 65_536;
/** RFC 9110, 5.6.2. */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
/** They say where a message ends and what becomes of the connection, which is the client's business. */
const OF_THE_CLIENT =
  /^(connection|content-length|expect|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade)$/i;
const headerName = () => z.string().refine((name) => HEADER_NAME.test(name) && !OF_THE_CLIENT.test(name));
/** Printable ASCII, as the client takes it. */
const headerValue = () => z.string().regex(/^[\x20-\x7e]{0,4096}$/);

/** YAML takes 200 for a number. */
const status = () =>
  z.preprocess((value) => (typeof value === 'number' ? String(value) : value), z.string().regex(/^[2-5](\d\d|xx)$/));

const address = () =>
  httpUrl.refine((value) => !URL.canParse(value) || (new URL(value).username === '' && new URL(value).password === ''));

export const http = z
  .strictObject({
    url: about(
      address().optional(),
      'a URL with http or https, without user and password',
      'Where requests go; commands and logs show its host only.',
    ),
    urlFile: about(
      text().optional(),
      'a path',
      'File with that URL, where it is a secret, as those of Slack, Teams and Discord are; read again when it changes.',
    ),
    method: about(
      z.enum(['POST', 'PUT', 'PATCH']).prefault('POST'),
      'one of POST, PUT, PATCH',
      "The requests' method.",
    ),
    format: about(
      z.enum(HTTP_FORMATS).prefault('json'),
      `one of ${HTTP_FORMATS.join(', ')}`,
      'What a request says (docs/destinations.md).',
    ),
    oneByOne: about(
      boolean().prefault(false),
      'true or false',
      'Whether each event is a request of its own; formats for people and for incidents always are.',
    ),
    acknowledge: about(
      boolean().prefault(true),
      'true or false',
      'Whether messages for people have the link to acknowledge, where ui.acknowledgeKeyFile and ui.publicUrl are set.',
    ),
    headers: about(
      z.record(headerName(), headerValue()).prefault({}),
      'a mapping of names to values of printable ASCII, without what is of the connection (Content-Length and its like)',
      'Further headers; what is secret goes into secretFile.',
    ),
    secretFile: about(
      text().optional(),
      'a path',
      'File with a token: a bearer token, the token of Splunk, the routing key of PagerDuty; read again when it changes.',
    ),
    secretHeader: about(
      headerName().prefault('Authorization'),
      'the name of a header',
      'The header that has the token as it is; Authorization has it as a bearer token.',
    ),
    username: about(text(256).optional(), 'a name', 'User for basic authentication.'),
    passwordFile: about(text().optional(), 'a path', 'File with the password; read again when it changes.'),
    hmacFile: about(
      text().optional(),
      'a path',
      "File with the key of the signature: sha256= and the body's HMAC in hexadecimal, as GitHub's webhooks have it.",
    ),
    hmacHeader: about(
      headerName().prefault('X-Hub-Signature-256'),
      'the name of a header',
      'The header that has the signature.',
    ),
    caFile,
    certFile: about(text().optional(), 'a path', "PEM file of the client's certificate; read again when it changes."),
    keyFile: about(text().optional(), 'a path', 'PEM file of its key.'),
    verifyTls: about(
      boolean().prefault(true),
      'true or false',
      'Whether the certificate is checked; false sends events, and secrets, to whoever answers.',
    ),
    proxy: about(
      address().optional(),
      'a URL with http or https, without user and password',
      'The proxy on the way there; by default that of the environment.',
    ),
    allowLinkLocal: about(
      boolean().prefault(false),
      'true or false',
      'Whether requests may go to link-local addresses, where clouds give out credentials.',
    ),
    success: about(
      list(status()).prefault(['2xx']),
      'a list of statuses such as 200 or 2xx',
      'Which answers mean that the events were taken.',
    ),
    timeoutMillis: about(
      millis(100, 600_000).prefault(10_000),
      'milliseconds from 100 to 600000, such as 10s',
      'How long an answer may take.',
    ),
    labels: about(
      z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), text(1024)).prefault({}),
      'a mapping of names of A-Z, a-z, 0-9 and _ to texts',
      'Further labels, of loki, alertmanager, splunk-hec (fields) and otlp (attributes of the resource).',
    ),
    template: about(
      z.string().min(1).max(MAX_TEMPLATE_LENGTH).optional(),
      'a text in the Liquid language',
      'What a request of the format template says; event is the event, alert what messages say of it.',
    ),
    templateFile: about(text().optional(), 'a path', 'File with the same; read again when it changes.'),
    contentType: about(
      headerValue().optional(),
      'a media type',
      'The content type of the format template; by default application/json.',
    ),
    ...batch,
  })
  .superRefine((value, context) => {
    const wrong = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message });
    };
    const isTemplate = value.format === 'template';
    if ((value.url === undefined) === (value.urlFile === undefined)) wrong('url', 'expected one of url and urlFile');
    if ((value.username === undefined) !== (value.passwordFile === undefined)) {
      wrong('passwordFile', 'expected both username and passwordFile, or neither');
    }
    if (value.success?.length === 0) wrong('success', 'expected at least one status: else nothing is ever taken');
    if ((value.certFile === undefined) !== (value.keyFile === undefined)) {
      wrong('keyFile', 'expected both certFile and keyFile, or neither');
    }
    const isBoth = value.username !== undefined && value.secretFile !== undefined;
    if (isBoth && value.secretHeader === 'Authorization') {
      wrong('secretFile', 'expected a user with a password or a token in Authorization, not both');
    }
    const templates = [value.template, value.templateFile].filter((each) => each !== undefined).length;
    if (isTemplate && templates !== 1) wrong('template', 'expected one of template and templateFile');
    if (!isTemplate && (templates > 0 || value.contentType !== undefined)) {
      wrong('format', 'expected template with template, templateFile or contentType');
    }
    if (value.secretFile === undefined && (value.format === 'pagerduty' || value.format === 'splunk-hec')) {
      wrong('secretFile', `expected a file with the ${value.format === 'pagerduty' ? 'routing key' : 'token'}`);
    }
  }, ALWAYS);
