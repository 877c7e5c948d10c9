/**
 * What each kind of sink carries to a receiver on loopback that takes all: events a second from a backlog, how long an
 * event takes until it is confirmed, and the memory of it. Elasticsearch, OpenSearch and Kafka are measured where they
 * are there. Receivers run on the same machine and take their part of the CPU.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { startOwnElasticsearch } from '../test/support/elasticsearch-server.ts';
import { PROJECT } from '../test/support/project.ts';
import { fixed, grouped, quantile, type Figure, type Setting } from './bench.ts';
import type { SinkLoad } from './sink-load.ts';

/** Events of the backlog: batches, and one a request. */
const BATCHED = { full: 20_000, quick: 2_000 };
const SINGLE = { full: 3_000, quick: 200 };
const PACED = { full: 300, quick: 50 };
const MEGABYTE = 1e6;

const BATCHING = ['json', 'ndjson', 'cloudevents', 'alertmanager', 'splunk-hec', 'loki', 'otlp', 'elastic-ecs'];
/** Each event is a request. */
const ONE_BY_ONE = ['slack', 'teams', 'discord', 'pagerduty', 'falcosidekick', 'template'];
const SECRETS: ReadonlySet<string> = new Set(['pagerduty', 'splunk-hec']);
const TEMPLATE = '{"title": {{ alert.message | json }}, "key": {{ alert.id | json }}}';

type Add = (what: string, sink: Record<string, unknown>, isSingle?: boolean) => Promise<void>;

/** @throws Error when a sink does not deliver. */
export async function benchSinks(setting: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  const add: Add = async (what, sink, isSingle = false) => {
    setting.say(`sinks: ${what}`);
    figures.push(figureOf(what, await load({ name: 'bench', ...sink }, isSingle, setting.quick), isSingle));
  };
  await overHttp(add);
  await overSyslog(add);
  await toElasticsearch(add, setting);
  await toOpensearch(add, setting);
  await toKafka(add, setting);
  return figures;
}

async function overHttp(add: Add): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'dpi-bench-sinks-'));
  const secretFile = join(directory, 'secret');
  writeFileSync(secretFile, 'bench-secret');
  const server = createHttpServer((request, response) => {
    request.resume().once('end', () => response.writeHead(200).end('{"code":0}'));
  });
  const url = `http://127.0.0.1:${await listen(server)}/`;
  try {
    for (const format of [...BATCHING, ...ONE_BY_ONE]) {
      const http = {
        url,
        format,
        ...(SECRETS.has(format) ? { secretFile } : {}),
        ...(format === 'template' ? { template: TEMPLATE } : {}),
      };
      await add(`http, ${format}`, { http }, ONE_BY_ONE.includes(format));
    }
  } finally {
    server.close();
    rmSync(directory, { recursive: true });
  }
}

async function overSyslog(add: Add): Promise<void> {
  const server = createTcpServer((socket) => void socket.resume().on('error', () => undefined));
  const address = `127.0.0.1:${await listen(server)}`;
  try {
    for (const format of ['rfc5424', 'cef', 'leef'])
      await add(`syslog over TCP, ${format}`, { syslog: { address, format } });
  } finally {
    server.close();
  }
}

async function toElasticsearch(add: Add, setting: Setting): Promise<void> {
  // Of the project's folder: dist/ has no copy.
  const program = pathToFileURL(join(PROJECT, 'scripts/elasticsearch.mjs')).href;
  const { isElasticsearchThere } = (await import(program)) as { isElasticsearchThere: () => boolean };
  if (!isElasticsearchThere()) return setting.say('sinks: no Elasticsearch: run node scripts/elasticsearch.mjs');
  const server = await startOwnElasticsearch({ heap: '1g' });
  try {
    await add('Elasticsearch', { elasticsearch: { nodes: [server.url] } });
  } finally {
    await server.stop();
  }
}

async function toOpensearch(add: Add, setting: Setting): Promise<void> {
  const { startOpensearch, whyNoOpensearch } = await import('../test/support/opensearch.ts');
  if (whyNoOpensearch !== undefined) return setting.say(`sinks: ${whyNoOpensearch}`);
  const server = await startOpensearch();
  try {
    await add('OpenSearch', { opensearch: { nodes: [server.url] } });
    const stream = { nodes: [server.url], dataStream: true, schema: 'ecs' };
    await add('OpenSearch, data stream in ECS', { opensearch: stream });
  } finally {
    await server.stop();
  }
}

async function toKafka(add: Add, setting: Setting): Promise<void> {
  const { startKafka, whyNoKafka } = await import('../test/support/kafka.ts');
  if (whyNoKafka !== undefined) return setting.say(`sinks: ${whyNoKafka}`);
  const kafka = await startKafka();
  try {
    await kafka.createTopic('bench', 3);
    await add('Kafka, one broker', { kafka: { brokers: [kafka.address], topic: 'bench' } });
  } finally {
    await kafka.stop();
  }
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

async function load(sink: object, isSingle: boolean, quick: boolean): Promise<SinkLoad> {
  const size = quick ? 'quick' : 'full';
  const words = [JSON.stringify(sink), (isSingle ? SINGLE : BATCHED)[size], PACED[size]].map(String);
  const program = join(PROJECT, 'dist/bench/sink-load.js');
  const { stdout } = await promisify(execFile)(process.execPath, [program, ...words], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout) as SinkLoad;
}

function figureOf(what: string, found: SinkLoad, isSingle: boolean): Figure {
  const [p50, p99] = [0.5, 0.99].map((part) => `${grouped(quantile(found.millis, part))} ms`);
  const heap = (found.heapAfter - found.heapBefore) / MEGABYTE;
  const details = [
    `until confirmed p50 ${p50}, p99 ${p99}`,
    `RSS ${grouped(found.rssBefore / MEGABYTE)} to ${grouped(found.rssMost / MEGABYTE)} MB`,
    `heap ${heap < 0 ? '' : '+'}${fixed(heap, 1)} MB`,
    `CPU ${grouped(found.cpuMicros)} µs an event`,
    ...(isSingle ? ['each event a request'] : []),
  ];
  return { engine: '-', what, value: `${grouped(found.eventsPerSecond)} events/s`, details: details.join('; ') };
}
