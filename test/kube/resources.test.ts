import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import * as fc from 'fast-check';
import {
  discoverResourceApi,
  followResourceApi,
  resourcePath,
  toResource,
  type ApiDeepPacketInspection,
  type FollowedResourceApi,
  type ResourceApi,
  evidenceOf,
  evidenceProblem,
  ruleSetsOf,
} from '../../agent/kube/resources.ts';
import { apiError, scriptedClient, type ScriptedClient } from './scripted-client.ts';

const V3 = 'projectcalico.org/v3';
const V1 = 'crd.projectcalico.org/v1';

let served: Set<ResourceApi>;
let fault: Error | undefined;
let client: ScriptedClient;

beforeEach(() => {
  served = new Set();
  fault = undefined;
  client = scriptedClient(({ path }) => {
    if (fault !== undefined) throw fault;
    if (![...served].some((api) => path === `/apis/${api}`)) throw apiError(404);
    return { resources: [{ name: 'deeppacketinspections' }, { name: 'deeppacketinspections/status' }] };
  });
});

describe('discovery', () => {
  test('takes v3 where it is served, without asking for v1', async () => {
    served = new Set([V1, V3]);
    expect(await discoverResourceApi(client)).toBe(V3);
    expect(client.requests.map(({ path }) => path)).toEqual([`/apis/${V3}`]);
  });

  test('takes v1 where v3 is not', async () => {
    served = new Set([V1]);
    expect(await discoverResourceApi(client)).toBe(V1);
  });

  test('says when neither is served', async () => {
    expect(await discoverResourceApi(client)).toBeUndefined();
  });

  test.each([
    ['of a group with other resources', { resources: [{ name: 'networkpolicies' }, null, 7] }],
    ['that makes no sense', 'none'],
  ])('is not misled by an answer %s', async (_, answer) => {
    expect(await discoverResourceApi(scriptedClient(() => answer))).toBeUndefined();
  });

  test('does not take v1 when v3 may be served, but does not answer', async () => {
    client = scriptedClient(({ path }) => {
      if (path.includes('/v3')) throw apiError(503);
      return { resources: [{ name: 'deeppacketinspections' }] };
    });
    await expect(discoverResourceApi(client)).rejects.toMatchObject({ status: 503 });
  });
});

describe('following', () => {
  let changes: (ResourceApi | undefined)[];
  let warnings: unknown[][];
  let followed: FollowedResourceApi;

  beforeEach(() => {
    jest.useFakeTimers();
    changes = [];
    warnings = [];
  });

  afterEach(() => {
    followed.stop();
    jest.useRealTimers();
  });

  async function follow(): Promise<void> {
    const warn = (...args: unknown[]): void => void warnings.push(args);
    followed = followResourceApi({ client, onChange: (api) => changes.push(api), log: { warn }, random: () => 0.5 });
    await pass(0);
  }

  const pass = (seconds: number): Promise<void> => jest.advanceTimersByTimeAsync(seconds * 1000);

  /** Requests in that time. */
  async function requestsIn(seconds: number): Promise<number> {
    const before = client.requests.length;
    await pass(seconds);
    return client.requests.length - before;
  }

  test('tells what is served, also when that is nothing, and notices v1 and then v3', async () => {
    await follow();
    expect(changes).toEqual([undefined]);
    served.add(V1);
    await pass(10);
    expect(changes).toEqual([undefined, V1]);
    served.add(V3);
    await pass(600);
    expect(changes).toEqual([undefined, V1, V3]);
  });

  test('goes back to v1, and to nothing, when what was followed is removed', async () => {
    served = new Set([V1, V3]);
    await follow();
    served.delete(V3);
    await pass(1802);
    expect(changes).toEqual([V3, V1]);
    served.delete(V1);
    followed.recheck();
    await pass(62);
    expect(changes).toEqual([V3, V1, undefined]);
  });

  test('believes only the second time that what was followed is gone', async () => {
    served.add(V1);
    await follow();
    served.delete(V1);
    followed.recheck();
    await pass(1);
    served.add(V1);
    await pass(60);
    expect(changes).toEqual([V1]);
  });

  test('asks little at rest: less and less while there is none, once in 10 minutes for the better one, once in 30 minutes', async () => {
    await follow();
    expect(await requestsIn(10)).toBe(2);
    expect(await requestsIn(20)).toBe(2);
    await pass(600);
    expect(await requestsIn(3000)).toBe(20);
    served.add(V1);
    await pass(300);
    expect(await requestsIn(6000)).toBe(10);
    served.add(V3);
    await pass(600);
    expect(await requestsIn(18_000)).toBe(10);
  });

  test('looks at once when it is asked to, and not more often than every second', async () => {
    served.add(V3);
    await follow();
    served.delete(V3);
    await pass(100);
    followed.recheck();
    await pass(0);
    // The second look, which the first one asks for.
    await pass(2);
    expect(changes).toEqual([V3, undefined]);
    const before = client.requests.length;
    for (let i = 0; i < 100; i++) {
      followed.recheck();
      await pass(0.03);
    }
    expect(client.requests.length - before).toBeLessThanOrEqual(2 * 4);
  });

  test('looks once more when it is asked to while it looks', async () => {
    let answer: (value: unknown) => void = () => undefined;
    client = scriptedClient(() => new Promise((resolve) => (answer = resolve)));
    await follow();
    followed.recheck();
    answer({ resources: [{ name: 'deeppacketinspections' }] });
    await pass(0);
    expect(changes).toEqual([V3]);
    await pass(1);
    expect(client.requests).toHaveLength(2);
  });

  test('keeps what it knows on errors, warns once, and takes up again', async () => {
    served.add(V1);
    await follow();
    fault = apiError(503);
    await pass(900);
    expect(changes).toEqual([V1]);
    expect(warnings).toHaveLength(1);
    fault = undefined;
    served.add(V3);
    await pass(20);
    expect(changes).toEqual([V1, V3]);
    fault = apiError();
    await pass(1900);
    expect(warnings).toHaveLength(2);
  });

  test('waits longer from error to error, up to the time at which it looks without any', async () => {
    fault = apiError();
    await follow();
    expect(await requestsIn(1)).toBe(1);
    expect(await requestsIn(60)).toBeLessThanOrEqual(9);
    expect(changes).toEqual([]);
  });

  test('calls nothing after stop, not even for an answer that is on its way', async () => {
    let answer: (value: unknown) => void = () => undefined;
    client = scriptedClient(() => new Promise((resolve) => (answer = resolve)));
    await follow();
    followed.stop();
    expect(client.requests[0]?.signal?.aborted).toBe(true);
    answer({ resources: [{ name: 'deeppacketinspections' }] });
    followed.recheck();
    await pass(100);
    expect(changes).toEqual([]);
    expect(jest.getTimerCount()).toBe(0);
  });
});

describe('a resource', () => {
  const metadata = { name: 'web', namespace: 'shop', uid: 'u1', resourceVersion: '1' };

  test('is what the agent needs of the API object', () => {
    const annotations = { 'dpi-agent.io/rule-sets': 'community' };
    expect(toResource({ metadata: { ...metadata, annotations }, spec: { selector: 'all()' } })).toEqual({
      key: 'shop/web',
      namespace: 'shop',
      name: 'web',
      uid: 'u1',
      selector: 'all()',
      annotations,
    });
  });

  test.each([undefined, null, 7, ['all()'], { a: 'all()' }])('has an empty selector where it is %p', (selector) => {
    expect(toResource({ metadata, spec: { selector } }).selector).toBe('');
  });

  test('comes out of anything', () => {
    const anything = fc.anything({ maxDepth: 3, withNullPrototype: true });
    fc.assert(
      fc.property(fc.record({ metadata: anything, spec: anything }, { requiredKeys: [] }), (api) => {
        const { key, selector, annotations } = toResource(api as unknown as ApiDeepPacketInspection);
        expect(key).toContain('/');
        expect(typeof selector).toBe('string');
        expect(Object.values(annotations).every((value) => typeof value === 'string')).toBe(true);
      }),
    );
  });

  test('has a path, as its namespace and all have', () => {
    expect(resourcePath(V3)).toBe('/apis/projectcalico.org/v3/deeppacketinspections');
    expect(resourcePath(V1, 'shop')).toBe('/apis/crd.projectcalico.org/v1/namespaces/shop/deeppacketinspections');
    expect(resourcePath(V3, 'a/b', 'c?d')).toBe(
      '/apis/projectcalico.org/v3/namespaces/a%2Fb/deeppacketinspections/c%3Fd',
    );
  });
});

describe('evidenceOf', () => {
  const resource = (value?: string) => ({ annotations: value === undefined ? {} : { 'dpi-agent.io/evidence': value } });

  test.each(['off', 'headers', 'full'] as const)('%s', (value) => {
    expect(evidenceOf(resource(value))).toBe(value);
    expect(evidenceProblem(resource(value))).toBeUndefined();
  });

  test('nothing is no problem, and anything else is one', () => {
    expect([evidenceOf(resource()), evidenceProblem(resource())]).toEqual([undefined, undefined]);
    expect(evidenceOf(resource('on'))).toBeUndefined();
    expect(evidenceProblem(resource('on'))).toBe(
      'annotation dpi-agent.io/evidence: "on": expected off, headers or full',
    );
  });
});

describe('ruleSetsOf', () => {
  const of = (annotation?: string) =>
    ruleSetsOf({ annotations: annotation === undefined ? {} : { 'dpi-agent.io/rule-sets': annotation } });

  test.each([
    [undefined, undefined],
    ['community,kubernetes', ['community', 'kubernetes']],
    [' b , a,b,, ', ['b', 'a']],
    ['', []],
    ['x'.repeat(100), ['x'.repeat(63)]],
  ])('%j names %j', (annotation, expected) => expect(of(annotation)).toEqual(expected));

  test('no more than 32 are looked at', () => {
    expect(of(Array.from({ length: 100 }, (_, index) => `s${index}`).join())).toHaveLength(32);
  });
});
