import { expect, test } from '@jest/globals';
import type { ApiObject } from '../../agent/kube/api.ts';
import { readBodies } from '../../agent/kube/bodies.ts';
import { apiError, scriptedClient } from './scripted-client.ts';

const PATH = '/apis/x/v1/namespaces/shop/things/';
const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Each request is answered by hand. */
function open() {
  const asked: {
    path: string;
    version: string | undefined;
    answer(object: object): void;
    fail(status: number): void;
  }[] = [];
  const got: ApiObject[] = [];
  let failures = 0;
  const client = scriptedClient(
    ({ path, query }) =>
      new Promise((answer, reject) => {
        const fail = (status: number): void => reject(apiError(status));
        asked.push({ path, version: query.resourceVersion, answer, fail });
      }),
  );
  const bodies = readBodies<ApiObject>({
    client,
    signal: new AbortController().signal,
    onBody: (object) => got.push(object),
    onFailure: () => failures++,
  });
  const want = (name: string, version: string): void => bodies.want(name, `${PATH}${name}`, version);
  return { asked, got, bodies, want, failures: () => failures };
}

test('one is read after the other, and changes that come meanwhile are one more reading', async () => {
  const { asked, got, bodies, want } = open();
  want('a', '1');
  want('b', '1');
  want('a', '2');
  want('a', '3');
  expect(asked.map(({ path }) => path)).toEqual([`${PATH}a`]);
  asked[0]?.answer({ n: 1 });
  await tick();
  asked[1]?.answer({ n: 2 });
  await tick();
  asked[2]?.answer({ n: 3 });
  await bodies.done();
  expect(asked.map(({ path, version }) => [path, version])).toEqual([
    [`${PATH}a`, '1'],
    [`${PATH}b`, '1'],
    [`${PATH}a`, '3'],
  ]);
  expect(got).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
});

test('what was deleted while it was read does not come back, what was made again does', async () => {
  const { asked, got, bodies, want } = open();
  want('a', '1');
  want('b', '1');
  bodies.drop('a');
  bodies.drop('b');
  want('a', '5');
  asked[0]?.answer({ n: 'old' });
  await tick();
  asked[1]?.answer({ n: 'new' });
  await bodies.done();
  expect(got).toEqual([{ n: 'new' }]);
});

test('one that is not there is passed over; another failure ends it, once', async () => {
  const { asked, got, bodies, want, failures } = open();
  want('a', '1');
  want('b', '1');
  asked[0]?.fail(404);
  await tick();
  asked[1]?.answer({ n: 1 });
  await bodies.done();
  expect(got).toEqual([{ n: 1 }]);
  want('a', '2');
  want('b', '2');
  asked[2]?.fail(500);
  await expect(bodies.done()).rejects.toMatchObject({ status: 500 });
  want('a', '3');
  await tick();
  expect(asked).toHaveLength(3);
  expect(failures()).toBe(1);
});
