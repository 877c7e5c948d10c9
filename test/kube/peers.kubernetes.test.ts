import { beforeAll, expect, test } from '@jest/globals';
import type { ApiClient } from '../../agent/kube/api.ts';
import { createClient } from '../../agent/kube/client.ts';
import { createPeerNames, type PeerNames } from '../../agent/kube/peers.ts';
import { describeKubernetes, podObject, testOnOwnServer, useControlPlane } from '../support/kubernetes.ts';

/** Long enough for any machine. */
const DEADLINE = 60_000;

describeKubernetes(() => {
  // The last of the same arguments holds.
  const cluster = useControlPlane({ apiServerArgs: ['--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112'] });
  let client: ApiClient;
  let namespace: string;

  beforeAll(async () => {
    client = await createClient({ kubeconfig: cluster().kubeconfig });
    namespace = cluster().namespace();
  });

  const names = (of = client): PeerNames => createPeerNames({ client: of, local: () => undefined });

  function pod(name: string, status: object, more: { generateName?: string; hostNetwork?: boolean } = {}): void {
    const { metadata, spec, ...object } = podObject(namespace, name);
    const { generateName, hostNetwork = false } = more;
    cluster().apply({
      ...object,
      metadata: generateName === undefined ? metadata : { ...metadata, generateName },
      spec: { ...spec, hostNetwork },
    });
    const patch = JSON.stringify({ status });
    cluster().kubectl('patch', 'pod', name, '-n', namespace, '--subresource=status', '--type=merge', '-p', patch);
  }

  const running = (...ips: string[]): object => ({
    phase: 'Running',
    podIP: ips[0],
    podIPs: ips.map((ip) => ({ ip })),
  });

  test("a pod is found by its address, one that ended or has its node's network is not", async () => {
    pod('job-1', { ...running('203.0.113.1'), phase: 'Succeeded' });
    pod('job-2', { ...running('203.0.113.1'), phase: 'Failed' });
    pod('backend-7d4b-x2x9k', running('203.0.113.1'), { generateName: 'backend-7d4b-' });
    pod(
      'proxy',
      { ...running('203.0.113.2'), hostIP: '203.0.113.2', hostIPs: [{ ip: '203.0.113.2' }] },
      { hostNetwork: true },
    );
    pod('six', running('2001:db8::6'));
    pod('twin-1', running('203.0.113.3'));
    pod('twin-2', running('203.0.113.3'));
    const ips = ['203.0.113.1', '203.0.113.2', '203.0.113.3', '203.0.113.4', '2001:DB8:0::6'];
    expect(await names().resolve(ips, DEADLINE)).toEqual(
      new Map([
        ['203.0.113.1', { namespace, name: 'backend-7d4b-x2x9k', nameAggr: 'backend-7d4b-*' }],
        ['2001:DB8:0::6', { namespace, name: 'six', nameAggr: '-' }],
      ]),
    );
  });

  test('a Service is found by its cluster IP, as fast as the deadline of an event asks for once it is known', async () => {
    cluster().apply(
      { apiVersion: 'v1', kind: 'Service', metadata: { name: 'till', namespace }, spec: { ports: [{ port: 80 }] } },
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'none', namespace },
        spec: { clusterIP: 'None', ports: [{ port: 80 }] },
      },
    );
    const ip = cluster().kubectl('get', 'service', 'till', '-n', namespace, '-o', 'jsonpath={.spec.clusterIP}');
    const found = new Map([[ip, { namespace, name: 'till', nameAggr: 'till' }]]);
    const peers = names();
    expect(peers.lookup([ip])).toEqual(new Map());
    expect(await peers.resolve([ip], DEADLINE)).toEqual(found);
    expect(peers.lookup([ip])).toEqual(found);
    expect(await peers.resolve([ip], 0)).toEqual(found);
    expect(peers.stats()).toEqual({ asked: 1, failed: 0, refused: 0, cached: 1 });
  });

  testOnOwnServer('the second address of a pod or a Service is not found, as no field selector knows it', async () => {
    const spec = { ipFamilyPolicy: 'RequireDualStack', ipFamilies: ['IPv4', 'IPv6'], ports: [{ port: 80 }] };
    cluster().apply({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'dual', namespace }, spec });
    pod('dual', running('203.0.113.9', '2001:db8::9'));
    const json = cluster().kubectl('get', 'service', 'dual', '-n', namespace, '-o', 'jsonpath={.spec.clusterIPs}');
    const [first = '', second = ''] = JSON.parse(json) as string[];
    const found = await names().resolve([first, second, '203.0.113.9', '2001:db8::9'], DEADLINE);
    expect([...found.keys()]).toEqual([first, '203.0.113.9']);
  });

  test('whoever may not list pods gets no names, and a message that says so', async () => {
    const { kubeconfig } = cluster().serviceAccount(namespace, 'no-rights');
    const warnings: unknown[] = [];
    const peers = createPeerNames({
      client: await createClient({ kubeconfig }),
      local: () => undefined,
      log: { warn: (context: unknown) => void warnings.push(context) },
    });
    expect(await peers.resolve(['203.0.113.1'], DEADLINE)).toEqual(new Map());
    expect(peers.stats()).toMatchObject({ asked: 1, failed: 1 });
    expect(warnings).toMatchObject([{ err: { status: 403, message: expect.stringMatching(/list (pods|services)/) } }]);
  });
});
