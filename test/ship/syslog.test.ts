import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createServer as createTlsServer, Server as TlsServer } from 'node:tls';
import { afterEach, expect, test } from '@jest/globals';
import type { Destination, Item } from '../../agent/ship/destination.ts';
import { createSyslog } from '../../agent/ship/syslog.ts';
import type { SyslogOptions } from '../../agent/ship/syslog.ts';
import { until } from './support.ts';

const ends: (() => unknown)[] = [];
const { signal } = new AbortController();

afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

const item = (event: object, number = 0): Item => ({ number, id: `e${number}`, json: JSON.stringify(event) });
const event = { severity: 100, host: 'nöde 1', record: { timestamp: '2026-01-02T03:04:05.678901Z', message: 'ä€' } };

function create(port: number, options: Partial<SyslogOptions> = {}): Destination {
  const destination = createSyslog({
    address: `127.0.0.1:${port}`,
    protocol: 'tcp',
    facility: 'local4',
    ...options,
  });
  ends.push(() => destination.close());
  return destination;
}

async function listen(server: Server): Promise<{ port: number; sockets: Socket[]; text: () => string }> {
  const sockets: Socket[] = [];
  const chunks: Buffer[] = [];
  const collect = (socket: Socket): void => {
    sockets.push(socket);
    socket.on('data', (chunk) => chunks.push(chunk)).on('error', () => undefined);
  };
  server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', collect);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, sockets, text: () => Buffer.concat(chunks).toString() };
}

const message = (json: string, priority = 161): string =>
  `<${priority}>1 2026-01-02T03:04:05.678901Z nde1 dpi-agent ${process.pid} ee_event [origin software="dpi-agent"] ${json}`;
const framed = (text: string): string => `${Buffer.byteLength(text)} ${text}`;

test('over TCP each event is a message of RFC 5424, framed by its length in bytes', async () => {
  const server = await listen(createServer());
  const minor = { ...event, severity: 40 };
  expect(await create(server.port).send([item(event), item(minor)], signal)).toEqual([
    { is: 'delivered' },
    { is: 'delivered' },
  ]);
  const expected = framed(message(JSON.stringify(event))) + framed(message(JSON.stringify(minor), 164));
  await until(() => server.text().length >= expected.length);
  expect(server.text()).toBe(expected);
});

test('with newlines, each message ends with one, and has no other', async () => {
  const server = await listen(createServer());
  const tricky = { ...event, description: 'two\nlines' };
  await create(server.port, { framing: 'newline' }).send([item(event), item(tricky)], signal);
  const expected = [event, tricky].map((each) => `${message(JSON.stringify(each))}\n`).join('');
  await until(() => server.text().length >= expected.length);
  expect(server.text()).toBe(expected);
});

test.each([
  ['cef', ' - CEF:0|dpi-agent||'],
  ['leef', ' - LEEF:2.0|dpi-agent||'],
] as const)('%s has the same header, and says the event in its own way', async (format, text) => {
  const server = await listen(createServer());
  await create(server.port, { format, framing: 'newline' }).send([item(event)], signal);
  await until(() => server.text().endsWith('\n'));
  expect(server.text()).toContain(`<161>1 2026-01-02T03:04:05.678901Z nde1 dpi-agent ${process.pid} ee_event${text}`);
});

test('one connection is kept, and a new one made when the peer has closed it', async () => {
  const server = await listen(createServer());
  const destination = create(server.port);
  await destination.send([item(event)], signal);
  await destination.send([item(event)], signal);
  const before = new Set(server.sockets.map(({ remotePort }) => remotePort));
  expect(before.size).toBe(1);
  const one = framed(message(JSON.stringify(event)));
  await until(() => server.text() === one.repeat(2));
  // Closed when the other side has noticed.
  await Promise.all(server.sockets.map((socket) => once(socket.end(), 'close')));
  await destination.send([item(event)], signal);
  await until(() => server.text() === one.repeat(3));
});

test('a collector that is not there is unreachable, one that reads nothing times out', async () => {
  const server = createServer((socket) => socket.pause());
  const { port } = await listen(server);
  const big = item({ ...event, padding: 'x'.repeat(30 << 20) });
  await expect(create(port, { timeoutMillis: 300 }).send([big], signal)).rejects.toMatchObject({ failure: 'timeout' });
  await expect(create(1).send([item(event)], signal)).rejects.toMatchObject({ failure: 'unreachable' });
});

test('a collector that reads slowly gets all of it, in more time than it may be silent', async () => {
  let received = 0;
  const server = createServer((socket) => {
    const read = async (): Promise<void> => {
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        received += chunk.length;
        // 5 KB a millisecond: no wait is near the timeout, and 40 MB, of which the kernel holds less than ten, take
        // longer.
        await delay(Math.ceil(chunk.length / 5_000));
      }
    };
    read().catch(() => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  const big = { ...event, padding: 'x'.repeat(40 << 20) };
  expect(await create(port, { timeoutMillis: 4_000 }).send([item(big)], signal)).toEqual([{ is: 'delivered' }]);
  const expected = Buffer.byteLength(framed(message(JSON.stringify(big))));
  await until(() => received === expected);
});

test('a stop ends a send', async () => {
  const { port } = await listen(createServer((socket) => socket.pause()));
  const controller = new AbortController();
  const sending = create(port).send([item({ ...event, padding: 'x'.repeat(30 << 20) })], controller.signal);
  setTimeout(() => controller.abort(new Error('stop')), 50);
  await expect(sending).rejects.toThrow('stop');
});

test('over UDP each event is a datagram; one too long goes without payload, or is rejected', async () => {
  const socket = createSocket('udp4');
  const received: string[] = [];
  socket.on('message', (text) => received.push(String(text)));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  ends.push(() => socket.close());
  const long = { ...event, record: { ...event.record, payload: 'x'.repeat(70_000) } };
  const longer = { ...event, description: 'x'.repeat(70_000) };
  const outcomes = await create(socket.address().port, { protocol: 'udp' }).send(
    [item(event), item(long), item(longer)],
    signal,
  );
  expect(outcomes.map(({ is }) => is)).toEqual(['delivered', 'delivered', 'rejected']);
  await until(() => received.length === 2);
  const cut = { ...event, record: { ...event.record, payload_truncated: true } };
  expect(received).toEqual([message(JSON.stringify(event)), message(JSON.stringify(cut))]);
});

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
// eslint-disable-next-line no-console
if (!hasOpenssl) console.log('no openssl: syslog over TLS is not tested');

(hasOpenssl ? test : test.skip)('over TLS the certificate is verified', async () => {
  const root = await mkdtemp(path.join(tmpdir(), 'syslog-'));
  ends.push(() => rm(root, { recursive: true }));
  const [key, cert] = [path.join(root, 'key.pem'), path.join(root, 'cert.pem')];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const subject = ['-subj', '/CN=collector', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
  spawnSync('openssl', ['req', '-x509', ...curve, '-keyout', key, '-out', cert, ...subject]);
  const server = await listen(createTlsServer({ key: await readFile(key), cert: await readFile(cert) }));
  const tls = { protocol: 'tls' } as const;
  await create(server.port, { ...tls, caFile: cert }).send([item(event)], signal);
  const expected = framed(message(JSON.stringify(event)));
  await until(() => server.text() === expected);
  await expect(create(server.port, tls).send([item(event)], signal)).rejects.toMatchObject({ failure: 'tls' });
  const named = create(server.port, { ...tls, caFile: cert, address: `localhost:${server.port}` });
  await expect(named.send([item(event)], signal)).rejects.toMatchObject({ failure: 'tls' });
  const plain = await listen(createServer((socket) => socket.end('no TLS here')));
  await expect(create(plain.port, { ...tls, caFile: cert }).send([item(event)], signal)).rejects.toMatchObject({
    failure: 'tls',
  });
});
