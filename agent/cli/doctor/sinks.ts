/** What `doctor` finds of the sinks: whether they answer, and what they let the agent do. */
import { connect as connectTo } from 'node:net';
import { pino } from 'pino';
import type { Config } from '../../config/load.ts';
import { sinkEntries, type SinkEntry } from '../../config/sinks.ts';
import { messageOf } from '../../files/errors.ts';
import { SendError } from '../../ship/destination.ts';
import { get } from '../../ship/elasticsearch/classify.ts';
import { hasPolicy } from '../../ship/elasticsearch/policy.ts';
import { namesOf, packetNamesOf, TEMPLATE_VERSION, type Names } from '../../ship/elasticsearch/template.ts';
import type { Finding } from '../finding.ts';
import { PROBE_MILLIS, REMEDY_SLOW } from './limits.ts';

const REMEDIES: Record<string, string> = {
  unreachable: 'start it, or correct sinks.elasticsearch.nodes',
  tls: 'correct sinks.elasticsearch.caFile, or the certificate',
  unauthorized:
    'correct sinks.elasticsearch.apiKeyFile, or username and passwordFile; docs/delivery.md says how to make a key',
};

type EntryOf<Kind extends SinkEntry['kind']> = SinkEntry & { kind: Kind };

function entriesOf<Kind extends SinkEntry['kind']>({ sinks }: Config, kind: Kind): EntryOf<Kind>[] {
  const isOf = (entry: SinkEntry): entry is EntryOf<Kind> => entry.kind === kind;
  return sinkEntries(sinks).filter(isOf);
}

export async function elasticsearch(config: Config): Promise<Finding[]> {
  const entries = entriesOf(config, 'elasticsearch');
  if (entries.length === 0) {
    return [{ level: 'info', subject: 'elasticsearch', message: 'no nodes: nothing is sent there' }];
  }
  return (await Promise.all(entries.map((entry) => oneElasticsearch(entry, config)))).flat();
}

async function oneElasticsearch(
  { name: subject, settings }: EntryOf<'elasticsearch'>,
  { cluster: name, evidence: { keep } }: Config,
): Promise<Finding[]> {
  const packets = keep === 'off' || settings.packetsSize === 0 ? undefined : packetNamesOf(name).index;
  // Its client takes 30 MB.
  const { createElasticsearch } = await import('../../ship/elasticsearch/elasticsearch.ts');
  const timeoutMillis = Math.min(settings.timeoutMillis, PROBE_MILLIS / 2);
  const perNode = await Promise.all(
    settings.nodes.map(async (node): Promise<{ findings: Finding[]; answers: boolean }> => {
      const log = pino({ level: 'silent' });
      const client = createElasticsearch({
        config: { ...settings, nodes: [node], timeoutMillis },
        cluster: name,
        log,
      });
      const ask = (method: 'GET' | 'POST', path: string, body?: object): ReturnType<typeof client.ask> =>
        client.ask(method, path, body, AbortSignal.timeout(PROBE_MILLIS));
      try {
        const { status, body } = await ask('GET', '/_security/_authenticate');
        const user = get(body, 'username');
        const message =
          status === 200 && typeof user === 'string'
            ? `${node} answers, as user ${user}`
            : `${node} answers, and knows no users`;
        return {
          findings: [
            { level: 'ok', subject, message },
            ...(await rights(
              ask,
              { subject, settings, names: namesOf(name, settings.schema, settings.dataStream), packets },
              user,
            )),
          ],
          answers: true,
        };
      } catch (error) {
        const remedy = REMEDIES[error instanceof SendError ? error.failure : ''] ?? REMEDY_SLOW;
        return { findings: [{ level: 'error', subject, message: messageOf(error), remedy }], answers: false };
      } finally {
        await client.close();
      }
    }),
  );
  // All nodes are of one cluster: its rights and template are told once.
  const first = perNode.findIndex(({ answers }) => answers);
  return perNode.flatMap(({ findings }, index) => (index === first ? findings : findings.slice(0, 1)));
}

interface Asked {
  subject: string;
  settings: EntryOf<'elasticsearch'>['settings'];
  names: Names;
  /** The index of packets, where they are kept. */
  packets: string | undefined;
}

type Ask = (method: 'GET' | 'POST', path: string, body?: object) => Promise<{ status: number; body: unknown }>;

async function rights(ask: Ask, of: Asked, user: unknown): Promise<Finding[]> {
  const { subject, settings, names } = of;
  const { manageTemplate } = settings;
  const findings: Finding[] = [];
  if (typeof user === 'string') findings.push(...(await rightsOf(ask, of, user)));
  const { status, body } = await ask('GET', `/_index_template/${names.template}`);
  const [entry] = [get(body, 'index_templates')].flat();
  const version = Number(get(get(get(entry, 'index_template'), '_meta'), 'template_version'));
  if (status === 200 && version === TEMPLATE_VERSION) {
    findings.push({ level: 'ok', subject, message: `template ${names.template} is there, version ${version}` });
  } else if (status === 200 || status === 404) {
    const is = status === 404 ? 'is not there' : `is of version ${Number.isNaN(version) ? 'unknown' : version}`;
    findings.push(
      manageTemplate
        ? { level: 'info', subject, message: `template ${names.template} ${is}: an agent makes it before it sends` }
        : {
            level: 'warning',
            subject,
            message: `template ${names.template} ${is}, and sinks.elasticsearch.manageTemplate is false`,
            remedy: 'make it, or set sinks.elasticsearch.manageTemplate to true',
          },
    );
  }
  return findings;
}

async function rightsOf(ask: Ask, { subject, settings, names, packets }: Asked, user: string): Promise<Finding[]> {
  const { manageTemplate, dataStream } = settings;
  const wanted = {
    cluster: manageTemplate ? ['manage_index_templates', ...(hasPolicy(settings) ? ['manage_ilm'] : [])] : [],
    index: [...(manageTemplate ? INDEX_RIGHTS : INDEX_RIGHTS.slice(0, 2)), ...(dataStream ? STREAM_RIGHTS : [])],
  };
  const indices = [names.index, ...(packets === undefined ? [] : [packets])];
  const { body } = await ask('POST', '/_security/user/_has_privileges', {
    cluster: wanted.cluster,
    index: [{ names: indices, privileges: wanted.index }],
  });
  const lackingOn = (index: string): string[] =>
    wanted.index
      .filter((right) => get(get(get(body, 'index'), index), right) !== true)
      .map((right) => `${right} on ${index}`);
  const missing = [
    ...wanted.cluster.filter((right) => get(get(body, 'cluster'), right) !== true),
    ...lackingOn(names.index),
  ];
  const remedy = 'give its role, or the API key, what docs/delivery.md lists under "In Elasticsearch"';
  const ofPackets = packets === undefined ? [] : lackingOn(packets);
  return [
    missing.length === 0
      ? { level: 'ok', subject, message: `${user} has all rights on ${names.index}` }
      : { level: 'error', subject, message: `${user} lacks ${missing.join(', ')}`, remedy },
    ...(ofPackets.length === 0
      ? []
      : [
          {
            level: 'warning' as const,
            subject,
            message: `${user} lacks ${ofPackets.join(', ')}: events are there without their packets`,
            remedy,
          },
        ]),
  ];
}

const INDEX_RIGHTS = ['create_doc', 'create_index', 'manage'];
/** To look for what a stream has before it is sent again. */
const STREAM_RIGHTS = ['read', 'view_index_metadata'];

export async function syslog(config: Config): Promise<Finding[]> {
  return (await Promise.all(entriesOf(config, 'syslog').map(oneSyslog))).flat();
}

async function oneSyslog({ name: subject, settings: { address, protocol } }: EntryOf<'syslog'>): Promise<Finding[]> {
  if (protocol === 'udp') return [{ level: 'info', subject, message: `${address} by UDP: nobody confirms anything` }];
  const [, host = '', port] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  return new Promise((resolve) => {
    const socket = connectTo({ host, port: Number(port), timeout: PROBE_MILLIS / 2 });
    const done = (finding: Finding): void => {
      socket.destroy();
      resolve([finding]);
    };
    const failed = (message: string): void =>
      done({
        level: 'error',
        subject,
        message: `${address}: ${message}`,
        remedy: 'start the collector, or correct sinks.syslog.address',
      });
    socket.once('connect', () => done({ level: 'ok', subject, message: `${address} takes connections` }));
    socket.once('timeout', () => failed('no answer'));
    socket.once('error', (error) => failed(error.message));
  });
}

/** Whether these take events is known only by sending one. */
export function otherSinks(config: Config): Finding[] {
  return [...entriesOf(config, 'http'), ...entriesOf(config, 'opensearch')].map(({ name }) => ({
    level: 'info',
    subject: name,
    message: `not asked: dpi-agent sinks test ${name} sends a sample`,
  }));
}
