import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import type { Destination } from '../../../agent/ship/destination.ts';
import { createOpenSearch } from '../../../agent/ship/opensearch/opensearch.ts';
import { answer, startServer, type Reply, type TestServer } from '../http/server.ts';
import { entryOf, eventOf, failureOf, itemOf, items, NEVER } from '../http/support.ts';

const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function serve(reply: Reply): Promise<TestServer> {
  const server = await startServer(reply);
  ends.push(() => server.close());
  return server;
}

function create(nodes: string[], more: Record<string, unknown> = {}): Destination {
  const entry = entryOf({ opensearch: { nodes, ...more } });
  if (entry.kind !== 'opensearch') throw new Error('no opensearch');
  const log = { info: () => undefined, warn: () => undefined };
  const destination = createOpenSearch({ settings: entry.settings, cluster: 'lab', log });
  ends.push(() => destination.close());
  return destination;
}

/** A store that takes an id once, refuses one event, and has no template before it gets one. */
function store(): { reply: Reply; ids: Set<string>; made: string[] } {
  const ids = new Set<string>();
  const made: string[] = [];
  return {
    ids,
    made,
    reply({ method, path, body }, response) {
      const say = (status: number, value: unknown): void => void response.writeHead(status).end(JSON.stringify(value));
      if (path.includes('/_bulk')) {
        const lines = body
          .trim()
          .split('\n')
          .filter((_, index) => index % 2 === 0);
        return say(200, {
          items: lines.map((line) => {
            const { _id: id } = (JSON.parse(line) as { create: { _id: string } }).create;
            if (Number(id) === 2) {
              const error = { type: 'mapper_parsing_exception', reason: 'no 2' };
              return { create: { _id: id, status: 400, error } };
            }
            const status = ids.has(id) ? 409 : 201;
            ids.add(id);
            return { create: { _id: id, status } };
          }),
        });
      }
      if (method === 'PUT') made.push(path);
      return say(method === 'GET' ? 404 : 200, {});
    },
  };
}

test('events are created once by their id, in the index with its template; what is refused is said', async () => {
  const { reply, ids, made } = store();
  const server = await serve(reply);
  const destination = create([server.url]);
  const ok = { is: 'delivered' };
  expect(await destination.send(items(3), NEVER)).toEqual([
    ok,
    ok,
    { is: 'rejected', reason: 'mapper_parsing_exception: no 2', status: 400 },
  ]);
  expect(await destination.send(items(2), NEVER)).toEqual([
    { is: 'delivered', duplicate: true },
    { is: 'delivered', duplicate: true },
  ]);
  expect(ids.size).toBe(2);
  expect(made).toEqual(['/_index_template/dpi-agent-events.lab', '/tigera_secure_ee_events.lab.lma']);
  const bulk = server.received.find(({ path }) => path.includes('_bulk'));
  expect(bulk?.path).toContain('/tigera_secure_ee_events.lab.lma/_bulk?filter_path=');
  expect(bulk?.headers['content-type']).toBe('application/x-ndjson');
});

test('after a failure the next node is asked, and credentials are of their files', async () => {
  const { reply, ids } = store();
  const server = await serve(reply);
  const directory = await mkdtemp(join(tmpdir(), 'opensearch-'));
  ends.push(() => rm(directory, { recursive: true }));
  const passwordFile = join(directory, 'password');
  await writeFile(passwordFile, 'secret\n');
  const user = { username: 'agent', passwordFile, manageTemplate: false };
  const destination = create(['http://127.0.0.1:1', `${server.url}/`], user);
  expect(await failureOf(destination.send(items(1), NEVER))).toMatchObject({ failure: 'unreachable' });
  expect(await destination.send(items(1), NEVER)).toEqual([{ is: 'delivered' }]);
  expect(ids.size).toBe(1);
  expect(server.received[0]?.headers.authorization).toBe(`Basic ${Buffer.from('agent:secret').toString('base64')}`);
});

test.each([
  [answer(401, '{"error":"no"}'), 'unauthorized'],
  [answer(413), 'too_large'],
  [answer(429), 'throttled'],
  [answer(503), 'server_error'],
  [answer(200, '{"items":[]}'), 'incomplete'],
  [answer(200, '{"items":[{"create":{"_id":"other","status":201}}]}'), 'incomplete'],
  [answer(200, '<html>'), 'incomplete'],
] as [Reply, string][])('an answer that is none is a failure %#', async (reply, failure) => {
  const server = await serve(reply);
  const destination = create([server.url], { manageTemplate: false });
  expect(await failureOf(destination.send([itemOf(eventOf())], NEVER))).toMatchObject({ failure });
});
