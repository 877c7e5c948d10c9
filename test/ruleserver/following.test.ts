/** Nodes that follow a rule server over real TLS: its versions, and what it may do wrong. Engines are played. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request as requestOver, type Server } from 'node:https';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { pino, type Logger } from 'pino';
import type { Clock } from '../../agent/files/clock.ts';
import { followRuleServer, type FollowedServer } from '../../agent/rulesets/rule-server.ts';
import { FOLLOW_PATH } from '../../agent/rulesets/served.ts';
import { installedSet, rollBack, updateSet } from '../../agent/rulesets/update.ts';
import type { Caller } from '../../agent/kube/token-access.ts';
import { createRuleServer } from '../../agent/ruleserver/server.ts';
import { startServing, type Serving } from '../../agent/ruleserver/serving.ts';
import { createAuthority, type Authority, type Certificate } from '../support/certificates.ts';
import { poll } from '../support/poll.ts';

const TOKEN = 'token-of-an-agent';
const rule = (message: string): string => `alert tcp any any -> any any ( msg:"${message}"; sid:1; )\n`;

let directory: string;
let authority: Authority;
let certificate: Certificate;
let log: Logger;
let logged: string[];
let ends: (() => unknown)[];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpi-following-'));
  authority = createAuthority(join(directory, 'ca'));
  certificate = authority.issue('rules.test');
  logged = [];
  log = pino({ level: 'debug' }, { write: (line) => void logged.push(line) });
  ends = [];
});
afterEach(async () => {
  for (const end of ends.toReversed()) await end();
  rmSync(directory, { recursive: true, force: true });
});

/** Waits are short; how long a lease is does not matter here. */
const clock: Pick<Clock, 'now' | 'wait'> = {
  now: () => performance.now(),
  wait: (millis, signal) => sleep(Math.min(millis, 20), undefined, { signal }).catch(() => undefined),
};

interface Node {
  name: string;
  rulesDirectory: string;
  follower: FollowedServer;
  /** Versions that it was to prove, by their text. */
  proved: string[];
}

/** A node whose engine does not inspect by rules with BAD in them. */
function startNode(
  name: string,
  url: string,
  options: { token?: string; caFile?: string; clock?: Pick<Clock, 'now' | 'wait'> } = {},
): Node {
  const rulesDirectory = join(directory, name);
  const tokenFile = join(directory, `${name}.token`);
  writeFileSync(tokenFile, options.token ?? TOKEN);
  const proved: string[] = [];
  const follower = followRuleServer({
    server: {
      url,
      caFile: options.caFile ?? authority.file,
      tokenFile,
      every: 1_000,
      maxBytes: 1 << 20,
      timeout: 1_000,
    },
    node: name,
    engine: 'suricata',
    rulesDirectory,
    own: new Set(['mine']),
    isUsed: () => true,
    problemOf: () => undefined,
    update: (request, signal) =>
      updateSet({
        ...request,
        rulesDirectory,
        userAgent: 'test',
        signal,
        prove() {
          const text = rulesIn(join(rulesDirectory, request.set));
          proved.push(text);
          return Promise.resolve(text.includes('BAD') ? 'the canary is missing' : undefined);
        },
      }),
    log,
    clock: options.clock ?? clock,
    random: () => 0,
  });
  ends.push(() => follower.stop());
  return { name, rulesDirectory, follower, proved };
}

const textOn = ({ rulesDirectory }: Node): string => rulesIn(join(rulesDirectory, 'shared'));

/** The text of the only rule file of a set; empty where there is none. */
function rulesIn(set: string): string {
  const [name] = existsSync(set) ? readdirSync(set).filter((each) => each.endsWith('.rules')) : [];
  return name === undefined ? '' : readFileSync(join(set, name), 'utf8');
}

describe('nodes of a cluster', () => {
  let app: FastifyInstance;
  let serving: Serving;
  let url: string;
  let sets: string;

  beforeEach(async () => {
    sets = join(directory, 'server-sets');
    writeFileSync(join(directory, 'source.rules'), rule('first'));
    await startServer();
  });

  async function startServer(port = 0): Promise<void> {
    serving = await startServing({
      sources: [
        {
          name: 'shared',
          file: join(directory, 'source.rules'),
          every: 60_000,
          secretHeader: 'Authorization',
          maxBytes: 1 << 20,
          timeout: 10_000,
        },
      ],
      rulesDirectory: sets,
      directory: join(directory, 'served'),
      leaseMillis: 600_000,
      update: (_, check, signal) => update(check, signal),
      check: () => Promise.resolve([{ name: 'suricata', version: '7.0.10' }]),
      log,
      clock,
    });
    app = createRuleServer({
      access: (token): Promise<Caller> =>
        Promise.resolve(
          token === TOKEN
            ? { is: 'agent' }
            : token === 'token-of-another'
              ? { is: 'other', name: 'system:serviceaccount:shop:web' }
              : { is: 'unknown', why: 'the API server does not know it' },
        ),
      follow: serving.follow,
      manifest: serving.manifest,
      fileOf: serving.fileOf,
      tls: { cert: Buffer.from(certificate.certificate), key: Buffer.from(certificate.key) },
      onAnswer: () => undefined,
      log,
    });
    url = await app.listen({ host: '127.0.0.1', port });
    ends.push(stopServer);
  }

  async function stopServer(): Promise<void> {
    await app.close();
    await serving.stop();
  }

  const update = (check?: (path: string) => Promise<void>, signal?: AbortSignal) =>
    updateSet({
      set: 'shared',
      from: join(directory, 'source.rules'),
      rulesDirectory: sets,
      maxBytes: 1 << 20,
      timeoutMillis: 10_000,
      userAgent: 'test',
      ...(check === undefined ? {} : { check }),
      ...(signal === undefined ? {} : { signal }),
    });

  /** As `dpi-agent rules update` on the server. */
  async function publish(text: string): Promise<void> {
    writeFileSync(join(directory, 'source.rules'), text);
    await update();
  }

  const arrives = (text: string, ...nodes: Node[]): Promise<unknown> =>
    poll(() => nodes.every((node) => textOn(node) === text));

  test('get a version after one of them has proven it', async () => {
    const [first, second] = [startNode('n1', url), startNode('n2', url)];
    await arrives(rule('first'), first, second);
    await publish(rule('second'));
    await arrives(rule('second'), first, second);
    const versions = await Promise.all(
      [first, second].map(({ rulesDirectory }) => installedSet(rulesDirectory, 'shared')),
    );
    expect(versions[0]?.sha256).toBe(versions[1]?.sha256);
    const proofs = logged.filter((line) => line.includes('this node proves a version'));
    expect(proofs).toHaveLength(2);
    await poll(() => first.follower.sets()[0]?.state === 'current');
    expect(first.follower.status()).toMatchObject({ url, answers: true });
  });

  test('do not get one that does not inspect on the first of them, and say so', async () => {
    const [first, second] = [startNode('n1', url), startNode('n2', url)];
    await arrives(rule('first'), first, second);
    await publish(rule('BAD'));
    await poll(() =>
      Promise.resolve([first, second].every(({ follower }) => follower.conditions(['shared']).length === 1)),
    );
    expect([first, second].flatMap(({ proved }) => proved.filter((text) => text.includes('BAD')))).toHaveLength(1);
    expect([textOn(first), textOn(second)]).toEqual([rule('first'), rule('first')]);
    expect(serving.sets()).toMatchObject([{ target: { state: 'stopped', reason: 'the canary is missing' } }]);
    for (const { follower } of [first, second])
      expect(follower.conditions(['shared'])).toEqual([
        expect.stringMatching(/^rule set shared: the version before stays: .*the canary is missing/),
      ]);
    // The server left it too, and does not take it again.
    await poll(() => rulesIn(join(sets, 'shared')) === rule('first'));
    await expect(update()).rejects.toThrow('the canary is missing');
    // What comes next is tried anew.
    await publish(rule('third'));
    await arrives(rule('third'), first, second);
    await poll(() => Promise.resolve(first.follower.conditions(['shared']).length === 0));
    await poll(() => serving.sets()[0]?.target.state === 'proven');
    await rollBack(sets, 'shared');
    await arrives(rule('first'), first, second);
  });

  test('go back together when the server is rolled back, and alone when they are', async () => {
    const [first, second] = [startNode('n1', url), startNode('n2', url)];
    await arrives(rule('first'), first, second);
    await publish(rule('second'));
    await arrives(rule('second'), first, second);
    await rollBack(sets, 'shared');
    await arrives(rule('first'), first, second);
    await rollBack(first.rulesDirectory, 'shared');
    await poll(() => Promise.resolve(first.follower.sets()[0]?.state === 'pinned'));
    expect([textOn(first), textOn(second)]).toEqual([rule('second'), rule('first')]);
  });

  test('keep what they have while the server is away, say so, and go on when it is back', async () => {
    const node = startNode('n1', url);
    await arrives(rule('first'), node);
    await stopServer();
    ends.pop();
    ends.pop();
    ends.push(() => node.follower.stop());
    await poll(() => Promise.resolve(node.follower.conditions([]).length > 0));
    expect(node.follower.status()).toMatchObject({ answers: false, problem: expect.stringContaining('ECONNREFUSED') });
    expect(node.follower.conditions([])).toEqual([
      expect.stringContaining('the rules that are here stay: rule server'),
    ]);
    expect(textOn(node)).toBe(rule('first'));
    await startServer(Number(new URL(url).port));
    await publish(rule('second'));
    await arrives(rule('second'), node);
  });

  test('need not prove again what they have, when the server forgot it', async () => {
    const node = startNode('n1', url);
    await arrives(rule('first'), node);
    await poll(() => Promise.resolve(serving.sets()[0]?.target.state === 'proven'));
    await stopServer();
    ends.pop();
    ends.pop();
    ends.push(() => node.follower.stop());
    for (const lost of [sets, join(directory, 'served')]) rmSync(lost, { recursive: true });
    await startServer(Number(new URL(url).port));
    await poll(() => Promise.resolve(serving.sets()[0]?.target.state === 'proven'));
    expect(node.proved).toHaveLength(1);
  });

  test.each([
    ['is not known', 'token-of-nobody', /does not take the token in .*n1\.token \(401\).*ruleServing\.audience/],
    [
      'is of another account',
      'token-of-another',
      /\(403\): system:serviceaccount:shop:web .*ruleServing\.serviceAccounts/,
    ],
  ])('whose token %s get nothing, and are told what to do', async (_, token, message) => {
    const node = startNode('n1', url, { token });
    await poll(() => Promise.resolve(node.follower.status().problem !== undefined));
    expect(node.follower.status().problem).toMatch(message);
    expect(existsSync(join(node.rulesDirectory, 'shared'))).toBe(false);
    expect(JSON.stringify([logged, node.follower.status()])).not.toContain(token);
  });

  test('refuse a server whose certificate their authority did not sign', async () => {
    const other = createAuthority(join(directory, 'other'));
    const node = startNode('n1', url, { caFile: other.file });
    await poll(() => Promise.resolve(node.follower.status().problem !== undefined));
    expect(node.follower.status().problem).toMatch(/name the authority of its certificate in ruleServer\.caFile/);
  });

  test('get nothing without a token, and no path but those of versions', async () => {
    const authorization = `Bearer ${TOKEN}`;
    const send = (path: string, headers: Record<string, string>, body?: string): Promise<number> =>
      new Promise((resolve, reject) => {
        const options = { method: body === undefined ? 'GET' : 'POST', headers, ca: authority.pem };
        const sent = requestOver(`${url}${path}`, options, (answer) => resolve(answer.resume().statusCode ?? 0));
        sent.on('error', reject).end(body);
      });
    const statusOf = (path: string): Promise<number> => send(path, { authorization });
    expect(await send('/v1/manifest', {})).toBe(401);
    expect(await send('/health', {})).toBe(200);
    expect(await statusOf('/v1/manifest')).toBe(200);
    for (const path of ['/v1/files/..%2fstate.json', `/v1/files/${'0'.repeat(64)}`, '/v1/files/', '/state.json'])
      expect([path, await statusOf(path)]).toEqual([path, 404]);
    const ask = (payload: object): Promise<number> =>
      send(FOLLOW_PATH, { authorization, 'content-type': 'application/json' }, JSON.stringify(payload));
    const good = { node: 'n', engine: 'suricata', inspects: true, sets: {} };
    expect(await ask(good)).toBe(200);
    expect(await ask({ ...good, engine: 'other' })).toBe(400);
    expect(await ask({ ...good, sets: { '../x': { used: true, pinned: false } } })).toBe(400);
    expect(await ask({ ...good, node: 'n'.repeat(300_000) })).toBe(413);
  });
});

describe('a server that does wrong', () => {
  let server: Server;
  let url: string;
  const digest = 'c'.repeat(64);
  let offer: object;
  let onFile: (request: IncomingMessage, response: ServerResponse) => void;
  let onFollow: ((response: ServerResponse) => void) | undefined;

  beforeEach(async () => {
    offer = { digest, version: 'v1', bytes: 100_000, rules: 1, prove: false };
    onFollow = undefined;
    server = createServer({ cert: certificate.certificate, key: certificate.key }, (request, response) => {
      if (request.url !== FOLLOW_PATH) onFile(request, response);
      else if (onFollow !== undefined) onFollow(response);
      else response.end(JSON.stringify({ sets: [{ set: 'shared', take: offer }] }));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    ends.push(() => {
      server.closeAllConnections();
      server.close();
    });
  });

  /** What a node that has a version says of it, which it keeps. */
  async function refusal(): Promise<string> {
    const rulesDirectory = join(directory, 'n1');
    writeFileSync(join(directory, 'source.rules'), rule('mine'));
    await updateSet({
      set: 'shared',
      from: join(directory, 'source.rules'),
      rulesDirectory,
      maxBytes: 1 << 20,
      timeoutMillis: 10_000,
      userAgent: 'test',
    });
    const node = startNode('n1', url);
    await poll(() =>
      Promise.resolve((node.follower.sets()[0]?.problem ?? node.follower.status().problem) !== undefined),
    );
    expect(textOn(node)).toBe(rule('mine'));
    expect(node.proved).toEqual([]);
    await node.follower.stop();
    expect(readdirSync(join(rulesDirectory, '.versions/shared')).filter((name) => name.startsWith('.new'))).toEqual([]);
    return node.follower.sets()[0]?.problem ?? node.follower.status().problem ?? '';
  }

  test.each<[string, (response: ServerResponse) => void, RegExp]>([
    [
      'sends another file than it said',
      (response) => response.end(rule('other')),
      /its sha256 is [0-9a-f]{64}, expected c{64}/,
    ],
    ['never sends it', () => undefined, /was not there after 1000 ms/],
    [
      'sends without an end',
      (response) => {
        const more = (): void =>
          void (response.write('x'.repeat(65_536)) ? setImmediate(more) : response.once('drain', more));
        more();
      },
      /is larger than 100000 bytes/,
    ],
    [
      'ends too early',
      (response) => {
        response.writeHead(200, { 'content-length': 5_000 }).write('x');
        setImmediate(() => response.destroy());
      },
      /https:\/\/127\.0\.0\.1.*(?:terminated|other side closed|ended after)/,
    ],
    [
      'leads away from TLS',
      (response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      /leads away from https/,
    ],
    ['has lost it', (response) => response.writeHead(404).end(), /answered with status 404/],
  ])('and %s', async (_, answer, message) => {
    onFile = (_request, response) => answer(response);
    expect(await refusal()).toMatch(message);
    expect(logged.join('')).not.toContain(TOKEN);
  });

  test.each<[string, (response: ServerResponse) => void, RegExp]>([
    ['no JSON', (response) => response.end('<html>'), /its answer is no JSON/],
    [
      'another form',
      (response) => response.end('{"sets":[{"set":"../x"}]}'),
      /its answer is not understood \(sets\.0\.set\)/,
    ],
    ['too much', (response) => response.end(`"${'x'.repeat(2 << 20)}"`), /is larger than 1048576 bytes/],
    [
      'a redirection',
      (response) => response.writeHead(307, { location: 'https://127.0.0.1:1/' }).end(),
      /answered with status 307/,
    ],
    [
      'the token again',
      (response) => response.writeHead(500).end(JSON.stringify({ error: `bad ${TOKEN}\u001b[2J` })),
      /status 500: bad \*\*\*$/,
    ],
  ])('and answers with %s', async (_, answer, message) => {
    onFollow = answer;
    expect(await refusal()).toMatch(message);
    expect(logged.join('')).not.toContain(TOKEN);
  });

  test('and offers another version each time is not asked without a pause', async () => {
    let asked = 0;
    const next = (): string => rule(`number ${asked}`);
    onFollow = (response) => {
      asked++;
      const other = { ...offer, digest: createHash('sha256').update(next()).digest('hex') };
      response.end(JSON.stringify({ sets: [{ set: 'shared', take: other }] }));
    };
    onFile = (_, response) => response.end(next());
    let pauses = 0;
    const paused: typeof clock = {
      ...clock,
      wait(_, signal) {
        pauses++;
        return new Promise((resolve) => signal.addEventListener('abort', () => resolve()));
      },
    };
    const node = startNode('n1', url, { clock: paused });
    await poll(() => pauses > 0);
    expect({ asked, proved: node.proved.length, pauses }).toEqual({ asked: 4, proved: 4, pauses: 1 });
  });
});
