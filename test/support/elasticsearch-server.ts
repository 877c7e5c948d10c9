/** A real Elasticsearch on loopback, as a user without rights, for tests and benchmarks. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { pbkdf2Sync, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { request as plainRequest } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { createAuthority, type Authority } from './certificates.ts';
import { PROJECT } from './project.ts';

const NOBODY = 65_534;
/** A start takes 15 s of a free machine; a busy or slow one gets twenty times that. */
const START_MILLIS = 300_000;
const START_TRIES = 2;
/** Of what it prints, the end; a dump of its threads must have room in it. */
const OUTPUT_LENGTH = 64_000;

export interface ElasticsearchOptions {
  /** HTTPS, with a certificate for localhost and 127.0.0.1. */
  tls?: boolean;
  /** Who may do what; `roles` are definitions as in roles.yml, in JSON. The user `admin` is there too. */
  users?: Record<string, { password: string; roles: string[] }>;
  roles?: Record<string, object>;
  /** Default `512m`. */
  heap?: string;
  /** Further options of Java. */
  java?: string;
  port?: number;
}

export interface TestElasticsearch {
  url: string;
  /** Of the process group; undefined for a given server. */
  pid(): number | undefined;
  authority: Authority | undefined;
  user: string | undefined;
  password: string | undefined;
  /** As `admin`. @throws Error for statuses from 400 on, unless it is 404: then undefined. */
  call(method: string, path: string, body?: unknown): Promise<unknown>;
  refresh(index: string): Promise<void>;
  count(index: string): Promise<number>;
  /** All of its documents' sources, by id. */
  documents(index: string): Promise<Map<string, unknown>>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** After kill(), with the same data and port. */
  restart(): Promise<void>;
  /** Ends it and removes its files. */
  stop(): Promise<void>;
}

interface Program {
  elasticsearchDirectory(): string;
  isElasticsearchThere(): boolean;
  elasticsearchJava(): string | undefined;
  whyNoElasticsearchProgram(): string | undefined;
}

async function loadProgram(): Promise<Program> {
  return (await import(pathToFileURL(join(PROJECT, 'scripts/elasticsearch.mjs')).href)) as Program;
}

export async function isElasticsearchHere(): Promise<boolean> {
  return (await loadProgram()).isElasticsearchThere();
}

/** @throws Error when it is not installed, or does not start. */
export async function startOwnElasticsearch(options: ElasticsearchOptions = {}): Promise<TestElasticsearch> {
  const program = await loadProgram();
  const java = program.elasticsearchJava();
  if (java === undefined) throw new Error(program.whyNoElasticsearchProgram());
  if (!program.isElasticsearchThere()) throw new Error('no Elasticsearch here: run node scripts/elasticsearch.mjs');
  const directory = mkdtempSync(join(tmpdir(), 'dpi-elasticsearch-'));
  chmodSync(directory, 0o755);
  const home = join(directory, 'home');
  // Its user need not be able to enter the cache: links where it is the same file system.
  try {
    execFileSync('cp', ['-al', program.elasticsearchDirectory(), home], { stdio: 'ignore' });
  } catch {
    rmSync(home, { recursive: true, force: true });
    execFileSync('cp', ['-a', program.elasticsearchDirectory(), home]);
  }
  // Version 7 writes what its Java says of memory beside the program.
  for (const name of ['data', 'logs', 'tmp', 'home/logs']) mkdirSync(join(directory, name), { recursive: true });
  cpSync(join(home, 'config'), join(directory, 'config'), { recursive: true });

  const password = randomBytes(12).toString('hex');
  const secured = options.users !== undefined || options.tls === true;
  const authority = options.tls === true ? createAuthority(join(directory, 'authority')) : undefined;
  if (authority !== undefined) {
    const { key, certificate } = authority.issue('localhost');
    writeFileSync(join(directory, 'config/http.key'), key);
    writeFileSync(join(directory, 'config/http.crt'), certificate);
  }
  if (secured) {
    const users = { ...options.users, admin: { password, roles: ['superuser'] } };
    const lines = Object.entries(users).map(([name, user]) => `${name}:${hash(user.password)}\n`);
    writeFileSync(join(directory, 'config/users'), lines.join(''));
    const roles = [...new Set(Object.values(users).flatMap((user) => user.roles))];
    const members = (role: string): string[] =>
      Object.entries(users).flatMap(([name, user]) => (user.roles.includes(role) ? [name] : []));
    writeFileSync(
      join(directory, 'config/users_roles'),
      roles.map((role) => `${role}:${members(role).join(',')}\n`).join(''),
    );
    const definitions = Object.entries(options.roles ?? {}).map(([name, role]) => `${name}: ${JSON.stringify(role)}\n`);
    writeFileSync(join(directory, 'config/roles.yml'), definitions.join(''));
  }
  const isRoot = process.getuid?.() === 0;
  if (isRoot) for (const name of ['data', 'logs', 'tmp', 'home/logs', 'config']) giveAway(join(directory, name));

  const port = options.port ?? (await freePort());
  const settings = {
    ...nodeSettings(directory, port),
    'node.name': 'node',
    ...(existsSync(join(home, 'modules/x-pack-security')) ? { 'xpack.security.enabled': secured } : {}),
    ...(options.tls === true
      ? {
          'xpack.security.http.ssl.enabled': true,
          'xpack.security.http.ssl.key': join(directory, 'config/http.key'),
          'xpack.security.http.ssl.certificate': join(directory, 'config/http.crt'),
        }
      : {}),
  };
  const url = `${options.tls === true ? 'https' : 'http'}://127.0.0.1:${port}`;
  const admin = connectTo(url, secured ? `admin:${password}` : undefined, authority?.pem);
  let child: ChildProcess | undefined;
  let exited: Promise<unknown> = Promise.resolve();

  /** A server that is not ready by then is ended and started again. */
  async function start(): Promise<void> {
    for (let left = START_TRIES - 1; ; left--) {
      try {
        await startOnce();
        return;
      } catch (error) {
        await kill();
        if (left === 0) throw error;
        process.stderr.write(`Elasticsearch is started again: ${error instanceof Error ? error.message : ''}\n`);
      }
    }
  }

  async function startOnce(): Promise<void> {
    const heap = options.heap ?? '512m';
    let output = '';
    const started = spawn(
      join(home, 'bin/elasticsearch'),
      Object.entries(settings).map(([name, value]) => `-E${name}=${value}`),
      {
        // A group of its own: the program starts the server as a further process.
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
        cwd: directory,
        ...(isRoot ? { uid: NOBODY, gid: NOBODY } : {}),
        env: {
          PATH: process.env['PATH'],
          HOME: directory,
          ES_JAVA_HOME: java,
          ES_PATH_CONF: join(directory, 'config'),
          ES_TMPDIR: join(directory, 'tmp'),
          // Of the program that starts it: it leaves files there.
          CLI_JAVA_OPTS: `-Djava.io.tmpdir=${join(directory, 'tmp')}`,
          ES_JAVA_OPTS: `-Xms${heap} -Xmx${heap} ${options.java ?? ''}`,
        },
      },
    );
    child = started;
    process.once('exit', killGroup);
    for (const stream of [started.stdout, started.stderr]) {
      stream.on('data', (chunk: Buffer) => (output = `${output}${chunk.toString()}`.slice(-OUTPUT_LENGTH)));
    }
    exited = new Promise((resolve) => started.once('close', resolve));
    let error: unknown;
    for (const end = performance.now() + START_MILLIS; performance.now() < end; await sleep(200)) {
      if (started.exitCode !== null || started.signalCode !== null) throw new Error(`Elasticsearch ended\n${output}`);
      try {
        await admin.call('GET', '/_cluster/health?wait_for_status=yellow&timeout=1s');
        return;
      } catch (cause) {
        error = cause;
      }
    }
    // Java then prints what its threads are at.
    signalGroup('SIGQUIT');
    await sleep(2000);
    throw new Error(`Elasticsearch is not ready\n${output}`, { cause: error });
  }

  function killGroup(): void {
    signalGroup('SIGKILL');
  }

  function signalGroup(signal: NodeJS.Signals): void {
    if (child?.pid === undefined) return;
    try {
      process.kill(-child.pid, signal);
    } catch {
      // It has ended.
    }
  }

  async function kill(): Promise<void> {
    killGroup();
    process.off('exit', killGroup);
    await exited;
    child = undefined;
  }

  await start();
  return {
    ...admin,
    authority,
    user: secured ? 'admin' : undefined,
    password: secured ? password : undefined,
    pid: () => child?.pid,
    kill,
    restart: start,
    // Its data are not kept: it need not end in order.
    async stop() {
      await kill();
      rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

type Calls = Pick<TestElasticsearch, 'url' | 'call' | 'refresh' | 'count' | 'documents'>;

/** @param auth `user:password` @param ca Authorities in PEM. */
export function connectTo(url: string, auth: string | undefined, ca: string | undefined): Calls {
  async function call(method: string, path: string, body?: unknown): Promise<unknown> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const request = (url.startsWith('https') ? tlsRequest : plainRequest)(`${url}${path}`, {
        method,
        agent: false,
        ...(auth === undefined ? {} : { auth }),
        ...(ca === undefined ? {} : { ca }),
        headers: { 'content-type': 'application/json' },
      });
      request.on('error', reject);
      request.on('response', (response) => {
        let received = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (received += chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: received }));
        response.on('error', reject);
      });
      request.end(payload);
    });
    if (status === 404) return undefined;
    if (status >= 400) throw new Error(`${method} ${path}: ${status} ${text.slice(0, 1000)}`);
    return text === '' ? undefined : (JSON.parse(text) as unknown);
  }

  const refresh = async (index: string): Promise<void> => void (await call('POST', `/${index}/_refresh`));
  return {
    url,
    call,
    refresh,
    async count(index) {
      await refresh(index);
      return ((await call('GET', `/${index}/_count`)) as { count: number } | undefined)?.count ?? 0;
    },
    async documents(index) {
      await refresh(index);
      const found = new Map<string, unknown>();
      interface Page {
        _scroll_id: string;
        hits: { hits: { _id: string; _source: unknown }[] };
      }
      const first = await call('POST', `/${index}/_search?scroll=1m`, { size: 1000, sort: ['_doc'] });
      for (let page = first as Page | undefined; page !== undefined && page.hits.hits.length > 0;) {
        for (const hit of page.hits.hits) found.set(hit._id, hit._source);
        page = (await call('POST', '/_search/scroll', { scroll: '1m', scroll_id: page._scroll_id })) as Page;
      }
      return found;
    },
  };
}

/** As Elasticsearch's file realm reads it; made here, as its own program starts a Java for each. */
function hash(password: string): string {
  const salt = randomBytes(32);
  const derived = pbkdf2Sync(password, salt, 1000, 32, 'sha512');
  return `{PBKDF2}1000$${salt.toString('base64')}$${derived.toString('base64')}`;
}

function giveAway(path: string): void {
  chownSync(path, NOBODY, NOBODY);
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) giveAway(join(path, entry.name));
    else chownSync(join(path, entry.name), NOBODY, NOBODY);
  }
}

/** Of a server of one node, Elasticsearch or OpenSearch. */
export function nodeSettings(directory: string, port: number): Record<string, string | number | boolean> {
  return {
    'cluster.name': 'dpi-agent-test',
    'path.data': join(directory, 'data'),
    'path.logs': join(directory, 'logs'),
    'discovery.type': 'single-node',
    'network.host': '127.0.0.1',
    'http.port': port,
    'transport.port': 0,
    // The disk of a test machine may be nearly full.
    'cluster.routing.allocation.disk.threshold_enabled': false,
  };
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
