/**
 * A real API server for tests: one for each test file, or the cluster that `$DPI_AGENT_TEST_KUBECONFIG` names. Where
 * neither is to be had, the tests are skipped with one line that says why. Tests on a given cluster keep to namespaces
 * of their own.
 */
import { afterAll, beforeAll, describe, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { startControlPlane, type ControlPlane, type ControlPlaneOptions } from '../../scripts/control-plane.ts';
import { kubernetesDirectory, missingPrograms, whyNoKubernetes } from '../../scripts/kubernetes.mjs';

const GIVEN = process.env['DPI_AGENT_TEST_KUBECONFIG'] || undefined;
const BINARIES = join(kubernetesDirectory(), 'bin');

export interface Identity {
  /** Its name in RBAC: `system:serviceaccount:…`. */
  name: string;
  /** Path of its kubeconfig. */
  kubeconfig: string;
  token: string;
}

export interface TestCluster extends Pick<ControlPlane, 'server' | 'kubeconfig' | 'directory' | 'kubectl' | 'apply'> {
  /** A fresh namespace in which pods can be made. close() deletes it on a cluster that goes on. */
  namespace(): string;
  /** A service account without rights. */
  serviceAccount(namespace: string, name: string): Identity;
  /** Copies a kubeconfig with other values for its cluster or its user. @returns the copy's path. */
  variant(kubeconfig: string, change: { cluster?: object; user?: object }): string;
  /** @throws Error where the cluster was given: declare such a test with `testOnOwnServer`. */
  controlPlane(): ControlPlane;
}

/** Why there is no API server here; undefined when there is one. */
export function whyNoCluster(): string | undefined {
  if (GIVEN !== undefined || missingPrograms().length === 0) return undefined;
  return whyNoKubernetes() ?? 'kube-apiserver and etcd are not built yet: run node scripts/kubernetes.mjs';
}

/** `describe`, or `describe.skip` and one line on standard error. `body` only declares tests and hooks. */
export function describeKubernetes(body: () => void): void {
  const missing = whyNoCluster();
  if (missing === undefined) {
    if (GIVEN !== undefined) process.stderr.write(`skipped: tests that kill the API server, as ${GIVEN} was given\n`);
    describe('Kubernetes', body);
  } else {
    process.stderr.write(`skipped: ${missing}\n`);
    describe.skip(missing, body);
  }
}

/** A test that ends or changes the API server: skipped on a cluster that was given. */
export const testOnOwnServer: typeof test | typeof test.skip = GIVEN === undefined ? test : test.skip;

/** The cluster of this test file, started before its tests and ended after them. */
export function useControlPlane(
  options: Pick<ControlPlaneOptions, 'users' | 'apiServerArgs' | 'bindAddress' | 'wrap'> = {},
): () => TestCluster {
  let cluster: (TestCluster & { close(): Promise<void> }) | undefined;
  beforeAll(async () => {
    cluster = await openCluster(options);
  });
  afterAll(() => cluster?.close());
  return () => {
    if (cluster === undefined) throw new Error('there is no cluster before beforeAll');
    return cluster;
  };
}

/** The same, for whom hooks do not suit. */
export async function openCluster(
  options: Omit<ControlPlaneOptions, 'directory' | 'binaries'> = {},
): Promise<TestCluster & { close(): Promise<void> }> {
  const directory = mkdtempSync(join(tmpdir(), 'dpi-kubernetes-'));
  const own = GIVEN === undefined ? await startControlPlane({ ...options, directory, binaries: BINARIES }) : undefined;
  const kubeconfig = own?.kubeconfig ?? GIVEN ?? '';
  const kubectl = (...args: string[]): string => own?.kubectl(...args) ?? givenKubectl(args);
  const apply = (...objects: object[]): void => {
    if (own === undefined) givenKubectl(['apply', '-f', '-'], objects);
    else own.apply(...objects);
  };
  const namespaces: string[] = [];

  function variant(original: string, change: { cluster?: object; user?: object }): string {
    const config = parse(kubectl('config', 'view', '--raw', '--flatten', '--minify', '--kubeconfig', original)) as {
      clusters: { cluster: object }[];
      users: { user: object }[];
    };
    for (const entry of config.clusters) entry.cluster = { ...entry.cluster, ...change.cluster };
    for (const entry of config.users) entry.user = change.user ?? entry.user;
    const file = join(directory, `${randomBytes(4).toString('hex')}.kubeconfig`);
    writeFileSync(file, stringify(config), { mode: 0o600 });
    return file;
  }

  return {
    server: own?.server ?? kubectl('config', 'view', '--minify', '-o', 'jsonpath={.clusters[0].cluster.server}'),
    kubeconfig,
    directory,
    kubectl,
    apply,
    namespace() {
      const name = `dpi-test-${randomBytes(4).toString('hex')}`;
      apply({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
      apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default', namespace: name } });
      namespaces.push(name);
      return name;
    },
    serviceAccount(namespace, name) {
      apply({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } });
      const token = kubectl('create', 'token', name, '-n', namespace).trim();
      return {
        name: `system:serviceaccount:${namespace}:${name}`,
        kubeconfig: variant(kubeconfig, { user: { token } }),
        token,
      };
    },
    variant,
    controlPlane() {
      if (own === undefined) throw new Error('this cluster was given: it is not for killing');
      return own;
    },
    async close() {
      if (own === undefined && namespaces.length > 0) kubectl('delete', 'namespace', '--wait=false', ...namespaces);
      await own?.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function givenKubectl(args: string[], objects: object[] = []): string {
  const built = join(BINARIES, 'kubectl');
  const input = objects.map((object) => stringify(object)).join('---\n');
  return execFileSync(existsSync(built) ? built : 'kubectl', ['--kubeconfig', GIVEN ?? '', ...args], {
    input,
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'pipe'],
    maxBuffer: 64 << 20,
  });
}

/** A pod for `apply`, bound to a node (which need not exist) so that no scheduler is missed. */
export function podObject(namespace: string, name: string, node = 'test-node', labels: Record<string, string> = {}) {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels },
    spec: { nodeName: node, terminationGracePeriodSeconds: 0, containers: [{ name: 'main', image: 'none' }] },
  };
}
