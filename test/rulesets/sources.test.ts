/** Sources of the configuration against a server that does what servers do, with a secret that must be nowhere. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { requestOf, type RuleSource } from '../../agent/rulesets/sources.ts';
import {
  findVersion,
  installedSet,
  isPinned,
  RefusedError,
  releasePin,
  rollBack,
  updateSet,
  type UpdateOptions,
  type UpdateResult,
} from '../../agent/rulesets/update.ts';
import { createAuthority } from '../support/certificates.ts';
import { serveLoopback, type Loopback } from '../support/loopback.ts';

const SECRET = 'hunter/two+ok';
const rules = (...sids: number[]): string =>
  sids.map((sid) => `alert tcp any any -> any any ( msg:"rule"; sid:${sid}; )\n`).join('');
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

type Answer = (response: ServerResponse, asked: IncomingMessage) => void;

let directory: string;
let server: Loopback;
let base: string;
let answer: Answer;
let asked: IncomingMessage[];
/** All that was said or thrown. */
let said: string[];

beforeAll(async () => {
  server = await serveLoopback((message, response) => {
    asked.push(message);
    answer(response, message);
  });
  ({ base } = server);
});
afterAll(() => server.close());
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sources-'));
  writeFileSync(join(directory, 'code'), `${SECRET}\n`);
  asked = [];
  said = [];
});
afterEach(() => {
  for (const [place, text] of [...allFiles(), ...said.map((each) => ['what was said', each] as const)]) {
    for (const form of [SECRET, encodeURIComponent(SECRET)]) {
      if (text.includes(form)) throw new Error(`the secret is in ${place}`);
    }
  }
  rmSync(directory, { recursive: true, force: true });
});

const rulesDirectory = (): string => join(directory, 'rules');

function allFiles(): (readonly [string, string])[] {
  if (!existsSync(rulesDirectory())) return [];
  return readdirSync(rulesDirectory(), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => [join(parentPath, name), readFileSync(join(parentPath, name), 'utf8')]);
}

const source = (more: Partial<RuleSource> = {}): RuleSource => ({
  name: 'paid',
  url: `${base}/{secret}/a.rules?code={secret}`,
  secretFile: join(directory, 'code'),
  every: 60_000,
  secretHeader: 'Authorization',
  maxBytes: 1 << 20,
  timeout: 60_000,
  ...more,
});

let minute = 0;
async function update(from: RuleSource = source(), options: Partial<UpdateOptions> = {}): Promise<UpdateResult> {
  try {
    const result = await updateSet({
      ...(await requestOf(from, undefined)),
      rulesDirectory: rulesDirectory(),
      userAgent: 'test',
      now: () => new Date(Date.UTC(2026, 0, 1, 0, minute++)),
      ...options,
    });
    said.push(JSON.stringify(result));
    return result;
  } catch (error) {
    said.push(String(error), JSON.stringify(error, Object.getOwnPropertyNames(error)));
    throw error;
  }
}

/** Of an update that fails, and leaves all as it was. */
async function failure(from?: RuleSource, options?: Partial<UpdateOptions>): Promise<string> {
  const before = installed();
  const error: unknown = await update(from, options).then(
    () => new Error('no error'),
    (caught: unknown) => caught,
  );
  expect(installed()).toBe(before);
  const versions = join(rulesDirectory(), '.versions/paid');
  expect(existsSync(versions) ? readdirSync(versions).filter((name) => name.startsWith('.new')) : []).toEqual([]);
  return error instanceof Error ? error.message : String(error);
}

function installed(): string | undefined {
  const file = join(rulesDirectory(), 'paid/a.rules');
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

const serving =
  (text: string | Buffer, headers: Record<string, string> = {}): Answer =>
  (response, { url = '' }) => {
    if (/\.(?:sha256|md5)/.test(url)) response.writeHead(404).end();
    else response.writeHead(200, headers).end(text);
  };

describe('the secret', () => {
  test('goes into the URL, and is read anew each time', async () => {
    answer = serving(rules(1));
    const { source: where } = await update();
    expect(asked[0]?.url).toBe(`/${encodeURIComponent(SECRET)}/a.rules?code=${encodeURIComponent(SECRET)}`);
    expect(where).toBe(`${base}/{secret}/a.rules?code=***`);
    writeFileSync(join(directory, 'code'), 'another-one');
    await update();
    expect(asked.at(-1)?.url).toContain('/another-one/');
  });

  test.each([
    ['Authorization', 'authorization', `Bearer ${SECRET}`],
    ['X-Token', 'x-token', SECRET],
  ])('goes into the header %s, and to no other server', async (secretHeader, name, value) => {
    const there: (string | string[] | undefined)[] = [];
    const other = createServer((message, response) => {
      there.push(message.headers[name]);
      response.end(rules(2));
    });
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const location = `http://127.0.0.1:${(other.address() as AddressInfo).port}/a.rules`;
    answer = (response, { url = '' }) =>
      url.startsWith('/a.rules.') ? response.writeHead(404).end() : response.writeHead(302, { location }).end();
    await update(source({ url: `${base}/a.rules`, secretHeader })).finally(() => {
      other.closeAllConnections();
      other.close();
    });
    expect(asked[0]?.headers[name]).toBe(value);
    expect(there).toEqual([undefined]);
  });

  test.each([
    ['missing', undefined, /cannot read the secret in .*code: ENOENT/],
    ['too short', 'short', /expected a secret of 8 to 1024 characters/],
    ['of two lines', `${SECRET}\n${SECRET}`, /expected a secret of 8 to 1024 characters/],
    ['too long', 'x'.repeat(2000), /is larger than 1024 bytes/],
  ])('%s, is said without it', async (_, content, message) => {
    if (content === undefined) rmSync(join(directory, 'code'));
    else writeFileSync(join(directory, 'code'), content);
    expect(await failure()).toMatch(message);
    expect(asked).toEqual([]);
  });

  test('that a server says again is in nothing', async () => {
    const echo = (status: number, location?: string): Answer => {
      return (response, { url = '' }) =>
        response
          .writeHead(status, { etag: `"${SECRET}"`, ...(location === undefined ? {} : { location: location + url }) })
          .end(SECRET);
    };
    for (const [status, location] of [
      [401],
      [403],
      [404],
      [500],
      [302, `ftp://example/${SECRET}`],
      [302, 'http://127.0.0.1:1'],
      [302, `file:///${SECRET}`],
      [302, `http://${'x'.repeat(280)}`],
    ] as [number, string?][]) {
      answer = echo(status, location);
      expect(await failure()).not.toBe('no error');
    }
    expect(await failure(source({ url: `http://127.0.0.1:1/{secret}` }))).toContain('ECONNREFUSED');
    answer = serving(rules(1), { etag: `"${SECRET}"`, 'last-modified': 'Sun, 01 Mar 2026 00:00:00 GMT' });
    await update();
    answer = serving(`${rules(2)}${SECRET} is no rule\n`);
    expect(await failure(source({ checksum: '0'.repeat(64) }))).toContain('expected 0000');
    await rollBack(rulesDirectory(), 'paid').catch((error: unknown) => said.push(String(error)));
  });
});

describe('what a server may do', () => {
  beforeEach(async () => {
    answer = serving(rules(1));
    await update();
    asked = [];
  });

  test.each([
    [
      'be slow',
      (response: ServerResponse) => void response.writeHead(200).write(rules(2)),
      { timeout: 300 },
      'was not there after 300 ms',
    ],
    ['never answer', () => undefined, { timeout: 300 }, 'was not there after 300 ms'],
    [
      'be endless',
      (response: ServerResponse) => {
        const more = (): void =>
          void (response.destroyed || response.write(Buffer.alloc(65_536, 'x'), () => setImmediate(more)));
        response.writeHead(200);
        more();
      },
      {},
      'is larger than 1048576 bytes',
    ],
    [
      'say that it has 1 GB',
      (r: ServerResponse) => void r.writeHead(200, { 'content-length': 1 << 30 }).write('x'),
      {},
      'is larger than 1048576 bytes',
    ],
    [
      'be truncated',
      (r: ServerResponse) => void r.writeHead(200, { 'content-length': 1000 }).write(rules(2), () => r.destroy()),
      {},
      '/a.rules?code=***: ',
    ],
    [
      'send half of a gzip file',
      (r: ServerResponse) => void r.end(gzipSync(rules(2)).subarray(0, 30)),
      {},
      'no whole gzip file',
    ],
    [
      'not take the secret',
      (r: ServerResponse) => void r.writeHead(401).end(),
      {},
      'status 401: it does not take the secret',
    ],
    ['forbid it', (r: ServerResponse) => void r.writeHead(403).end(), {}, 'status 403: it does not take the secret'],
    [
      'send a bomb',
      (r: ServerResponse) => void r.end(gzipSync(Buffer.alloc(300 << 20), { level: 9 })),
      {},
      'unpacks to more than',
    ],
    ['send a page', (r: ServerResponse) => void r.end('<html>sign in</html>'), {}, 'is it a web page?'],
    [
      'say 304 to whoever did not ask',
      (r: ServerResponse) => void r.writeHead(304).end(),
      {},
      'answered with status 304',
    ],
  ])(
    '%s, and all stays as it was',
    async (_, does, more, message) => {
      answer = (response, asking) =>
        /\.(?:sha256|md5)\?/.test(asking.url ?? '') ? response.writeHead(404).end() : does(response);
      expect(await failure(source(more))).toContain(message);
      expect(installed()).toBe(rules(1));
    },
    30_000,
  );

  test('lead away from https, which is not followed', async () => {
    const authority = createAuthority(join(directory, 'ca'));
    const { key, certificate } = authority.issue('localhost');
    const secure = createTlsServer({ key, cert: certificate }, (message, response) => {
      if (message.url?.startsWith('/on') === true) response.writeHead(302, { location: `${base}${message.url}` }).end();
      else serving(rules(3))(response, message);
    });
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
    const url = `https://127.0.0.1:${(secure.address() as AddressInfo).port}`;
    const caFile = authority.file;
    expect(await failure(source({ url: `${url}/on/{secret}`, caFile }))).toContain('leads away from https, to http:');
    expect(asked).toEqual([]);
    expect(await failure(source({ url: `${url}/{secret}/a.rules` }))).toContain('certificate');
    expect(await failure(source({ url: `${url}/{secret}/a.rules`, caFile: '/no/ca' }))).toContain(
      'cannot read caFile /no/ca',
    );
    expect((await update(source({ url: `${url}/{secret}/a.rules`, caFile }))).changed).toBe(true);
    secure.closeAllConnections();
    secure.close();
  });

  test('change between the file and its checksum: neither is used, and the next look has both', async () => {
    let now = 2;
    const from = source({ checksum: `${base}/sums/{secret}` });
    answer = (response, { url = '' }) => {
      // Somebody publishes while it is downloaded.
      response.end(url.startsWith('/sums') ? `${sha256(rules(now))}  a.rules\n` : rules(now++));
    };
    expect(await failure(from)).toMatch(/its sha256 is .*, expected .* \(.*\/sums\/\{secret\}\): nothing was changed/);
    answer = (response, { url = '' }) => response.end(url.startsWith('/sums') ? sha256(rules(9)) : rules(9));
    expect(await update(from)).toMatchObject({ changed: true, verified: 'sha256' });
    answer = (response, { url = '' }) => response.end(url.startsWith('/sums') ? 'none' : rules(10));
    expect(await failure(from)).toContain('has no sha256 and no md5');
  });

  test.each([
    ['etag', { etag: '"one"' }, 'if-none-match', '"one"'],
    [
      'last-modified',
      { 'last-modified': 'Sun, 01 Mar 2026 00:00:00 GMT' },
      'if-modified-since',
      'Sun, 01 Mar 2026 00:00:00 GMT',
    ],
  ] as const)('say by %s that it has nothing new', async (_, headers, condition, value) => {
    answer = serving(rules(4), headers);
    await update();
    answer = (response) => response.writeHead(304).end();
    expect(await update()).toMatchObject({ changed: false, rules: 1 });
    expect(asked.at(-1)?.headers[condition]).toBe(value);
    // What it says of one place says nothing of another.
    answer = serving(rules(5));
    await update(source({ url: `${base}/elsewhere/{secret}/a.rules` }));
    expect(asked.at(-3)?.headers[condition]).toBeUndefined();
  });
});

describe('a version that is refused', () => {
  beforeEach(async () => {
    answer = serving(rules(1));
    await update();
    answer = serving(rules(2), { etag: '"two"' });
  });
  const check = async (): Promise<void> => {
    throw new RefusedError('the engine says no');
  };

  test('is not tried again until it is another one, or somebody asks for it', async () => {
    expect(await failure(undefined, { check })).toBe('the engine says no');
    expect(await failure()).toBe('the engine says no');
    expect(asked.findLast(({ url }) => url?.includes('/a.rules?') === true)?.headers['if-none-match']).toBe('"two"');
    answer = (response) => response.writeHead(304).end();
    expect(await failure()).toBe('the engine says no');
    answer = serving(rules(2));
    expect((await update(undefined, { again: true })).changed).toBe(true);
    answer = serving(rules(3));
    expect((await update()).changed).toBe(true);
  });

  test('by the lanes goes, and the two before it are still there', async () => {
    await update();
    answer = serving(rules(3));
    const seen: (string | undefined)[] = [];
    const prove = async (): Promise<string | undefined> => {
      seen.push(installed());
      return seen.length === 1 ? 'no canary came back' : undefined;
    };
    await expect(update(undefined, { prove })).rejects.toThrow(RefusedError);
    // Lanes are told of what came back too.
    expect(seen).toEqual([rules(3), rules(2)]);
    expect(readdirSync(join(rulesDirectory(), '.versions/paid')).filter((name) => !name.startsWith('.'))).toHaveLength(
      2,
    );
    await rollBack(rulesDirectory(), 'paid');
    expect(installed()).toBe(rules(1));
  });

  test('as the first of its set leaves no set', async () => {
    const first = { set: 'fresh', prove: async () => 'no canary came back' };
    await expect(update(undefined, first)).rejects.toThrow('no canary');
    expect(existsSync(join(rulesDirectory(), 'fresh'))).toBe(false);
    expect(await installedSet(rulesDirectory(), 'fresh')).toBeUndefined();
  });
});

test('what was rolled back is pinned until it is released', async () => {
  for (const sid of [1, 2]) {
    answer = serving(rules(sid));
    await update();
  }
  const { version } = await rollBack(rulesDirectory(), 'paid');
  expect(await isPinned(rulesDirectory(), 'paid')).toBe(true);
  // Also an update that was under way.
  answer = serving(rules(3));
  expect(await failure()).toContain('paid was rolled back meanwhile');
  expect(await findVersion(rulesDirectory(), 'paid', version.slice(0, 16))).toContain(version);
  expect(await findVersion(rulesDirectory(), 'paid', 'previous')).not.toContain(version);
  await expect(findVersion(rulesDirectory(), 'paid', '1999')).rejects.toThrow(
    'there is no version 1999 of paid; there is: 2026',
  );
  expect([await releasePin(rulesDirectory(), 'paid'), await releasePin(rulesDirectory(), 'paid')]).toEqual([
    true,
    false,
  ]);
});

describe('where presets are', () => {
  const suricata = { name: 'suricata', version: '7.0.10' } as const;
  const snort = { name: 'snort', version: '3.12.2.0' } as const;
  const at = async (more: Partial<RuleSource>, install: typeof suricata | typeof snort): Promise<string> => {
    const { url: _, ...rest } = source();
    return (await requestOf({ ...rest, ...more }, install)).from;
  };

  test.each([
    [{ preset: 'snort3-community' }, snort, 'https://www.snort.org/downloads/community/snort3-community-rules.tar.gz'],
    [
      { preset: 'snort3-registered' },
      snort,
      'https://www.snort.org/rules/snortrules-snapshot-31470.tar.gz?oinkcode={secret}',
    ],
    [
      { preset: 'snort3-subscriber', version: '31350' },
      suricata,
      'https://www.snort.org/rules/snortrules-snapshot-31350.tar.gz?oinkcode={secret}',
    ],
    [{ preset: 'et-open' }, suricata, 'https://rules.emergingthreats.net/open/suricata-7.0.10/emerging.rules.tar.gz'],
    [{ preset: 'et-open' }, snort, 'https://rules.emergingthreats.net/open/suricata-7.0.3/emerging.rules.tar.gz'],
    [
      { preset: 'et-pro' },
      suricata,
      'https://rules.emergingthreatspro.com/{secret}/suricata-7.0.10/etpro.rules.tar.gz',
    ],
    [
      { preset: 'et-open', mirror: 'https://mirror.example/et/' },
      suricata,
      'https://mirror.example/et/open/suricata-7.0.10/emerging.rules.tar.gz',
    ],
    [{ url: 'https://own.example/{version}/x.rules' }, suricata, 'https://own.example/7.0.10/x.rules'],
    [{ file: '/srv/x.tar.gz' }, snort, '/srv/x.tar.gz'],
  ] as const)('%j', async (more, install, expected) => {
    expect(await at(more, install)).toBe(expected);
  });
});

test('the proxy of a source is the way to it, whatever the environment says', async () => {
  const seen: (string | undefined)[] = [];
  const proxy = createServer(({ url }, response) => {
    seen.push(url);
    if (/\.(?:sha256|md5)/.test(url ?? '')) response.writeHead(404).end();
    else response.end(rules(8));
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const at = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  const { secretFile: _, ...open } = source({ url: 'http://rules.invalid/a.rules', proxy: at });
  const before = process.env['no_proxy'];
  process.env['no_proxy'] = '*';
  try {
    expect(await update(open)).toMatchObject({ rules: 1 });
    expect(seen[0]).toBe('http://rules.invalid/a.rules');
  } finally {
    if (before === undefined) delete process.env['no_proxy'];
    else process.env['no_proxy'] = before;
    proxy.closeAllConnections();
    proxy.close();
  }
});

test('a file of this machine is a source too', async () => {
  mkdirSync(rulesDirectory());
  writeFileSync(join(directory, 'own.rules'), rules(7));
  const { url: _, secretFile: __, ...rest } = source();
  expect(await update({ ...rest, file: join(directory, 'own.rules') })).toMatchObject({ rules: 1, changed: true });
});
