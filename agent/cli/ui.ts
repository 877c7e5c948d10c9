/** `dpi-agent ui`: the Alerts page. */
import { existsSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Server } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Argv, CommandModule } from 'yargs';
import type { Config } from '../config/load.ts';
import { alertStoreOf } from '../config/sinks.ts';
import { evidenceDirectory, findEvidence } from '../evidence/place.ts';
import { readPacketFile } from '../evidence/read.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import type { Address } from '../observe/ask.ts';
import type { ResponseAsker } from '../ui/response.ts';
import type { ApiClient } from '../kube/api.ts';
import { CommandError, EXIT } from './exit.ts';
import { createLog } from './log.ts';
import { isTerminal } from './print.ts';
import { followHandled } from './ui/handled.ts';
import { CLUSTER_FLAGS, COMMON_FLAGS, connect, followsCluster, readConfig, socketOf } from './setup.ts';
import { abortedBySignal, untilAborted } from './signals.ts';
import { version } from './version.ts';

const STRONG_ENOUGH = 12;

interface UiArgv {
  hashPassword?: string;
}

const OWN = ['hashPassword', 'hash-password'];
const FLAGS: Record<string, string> = {
  address: 'ui.address',
  port: 'ui.port',
  source: 'ui.source',
  access: 'ui.access',
};

export const command: CommandModule<object, UiArgv> = {
  command: 'ui',
  builder: (args: Argv) =>
    args
      .options({ config: COMMON_FLAGS.config, ...CLUSTER_FLAGS, 'log-level': COMMON_FLAGS['log-level'] })
      .option('source', {
        choices: ['auto', 'journal', 'elasticsearch'],
        describe: 'Where the alerts are; auto: Elasticsearch where sinks.elasticsearch names one, else the journal',
      })
      .option('address', { type: 'string', describe: 'Address to listen on [127.0.0.1]' })
      .option('port', { alias: 'p', type: 'string', describe: 'Port to listen on [9098]' })
      .option('access', {
        choices: ['auto', 'kubernetes', 'password', 'none'],
        describe: 'Who may see it: tokens of the cluster, users of ui.passwordFile, or everybody (on loopback only)',
      })
      .option('hash-password', {
        type: 'string',
        requiresArg: true,
        describe: 'Print the line of ui.passwordFile for this user, with the password that is typed or piped in',
      })
      .strict(false)
      .example('$0 ui', "this machine's journal, on http://127.0.0.1:9098")
      .example('$0 ui --hash-password anna >> users', 'a user for ui.passwordFile')
      .example(
        '$0 ui --address 0.0.0.0 --ui.passwordFile users --ui.tlsCertFile tls.crt --ui.tlsKeyFile tls.key',
        'for a team',
      ) as Argv<UiArgv>,
  handler: run,
};

async function run(argv: UiArgv): Promise<void> {
  if (argv.hashPassword !== undefined) return printPasswordLine(argv.hashPassword);
  const renamed = Object.fromEntries(
    Object.entries(argv).map(([name, value]) => [FLAGS[name] ?? name, value as unknown]),
  );
  const config = readConfig(renamed, OWN);
  const log = createLog(config);
  const mode = accessOf(config);
  refuseOpenDoors(config, mode);

  const tls = await openCertificate(config.ui, log);
  const client = mode === 'kubernetes' || followsCluster(config) ? await connect(config) : undefined;
  const options = {
    access: await createAccess(config, mode, client),
    page: await readPageFiles(),
    version: version(),
    log,
    ...(config.ui.kibanaUrl === undefined ? {} : { kibanaUrl: config.ui.kibanaUrl }),
    ...(tls === undefined ? {} : { tls: { cert: tls.cert, key: tls.key } }),
    secure: tls !== undefined || config.ui.behindTlsProxy,
    trustedProxies: config.ui.trustedProxies,
    rule: await createRuleSearch(config, log),
    evidence: (id: string) => findEvidence(evidenceDirectory(config.journal.directory), id),
    packets: (id: string) => readPacketFile(evidenceDirectory(config.journal.directory), id),
    coverage: await createCoverageView(config, client),
    ...(await openAcknowledgement(config.ui)),
    ...(client === undefined ? {} : { dryRun: await createDryRun(client) }),
    ...(await createTuning(config, mode, client)),
    ...(await createResponse(config)),
  };
  const { createUiServer } = await import('../ui/server.ts');
  // Last: it keeps the process alive until it is closed.
  const source = await openSource(config);
  const clusters = await openClusters(config);
  const handled = await followHandled(config, source, log);
  try {
    const app = createUiServer({ ...options, source, ...clusters, onHandled: handled.note });
    const url = await listen(app, config.ui);
    log.info({ url, access: mode, source: source.about.kind }, 'the Alerts page is up');
    const endRenewal = tls?.renew(app.server as unknown as Server);
    await untilAborted(abortedBySignal());
    endRenewal?.();
    await app.close();
  } finally {
    await handled.close();
    await source.close();
    for (const further of clusters.clusters?.further ?? []) await further.source.close();
  }
}

/** @returns the page's address; its port is chosen by the system where `ui.port` is 0. */
async function listen(app: FastifyInstance, { address, port, tlsCertFile }: Config['ui']): Promise<string> {
  try {
    await app.listen({ host: address, port });
  } catch (error) {
    const why = errorCode(error) === 'EADDRINUSE' ? 'the port is taken: choose another with --port' : String(error);
    throw new CommandError(`cannot listen on ${address}:${port}: ${why}`, EXIT.failed);
  }
  const bound = app.server.address();
  const chosen = typeof bound === 'object' && bound !== null ? bound.port : port;
  return `${tlsCertFile === undefined ? 'http' : 'https'}://${isIPv6(address) ? `[${address}]` : address}:${chosen}/`;
}

async function createRuleSearch({ rulesDirectory, rules, engine }: Config, log: Logger) {
  const { createRules } = await import('../ui/rules.ts');
  return createRules({ rulesDirectory, paths: rules, engine: engine.type === 'suricata' ? 'suricata' : 'snort' }, log);
}

async function createCoverageView(config: Config, client: ApiClient | undefined) {
  const { createCoverage } = await import('../ui/coverage.ts');
  const agents = agentsOf(config);
  if (client === undefined) return createCoverage({ agents });
  const cluster = {
    client,
    namespace: config.ui.agentNamespace,
    labelSelector: 'k8s-app=tigera-dpi',
    port: config.http.port || 9097,
  };
  return createCoverage({ agents, cluster });
}

async function readPageFiles() {
  const { readPage } = await import('../ui/files.ts');
  try {
    return readPage();
  } catch (error) {
    throw new CommandError(messageOf(error), EXIT.failed);
  }
}

type Mode = 'none' | 'password' | 'kubernetes';

function accessOf(config: Config): Mode {
  const { access, passwordFile } = config.ui;
  if (access === 'password' && passwordFile === undefined)
    throw new CommandError(
      'ui.access is password, but there is no ui.passwordFile: dpi-agent ui --hash-password makes its lines',
    );
  if (access !== 'auto') return access;
  if (passwordFile !== undefined) return 'password';
  return followsCluster(config) ? 'kubernetes' : 'none';
}

/**
 * @throws CommandError where others could read alerts, or passwords on their way, or all that come by a proxy would be
 * one sender.
 */
function refuseOpenDoors({ ui }: Config, mode: Mode): void {
  if (ui.behindTlsProxy && ui.trustedProxies.length === 0) {
    throw new CommandError(
      'ui.behindTlsProxy: name the proxies in ui.trustedProxies (addresses, or networks such as 10.0.0.0/8): only what they say of where a request ' +
        'is from is believed',
    );
  }
  if (ui.address === '::1' || ui.address.startsWith('127.')) return;
  const where = `the Alerts page would be open on ${ui.address}`;
  if (mode === 'none') {
    throw new CommandError(
      `${where} to everybody: choose who may see it with --access kubernetes, or ui.passwordFile; or listen on 127.0.0.1`,
    );
  }
  if (ui.tlsCertFile === undefined && !ui.behindTlsProxy) {
    throw new CommandError(
      `${where} without TLS, and ${mode === 'password' ? 'passwords' : 'tokens'} would cross the network in the clear: set ui.tlsCertFile and ` +
        'ui.tlsKeyFile; or, where a proxy before it does TLS and nobody else reaches it, ui.behindTlsProxy and ui.trustedProxies',
    );
  }
}

async function openSource(config: Config) {
  const { source, marksFile, journalAlerts } = config.ui;
  const alerts = alertStoreOf(config.sinks);
  if (source === 'elasticsearch' && alerts === undefined)
    throw new CommandError(
      'ui.source is elasticsearch, but no sink is Elasticsearch or OpenSearch: name one in sinks, such as sinks.elasticsearch.nodes',
    );
  if (source !== 'journal' && alerts !== undefined) {
    const { openElasticsearchSource } = await import('../ui/elasticsearch-source.ts');
    return openElasticsearchSource({ config: alerts.settings, store: alerts.store, cluster: config.cluster });
  }
  const { openJournalSource } = await import('../ui/journal-source.ts');
  try {
    return await openJournalSource({
      directory: config.journal.directory,
      marksFile: marksFile ?? join(config.stateDirectory, 'marks.ndjson'),
      limit: journalAlerts,
    });
  } catch (error) {
    throw new CommandError(messageOf(error), EXIT.failed);
  }
}

/** Their indices are where this cluster's is. */
async function openClusters(config: Config) {
  const { clusters, source } = config.ui;
  if (clusters.length === 0) return {};
  const alerts = alertStoreOf(config.sinks);
  if (source === 'journal' || alerts === undefined)
    throw new CommandError('ui.clusters names clusters, but the alerts are not from Elasticsearch or OpenSearch');
  const { openElasticsearchSource } = await import('../ui/elasticsearch-source.ts');
  const others = new Set(clusters.filter((name) => name !== config.cluster));
  const further = [...others].map((name) => ({
    name,
    source: openElasticsearchSource({ config: alerts.settings, store: alerts.store, cluster: name }),
  }));
  return { clusters: { own: config.cluster, further } };
}

/** @throws CommandError that says which file is wrong, and how. */
async function openAcknowledgement({ acknowledgeKeyFile, acknowledgeTokensFile }: Config['ui']) {
  const { openKeys, openTokens } = await import('../ui/acknowledge.ts');
  try {
    return {
      ...(acknowledgeKeyFile === undefined ? {} : { keys: await openKeys(acknowledgeKeyFile) }),
      ...(acknowledgeTokensFile === undefined ? {} : { tokens: await openTokens(acknowledgeTokensFile) }),
    };
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
}

async function createAccess(config: Config, mode: Mode, client: ApiClient | undefined) {
  const { kubernetesAccess, openAccess, passwordAccess } = await import('../ui/access.ts');
  const { agentNamespace, policyConfigMap } = config.ui;
  const policy = policyConfigMap === undefined ? undefined : { namespace: agentNamespace, name: policyConfigMap };
  if (mode === 'kubernetes' && client !== undefined) return kubernetesAccess(client, undefined, policy);
  if (mode !== 'password') return openAccess;
  const { openPasswordFile } = await import('../ui/passwords.ts');
  try {
    return passwordAccess(await openPasswordFile(config.ui.passwordFile ?? ''));
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
}

/** What the page keeps: nothing where rights in the cluster are not about it. */
async function createTuning(config: Config, mode: Mode, client: ApiClient | undefined) {
  const { createTuning: create, TuningError } = await import('../tuning/tuning.ts');
  const { policyPlace } = await import('./policy/place.ts');
  const place = policyPlace(config, client);
  if (place === undefined || (mode === 'kubernetes' && config.ui.policyConfigMap === undefined)) return {};
  const isRefusal = (error: unknown): error is Error => error instanceof TuningError;
  return { tuning: { ...create(place), isRefusal } };
}

async function createDryRun(client: ApiClient) {
  const { explain } = await import('../endpoints/explain.ts');
  const { selectorOf } = await import('../endpoints/select.ts');
  const { SelectorError } = await import('../kube/selector/selector.ts');
  const { listPods } = await import('../kube/pods.ts');
  const { Refused } = await import('../ui/refused.ts');
  return async (namespace: string, selector: string) => {
    try {
      // A text that is none is refused before anything is asked.
      selectorOf({ selector });
      const explanations = explain({ selector }, await listPods(client, namespace), undefined);
      return {
        selector,
        namespace,
        pods: explanations.map(({ pod, node, selected, inspected, why }) => ({
          name: pod,
          node,
          selected,
          inspected,
          ...(why === undefined ? {} : { why }),
        })),
      };
    } catch (error) {
      if (error instanceof SelectorError) throw new Refused(400, error.message, { position: error.position });
      throw error;
    }
  };
}

/** Who isolates pods, where one is named. */
async function createResponse({ respond: { url, caFile } }: Config) {
  if (url === undefined) return {};
  const { ask } = await import('../respond/ask.ts');
  const response: ResponseAsker = (token, asked) => ask({ url, caFile }, token, asked);
  return { response };
}

/** Those that are named, else this machine's. */
function agentsOf(config: Config): Address[] {
  if (config.ui.agents.length > 0) {
    return config.ui.agents.map((agent) => (/^https?:/.test(agent) ? { url: agent } : { socket: agent }));
  }
  const socket = socketOf(config);
  return existsSync(socket) ? [{ socket }] : [];
}

/** @throws CommandError that says which file is wrong, and how. */
async function openCertificate({ tlsCertFile: cert, tlsKeyFile: key }: Config['ui'], log: Logger) {
  if (cert === undefined || key === undefined) return undefined;
  const { readCertificate, renewCertificate } = await import('../files/certificate.ts');
  const files = { cert, key };
  let certificate;
  try {
    certificate = await readCertificate(files);
  } catch (error) {
    throw new CommandError(messageOf(error));
  }
  const until = new Date(certificate.until).toISOString();
  if (certificate.until < Date.now())
    log.warn({ file: cert, until }, 'the certificate has expired: browsers refuse it');
  return { ...certificate, renew: (server: Server) => renewCertificate(server, files, log) };
}

async function printPasswordLine(username: string): Promise<void> {
  if (!/^[^:\s#][^:\s]{0,127}$/.test(username))
    throw new CommandError('--hash-password: expected the name of a user, without colon and blanks');
  const password = await readPassword(username);
  if (password.length < STRONG_ENOUGH)
    throw new CommandError(`the password is too short: ${STRONG_ENOUGH} characters at least`);
  const { passwordLine } = await import('../ui/passwords.ts');
  process.stdout.write(`${await passwordLine(username, password)}\n`);
}

/** A line of the standard input; on a terminal without showing it. */
async function readPassword(username: string): Promise<string> {
  const { stdin, stderr } = process;
  const hidden = isTerminal(stdin);
  if (hidden) {
    stderr.write(`password of ${username}: `);
    stdin.setRawMode(true);
  }
  let typed = '';
  try {
    if (!hidden) {
      for await (const line of createInterface({ input: stdin })) return line;
      return '';
    }
    for await (const chunk of stdin) {
      for (const character of String(chunk)) {
        if (character === '\r' || character === '\n') return typed;
        if (character === '\u0003' || character === '\u0004') throw new CommandError('given up', EXIT.failed);
        typed = character === '\u007F' || character === '\b' ? typed.slice(0, -1) : typed + character;
      }
    }
    return typed;
  } finally {
    if (hidden) {
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write('\n');
    }
  }
}
