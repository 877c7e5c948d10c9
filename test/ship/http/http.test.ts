import { createHmac } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { loadConfig } from '../../../agent/config/load.ts';
import { sinkEntries } from '../../../agent/config/sinks.ts';
import { checkLink } from '../../../agent/events/acknowledgement.ts';
import { createDestination } from '../../../agent/ship/destinations.ts';
import type { Destination, SendFailure } from '../../../agent/ship/destination.ts';
import { isLinkLocal } from '../../../agent/ship/http/connect.ts';
import { afterMillis } from '../../../agent/ship/http/request.ts';
import { createAuthority } from '../../support/certificates.ts';
import { answer, startServer, type Reply, type TestServer } from './server.ts';
import { eventOf, failureOf, httpSink, itemOf, items, NEVER } from './support.ts';

const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function serve(reply?: Reply, tls?: Parameters<typeof startServer>[1]): Promise<TestServer> {
  const server = await startServer(reply, tls);
  ends.push(() => server.close());
  return server;
}

async function create(http: Record<string, unknown>, publicUrl?: string): Promise<Destination> {
  const destination = await httpSink(http, publicUrl);
  ends.push(() => destination.close());
  return destination;
}

async function folder(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'http-'));
  ends.push(() => rm(directory, { recursive: true }));
  return directory;
}

const delivered = { is: 'delivered' };

describe('requests', () => {
  test('a batch is one request, a list of the events as the journal has them', async () => {
    const server = await serve();
    const destination = await create({ url: `${server.url}/in?a=b`, headers: { 'X-Team': 'soc' } });
    const sent = items(3);
    expect(await destination.send(sent, NEVER)).toEqual([delivered, delivered, delivered]);
    const [request, more] = server.received;
    expect(more).toBeUndefined();
    expect(request).toMatchObject({ method: 'POST', path: '/in?a=b' });
    expect(request?.headers).toMatchObject({ 'content-type': 'application/json', 'x-team': 'soc' });
    expect(request?.headers['idempotency-key']).toBeUndefined();
    expect(request?.body).toBe(`[${sent.map(({ json }) => json).join(',')}]`);
  });

  test('one by one, each is a request with its id, by the method that is asked for', async () => {
    const server = await serve(answer(201, 'thanks'));
    const destination = await create({ url: server.url, oneByOne: true, method: 'PUT' });
    const sent = items(2);
    expect(await destination.send(sent, NEVER)).toEqual([delivered, delivered]);
    expect(server.received.map(({ method, body, headers }) => [method, body, headers['idempotency-key']])).toEqual(
      sent.map(({ json, id }) => ['PUT', json, id]),
    );
    expect(destination.answer?.()).toBe('201 thanks');
    expect(destination.maxEvents).toBe(10);
  });

  test('the body is signed as by GitHub, and tokens and passwords are of their files, as they are now', async () => {
    const server = await serve();
    const directory = await folder();
    const [secretFile, hmacFile] = [join(directory, 'token'), join(directory, 'hmac')];
    await writeFile(secretFile, 'first-token\n');
    await writeFile(hmacFile, "It's a Secret to Everybody");
    const destination = await create({ url: server.url, secretFile, hmacFile });
    await destination.send(items(1), NEVER);
    const [first] = server.received;
    const digest = createHmac('sha256', "It's a Secret to Everybody")
      .update(first?.body ?? '')
      .digest('hex');
    expect(first?.headers).toMatchObject({
      authorization: 'Bearer first-token',
      'x-hub-signature-256': `sha256=${digest}`,
    });

    await writeFile(secretFile, 'second-token');
    server.reply(answer(401));
    expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({ failure: 'unauthorized' });
    server.reply(answer(200));
    await destination.send(items(1), NEVER);
    expect(server.received.at(-1)?.headers.authorization).toBe('Bearer second-token');

    const passwordFile = join(directory, 'password');
    await writeFile(passwordFile, 'pass');
    const withPassword = await create({
      url: server.url,
      username: 'me',
      passwordFile,
      secretFile,
      secretHeader: 'X-Key',
    });
    await withPassword.send(items(1), NEVER);
    expect(server.received.at(-1)?.headers).toMatchObject({
      authorization: `Basic ${Buffer.from('me:pass').toString('base64')}`,
      'x-key': 'second-token',
    });
  });

  test('the address is of its file, and is in no message', async () => {
    const server = await serve(answer(404, 'no_service: /services/T0AAAAAAA/B0BBBBBBB/abcdefghijklmnopqrstuvwx'));
    const urlFile = join(await folder(), 'url');
    await writeFile(urlFile, `${server.url}/services/T0AAAAAAA/B0BBBBBBB/abcdefghijklmnopqrstuvwx?sig=geheim\n`);
    const destination = await create({ urlFile });
    const { failure, message } = await failureOf(destination.send(items(1), NEVER));
    expect(failure).toBe('server_error');
    expect(message).toContain(`${server.url} answered 404 (no_service: /services/`);
    expect(message).not.toMatch(/abcdefgh|geheim/);
    expect(server.received[0]?.path).toContain('abcdefghijklmnopqrstuvwx?sig=geheim');
    await writeFile(urlFile, 'ftp://nowhere');
    // Looked at again after a second, or at once by another.
    expect(await failureOf((await create({ urlFile })).send(items(1), NEVER))).toMatchObject({
      failure: 'unauthorized',
    });
  });

  test('through a proxy, which is asked for the whole address', async () => {
    const proxy = await serve();
    const destination = await create({ url: 'http://receiver.invalid/in', proxy: proxy.url });
    expect(await destination.send(items(1), NEVER)).toEqual([delivered]);
    expect(proxy.received[0]?.path).toBe('http://receiver.invalid/in');
    expect(proxy.received[0]?.headers.host).toBe('receiver.invalid');
  });
});

describe('TLS', () => {
  test('the authority and the client certificate are of files; a wrong name, authority or protocol is no delivery', async () => {
    const directory = await folder();
    const authority = createAuthority(join(directory, 'ca'));
    const own = authority.issue('receiver.test');
    const client = authority.issue('agent-7');
    const [certFile, keyFile] = [join(directory, 'client.crt'), join(directory, 'client.key')];
    await writeFile(certFile, client.certificate);
    await writeFile(keyFile, client.key);
    const tls = {
      key: own.key,
      cert: own.certificate,
      ca: authority.pem,
      requestCert: true,
      rejectUnauthorized: false,
    };
    const server = await serve(undefined, tls);
    const destination = await create({ url: server.url, caFile: authority.file, certFile, keyFile });
    await destination.send(items(1), NEVER);
    expect(server.received[0]?.client).toBe('agent-7');

    const stranger = await create({ url: server.url });
    expect(await failureOf(stranger.send(items(1), NEVER))).toMatchObject({ failure: 'tls' });
    const other = authority.issue('other.test', { loopback: false });
    const wrong = await serve(undefined, { key: other.key, cert: other.certificate });
    const named = await create({ url: wrong.url, caFile: authority.file });
    expect(await failureOf(named.send(items(1), NEVER))).toMatchObject({ failure: 'tls' });
    const plain = await serve();
    const overPlain = await create({ url: plain.url.replace('http:', 'https:'), caFile: authority.file });
    const error = await failureOf(overPlain.send(items(1), NEVER));
    expect(error).toMatchObject({ failure: 'tls' });
    expect(error.message).toContain('TLS fails: it does not speak TLS (ERR_SSL_WRONG_VERSION_NUMBER)');
    expect(wrong.received).toEqual([]);
    const careless = await create({ url: wrong.url, verifyTls: false });
    expect(await careless.send(items(1), NEVER)).toEqual([delivered]);
  });
});

describe('answers', () => {
  test.each<[number, SendFailure]>([
    [400, 'refused'],
    [401, 'unauthorized'],
    [403, 'unauthorized'],
    [404, 'server_error'],
    [408, 'timeout'],
    [413, 'too_large'],
    [422, 'refused'],
    [429, 'throttled'],
    [500, 'server_error'],
    [503, 'server_error'],
  ])('%i is %s', async (status, failure) => {
    const server = await serve(answer(status, 'because\u001B[31m of\nthis'));
    const destination = await create({ url: server.url });
    const error = await failureOf(destination.send(items(2), NEVER));
    expect(error.failure).toBe(failure);
    expect(error.message).toContain(`${server.url} answered ${status} (because of this)`);
  });

  test('what is a success can be said', async () => {
    const server = await serve(answer(409));
    const destination = await create({ url: server.url, success: ['202', '409'] });
    expect(await destination.send(items(1), NEVER)).toEqual([delivered]);
    server.reply(answer(200));
    expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({ failure: 'server_error' });
  });

  test('Retry-After is kept, whether it is seconds or a date, up to ten minutes', async () => {
    const server = await serve(answer(429, '', { 'retry-after': '7' }));
    const destination = await create({ url: server.url });
    expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({
      failure: 'throttled',
      afterMillis: 7000,
    });
    const now = Date.UTC(2026, 0, 1);
    expect(afterMillis('0.5', now)).toBe(500);
    expect(afterMillis('Thu, 01 Jan 2026 00:01:00 GMT', now)).toBe(60_000);
    expect(afterMillis('Wed, 31 Dec 2025 00:00:00 GMT', now)).toBe(0);
    expect(afterMillis('999999', now)).toBe(600_000);
    expect(afterMillis('9'.repeat(400), now)).toBe(600_000);
    expect(afterMillis('soon', now)).toBeUndefined();
  });

  test('one by one, what was taken is not sent again, what is refused is said, and the rest waits', async () => {
    let count = 0;
    const server = await serve((_, response) => {
      count += 1;
      if (count === 2) response.writeHead(400).end('no');
      else if (count === 4) response.writeHead(429, { 'retry-after': '3' }).end();
      else response.writeHead(200).end();
    });
    const destination = await create({ url: server.url, oneByOne: true });
    expect(await destination.send(items(5), NEVER)).toEqual([
      delivered,
      { is: 'rejected', reason: `${server.url} answered 400 (no)` },
      delivered,
      { is: 'retry', reason: `${server.url} answered 429`, throttled: true, afterMillis: 3000 },
      { is: 'retry', reason: 'the events before it were not taken', throttled: true },
    ]);
    expect(server.received).toHaveLength(4);
  });
});

test('an event that a server stumbles over does not hold up the next; a server that is down is not asked on', async () => {
  let down = false;
  const server = await serve(({ headers }, response) =>
    response.writeHead(down || Number(headers['idempotency-key']) === 1 ? 500 : 200).end(),
  );
  const destination = await create({ url: server.url, oneByOne: true });
  const retry = { is: 'retry', reason: `${server.url} answered 500`, throttled: false };
  expect(await destination.send(items(3), NEVER)).toEqual([delivered, retry, delivered]);
  down = true;
  expect(await failureOf(destination.send(items(5), NEVER))).toMatchObject({ failure: 'server_error' });
  expect(server.received).toHaveLength(5);
});

describe('hostile servers', () => {
  test('one that never answers, or never ends its head, is left in time', async () => {
    const server = await serve(() => undefined);
    const destination = await create({ url: server.url, timeoutMillis: 300 });
    expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({ failure: 'timeout' });
    server.reply((_, __, socket) => socket.write('HTTP/1.1 200 OK\r\nX-A: '));
    expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({ failure: 'timeout' });
  });

  test('an endless answer does not matter where its status is enough, and is cut where its text counts', async () => {
    const endless: Reply = (_, response) => {
      response.writeHead(200);
      const write = (): void => void (!response.destroyed && response.write('x'.repeat(65_536), write));
      write();
    };
    const server = await serve(endless);
    const destination = await create({ url: server.url });
    expect(await destination.send(items(1), NEVER)).toEqual([delivered]);
    const teams = await create({ url: server.url, format: 'teams' });
    expect(await failureOf(teams.send(items(1), NEVER))).toMatchObject({ failure: 'incomplete' });
  });

  test('an answer that drips, or is cut, has its status all the same', async () => {
    const server = await serve((_, response) => response.writeHead(200, { 'content-length': '100' }).write('half'));
    const destination = await create({ url: server.url, timeoutMillis: 200 });
    expect(await destination.send(items(1), NEVER)).toEqual([delivered]);
    server.reply((_, response, socket) => {
      response.writeHead(200, { 'content-length': '100' }).write('half', () => socket.destroy());
    });
    expect(await destination.send(items(1), NEVER)).toEqual([delivered]);
    const otlp = await create({ url: server.url, format: 'otlp' });
    expect(await failureOf(otlp.send(items(1), NEVER))).toMatchObject({ failure: 'incomplete' });
  });

  test('resets, no HTTP, huge heads and nobody there are failures that wait', async () => {
    const server = await serve((_, __, socket) => socket.destroy());
    const destination = await create({ url: server.url });
    expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({ failure: 'unreachable' });
    server.reply((_, __, socket) => socket.end('SSH-2.0-OpenSSH\r\n'));
    expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({ failure: 'server_error' });
    server.reply((_, __, socket) => socket.end(`HTTP/1.1 200 OK\r\nX-A: ${'x'.repeat(100_000)}\r\n\r\n`));
    expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({ failure: 'server_error' });
    server.reply((_, __, socket) => socket.end('HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n'));
    const error = await failureOf(destination.send(items(1), NEVER));
    expect(error).toMatchObject({ failure: 'server_error' });
    expect(error.message).not.toContain('\n');
    const nobody = await create({ url: 'http://127.0.0.1:1' });
    expect(await failureOf(nobody.send(items(1), NEVER))).toMatchObject({ failure: 'unreachable' });
  });

  test('redirections are followed on the same host only, with method, body and signature', async () => {
    const other = await serve();
    const server = await serve((request, response) => {
      if (request.path === '/old') response.writeHead(308, { location: '/new' }).end();
      else if (request.path === '/away') response.writeHead(307, { location: `${other.url}/in` }).end();
      else if (request.path === '/meta') response.writeHead(302, { location: 'http://169.254.169.254/latest' }).end();
      else if (request.path === '/round') response.writeHead(301, { location: '/round' }).end();
      else response.writeHead(200).end();
    });
    const directory = await folder();
    const secretFile = join(directory, 'token');
    await writeFile(secretFile, 'token-of-the-sink');
    const to = async (path: string): Promise<Destination> => create({ url: `${server.url}${path}`, secretFile });
    const sent = items(1);
    expect(await (await to('/old')).send(sent, NEVER)).toEqual([delivered]);
    expect(server.received.map(({ method, path }) => [method, path])).toEqual([
      ['POST', '/old'],
      ['POST', '/new'],
    ]);
    expect(server.received[1]?.body).toBe(`[${sent[0]?.json}]`);
    const away = await failureOf((await to('/away')).send(sent, NEVER));
    expect(away).toMatchObject({ failure: 'server_error' });
    expect(away.message).toContain(`leads to ${other.url} (307), which is another host`);
    expect(other.received).toEqual([]);
    expect((await failureOf((await to('/meta')).send(sent, NEVER))).message).toContain('another host');
    expect((await failureOf((await to('/round')).send(sent, NEVER))).message).toContain('more than 3 times');
  });

  test('link-local addresses are not asked, however they are written', async () => {
    for (const url of [
      'http://169.254.169.254/latest/meta-data',
      'http://0xa9fea9fe/',
      'http://2852039166/',
      'http://[fe80::1]/',
      'http://[::ffff:169.254.169.254]/',
      'http://[64:ff9b::169.254.169.254]/',
    ]) {
      const error = await failureOf((await create({ url, timeoutMillis: 100 })).send(items(1), NEVER));
      expect(error.message).toContain('a link-local address: requests do not go there unless allowLinkLocal is true');
    }
    expect(isLinkLocal('fd00:ec2::254')).toBe(true);
    expect(['10.0.0.1', '127.0.0.1', '::1', 'fd00::1', 'example.com'].filter(isLinkLocal)).toEqual([]);
  });

  test('a secret that the server repeats is in no message', async () => {
    const server = await serve((request, response) =>
      response.writeHead(400).end(`bad ${request.headers.authorization} ${encodeURIComponent('s3cret/+token')}`),
    );
    const secretFile = join(await folder(), 'token');
    await writeFile(secretFile, 's3cret/+token');
    const destination = await create({ url: server.url, secretFile, oneByOne: true });
    const [outcome] = await destination.send(items(1), NEVER);
    expect(outcome).toMatchObject({ is: 'rejected', reason: expect.stringContaining('Bearer ***') });
    expect(JSON.stringify(outcome)).not.toContain('s3cret');
    expect(destination.answer?.()).not.toContain('s3cret');
  });

  test('lies about success are found out where the format says how', async () => {
    const server = await serve(
      answer(
        200,
        'Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId x',
      ),
    );
    const teams = await create({ url: server.url, format: 'teams' });
    expect(await failureOf(teams.send(items(1), NEVER))).toMatchObject({ failure: 'throttled' });
    server.reply(answer(200, JSON.stringify({ partialSuccess: { rejectedLogRecords: '1', errorMessage: 'too old' } })));
    const otlp = await create({ url: server.url, format: 'otlp' });
    expect(await failureOf(otlp.send(items(2), NEVER))).toMatchObject({ failure: 'refused' });
    server.reply(answer(200, '{"partialSuccess":{}}'));
    expect(await otlp.send(items(2), NEVER)).toEqual([delivered, delivered]);
    const secretFile = join(await folder(), 'token');
    await writeFile(secretFile, '00000000-0000-0000-0000-000000000000');
    const splunk = await create({ url: server.url, format: 'splunk-hec', secretFile });
    server.reply(answer(200, '{"text":"Server is busy","code":9}'));
    expect(await failureOf(splunk.send(items(1), NEVER))).toMatchObject({ failure: 'throttled' });
    server.reply(answer(200, '<html>sign in</html>'));
    expect(await failureOf(splunk.send(items(1), NEVER))).toMatchObject({ failure: 'incomplete' });
    server.reply(answer(200, '{"text":"Success","code":0}'));
    expect(await splunk.send(items(1), NEVER)).toEqual([delivered]);
    expect(server.received.at(-1)?.headers.authorization).toBe('Splunk 00000000-0000-0000-0000-000000000000');
  });

  test('what an operator has to mend is no fault of the events: they wait', async () => {
    const server = await serve(answer(400, '{"text":"Data channel is missing","code":10}'));
    const secretFile = join(await folder(), 'token');
    await writeFile(secretFile, 'no key of PagerDuty');
    const splunk = await create({ url: server.url, format: 'splunk-hec', secretFile });
    expect(await failureOf(splunk.send(items(2), NEVER))).toMatchObject({
      failure: 'server_error',
      message: expect.stringContaining('Data channel is missing'),
    });
    server.reply(answer(400, '{"text":"Event field cannot be blank","code":13}'));
    expect(await failureOf(splunk.send(items(2), NEVER))).toMatchObject({ failure: 'refused' });
    const before = server.received.length;
    const pager = await create({ url: server.url, format: 'pagerduty', secretFile });
    const error = await failureOf(pager.send(items(2), NEVER));
    expect(error).toMatchObject({ failure: 'unauthorized', message: expect.stringContaining('32 letters and digits') });
    expect(error.message).not.toContain('no key of PagerDuty');
    expect(server.received).toHaveLength(before);
  });

  test('a stop ends a request at once', async () => {
    const server = await serve(() => undefined);
    const destination = await create({ url: server.url, timeoutMillis: 60_000 });
    const controller = new AbortController();
    const sending = destination.send(items(1), controller.signal);
    while (server.received.length === 0) await new Promise((resolve) => setImmediate(resolve));
    controller.abort(new Error('over'));
    await expect(sending).rejects.toThrow('over');
  });
});

describe('templates', () => {
  test('an event is said in the words of a template', async () => {
    const server = await serve();
    const template =
      '{"text": {{ alert.message | json }}, "to": "{{ alert.destination.name }}", "n": {{ event.severity }}}';
    const destination = await create({
      url: server.url,
      format: 'template',
      template,
      contentType: 'application/x-test',
    });
    await destination.send([itemOf(eventOf(0, {}, { message: 'a "quoted" one' }))], NEVER);
    const [request] = server.received;
    expect(JSON.parse(request?.body ?? '')).toEqual({ text: 'a "quoted" one', to: 'db-0', n: 100 });
    expect(request?.headers['content-type']).toBe('application/x-test');
  });

  test('a wrong template holds all events, one that takes too long or reads files loses none but its own', async () => {
    const server = await serve();
    const templateFile = join(await folder(), 'template');
    await writeFile(templateFile, '{{ alert.message');
    const destination = await create({ url: server.url, format: 'template', templateFile });
    const error = await failureOf(destination.send(items(1), NEVER));
    expect(error).toMatchObject({ failure: 'server_error' });
    expect(error.message).toContain('the template is wrong');
    for (const template of [
      '{% for a in (1..100000) %}{% for b in (1..100000) %}{% endfor %}{% endfor %}',
      "{% assign s = 'x' %}{% for a in (1..60) %}{% assign s = s | append: s %}{% endfor %}{{ s }}",
      "{% include '/etc/passwd' %}",
      "{% render '../../../../etc/passwd' %}",
    ]) {
      const bounded = await create({ url: server.url, format: 'template', template });
      expect(await bounded.send(items(1), NEVER)).toMatchObject([{ is: 'rejected' }]);
    }
    const curious = await create({
      url: server.url,
      format: 'template',
      template: '[{{ event.constructor }}{{ alert.__proto__.constructor.name }}{{ event.toString }}]',
    });
    await curious.send(items(1), NEVER);
    expect(server.received.map(({ body }) => body)).toEqual(['[]']);
  });
});

test('messages carry a link of the first key; where the key is gone they go out without it', async () => {
  const server = await serve();
  const file = join(await folder(), 'keys');
  await writeFile(file, `${'a'.repeat(32)}\n${'b'.repeat(32)}\n`);
  const flags = {
    'ui.publicUrl': 'https://dpi.example.com',
    'ui.acknowledgeKeyFile': file,
    sinks: [{ name: 'chat', http: { url: server.url, format: 'slack' } }],
  };
  const loaded = loadConfig({ env: {}, flags }, () => 'node');
  if ('errors' in loaded) throw new Error(loaded.errors[0]?.message);
  const [entry] = sinkEntries(loaded.config.sinks);
  if (entry === undefined) throw new Error('no sink');
  const destination = await createDestination(entry, loaded.config, pino({ level: 'silent' }));
  ends.push(() => destination.close());
  const [item] = items(1);
  if (item === undefined) throw new Error('no item');
  expect(await destination.send([item], NEVER)).toEqual([delivered]);
  const [link] = /https:[^"]+\/acknowledge\?[^"]+/.exec(server.received[0]?.body ?? '') ?? [];
  const asked = Object.fromEntries(new URL(link ?? '').searchParams);
  expect(checkLink(asked, ['a'.repeat(32)], Date.now())).toMatchObject({ is: 'valid', link: { via: 'chat' } });
  expect(checkLink(asked, ['b'.repeat(32)], Date.now())).toEqual({ is: 'wrong' });

  await rm(file);
  const other = await createDestination(entry, loaded.config, pino({ level: 'silent' }));
  ends.push(() => other.close());
  expect(await other.send([item], NEVER)).toEqual([delivered]);
  expect(server.received[1]?.body).not.toContain('acknowledge');
});
