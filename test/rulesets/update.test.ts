/** Updates from a server, through a proxy, and from files; and archives that try to do harm. */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { pack, type Header } from 'tar-stream';
import {
  installedSet,
  rollBack,
  updateSet,
  type UpdateOptions,
  type UpdateResult,
} from '../../agent/rulesets/update.ts';
import { serveLoopback, type Loopback } from '../support/loopback.ts';

const rules = (...sids: number[]): string =>
  sids.map((sid) => `alert tcp any any -> any any ( msg:"rule"; sid:${sid}; )\n`).join('');
const digest = (algorithm: string, bytes: Buffer | string): string => createHash(algorithm).update(bytes).digest('hex');

async function tarball(entries: (Partial<Header> & { name: string; text?: string })[]): Promise<Buffer> {
  const archive = pack();
  for (const { text = '', ...header } of entries) archive.entry({ ...header }, text);
  archive.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of archive as AsyncIterable<Buffer>) chunks.push(chunk);
  return gzipSync(Buffer.concat(chunks));
}

let directory: string;
let server: Loopback;
let base: string;
/** By path; what is not there is 404. */
const answers = new Map<string, Buffer | string | ((response: ServerResponse) => void)>();
const asked: string[] = [];

beforeAll(async () => {
  server = await serveLoopback(({ url = '' }, response) => {
    asked.push(url);
    const answer = answers.get(url);
    if (answer === undefined) response.writeHead(404).end('<html>not here</html>');
    else if (typeof answer === 'function') answer(response);
    else response.writeHead(200, { 'content-length': Buffer.byteLength(answer) }).end(answer);
  });
  ({ base } = server);
});
afterAll(() => server.close());
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'update-'));
  answers.clear();
  asked.length = 0;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

let minute = 0;
function update(from: string, options: Partial<UpdateOptions> = {}): Promise<UpdateResult> {
  return updateSet({
    rulesDirectory: directory,
    set: 'community',
    from: from.startsWith('/') && !existsSync(from) ? `${base}${from}` : from,
    maxBytes: 1 << 20,
    timeoutMillis: 60_000,
    userAgent: 'test',
    now: () => new Date(Date.UTC(2026, 0, 1, 0, minute++)),
    ...options,
  });
}

const installed = (): string => readFileSync(join(directory, 'community/a.rules'), 'utf8');
/** What is left of an update that failed. */
const leftovers = (): string[] => {
  const versions = join(directory, '.versions/community');
  return existsSync(versions) ? readdirSync(versions).filter((name) => name.startsWith('.new')) : [];
};

async function failure(from: string, options: Partial<UpdateOptions> = {}): Promise<string> {
  const error: unknown = await update(from, options).then(
    (result) => new Error(`no error: ${JSON.stringify(result)}`),
    (caught: unknown) => caught,
  );
  expect(leftovers()).toEqual([]);
  return error instanceof Error ? error.message : String(error);
}

describe('what is taken', () => {
  test('of an archive, its rule files and what explains them, wherever they lie in it', async () => {
    answers.set(
      '/x.tar.gz',
      await tarball([
        { name: 'deep/', type: 'directory' },
        { name: 'deep/a.rules', text: rules(1, 2) },
        { name: './deep/LICENSE', text: 'GPL' },
        { name: 'deep/classification.config', text: 'config classification: own,Own,1' },
        { name: 'deep/sid-msg.map', text: 'x' },
        { name: 'deep/run.sh', text: 'x', mode: 0o755 },
        { name: 'deep/.hidden.rules', text: rules(9) },
        { name: 'evil', type: 'symlink', linkname: '/etc/passwd' },
      ]),
    );
    expect(await update('/x.tar.gz')).toMatchObject({ rules: 2, problems: 0, verified: 'none', changed: true });
    expect(readdirSync(join(directory, 'community')).toSorted()).toEqual([
      'LICENSE',
      'a.rules',
      'classification.config',
      'version.json',
    ]);
    expect(installed()).toBe(rules(1, 2));
  });

  test.each(['a.rules', 'a.rules.gz'])('%s, from the server as well as from a file', async (name) => {
    const bytes = name.endsWith('.gz') ? gzipSync(rules(1)) : Buffer.from(rules(1));
    answers.set(`/${name}`, bytes);
    expect((await update(`/${name}`)).rules).toBe(1);
    expect(installed()).toBe(rules(1));
    writeFileSync(join(directory, name), bytes);
    expect((await update(join(directory, name))).changed).toBe(false);
  });
});

describe('versions', () => {
  test('the one before is kept, and gone back to, and forward again', async () => {
    for (const sid of [1, 2, 3]) {
      answers.set('/a.rules', rules(sid));
      await update('/a.rules');
    }
    const versions = readdirSync(join(directory, '.versions/community')).filter((name) => !name.startsWith('.'));
    expect(versions).toHaveLength(2);
    expect(readlinkSync(join(directory, 'community'))).toMatch(/^\.versions\/community\/2026/);
    expect([installed(), (await rollBack(directory, 'community')).rules, installed()]).toEqual([rules(3), 1, rules(2)]);
    expect((await installedSet(directory, 'community'))?.source).toBe(`${base}/a.rules`);
    await rollBack(directory, 'community');
    expect(installed()).toBe(rules(3));
    await expect(rollBack(directory, 'other')).rejects.toThrow('no other version of other is kept');
  });

  test('the same bytes again change nothing', async () => {
    answers.set('/a.rules', rules(1));
    const first = await update('/a.rules');
    expect(await update('/a.rules')).toEqual({ ...first, changed: false });
  });

  test('one that fails its check, is wrong, or interrupted does not go live', async () => {
    answers.set('/a.rules', rules(1));
    await update('/a.rules');
    answers.set('/a.rules', rules(2));
    const seen: string[] = [];
    expect(
      await failure('/a.rules', {
        check: async (folder) => {
          seen.push(readFileSync(join(folder, 'a.rules'), 'utf8'));
          throw new Error('the engine says no');
        },
      }),
    ).toContain('the engine says no');
    expect(seen).toEqual([rules(2)]);
    const stop = new AbortController();
    expect(await failure('/a.rules', { signal: stop.signal, onProgress: () => stop.abort() })).toContain(
      'was interrupted',
    );
    expect(installed()).toBe(rules(1));
  });

  test('a folder that somebody else made stays', async () => {
    mkdirSync(join(directory, 'community'));
    answers.set('/a.rules', rules(1));
    expect(await failure('/a.rules')).toContain('is no link to a downloaded version: move it away');
    expect(asked).toEqual([]);
  });
});

describe('checksums', () => {
  const bytes = Buffer.from(rules(1));

  test.each(['sha256', 'md5'] as const)('a %s that is published beside it is checked', async (algorithm) => {
    answers.set('/a.rules', bytes);
    answers.set(`/a.rules.${algorithm}`, `${digest(algorithm, bytes).toUpperCase()}  a.rules\n`);
    expect((await update('/a.rules')).verified).toBe(algorithm);
    answers.set('/a.rules', rules(2));
    const wrong = await failure('/a.rules');
    expect(wrong).toContain(`its ${algorithm} is ${digest(algorithm, rules(2))}, expected ${digest(algorithm, bytes)}`);
    expect(installed()).toBe(rules(1));
  });

  test('a page that is none is none', async () => {
    answers.set('/a.rules', bytes);
    answers.set('/a.rules.sha256', `<html>${'x'.repeat(10_000)}</html>`);
    expect((await update('/a.rules')).verified).toBe('none');
  });

  test('one that is given counts alone', async () => {
    answers.set('/a.rules', bytes);
    answers.set('/a.rules.sha256', '0'.repeat(64));
    expect((await update('/a.rules', { checksum: `md5:${digest('md5', bytes)}` })).verified).toBe('md5');
    expect(await failure('/a.rules', { checksum: '0'.repeat(64) })).toContain('(--checksum)');
    expect(await failure('/a.rules', { checksum: 'md5:12' })).toContain('flag --checksum: md5:12: expected sha256:');
  });
});

describe('a secret in a URL', () => {
  const SECRET = 'a1b2c3d4e5f6a7b8';
  const paths = [`/x.rules?oinkcode=${SECRET}`, `/${SECRET}/x.rules`];

  test.each(paths)('is sent, and is in no file, result or message: %s', async (path) => {
    answers.set(path, rules(1));
    expect((await update(path)).source).not.toContain(SECRET);
    expect(asked).toContain(path);
    expect(readFileSync(join(directory, 'community/version.json'), 'utf8')).not.toContain(SECRET);
    expect((await installedSet(directory, 'community'))?.source).toBe(`${base}${path.replace(SECRET, '***')}`);
    answers.set(path, (r) => r.writeHead(403).end());
    const messages = [
      await failure(path),
      await failure(`http://127.0.0.1:1${path}`),
      await failure(`http://[bad${path}`),
      await failure(`ftp://x${path}`),
      await failure(path, { checksum: '0'.repeat(64) }),
    ];
    answers.set(path, rules(2));
    answers.set(path.replace('.rules', '.rules.md5'), digest('md5', 'else'));
    messages.push(await failure(path));
    answers.set('/on', (r) => r.writeHead(302, { location: path }).end());
    answers.set(path, (r) => r.writeHead(302, { location: `file://${path}` }).end());
    messages.push(await failure('/on'));
    for (const message of messages) {
      expect(message).toContain('***');
      expect(message).not.toContain(SECRET);
    }
  });

  test('that an earlier agent wrote down is not shown', async () => {
    answers.set('/a.rules', rules(1));
    const { directory: folder } = await update('/a.rules');
    const file = join(folder, 'version.json');
    const before = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, JSON.stringify({ ...before, source: `${base}/x.rules?oinkcode=${SECRET}` }));
    expect((await installedSet(directory, 'community'))?.source).toBe(`${base}/x.rules?oinkcode=***`);
  });
});

describe('what a server may do', () => {
  const answering = (
    answer: (response: ServerResponse) => void,
    options: Partial<UpdateOptions> = {},
  ): Promise<string> => {
    answers.set('/a.rules', answer);
    return failure('/a.rules', options);
  };

  test('not be there, or not have it', async () => {
    expect(await failure('/no.rules')).toBe(`${base}/no.rules: answered with status 404`);
    expect(await failure('http://127.0.0.1:1/a.rules')).toContain('ECONNREFUSED');
    expect(await failure('ftp://x/a.rules')).toContain('expected a URL with http or https, or a file');
    expect(await failure('http://u:p@x/a.rules')).toContain('must not have a user');
    expect(await failure('no/such.file')).toContain('no such file');
  });

  test('end too early', async () => {
    const message = await answering((response) => {
      response.writeHead(200, { 'content-length': 1000 });
      response.write(rules(1), () => response.destroy());
    });
    expect(message).toContain(`${base}/a.rules: `);
    expect(message).not.toContain('no error');
  });

  test('send too much, whether it says so or not', async () => {
    const much = 'x'.repeat(5000);
    const wanted = 'is larger than 4000 bytes';
    expect(
      await answering((r) => r.writeHead(200, { 'content-length': 5000 }).end(much), { maxBytes: 4000 }),
    ).toContain(wanted);
    expect(await answering((r) => void r.writeHead(200).end(much), { maxBytes: 4000 })).toContain(wanted);
  });

  test('never end, or never begin', async () => {
    const wanted = 'was not there after 300 ms';
    expect(await answering((r) => void r.writeHead(200).write(rules(1)), { timeoutMillis: 300 })).toContain(wanted);
    expect(await answering(() => undefined, { timeoutMillis: 300 })).toContain(wanted);
  });

  test('lead on, but not for ever, nor to what is no web page', async () => {
    answers.set('/b.rules', rules(1));
    answers.set('/a.rules', (r) => r.writeHead(302, { location: '/b.rules' }).end());
    expect((await update('/a.rules')).rules).toBe(1);
    expect(await answering((r) => r.writeHead(302, { location: '/a.rules' }).end())).toContain(
      'leads on more than 5 times',
    );
    expect(await answering((r) => r.writeHead(302, { location: 'file:///etc/passwd' }).end())).toContain(
      'expected a URL with http',
    );
    expect(await answering((r) => r.writeHead(302).end())).toContain('answered with status 302');
  });

  test('send a page instead of rules, or something that is hardly any', async () => {
    expect(await answering((r) => r.end('<html>hello</html>'))).toContain('has no rules: is it a web page?');
    expect(await answering((r) => r.end(rules(1) + 'x\n'.repeat(9)))).toContain(
      'has 1 rule, and 9 places that are none',
    );
  });
});

describe('what an archive may try', () => {
  const file = async (bytes: Buffer): Promise<string> => {
    const path = join(directory, 'x.tar.gz');
    writeFileSync(path, bytes);
    return path;
  };

  test.each(['../a.rules', '/etc/a.rules', 'x/../../a.rules'])('to write to %s', async (name) => {
    const path = await file(
      await tarball([
        { name: 'ok.rules', text: rules(1) },
        { name, text: rules(2) },
      ]),
    );
    expect(await failure(path)).toContain(`has an entry that leads out of it, ${name}`);
  });

  test.each(['symlink', 'link'] as const)('to be a %s', async (type) => {
    const path = await file(await tarball([{ name: 'a.rules', type, linkname: '/etc/passwd' }]));
    expect(await failure(path)).toContain(`a.rules is a ${type}, not a file`);
  });

  test('to have one name twice, more entries than it may, or end too early', async () => {
    const twice = [1, 2].map((sid) => ({ name: 'x/a.rules', text: rules(sid) }));
    expect(await failure(await file(await tarball(twice)))).toContain('has x/a.rules twice');
    // Folders, of which nothing is written.
    const many = Array.from({ length: 10_001 }, (_, index) => ({ name: `f${index}`, type: 'directory' as const }));
    expect(await failure(await file(await tarball(many)))).toContain('has more than 10000 entries');
    const whole = await tarball(twice.slice(0, 1));
    expect(await failure(await file(whole.subarray(0, whole.length - 20)))).toContain('no whole gzip file');
  });

  test('to unpack to more than there is room for', async () => {
    const bomb = gzipSync(Buffer.alloc(9 << 20), { level: 1 });
    expect(await failure(await file(bomb), { maxUnpackedBytes: 8 << 20 })).toContain('unpacks to more than');
  });
});

describe('a proxy', () => {
  let proxy: Server;
  const seen: string[] = [];
  const before = { ...process.env };
  beforeAll(async () => {
    proxy = createServer(({ url = '', headers }, response) => {
      seen.push(url);
      request(url, { headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      }).end();
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    process.env['http_proxy'] = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    delete process.env['no_proxy'];
    delete process.env['NO_PROXY'];
  });
  afterAll(() => {
    for (const name of ['http_proxy', 'no_proxy', 'NO_PROXY']) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
    proxy.closeAllConnections();
    proxy.close();
  });

  test('of the environment is used, but not for what no_proxy names', async () => {
    answers.set('/a.rules', rules(1));
    expect((await update('/a.rules')).rules).toBe(1);
    expect(seen).toContain(`${base}/a.rules`);
    process.env['no_proxy'] = '127.0.0.1';
    seen.length = 0;
    await update('/a.rules');
    expect(seen).toEqual([]);
  });
});
