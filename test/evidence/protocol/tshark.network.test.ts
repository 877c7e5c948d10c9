/** Real traffic of curl, dig, openssl and ssh: each field is what tshark says of the same packets. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FlowPacket } from '../../../agent/evidence/packet.ts';
import { describeFlow, type FlowDescription } from '../../../agent/evidence/protocol/describe.ts';
import type { FlowKey } from '../../../agent/evidence/protocol/transport.ts';
import { openLab, type Lab } from '../../../scripts/lab.ts';
import { packetsOf } from '../../support/flow.ts';
import { describeNetwork } from '../../support/network.ts';
import { tsharkFields, whyNoTshark } from '../../support/tshark.ts';

const PORT = { http: 8080, dns: 53, tls13: 4413, tls12: 4412, refusing: 4411, ssh: 2222, closed: 9, h2c: 8081 };
const PAGE = `<html>${'deep packet inspection '.repeat(40)}</html>`;

/** Answers by path: gzip in chunks, /missing 404; what asks for it becomes WebSocket. */
const HTTP_SERVER = `
  const { createServer } = require('node:http');
  const { gzipSync } = require('node:zlib');
  createServer((request, response) => {
    if (request.url.startsWith('/missing')) return response.writeHead(404, { 'content-type': 'text/plain' }).end('none');
    response.writeHead(200, { 'content-type': 'text/html', 'content-encoding': 'gzip' });
    const body = gzipSync(${JSON.stringify(PAGE)});
    response.write(body.subarray(0, 10));
    setImmediate(() => response.end(body.subarray(10)));
  })
    .on('upgrade', (_request, socket) =>
      socket.end('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n\\r\\n\\x81\\x02hi'))
    .listen(${PORT.http}, '::', () => console.log('ready'));`;

/** gRPC answers with a status in its trailers. */
const HTTP2_SERVER = `
  require('node:http2').createServer().on('stream', (stream, headers) => {
    if (headers['content-type'] !== 'application/grpc') {
      stream.respond({ ':status': 503, server: 'test', 'content-type': 'text/plain' });
      return stream.end('later');
    }
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '5', 'grpc-message': 'not found' }));
    stream.end(Buffer.from([0, 0, 0, 0, 0]));
  }).listen(${PORT.h2c}, '127.0.0.1', () => console.log('ready'));`;

const HTTP2_CLIENT = `
  const session = require('node:http2').connect('http://127.0.0.1:${PORT.h2c}');
  const ask = (headers, next) => {
    const stream = session.request({ ':method': 'POST', 'user-agent': 'client/1 (~^|{}<>)', ...headers });
    stream.on('close', next).resume().end(Buffer.from([0, 0, 0, 0, 2, 8, 1]));
  };
  ask({ ':path': '/shop.Cart/Add', 'content-type': 'application/grpc', te: 'trailers' }, () =>
    ask({ ':path': '/second?x=1', 'x-forwarded-for': '192.0.2.1' }, () => session.close()));`;

const DNS_SERVER = `
  const { decode, encode } = require('dns-packet');
  const socket = require('node:dgram').createSocket('udp4');
  socket.on('message', (bytes, { port, address }) => {
    const { id, questions } = decode(bytes);
    const [{ name, type }] = questions;
    const data = { A: '192.0.2.1', AAAA: '2001:db8::1', TXT: 'v=spf1 -all', MX: { preference: 10, exchange: 'mx.shop.test' } };
    const isKnown = name !== 'nowhere.test';
    const answers = isKnown
      ? [{ type: 'CNAME', name, ttl: 60, data: 'www.shop.test' }, { type, name: 'www.shop.test', ttl: 300, data: data[type] }]
      : [];
    socket.send(encode({ type: 'response', id, flags: isKnown ? 0x0180 : 0x0183, questions, answers }), port, address);
  });
  socket.bind(${PORT.dns}, '127.0.0.1', () => console.log('ready'));`;

const missing = whyNoTshark();
if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);
const describeTraffic = missing === undefined ? describeNetwork : () => test.skip(missing, () => {});

describeTraffic('real traffic', () => {
  let lab: Lab;
  let directory: string;
  let file: string;
  let packets: FlowPacket[];
  let flows: FlowKey[];

  beforeAll(async () => {
    lab = openLab('dpi-protocol');
    directory = mkdtempSync(join(tmpdir(), 'dpi-protocol-'));
    file = join(directory, 'traffic.pcap');
    await capture();
    packets = packetsOf(readFileSync(file));
    flows = readFlows();
  });

  afterAll(() => {
    lab.close();
    rmSync(directory, { recursive: true, force: true });
  });

  async function capture(): Promise<void> {
    makeKeys(directory);
    await startServers(lab, directory);
    const args = ['-i', 'lo', '-s', '0', '-U', '-Z', 'root', '--immediate-mode', '-w', file];
    const tcpdump = await started(
      lab.spawn(lab.node, 'tcpdump', args, { stdio: ['ignore', 'ignore', 'pipe'] }),
      /listening/,
    );
    runClients(lab);
    // What is in the ring is written first.
    tcpdump.kill('SIGINT');
    await once(tcpdump, 'exit');
  }

  /** Of each flow of TCP the first packet, of UDP each question. */
  function readFlows(): FlowKey[] {
    const fields = [
      'ip.src',
      'ipv6.src',
      'ip.dst',
      'ipv6.dst',
      'tcp.srcport',
      'udp.srcport',
      'tcp.dstport',
      'udp.dstport',
    ];
    const filter = '(tcp.flags.syn==1 && tcp.flags.ack==0) || (dns && dns.flags.response==0)';
    return tsharkFields(file, filter, fields).map(([from4, from6, to4, to6, tcp = '', udp = '', toTcp, toUdp]) => ({
      protocol: tcp === '' ? 'UDP' : 'TCP',
      source: { ip: from4 || (from6 ?? ''), port: Number(tcp || udp) },
      destination: { ip: to4 || (to6 ?? ''), port: Number(toTcp || toUdp) },
    }));
  }

  /** The flow to the port, of several the one of this number. */
  function flowTo(port: number, nth = 0): FlowKey {
    const found = flows.filter(({ destination }) => destination.port === port)[nth];
    if (found === undefined) throw new Error(`no flow to port ${port}`);
    return found;
  }

  function described(port: number, nth = 0): { flow: FlowDescription; only: string } {
    const key = flowTo(port, nth);
    const only = `${key.protocol.toLowerCase()}.port==${key.source.port}`;
    return { flow: describeFlow(packets, key), only };
  }

  function asked(filter: string, fields: readonly string[], ...more: string[]): string[] {
    return tsharkFields(file, filter, fields, ...more)[0] ?? [];
  }

  test.each([
    [0, '127.0.0.1', '2xx'],
    [1, '::1', '4xx'],
  ])('HTTP, request %i over %s', (nth, address, outcome) => {
    const { flow, only } = described(PORT.http, nth);
    const http = flow.app?.http;
    expect([
      http?.method,
      http?.host,
      http?.url,
      http?.user_agent,
      http?.referrer ?? '',
      http?.x_forwarded_for ?? '',
    ]).toEqual(
      asked(`${only} && http.request`, [
        'http.request.method',
        'http.host',
        'http.request.uri',
        'http.user_agent',
        'http.referer',
        'http.x_forwarded_for',
      ]),
    );
    expect([String(http?.status), http?.reason, http?.response?.content_type]).toEqual(
      asked(`${only} && http.response`, ['http.response.code', 'http.response.phrase', 'http.content_type']),
    );
    expect(http?.host).toContain(address);
    expect(http?.response?.body).toBe(nth === 0 ? PAGE.slice(0, 1_024) : 'none');
    expect(flow.outcome).toBe(outcome);
    expect(flow.errors).toEqual([]);
  });

  test('WebSocket', () => {
    const { flow, only } = described(PORT.http, 2);
    expect(flow.app).toMatchObject({
      protocol: 'websocket',
      http: { url: '/chat', status: 101, upgrade: 'websocket' },
    });
    expect(asked(`${only} && http.response`, ['http.response.code', 'http.upgrade'])).toEqual(['101', 'websocket']);
    expect(flow.outcome).toBe('answered');
  });

  test('gRPC, and the stream behind it', () => {
    const { flow, only } = described(PORT.h2c);
    const streams = (filter: string, fields: readonly string[]): string[][] =>
      tsharkFields(file, `${only} && ${filter}`, fields, '-d', `tcp.port==${PORT.h2c},http2`);
    const requests = streams('http2.headers.method', [
      'http2.headers.method',
      'http2.headers.authority',
      'http2.headers.path',
      'http2.headers.user_agent',
      'http2.headers.content_type',
    ]);
    const told = (timeMicros?: number) =>
      describeFlow(packets, flowTo(PORT.h2c), timeMicros === undefined ? {} : { timeMicros });
    const last = told(packets.at(-1)?.time);
    expect(
      [flow, last].map(({ app }) => [
        app?.http?.method,
        app?.http?.host,
        app?.http?.url,
        app?.http?.user_agent,
        app?.http?.request?.content_type ?? '',
      ]),
    ).toEqual(requests);
    expect(flow.app).toMatchObject({
      protocol: 'grpc',
      grpc: { service: 'shop.Cart', method: 'Add', status: 5, message: 'not found' },
    });
    expect(last.app).toMatchObject({
      protocol: 'http2',
      http: { status: 503, server: 'test', response: { body: 'later' } },
    });
    expect([flow.outcome, last.outcome]).toEqual(['2xx', '5xx']);
    expect(flow.errors).toEqual([]);
  });

  test.each([0, 1, 2, 3, 4])('DNS, question %i', (nth) => {
    const { flow, only } = described(PORT.dns, nth);
    const dns = flow.app?.dns;
    const said = asked(`${only} && dns.flags.response==1`, [
      'dns.id',
      'dns.qry.name',
      'dns.flags.rcode',
      'dns.resp.name',
      'dns.resp.ttl',
      'dns.cname',
      'dns.a',
      'dns.aaaa',
      'dns.txt',
      'dns.mx.mail_exchange',
    ]);
    // The exchange of an MX record stands behind its preference.
    const of = (type: string): string =>
      (dns?.answers ?? [])
        .filter((answer) => answer.type === type)
        .map(({ data }) => (type === 'MX' ? data.replace(/^\d+ /, '') : data))
        .join(';');
    expect([
      `0x${dns?.id.toString(16).padStart(4, '0')}`,
      dns?.questions.map(({ name }) => name).join(';'),
      String({ NOERROR: 0, NXDOMAIN: 3 }[dns?.rcode ?? '']),
      (dns?.answers ?? []).map(({ name }) => name).join(';'),
      (dns?.answers ?? []).map(({ ttl }) => ttl).join(';'),
      ...['CNAME', 'A', 'AAAA', 'TXT', 'MX'].map(of),
    ]).toEqual(said);
    expect(flow.outcome).toBe('answered');
  });

  test.each([
    ['1.3', PORT.tls13],
    ['1.2', PORT.tls12],
  ])('TLS %s', (version, port) => {
    const { flow, only } = described(port);
    const tls = flow.app?.tls;
    expect([tls?.sni, tls?.ja3]).toEqual(
      asked(`${only} && tls.handshake.type==1`, ['tls.handshake.extensions_server_name', 'tls.handshake.ja3']),
    );
    const [ja3s, cipher, alpn = ''] = asked(`${only} && tls.handshake.type==2`, [
      'tls.handshake.ja3s',
      'tls.handshake.ciphersuite',
      'tls.handshake.extensions_alpn_str',
    ]);
    expect(tls?.ja3s).toBe(ja3s);
    expect(tls?.cipher).toBe(version === '1.3' ? 'TLS_AES_256_GCM_SHA384' : 'TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384');
    expect(cipher).toBe(version === '1.3' ? '0x1302' : '0xc030');
    expect(tls?.alpn).toEqual(version === '1.3' ? ['h2', 'http/1.1'] : [alpn]);
    expect(tls?.version).toBe(version);
    expect(tls?.ja4).toMatch(new RegExp(`^t${version.replace('.', '')}d\\d{4}h2_[0-9a-f]{12}_[0-9a-f]{12}$`));
    expect(flow.outcome).toBe('answered');
  });

  test("TLS 1.2: the server's certificate", () => {
    const { flow, only } = described(PORT.tls12);
    const certificate = flow.app?.tls?.certificate;
    const text = (...args: string[]): string =>
      spawnSync('openssl', ['x509', '-in', join(directory, 'cert.pem'), '-noout', ...args], { encoding: 'utf8' })
        .stdout;
    const [serial] = asked(`${only} && tls.handshake.type==11`, ['x509af.serialNumber']);
    expect(certificate?.serial).toBe(serial?.replace('0x', '').replaceAll(':', ''));
    expect(certificate?.sha256).toBe(
      text('-fingerprint', '-sha256').split('=')[1]?.trim().replaceAll(':', '').toLowerCase(),
    );
    expect(certificate?.sha1).toBe(
      text('-fingerprint', '-sha1').split('=')[1]?.trim().replaceAll(':', '').toLowerCase(),
    );
    expect(certificate).toMatchObject({
      subject: 'CN=shop.test, O=Shop',
      issuer: 'CN=shop.test, O=Shop',
      not_after: new Date(text('-enddate').split('=')[1] ?? '').toISOString().replace('.000Z', 'Z'),
      names: ['shop.test', '*.shop.test'],
    });
  });

  test('TLS that the server refuses', () => {
    const { flow, only } = described(PORT.refusing);
    expect(flow.app?.tls?.alert).toBe('protocol_version');
    expect(asked(`${only} && tls.alert_message`, ['tls.alert_message.desc'])).toEqual(['70']);
  });

  test('SSH', () => {
    const { flow, only } = described(PORT.ssh);
    const said = (filter: string, field: string): (string | undefined)[] =>
      tsharkFields(file, `${only} && ${filter}`, [field], '-d', `tcp.port==${PORT.ssh},ssh`).map(([value]) => value);
    const { client, server, hassh, hassh_server } = flow.app?.ssh ?? {};
    expect(new Set([client, server])).toEqual(new Set(said('ssh.protocol', 'ssh.protocol')));
    expect([hassh]).toEqual(said('ssh.kex.hassh', 'ssh.kex.hassh'));
    expect([hassh_server]).toEqual(said('ssh.kex.hasshserver', 'ssh.kex.hasshserver'));
  });

  test('a port where nobody listens: refused', () => {
    expect(described(PORT.closed).flow.outcome).toBe('refused');
  });

  test.each(Object.entries(PORT))('community id, bytes and times of %s', (_name, port) => {
    const { flow, only } = described(port);
    const rows = tsharkFields(
      file,
      only,
      ['frame.len', 'frame.time_epoch', 'communityid'],
      '--enable-protocol',
      'communityid',
    );
    const times = rows.map(([, time]) => Math.round(Number(time) * 1e6));
    const { traffic } = flow;
    expect(new Set(rows.map(([, , id]) => id))).toEqual(new Set([flow.communityId]));
    expect(traffic.bytes_to_server + traffic.bytes_to_client).toBe(
      rows.reduce((sum, [length]) => sum + Number(length), 0),
    );
    expect(traffic.packets_to_server + traffic.packets_to_client).toBe(rows.length);
    expect(Math.abs(traffic.duration_us - ((times.at(-1) ?? 0) - (times[0] ?? 0)))).toBeLessThan(3);
  });
});

function makeKeys(directory: string): void {
  const run = (command: string, ...args: string[]): void => {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`${command}: ${stderr}`);
  };
  const [key, certificate] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  run(
    'openssl',
    'req',
    '-x509',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-days',
    '30',
    '-keyout',
    key,
    '-out',
    certificate,
    '-subj',
    '/CN=shop.test/O=Shop',
    '-addext',
    'subjectAltName=DNS:shop.test,DNS:*.shop.test',
  );
  run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', join(directory, 'host'));
  chmodSync(join(directory, 'host'), 0o600);
  writeFileSync(join(directory, 'sshd.conf'), `HostKey ${join(directory, 'host')}\nPidFile none\nUsePAM no\n`);
}

/** Resolves with the process once it said that it is ready. */
async function started(child: ChildProcess, ready: RegExp): Promise<ChildProcess> {
  const streams = [child.stdout, child.stderr].filter((stream) => stream !== null);
  await new Promise<void>((resolve, reject) => {
    let said = '';
    for (const stream of streams)
      stream.on('data', (data: Buffer) => {
        said += data.toString();
        if (ready.test(said)) resolve();
      });
    child.once('exit', () => reject(new Error(`it ended: ${said}`)));
  });
  return child;
}

async function startServers(lab: Lab, directory: string): Promise<void> {
  const stdio = { stdio: ['pipe', 'pipe', 'pipe'] as ['pipe', 'pipe', 'pipe'] };
  const start = (ready: RegExp, command: string, ...args: string[]): Promise<ChildProcess> =>
    started(lab.spawn(lab.node, command, args, stdio), ready);
  const secure = (port: number, ...args: string[]): Promise<ChildProcess> =>
    start(
      /ACCEPT/,
      'openssl',
      's_server',
      '-accept',
      String(port),
      '-www',
      '-alpn',
      'h2',
      '-key',
      join(directory, 'key.pem'),
      '-cert',
      join(directory, 'cert.pem'),
      ...args,
    );
  spawnSync('mkdir', ['-p', '/run/sshd']);
  await Promise.all([
    start(/ready/, process.execPath, '-e', HTTP_SERVER),
    start(/ready/, process.execPath, '-e', HTTP2_SERVER),
    start(/ready/, process.execPath, '-e', DNS_SERVER),
    secure(PORT.tls13, '-tls1_3'),
    secure(PORT.tls12, '-tls1_2'),
    secure(PORT.refusing, '-tls1_3'),
    start(/listening/, '/usr/sbin/sshd', '-D', '-e', '-f', join(directory, 'sshd.conf'), '-p', String(PORT.ssh)),
  ]);
}

function runClients(lab: Lab): void {
  /** Some of them fail on purpose. */
  const run = (command: string, ...args: string[]): void => {
    spawnSync('ip', ['netns', 'exec', lab.node, command, ...args], { input: 'Q\n', timeout: 60_000 });
  };
  run(
    'curl',
    '-s',
    '--compressed',
    '-e',
    'http://referrer.test/',
    '-H',
    'X-Forwarded-For: 192.0.2.9',
    '-d',
    'a=b',
    `http://127.0.0.1:${PORT.http}/chunked?a=%20b`,
  );
  run('curl', '-s', `http://[::1]:${PORT.http}/missing`);
  run(
    'curl',
    '-s',
    '-m5',
    '-H',
    'Upgrade: websocket',
    '-H',
    'Connection: Upgrade',
    '-H',
    'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==',
    '-H',
    'Sec-WebSocket-Version: 13',
    `http://127.0.0.1:${PORT.http}/chat`,
  );
  run(process.execPath, '-e', HTTP2_CLIENT);
  for (const [name, type] of [
    ['shop.test', 'A'],
    ['shop.test', 'AAAA'],
    ['shop.test', 'TXT'],
    ['shop.test', 'MX'],
    ['nowhere.test', 'A'],
  ] as const)
    run('dig', '@127.0.0.1', '+tries=1', name, type);
  const connect = (port: number, ...args: string[]): void =>
    run(
      'openssl',
      's_client',
      '-connect',
      `127.0.0.1:${port}`,
      '-servername',
      'shop.test',
      '-alpn',
      'h2,http/1.1',
      ...args,
    );
  connect(PORT.tls13);
  connect(PORT.tls12, '-tls1_2');
  connect(PORT.refusing, '-tls1_2');
  run(
    'ssh',
    '-p',
    String(PORT.ssh),
    '-o',
    'BatchMode=yes',
    '-o',
    'StrictHostKeyChecking=no',
    '-o',
    'UserKnownHostsFile=/dev/null',
    'nobody@127.0.0.1',
  );
  run('curl', '-s', `http://127.0.0.1:${PORT.closed}/`);
}
