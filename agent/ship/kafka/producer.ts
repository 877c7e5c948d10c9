/** The client: idempotent, all replicas in sync have to store a message, and it makes no topics. */
import { isIP } from 'node:net';
import { Producer, stringSerializers } from '@platformatic/kafka';
import type { KafkaSettings } from '../../config/sinks.ts';
import type { Secrets } from './secrets.ts';

export type TextProducer = Producer<string, string, string, string>;
export type TextMessage = Parameters<TextProducer['send']>[0]['messages'][number];

const MAX_CONNECT_MILLIS = 10_000;
/** Of the client itself, with the same sequence numbers; fewer than 2 would mean without end. */
const RETRIES = 2;
const RETRY_MILLIS = 200;
const METADATA_MILLIS = 60_000;

export function createProducer(settings: KafkaSettings, secrets: Secrets): TextProducer {
  const { brokers, timeoutMillis, compression } = settings;
  return new Producer({
    clientId: 'dpi-agent',
    bootstrapBrokers: brokers.map(brokerOf),
    serializers: stringSerializers,
    idempotent: true,
    compression,
    autocreateTopics: false,
    retries: RETRIES,
    retryDelay: RETRY_MILLIS,
    metadataMaxAge: METADATA_MILLIS,
    connectTimeout: Math.min(MAX_CONNECT_MILLIS, timeoutMillis),
    requestTimeout: timeoutMillis,
    // What brokers may take to store it.
    timeout: timeoutMillis,
    ...tlsOf(settings, secrets),
    ...saslOf(settings, secrets),
  });
}

function brokerOf(address: string): { host: string; port: number } {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  return { host, port: Number(port) };
}

function tlsOf({ tls, verifyTls, brokers }: KafkaSettings, { ca, certificate, key }: Secrets) {
  if (!tls) return {};
  const trust = { rejectUnauthorized: verifyTls, ...(ca === undefined ? {} : { ca }) };
  const own = certificate === undefined || key === undefined ? {} : { cert: certificate, key };
  // Addresses are no names of servers (RFC 6066, 3).
  const isNamed = brokers.every((broker) => isIP(brokerOf(broker).host) === 0);
  return { tls: { ...trust, ...own }, tlsServerName: isNamed };
}

const MECHANISMS = { plain: 'PLAIN', 'scram-sha-256': 'SCRAM-SHA-256', 'scram-sha-512': 'SCRAM-SHA-512' } as const;

function saslOf({ saslMechanism, username }: KafkaSettings, { password }: Secrets) {
  if (username === undefined || password === undefined) return {};
  return { sasl: { mechanism: MECHANISMS[saslMechanism], username, password } };
}
