/** A real Kafka of three brokers on loopback, which keep what they have when they are killed. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Admin } from '@platformatic/kafka';
import { clusterId, createTopic, freePort, isOpen, JAVA, java } from './kafka.ts';
import { poll } from './poll.ts';

const BROKERS = [0, 1, 2] as const;

export interface KafkaCluster {
  /** By broker. */
  addresses: readonly string[];
  /** Three replicas of each partition. */
  createTopic(name: string, partitions: number, minInSync: number): Promise<void>;
  /** The broker that leads a partition, as another one says. */
  leaderOf(topic: string, partition: number): Promise<number>;
  /** The values of all messages of a topic's partitions, as a broker that has all of them keeps them. */
  stored(topic: string, partitions: number): string[];
  /** SIGKILL. */
  kill(broker: number): Promise<void>;
  restart(broker: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startKafkaCluster(): Promise<KafkaCluster> {
  const directory = mkdtempSync(join(tmpdir(), 'dpi-kafka-cluster-'));
  const ports = await Promise.all(BROKERS.map(freePort));
  const controllers = await Promise.all(BROKERS.map(freePort));
  const addresses = ports.map((port) => `127.0.0.1:${port}`);
  const id = clusterId();
  const files = BROKERS.map((broker) => writeProperties(directory, broker, ports[broker] ?? 0, controllers));
  for (const file of files) java(['kafka.tools.StorageTool', 'format', '-t', id, '-c', file]);
  const children: ChildProcess[] = [];
  const isRunning = (broker: number): boolean =>
    children[broker]?.exitCode === null && children[broker]?.signalCode === null;
  const living = (): string[] => addresses.filter((_, broker) => isRunning(broker));
  const begin = (broker: number): void => {
    children[broker] = spawn('java', [...JAVA, 'kafka.Kafka', files[broker] ?? ''], { stdio: 'ignore' });
  };
  const opened = (broker: number): Promise<boolean> =>
    poll(() => {
      if (!isRunning(broker)) throw new Error(`broker ${broker} ended`);
      return isOpen(ports[broker] ?? 0);
    });
  const kill = async (broker: number): Promise<void> => {
    const child = children[broker];
    if (child === undefined || !isRunning(broker)) return;
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
  };
  BROKERS.forEach(begin);
  await Promise.all(BROKERS.map(opened));
  return {
    addresses,
    createTopic: (name, partitions, minInSync) =>
      createTopic(addresses[0] ?? '', name, partitions, [{ name: 'min.insync.replicas', value: `${minInSync}` }], 3),
    leaderOf: (topic, partition) => leaderOf(living(), topic, partition),
    stored: (topic, partitions) =>
      Array.from({ length: partitions }, (_, number) => join(directory, '0', 'data', `${topic}-${number}`)).flatMap(
        dump,
      ),
    kill,
    // One that is alone waits for another one before it opens.
    async restart(broker) {
      begin(broker);
      await opened(broker);
    },
    async stop() {
      await Promise.all(BROKERS.map(kill));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function writeProperties(directory: string, broker: number, port: number, controllers: readonly number[]): string {
  const own = join(directory, `${broker}`);
  mkdirSync(own);
  const file = join(own, 'server.properties');
  const properties = {
    'process.roles': 'broker,controller',
    'node.id': broker,
    'controller.quorum.voters': controllers.map((place, node) => `${node}@127.0.0.1:${place}`).join(','),
    listeners: `PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllers[broker]}`,
    'controller.listener.names': 'CONTROLLER',
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
    'log.dirs': join(own, 'data'),
    'auto.create.topics.enable': false,
    'offsets.topic.replication.factor': 3,
    'offsets.topic.num.partitions': 1,
    // A broker that is gone is noticed after these.
    'broker.session.timeout.ms': 3000,
    'broker.heartbeat.interval.ms': 500,
    'replica.lag.time.max.ms': 3000,
    'unclean.leader.election.enable': false,
  };
  const lines = Object.entries(properties).map(([name, value]) => `${name}=${value}\n`);
  writeFileSync(file, lines.join(''));
  return file;
}

async function leaderOf(brokers: string[], topic: string, partition: number): Promise<number> {
  const admin = new Admin({ clientId: 'test', bootstrapBrokers: brokers });
  try {
    const { topics } = await admin.metadata({ topics: [topic] });
    const leader = topics.get(topic)?.partitions[partition]?.leader;
    if (leader === undefined || leader < 0) throw new Error(`partition ${partition} of ${topic} has no leader`);
    return leader;
  } finally {
    await admin.close();
  }
}

/** By Kafka's own program. */
function dump(directory: string): string[] {
  const files = readdirSync(directory).filter((name) => name.endsWith('.log'));
  const args = ['kafka.tools.DumpLogSegments', '--print-data-log', '--files'];
  const list = files.map((name) => join(directory, name)).join(',');
  const text = execFileSync('java', [...JAVA, ...args, list], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return [...text.matchAll(/ payload: (.*)$/gm)].map(([, value = '']) => value);
}
