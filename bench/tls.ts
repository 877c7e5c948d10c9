/**
 * TLS conversations as bytes: a handshake, one request, one large answer (or a large upload and a short answer),
 * close_notify.
 *
 * Framing is right and dissectors read it; nothing is encrypted. What would be is the key stream of a cipher with a
 * fixed key, which has no more runs of text than real ciphertext has. The same number gives the same bytes. Formats:
 * RFC 5246, RFC 8446.
 */
import { createCipheriv, createHash } from 'node:crypto';
import type { Turn } from '../test/support/packets.ts';

export interface TlsOptions {
  /** Of the conversation: seeds its bytes. */
  number: number;
  version: '1.2' | '1.3';
  serverName: string;
  /** Who sends the bulk. */
  from: Turn['from'];
  /** Of the bulk, before encryption. */
  bytes: number;
}

const CHANGE_CIPHER_SPEC = 20;
const ALERT = 21;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;
/** The most plaintext in a record. */
const RECORD_BYTES = 16_384;
/** What encryption adds: AES-GCM's tag, with the nonce in 1.2 and the inner type in 1.3. */
const ADDED = { '1.2': 24, '1.3': 17 };
/** What the two ends say beside the bulk, before encryption. */
const REQUEST_BYTES = 420;
const ANSWER_BYTES = 180;
/** EncryptedExtensions, Certificate, CertificateVerify and Finished of 1.3. */
const SERVER_FLIGHT = [10, 2_300, 264, 52];
const TICKETS = [235, 235];
const FINISHED_BYTES = { '1.2': 16, '1.3': 36 };

const X25519 = 29;
const GROUPS = [X25519, 23, 24];
const SIGNATURES = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501];
const SUITES = [0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030];
const SUITE = { '1.2': 0xc02b, '1.3': 0x1301 };
const EXTENSION = {
  serverName: 0,
  groups: 10,
  points: 11,
  signatures: 13,
  protocols: 16,
  ticket: 35,
  versions: 43,
  keyShare: 51,
};

/** Of `*.example.test`, self-signed, ECDSA with P-256; no key of it is left. */
const CERTIFICATE = Buffer.from(
  'MIIBozCCAUqgAwIBAgIUBDGoorlLV0qqFmx19eezXM+zT4AwCgYIKoZIzj0EAwIwGTEXMBUGA1UEAwwOKi5leGFtcGxlLnRlc3QwIBcNMjYxMTI5MTI0MzM3WhgPMjEyNjEx' +
    'MDUxMjQzMzdaMBkxFzAVBgNVBAMMDiouZXhhbXBsZS50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEyrKHeAgfrhAtDjAqnqCnu33mELHpUXuXdbSKlWFNu0wDBhyj' +
    'meV6tETfCel1GUapLCazUkrzT32P0IyFEL5/WaNuMGwwHQYDVR0OBBYEFMwmJzhMQBSvuplx00XyzLNs7aQdMB8GA1UdIwQYMBaAFMwmJzhMQBSvuplx00XyzLNs7aQdMA8G' +
    'A1UdEwEB/wQFMAMBAf8wGQYDVR0RBBIwEIIOKi5leGFtcGxlLnRlc3QwCgYIKoZIzj0EAwIDRwAwRAIgex1vOP98lYpNbL4GgH0neUMMBrszAGvitipRcb0feUsCIE7XQWL1' +
    'LtttMh9/r7MkxKuQfNqJE9VK1k+cakU70gAT',
  'base64',
);

/** What both ends say in turn. */
export function tlsExchange({ number, version, serverName, from, bytes }: TlsOptions): Turn[] {
  const random = keyStream(number);
  const client = (...data: Buffer[]): Turn => ({ from: 'client', data: Buffer.concat(data) });
  const server = (...data: Buffer[]): Turn => ({ from: 'server', data: Buffer.concat(data) });
  const encrypted = (length: number): Buffer => applicationData(length, version, random);
  const handshake =
    version === '1.2'
      ? handshake12(serverName, random, client, server)
      : handshake13(serverName, random, client, server);
  const goodbye = closeNotify(version, random);
  return [
    ...handshake,
    client(encrypted(from === 'client' ? bytes : REQUEST_BYTES)),
    server(encrypted(from === 'server' ? bytes : ANSWER_BYTES)),
    client(goodbye),
    server(closeNotify(version, random)),
  ];
}

type Random = (length: number) => Buffer;
type Say = (...data: Buffer[]) => Turn;

function handshake12(serverName: string, random: Random, client: Say, server: Say): Turn[] {
  const signature = vector(2, Buffer.concat([Buffer.from([0x30, 70]), random(70)]));
  const share = Buffer.concat([Buffer.from([3]), uint(2, X25519), vector(1, random(32))]);
  const finished = (): Buffer[] => [
    record(CHANGE_CIPHER_SPEC, Buffer.from([1])),
    record(HANDSHAKE, random(FINISHED_BYTES['1.2'] + ADDED['1.2'])),
  ];
  return [
    client(record(HANDSHAKE, clientHello(serverName, random))),
    server(
      record(HANDSHAKE, serverHello('1.2', random)),
      record(HANDSHAKE, message(11, vector(3, vector(3, CERTIFICATE)))),
      record(HANDSHAKE, message(12, Buffer.concat([share, uint(2, 0x0403), signature]))),
      record(HANDSHAKE, message(14, Buffer.alloc(0))),
    ),
    client(record(HANDSHAKE, message(16, vector(1, random(32)))), ...finished()),
    server(...finished()),
  ];
}

function handshake13(serverName: string, random: Random, client: Say, server: Say): Turn[] {
  const hidden = (length: number): Buffer => applicationData(length, '1.3', random);
  const change = record(CHANGE_CIPHER_SPEC, Buffer.from([1]));
  return [
    client(record(HANDSHAKE, clientHello(serverName, random))),
    server(record(HANDSHAKE, serverHello('1.3', random)), change, ...SERVER_FLIGHT.map(hidden)),
    client(change, hidden(FINISHED_BYTES['1.3'])),
    server(...TICKETS.map(hidden)),
  ];
}

/** For 1.2 and 1.3. */
function clientHello(serverName: string, random: Random): Buffer {
  const extensions = [
    extension(EXTENSION.serverName, vector(2, Buffer.concat([Buffer.from([0]), vector(2, Buffer.from(serverName))]))),
    extension(EXTENSION.points, vector(1, Buffer.from([0]))),
    extension(EXTENSION.groups, vector(2, words(GROUPS))),
    extension(EXTENSION.ticket, Buffer.alloc(0)),
    extension(EXTENSION.protocols, vector(2, vector(1, Buffer.from('http/1.1')))),
    extension(EXTENSION.signatures, vector(2, words(SIGNATURES))),
    extension(EXTENSION.versions, vector(1, words([0x0304, 0x0303]))),
    extension(EXTENSION.keyShare, vector(2, Buffer.concat([uint(2, X25519), vector(2, random(32))]))),
  ];
  return message(
    1,
    Buffer.concat([
      uint(2, 0x0303),
      random(32),
      vector(1, random(32)),
      vector(2, words(SUITES)),
      vector(1, Buffer.from([0])),
      vector(2, Buffer.concat(extensions)),
    ]),
  );
}

function serverHello(version: TlsOptions['version'], random: Random): Buffer {
  const extensions =
    version === '1.3'
      ? [
          extension(EXTENSION.versions, uint(2, 0x0304)),
          extension(EXTENSION.keyShare, Buffer.concat([uint(2, X25519), vector(2, random(32))])),
        ]
      : [extension(EXTENSION.points, vector(1, Buffer.from([0])))];
  return message(
    2,
    Buffer.concat([
      uint(2, 0x0303),
      random(32),
      vector(1, random(32)),
      uint(2, SUITE[version]),
      Buffer.from([0]),
      vector(2, Buffer.concat(extensions)),
    ]),
  );
}

/** Full records and the rest, for so many bytes before encryption. */
function applicationData(length: number, version: TlsOptions['version'], random: Random): Buffer {
  const added = ADDED[version];
  const records = Math.ceil(length / RECORD_BYTES);
  const data = random(length + records * (5 + added));
  for (let at = 0; at < data.length; at += 5 + RECORD_BYTES + added)
    recordHeader(APPLICATION_DATA, Math.min(RECORD_BYTES + added, data.length - at - 5)).copy(data, at);
  return data;
}

/** In 1.3 it looks like data. */
function closeNotify(version: TlsOptions['version'], random: Random): Buffer {
  return version === '1.2' ? record(ALERT, random(2 + ADDED['1.2'])) : applicationData(2, '1.3', random);
}

function keyStream(number: number): Random {
  const key = createHash('sha256').update(`bench ${number}`).digest().subarray(0, 16);
  const cipher = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  return (length) => cipher.update(Buffer.alloc(length));
}

function recordHeader(type: number, length: number): Buffer {
  return Buffer.concat([Buffer.from([type]), uint(2, 0x0303), uint(2, length)]);
}

function record(type: number, body: Buffer): Buffer {
  return Buffer.concat([recordHeader(type, body.length), body]);
}

function message(type: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type]), vector(3, body)]);
}

function extension(type: number, body: Buffer): Buffer {
  return Buffer.concat([uint(2, type), vector(2, body)]);
}

/** Bytes behind their length. */
function vector(lengthBytes: number, body: Buffer): Buffer {
  return Buffer.concat([uint(lengthBytes, body.length), body]);
}

function words(values: number[]): Buffer {
  return Buffer.concat(values.map((value) => uint(2, value)));
}

function uint(size: number, value: number): Buffer {
  const buffer = Buffer.alloc(size);
  buffer.writeUIntBE(value, 0, size);
  return buffer;
}
