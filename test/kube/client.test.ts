import { afterAll, afterEach, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ApiError, type ApiClient, type ApiObject, type WatchEvent } from '../../agent/kube/api.ts';
import { createClient, type ClientOptions } from '../../agent/kube/client.ts';

const directory = mkdtempSync(join(tmpdir(), 'dpi-client-'));
let server: Server | undefined;

afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A client of a server that answers as a real one would not. */
async function clientOf(
  handler: (request: IncomingMessage, response: ServerResponse) => void,
  options: ClientOptions = {},
): Promise<ApiClient> {
  const own = createServer(handler);
  server = own;
  await new Promise<void>((resolve) => own.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(own.address() as AddressInfo).port}`;
  return createClient({ kubeconfig: kubeconfig(url), ...options });
}

function kubeconfig(url: string, user: object = {}): string {
  const file = join(directory, 'kubeconfig');
  const config = {
    clusters: [{ name: 'c', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
    users: [{ name: 'u', user }],
    contexts: [{ name: 'test', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'test',
  };
  writeFileSync(file, stringify(config));
  return file;
}

async function watch(client: ApiClient, signal = new AbortController().signal): Promise<WatchEvent<ApiObject>[]> {
  const events: WatchEvent<ApiObject>[] = [];
  await client.watch('/api/v1/pods', { resourceVersion: '1' }, (event) => events.push(event), signal);
  return events;
}

const failure = (promise: Promise<unknown>): Promise<ApiError> =>
  promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => {
      expect(error).toBeInstanceOf(ApiError);
      return error as ApiError;
    },
  );

const event = (version: string): string =>
  JSON.stringify({
    type: 'ADDED',
    object: { metadata: { name: `pod ä ${version}`, uid: 'u', resourceVersion: version } },
  });

test('an event may come in pieces of any size', async () => {
  const bytes = Buffer.from(`${event('2')}\n${event('3')}\n`);
  const client = await clientOf((_request, response) => {
    void (async () => {
      for (let at = 0; at < bytes.length; at += 7) {
        response.write(bytes.subarray(at, at + 7));
        await new Promise((resolve) => setImmediate(resolve));
      }
      response.end();
    })();
  });
  const events = await watch(client);
  expect(events.map(({ object }) => object.metadata)).toMatchObject([{ name: 'pod ä 2' }, { name: 'pod ä 3' }]);
});

test('a watch asks for bookmarks and for its end within the span', async () => {
  const queries: URLSearchParams[] = [];
  const client = await clientOf((request, response) => {
    queries.push(new URL(request.url ?? '', 'http://x').searchParams);
    response.end();
  });
  for (let i = 0; i < 20; i++) await watch(client);
  const seconds = queries.map((query) => Number(query.get('timeoutSeconds')));
  expect(Math.min(...seconds)).toBeGreaterThanOrEqual(1200);
  expect(Math.max(...seconds)).toBeLessThanOrEqual(2400);
  expect(new Set(seconds).size).toBeGreaterThan(1);
  expect(queries[0]?.get('allowWatchBookmarks')).toBe('true');
});

test.each([
  ['a line that is no JSON', '{"type":"ADDED","obj\n', 'Malformed'],
  ['an unknown event', '{"type":"CHANGED","object":{"metadata":{"resourceVersion":"1"}}}\n', 'Malformed'],
  ['an event without version', '{"type":"ADDED","object":{"metadata":{}}}\n', 'Malformed'],
  ['a torn last line', event('3'), 'Malformed'],
  ['a line that is too long', `{"type":"ADDED","object":"${'x'.repeat(5000)}`, 'TooLarge'],
])('%s ends the watch with an error, after the events before it', async (_name, text, reason) => {
  const client = await clientOf((_request, response) => response.end(`${event('2')}\n${text}`), { lineBytes: 4000 });
  const events: string[] = [];
  const error = await failure(
    client.watch(
      '/api/v1/pods',
      {},
      (e) => events.push(e.object.metadata.resourceVersion),
      new AbortController().signal,
    ),
  );
  expect(events).toEqual(['2']);
  expect(error).toMatchObject({ reason, status: undefined });
  expect(error.message).toMatch(/^cannot watch pods: /);
});

test('an error event has the status of its code', async () => {
  const status = { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version: 1 (2)' };
  const client = await clientOf((_request, response) =>
    response.end(`${JSON.stringify({ type: 'ERROR', object: status })}\n`),
  );
  expect(await failure(watch(client))).toMatchObject({ status: 410, reason: 'Expired' });
});

test('a watch on which nothing comes is given up, a slow one is not', async () => {
  const client = await clientOf(
    (_request, response) => {
      void (async () => {
        for (let i = 0; i < 8; i++) {
          response.write(`${event(String(i))}\n`);
          await new Promise((resolve) => setTimeout(resolve, 300));
        }
      })();
    },
    { silenceMillis: 2_000 },
  );
  const events: string[] = [];
  const error = await failure(
    client.watch(
      '/api/v1/pods',
      {},
      (e) => events.push(e.object.metadata.resourceVersion),
      new AbortController().signal,
    ),
  );
  expect(error).toMatchObject({ reason: 'Silent', status: undefined });
  expect(events).toHaveLength(8);
});

test('a watch that breaks off is unreachable, not ended', async () => {
  const client = await clientOf((_request, response) => {
    response.write(`${event('2')}\n`, () => setImmediate(() => response.destroy()));
  });
  expect(await failure(watch(client))).toMatchObject({ reason: 'Unreachable' });
});

test('a request without an answer is given up', async () => {
  const hung = await clientOf(() => undefined, { requestMillis: 200 });
  const error = await failure(hung.get('/api/v1/pods'));
  expect(error).toMatchObject({ reason: 'Unreachable', status: undefined });
  expect(error.message).toBe(`cannot list pods: ${hung.server} does not answer: no complete answer within 0.2 s`);
  expect(await failure(watch(hung))).toMatchObject({ reason: 'Unreachable' });
});

test('an answer that never ends is given up', async () => {
  const client = await clientOf((_request, response) => response.write('{'), { requestMillis: 200 });
  expect(await failure(client.get('/api/v1/pods'))).toMatchObject({ reason: 'Unreachable' });
});

test('an answer that is too large, or no JSON, is an error', async () => {
  const client = await clientOf(
    (request, response) => response.end(request.url === '/api/v1/pods' ? `{"a":"${'x'.repeat(2000)}"}` : '<html>'),
    { bodyBytes: 1000 },
  );
  expect(await failure(client.get('/api/v1/pods'))).toMatchObject({ reason: 'TooLarge' });
  const error = await failure(client.get('/api/v1/nodes/a'));
  expect(error).toMatchObject({
    reason: 'Malformed',
    message: 'cannot get nodes "a": the answer is no JSON object: <html>',
  });
});

test('the signal ends a request and a watch', async () => {
  const client = await clientOf((request, response) => {
    if (request.url?.includes('watch') === true) response.write(`${event('2')}\n`);
  });
  const stop = new AbortController();
  const both = [failure(client.get('/api/v1/pods', {}, stop.signal)), failure(watch(client, stop.signal))];
  setTimeout(() => stop.abort(), 50);
  expect(await Promise.all(both)).toMatchObject([{ reason: 'Aborted' }, { reason: 'Aborted' }]);
  expect(await failure(client.get('/api/v1/pods', {}, stop.signal))).toMatchObject({ reason: 'Aborted' });
});

test('a kept connection that the server closed meanwhile is replaced', async () => {
  let answered = 0;
  const client = await clientOf((request, response) => {
    // The second request on a connection meets its end.
    const seen = request.socket as typeof request.socket & { requests?: number };
    seen.requests = (seen.requests ?? 0) + 1;
    if (seen.requests === 1) response.end(JSON.stringify({ answered: ++answered }));
    else request.socket.resetAndDestroy();
  });
  for (let i = 1; i <= 5; i++) expect(await client.get('/version')).toEqual({ answered: i });
});

test('a connection that ends at once is not asked for ever', async () => {
  const client = await clientOf((request) => request.socket.resetAndDestroy());
  expect(await failure(client.get('/version'))).toMatchObject({ reason: 'Unreachable' });
});

test.each([
  ['/api/v1/pods', 'list pods', '"list" on "pods" in API group ""'],
  ['/api/v1/namespaces/a/pods', 'list pods in namespace "a"', '"list" on "pods" in API group ""'],
  ['/api/v1/namespaces/a/pods/b', 'get pods "b" in namespace "a"', '"get" on "pods" in API group ""'],
  ['/api/v1/namespaces/a', 'get namespaces "a"', '"get" on "namespaces" in API group ""'],
  ['/apis/projectcalico.org/v3', 'get /apis/projectcalico.org/v3', '"get" on the path "/apis/projectcalico.org/v3"'],
  [
    '/apis/projectcalico.org/v3/namespaces/a/deeppacketinspections/b/status',
    'get deeppacketinspections.projectcalico.org/status "b" in namespace "a"',
    '"get" on "deeppacketinspections/status" in API group "projectcalico.org"',
  ],
])('forbidden %s names what to grant', async (path, text, right) => {
  const status = { kind: 'Status', code: 403, reason: 'Forbidden', message: 'said\u001B[2J by the server' };
  const client = await clientOf((_request, response) => {
    response.statusCode = 403;
    response.end(JSON.stringify(status));
  });
  const error = await failure(client.get(path));
  expect(error).toMatchObject({ status: 403, reason: 'Forbidden' });
  expect(error.message).toBe(
    `cannot ${text}: forbidden: the agent's ClusterRole needs verb ${right} (said by the server)`,
  );
});

test('a server under a path, and one that answers in no known form', async () => {
  const client = await clientOf((request, response) => {
    response.statusCode = 503;
    response.end(request.url);
  });
  const prefixed = await createClient({ kubeconfig: kubeconfig(`${client.server}/k8s/clusters/c-1/`) });
  const error = await failure(prefixed.get('/api/v1/pods', { limit: 5 }));
  expect(error.status).toBe(503);
  expect(error.message).toBe('cannot list pods: the API server answered 503 (/k8s/clusters/c-1/api/v1/pods?limit=5)');
});

test('a kubeconfig that is missing, broken or without the context is an error that names it', async () => {
  const missing = join(directory, 'nowhere');
  expect((await failure(createClient({ kubeconfig: missing }))).message).toContain(missing);
  const broken = join(directory, 'broken');
  writeFileSync(broken, '- [');
  expect(await failure(createClient({ kubeconfig: broken }))).toMatchObject({ reason: 'Credentials' });
  const file = kubeconfig('http://127.0.0.1:1');
  const error = await failure(createClient({ kubeconfig: file, context: 'other' }));
  expect(error.message).toBe(
    `cannot tell where the API server is: ${file} has no context "other" with a cluster; it has test`,
  );
});

test('the tokenFile of a kubeconfig is read, relative to it', async () => {
  let seen: string | undefined;
  const client = await clientOf((request, response) => {
    seen = request.headers.authorization;
    response.end('{}');
  });
  writeFileSync(join(directory, 'token'), 'secret\n');
  await (await createClient({ kubeconfig: kubeconfig(client.server, { tokenFile: 'token' }) })).get('/version');
  expect(seen).toBe('Bearer secret');
});

test("an exec plugin's token is used, and it is asked again after a 401", async () => {
  const tokens: (string | undefined)[] = [];
  const client = await clientOf((request, response) => {
    tokens.push(request.headers.authorization);
    response.statusCode = tokens.length === 2 ? 401 : 200;
    response.end('{}');
  });
  const counter = join(directory, 'counter');
  writeFileSync(counter, '');
  const script = `const fs = require('fs'); fs.appendFileSync(${JSON.stringify(counter)}, 'x');
    const token = 'token' + fs.readFileSync(${JSON.stringify(counter)}, 'utf8').length;
    console.log(JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status: { token } }));`;
  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: process.execPath, args: ['-e', script] };
  const own = await createClient({ kubeconfig: kubeconfig(client.server, { exec }) });
  await own.get('/version');
  expect((await failure(own.get('/version'))).message).toMatch(
    /^cannot get \/version: the credentials are not accepted/,
  );
  await own.get('/version');
  expect(tokens).toEqual(['Bearer token1', 'Bearer token1', 'Bearer token2']);
});
