/**
 * Where the API server is and as whom to ask it: the pod's service account, or a kubeconfig.
 *
 * A service account's token and certificate authority are read again for each request, as the kubelet replaces them; a
 * kubeconfig's files too. A kubeconfig itself, and what its plugins gave, is read again by refresh(). The library that
 * reads kubeconfigs takes 80 MB of memory: it is loaded only for one.
 */
import { readFile } from 'node:fs/promises';
import type { RequestOptions } from 'node:https';
import { isIPv6 } from 'node:net';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

export interface Credentials {
  /** `https://host:port`, perhaps with a path. */
  server: string;
  /** Where they are from, for messages. */
  source: string;
  /**
   * Headers and TLS options of one request; with an agent only where there is a proxy to go through.
   * @throws Error when a file can't be read or a plugin fails.
   */
  options(): Promise<OwnOptions>;
  /** Forgets what was read, as the server did not accept it: the next request reads it again. */
  refresh(): void;
}

export type OwnOptions = Omit<RequestOptions, 'headers'> & { headers: Record<string, string> };

export interface CredentialsOptions {
  /** Default: the pod's service account inside a cluster, else what kubectl uses. */
  kubeconfig?: string;
  /** Of the kubeconfig; default: its current one. */
  context?: string;
  environment?: NodeJS.ProcessEnv;
  /** Folder of the service account's token and certificate authority. */
  serviceAccount?: string;
}

/** @throws Error when there are none, or the kubeconfig can't be read. */
export async function loadCredentials(options: CredentialsOptions): Promise<Credentials> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = options.environment ?? process.env;
  if (options.kubeconfig === undefined && options.context === undefined && host !== undefined && host !== '') {
    return inCluster(host, port ?? '443', options.serviceAccount ?? SERVICE_ACCOUNT);
  }
  return fromKubeconfig(options.kubeconfig, options.context);
}

function inCluster(host: string, port: string, directory: string): Credentials {
  const token = resolve(directory, 'token');
  return {
    server: `https://${isIPv6(host) ? `[${host}]` : host}:${port}`,
    source: token,
    async options() {
      const bearer = (await readFile(token, 'utf8')).trim();
      return { ca: await readFile(resolve(directory, 'ca.crt')), headers: { Authorization: `Bearer ${bearer}` } };
    },
    refresh() {},
  };
}

async function fromKubeconfig(file: string | undefined, context: string | undefined): Promise<Credentials> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const source = file ?? 'the kubeconfig ($KUBECONFIG or ~/.kube/config)';

  async function load() {
    const config = new KubeConfig();
    if (file === undefined) config.loadFromDefault();
    else {
      config.loadFromFile(file);
      // The library does not know the key `tokenFile`.
      const { users } = parse(await readFile(file, 'utf8')) as { users?: { name: string; user?: UserFiles }[] };
      config.users = config.users.map((user) => {
        const tokenFile = users?.find(({ name }) => name === user.name)?.user?.tokenFile;
        if (tokenFile === undefined) return user;
        const path = resolve(dirname(file), tokenFile);
        return { ...user, authProvider: { name: 'tokenFile', config: { tokenFile: path } } };
      });
    }
    if (context !== undefined) config.setCurrentContext(context);
    const cluster = config.getCurrentCluster();
    if (cluster === null) {
      const known = config.getContexts().map(({ name }) => name);
      throw new Error(
        `${source} has no context ${JSON.stringify(config.getCurrentContext())} with a cluster` +
          (known.length === 0 ? '' : `; it has ${known.join(', ')}`),
      );
    }
    // What the library makes up when it finds none.
    if (file === undefined && cluster.name === 'cluster' && cluster.server === 'http://localhost:8080') {
      throw new Error('no cluster is named: give a kubeconfig, or run inside a cluster');
    }
    return { config, cluster };
  }

  const first = await load();
  let current: typeof first | undefined = first;
  return {
    server: first.cluster.server,
    source,
    async options() {
      current ??= await load();
      const options: RequestOptions = {};
      await current.config.applyToHTTPSOptions(options);
      // A pooled connection is better than the library's; only it knows how to reach a proxy.
      if (current.cluster.proxyUrl === undefined) delete options.agent;
      // A token file may end with a line feed.
      const headers = Object.entries(options.headers ?? {}).map(([name, value]) => [name, String(value).trim()]);
      return { ...options, headers: Object.fromEntries(headers) as Record<string, string> };
    },
    refresh() {
      current = undefined;
    },
  };
}

interface UserFiles {
  tokenFile?: string;
}
