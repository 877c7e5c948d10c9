import { afterAll, afterEach, expect, test } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { rootCertificates } from 'node:tls';
import { ApiError, type ApiList, type ApiObject } from '../../agent/kube/api.ts';
import { createClient } from '../../agent/kube/client.ts';
import { startRelay, type Relay } from '../support/fault-proxy.ts';
import { describeKubernetes, testOnOwnServer, useControlPlane, type TestCluster } from '../support/kubernetes.ts';

const failure = (promise: Promise<unknown>): Promise<ApiError> =>
  promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => {
      expect(error).toBeInstanceOf(ApiError);
      return error as ApiError;
    },
  );

describeKubernetes(() => {
  const openssl = spawnSync('openssl', ['version']).status === 0;
  if (!openssl) process.stderr.write('skipped: the test of client certificates, as openssl is not installed\n');
  const certificates = mkdtempSync(join(tmpdir(), 'dpi-certificates-'));
  afterAll(() => rmSync(certificates, { recursive: true }));
  if (openssl) makeCertificates(certificates);
  const cluster = useControlPlane({
    users: { guest: [] },
    apiServerArgs: openssl ? [`--client-ca-file=${join(certificates, 'ca.crt')}`] : [],
  });
  let relay: Relay | undefined;
  afterEach(() => relay?.close());

  const admin = () => createClient({ kubeconfig: cluster().kubeconfig });

  test('what an identity may is asked right by right, and how far the clocks are apart', async () => {
    const right = { verb: 'list', group: '', resource: 'pods' } as const;
    const status = { verb: 'patch', group: 'projectcalico.org', resource: 'deeppacketinspections/status' } as const;
    const mighty = await admin();
    expect([await mighty.may(right), await mighty.may(status)]).toEqual([true, true]);
    expect(Math.abs(mighty.clockAhead() ?? NaN)).toBeLessThan(30_000);
    const namespace = cluster().namespace();
    const { name, kubeconfig } = cluster().serviceAccount(namespace, 'asks');
    const client = await createClient({ kubeconfig });
    expect([await client.may(right), await client.may(status)]).toEqual([false, false]);
    cluster().kubectl('create', 'clusterrole', namespace, '--verb=list', '--resource=pods');
    cluster().kubectl('create', 'clusterrolebinding', namespace, `--clusterrole=${namespace}`, `--user=${name}`);
    // The authorizer learns of it a moment later.
    while (!(await client.may(right))) await sleep(100);
    expect(await client.may(status)).toBe(false);
    cluster().kubectl('delete', `clusterrole/${namespace}`, `clusterrolebinding/${namespace}`);
  });

  test('objects are listed by page, read and patched', async () => {
    const client = await admin();
    const namespace = cluster().namespace();
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    cluster().apply(...['a', 'b', 'c'].map((name) => configMap(namespace, name)));
    const names: string[] = [];
    let more: string | undefined;
    let pages = 0;
    do {
      const query = { limit: 2, fieldSelector: 'metadata.name!=kube-root-ca.crt', ...(more ? { continue: more } : {}) };
      const page = await client.get<ApiList<ApiObject>>(path, query);
      names.push(...page.items.map(({ metadata }) => metadata.name));
      more = page.metadata.continue;
      pages++;
    } while (more);
    expect({ names, pages }).toEqual({ names: ['a', 'b', 'c'], pages: 2 });

    const before = await client.get<ApiObject>(`${path}/a`);
    const patched = await client.mergePatch<ApiObject>(`${path}/a`, { metadata: { annotations: { 'x/y': 'ü' } } });
    expect(patched.metadata.annotations).toMatchObject({ 'x/y': 'ü' });
    const { resourceVersion } = before.metadata;
    const conflict = await failure(
      client.mergePatch(`${path}/a`, { metadata: { resourceVersion, annotations: null } }),
    );
    expect(conflict).toMatchObject({ status: 409, reason: 'Conflict' });
    expect(await failure(client.get(`${path}/none`))).toMatchObject({ status: 404, reason: 'NotFound' });
  });

  test('a watch gives what happens, in order, and ends when it was asked to', async () => {
    const client = await createClient({ kubeconfig: cluster().kubeconfig, watchSeconds: [2, 2] });
    const namespace = cluster().namespace();
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const { metadata } = await client.get<ApiList<ApiObject>>(path);
    const events: string[] = [];
    let open = 0;
    await client.watch<ApiObject>(
      path,
      { resourceVersion: metadata.resourceVersion, fieldSelector: 'metadata.name=a' },
      ({ type, object }) => events.push(type === 'BOOKMARK' ? type : `${type} ${object.metadata.name}`),
      new AbortController().signal,
      () => {
        open++;
        cluster().apply(configMap(namespace, 'a'));
        cluster().kubectl('label', 'configmap', 'a', '-n', namespace, 'x=y');
        cluster().kubectl('delete', 'configmap', 'a', '-n', namespace);
      },
    );
    expect(open).toBe(1);
    expect(events.filter((text) => text !== 'BOOKMARK')).toEqual(['ADDED a', 'MODIFIED a', 'DELETED a']);
  });

  test('one TLS connection serves many requests', async () => {
    relay = await startRelay(cluster().server);
    const kubeconfig = cluster().variant(cluster().kubeconfig, { cluster: { server: relay.url } });
    const client = await createClient({ kubeconfig });
    for (let i = 0; i < 20; i++) await client.get('/version');
    expect(relay.connections()).toBe(1);
  });

  test('a missing right is named, and a granted one is used at once', async () => {
    const namespace = cluster().namespace();
    const { name, kubeconfig } = cluster().serviceAccount(namespace, 'agent');
    const client = await createClient({ kubeconfig });
    const path = `/api/v1/namespaces/${namespace}/pods`;
    const refused = await failure(client.get(path));
    expect(refused).toMatchObject({ status: 403, reason: 'Forbidden' });
    expect(refused.message).toContain(
      `cannot list pods in namespace "${namespace}": forbidden: the agent's ClusterRole needs verb "list" on "pods" in API group ""`,
    );
    expect(refused.message).toContain(name);
    const watch = client.watch(path, {}, () => undefined, new AbortController().signal);
    expect((await failure(watch)).message).toContain('needs verb "watch" on "pods"');
    grant(cluster(), namespace, name, ['list']);
    await eventually(() => client.get(path));
  });

  test('a certificate of somebody else, and a server that is not there, are told apart', async () => {
    const [stranger = ''] = rootCertificates;
    const wrong = cluster().variant(cluster().kubeconfig, {
      cluster: {
        'certificate-authority': undefined,
        'certificate-authority-data': Buffer.from(stranger).toString('base64'),
      },
    });
    const certificate = await failure((await createClient({ kubeconfig: wrong })).get('/version'));
    expect(certificate).toMatchObject({ reason: 'Certificate', status: undefined });
    expect(certificate.message).toContain(`check the certificate authority and the address in ${wrong}`);

    relay = await startRelay(cluster().server);
    const gone = relay.url;
    await relay.close();
    relay = undefined;
    const kubeconfig = cluster().variant(cluster().kubeconfig, { cluster: { server: gone } });
    const unreachable = await failure((await createClient({ kubeconfig })).get('/version'));
    expect(unreachable).toMatchObject({ reason: 'Unreachable', status: undefined });
    expect(unreachable.message).toContain(`${gone} does not answer: connect ECONNREFUSED`);
  });

  test('inside a cluster the token is read again for each request', async () => {
    const namespace = cluster().namespace();
    const { token, kubeconfig } = cluster().serviceAccount(namespace, 'agent');
    const serviceAccount = join(cluster().directory, 'service-account');
    mkdirSync(serviceAccount);
    writeFileSync(join(serviceAccount, 'ca.crt'), authority(cluster(), kubeconfig));
    // As the kubelet does: the new file takes the old one's place.
    const rotate = (text: string): void => {
      writeFileSync(join(serviceAccount, 'token.new'), text);
      renameSync(join(serviceAccount, 'token.new'), join(serviceAccount, 'token'));
    };
    const { hostname, port } = new URL(cluster().server);
    const environment = {
      KUBERNETES_SERVICE_HOST: hostname.replaceAll(/[[\]]/g, ''),
      KUBERNETES_SERVICE_PORT: port || '443',
    };
    const client = await createClient({ environment, serviceAccount });

    const missing = await failure(client.get('/version'));
    expect(missing).toMatchObject({ reason: 'Credentials' });
    expect(missing.message).toContain(join(serviceAccount, 'token'));
    rotate(token);
    await client.get('/version');
    rotate(`${token.slice(0, -8)}AAAAAAAA`);
    const expired = await failure(client.get('/version'));
    expect(expired).toMatchObject({ status: 401, reason: 'Unauthorized' });
    expect(expired.message).toContain(`the token of ${join(serviceAccount, 'token')} has expired`);
    rotate(cluster().kubectl('create', 'token', 'agent', '-n', namespace, '--duration=10m'));
    await client.get('/version');
  });

  testOnOwnServer('a token that the server no longer knows is refused, and accepted again later', async () => {
    const plane = cluster().controlPlane();
    const client = await createClient({ kubeconfig: plane.user('guest') });
    await client.get('/version');
    const tokens = join(plane.directory, 'tokens.csv');
    const known = readFileSync(tokens, 'utf8');
    await restartWith(known.replace(/^[^,]*,guest,/m, 'other,guest,'));
    expect(await failure(client.get('/version'))).toMatchObject({ status: 401 });
    await restartWith(known);
    await client.get('/version');

    async function restartWith(text: string): Promise<void> {
      await plane.apiServer.kill();
      writeFileSync(tokens, text);
      await plane.apiServer.start();
    }
  });

  (openssl ? testOnOwnServer : test.skip)('a client certificate that was replaced is used from then on', async () => {
    relay = await startRelay(cluster().server);
    const [certificate, key] = [join(certificates, 'client.crt'), join(certificates, 'client.key')];
    const kubeconfig = cluster().variant(cluster().kubeconfig, {
      cluster: { server: relay.url },
      user: { 'client-certificate': certificate, 'client-key': key },
    });
    const client = await createClient({ kubeconfig });
    for (const name of ['alice', 'bob']) {
      copyFileSync(join(certificates, `${name}.crt`), certificate);
      copyFileSync(join(certificates, `${name}.key`), key);
      for (let i = 0; i < 3; i++)
        expect((await failure(client.get('/api/v1/pods'))).message).toContain(`User "${name}"`);
    }
    expect(relay.connections()).toBe(2);
  });

  testOnOwnServer('a version that was compacted is gone, for a list and in a watch', async () => {
    const client = await admin();
    const { metadata } = await client.get<ApiList<ApiObject>>('/api/v1/pods');
    const { resourceVersion } = metadata;
    await cluster().controlPlane().compactEtcd();
    const exact = '/api/v1/pods?resourceVersionMatch=Exact';
    expect(await failure(client.get(`${exact}&resourceVersion=${resourceVersion}`))).toMatchObject({
      status: 410,
      reason: 'Expired',
    });
    const watch = client.watch('/api/v1/pods', { resourceVersion }, () => undefined, new AbortController().signal);
    expect(await failure(watch)).toMatchObject({ status: 410, reason: 'Expired' });
  });
});

const configMap = (namespace: string, name: string) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace },
});

/** An authority, and certificates of alice and bob. */
function makeCertificates(directory: string): void {
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  openssl('req', '-x509', ...newKey, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=test', '-days', '2');
  for (const name of ['alice', 'bob']) {
    openssl('req', ...newKey, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    const signed = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2'];
    openssl('x509', '-req', '-in', `${name}.csr`, ...signed, '-out', `${name}.crt`);
  }
}

function grant(cluster: TestCluster, namespace: string, name: string, verbs: string[]): void {
  const metadata = { name: 'test', namespace };
  const apiVersion = 'rbac.authorization.k8s.io/v1';
  cluster.apply(
    { apiVersion, kind: 'Role', metadata, rules: [{ apiGroups: [''], resources: ['pods'], verbs }] },
    {
      apiVersion,
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'test' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name }],
    },
  );
}

/** The server learns of a role after a moment. */
async function eventually<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (attempt === 600) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

function authority(cluster: TestCluster, kubeconfig: string): Buffer {
  const path = 'jsonpath={.clusters[0].cluster.certificate-authority-data}';
  return Buffer.from(
    cluster.kubectl('config', 'view', '--raw', '--flatten', '--minify', '--kubeconfig', kubeconfig, '-o', path),
    'base64',
  );
}
