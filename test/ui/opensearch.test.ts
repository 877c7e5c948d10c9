/** The page's questions to a server that speaks as OpenSearch does: JSON under its usual name, and no name of Elasticsearch's. */
import { afterEach, expect, test } from '@jest/globals';
import { loadConfig } from '../../agent/config/load.ts';
import { alertStoreOf } from '../../agent/config/sinks.ts';
import { openElasticsearchSource } from '../../agent/ui/elasticsearch-source.ts';
import { startServer, type TestServer } from '../ship/http/server.ts';
import { alertEvent } from '../support/alerts.ts';

let server: TestServer | undefined;
afterEach(async () => server?.close());

test('alerts are read and marked there', async () => {
  const event = alertEvent(1, Date.now());
  const id = event.record.event_id;
  server = await startServer(({ headers, path, body }, response) => {
    const types = `${headers['content-type'] ?? ''} ${headers['accept'] ?? ''}`;
    if (types.includes('vnd.elasticsearch')) return response.writeHead(406).end('{"error":"Content-Type header"}');
    response.writeHead(200, { 'content-type': 'application/json; charset=UTF-8' });
    if (path.startsWith('/_bulk')) {
      expect(body).toContain('"acknowledged":true');
      return response.end(JSON.stringify({ errors: false, took: 1, items: [{ update: { _id: id, status: 200 } }] }));
    }
    if (path.startsWith('/_mget')) {
      const doc = { _index: 'a', _id: id, _seq_no: 1, _primary_term: 1, found: true, _source: {} };
      return response.end(JSON.stringify({ docs: [doc] }));
    }
    return response.end(JSON.stringify({ took: 1, hits: { hits: [{ _index: 'a', _id: id, _source: event }] } }));
  });
  const flags = { sinks: [{ name: 'search', opensearch: { nodes: [server.url] } }] };
  const loaded = loadConfig({ env: {}, flags }, () => 'node-1');
  if ('errors' in loaded) throw new Error(loaded.errors[0]?.message);
  const found = alertStoreOf(loaded.config.sinks);
  if (found === undefined) throw new Error('no store');
  expect(found.store).toBe('opensearch');
  const { settings: config, store } = found;
  const source = openElasticsearchSource({ config, store, cluster: 'cluster' });
  try {
    const { signal } = new AbortController();
    expect((await source.get([id], signal))[0]?.row.id).toBe(id);
    await source.mark([id], { state: 'acknowledged', by: 'anna', at: new Date().toISOString() });
    const elasticsearch = openElasticsearchSource({ config, cluster: 'cluster' });
    await expect(elasticsearch.get([id], signal)).rejects.toThrow('406');
    await elasticsearch.close();
  } finally {
    await source.close();
  }
});
