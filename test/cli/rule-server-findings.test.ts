/** What `check` says of the rule server. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkRuleServer } from '../../agent/cli/rule-server-findings.ts';

let directory: string;
let server: Server;
let answer: { status: number; body: object };

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dpi-findings-'));
  writeFileSync(join(directory, 'token'), 'a-token-of-a-pod');
  answer = { status: 200, body: { sets: [] } };
  server = createServer((_, response) => {
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(JSON.stringify(answer.body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(() => {
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

const findings = (more: object = {}) =>
  checkRuleServer({
    ruleSets: ['kubernetes', 'shared'],
    ruleServer: {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      tokenFile: join(directory, 'token'),
      every: 60_000,
      maxBytes: 1_000,
      timeout: 1_000,
      ...more,
    },
  });

test('nothing where none is followed', async () => {
  expect(await findings({ url: undefined })).toEqual([]);
});

test('that it answers, that a version is stopped, and which sets it lacks', async () => {
  const target = { version: 'v1', state: 'stopped', node: 'n1', reason: 'no \u001b[2Jcanary' };
  answer.body = { sets: [{ set: 'own', target }] };
  expect(await findings()).toEqual([
    expect.objectContaining({ level: 'ok', message: expect.stringContaining('takes the token: 1 set') }),
    expect.objectContaining({ level: 'warning', message: expect.stringContaining('on node n1: no canary') }),
    expect.objectContaining({ level: 'info', message: 'it does not serve shared of ruleSets' }),
  ]);
});

test.each<[number, object, RegExp]>([
  [
    401,
    { error: 'the API server does not know it' },
    /\(401\): the API server does not know it: .*ruleServing\.audience/,
  ],
  [403, { error: 'x is none' }, /\(403\): x is none: .*ruleServing\.serviceAccounts/],
  [503, {}, /answered with status 503/],
])('what to do about %i', async (status, body, message) => {
  answer = { status, body };
  expect(await findings()).toEqual([
    expect.objectContaining({ level: 'error', subject: 'rule server', message: expect.stringMatching(message) }),
  ]);
});

test('that it can not be reached, or the token not be read', async () => {
  expect(await findings({ url: 'http://127.0.0.1:1' })).toMatchObject([
    { level: 'error', message: expect.stringMatching(/ECONNREFUSED.*look whether its pod runs/) },
  ]);
  expect(await findings({ tokenFile: join(directory, 'none') })).toMatchObject([
    { level: 'error', message: expect.stringMatching(/cannot read the secret in .*none: ENOENT/) },
  ]);
});
