import { expect, test } from '@jest/globals';
import { createCipheriv } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeFlow } from '../../../agent/evidence/protocol/describe.ts';
import { headerMask, initialKeys, nonceOf, quicVersion } from '../../../agent/evidence/protocol/quic-keys.ts';
import { flowKey, flowPackets } from '../../support/flow.ts';
import { clientHello, SERVER_NAME, VERSIONS } from '../../support/tls.ts';
import { udpExchange, writePcap } from '../../support/packets.ts';
import { tsharkFields, whyNoTshark } from '../../support/tshark.ts';

const CONNECTION = Buffer.from('8394c8f03e515708', 'hex');
/** Parameters of QUIC, none. */
const PARAMETERS = Buffer.from([0, 57, 0, 0]);
/** Without the header of a record. */
const HELLO = clientHello([0x1301], [SERVER_NAME, VERSIONS, PARAMETERS]).subarray(5);

const varint = (value: number): Buffer => Buffer.from([0x40 | (value >>> 8), value & 0xff]);
const crypto = (offset: number, data: Buffer): Buffer =>
  Buffer.concat([Buffer.from([6]), varint(offset), varint(data.length), data]);

/** An Initial packet of the client, sealed. */
function initial(version: number, number: number, frames: Buffer): Buffer {
  const known = quicVersion(version);
  if (known === undefined) throw new Error('no such version');
  const keys = initialKeys(known, CONNECTION, 'client');
  const payload = Buffer.concat([frames, Buffer.alloc(Math.max(0, 1_100 - frames.length))]);
  const header = Buffer.concat([
    Buffer.from([0xc0 | (known.initial << 4) | 1]),
    Buffer.from([version >>> 24, (version >>> 16) & 0xff, (version >>> 8) & 0xff, version & 0xff]),
    Buffer.from([CONNECTION.length]),
    CONNECTION,
    Buffer.from([0, 0]),
    varint(2 + payload.length + 16),
    Buffer.from([0, number]),
  ]);
  const cipher = createCipheriv('aes-128-gcm', keys.key, nonceOf(keys.iv, number), { authTagLength: 16 });
  cipher.setAAD(header);
  const sealed = Buffer.concat([cipher.update(payload), cipher.final(), cipher.getAuthTag()]);
  const mask = headerMask(keys, sealed.subarray(2, 18));
  header.writeUInt8(header.readUInt8(0) ^ (mask.readUInt8(0) & 0x0f), 0);
  for (const [index, at] of [header.length - 2, header.length - 1].entries())
    header.writeUInt8(header.readUInt8(at) ^ mask.readUInt8(1 + index), at);
  return Buffer.concat([header, sealed]);
}

function framesOf(...datagrams: Buffer[]) {
  return udpExchange({ serverPort: 443, exchange: datagrams.map((data) => ({ from: 'client' as const, data })) });
}

const key = flowKey({ protocol: 'UDP', destination: { ip: '10.0.0.2', port: 443 } });

test('the keys are those of RFC 9001, A.1', () => {
  const version = quicVersion(1);
  const keys = version === undefined ? undefined : initialKeys(version, CONNECTION, 'client');
  expect(keys?.key.toString('hex')).toBe('1f369613dd76d5467730efcbe3b1a22d');
  expect(keys?.iv.toString('hex')).toBe('fa044b2f42a3fd3b46fb255c');
  expect(keys?.header.toString('hex')).toBe('9f50449e04a0e810283a1e9933adedd2');
});

test.each([
  ['1', 1],
  ['2', 0x6b3343cf],
])('the name in packets of version %s, of a handshake out of order over two of them', (_name, version) => {
  const half = HELLO.length >>> 1;
  const frames = framesOf(
    initial(version, 0, Buffer.concat([crypto(half, HELLO.subarray(half, half + 20)), Buffer.from([1])])),
    initial(
      version,
      1,
      Buffer.concat([crypto(half + 20, HELLO.subarray(half + 20)), crypto(0, HELLO.subarray(0, half))]),
    ),
  );
  const { app, errors, outcome } = describeFlow(flowPackets(frames), key);
  expect(app).toMatchObject({ protocol: 'quic', tls: { sni: 'shop.test', versions: ['1.3', '1.2'] } });
  expect(app?.tls?.ja4).toMatch(/^q13d0103/);
  expect(errors).toEqual([]);
  expect(outcome).toBe('no-answer');
});

test('cut or changed anywhere it is no error', () => {
  const packet = initial(1, 0, crypto(0, HELLO));
  for (let length = 0; length < packet.length; length += 7) {
    const changed = Buffer.from(packet);
    changed.writeUInt8(changed.readUInt8(length) ^ 0xff, length);
    for (const data of [packet.subarray(0, length), changed])
      expect(describeFlow(flowPackets(framesOf(data)), key).errors).toEqual([]);
  }
});

const missing = whyNoTshark();
if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);
(missing === undefined ? test : test.skip)('tshark reads the same name', () => {
  const directory = mkdtempSync(join(tmpdir(), 'dpi-quic-'));
  const file = join(directory, 'quic.pcap');
  writeFileSync(file, writePcap(framesOf(initial(1, 0, crypto(0, HELLO)))));
  expect(tsharkFields(file, 'quic', ['tls.handshake.extensions_server_name', 'quic.packet_number'])).toEqual([
    ['shop.test', '0'],
  ]);
  rmSync(directory, { recursive: true });
});
