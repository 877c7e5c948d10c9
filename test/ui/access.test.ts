/** Tokens with an API server whose answers are written here; test/ui/access.kubernetes.test.ts has the real one. */
import { expect, test } from '@jest/globals';
import { kubernetesAccess } from '../../agent/ui/access.ts';
import { scriptedClient } from '../kube/scripted-client.ts';

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
