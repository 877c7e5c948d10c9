/** Tokens with an API server whose answers are written here; test/ui/access.kubernetes.test.ts has the real one. */
import { expect, test } from '@jest/globals';
import { kubernetesAccess } from '../../agent/ui/access.ts';
import { apiError, scriptedClient } from '../kube/scripted-client.ts';

test('a token was valid from its first review until one refuses it', async () => {
  let authenticated = false;
  let now = 0;
  const client = scriptedClient(() => ({ status: { authenticated, user: { username: 'anna' } } }));
  const access = kubernetesAccess(client, () => now);
  const ask = async (): Promise<void> => {
    now += 60_001;
    await access.signIn({ token: 'a' });
  };
  await ask();
  expect(access.wasValid({ token: 'a' })).toBe(false);
  authenticated = true;
  await ask();
  expect(access.wasValid({ token: 'a' })).toBe(true);
  expect(access.wasValid({ token: 'b' })).toBe(false);
  now += 60_001;
  expect(access.wasValid({ token: 'a' })).toBe(true);
  authenticated = false;
  await ask();
  expect(access.wasValid({ token: 'a' })).toBe(false);
});

test('namespaces are looked up a few at a time, and no more of them once the API server fails', async () => {
  const names = Array.from({ length: 1000 }, (_, number) => `namespace-${number}`);
  const reviewed = { status: { authenticated: true, user: { username: 'anna' } } };
  let running = 0;
  let most = 0;
  let fails = false;
  const review = async (namespace: unknown) => {
    if (namespace === undefined) return { status: { allowed: false } };
    most = Math.max(most, ++running);
    await new Promise(setImmediate);
    running--;
    if (fails) throw apiError(500);
    return { status: { allowed: namespace !== names[7] } };
  };
  const client = scriptedClient(({ path, patch }) => {
    if (path === '/api/v1/namespaces') return { items: names.map((name) => ({ metadata: { name } })) };
    if (path.endsWith('/tokenreviews')) return reviewed;
    if (!path.endsWith('/subjectaccessreviews')) return { groups: [], resources: [] };
    return review(
      (patch as { spec: { resourceAttributes: { namespace?: string } } }).spec.resourceAttributes.namespace,
    );
  });
  const anna = () => kubernetesAccess(client).signIn({ token: 'a' });

  expect(await (await anna())?.readable()).toEqual(new Set(names.filter((name) => name !== names[7])));
  expect(most).toBe(16);

  fails = true;
  const before = client.requests.length;
  await expect((await anna())?.readable()).rejects.toThrow('status 500');
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
  expect(client.requests.length - before).toBeLessThan(100);
});
