import { afterEach, expect, test } from '@jest/globals';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  ApiError,
  type ApiClient,
  type ApiList,
  type ApiObject,
  type Query,
  type WatchEvent,
} from '../../agent/kube/api.ts';
import { reflect, type Change, type ReflectOptions, type Reflector } from '../../agent/kube/reflector.ts';

interface Thing extends ApiObject {
  value?: string;
}

/** An API server of which each answer is a test's. */
interface Scripted {
  client: ApiClient;
  lists: Query[];
  watches: Query[];
}

type Send = (event: WatchEvent<Thing>) => void;

const running = new Set<Reflector<string>>();
afterEach(() => {
  for (const reflector of running) reflector.stop();
  running.clear();
});

/** @param watch Resolves to end the watch as agreed; the default is one that goes on. */
function scripted(
  list: (query: Query, count: number) => ApiList<Thing>,
  watch: (send: Send, count: number, query: Query) => Promise<void> | void = () => undefined,
): Scripted {
  const lists: Query[] = [];
  const watches: Query[] = [];
  const client: ApiClient = {
    server: 'https://test',
    get: async <T>(_path: string, query: Query = {}) => {
      lists.push(query);
      return (await Promise.resolve(list(query, lists.length))) as T;
    },
    create: () => Promise.reject(new Error('not asked for')),
    mergePatch: () => Promise.reject(new Error('not asked for')),
    apply: () => Promise.reject(new Error('not asked for')),
    remove: () => Promise.reject(new Error('not asked for')),
    async watch(_path, query, onEvent, signal, onOpen) {
      watches.push(query);
      onOpen?.();
      const ended = watch(onEvent as unknown as Send, watches.length, query);
      if (ended !== undefined) return ended;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      throw new ApiError('given up', undefined, 'Aborted');
    },
  };
  return { client, lists, watches };
}

function follow(
  { client }: Scripted,
  options: Partial<ReflectOptions<Thing, string>> = {},
): { reflector: Reflector<string>; changes: string[]; failures: (string | undefined)[] } {
  const changes: string[] = [];
  const failures: (string | undefined)[] = [];
  const reflector = reflect<Thing, string>({
    client,
    path: '/api/v1/things',
    convert: ({ value, metadata }) => value ?? metadata.uid,
    onChange: (change) => changes.push(text(change)),
    onState: ({ failure }) => failures.push(failure?.message),
    backoff: { firstMillis: 2, lastMillis: 20, unreachableMillis: 20, healthyMillis: 1000 },
    ...options,
  });
  running.add(reflector);
  return { reflector, changes, failures };
}

function text(change: Change<string>): string {
  const before = change.type === 'updated' ? `${change.before} -> ` : '';
  return `${change.type} ${change.key} ${before}${change.object}`;
}

function thing(name: string, uid: string, version: string, value?: string): Thing {
  return {
    metadata: { name, namespace: 'ns', uid, resourceVersion: version },
    ...(value === undefined ? {} : { value }),
  };
}

const page = (version: string, items: Thing[] = [], more?: string): ApiList<Thing> => ({
  metadata: { resourceVersion: version, ...(more === undefined ? {} : { continue: more }) },
  items,
});

async function until(check: () => boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!check()) {
    if (Date.now() > deadline) throw new Error(`it did not come: ${check.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

const gone = (): ApiError => new ApiError('too old', 410, 'Expired');

test('an object that was made again under its name is deleted, then added', async () => {
  const server = scripted(
    () => page('5', [thing('a', 'u1', '5')]),
    (send) => {
      send({ type: 'MODIFIED', object: thing('a', 'u2', '6') });
      send({ type: 'MODIFIED', object: thing('a', 'u2', '7', 'new') });
      send({ type: 'DELETED', object: thing('a', 'u2', '8') });
    },
  );
  const { changes, reflector } = follow(server);
  await until(() => changes.length === 5);
  expect(changes).toEqual([
    'added ns/a u1',
    'deleted ns/a u1',
    'added ns/a u2',
    'updated ns/a u2 -> new',
    'deleted ns/a new',
  ]);
  expect(reflector.list()).toEqual([]);
});

test('a second list deletes what is gone first, and says nothing of what is the same', async () => {
  const server = scripted(
    (_query, count) =>
      count === 1
        ? page('5', [thing('a', 'u1', '1'), thing('b', 'u2', '2'), thing('c', 'u3', '3')])
        : page('9', [thing('d', 'u4', '8'), thing('c', 'u5', '7'), thing('b', 'u2', '2')]),
    (_send, count) => (count === 1 ? Promise.reject(gone()) : undefined),
  );
  const { changes, failures, reflector } = follow(server);
  await until(() => server.watches.length === 2);
  expect(changes.slice(3)).toEqual(['deleted ns/a u1', 'added ns/d u4', 'deleted ns/c u3', 'added ns/c u5']);
  expect(reflector.list().sort()).toEqual(['u2', 'u4', 'u5']);
  expect(server.watches[1]?.resourceVersion).toBe('9');
  // Forgotten versions are routine.
  expect(failures).toEqual([undefined]);
});

test('a watch goes on from the last event or bookmark, whatever ended the one before', async () => {
  const server = scripted(
    () => page('5'),
    (send, count) => {
      if (count === 1) {
        send({ type: 'ADDED', object: thing('a', 'u1', '6') });
        return Promise.reject(new ApiError('reset', undefined, 'Unreachable'));
      }
      if (count === 2) {
        send({ type: 'BOOKMARK', object: { metadata: { resourceVersion: '7' } } });
        return Promise.reject(new ApiError('silent', undefined, 'Silent'));
      }
      return count === 3 ? Promise.resolve() : undefined;
    },
  );
  const { failures } = follow(server);
  await until(() => server.watches.length === 4);
  expect(server.watches.map(({ resourceVersion }) => resourceVersion)).toEqual(['5', '6', '7', '7']);
  expect(server.lists).toHaveLength(1);
  expect(failures).toEqual([undefined, 'reset', undefined, 'silent', undefined]);
});

test('a list is taken from memory, as new as what was seen, and from etcd only when that version is gone', async () => {
  const server = scripted(
    (_query, count) => {
      if (count === 2) throw gone();
      return page(`${count}0`);
    },
    (_send, count) => (count <= 2 ? Promise.reject(gone()) : undefined),
  );
  follow(server);
  await until(() => server.watches.length === 3);
  expect(server.lists.map(({ resourceVersion }) => resourceVersion)).toEqual(['0', '10', undefined, '30']);
});

test('an error within a watch is followed by a list', async () => {
  const server = scripted(
    (_query, count) => page(`${count}0`),
    (_send, count) => (count === 1 ? Promise.reject(new ApiError('broken', 500, 'InternalError')) : undefined),
  );
  const { failures } = follow(server);
  await until(() => server.watches.length === 2);
  expect(server.watches.map(({ resourceVersion }) => resourceVersion)).toEqual(['10', '20']);
  expect(failures).toEqual([undefined, 'broken', undefined]);
});

test('silence is no failure where the server never sent a bookmark', async () => {
  const server = scripted(
    () => page('5'),
    (_send, count) => (count < 3 ? Promise.reject(new ApiError('silent', undefined, 'Silent')) : undefined),
  );
  const { failures } = follow(server);
  await until(() => server.watches.length === 3);
  expect(failures).toEqual([undefined]);
  expect(server.lists).toHaveLength(1);
});

test('a version that the server does not reach is not asked for again', async () => {
  const server = scripted((_query, count) => {
    if (count === 1) throw new ApiError('Too large resource version', 504, 'Timeout');
    return page('3');
  });
  const { reflector } = follow(server);
  await reflector.synced;
  expect(server.lists.map(({ resourceVersion }) => resourceVersion)).toEqual(['0', undefined]);
});

test('a list that ends in the middle begins again, and an answer that is too large is asked for in smaller parts', async () => {
  const server = scripted((query, count) => {
    if (count === 1) throw new ApiError('too large', undefined, 'TooLarge');
    if (count === 3) throw gone();
    return query.continue === undefined
      ? page('5', [thing(`a${count}`, 'u', '1')], 'more')
      : page('5', [thing('b', 'v', '2')]);
  });
  const { reflector, changes } = follow(server, { pageSize: 8 });
  await reflector.synced;
  expect(server.lists.map(({ limit, continue: more }) => [limit, more])).toEqual([
    [undefined, undefined],
    [2, undefined],
    [2, 'more'],
    [2, undefined],
    [2, 'more'],
  ]);
  // What an incomplete list had is not taken for true.
  expect(changes).toEqual(['added ns/a4 u', 'added ns/b v']);
});

test('the pause grows with failures, and a watch that ends at once is one', async () => {
  const at: number[] = [];
  const server = scripted(
    () => page('5'),
    () => {
      at.push(performance.now());
      return Promise.resolve();
    },
  );
  follow(server, { backoff: { firstMillis: 20, lastMillis: 80, unreachableMillis: 80, healthyMillis: 1000 } });
  await until(() => at.length === 5);
  // At least half of 20 + 40 + 80 + 80 ms.
  expect((at[4] ?? 0) - (at[0] ?? 0)).toBeGreaterThanOrEqual(105);
});

const row = (name: string, uid: string, version: string, columns: Record<string, string>): Thing =>
  ({ metadata: { ...thing(name, uid, version).metadata, generation: Number(version) }, columns }) as Thing;
const byRow: Partial<ReflectOptions<Thing, string>> = {
  byMetadata: { pathOf: ({ name }) => `/api/v1/things/${name}`, update: () => undefined },
  fromRow: ({ metadata, columns }) =>
    typeof columns['.value'] === 'string' ? { metadata, value: columns['.value'] } : undefined,
};

test('where tables have all that is kept, no body is read', async () => {
  const server = scripted(
    () => page('5', [row('a', 'u1', '1', { '.value': 'one' })]),
    (send) => {
      send({ type: 'MODIFIED', object: row('a', 'u1', '6', { '.value': 'two' }) });
      send({ type: 'ADDED', object: row('b', 'u2', '7', { '.value': 'three' }) });
    },
  );
  const { changes } = follow(server, byRow);
  await until(() => changes.length === 3);
  expect(changes).toEqual(['added ns/a one', 'updated ns/a one -> two', 'added ns/b three']);
  expect(server.lists).toEqual([{ resourceVersion: '0', rows: true }]);
  expect(server.watches).toEqual([{ resourceVersion: '5', metadataOnly: true, rows: true }]);
});

test('where tables lack what is kept, bodies are read, until the next list', async () => {
  let served = false;
  const server = scripted(
    ({ rows }, count) => {
      const [name, version] = count === 3 ? ['b', '6'] : ['a', '1'];
      const object = row(name, 'u', version, served ? { '.value': 'shown' } : {});
      if (rows === true) return page('5', [object]);
      const { metadata } = object;
      // The third is the body that the watch made it read.
      return count === 3 ? ({ metadata, value: 'body' } as never) : page('5', [{ metadata, value: 'listed' }]);
    },
    async (send, count) => {
      if (count > 1) return undefined;
      send({ type: 'ADDED', object: { metadata: { ...row('b', 'u', '6', {}).metadata } } });
      await until(() => changes.length === 2);
      served = true;
      throw gone();
    },
  );
  const { changes } = follow(server, byRow);
  await until(() => server.watches.length === 2);
  expect(changes.slice(0, 2)).toEqual(['added ns/a listed', 'added ns/b body']);
  expect(server.lists.map(({ rows }) => rows)).toEqual([true, undefined, undefined, true]);
  expect(server.watches.map(({ rows }) => rows)).toEqual([false, true]);
});

test('what is converted to undefined is not kept, and what throws changes nothing', async () => {
  const thrown: unknown[] = [];
  const server = scripted(
    () => page('5', [thing('a', 'u1', '1', 'keep'), thing('b', 'u2', '2', 'drop'), thing('c', 'u3', '3', 'throw')]),
    (send) => {
      send({ type: 'MODIFIED', object: thing('a', 'u1', '6', 'throw') });
      send({ type: 'MODIFIED', object: thing('b', 'u2', '7', 'keep') });
      send({ type: 'MODIFIED', object: thing('b', 'u2', '8', 'drop') });
    },
  );
  const { changes } = follow(server, {
    convert: ({ value }) => {
      if (value === 'throw') throw new Error('bad object');
      return value === 'drop' ? undefined : value;
    },
    onThrow: (error) => thrown.push(error),
  });
  await until(() => changes.length === 3);
  expect(changes).toEqual(['added ns/a keep', 'added ns/b keep', 'deleted ns/b keep']);
  expect(thrown).toHaveLength(2);
});

test('an object of a list that cannot be read stays as it was', async () => {
  const server = scripted(
    (_query, count) => page(`${count}0`, [thing('a', 'u1', `${count}`, count === 1 ? 'good' : 'throw')]),
    (_send, count) => (count === 1 ? Promise.reject(gone()) : undefined),
  );
  const { reflector, changes } = follow(server, {
    convert: ({ value }) => {
      if (value === 'throw') throw new Error('bad object');
      return value;
    },
    onThrow: () => undefined,
  });
  await until(() => server.watches.length === 2);
  expect(changes).toEqual(['added ns/a good']);
  expect(reflector.list()).toEqual(['good']);
});

test('a listener that throws does not stop it', async () => {
  const thrown: unknown[] = [];
  const server = scripted(() => page('5', [thing('a', 'u1', '1'), thing('b', 'u2', '2')]));
  const { reflector } = follow(server, {
    onChange: () => {
      throw new Error('listener');
    },
    onState: () => {
      throw new Error('listener');
    },
    onThrow: (error) => thrown.push(error),
  });
  await until(() => server.watches.length === 1);
  expect(thrown).toHaveLength(3);
  expect(reflector.list()).toEqual(['u1', 'u2']);
});

test('nothing comes after stop, and who waits for the first list waits no longer', async () => {
  let send: Send | undefined;
  const server = scripted(
    () => page('5'),
    (given) => {
      send = given;
    },
  );
  const { reflector, changes } = follow(server);
  await until(() => send !== undefined);
  reflector.stop();
  send?.({ type: 'ADDED', object: thing('a', 'u1', '6') });
  expect(changes).toEqual([]);

  const first = follow(
    scripted(() => page('5', [thing('a', 'u1', '1'), thing('b', 'u2', '2')])),
    { onChange: () => (first.changes.push('change'), first.reflector.stop()) },
  );
  await first.reflector.synced;
  expect(first.changes).toEqual(['change']);

  const never = scripted(() => {
    throw new ApiError('refused', undefined, 'Unreachable');
  });
  const second = follow(never);
  await until(() => never.lists.length > 2);
  second.reflector.stop();
  await second.reflector.synced;
  expect(second.reflector.state()).toMatchObject({ synced: false, failure: { message: 'refused' } });
});

test('a cluster that churns leaves nothing in memory', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  let send: Send | undefined;
  const server = scripted(
    () => page('1'),
    (given) => {
      send = given;
    },
  );
  let count = 0;
  const { reflector } = follow(server, { onChange: () => count++ });
  await until(() => send !== undefined);
  const round = (number: number): void => {
    for (const type of ['ADDED', 'MODIFIED', 'DELETED'] as const) {
      for (let i = 0; i < 500; i++) {
        const name = `pod-${number}-${i}`;
        send?.({ type, object: thing(name, name, `${number}-${type}-${i}`, `${type} ${'x'.repeat(1000)} ${name}`) });
      }
    }
  };
  const heap = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  for (let i = 0; i < 5; i++) round(i);
  const before = heap();
  for (let i = 5; i < 45; i++) round(i);
  // One object of each kept would be 20 MB.
  expect(heap() - before).toBeLessThan(5_000_000);
  expect(count).toBe(45 * 1500);
  expect(reflector.list()).toEqual([]);
});
