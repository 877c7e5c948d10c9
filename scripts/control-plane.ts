/**
 * A real etcd and kube-apiserver for tests and for the whole cluster in scripts: RBAC, identities from a token file,
 * service accounts with a key of their own. Each has its folder, its ports and its data; several can run side by side.
 *
 * Nothing outlives it: the programs end with close(), and with the process that started them unless that one is killed
 * with -9. Without kube-controller-manager nobody makes the `default` service account of a namespace, which pods need:
 * make it.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { appendFileSync, closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';

/** A machine of a tenth of the speed starts it in that time. */
const READY_MILLIS = 120_000;

export interface ControlPlaneOptions {
  /** A fresh folder: data, logs, certificates and kubeconfigs. The caller removes it. */
  directory: string;
  /** The folder of kube-apiserver, etcd and kubectl. */
  binaries: string;
  /** Where the API server listens, and which address it tells pods; default 127.0.0.1, which no pod reaches. */
  bindAddress?: string;
  /** Default 10.96.0.0/16; its first address is the API server's inside the cluster. */
  serviceCidr?: string;
  /** Gives the command that runs another one elsewhere, as in a network namespace. It keeps the process id. */
  wrap?: (command: string, args: string[]) => [string, string[]];
  /** Identities that the token file has from the start: name and groups. */
  users?: Record<string, string[]>;
  /** Further arguments of kube-apiserver. */
  apiServerArgs?: string[];
}

export interface ControlPlane {
  /** `https://…` */
  server: string;
  /** Path of the kubeconfig of a member of system:masters. */
  kubeconfig: string;
  directory: string;
  /** `http://…` of etcd's JSON gateway (etcd.io/docs, "gRPC gateway"). */
  etcd: string;
  /** Path of the certificate that signed the API server's. */
  ca: string;
  /**
   * Path of a kubeconfig for an identity of the token file, whose token is in `<directory>/tokens.csv`. The API server
   * reads that file when it starts: one that `options.users` did not name is known from the next start on.
   */
  user(name: string, groups?: string[]): string;
  /** A kubeconfig with another token, for the same server. @returns its path. */
  kubeconfigFor(name: string, user: object): string;
  /** Runs kubectl as the administrator. @throws Error with what it said. */
  kubectl(...args: string[]): string;
  /** kubectl apply. @throws Error with what it said. */
  apply(...objects: object[]): void;
  apiServer: {
    /** Resolves when it is gone. */
    kill(signal?: NodeJS.Signals): Promise<void>;
    /** Starts it again, on its port and with its data; resolves when it is ready. */
    start(): Promise<void>;
  };
  /**
   * Forgets every version but the newest, in etcd and in the API server's watch cache, which has to be restarted for
   * that. A watch or a list from an older version is then answered by 410.
   */
  compactEtcd(): Promise<void>;
  close(): Promise<void>;
}

/** @throws Error with the end of a program's log when it does not start. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { directory, binaries, bindAddress = '127.0.0.1', serviceCidr = '10.96.0.0/16', wrap } = options;
  const wrapped = wrap ?? ((command: string, args: string[]): [string, string[]] => [command, args]);
  const path = (name: string): string => join(directory, name);
  mkdirSync(directory, { recursive: true });
  const [etcdPort = 0, peerPort = 0, apiPort = 0] = await freePorts(3);
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const server = `https://${bindAddress.includes(':') ? `[${bindAddress}]` : bindAddress}:${apiPort}`;
  const ca = path('certificates/apiserver.crt');

  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(path('service-accounts.key'), privateKey.export({ type: 'sec1', format: 'pem' }), { mode: 0o600 });
  writeFileSync(path('tokens.csv'), '', { mode: 0o600 });
  const tokens = new Map<string, string>();

  const children = new Set<ChildProcess>();
  const killAll = (): void => {
    for (const child of children) child.kill('SIGKILL');
  };
  process.once('exit', killAll);

  function start(name: string, args: string[]): ChildProcess {
    const log = openSync(path(`${name}.log`), 'a');
    const child = spawn(...wrapped(join(binaries, name), args), { stdio: ['ignore', log, log] });
    closeSync(log);
    children.add(child);
    child.once('error', (error) => {
      children.delete(child);
      appendFileSync(path(`${name}.log`), `${error.message}\n`);
    });
    child.once('exit', () => children.delete(child));
    return child;
  }

  async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
    if (!children.has(child)) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }

  function run(command: string, args: string[], input = ''): string {
    const { status, error, stdout, stderr } = spawnSync(...wrapped(command, args), {
      input,
      encoding: 'utf8',
      maxBuffer: 64 << 20,
    });
    if (status === 0) return stdout;
    throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
  }

  function kubectl(input: string, ...args: string[]): string {
    return run(join(binaries, 'kubectl'), ['--kubeconfig', kubeconfig, ...args], input);
  }

  /** A line of the token file: token, name, uid, groups. */
  function addToken(name: string, groups: string[]): string {
    const token = randomBytes(16).toString('hex');
    tokens.set(name, token);
    appendFileSync(path('tokens.csv'), `${token},${name},${name},"${groups.join(',')}"\n`);
    return token;
  }

  function kubeconfigFor(name: string, user: object): string {
    const file = path(`${name.replaceAll(/[^\w.-]/g, '_')}.kubeconfig`);
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'local', cluster: { server, 'certificate-authority': ca } }],
      users: [{ name, user }],
      contexts: [{ name: 'local', context: { cluster: 'local', user: name } }],
      'current-context': 'local',
    };
    writeFileSync(file, stringify(config), { mode: 0o600 });
    return file;
  }

  const user = (name: string, groups: string[] = []): string =>
    kubeconfigFor(name, { token: tokens.get(name) ?? addToken(name, groups) });

  const kubeconfig = user('admin', ['system:masters']);
  for (const [name, groups] of Object.entries(options.users ?? {})) user(name, groups);

  /** @throws Error when the program ends, or is not ready for too long. */
  async function ready(name: string, child: ChildProcess, check: () => void): Promise<void> {
    const deadline = Date.now() + READY_MILLIS;
    for (;;) {
      try {
        check();
        return;
      } catch (error) {
        if (!children.has(child) || Date.now() > deadline) {
          const log = readFileSync(path(`${name}.log`), 'utf8').slice(-4000);
          throw new Error(`${name} does not start: ${String(error)}\n${log}`, { cause: error });
        }
        // Each look starts a process, beside a program that takes all it gets to start.
        await sleep(250);
      }
    }
  }

  /** etcd's JSON gateway (etcd.io/docs, "gRPC gateway"). */
  function etcd(call: string, body: object): { header: { revision: string } } {
    const script = `fetch(process.argv[1], { method: 'POST', body: process.argv[2] }).then(async (answer) => {
      process.stdout.write(await answer.text());
      process.exitCode = answer.ok ? 0 : 1;
    })`;
    const answer = run(process.execPath, ['-e', script, `${etcdUrl}/v3/kv/${call}`, JSON.stringify(body)]);
    return JSON.parse(answer) as { header: { revision: string } };
  }

  let apiServer: ChildProcess | undefined;

  async function startApiServer(): Promise<void> {
    if (apiServer !== undefined && children.has(apiServer)) throw new Error('kube-apiserver runs already');
    const loopback = bindAddress === '::1' || bindAddress.startsWith('127.');
    apiServer = start('kube-apiserver', [
      `--etcd-servers=${etcdUrl}`,
      `--bind-address=${bindAddress}`,
      `--advertise-address=${bindAddress}`,
      `--secure-port=${apiPort}`,
      `--cert-dir=${path('certificates')}`,
      `--service-cluster-ip-range=${serviceCidr}`,
      // A Service can't lead to a loopback address.
      ...(loopback ? ['--endpoint-reconciler-type=none'] : []),
      '--authorization-mode=Node,RBAC',
      `--token-auth-file=${path('tokens.csv')}`,
      '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
      `--service-account-key-file=${path('service-accounts.key')}`,
      `--service-account-signing-key-file=${path('service-accounts.key')}`,
      '--allow-privileged=true',
      ...(options.apiServerArgs ?? []),
    ]);
    await ready('kube-apiserver', apiServer, () => kubectl('', 'get', '--raw=/readyz', '--request-timeout=5s'));
  }

  async function killApiServer(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (apiServer !== undefined) await end(apiServer, signal);
  }

  async function close(): Promise<void> {
    process.off('exit', killAll);
    await Promise.all([...children].map((child) => end(child, 'SIGKILL')));
  }

  try {
    const child = start('etcd', [
      `--data-dir=${path('etcd')}`,
      `--listen-client-urls=${etcdUrl}`,
      `--advertise-client-urls=${etcdUrl}`,
      `--listen-peer-urls=${peerUrl}`,
      `--initial-advertise-peer-urls=${peerUrl}`,
      `--initial-cluster=default=${peerUrl}`,
      // Its data is thrown away.
      '--unsafe-no-fsync',
    ]);
    await ready('etcd', child, () => etcd('range', { key: 'AA==' }));
    await startApiServer();
  } catch (error) {
    await close();
    throw error;
  }

  return {
    server,
    kubeconfig,
    directory,
    etcd: etcdUrl,
    ca,
    user,
    kubeconfigFor,
    kubectl: (...args) => kubectl('', ...args),
    apply: (...objects) => {
      kubectl(objects.map((object) => stringify(object)).join('---\n'), 'apply', '-f', '-');
    },
    apiServer: { kill: killApiServer, start: startApiServer },
    async compactEtcd() {
      await killApiServer();
      const key = Buffer.from('dpi-agent-test').toString('base64');
      const { revision } = etcd('put', { key, value: key }).header;
      etcd('compaction', { revision, physical: true });
      await startApiServer();
    },
    close,
  };
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return server;
    }),
  );
  return Promise.all(
    servers.map(async (server) => {
      const address = server.address();
      await new Promise((resolve) => server.close(resolve));
      return typeof address === 'object' && address !== null ? address.port : 0;
    }),
  );
}
