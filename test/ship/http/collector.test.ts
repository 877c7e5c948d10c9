/** What a real OpenTelemetry Collector understands of logs: it hands them on to a server of the test. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { collectorProgram } from '../../../scripts/collector.mjs';
import { freePort } from '../../support/elasticsearch-server.ts';
import { poll } from '../../support/poll.ts';
import { startServer, type TestServer } from './server.ts';
import { eventOf, failureOf, httpSink, itemOf, NEVER } from './support.ts';

const isThere = existsSync(collectorProgram());
if (!isThere) process.stderr.write('skipped: no OpenTelemetry Collector here: run node scripts/collector.mjs\n');
const testWithCollector = isThere ? test : test.skip;

let directory: string;
let collector: ChildProcess | undefined;
let behind: TestServer | undefined;
let url: string;
/** What the server behind the collector says. */
let status = 200;

beforeAll(async () => {
  if (!isThere) return;
  directory = await mkdtemp(join(tmpdir(), 'collector-'));
  behind = await startServer((_, response) =>
    response.writeHead(status, { 'content-type': 'application/json' }).end('{}'),
  );
  const port = await freePort();
  url = `http://127.0.0.1:${port}/v1/logs`;
  const file = join(directory, 'config.yaml');
  await writeFile(file, configOf(port, behind.url));
  const child = spawn(collectorProgram(), ['--config', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  collector = child;
  let output = '';
  child.stderr.on('data', (chunk: Buffer) => (output = `${output}${chunk.toString()}`.slice(-4000)));
  await poll(() => {
    if (child.exitCode !== null) throw new Error(`the collector ended\n${output}`);
    return isOpen(port);
  });
});

afterAll(async () => {
  if (collector?.exitCode === null) {
    const closed = once(collector, 'close');
    collector.kill('SIGKILL');
    await closed;
  }
  await behind?.close();
  if (isThere) await rm(directory, { recursive: true });
});

beforeEach(() => {
  status = 200;
  behind?.received.splice(0);
});

/** It answers when what is behind it has answered. */
function configOf(port: number, next: string): string {
  return JSON.stringify({
    receivers: { otlp: { protocols: { http: { endpoint: `127.0.0.1:${port}` } } } },
    exporters: {
      otlp_http: {
        endpoint: next,
        encoding: 'json',
        compression: 'none',
        sending_queue: { enabled: false },
        retry_on_failure: { enabled: false },
      },
    },
    service: {
      telemetry: { metrics: { level: 'none' }, logs: { level: 'warn' } },
      pipelines: { logs: { receivers: ['otlp'], exporters: ['otlp_http'] } },
    },
  });
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => (socket.destroy(), resolve(true)));
    socket.once('error', () => resolve(false));
  });
}

interface Attribute {
  key: string;
  value: { stringValue?: string; intValue?: string };
}

interface Logs {
  resourceLogs: {
    resource: { attributes: Attribute[] };
    scopeLogs: { logRecords: { attributes: Attribute[]; body: { stringValue: string } }[] }[];
  }[];
}

function plain(attributes: readonly Attribute[]): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue)]));
}

const received = (): Logs[] => behind?.received.map(({ body }) => JSON.parse(body) as Logs) ?? [];

testWithCollector('records arrive with severity, body and attributes, each once by its id', async () => {
  const destination = await httpSink({ url, format: 'otlp', labels: { team: 'soc' } });
  const events = [eventOf(0), eventOf(1, { severity: 40 }, { message: 'héé "quoted" \\ </script>' })];
  const items = events.map((event, number) => itemOf(event, number));
  expect(await destination.send(items, NEVER)).toEqual(items.map(() => ({ is: 'delivered' })));
  const [logs, ...more] = received();
  expect(more).toEqual([]);
  const [group] = logs?.resourceLogs ?? [];
  expect(plain(group?.resource.attributes ?? [])).toEqual({
    'service.name': 'dpi-agent',
    'k8s.cluster.name': 'lab',
    'k8s.node.name': 'node-1',
    team: 'soc',
  });
  const records = group?.scopeLogs[0]?.logRecords ?? [];
  expect(records).toMatchObject([
    {
      severityNumber: 21,
      severityText: 'FATAL',
      eventName: 'dpi-agent.alert',
      timeUnixNano: `${Date.UTC(2026, 0, 2, 3, 4, 5, 678)}000000`,
      body: { stringValue: expect.stringContaining('MALWARE-CNC <!channel> *beacon*') },
    },
    {
      severityNumber: 9,
      severityText: 'INFO',
      body: { stringValue: expect.stringContaining('héé "quoted" \\ </script>') },
    },
  ]);
  const attributes = plain(records[0]?.attributes ?? []);
  expect(attributes).toMatchObject({
    'log.record.uid': items[0]?.id,
    'network.transport': 'tcp',
    'k8s.namespace.name': 'shop',
    'k8s.pod.name': 'db-0',
    'dpi.signature': '1:21562:3',
    'dpi.severity': 100,
    'dpi.tactic': 'Command and Control',
    'dpi.resource': 'shop/web',
  });
  expect(JSON.parse(String(attributes['dpi.event']))).toEqual(events[0]);
  await destination.close();
});

testWithCollector(
  'what the collector can not hand on is not taken for delivered, and comes again with its id',
  async () => {
    const destination = await httpSink({ url, format: 'otlp' });
    const item = itemOf(eventOf(5));
    status = 503;
    expect(await failureOf(destination.send([item], NEVER))).toMatchObject({ failure: 'server_error' });
    status = 200;
    expect(await destination.send([item], NEVER)).toEqual([{ is: 'delivered' }]);
    const ids = received().map((logs) => plain(logs.resourceLogs[0]?.scopeLogs[0]?.logRecords[0]?.attributes ?? []));
    expect(ids.map((attributes) => attributes['log.record.uid'])).toEqual([item.id, item.id]);
    await destination.close();
  },
);
