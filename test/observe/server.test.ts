import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { serve, serveSocket, type Answers, type ObserveServer } from '../../agent/observe/server.ts';
import { askStatus } from '../../agent/observe/ask.ts';
import { takeSnapshot, type SnapshotFacts } from '../../agent/observe/snapshot.ts';
import { metricsOf } from './support.ts';

const facts: SnapshotFacts = {
  agent: { version: '1.2.3', pid: 4, node: 'n', startedAt: 1000 },
  engine: { name: 'snort', version: '3.1', binary: '/snort', searchMethods: [] },
  rules: { sets: [], files: [], loaded: 0 },
  ruleSources: [],
  journalDirectory: '/journal',
};
const status: Answers['status'] = () => takeSnapshot(facts, 'the engine is starting', [], undefined, 2000);

const answers: Answers = {
  stuck: () => undefined,
  readiness: () => ({ ready: true, components: [] }),
  metrics: () => Promise.resolve(''),
  status,
};

let ready: boolean;
let stuck: string | undefined;
let server: ObserveServer;
const get = (path: string, method = 'GET'): Promise<Response> =>
  fetch(`http://127.0.0.1:${server.port}${path}`, { method });

beforeEach(async () => {
  ready = true;
  stuck = undefined;
  server = await serve({
    port: 0,
    address: '127.0.0.1',
    stuck: () => stuck,
    readiness: () => ({ ready, components: [{ component: 'journal', ready }] }),
    metrics: metricsOf().text,
    status,
  });
});
afterEach(() => server.close());

describe('probes and metrics', () => {
  test('health fails only when a new process is needed', async () => {
    ready = false;
    expect((await get('/health')).status).toBe(200);
    stuck = 'lane0: alerts cannot be read on';
    const response = await get('/health');
    expect(response.status).toBe(503);
    expect(await response.text()).toBe('lane0: alerts cannot be read on\n');
  });

  test('readiness says by component what is missing', async () => {
    expect((await get('/readiness')).status).toBe(200);
    ready = false;
    const response = await get('/readiness');
    expect(response.status).toBe(503);
    expect(response.headers.get('content-type')).toBe('application/json');
    expect(await response.json()).toEqual({ ready: false, components: [{ component: 'journal', ready: false }] });
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
    expect(text).toContain('dpi_agent_coverage_pods{namespace="shop",resource="all",state="capturing"} 2\n');
    expect(text).toContain('dpi_agent_coverage_pods{namespace="shop",resource="all",state="one_way"} 1\n');
    expect(text).toContain('dpi_agent_sink_events_total{sink="elasticsearch",outcome="dead_lettered"} 1\n');
    expect(text).toContain('dpi_agent_sink_failures_total{sink="elasticsearch",reason="timeout"} 6\n');
    expect(text).toContain('dpi_agent_sink_dead_letters_evicted_total{sink="elasticsearch"} 8\n');
    expect(text).toContain('dpi_agent_sink_circuit_open{sink="elasticsearch"} 1\n');
    expect(text).toContain('dpi_agent_rules_loaded{set="custom"} 9\n');
    expect(text).toContain('dpi_agent_rules_failed{set="custom"} 2\n');
    expect(text).toContain('dpi_agent_rule_set_refused{set="custom"} 1\n');
    expect(text).toContain('dpi_agent_rule_set_info{set="custom",version="abc"} 1\n');
    expect(text).toContain('dpi_agent_rule_swaps_total{outcome="refused"} 3\n');
    // A second scrape does not add to the first.
    expect(await (await get('/metrics')).text()).toContain('dpi_agent_alerts_total{outcome="journaled"} 3\n');
  });

  test('other paths and methods are refused', async () => {
    expect((await get('/')).status).toBe(404);
    expect((await get('/health', 'POST')).status).toBe(405);
  });

  test('an address that is taken is an error that the caller can tell', async () => {
    await expect(serve({ ...answers, port: server.port, address: '127.0.0.1' })).rejects.toThrow(/EADDRINUSE/);
  });
});

describe('status', () => {
  let directory: string;
  const ends: (() => void)[] = [];
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'dpi-socket-'));
  });
  afterEach(() => {
    for (const end of ends.splice(0)) end();
    rmSync(directory, { recursive: true, force: true });
  });
  const open = async (path: string): Promise<void> => void ends.push(await serveSocket(path, answers));

  test('is given to loopback addresses', async () => {
    expect(await askStatus({ url: `http://127.0.0.1:${server.port}` }, 10_000)).toEqual(status());
  });

  test('is refused to all others, and says where to ask', async () => {
    const own = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .find(({ internal, family }) => !internal && family === 'IPv4')?.address;
    // A machine without a network has no other address to ask from.
    if (own === undefined) return;
    const everywhere = await serve({ ...answers, port: 0 });
    ends.push(() => everywhere.close());
    await expect(askStatus({ url: `http://${own}:${everywhere.port}` }, 10_000)).rejects.toThrow(
      /403: only for this machine/,
    );
  });

  test('is given on a socket that only its user may open, in a folder that is made', async () => {
    const socket = join(directory, 'state/agent.sock');
    await open(socket);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect(await askStatus({ socket }, 10_000)).toEqual(status());
    ends.pop()?.();
    expect(existsSync(socket)).toBe(false);
  });

  test('the socket of an agent that was killed is replaced', async () => {
    const socket = join(directory, 'agent.sock');
    const script = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
    spawnSync(process.execPath, ['-e', script]);
    expect(statSync(socket).isSocket()).toBe(true);
    await open(socket);
    expect(await askStatus({ socket }, 10_000)).toEqual(status());
  });

  test('the socket of an agent that runs, and a file that is no socket, are left alone', async () => {
    const socket = join(directory, 'agent.sock');
    await open(socket);
    await expect(open(socket)).rejects.toThrow(/another agent answers/);
    expect(await askStatus({ socket }, 10_000)).toEqual(status());
    const file = join(directory, 'file');
    writeFileSync(file, 'kept');
    await expect(open(file)).rejects.toThrow(/is no socket/);
    expect(existsSync(file)).toBe(true);
  });

  test('a path that no socket can have is an error that names the setting', async () => {
    await expect(open(join(directory, 'x'.repeat(100)))).rejects.toThrow(/107 bytes.*http\.socket/);
  });

  test('what answers otherwise is not taken for an agent', async () => {
    await expect(askStatus({ socket: join(directory, 'none') }, 10_000)).rejects.toMatchObject({ code: 'ENOENT' });
    const other = await serve({ ...answers, port: 0, status: () => ({ time: 1 }) as never });
    ends.push(() => other.close());
    await expect(askStatus({ url: `http://127.0.0.1:${other.port}` }, 10_000)).rejects.toThrow(/no status/);
  });
});
