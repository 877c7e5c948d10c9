/**
 * The whole way of an event, run for real: pods' veths → agent with its engine → Elasticsearch, with a proxy before it.
 *
 * The agent runs on a lab's node, which has a network of its own: a process there passes connections on, between its
 * loopback and sockets in a folder (`es.sock` to Elasticsearch's proxy, `agent.sock` to the agent's metrics).
 */
import { expect } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import type { EeEvent } from '../../../agent/events/event.ts';
import { askStatus } from '../../../agent/observe/ask.ts';
import type { Lab, Pod } from '../../../scripts/lab.ts';
import { MARKER, MARKER_RULE, type LogLine } from '../../support/agent.ts';
import type { TestElasticsearch } from '../../support/elasticsearch.ts';
import { startEsProxy, type EsProxy } from '../../support/es-proxy.ts';
import { startRelay } from '../../support/fault-proxy.ts';
import { ethernet, udpPacket } from '../../support/packets.ts';
import { poll } from '../../support/poll.ts';
import { PROJECT } from '../../support/project.ts';
import { watchEngines, type Truth } from './truth.ts';

export type EngineName = 'snort' | 'suricata';

/** Nothing that a case waits for takes this long on a slow machine either. */
const PATIENCE_MILLIS = 300_000;
/** Reports of the capture process without anything new after which all that was sent has come to its end. */
const QUIET_REPORTS = 3;
const ANSWER_MILLIS = 60_000;
/** Room for what comes while the capture process is not run. */
const RING = '8MiB';

const RELAY = `
const net = require('node:net');
const [directory] = process.argv.slice(1);
const pass = (client, target) => {
  const upstream = net.connect(target);
  for (const [from, to] of [[client, upstream], [upstream, client]]) {
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.once('close', () => to.destroy());
  }
};
net.createServer((client) => pass(client, { path: directory + '/es.sock' })).listen(9200, '127.0.0.1');
net.createServer((client) => pass(client, { port: 9097, host: '127.0.0.1' })).listen(directory + '/agent.sock', () => console.log('up'));`;

/** Sends the frames that it reads, a line each in hexadecimal, and prints an empty line for each that it has sent. */
const SENDER = `
import socket, sys
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(('eth0', 0))
for line in sys.stdin:
    out.send(bytes.fromhex(line))
    print(flush=True)`;

export interface FaultAgent {
  pid: number;
  log: LogLine[];
  exited: Promise<number | null>;
  hasEnded(): boolean;
  /** The pid that the log names last. */
  child(kind: 'engine' | 'capture'): number | undefined;
  logged(test: (line: LogLine) => boolean, from?: number): Promise<LogLine>;
  kill(): Promise<void>;
  /** SIGTERM. */
  end(): Promise<number | null>;
}

export interface Rig {
  directory: string;
  state: string;
  journalDirectory: string;
  rules: string;
  proxy: EsProxy;
  truth: Truth;
  index: string;
  /** The agent that was started last. */
  agent(): FaultAgent;
  start(env?: NodeJS.ProcessEnv): FaultAgent;
  /** Resolves when packets are inspected. */
  startAndCapture(env?: NodeJS.ProcessEnv): Promise<FaultAgent>;
  /** Sends packets with `text` at so many a second until the result is called. */
  flow(perSecond: number, text?: string): { sent(): number; stop(): void };
  /** Sends one packet. */
  packet(text: string | Buffer): void;
  /** Value of a metric, its labels as in the text; 0 when it is not there. */
  metric(name: string): Promise<number>;
  metrics(): Promise<Map<string, number>>;
  readiness(): Promise<{ status: number; text: string }>;
  /** Waits until all that was sent is inspected and journaled, and nothing changes any more. */
  atRest(): Promise<Map<string, number>>;
  /** Likewise, with nothing pending in a sink. */
  settled(): Promise<Map<string, number>>;
  journaled(): EeEvent[];
  /** Events that Elasticsearch refused for good. */
  deadLetters(): EeEvent[];
  indexed(): Promise<EeEvent[]>;
  /** Settles, ends the agent and holds what is in the journal and in Elasticsearch against what the engine wrote. */
  checkExact(): Promise<{ alerts: number; generations: number; broken: number; files: number }>;
  close(): Promise<void>;
}

export interface RigOptions {
  lab: Lab;
  pod: Pod;
  engine: EngineName;
  elasticsearch: TestElasticsearch;
  /** A part of the index's name: of one case only. */
  name: string;
  config?: Record<string, unknown>;
  /** Laid over `sinks.elasticsearch`. */
  sink?: Record<string, unknown>;
  journal?: Record<string, unknown>;
  rules?: string;
  /** Makes files in the rig's folder. The result is laid over the configuration; its Elasticsearch over the sink's. */
  prepare?: (directory: string) => Record<string, unknown> & { sinks?: { elasticsearch: Record<string, unknown> } };
  /** Folders under the rig's on file systems of their own. */
  tmpfs?: { folder: string; mebibytes: number }[];
}

export async function openRig(options: RigOptions): Promise<Rig> {
  const { lab, pod, engine, elasticsearch } = options;
  const directory = mkdtempSync(join(tmpdir(), 'dpi-faults-'));
  // The engine's user passes through.
  chmodSync(directory, 0o711);
  const mounts = (options.tmpfs ?? []).map(({ folder, mebibytes }) => {
    const path = join(directory, folder);
    mkdirSync(path, { recursive: true });
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=711`, 'tmpfs', path]);
    return path;
  });
  const state = join(directory, 'state');
  const journalDirectory = join(directory, 'journal');
  const rules = join(directory, 'test.rules');
  writeFileSync(rules, options.rules ?? MARKER_RULE);
  mkdirSync(journalDirectory, { recursive: true });
  const config = join(directory, 'dpi-agent.yaml');
  const cluster = `faults-${process.pid}-${options.name}-${engine}`;
  const index = `tigera_secure_ee_events.${cluster}.lma`;

  const proxy = await startEsProxy(elasticsearch.url);
  const door = await startRelay(proxy.url, join(directory, 'es.sock'));
  const relay = lab.spawn(lab.node, process.execPath, ['-e', RELAY, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => relay.stdout?.once('data', resolve));
  const sender = lab.spawn(pod.netns, 'python3', ['-c', SENDER], { stdio: ['pipe', 'pipe', 'inherit'] });
  sender.stdin?.on('error', () => undefined);
  /** Packets that have left the sender. */
  let gone = 0;
  sender.stdout?.on('data', (lines: Buffer) => (gone += lines.length));

  const prepared = options.prepare?.(directory);
  writeFileSync(
    config,
    stringify({
      node: 'test-node',
      cluster,
      logFormat: 'json',
      logLevel: 'debug',
      stateDirectory: state,
      rules: [rules],
      ruleSets: [],
      endpoints: [
        {
          interface: pod.interface,
          namespace: pod.namespace,
          pod: pod.name,
          addresses: [pod.address],
          resources: ['default/test'],
        },
      ],
      alerts: { burst: 0 },
      capture: { ringSize: RING },
      ...options.config,
      ...prepared,
      journal: { directory: journalDirectory, ...options.journal },
      sinks: {
        elasticsearch: {
          nodes: ['http://127.0.0.1:9200'],
          timeoutMillis: '2s',
          batchEvents: 200,
          batchMillis: '50ms',
          ...options.sink,
          ...prepared?.sinks?.elasticsearch,
        },
      },
    }),
  );

  const truth = watchEngines(state);
  const agents: FaultAgent[] = [];
  let sequence = 0;

  function start(env: NodeJS.ProcessEnv = {}): FaultAgent {
    const started = startAgent(lab, ['run', '-c', config, '-e', engine, '-o', 'none'], env);
    agents.push(started);
    return started;
  }

  function agent(): FaultAgent {
    const last = agents.at(-1);
    if (last === undefined) throw new Error('no agent was started');
    return last;
  }

  function packet(text: string | Buffer): void {
    const payload = Buffer.concat([Buffer.from(text), Buffer.from(` <${sequence}>`)]);
    const udp = udpPacket({
      source: pod.address,
      destination: '10.65.0.8',
      sourcePort: 10_000 + (sequence++ % 50_000),
      destinationPort: 7777,
      payload,
    });
    sender.stdin?.write(`${ethernet(udp).toString('hex')}\n`);
  }

  async function get(path: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: join(directory, 'agent.sock'), path, agent: false, timeout: ANSWER_MILLIS });
      asked.once('response', (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.once('end', () => resolve({ status: response.statusCode ?? 0, text }));
        response.once('error', reject);
      });
      asked.once('error', reject);
      asked.once('timeout', () => asked.destroy(new Error('the agent does not answer')));
      asked.end();
    });
  }

  async function metrics(): Promise<Map<string, number>> {
    const { text } = await get('/metrics');
    return new Map(
      text
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('#'))
        .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
    );
  }

  async function countedAt(): Promise<number | undefined> {
    const { lanes } = await askStatus({ socket: join(state, 'agent.sock') }, ANSWER_MILLIS);
    return lanes[0]?.countedAt;
  }

  /** @param delivers Whether nothing may be pending in a sink. */
  async function atRest(delivers: boolean): Promise<Map<string, number>> {
    const reports = new Set<number>();
    let last = '';
    for (const end = performance.now() + PATIENCE_MILLIS; ; await sleep(200)) {
      const report = await countedAt().catch(() => undefined);
      const found = await metrics().catch(() => new Map<string, number>());
      const pending = found.get(pendingName);
      const counts = [...found].filter(([name]) => /^dpi_agent_(packets|alerts|journal_events)_total/.test(name));
      const now = JSON.stringify([counts, truth.read().positions.size, gone]);
      const isBusy = gone < sequence || pending === undefined || (delivers && pending > 0);
      if (now !== last || isBusy || report === undefined) reports.clear();
      else reports.add(report);
      last = now;
      if (reports.size >= QUIET_REPORTS) return found;
      if (performance.now() > end) {
        throw new Error(`not settled (${now}; ${sequence - gone} unsent; pending ${pending}):\n${tail(agent())}`);
      }
    }
  }

  const settled = (): Promise<Map<string, number>> => atRest(true);

  /** Whole ones, of all segments in a folder, in order. */
  const lines = (folder: string): unknown[] =>
    (existsSync(folder) ? readdirSync(folder) : [])
      .filter((name) => name.endsWith('.ndjson'))
      .sort()
      .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n').slice(0, -1))
      .map((line) => JSON.parse(line) as unknown);
  const journaled = (): EeEvent[] => lines(journalDirectory) as EeEvent[];

  function isAllJournaled(): boolean {
    const positions = new Set(journaled().map(({ record }) => record.position));
    return [...truth.read().positions].every((position) => positions.has(position));
  }

  const indexed = async (): Promise<EeEvent[]> => [...(await elasticsearch.documents(index)).values()] as EeEvent[];

  return {
    directory,
    state,
    journalDirectory,
    rules,
    proxy,
    truth,
    index,
    agent,
    start,
    async startAndCapture(env) {
      const started = start(env);
      await started.logged(({ msg }) => msg === 'capturing');
      await started.logged(({ msg }) => msg === 'engine reads packets');
      return started;
    },
    flow(perSecond, text = `${MARKER} flow`) {
      let sent = 0;
      const began = performance.now();
      const timer = setInterval(() => {
        // What a busy moment held back is not sent all at once.
        const due = Math.min(Math.floor(((performance.now() - began) / 1000) * perSecond) - sent, perSecond / 4 + 1);
        for (let count = 0; count < due; count++, sent++) packet(text);
      }, 10);
      return { sent: () => sent, stop: () => clearInterval(timer) };
    },
    packet,
    metrics,
    metric: async (name) => (await metrics()).get(name) ?? 0,
    readiness: () => get('/readiness'),
    atRest: () => atRest(false),
    settled,
    journaled,
    deadLetters: () =>
      (lines(join(state, 'sinks', 'elasticsearch-dead-letters')) as { event: EeEvent }[]).map(({ event }) => event),
    indexed,
    async checkExact() {
      let found = await settled();
      if (!isAllJournaled()) {
        // If it does not come, what is missing is told below.
        await poll(isAllJournaled).catch(() => undefined);
        found = await settled();
      }
      checkBalance(found);
      expect(await agent().end()).toBe(0);
      const written = truth.read();
      expect(written.positions.size).toBeGreaterThan(0);
      expectSame(
        journaled().map(({ record }) => record.position),
        written.positions,
        'the journal',
      );
      expectSame(
        (await indexed()).map(({ record }) => record.position),
        written.positions,
        'Elasticsearch',
      );
      return { ...written, alerts: written.positions.size };
    },
    async close() {
      truth.close();
      for (const one of agents) await one.kill();
      relay.kill('SIGKILL');
      sender.kill('SIGKILL');
      await door.close();
      await proxy.close();
      // Children of the agents that were killed may take a moment to leave.
      for (const mount of mounts.toReversed()) execFileSync('umount', ['-l', mount]);
      rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
      await elasticsearch.call('DELETE', `/${index}`);
    },
  };
}

const pendingName = 'dpi_agent_sink_pending_events{sink="elasticsearch"}';

export const alertsMetric = (outcome: string): string => `dpi_agent_alerts_total{outcome="${outcome}"}`;
export const sinkMetric = (outcome: string): string =>
  `dpi_agent_sink_events_total{sink="elasticsearch",outcome="${outcome}"}`;

/** Each alert that was read, and each event that was journaled, has become something. */
export function checkBalance(metrics: Map<string, number>): void {
  const alerts = (outcome: string): number => metrics.get(alertsMetric(outcome)) ?? Number.NaN;
  expect(alerts('read') + alerts('copies')).toBe(
    ['journaled', 'merged', 'suppressed', 'recovered', 'unparsable', 'unattributed', 'unasked', 'failed'].reduce(
      (sum, name) => sum + alerts(name),
      0,
    ),
  );
  expect(metrics.get('dpi_agent_journal_events_total')).toBe(
    ['delivered', 'dead_lettered', 'evicted'].reduce(
      (sum, name) => sum + (metrics.get(sinkMetric(name)) ?? Number.NaN),
      metrics.get(pendingName) ?? Number.NaN,
    ),
  );
}

/** Each of the positions is there once, and no other. */
export function expectSame(found: string[], wanted: ReadonlySet<string>, where: string): void {
  const seen = new Set<string>();
  const doubled: string[] = [];
  for (const position of found) {
    if (seen.has(position)) doubled.push(position);
    seen.add(position);
  }
  const lost = [...wanted].filter((position) => !seen.has(position));
  const strange = [...seen].filter((position) => !wanted.has(position));
  // A few are enough to look into.
  const some = (list: string[]): string[] => list.slice(0, 5);
  expect({
    where,
    count: seen.size,
    lost: lost.length,
    doubled: doubled.length,
    strange: strange.length,
    examples: [some(lost), some(doubled), some(strange)],
  }).toEqual({ where, count: wanted.size, lost: 0, doubled: 0, strange: 0, examples: [[], [], []] });
}

function startAgent(lab: Lab, args: string[], env: NodeJS.ProcessEnv): FaultAgent {
  const child = lab.spawn(lab.node, process.execPath, [join(PROJECT, 'bin/dpi-agent.js'), ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, ...env },
  });
  const log: LogLine[] = [];
  let ended = false;
  const exited = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => {
      ended = true;
      resolve(code);
    });
  });
  if (child.stderr === null) throw new Error('the agent has no log');
  createInterface({ input: child.stderr }).on('line', (line) => {
    log.push(line.startsWith('{') ? (JSON.parse(line) as LogLine) : { msg: line });
  });
  const agent: FaultAgent = {
    pid: child.pid ?? 0,
    log,
    exited,
    hasEnded: () => ended,
    child(kind) {
      const message = kind === 'engine' ? 'engine reads packets' : 'capture process';
      const pid = log.findLast(({ msg }) => msg === message)?.['pid'];
      return typeof pid === 'number' ? pid : undefined;
    },
    async logged(test, from = 0) {
      for (const end = performance.now() + PATIENCE_MILLIS; ; await sleep(20)) {
        const found = log.slice(from).find(test);
        if (found !== undefined) return found;
        if (ended || performance.now() > end) {
          throw new Error(`${ended ? 'the agent ended' : 'it did not come'}: ${test.toString()}\n${tail(agent)}`);
        }
      }
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
    async end() {
      child.kill('SIGTERM');
      return exited;
    },
  };
  return agent;
}

function tail({ log }: FaultAgent): string {
  return log
    .slice(-40)
    .map((line) => JSON.stringify(line).slice(0, 500))
    .join('\n');
}

/** Fills a file system to its last byte; the result frees it again. */
export function fillDisk(folder: string): () => void {
  const file = join(folder, 'filler');
  try {
    // dd ends with an error when nothing fits any more: that is what is asked for.
    execFileSync('dd', ['if=/dev/zero', `of=${file}`, 'bs=4k'], { stdio: 'ignore' });
  } catch {
    // Full.
  }
  if (!existsSync(file)) throw new Error(`${folder} could not be filled`);
  return () => rmSync(file);
}
