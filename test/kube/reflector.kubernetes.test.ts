import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { createClient, type ClientOptions } from '../../agent/kube/client.ts';
import type { ApiPod } from '../../agent/kube/pods.ts';
import { reflect, type Change, type Reflector, type ReflectorState } from '../../agent/kube/reflector.ts';
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts';
import { describeKubernetes, podObject, testOnOwnServer, useControlPlane } from '../support/kubernetes.ts';

/** Against hanging only. */
const PATIENCE_MILLIS = 120_000;

describeKubernetes(() => {
  const cluster = useControlPlane();
  let proxy: FaultProxy;
  let namespace: string;
  let reflector: Reflector<string> | undefined;
  let changes: string[];
  let failures: (string | undefined)[];

  beforeEach(async () => {
    proxy = await startFaultProxy(cluster().server);
    namespace = cluster().namespace();
  });
  afterEach(async () => {
    reflector?.stop();
    await proxy.close();
  });

  /** Follows the namespace's pods through the proxy; resolves when it watches. */
  async function follow(
    options: ClientOptions & { pageSize?: number; wait?: boolean; lastMillis?: number } = {},
  ): Promise<Reflector<string>> {
    const { pageSize, lastMillis, wait = true, ...clientOptions } = options;
    const through = { cluster: { server: proxy.url, 'insecure-skip-tls-verify': true } };
    const kubeconfig = cluster().variant(clientOptions.kubeconfig ?? cluster().kubeconfig, through);
    changes = [];
    failures = [];
    const own = reflect<ApiPod, string>({
      client: await createClient({ ...clientOptions, kubeconfig }),
      path: `/api/v1/namespaces/${namespace}/pods`,
      convert: ({ metadata }) => `${metadata.uid.slice(0, 8)} ${metadata.labels?.['round'] ?? ''}`.trim(),
      keyOf: ({ metadata }) => metadata.name,
      onChange: (change: Change<string>) => changes.push(`${change.type} ${change.key}`),
      onState: ({ failure }: ReflectorState) => failures.push(failure?.message),
      ...(pageSize === undefined ? {} : { pageSize }),
      ...(lastMillis === undefined ? {} : { backoff: { lastMillis } }),
    });
    reflector = own;
    if (wait) {
      await own.synced;
      await until(() => lastWatch() !== undefined);
    }
    return own;
  }

  const lastWatch = () => proxy.requests.findLast(({ watch }) => watch);
  const lists = () => proxy.requests.filter(({ watch }) => !watch);
  const make = (...names: string[]): void => cluster().apply(...names.map((name) => podObject(namespace, name)));
  const remove = (...names: string[]): void => {
    cluster().kubectl('delete', 'pod', '-n', namespace, '--force', '--grace-period=0', ...names);
  };
  /** The client can't reach the server, which goes on. */
  const part = (): void => {
    proxy.fault = () => ({ type: 'reset' });
    proxy.cut();
  };
  const join = (): void => {
    proxy.fault = undefined;
  };

  async function until(check: () => boolean): Promise<void> {
    const deadline = Date.now() + PATIENCE_MILLIS;
    while (!check()) {
      if (Date.now() > deadline)
        throw new Error(`it did not come: ${check.toString()}\n${[...changes, ...failures].join('\n')}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  test('a pod made again under its name within a second is another one', async () => {
    make('a');
    const { get } = await follow();
    const uid = get('a');
    remove('a');
    make('a');
    await until(() => changes.filter((text) => text === 'added a').length === 2);
    expect(changes.filter((text) => text !== 'updated a')).toEqual(['added a', 'deleted a', 'added a']);
    expect(get('a')).not.toBe(uid);
  });

  test('while the server cannot be reached the cache stays, and what happened meanwhile comes after', async () => {
    make('a', 'b');
    const { list, state } = await follow();
    part();
    await until(() => state().failure !== undefined);
    expect(state()).toMatchObject({ synced: true, failure: { reason: 'Unreachable' } });
    remove('a');
    make('c');
    expect(list()).toHaveLength(2);
    join();
    await until(() => changes.includes('deleted a') && changes.includes('added c'));
    await until(() => state().failure === undefined);
    // It went on from where it was.
    expect(lists()).toHaveLength(1);
  });

  testOnOwnServer('an API server that is killed and comes back is followed', async () => {
    make('a');
    const { list, state } = await follow();
    const { apiServer } = cluster().controlPlane();
    await apiServer.kill('SIGKILL');
    await until(() => state().failure !== undefined);
    expect(list()).toHaveLength(1);
    await apiServer.start();
    make('b');
    remove('a');
    await until(() => changes.includes('added b') && changes.includes('deleted a'));
    await until(() => state().failure === undefined);
  });

  testOnOwnServer('after a compaction everything is listed again, and what is gone is deleted', async () => {
    make('a', 'b', 'c');
    const { get, list, state } = await follow();
    const before = { a: get('a'), b: get('b') };
    part();
    await until(() => state().failure !== undefined);
    remove('b', 'c');
    make('b', 'd');
    await cluster().controlPlane().compactEtcd();
    changes.length = 0;
    join();
    await until(() => changes.length >= 4);
    expect(changes).toEqual(['deleted c', 'deleted b', 'added b', 'added d']);
    expect(get('a')).toBe(before.a);
    expect(get('b')).not.toBe(before.b);
    expect(list()).toHaveLength(3);
    expect(lists()).toHaveLength(2);
  });

  testOnOwnServer('a compaction in the middle of a list begins it again', async () => {
    make('a', 'b', 'c', 'd', 'e');
    let pages = 0;
    proxy.fault = async ({ watch, query }) => {
      // Its memory gives all at once: it shall answer from etcd.
      if (!watch && query.has('resourceVersion')) return { type: 'answer', status: 410, body: '{"reason":"Expired"}' };
      if (!watch && query.has('continue') && ++pages === 2) await cluster().controlPlane().compactEtcd();
      return undefined;
    };
    const { list } = await follow({ pageSize: 2 });
    expect(list()).toHaveLength(5);
    expect(changes).toHaveLength(5);
    expect(lists().map(({ query }) => query.has('continue'))).toEqual([false, false, true, true, false, true, true]);
  });

  test('errors of the server are shown, and do not stop it', async () => {
    let errors = 6;
    proxy.fault = () => (errors-- > 0 ? { type: 'answer', status: errors % 2 === 0 ? 500 : 429 } : undefined);
    make('a');
    const { list, state } = await follow({ lastMillis: 500 });
    expect(list()).toHaveLength(1);
    expect(failures.slice(0, 2)).toEqual([
      expect.stringMatching(/^cannot list pods in namespace ".*": the API server has too much to do$/),
      expect.stringMatching(/^cannot list pods in namespace ".*": the API server answered 500$/),
    ]);
    expect(state()).toEqual({ synced: true });
  });

  test('a watch that hangs is given up, and nothing is lost', async () => {
    make('a');
    let hung = true;
    proxy.fault = ({ watch }) => (watch ? { type: 'body', change: (chunk) => (hung ? undefined : chunk) } : undefined);
    await follow({ silenceMillis: 1000 });
    remove('a');
    make('b');
    await until(() => proxy.requests.filter(({ watch }) => watch).length >= 3);
    expect(changes).toEqual(['added a']);
    hung = false;
    await until(() => changes.includes('deleted a') && changes.includes('added b'));
  });

  test('a line that is cut or garbled ends the watch, and what it said comes again', async () => {
    const faults = [
      (chunk: Buffer) => chunk.subarray(0, 20),
      (chunk: Buffer) => Buffer.from(chunk.toString().replace(/"/, '!')),
    ];
    make('a');
    proxy.fault = ({ watch }) => {
      const fault = watch ? faults.shift() : undefined;
      if (fault === undefined) return undefined;
      return {
        type: 'body',
        change: (chunk) => {
          // The first half goes out before the connection ends.
          setTimeout(() => proxy.cut(), 100);
          return fault(chunk);
        },
      };
    };
    await follow();
    make('b');
    await until(() => changes.includes('added b'));
    make('c');
    await until(() => changes.includes('added c'));
    expect(failures.filter((text) => text !== undefined)).not.toEqual([]);
    expect(changes.filter((text) => text.startsWith('added'))).toEqual(['added a', 'added b', 'added c']);
  });

  test('without the right it says which one, and goes on by itself when it is granted', async () => {
    make('a');
    const { name, kubeconfig } = cluster().serviceAccount(namespace, 'agent');
    const { state, list } = await follow({ kubeconfig, wait: false, lastMillis: 1000 });
    await until(() => state().failure !== undefined);
    expect(state().failure?.message).toContain('the agent\'s ClusterRole needs verb "list" on "pods" in API group ""');
    grant(name, ['list']);
    await until(() => state().failure?.message.includes('needs verb "watch" on "pods"') === true);
    expect(list()).toHaveLength(1);
    grant(name, ['list', 'watch']);
    await until(() => state().failure === undefined);
  });

  function grant(name: string, verbs: string[]): void {
    const metadata = { name: 'pods', namespace };
    const apiVersion = 'rbac.authorization.k8s.io/v1';
    const apiGroup = 'rbac.authorization.k8s.io';
    cluster().apply(
      { apiVersion, kind: 'Role', metadata, rules: [{ apiGroups: [''], resources: ['pods'], verbs }] },
      {
        apiVersion,
        kind: 'RoleBinding',
        metadata,
        roleRef: { apiGroup, kind: 'Role', name: 'pods' },
        subjects: [{ apiGroup, kind: 'User', name }],
      },
    );
  }

  test('many pods that come, change and go are followed to the end', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `pod-${i}`);
    const { list } = await follow({ watchSeconds: [1, 2] });
    make(...names);
    cluster().kubectl('label', 'pods', '--all', '-n', namespace, 'round=1');
    remove(...names.slice(0, 20));
    make(...names.slice(0, 20));
    await until(() => list().filter((text) => text.endsWith(' 1')).length === 20 && list().length === 40);
    remove(...names);
    await until(() => list().length === 0);
    expect(changes.filter((text) => text.startsWith('added'))).toHaveLength(60);
    expect(changes.filter((text) => text.startsWith('deleted'))).toHaveLength(60);
    // Watches ended and began meanwhile.
    expect(proxy.requests.filter(({ watch }) => watch).length).toBeGreaterThan(1);
    expect(lists()).toHaveLength(1);
  });

  test('at rest it asks for nothing but its watch, on one connection', async () => {
    await follow();
    const asked = proxy.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 3000));
    expect(proxy.requests).toHaveLength(asked);
    expect(proxy.connections()).toBeLessThanOrEqual(2);
    expect(Number(lastWatch()?.query.get('timeoutSeconds'))).toBeGreaterThanOrEqual(300);
  });
});
