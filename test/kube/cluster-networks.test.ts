import { expect, test } from '@jest/globals';
import { ApiError, type ApiClient, type Query } from '../../agent/kube/api.ts';
import { followClusterNetworks, readClusterNetworks } from '../../agent/kube/cluster-networks.ts';

const POOLS = '/apis/crd.projectcalico.org/v1/ippools';
const RANGES = '/apis/networking.k8s.io/v1/servicecidrs';
const NODES = '/api/v1/nodes';
const SERVICES = '/api/v1/namespaces/default/services';

/** Answers by path; what has none is not served. */
function clientOf(specs: Record<string, object[]>): Pick<ApiClient, 'get'> & { asked: string[] } {
  const asked: string[] = [];
  async function get<T>(path: string, query: Query = {}): Promise<T> {
    asked.push(path);
    const found = specs[path];
    if (found === undefined) throw new ApiError(`${path} is not served`, 404, 'NotFound');
    // Two in a page.
    const start = Number(query.continue ?? 0);
    const page = found.slice(start, start + 2).map((spec) => ({ metadata: {}, spec }));
    const metadata = start + 2 < found.length ? { continue: String(start + 2) } : {};
    return Promise.resolve({ metadata, items: page } as T);
  }
  return { get, asked };
}

const read = async (specs: Record<string, object[]>): Promise<string[]> =>
  (await readClusterNetworks(clientOf(specs), AbortSignal.timeout(10_000))).networks;

test("Calico's pools and the ranges of Services, where there are any; the nodes are not asked for", async () => {
  const client = clientOf({
    [POOLS]: [{ cidr: '10.65.0.0/16' }, { cidr: 'fd00::/64' }],
    [RANGES]: [{ cidrs: ['10.96.0.0/12', 'fd01::/108'] }],
    [NODES]: [],
  });
  expect(await readClusterNetworks(client, AbortSignal.timeout(10_000))).toEqual({
    networks: ['10.65.0.0/16', '10.96.0.0/12', 'fd00::/64', 'fd01::/108'],
    from: 'pools',
  });
  expect(client.asked).toEqual([POOLS, RANGES]);
});

test('else the networks of all nodes, page by page, and the address of the API server', async () => {
  const nodes = [1, 2, 3].map((number) => ({ podCIDR: `10.1.${number}.0/24`, podCIDRs: [`10.1.${number}.0/24`] }));
  const found = await read({ [NODES]: nodes, [SERVICES]: [{ clusterIPs: ['10.96.0.1', 'fd01::1'] }] });
  expect(found).toEqual(['10.1.1.0/24', '10.1.2.0/24', '10.1.3.0/24', '10.96.0.1/32', 'fd01::1/128']);
});

test('what is no network is left out', async () => {
  const pools = [{ cidr: '10.65.0.0/16' }, { cidr: 'any; $X' }, {}];
  expect(await read({ [POOLS]: pools, [RANGES]: [{}, { cidrs: [5] }], [SERVICES]: [] })).toEqual(['10.65.0.0/16']);
});

test('where the API server can not be asked, they are not known, and that is said', async () => {
  const said: unknown[] = [];
  const log = { info: () => undefined, warn: (about: unknown) => void said.push(about) };
  const client = {
    get: () => Promise.reject(new ApiError('forbidden: nodes', 403, 'Forbidden')),
  };
  const followed = await followClusterNetworks(client, () => undefined, log);
  followed.stop();
  expect(followed.networks()).toEqual([]);
  expect(said).toEqual([{ reason: 'forbidden: nodes' }]);
});
