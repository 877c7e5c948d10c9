/** What `dpi-agent rules serve` runs: sources, engines that check, the web server, metrics. */
import { join } from 'node:path';
import type { Server } from 'node:tls';
import type { Logger } from 'pino';
import type { Config } from '../config/load.ts';
import type { EngineInstall, EngineName } from '../engine/engine.ts';
import { findEngine } from '../engine/find.ts';
import { serve as serveObserved } from '../observe/server.ts';
import { createAccess } from '../kube/token-access.ts';
import { requestOf } from '../rulesets/sources.ts';
import { RefusedError, updateSet } from '../rulesets/update.ts';
import { createMetrics } from '../ruleserver/metrics.ts';
import { createRuleServer } from '../ruleserver/server.ts';
import { startServing, type CheckedBy, type Serving } from '../ruleserver/serving.ts';
import { CommandError } from './exit.ts';
import { createLog } from './log.ts';
import { connect } from './setup.ts';
import { abortedBySignal, untilAborted } from './signals.ts';
import { listen, openCertificate, refuseInClear } from './token-server.ts';
import { version } from './version.ts';
import { ENGINES, TITLES } from './rules/common.ts';
import { checkVersion } from './rules/version-check.ts';

const MAX_NOTES = 5;

/** Until SIGTERM or SIGINT. @throws CommandError */
export async function serveRules(config: Config): Promise<void> {
  refuseToServe(config);
  const log = createLog(config);
  const engines = await installedEngines(config, log);
  const tls = await openCertificate(config.ruleServing, log);
  const client = await connect(config);
  const { audience, serviceAccounts } = config.ruleServing;
  const ending = abortedBySignal();
  const serving = await startServing(servingOptions(config, engines, log));
  const requests = new Map<number, number>();
  const app = createRuleServer({
    access: createAccess(client, { audience, serviceAccounts }),
    follow: serving.follow,
    manifest: () => ({
      version: version(),
      engines: engines.map(({ name, version: of }) => ({ name, version: of })),
      ...serving.manifest(),
    }),
    fileOf: serving.fileOf,
    onAnswer: (status) => void requests.set(status, (requests.get(status) ?? 0) + 1),
    log,
    ...(tls === undefined ? {} : { tls: { cert: tls.cert, key: tls.key } }),
  });
  const close = await observe(config, serving, requests, log);
  try {
    const url = await listen(app, 'ruleServing', config.ruleServing);
    log.info({ url, audience, serviceAccounts }, 'rule server: is up');
    const endRenewal = tls?.renew(app.server as unknown as Server);
    await untilAborted(ending);
    log.info({ signal: ending.reason as string }, 'ending');
    endRenewal?.();
  } finally {
    await app.close();
    await serving.stop();
    close();
  }
}

/** @throws CommandError where there is nothing to serve, or tokens would cross the network in the clear. */
function refuseToServe({ ruleSources, ruleServing }: Config): void {
  if (ruleSources.length === 0)
    throw new CommandError('nothing to serve: name sources in ruleSources of the configuration (docs/rules.md)');
  refuseInClear('ruleServing', ruleServing);
}

/** Those that check what is served. @throws CommandError where there is none. */
async function installedEngines({ engine: { type, binary } }: Config, log: Logger): Promise<EngineInstall[]> {
  const names: readonly EngineName[] = type === 'auto' ? ENGINES : [type];
  const found = await Promise.all(names.map((name) => findEngine(name, type === 'auto' ? undefined : binary)));
  const installs = found.flatMap((engine) => (engine.kind === 'found' ? [engine.install] : []));
  for (const { name, version: of, binary: path } of installs)
    log.info({ engine: name, version: of, binary: path }, 'rule server: checks with this engine');
  if (installs.length === 0) throw new CommandError('no engine to check rules with: install Snort 3 or Suricata');
  return installs;
}

function servingOptions(config: Config, engines: readonly EngineInstall[], log: Logger) {
  const { ruleSources: sources, rulesDirectory, ruleServing, stateDirectory } = config;
  return {
    sources,
    rulesDirectory,
    directory: ruleServing.directory ?? join(stateDirectory, 'rule-server'),
    leaseMillis: ruleServing.leaseMillis,
    log,
    update: async (source, check, signal) =>
      updateSet({
        ...(await requestOf(source, engines.find(({ name }) => name === 'suricata') ?? engines[0])),
        rulesDirectory,
        userAgent: `dpi-agent/${version()}`,
        check,
        signal,
      }),
    check: (set, directory) => checkWithAll({ config, engines, log }, set, directory),
  } satisfies Parameters<typeof startServing>[0];
}

interface Checking {
  config: Config;
  engines: readonly EngineInstall[];
  log: Logger;
}

/** @throws RefusedError where no engine takes it. */
async function checkWithAll({ config, engines, log }: Checking, set: string, directory: string): Promise<CheckedBy> {
  const checked: CheckedBy = [];
  for (const install of engines) {
    const { name, version: of } = install;
    try {
      const notes = await checkVersion(config, install, set, directory);
      for (const note of notes.slice(0, MAX_NOTES)) log.warn({ set, note }, 'rule server');
      checked.push({ name, version: of });
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      checked.push({ name, version: of, problem: error.message });
    }
  }
  const [first] = checked;
  if (first?.problem !== undefined && checked.every(({ problem }) => problem !== undefined))
    throw new RefusedError(checked.map(({ problem }) => problem).join('\n'));
  for (const { name, problem } of checked)
    if (problem !== undefined)
      log.warn({ set, engine: TITLES[name], reason: problem }, 'rule server: not for this engine');
  return checked;
}

/** @returns what ends it. What can't be served is no reason not to serve rules. */
async function observe(
  { http: { port, address } }: Config,
  serving: Serving,
  requests: ReadonlyMap<number, number>,
  log: Logger,
): Promise<() => void> {
  if (port === 0) return () => undefined;
  try {
    const metrics = createMetrics({ ...serving, requests: () => requests }, version());
    const server = await serveObserved({
      ...(address === undefined ? { port } : { port, address }),
      stuck: () => undefined,
      readiness() {
        const problem = serving.problem();
        return { ready: problem === undefined, problems: problem === undefined ? [] : [problem] };
      },
      metrics,
    });
    return () => server.close();
  } catch (error) {
    log.error({ err: error, port, address }, 'probes and metrics are not served; set http.port or http.address');
    return () => undefined;
  }
}
