/** `kafka` of a sink: a message of a topic for each event. */
import * as z from 'zod';
import { about, boolean, bytes, list, millis, text } from '../leaves.ts';
import { batch } from './batch.ts';
import { ALWAYS, caFile, hostAndPort } from './common.ts';

export const kafka = z
  .strictObject({
    brokers: about(
      list(hostAndPort()),
      'a list of <host>:<port>, such as kafka-1.example.com:9093',
      'Brokers that are asked first; they name the others.',
    ),
    topic: about(
      z.string().regex(/^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/),
      'a name of A-Z, a-z, 0-9, ".", "_" and "-"',
      'The topic, which has to be there.',
    ),
    compression: about(
      z.enum(['none', 'gzip', 'snappy', 'lz4']).prefault('gzip'),
      'one of none, gzip, snappy, lz4',
      "How a partition's messages are packed.",
    ),
    tls: about(boolean().prefault(false), 'true or false', 'Whether connections are encrypted.'),
    caFile,
    certFile: about(text().optional(), 'a path', "PEM file of the client's certificate; read again when it changes."),
    keyFile: about(text().optional(), 'a path', 'PEM file of its key.'),
    verifyTls: about(
      boolean().prefault(true),
      'true or false',
      'Whether certificates are checked; false sends events, and credentials, to whoever answers.',
    ),
    saslMechanism: about(
      z.enum(['scram-sha-512', 'scram-sha-256', 'plain']).prefault('scram-sha-512'),
      'one of scram-sha-512, scram-sha-256, plain',
      'How the user signs in, where there is one; plain only with tls.',
    ),
    username: about(text(256).optional(), 'a name', 'The user.'),
    passwordFile: about(text().optional(), 'a path', 'File with the password; read again when it changes.'),
    timeoutMillis: about(
      millis(1000, 600_000).prefault(30_000),
      'milliseconds from 1000 to 600000, such as 30s',
      'How long brokers may take to store messages.',
    ),
    ...batch,
    batchSize: about(
      bytes('64KiB', '64MiB').prefault('768KiB'),
      'a size from 64KiB to 64MiB',
      "At most this much is sent together, before compression; below the brokers' message.max.bytes.",
    ),
  })
  .superRefine((value, context) => {
    const wrong = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message });
    };
    if ((value.username === undefined) !== (value.passwordFile === undefined)) {
      wrong('passwordFile', 'expected both username and passwordFile, or neither');
    }
    if ((value.certFile === undefined) !== (value.keyFile === undefined)) {
      wrong('keyFile', 'expected both certFile and keyFile, or neither');
    }
    if (value.username !== undefined && value.saslMechanism === 'plain' && !value.tls) {
      wrong('saslMechanism', 'expected tls with plain: the password would cross the network in the clear');
    }
    if (!value.tls && (value.caFile ?? value.certFile) !== undefined) wrong('tls', 'expected true with certificates');
    if (value.brokers?.length === 0) wrong('brokers', 'expected brokers');
  }, ALWAYS);
