import { createServer, type Server } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { createWishes, type Wishes } from '../../agent/respond/wishes.ts';

const TOKEN = 'secret-of-the-agent';

let directory: string;
let server: Server;
let url: string;
/** What it answers, in order; then 200. */
let answers: number[];
let asked: { token: string | undefined; pod: string }[];
let said: string[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'wishes-'));
  writeFileSync(join(directory, 'token'), `${TOKEN}\n`);
  [answers, asked, said] = [[], [], []];
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (part: Buffer) => (body += String(part)));
    request.on('end', () => {
      asked.push({ token: request.headers.authorization, pod: (JSON.parse(body) as { pod: string }).pod });
      response.writeHead(answers.shift() ?? 200).end(JSON.stringify({ error: `no: ${TOKEN.length}`, cut: {} }));
    });
  });
  await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

function wishesTo(to: string | undefined, now?: () => number): Wishes {
  const note = (about: unknown, message?: string): void => void said.push(`${message} ${JSON.stringify(about)}`);
  const tokenFile = join(directory, 'token');
  const log = { info: note, warn: note };
  return createWishes({ url: to, tokenFile, log, pausesMillis: [1, 1], ...(now === undefined ? {} : { now }) });
}

const wish = (pod: string) =>
  ({
    namespace: 'shop',
    pod,
    allow: 'nothing',
    forMillis: 60_000,
    reason: 'r',
    alert: 'a',
    entry: 'c2',
    dryRun: true,
  }) as const;

test('a pod is wished for once in a while, however many alerts it has', async () => {
  let millis = 0;
  const wishes = wishesTo(url, () => millis);
  for (let count = 0; count < 1000; count++) wishes.wish(wish('web-1'));
  await wishes.settled();
  expect(asked).toEqual([{ token: `Bearer ${TOKEN}`, pod: 'web-1' }]);
  millis = 600_001;
  wishes.wish(wish('web-1'));
  await wishes.settled();
  expect(asked).toHaveLength(2);
});

test('who fails is asked again a few times, who refuses is not, and the token is in no line', async () => {
  const wishes = wishesTo(url);
  answers = [503, 502];
  wishes.wish(wish('web-1'));
  await wishes.settled();
  expect(asked).toHaveLength(3);
  answers = [403];
  wishes.wish(wish('web-2'));
  await wishes.settled();
  expect(asked).toHaveLength(4);
  answers = [500, 500, 500];
  wishes.wish(wish('web-3'));
  await wishes.settled();
  expect(asked).toHaveLength(7);
  expect(said.map((line) => line.split(' {')[0])).toEqual([
    'respond: would be isolated',
    'respond: not isolated',
    'respond: not isolated',
  ]);
  expect(said.join()).not.toContain(TOKEN);
});

test('of very many pods some are left out, and said; without an address all are', async () => {
  const wishes = wishesTo(url);
  for (let count = 0; count < 100; count++) wishes.wish(wish(`web-${count}`));
  await wishes.settled();
  expect(asked.length).toBeLessThan(40);
  expect(said.filter((line) => line.includes('too many'))).toHaveLength(100 - asked.length);
  wishesTo(undefined).wish(wish('web-1'));
  expect(said.at(-1)).toContain('respond.url names nobody');
});
