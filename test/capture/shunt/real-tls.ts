/** What two real TLS ends say to each other: Node's own OpenSSL, and the command `openssl` for 0-RTT. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, createConnection, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  connect,
  createSecureContext,
  TLSSocket,
  type ConnectionOptions,
  type SecureVersion,
  type TLSSocketOptions,
} from 'node:tls';
import type { Certificate } from '../../support/certificates.ts';
import type { Turn } from '../../support/packets.ts';
import { poll } from '../../support/poll.ts';

export interface Talk {
  client?: ConnectionOptions;
  server?: TLSSocketOptions;
  /** What they do once they are connected, before the client ends the connection. */
  body?: (ends: { client: TLSSocket; server: TLSSocket }) => Promise<void>;
  /** false: nobody says goodbye. */
  close?: boolean;
}

export interface Said {
  turns: { from: Turn['from']; data: Buffer }[];
  /** For resumption. */
  session: Buffer | undefined;
}

/** @returns What they said, also if they did not understand each other. */
export async function talk({ client: clientOptions, server: options, body, close = true }: Talk): Promise<Said> {
  const turns: Said['turns'] = [];
  const [clientEnd, serverEnd] = wire(turns);
  const server = new TLSSocket(serverEnd, { isServer: true, ...options });
  const client = connect({
    socket: clientEnd,
    servername: 'shunt.example',
    rejectUnauthorized: false,
    ...clientOptions,
  });
  let session: Buffer | undefined;
  client.on('session', (ticket: Buffer) => (session = ticket));
  let failed = false;
  for (const end of [client, server]) end.on('error', () => (failed = true)).resume();
  let connected = false;
  client.on('secureConnect', () => (connected = true));
  await poll(() => connected || failed);
  if (!failed) {
    await body?.({ client, server });
    await poll(() => session !== undefined || clientOptions?.session !== undefined);
    if (close) {
      client.end();
      await poll(() => server.readableEnded);
      server.end();
    }
  }
  await sleep(50);
  client.destroy();
  server.destroy();
  return { turns, session };
}

function wire(turns: Said['turns']): [Duplex, Duplex] {
  const end = (from: Turn['from'], peer: () => Duplex): Duplex =>
    new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        say(turns, from, Buffer.from(chunk));
        peer().push(chunk);
        done();
      },
      final(done) {
        peer().push(null);
        done();
      },
    });
  const client: Duplex = end('client', () => server);
  const server: Duplex = end('server', () => client);
  return [client, server];
}

function say(turns: Said['turns'], from: Turn['from'], data: Buffer): void {
  const last = turns.at(-1);
  if (last?.from === from) last.data = Buffer.concat([last.data, data]);
  else turns.push({ from, data });
}

/** Sends bytes and waits until the peer has them. */
export async function send(from: TLSSocket, to: TLSSocket, bytes: Buffer): Promise<void> {
  const before = to.bytesRead;
  let received = 0;
  const count = (chunk: Buffer): void => void (received += chunk.length);
  to.on('data', count);
  from.write(bytes);
  await poll(() => received >= bytes.length || to.bytesRead < before);
  to.off('data', count);
}

export async function renegotiate(client: TLSSocket): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    client.renegotiate({ rejectUnauthorized: false }, (error) => (error ? reject(error) : resolve()));
  });
}

/** Options of a server that knows its own tickets again. */
export function serverOptions(
  { key, certificate }: Certificate,
  options: TLSSocketOptions = {},
  minVersion: SecureVersion = 'TLSv1.2',
): TLSSocketOptions {
  const secureContext = createSecureContext({
    key,
    cert: certificate,
    ticketKeys: Buffer.alloc(48, 7),
    minVersion,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  });
  return { secureContext, ...options };
}

/**
 * A connection of TLS 1.3 whose first data travels with the ClientHello, resumed from another one; by a relay between
 * the two commands.
 */
export async function talkEarly(folder: string, { key, certificate }: Certificate, bulk: Buffer): Promise<Said> {
  const file = (name: string, content: string | Buffer): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const keys = ['-key', file('early.key', key), '-cert', file('early.crt', certificate)];
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  const server = spawn('openssl', [
    's_server',
    '-accept',
    `127.0.0.1:${port}`,
    ...keys,
    '-early_data',
    '-tls1_3',
    '-quiet',
  ]);
  server.stdin.on('error', () => undefined);
  server.stdout.resume();
  server.stderr.resume();
  let turns: Said['turns'] = [];
  const relay = createServer((client) => {
    const upstream = createConnection(port, '127.0.0.1');
    client.on('data', (data) => (say(turns, 'client', data), upstream.write(data)));
    upstream.on('data', (data) => (say(turns, 'server', data), client.write(data)));
    for (const end of [client, upstream]) end.on('error', () => undefined);
    client.on('close', () => upstream.destroy());
    upstream.on('close', () => client.destroy());
  }).listen(0, '127.0.0.1');
  await once(relay, 'listening');
  const ticket = join(folder, 'early.session');
  const run = async (args: string[], until: () => boolean): Promise<void> => {
    const to = `127.0.0.1:${(relay.address() as AddressInfo).port}`;
    // With -ign_eof no letter of what it sends is a command.
    const options = ['-connect', to, '-servername', 'early.example', '-tls1_3', '-ign_eof'];
    const client = spawn('openssl', ['s_client', ...options, ...args]);
    client.stdout.resume();
    client.stderr.resume();
    client.stdin.on('error', () => undefined);
    await poll(until);
    if (args.includes('-early_data')) {
      const said = (end: Turn['from']): number =>
        turns.filter(({ from }) => from === end).reduce((sum, { data }) => sum + data.length, 0);
      client.stdin.write(bulk);
      await poll(() => said('client') > bulk.length);
      server.stdin.write(bulk);
      await poll(() => said('server') > bulk.length);
    }
    client.kill();
    await once(client, 'close');
  };
  try {
    await poll(() => isListening(port));
    await run(['-sess_out', ticket], () => existsSync(ticket) && readFileSync(ticket, 'latin1').includes('-----END'));
    turns = [];
    const early = file('early.txt', Buffer.from('early data '.repeat(100)));
    await run(['-sess_in', ticket, '-early_data', early], () => turns.length >= 3);
    return { turns, session: undefined };
  } finally {
    server.kill();
    await once(server, 'close');
    relay.close();
  }
}

async function isListening(port: number): Promise<boolean> {
  const socket = createConnection(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
