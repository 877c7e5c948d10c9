import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import type { NodeStatus } from '../../agent/kube/resources.ts';
import { createStatusWriter, type StatusWriter } from '../../agent/kube/status.ts';
import { apiError, hang, scriptedClient, type Request, type ScriptedClient } from './scripted-client.ts';

const V3 = 'projectcalico.org/v3';
const PATH = `/apis/${V3}/namespaces/shop/deeppacketinspections/web`;
const RESOURCE = { namespace: 'shop', name: 'web', uid: 'u1' };
const EARLIER = '2026-01-01T00:00:00Z';
const LATER = '2026-01-02T00:00:00Z';

type Status = Omit<NodeStatus, 'node'>;

function status(podsCaptured: number, more: Partial<Status> = {}): Status {
  return {
    active: { success: true, lastUpdated: LATER },
    podsSelected: 3,
    podsCaptured,
    resolvers: { route: podsCaptured },
    errorConditions: [],
    ...more,
  };
}

/** One resource, as a server keeps it. */
let object: { uid: string; version: number; status: Record<string, unknown> };
/** Faults, one for each of the next requests; then none. */
let faults: ((request: Request) => unknown)[];
/** As long as it is set, for every request. */
let fault: ((request: Request) => unknown) | undefined;
let client: ScriptedClient;
let writer: StatusWriter;
let warnings: string[];

function answer(request: Request): unknown {
  return (faults.shift() ?? fault ?? serve)(request);
}

function serve(request: Request): unknown {
  if (!request.path.startsWith(PATH)) throw apiError(404);
  if (request.method === 'PATCH') {
    const patch = request.patch as { metadata: { resourceVersion: string }; status: object };
    if (patch.metadata.resourceVersion !== String(object.version)) throw apiError(409);
    object.version++;
    object.status = { ...object.status, ...patch.status };
  }
  return copy({
    metadata: { name: 'web', uid: object.uid, resourceVersion: String(object.version) },
    status: object.status,
  });
}

const copy = (value: object): unknown => JSON.parse(JSON.stringify(value)) as unknown;

const fail = (code?: number) => () => {
  throw apiError(code);
};

const pass = (millis: number): Promise<void> => jest.advanceTimersByTimeAsync(millis);

const writes = (): Request[] => client.requests.filter(({ method }) => method === 'PATCH');

beforeEach(() => {
  jest.useFakeTimers();
  object = { uid: 'u1', version: 1, status: {} };
  faults = [];
  fault = undefined;
  warnings = [];
  client = scriptedClient(answer);
  const log = {
    warn: (_: unknown, text: string) => warnings.push(text),
    info: (_: unknown, text: string) => warnings.push(text),
  };
  writer = createStatusWriter({ client, node: 'n1', log: log as never, random: () => 1 });
});

afterEach(() => {
  jest.useRealTimers();
});

describe('an entry', () => {
  test('is written at once, with the sums of all nodes, beside entries that are left as they are', async () => {
    const others = [
      {
        node: 'n0',
        active: { success: true, lastUpdated: EARLIER },
        podsCaptured: 4,
        errorConditions: [{}, {}],
        new: 1,
      },
      { node: 'n2', active: { success: false }, podsCaptured: -1 },
      'n3',
      { active: null, podsCaptured: '5', errorConditions: 'none' },
    ];
    object.status = { nodes: others, phase: 'kept' };
    writer.set(RESOURCE, V3, status(2));
    await pass(0);
    expect(object.status).toEqual({
      nodes: [...others, { node: 'n1', ...status(2) }],
      nodesActive: 2,
      podsSelected: 3,
      podsCaptured: 6,
      errors: 2,
      phase: 'kept',
    });
    expect(client.requests.map(({ method, path }) => [method, path])).toEqual([
      ['GET', PATH],
      ['PATCH', `${PATH}/status`],
    ]);
  });

  test.each([null, 'none', 7, { node: 'n1' }, undefined])('replaces nodes that are %p', async (nodes) => {
    object.status = { nodes };
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    expect(object.status).toMatchObject({ nodes: [{ node: 'n1' }], nodesActive: 1 });
  });

  test('keeps its place, and is there once', async () => {
    object.status = { nodes: [{ node: 'n0' }, { node: 'n1', ...status(1) }, { node: 'n2' }, { node: 'n1' }] };
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    expect(object.status['nodes']).toEqual([{ node: 'n0' }, { node: 'n1', ...status(1) }, { node: 'n2' }]);
  });

  test('has the newest 10 errors, newest first, printable and short', async () => {
    const errorConditions = Array.from({ length: 12 }, (_, i) => ({
      message: `error ${i}`,
      timestamp: new Date(Date.parse(EARLIER) + i * 1000).toISOString(),
    }));
    const hostile = { message: `\u001B[2Jline\none ${'x'.repeat(100_000)}`, timestamp: LATER };
    writer.set(RESOURCE, V3, status(0, { errorConditions: [...errorConditions, hostile] }));
    await pass(0);
    const [entry] = object.status['nodes'] as [{ errorConditions: { message: string; lastUpdated: string }[] }];
    const messages = entry.errorConditions.map(({ message }) => message);
    expect(messages).toHaveLength(10);
    expect(messages[0]).toMatch(/^line one x{502}…$/);
    expect(messages[0]).toHaveLength(512);
    expect(messages.slice(1, 3)).toEqual(['error 11', 'error 10']);
    expect(entry.errorConditions[0]?.lastUpdated).toBe(LATER);
    expect(object.status['errors']).toBe(10);
  });

  test('keeps the time at which success changed, also over a restart of the agent', async () => {
    const active = { success: true, lastUpdated: EARLIER };
    object.status = { nodes: [{ node: 'n1', ...status(1), active }] };
    writer.set(RESOURCE, V3, status(2));
    await pass(0);
    expect(object.status['nodes']).toMatchObject([{ active, podsCaptured: 2 }]);
    writer.set(RESOURCE, V3, status(2, { active: { success: false, lastUpdated: LATER } }));
    await pass(3_000);
    expect(object.status['nodes']).toMatchObject([{ active: { success: false, lastUpdated: LATER } }]);
  });

  test('is not written when the server has it, or nothing but the time differs', async () => {
    object.status = { nodes: [{ node: 'n1', ...status(1), active: { success: true, lastUpdated: EARLIER } }] };
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    writer.set(RESOURCE, V3, status(1, { active: { success: true, lastUpdated: '2027-01-01T00:00:00Z' } }));
    await pass(60_000);
    expect(client.requests.map(({ method }) => method)).toEqual(['GET']);
  });

  test('is removed when there is no status, and then the sums are of the others', async () => {
    object.status = {
      nodes: [
        { node: 'n1', podsCaptured: 5 },
        { node: 'n2', podsCaptured: 1 },
      ],
      podsCaptured: 6,
    };
    writer.set(RESOURCE, V3, undefined);
    await pass(0);
    expect(object.status).toMatchObject({ nodes: [{ node: 'n2' }], podsCaptured: 1 });
  });

  test('that is not there is removed by looking once', async () => {
    writer.set(RESOURCE, V3, undefined);
    await pass(0);
    writer.set(RESOURCE, V3, undefined);
    await pass(60_000);
    expect(client.requests.map(({ method }) => method)).toEqual(['GET']);
  });

  test('is written to the resource itself where there is no status subresource', async () => {
    faults = [serve, fail(404)];
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    expect(writes().map(({ path }) => path)).toEqual([`${PATH}/status`, PATH]);
    expect(object.status).toMatchObject({ nodes: [{ node: 'n1' }] });
  });
});

describe('writes', () => {
  test('come at most every interval, and then only the newest', async () => {
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    writer.set(RESOURCE, V3, status(2));
    await pass(1_000);
    writer.set(RESOURCE, V3, status(3));
    await pass(1_999);
    expect(writes()).toHaveLength(1);
    await pass(1);
    expect(writes()).toHaveLength(2);
    expect(object.status).toMatchObject({ podsCaptured: 3 });
    writer.set(RESOURCE, V3, status(4));
    writer.set(RESOURCE, V3, status(3));
    await pass(60_000);
    expect(writes()).toHaveLength(2);
  });

  test('come the rarer, the more nodes write the same resource', async () => {
    object.status = { nodes: Array.from({ length: 200 }, (_, index) => ({ node: `other-${index}` })) };
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    writer.set(RESOURCE, V3, status(2));
    await pass(19_999);
    expect(writes()).toHaveLength(1);
    await pass(1);
    expect(writes()).toHaveLength(2);
  });

  test('of what changes while it is written follow after the interval', async () => {
    faults = [
      (request) => {
        writer.set(RESOURCE, V3, status(2));
        return serve(request);
      },
    ];
    writer.set(RESOURCE, V3, status(1));
    await pass(2_999);
    expect(object.status).toMatchObject({ podsCaptured: 1 });
    await pass(1);
    expect(object.status).toMatchObject({ podsCaptured: 2 });
  });

  test('are repeated with what is there then, after a conflict, without a word', async () => {
    faults = [
      (request) => {
        const read = serve(request);
        object.status = { nodes: [{ node: 'n2' }] };
        object.version++;
        return read;
      },
    ];
    writer.set(RESOURCE, V3, status(1));
    await pass(99);
    expect(object.status['nodes']).toEqual([{ node: 'n2' }]);
    await pass(1);
    expect(object.status['nodes']).toMatchObject([{ node: 'n2' }, { node: 'n1' }]);
    await pass(3_000);
    faults = [fail(409)];
    writer.set(RESOURCE, V3, status(2));
    await pass(100);
    expect(object.status).toMatchObject({ podsCaptured: 2 });
    expect(warnings).toEqual([]);
  });

  test.each([
    ['was deleted', () => (fault = fail(404))],
    ['was made again under its name', () => (object.uid = 'u2')],
    [
      'is deleted between reading and writing',
      () => {
        faults = [serve];
        fault = fail(404);
      },
    ],
  ])('end when the resource %s', async (_, change) => {
    change();
    writer.set(RESOURCE, V3, status(1));
    await pass(60_000);
    expect(writes().every(({ path }) => path === `${PATH}/status`)).toBe(true);
    expect(client.requests.length).toBeLessThanOrEqual(3);
    expect(object.status).toEqual({});
    expect(warnings).toEqual([]);
    fault = undefined;
    writer.set({ ...RESOURCE, uid: object.uid }, V3, status(1));
    await pass(0);
    expect(object.status).toMatchObject({ podsCaptured: 1 });
  });

  test('go to the resource that has the name now, at once, and leave the former alone', async () => {
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    object = { uid: 'u2', version: 7, status: {} };
    writer.set(RESOURCE, V3, status(2));
    writer.set({ ...RESOURCE, uid: 'u2' }, V3, status(2));
    await pass(0);
    expect(object.status).toMatchObject({ podsCaptured: 2 });
    await pass(60_000);
    expect(writes()).toHaveLength(2);
  });

  test('of a successor are not disturbed by the end of the former', async () => {
    object.uid = 'u2';
    faults = [
      (request) => {
        writer.set({ ...RESOURCE, uid: 'u2' }, V3, status(2));
        return serve(request);
      },
    ];
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    expect(object.status).toMatchObject({ podsCaptured: 2 });
    const before = client.requests.length;
    writer.set({ ...RESOURCE, uid: 'u2' }, V3, status(2));
    await pass(60_000);
    expect(client.requests).toHaveLength(before);
  });

  test('are not made for a resource that is forgotten', async () => {
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    writer.set(RESOURCE, V3, status(2));
    writer.forget({ ...RESOURCE, uid: 'u0' }, V3);
    writer.forget(RESOURCE, V3);
    await pass(60_000);
    expect(writes()).toHaveLength(1);
  });

  test('that fail are tried again, later and later, with one warning until it works again', async () => {
    fault = fail(403);
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    await pass(1_000 + 2_000 + 4_000);
    expect(client.requests).toHaveLength(4);
    writer.set(RESOURCE, V3, status(2));
    await pass(7_999);
    expect(client.requests).toHaveLength(4);
    expect(warnings).toEqual(['status cannot be written']);
    fault = undefined;
    await pass(1);
    expect(object.status).toMatchObject({ podsCaptured: 2 });
    expect(warnings).toEqual(['status cannot be written', 'status is written again']);
    await pass(3_000);
    faults = [fail(500)];
    writer.set(RESOURCE, V3, status(3));
    await pass(1_000);
    expect(object.status).toMatchObject({ podsCaptured: 3 });
    expect(warnings.slice(2)).toEqual(['status cannot be written', 'status is written again']);
  });

  test('that fail without an answer may have been made: going back is written, too', async () => {
    writer.set(RESOURCE, V3, status(1));
    await pass(3_000);
    faults = [
      serve,
      (request) => {
        serve(request);
        throw apiError();
      },
    ];
    writer.set(RESOURCE, V3, status(2));
    await pass(0);
    expect(object.status).toMatchObject({ podsCaptured: 2 });
    writer.set(RESOURCE, V3, status(1));
    await pass(1_000);
    expect(object.status).toMatchObject({ podsCaptured: 1 });
  });

  test('of an answer without sense are failures', async () => {
    faults = [() => 'nonsense'];
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    expect(warnings).toEqual(['status cannot be written']);
    await pass(1_000);
    expect(object.status).toMatchObject({ podsCaptured: 1 });
  });

  test('are made for 8 resources at the same time, at most, and for all', async () => {
    let busy = 0;
    let most = 0;
    const paths = new Set<string>();
    client = scriptedClient(async ({ path }) => {
      most = Math.max(most, ++busy);
      await new Promise((resolve) => setTimeout(resolve, 10));
      busy--;
      paths.add(path);
      return { metadata: { uid: path.split('/').at(-1), resourceVersion: '1' } };
    });
    writer = createStatusWriter({ client, node: 'n1' });
    for (let i = 0; i < 100; i++) writer.set({ namespace: 'shop', name: `r${i}`, uid: `r${i}` }, V3, undefined);
    await pass(1_000);
    expect(most).toBe(8);
    expect(paths.size).toBe(100);
  });
});

describe('flush', () => {
  test('does not wait for the interval, and resolves when the newest is written', async () => {
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    faults = [
      (request) => {
        writer.set(RESOURCE, V3, status(3));
        return serve(request);
      },
    ];
    writer.set(RESOURCE, V3, status(2));
    const flushed = writer.flush();
    await pass(0);
    await flushed;
    expect(object.status).toMatchObject({ podsCaptured: 3 });
  });

  test('resolves when nothing waits, or what waits was refused, and goes on over conflicts', async () => {
    await writer.flush();
    fault = fail(403);
    writer.set(RESOURCE, V3, status(1));
    await writer.flush();
    fault = undefined;
    faults = [fail(409), fail(409)];
    const flushed = writer.flush();
    await pass(1_000);
    await flushed;
    expect(object.status).toMatchObject({ podsCaptured: 1 });
  });
});

test('flush resolves when what it waited for is no longer wanted', async () => {
  writer.set(RESOURCE, V3, status(1));
  await pass(0);
  fault = fail(409);
  writer.set(RESOURCE, V3, status(2));
  const flushed = writer.flush();
  await pass(0);
  writer.set(RESOURCE, V3, status(1));
  await flushed;
  const before = client.requests.length;
  await pass(60_000);
  expect(client.requests).toHaveLength(before);
});

describe('close', () => {
  test('writes what waits, tries again what fails, and then nothing more', async () => {
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    writer.set(RESOURCE, V3, undefined);
    faults = [fail(), fail(409), fail(503)];
    const closed = writer.close();
    writer.set(RESOURCE, V3, status(7));
    await pass(1_000);
    await closed;
    expect(object.status).toMatchObject({ nodes: [] });
    await writer.close();
    await writer.flush();
    writer.set(RESOURCE, V3, status(8));
    const before = client.requests.length;
    await pass(60_000);
    expect(client.requests).toHaveLength(before);
    expect(jest.getTimerCount()).toBe(0);
  });

  test.each([
    ['hangs', hang],
    ['is unreachable', fail()],
    ['answers with nothing but conflicts', fail(409)],
  ])('ends after 5 seconds when the server %s, without asking all the time', async (_, broken) => {
    writer.set(RESOURCE, V3, status(1));
    await pass(0);
    fault = broken;
    writer.set(RESOURCE, V3, undefined);
    const before = client.requests.length;
    let closed = false;
    const closing = writer.close().then(() => (closed = true));
    await pass(4_999);
    expect(closed).toBe(false);
    await pass(1);
    await closing;
    expect(client.requests.length - before).toBeLessThan(30);
    await pass(60_000);
    expect(jest.getTimerCount()).toBe(0);
  });
});
