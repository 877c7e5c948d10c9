/** A real Kafka of one broker on loopback, and a proxy before it that loses answers. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Admin, Consumer } from '@platformatic/kafka';
import { createAuthority, type Authority } from './certificates.ts';
import { poll } from './poll.ts';
import { PROJECT } from './project.ts';

interface Program {
  kafkaDirectory(): string;
  whyNoKafka(): string | undefined;
}

const program = (await import(pathToFileURL(join(PROJECT, 'scripts/kafka.mjs')).href)) as Program;
export const whyNoKafka = program.whyNoKafka();

export const USER = 'agent';
export const PASSWORD = 'right-password';
/** At most, of one fetch. */
const FETCH_BYTES = 10 * 1024 * 1024;

export interface TestKafka {
  /** Through the proxy; without TLS and users. */
  address: string;
  /** By TLS, for USER. */
  secured: string;
  authority: Authority;
  /** What the proxy does with each answer of the broker; gives it on by default. */
  answers: { lose: () => boolean };
  createTopic(name: string, partitions: number, configs?: { name: string; value: string }[]): Promise<void>;
  /** All messages of a topic, of which there are at least so many. */
  read(topic: string, atLeast: number): Promise<{ id: string; key: string; partition: number; value: string }[]>;
  kill(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export async function startKafka(): Promise<TestKafka> {
  const directory = mkdtempSync(join(tmpdir(), 'dpi-kafka-'));
  const authority = createAuthority(join(directory, 'authority'));
  const [broker, secured, controller] = await Promise.all([freePort(), freePort(), freePort()]);
  const answers = { lose: () => false };
  const { proxy, port } = await startProxy(broker, answers);
  const properties = join(directory, 'server.properties');
  writeFileSync(properties, propertiesOf({ directory, broker, secured, controller, port, authority }));
  const scram = `SCRAM-SHA-512=[name=${USER},iterations=4096,password=${PASSWORD}]`;
  java(['kafka.tools.StorageTool', 'format', '-t', clusterId(), '-c', properties, '-S', scram]);
  let child: ChildProcess;
  const begin = async (): Promise<void> => {
    child = spawn('java', [...JAVA, 'kafka.Kafka', properties], { stdio: 'ignore' });
    for (const place of [broker, secured]) {
      await poll(() => {
        if (child.exitCode !== null) throw new Error(`Kafka ended with status ${child.exitCode}`);
        return isOpen(place);
      });
    }
  };
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'close');
  };
  await begin();
  const address = `127.0.0.1:${port}`;
  return {
    address,
    secured: `localhost:${secured}`,
    authority,
    answers,
    createTopic: (name, partitions, configs = []) => createTopic(address, name, partitions, configs),
    read: (topic, atLeast) => read(address, topic, atLeast),
    kill,
    restart: begin,
    async stop() {
      await kill();
      proxy.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** One that begins with a hyphen would be taken for an option. */
export function clusterId(): string {
  const bytes = randomBytes(16);
  return Buffer.from([(bytes[0] ?? 0) & 0x7f, ...bytes.subarray(1)]).toString('base64url');
}

export const JAVA = [
  '-Xmx256m',
  '-XX:+UseSerialGC',
  '-XX:TieredStopAtLevel=1',
  '-cp',
  join(program.kafkaDirectory(), 'lib', '*'),
];

export function java(args: string[]): void {
  execFileSync('java', [...JAVA, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
}

interface Places {
  directory: string;
  /** Ports. */
  broker: number;
  secured: number;
  controller: number;
  /** Of the proxy. */
  port: number;
  authority: Authority;
}

function propertiesOf({ directory, broker, secured, controller, port, authority }: Places): string {
  const { key, certificate } = authority.issue('localhost');
  const inLine = (pem: string): string => pem.trim().replaceAll('\n', '\\n');
  return Object.entries({
    'process.roles': 'broker,controller',
    'node.id': 1,
    'controller.quorum.voters': `1@127.0.0.1:${controller}`,
    listeners: `PLAINTEXT://127.0.0.1:${broker},SASL_SSL://127.0.0.1:${secured},CONTROLLER://127.0.0.1:${controller}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port},SASL_SSL://localhost:${secured}`,
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT',
    'sasl.enabled.mechanisms': 'SCRAM-SHA-512',
    'listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config':
      'org.apache.kafka.common.security.scram.ScramLoginModule required;',
    'ssl.keystore.type': 'PEM',
    'ssl.keystore.certificate.chain': inLine(certificate),
    'ssl.keystore.key': inLine(key),
    'log.dirs': join(directory, 'data'),
    'auto.create.topics.enable': false,
    'offsets.topic.replication.factor': 1,
    'offsets.topic.num.partitions': 1,
    'transaction.state.log.replication.factor': 1,
    'transaction.state.log.min.isr': 1,
  })
    .map(([name, value]) => `${name}=${value}\n`)
    .join('');
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

export function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => (socket.destroy(), resolve(true)));
    socket.once('error', () => resolve(false));
  });
}

/** What the broker did is done: only its answers get lost, with their connection. */
async function startProxy(broker: number, answers: { lose: () => boolean }): Promise<{ proxy: Server; port: number }> {
  const proxy = createServer((client: Socket) => {
    const server = connect(broker, '127.0.0.1');
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    client.on('error', end).on('close', end);
    server.on('error', end).on('close', end);
    client.on('data', (bytes) => void server.write(bytes));
    server.on('data', (bytes) => (answers.lose() ? end() : void client.write(bytes)));
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return { proxy, port: (proxy.address() as AddressInfo).port };
}

export async function createTopic(
  address: string,
  name: string,
  partitions: number,
  configs: { name: string; value: string }[],
  replicas = 1,
): Promise<void> {
  const admin = new Admin({ clientId: 'test', bootstrapBrokers: [address] });
  try {
    await admin.createTopics({ topics: [name], partitions, replicas, configs });
  } finally {
    await admin.close();
  }
}

interface Found {
  id: string;
  key: string;
  partition: number;
  value: string;
}

/** All that a topic has, asked of each partition's leader: a group of readers would wait for its coordinator. */
export async function read(address: string, topic: string, atLeast: number): Promise<Found[]> {
  const consumer = new Consumer({ clientId: 'test', bootstrapBrokers: [address], groupId: 'test' });
  try {
    const { topics } = await consumer.metadata({ topics: [topic], forceUpdate: true });
    const { id = '', partitions = [] } = topics.get(topic) ?? {};
    const ends = (await consumer.listOffsets({ topics: [topic] })).get(topic) ?? [];
    const found: Found[] = [];
    for (const [partition, { leader }] of partitions.entries()) {
      const end = Number(ends[partition] ?? 0);
      for (let offset = 0; offset < end;) {
        const messages = await fetchFrom(consumer, leader, id, partition, offset);
        found.push(...messages.map(({ message }) => message));
        offset = (messages.at(-1)?.offset ?? offset - 1) + 1;
      }
    }
    if (found.length < atLeast) throw new Error(`${topic} has ${found.length} messages, not ${atLeast}`);
    return found;
  } finally {
    await new Promise<void>((resolve) => consumer.close(true, () => resolve()));
  }
}

/** Those of a partition from an offset on, as many as come at once; none when the broker has nothing for a second. */
async function fetchFrom(
  consumer: Consumer,
  node: number,
  topicId: string,
  partition: number,
  offset: number,
): Promise<{ offset: number; message: Found }[]> {
  const from = { partition, fetchOffset: BigInt(offset), currentLeaderEpoch: -1, lastFetchedEpoch: -1 };
  const topics = [{ topicId, partitions: [{ ...from, partitionMaxBytes: FETCH_BYTES }] }];
  const { responses } = await consumer.fetch({ node, topics, minBytes: 1, maxBytes: FETCH_BYTES, maxWaitTime: 1000 });
  const batches = responses.flatMap((response) => response.partitions.flatMap(({ records }) => records ?? []));
  return batches
    .flatMap(({ firstOffset, records }) =>
      records.map(({ offsetDelta, key, value, headers }) => ({
        offset: Number(firstOffset) + offsetDelta,
        message: {
          id: headers.find(([name]) => String(name) === 'event_id')?.[1]?.toString() ?? '',
          key: key?.toString() ?? '',
          partition,
          value: value?.toString() ?? '',
        },
      })),
    )
    .filter((record) => record.offset >= offset);
}
