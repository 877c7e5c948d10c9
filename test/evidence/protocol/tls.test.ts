import { describe, expect, test } from '@jest/globals';
import { describeFlow } from '../../../agent/evidence/protocol/describe.ts';
import { flowKey, flowPackets } from '../../support/flow.ts';
import { tcpConversation } from '../../support/packets.ts';
import { clientHello, extension, handshake, list16, NAME, SERVER_NAME, vector16, VERSIONS } from '../../support/tls.ts';

const ALPN = extension(16, vector16(Buffer.from('\x02h2\x08http/1.1', 'latin1')));
const ALGORITHMS = extension(13, vector16(list16([0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601])));
const OTHERS = [0x05, 0x0a, 0x0b, 0x12, 0x15, 0x17, 0x1b, 0x23, 0x2d, 0x33, 0x4469, 0xff01].map((type) =>
  extension(type),
);
const CIPHERS = [
  0x2a2a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
  0x002f, 0x0035,
];
/** The example of JA4's own description. */
const CHROME = clientHello(CIPHERS, [extension(0x3a3a), SERVER_NAME, ...OTHERS, ALPN, VERSIONS, ALGORITHMS]);

function tlsOf(sent: Buffer, mss = 1_460) {
  const packets = flowPackets(tcpConversation({ exchange: [{ from: 'client', data: sent }], mss }));
  return describeFlow(packets, flowKey());
}

describe('a client hello', () => {
  test('has the JA4 of its description', () => {
    expect(tlsOf(CHROME).app?.tls).toMatchObject({
      sni: 'shop.test',
      versions: ['1.3', '1.2'],
      alpn: ['h2', 'http/1.1'],
      ja4: 't13d1516h2_8daaf6152771_e5627efa2ab1',
    });
  });

  test('in pieces of one byte is the same', () => {
    expect(tlsOf(CHROME, 1).app).toEqual(tlsOf(CHROME).app);
  });

  test('that is cut anywhere gives what there is, without fingerprints', () => {
    for (let length = 0; length < CHROME.length; length++) {
      const { app, errors } = tlsOf(CHROME.subarray(0, length));
      expect(errors).toEqual([]);
      expect(app?.tls?.ja3).toBeUndefined();
      expect(app?.tls?.ja4).toBeUndefined();
      if (length > CHROME.indexOf(NAME) + NAME.length) expect(app?.tls?.sni).toBe('shop.test');
    }
  });

  test('without cipher, extension and name has a JA4 too', () => {
    expect(tlsOf(clientHello([], [])).app?.tls?.ja4).toBe('t12i000000_000000000000_000000000000');
  });
});

test('a certificate that is none costs itself only, and is counted', () => {
  const body = Buffer.concat([Buffer.from([0, 0, 7, 0, 0, 4]), Buffer.from('none')]);
  const record = handshake(11, body);
  const { app, errors } = describeFlow(
    flowPackets(
      tcpConversation({
        exchange: [
          { from: 'client', data: CHROME },
          { from: 'server', data: record },
        ],
      }),
    ),
    flowKey(),
  );
  expect(app?.tls?.sni).toBe('shop.test');
  expect(app?.tls?.certificate).toBeUndefined();
  expect(errors).toEqual(['tls.certificate']);
});
