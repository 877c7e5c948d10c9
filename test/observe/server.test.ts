import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createMetrics } from '../../agent/observe/metrics.ts';
import { serve, type ObserveServer } from '../../agent/observe/server.ts';
import { zeroCounters } from '../../agent/capture/protocol.ts';

let problems: string[];
let server: ObserveServer;
const get = (path: string, method = 'GET'): Promise<Response> =>
  fetch(`http://127.0.0.1:${server.port}${path}`, { method });

beforeEach(async () => {
  problems = [];
  const endpoint = {
    id: 'shop/one',
    namespace: 'shop',
    name: 'one"\n',
    nameAggr: '-',
    interface: 'cali1',
    labels: {},
    addresses: [],
    resources: [],
  };
  server = await serve({
    port: 0,
    address: '127.0.0.1',
    problems: () => problems,
    metrics: createMetrics(
      {
        endpoints: () => [{ endpoint, state: { is: 'capturing' }, counters: { ...zeroCounters(), received: 12 } }],
        alerts: () => ({ journaled: 3 }),
        folded: () => 5,
        journal: () => ({
          total: 7,
          evicted: 2,
          bytes: 100,
          segments: 1,
          appended: 7,
          evictedSegments: 1,
          replacedSegments: 0,
        }),
        sinks: () => [
          {
            name: 'elasticsearch',
            pending: 1,
            delivered: 3,
            duplicates: 1,
            deadLettered: 1,
            deadLettersEvicted: 8,
            evicted: 2,
            retries: 4,
            failures: { timeout: 6 },
            circuit: 'open',
          },
        ],
      },
      { version: '1.2.3', engine: { name: 'snort', version: '3.1' }, node: 'n' },
    ),
  });
});
afterEach(() => server.close());

describe('probes and metrics', () => {
  test('health is ok whatever keeps the agent from inspecting', async () => {
    problems = ['lane0: the engine does not run'];
    expect((await get('/health')).status).toBe(200);
  });

  test('readiness says what is missing', async () => {
    expect((await get('/readiness')).status).toBe(200);
    problems = ['lane0: the engine does not run'];
    const response = await get('/readiness');
    expect(response.status).toBe(503);
    expect(await response.text()).toBe('lane0: the engine does not run\n');
  });

  test('metrics are in the text format, with hostile names escaped', async () => {
    const response = await get('/metrics');
    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
    const text = await response.text();
    expect(text).toContain('dpi_agent_endpoints{state="capturing"} 1\n');
    expect(text).toContain('dpi_agent_packets_total{namespace="shop",endpoint="one\\"\\n",outcome="received"} 12\n');
    expect(text).toContain('dpi_agent_alerts_total{outcome="journaled"} 3\n');
    expect(text).toContain('dpi_agent_alerts_folded_total 5\n');
    expect(text).toContain('dpi_agent_journal_events_total 7\n');
    expect(text).toContain('dpi_agent_sink_events_total{sink="elasticsearch",outcome="dead_lettered"} 1\n');
    expect(text).toContain('dpi_agent_sink_failures_total{sink="elasticsearch",reason="timeout"} 6\n');
    expect(text).toContain('dpi_agent_sink_dead_letters_evicted_total{sink="elasticsearch"} 8\n');
    expect(text).toContain('dpi_agent_sink_circuit_open{sink="elasticsearch"} 1\n');
    // A second scrape does not add to the first.
    expect(await (await get('/metrics')).text()).toContain('dpi_agent_alerts_total{outcome="journaled"} 3\n');
  });

  test('other paths and methods are refused', async () => {
    expect((await get('/')).status).toBe(404);
    expect((await get('/health', 'POST')).status).toBe(405);
  });

  test('an address that is taken is an error that the caller can tell', async () => {
    await expect(
      serve({ port: server.port, address: '127.0.0.1', problems: () => [], metrics: () => Promise.resolve('') }),
    ).rejects.toThrow(/EADDRINUSE/);
  });
});
