/**
 * From the journal to a real Elasticsearch: events journaled a second, delivered a second after it was away, the
 * agent's memory meanwhile, and from a packet to a document that a search finds. Elasticsearch runs on the same machine
 * and takes its part of the CPU.
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import type { EeEvent } from '../agent/events/event.ts';
import { openJournal } from '../agent/journal/journal.ts';
import type { Lab, Pod } from '../scripts/lab.ts';
import { type Workspace } from '../test/support/agent.ts';
import { freePort, startOwnElasticsearch, type TestElasticsearch } from '../test/support/elasticsearch-server.ts';
import { PROJECT } from '../test/support/project.ts';
import { RULE_SETS } from './alone.ts';
import {
  fixed,
  grouped,
  quantile,
  runAgent,
  watch,
  withLab,
  withWorkspace,
  within,
  type Figure,
  type Setting,
} from './bench.ts';
import { eventLine } from './event-line.ts';

const BACKLOG = { full: 1_000_000, quick: 20_000 };
/** Events of one append. */
const BATCH = 100;
const AWAY_MILLIS = { full: 30_000, quick: 5_000 };
const MARKERS = { full: 500, quick: 50 };
const SPACING_MILLIS = 20;
const BACKGROUND = 1_000;
const UDP_PORT = 7777;
const POLL_MILLIS = 10;
/** Without progress for so long, the drain is given up. */
const STUCK_MILLIS = 60_000;
const MEGABYTE = 1e6;
const PATIENCE_MILLIS = 120_000;
/** Elasticsearch's, of Java. */
const HEAP = '1g';

/** @throws Error when there is no Elasticsearch here, or something does not end. */
export async function benchDelivery(setting: Setting): Promise<Figure[]> {
  const results: Figure[] = [];
  const add = (what: string, value: string, details: string): void => {
    results.push({ engine: setting.engine.name, what, value, details });
  };
  await withWorkspace(async (workspace) => {
    setting.say('delivery: starting Elasticsearch');
    const server = await startOwnElasticsearch({ heap: HEAP });
    try {
      await withLab((lab) => timeSearchable(setting, workspace, lab, server, add));
    } finally {
      await server.stop();
    }
  });
  await withWorkspace(async (workspace) => {
    const server = await startOwnElasticsearch({ heap: HEAP });
    try {
      await fillAndDrain(setting, workspace, server, add);
    } finally {
      await server.stop();
    }
  });
  return results;
}

type Add = (what: string, value: string, details: string) => void;

/** Journals a backlog, runs an agent on it while Elasticsearch is away, and lets it come back. */
async function fillAndDrain(
  setting: Setting,
  workspace: Workspace,
  server: TestElasticsearch,
  add: Add,
): Promise<void> {
  const count = setting.quick ? BACKLOG.quick : BACKLOG.full;
  const cluster = 'bench-backlog';
  await server.kill();

  setting.say(`delivery: ${grouped(count)} events into the journal`);
  const journal = await openJournal({
    directory: workspace.journal,
    segmentSize: 64 << 20,
    maxSize: 16 * 2 ** 30,
    segmentAge: 86_400_000,
    maxAge: 0,
    fsync: true,
  });
  let seconds = 0;
  try {
    for (let first = 0; first < count; first += BATCH) {
      const lines = Array.from({ length: Math.min(BATCH, count - first) }, (_, index) => eventLine(first + index));
      const started = performance.now();
      await journal.append(lines);
      seconds += (performance.now() - started) / 1000;
    }
  } finally {
    await journal.close();
  }
  const bytes = Buffer.byteLength(eventLine(count - 1).json) + 1;
  add(
    'events journaled a second',
    grouped(count / seconds),
    `${grouped(count)} events of ${bytes} bytes, appended ${BATCH} at a time with fdatasync`,
  );

  const port = await freePort();
  const config = join(workspace.directory, 'dpi-agent.yaml');
  writeFileSync(
    config,
    stringify({
      node: 'bench-node',
      cluster,
      logFormat: 'json',
      stateDirectory: join(workspace.directory, 'state'),
      rules: [workspace.rules, ...setting.rules],
      ruleSets: RULE_SETS,
      // An interface that does not come: this is about what is there already.
      endpoints: [
        { interface: 'dpi-none', namespace: 'default', pod: 'none', addresses: [], resource: 'default/none' },
      ],
      journal: { directory: workspace.journal, maxSize: '16GiB', maxAge: 0 },
      http: { port, address: '127.0.0.1' },
      sinks: { elasticsearch: { nodes: [server.url] } },
    }),
  );
  setting.say('delivery: Elasticsearch is away');
  const agent = spawn(
    process.execPath,
    [join(PROJECT, 'bin/dpi-agent.js'), 'run', '-c', config, '-e', setting.engine.name],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let log = '';
  agent.stderr.setEncoding('utf8').on('data', (text: string) => (log = `${log}${text}`.slice(-4000)));
  const ended = watch(agent);
  ended.catch(() => undefined);
  const pid = agent.pid ?? 0;
  try {
    await until(
      'the agent reads its backlog',
      () => log,
      async () => (await sinkMetric(port, 'pending_events')) === count,
    );
    const away: number[] = [];
    for (const end = performance.now() + AWAY_MILLIS[setting.quick ? 'quick' : 'full']; performance.now() < end;) {
      away.push(rss(pid));
      await sleep(500);
    }
    add(
      'memory of the agent, Elasticsearch away',
      `${fixed(Math.max(...away) / MEGABYTE, 1)} MB`,
      `largest RSS of the agent's process in ${away.length / 2} s; ${grouped(count)} events pending`,
    );

    setting.say('delivery: Elasticsearch comes back');
    await server.restart();
    await until(
      'the circuit closes',
      () => log,
      async () => (await sinkMetric(port, 'pending_events')) < count,
    );
    const begun = { at: performance.now(), pending: await sinkMetric(port, 'pending_events') };
    const draining: number[] = [];
    let last = { ...begun };
    while (last.pending > 0) {
      draining.push(rss(pid));
      await sleep(200);
      const pending = await sinkMetric(port, 'pending_events');
      if (pending < last.pending) last = { at: performance.now(), pending };
      else if (performance.now() - last.at > STUCK_MILLIS) throw new Error(`the drain stands still\n${log}`);
    }
    const drained = begun.pending - last.pending;
    add(
      'events delivered a second',
      grouped((drained * 1000) / (last.at - begun.at)),
      `${grouped(drained)} events in ${fixed((last.at - begun.at) / 1000, 1)} s, batches of at most 1,000`,
    );
    add(
      'memory of the agent, draining',
      `${fixed(Math.max(...draining) / MEGABYTE, 1)} MB`,
      "largest RSS of the agent's process",
    );
    const found = await countDocuments(server, indexOf(cluster));
    if (found !== count) throw new Error(`${found} documents of ${count} events`);
  } finally {
    agent.kill('SIGTERM');
    await within(PATIENCE_MILLIS, 'the end of the agent', ended);
  }
}

/** From a packet's capture time until a search that is asked every 10 ms has its document. */
async function timeSearchable(
  setting: Setting,
  workspace: Workspace,
  lab: Lab,
  server: TestElasticsearch,
  add: Add,
): Promise<void> {
  const count = setting.quick ? MARKERS.quick : MARKERS.full;
  const cluster = 'bench-latency';
  const client = lab.addPod({ name: 'client', address: '10.65.0.2' });
  const pod = lab.addPod({ name: 'server', address: '10.65.0.3' });
  await listen(lab, pod);
  const closeDoor = await openDoor(lab, workspace.directory, server);
  setting.say('delivery: packet to search');
  const agent = await within(
    PATIENCE_MILLIS,
    'the start of dpi-agent',
    runAgent({
      lab,
      engine: setting.engine.name,
      workspace,
      pods: [pod],
      ruleSets: RULE_SETS,
      config: {
        cluster,
        logLevel: 'info',
        rules: [workspace.rules, ...setting.rules],
        sinks: { elasticsearch: { nodes: ['http://127.0.0.1:9200'] } },
      },
    }),
  );
  try {
    // Index, rings and compiled code are there after the first ones.
    await talk(lab, client, pod, 20);
    const seen = new Set<string>();
    const millis: number[] = [];
    const poll = async (): Promise<void> => {
      const hits = await newest(server, indexOf(cluster));
      const at = Date.now();
      for (const { id, timestamp } of hits) {
        if (seen.has(id)) continue;
        seen.add(id);
        millis.push(at - Date.parse(timestamp));
      }
    };
    await until(
      'the first events are found',
      () => '',
      async () => {
        await poll();
        return seen.size >= 20;
      },
    );
    const warm = millis.length;
    const talking = talk(lab, client, pod, count);
    talking.catch(() => undefined);
    await within(
      2 * PATIENCE_MILLIS,
      `${count} documents`,
      (async () => {
        while (millis.length - warm < count) {
          await poll();
          await sleep(POLL_MILLIS);
        }
      })(),
    );
    await talking;
    const timed = millis.slice(warm);
    for (const [name, part] of [
      ['p50', 0.5],
      ['p99', 0.99],
      ['max', 1],
    ] as const) {
      add(
        `packet to searchable document, ${name}`,
        `${grouped(quantile(timed, part))} ms`,
        `${grouped(timed.length)} events, batchMillis 200, refresh_interval 1 s`,
      );
    }
  } finally {
    await agent.stop();
    closeDoor();
  }
}

/** The documents of the last 10 s, at most 1,000. */
async function newest(server: TestElasticsearch, index: string): Promise<{ id: string; timestamp: string }[]> {
  const body = {
    size: 1000,
    track_total_hits: false,
    _source: ['record.timestamp'],
    query: { range: { 'record.timestamp': { gte: new Date(Date.now() - 10_000).toISOString() } } },
    sort: [{ 'record.timestamp': 'desc' }],
  };
  const answer = await fetch(`${server.url}/${index}/_search?ignore_unavailable=true`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const found = (await answer.json()) as { hits?: { hits: { _id: string; _source: Pick<EeEvent, 'record'> }[] } };
  return (found.hits?.hits ?? []).map(({ _id, _source }) => ({ id: _id, timestamp: _source.record.timestamp }));
}

async function countDocuments(server: TestElasticsearch, index: string): Promise<number> {
  await fetch(`${server.url}/${index}/_refresh`, { method: 'POST' });
  return ((await (await fetch(`${server.url}/${index}/_count`)).json()) as { count: number }).count;
}

function indexOf(cluster: string): string {
  return `tigera_secure_ee_events.${cluster}.lma`;
}

/** Resident memory in bytes. */
function rss(pid: number): number {
  const [, kibibytes = '0'] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kibibytes) * 1024;
}

/** NaN while the agent does not answer. */
async function sinkMetric(port: number, name: string): Promise<number> {
  try {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    const [, value] = new RegExp(`^dpi_agent_sink_${name}\\{sink="elasticsearch"\\} (\\S+)$`, 'm').exec(text) ?? [];
    return value === undefined ? NaN : Number(value);
  } catch {
    return NaN;
  }
}

async function talk(lab: Lab, client: Pod, server: Pod, count: number): Promise<void> {
  const words = [server.address, UDP_PORT, count, SPACING_MILLIS, BACKGROUND].map(String);
  const args = [join(PROJECT, 'dist/bench/talker.js'), ...words];
  const child = lab.spawn(client.netns, process.execPath, args, { stdio: 'inherit' });
  const { code } = await within(30_000 + 2 * count * SPACING_MILLIS, 'sending', watch(child));
  if (code !== 0) throw new Error(`the talker ended with status ${code}`);
}

/** Takes datagrams, so that nothing answers with ICMP, which would quote the marker. */
async function listen(lab: Lab, pod: Pod): Promise<void> {
  const source = `require('node:dgram').createSocket('udp4').bind(${UDP_PORT}, () => console.log('up'))`;
  await upIn(lab, pod.netns, source);
}

/** Leads port 9200 of the lab's node to the server. @returns the function that closes it. */
async function openDoor(lab: Lab, directory: string, server: TestElasticsearch): Promise<() => void> {
  const socket = join(directory, 'elasticsearch.sock');
  const door = createServer((client) => {
    const upstream = connect(Number(new URL(server.url).port), '127.0.0.1');
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.once('close', () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => door.listen(socket, resolve));
  const source = `const net = require('node:net');
net.createServer((client) => {
  const upstream = net.connect(${JSON.stringify(socket)});
  for (const [from, to] of [[client, upstream], [upstream, client]]) {
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.once('close', () => to.destroy());
  }
}).listen(9200, '127.0.0.1', () => console.log('up'))`;
  await upIn(lab, lab.node, source);
  return () => void door.close();
}

async function upIn(lab: Lab, netns: string, source: string): Promise<void> {
  const child = lab.spawn(netns, process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] });
  watch(child).catch(() => undefined);
  await within(10_000, 'the listener', new Promise((resolve) => child.stdout?.once('data', resolve)));
}

async function until(what: string, log: () => string, test: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MILLIS; performance.now() < end; await sleep(50)) {
    if (await test()) return;
  }
  throw new Error(`${what}: not in ${PATIENCE_MILLIS / 1000} s\n${log()}`);
}
