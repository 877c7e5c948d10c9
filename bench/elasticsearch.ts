/** A real Elasticsearch for benchmarks. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, cpSync, mkdirSync, readdirSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { PROJECT } from '../test/support/project.ts';

const NOBODY = 65_534;
export const PATIENCE_MILLIS = 120_000;

export interface Server {
  url: string;
  /** Again, with the same data and port. */
  start(): Promise<void>;
  kill(): Promise<void>;
}

interface Program {
  elasticsearchDirectory(): string;
  isElasticsearchThere(): boolean;
  javaHome(): string | undefined;
}

/** A server of its own on loopback, not the tests': what they share with it needs jest. As root, it runs as another user. */
export async function startServer(parent: string): Promise<Server> {
  const program = (await import(pathToFileURL(join(PROJECT, 'scripts/elasticsearch.mjs')).href)) as Program;
  const java = program.javaHome();
  if (java === undefined) throw new Error('Elasticsearch needs Java 17 or newer, which was not found');
  if (!program.isElasticsearchThere()) throw new Error('no Elasticsearch here: run node scripts/elasticsearch.mjs');
  const directory = join(parent, 'elasticsearch');
  mkdirSync(directory);
  const home = join(directory, 'home');
  execFileSync('cp', ['-a', program.elasticsearchDirectory(), home]);
  for (const name of ['data', 'logs', 'tmp']) mkdirSync(join(directory, name));
  cpSync(join(home, 'config'), join(directory, 'config'), { recursive: true });
  const isRoot = process.getuid?.() === 0;
  chmodSync(directory, 0o755);
  if (isRoot) for (const name of ['data', 'logs', 'tmp', 'config']) giveAway(join(directory, name));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let child: ChildProcess | undefined;
  let ended: Promise<unknown> = Promise.resolve();

  function killGroup(): void {
    if (child?.pid === undefined) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
  process.once('exit', killGroup);

  async function start(): Promise<void> {
    const settings = {
      'discovery.type': 'single-node',
      'network.host': '127.0.0.1',
      'http.port': port,
      'transport.port': 0,
      'path.data': join(directory, 'data'),
      'path.logs': join(directory, 'logs'),
      'cluster.routing.allocation.disk.threshold_enabled': false,
      'xpack.security.enabled': false,
    };
    const started = spawn(
      join(home, 'bin/elasticsearch'),
      Object.entries(settings).map(([name, value]) => `-E${name}=${value}`),
      {
        detached: true,
        stdio: ['ignore', 'ignore', 'ignore'],
        cwd: directory,
        ...(isRoot ? { uid: NOBODY, gid: NOBODY } : {}),
        env: {
          PATH: process.env['PATH'],
          HOME: directory,
          ES_JAVA_HOME: java,
          ES_PATH_CONF: join(directory, 'config'),
          ES_TMPDIR: join(directory, 'tmp'),
          ES_JAVA_OPTS: '-Xms1g -Xmx1g',
        },
      },
    );
    child = started;
    ended = new Promise((resolve) => started.once('close', resolve));
    await until(
      'Elasticsearch starts',
      () => '',
      async () => {
        if (started.exitCode !== null) throw new Error('Elasticsearch ended');
        const health = `${url}/_cluster/health?wait_for_status=yellow&timeout=1s`;
        return await fetch(health).then(
          (answer) => answer.ok,
          () => false,
        );
      },
    );
  }

  async function kill(): Promise<void> {
    killGroup();
    await ended;
    child = undefined;
  }

  await start();
  return { url, start, kill };
}

function giveAway(path: string): void {
  chownSync(path, NOBODY, NOBODY);
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) giveAway(join(path, entry.name));
    else chownSync(join(path, entry.name), NOBODY, NOBODY);
  }
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function until(what: string, log: () => string, test: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MILLIS; performance.now() < end; await sleep(50)) {
    if (await test()) return;
  }
  throw new Error(`${what}: not in ${PATIENCE_MILLIS / 1000} s\n${log()}`);
}
