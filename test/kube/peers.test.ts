import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { createPeerNames, type Peer, type PeerNames } from '../../agent/kube/peers.ts';
import { apiError, hang, scriptedClient, type Request, type ScriptedClient } from './scripted-client.ts';

let pods: Record<string, object[]>;
let services: Record<string, object[]>;
let fault: ((request: Request) => unknown) | undefined;
let local: Record<string, Peer>;
let client: ScriptedClient;
let warnings: number;
let names: PeerNames;

const ATTACKER = { namespace: 'dmz', name: 'attacker-1', nameAggr: 'attacker-*' };

const pod = (name: string, spec: object = {}): object => ({
  metadata: { name, namespace: 'dmz', generateName: 'attacker-' },
  spec,
});

function answer(request: Request): unknown {
  if (fault !== undefined) return fault(request);
  const [, field = '', ip = ''] =
    /^(status\.podIP|spec\.clusterIP)=([^,]+)/.exec(request.query.fieldSelector ?? '') ?? [];
  return { items: (field === 'status.podIP' ? pods : services)[ip] ?? [] };
}

beforeEach(() => {
  jest.useFakeTimers();
  [pods, services, local, fault, warnings] = [{}, {}, {}, undefined, 0];
  client = scriptedClient(answer);
  names = createPeerNames({ client, local: (ip) => local[ip], log: { warn: () => void warnings++ } });
});

afterEach(() => {
  jest.useRealTimers();
});

const pass = (millis: number): Promise<void> => jest.advanceTimersByTimeAsync(millis);

/** Resolves with what is known at the deadline, or before. */
async function resolve(...ips: string[]): Promise<Map<string, Peer>> {
  const answers = names.resolve(ips);
  await pass(200);
  return answers;
}

const address = (i: number): string => `10.9.${i >> 8}.${i & 255}`;

describe('a name', () => {
  test("is that of a pod elsewhere, asked for by its address among pods that have not ended, from the API server's cache", async () => {
    pods['10.1.0.1'] = [pod('attacker-1')];
    expect(await resolve('10.1.0.1')).toEqual(new Map([['10.1.0.1', ATTACKER]]));
    expect(client.requests.map(({ path, query }) => ({ path, ...query }))).toEqual([
      {
        path: '/api/v1/pods',
        fieldSelector: 'status.podIP=10.1.0.1,status.phase!=Succeeded,status.phase!=Failed',
        resourceVersion: '0',
        limit: 10,
      },
      { path: '/api/v1/services', fieldSelector: 'spec.clusterIP=10.1.0.1', resourceVersion: '0', limit: 10 },
    ]);
  });

  test("is a Service's, where the address is its cluster IP", async () => {
    services['10.96.0.10'] = [{ metadata: { name: 'dns', namespace: 'kube-system' } }];
    const dns = { namespace: 'kube-system', name: 'dns', nameAggr: 'dns' };
    expect(await resolve('10.96.0.10')).toEqual(new Map([['10.96.0.10', dns]]));
  });

  test("is that of the node's own pod without asking, each time anew", async () => {
    local['10.1.0.1'] = { namespace: 'shop', name: 'till', nameAggr: '-' };
    expect((await resolve('10.1.0.1')).get('10.1.0.1')?.name).toBe('till');
    expect(client.requests).toHaveLength(0);
    local = {};
    pods['10.1.0.1'] = [pod('attacker-1')];
    expect(names.lookup(['10.1.0.1']).size).toBe(0);
    expect((await resolve('10.1.0.1')).get('10.1.0.1')).toEqual(ATTACKER);
    local['10.1.0.1'] = { namespace: 'shop', name: 'till', nameAggr: '-' };
    expect(names.lookup(['10.1.0.1']).get('10.1.0.1')?.name).toBe('till');
  });

  test('is asked for in the canonical form of its address, and given under the form that was asked', async () => {
    pods['fd00::1'] = [pod('attacker-1')];
    const found = await resolve('FD00:0:0::1', 'fd00::1');
    expect([...found]).toEqual([
      ['FD00:0:0::1', ATTACKER],
      ['fd00::1', ATTACKER],
    ]);
    expect(client.requests).toHaveLength(2);
  });

  test.each([
    ['two pods', { pods: [pod('attacker-1'), pod('attacker-2')] }],
    ['a pod and a Service', { pods: [pod('attacker-1')], services: [{ metadata: { name: 'dns', namespace: 'x' } }] }],
    ["a pod in its node's network", { pods: [pod('proxy-1', { hostNetwork: true })] }],
    ['nobody', {}],
  ])('is absent where the address is that of %s', async (_, found: { pods?: object[]; services?: object[] }) => {
    pods['10.1.0.1'] = found.pods ?? [];
    services['10.1.0.1'] = found.services ?? [];
    expect(await resolve('10.1.0.1')).toEqual(new Map());
  });

  test.each([
    '0.0.0.0',
    '127.0.0.1',
    '169.254.1.1',
    '224.0.0.1',
    '239.255.255.250',
    '255.255.255.255',
    '::',
    '::1',
    'fe80::1',
    'ff02::1',
    '::ffff:10.1.0.1',
    'fe80::1%eth0',
    'backend',
    '',
  ])('is never asked for %p', async (ip) => {
    expect(await resolve(ip)).toEqual(new Map());
    expect(client.requests).toHaveLength(0);
    expect(names.stats()).toEqual({ asked: 0, failed: 0, refused: 0, cached: 0 });
  });
});

describe('the cache', () => {
  test('keeps a name for 60 seconds', async () => {
    pods['10.1.0.1'] = [pod('attacker-1')];
    await names.resolve(['10.1.0.1']);
    expect(jest.getTimerCount()).toBe(0);
    await pass(59_999);
    await names.resolve(['10.1.0.1']);
    expect(names.lookup(['10.1.0.1']).get('10.1.0.1')).toEqual(ATTACKER);
    expect(client.requests).toHaveLength(2);
    await pass(1);
    expect(names.lookup(['10.1.0.1']).size).toBe(0);
    await names.resolve(['10.1.0.1']);
    expect(client.requests).toHaveLength(4);
  });

  test('keeps for 30 seconds that there is none', async () => {
    await names.resolve(['10.1.0.1']);
    pods['10.1.0.1'] = [pod('attacker-1')];
    await pass(29_999);
    expect((await names.resolve(['10.1.0.1'])).size).toBe(0);
    await pass(1);
    expect((await names.resolve(['10.1.0.1'])).size).toBe(1);
  });

  test('has 4096 addresses at most', async () => {
    // Entries expire meanwhile, but that is noticed only when they are asked for.
    let now = 0;
    names = createPeerNames({ client, local: () => undefined, now: () => now });
    for (let first = 0; first < 4200; first += 20) {
      now += 4_000;
      await names.resolve(Array.from({ length: 20 }, (_, i) => address(first + i)));
    }
    expect(names.stats()).toEqual({ asked: 4200, failed: 0, refused: 0, cached: 4096 });
  });
});

describe('bounds', () => {
  test('of time: resolves at the deadline with what is known, and knows the rest the next time', async () => {
    pods['10.1.0.1'] = [pod('attacker-1')];
    pods['10.1.0.2'] = [pod('attacker-2')];
    await names.resolve(['10.1.0.1']);
    fault = async (request) => {
      await new Promise((done) => setTimeout(done, 300));
      fault = undefined;
      return answer(request);
    };
    let found: Map<string, Peer> | undefined;
    void names.resolve(['10.1.0.1', '10.1.0.2']).then((answers) => (found = answers));
    await pass(199);
    expect(found).toBeUndefined();
    await pass(1);
    expect([...(found?.keys() ?? [])]).toEqual(['10.1.0.1']);
    await pass(100);
    expect(names.lookup(['10.1.0.2']).get('10.1.0.2')?.name).toBe('attacker-2');
  });

  test('of requests: one lookup for all that ask for the same address', async () => {
    pods['10.1.0.1'] = [pod('attacker-1')];
    const all = await Promise.all(Array.from({ length: 50 }, () => names.resolve(['10.1.0.1', '10.1.0.1'])));
    expect(all.every((found) => found.get('10.1.0.1')?.name === 'attacker-1')).toBe(true);
    expect(client.requests).toHaveLength(2);
    expect(names.stats()).toMatchObject({ asked: 1, refused: 0 });
  });

  test('of requests: 20 addresses at once, then 5 a second, and the others are counted', async () => {
    for (let i = 0; i < 1000; i++) await names.resolve([address(i)]);
    expect(names.stats()).toEqual({ asked: 20, failed: 0, refused: 980, cached: 20 });
    for (let second = 0; second < 10; second++) {
      await pass(1_000);
      for (let i = 0; i < 100; i++) await names.resolve([address(1000 + second * 100 + i)]);
    }
    expect(names.stats().asked).toBe(70);
    expect(client.requests).toHaveLength(140);
    await pass(3600_000);
    for (let i = 0; i < 100; i++) await names.resolve([address(3000 + i)]);
    expect(names.stats().asked).toBe(90);
  });

  test('of waiting: what hangs is given up after 5 seconds, and nobody waits for the next while the server may hang', async () => {
    fault = hang;
    expect((await resolve('10.1.0.1')).size).toBe(0);
    await pass(4_800);
    expect(client.requests.every(({ signal }) => signal?.aborted)).toBe(true);
    expect(names.stats()).toMatchObject({ asked: 1, failed: 1 });
    expect((await names.resolve(['10.1.0.1', '10.1.0.2'])).size).toBe(0);
    expect(jest.getTimerCount()).toBe(0);
  });
});

describe('a failure', () => {
  test('is no name, a pause of 5 seconds, and one warning until it works again', async () => {
    pods['10.1.0.1'] = [pod('attacker-1')];
    fault = () => {
      throw apiError(403);
    };
    expect((await names.resolve(['10.1.0.1'])).size).toBe(0);
    fault = undefined;
    await pass(4_999);
    expect((await names.resolve(['10.1.0.1', '10.1.0.2'])).size).toBe(0);
    expect(names.stats()).toEqual({ asked: 1, failed: 1, refused: 2, cached: 0 });
    await pass(1);
    expect((await names.resolve(['10.1.0.1'])).size).toBe(1);
    expect(warnings).toBe(1);
  });

  test('that repeats is said once, and again after it worked', async () => {
    fault = () => {
      throw apiError();
    };
    for (let i = 0; i < 5; i++) {
      await names.resolve([address(i)]);
      await pass(5_000);
    }
    expect(names.stats()).toMatchObject({ asked: 5, failed: 5 });
    expect(warnings).toBe(1);
    const broken = fault;
    fault = undefined;
    await names.resolve(['10.1.0.1']);
    fault = broken;
    await names.resolve(['10.1.0.2']);
    expect(warnings).toBe(2);
  });

  test.each([
    ['an answer without sense', 'nonsense'],
    ['no list', { items: 7 }],
  ])('is %s, too', async (_, body) => {
    fault = () => body;
    expect((await names.resolve(['10.1.0.1'])).size).toBe(0);
    expect(names.stats().failed).toBe(1);
  });
});

test('after close nothing is asked', async () => {
  names.close();
  expect((await names.resolve(['10.1.0.1'])).size).toBe(0);
  expect(client.requests).toHaveLength(0);
});
