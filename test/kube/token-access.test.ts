/** What the server makes of the API server's answers; ruleserver.kubernetes.test.ts has real ones. */
import { describe, expect, test } from '@jest/globals';
import type { ApiClient } from '../../agent/kube/api.ts';
import { BusyError, createAccess } from '../../agent/kube/token-access.ts';

const AUDIENCE = 'dpi-agent-rule-server';
const agent = {
  authenticated: true,
  audiences: [AUDIENCE],
  user: {
    username: 'system:serviceaccount:tigera-dpi:tigera-dpi',
    extra: { 'authentication.kubernetes.io/node-name': ['n1'] },
  },
};

function accessTo(answer: (spec: { token: string; audiences: string[] }) => unknown) {
  let now = 0;
  const asked: string[] = [];
  const create = async (_: string, { spec }: { spec: { token: string; audiences: string[] } }): Promise<unknown> => {
    asked.push(spec.token);
    return { status: await answer(spec) };
  };
  const client = { create } as unknown as ApiClient;
  const access = createAccess(client, {
    audience: AUDIENCE,
    serviceAccounts: ['tigera-dpi/tigera-dpi'],
    now: () => now,
  });
  return { access, asked, pass: (millis: number) => (now += millis) };
}

describe('who may have rules', () => {
  test('is who the API server says that it is, on the node of its pod', async () => {
    const { access } = accessTo(({ audiences }) => (audiences[0] === AUDIENCE ? agent : {}));
    expect(await access('token-1')).toEqual({ is: 'agent', node: 'n1' });
  });

  test.each([
    ['is not authenticated', { authenticated: false, error: 'bad token-1 \u001b[2J' }, 'unknown'],
    ['is for no audience', { ...agent, audiences: undefined }, 'unknown'],
    ['is for another audience', { ...agent, audiences: ['x'] }, 'unknown'],
    ['is a user', { ...agent, user: { username: 'tigera-dpi' } }, 'other'],
    ['is of another namespace', { ...agent, user: { username: 'system:serviceaccount:x:tigera-dpi' } }, 'other'],
    ['is nonsense', 7, 'unknown'],
  ])('is not whose token %s', async (_, status, is) => {
    const { access } = accessTo(() => status);
    const caller = await access('token-1');
    expect(caller.is).toBe(is);
    expect(JSON.stringify(caller)).not.toMatch(/token-1|u001b/);
  });

  test('is remembered for ten minutes, and who may not for one', async () => {
    const { access, asked, pass } = accessTo(({ token }) => (token === 'good' ? agent : {}));
    const both = async (): Promise<void> => {
      await access('good');
      await access('bad');
    };
    await both();
    pass(59_000);
    await both();
    expect(asked).toEqual(['good', 'bad']);
    pass(2_000);
    await both();
    expect(asked).toEqual(['good', 'bad', 'bad']);
    pass(600_000);
    await both();
    expect(asked).toEqual(['good', 'bad', 'bad', 'good', 'bad']);
  });

  test('is asked once for all that wait, and what fails is asked again', async () => {
    let fails = true;
    const { access, asked } = accessTo(() => (fails ? Promise.reject(new Error('away')) : agent));
    const answers = await Promise.allSettled([access('good'), access('good')]);
    expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    fails = false;
    expect((await access('good')).is).toBe('agent');
    expect(asked).toHaveLength(2);
  });

  test('is told to come again where too many come', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const { access } = accessTo(() => held.then(() => agent));
    const all = Array.from({ length: 400 }, (_, index) => access(`token-${index}`));
    const settled = Promise.allSettled(all);
    await expect(access('token-one-more')).rejects.toThrow(BusyError);
    release();
    const failed = (await settled).filter(({ status }) => status === 'rejected');
    expect(failed.length).toBe(400 - 16 - 256);
  });

  test('is not asked about what can be no token', async () => {
    const { access, asked } = accessTo(() => agent);
    for (const text of ['a b', 'ü', 'x'.repeat(20_000)]) expect((await access(text)).is).toBe('unknown');
    expect(asked).toEqual([]);
  });
});
