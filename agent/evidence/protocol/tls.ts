/** TLS: what both sides say before all is encrypted. */
import type { TlsFacts } from '../../events/app.ts';
import type { Attempt } from './attempt.ts';
import { readCertificate } from './certificate.ts';
import type { Run } from './pieces.ts';
import { filled, short } from './text.ts';
import { ja3, ja3s, ja4 } from './tls-fingerprints.ts';
import { alpnOf, readClientHello, readServerHello, serverName, versionsOf, type Hello } from './tls-hello.ts';
import { alertName, cipherName, versionName } from './tls-names.ts';
import { readFlight, type Handshake } from './tls-records.ts';

const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
const CERTIFICATE = 11;
const MAX_VERSIONS = 8;

/** @param client What each side sent, from the first record of TLS on. */
export function tlsFacts(client: Run | undefined, server: Run | undefined, attempt: Attempt): TlsFacts {
  const asked = readFlight(client);
  const answered = readFlight(server);
  const certificate = first(answered.handshakes, CERTIFICATE);
  const alert = answered.alert ?? asked.alert;
  return {
    ...clientFacts(asked.handshakes, 'tcp'),
    ...serverFacts(answered.handshakes),
    ...filled<TlsFacts>({
      certificate:
        certificate?.isWhole === true ? attempt('tls.certificate', () => readCertificate(certificate.body)) : undefined,
      alert: alert === undefined ? undefined : alertName(alert),
    }),
  };
}

export function clientFacts(handshakes: readonly Handshake[], transport: 'tcp' | 'udp'): TlsFacts {
  const found = first(handshakes, CLIENT_HELLO);
  if (found === undefined) return {};
  const hello = readClientHello(found.body);
  const isWhole = found.isWhole && hello.isWhole;
  return filled<TlsFacts>({
    sni: short(serverName(hello) ?? '', 255),
    versions: versionsOf(hello, true).slice(0, MAX_VERSIONS).map(versionName),
    alpn: protocolsOf(hello),
    ja3: isWhole ? ja3(hello) : undefined,
    ja4: isWhole ? ja4(hello, transport) : undefined,
  });
}

export function serverFacts(handshakes: readonly Handshake[]): TlsFacts {
  const found = first(handshakes, SERVER_HELLO);
  if (found === undefined) return {};
  const hello = readServerHello(found.body);
  const [version = hello.version] = versionsOf(hello, false);
  const [cipher] = hello.ciphers;
  return filled<TlsFacts>({
    version: versionName(version),
    cipher: cipher === undefined ? undefined : cipherName(cipher),
    // TLS 1.3 encrypts it: what the client offers is all that is known.
    alpn: protocolsOf(hello),
    ja3s: found.isWhole && hello.isWhole ? ja3s(hello) : undefined,
  });
}

function protocolsOf(hello: Hello): string[] {
  return alpnOf(hello)
    .slice(0, 8)
    .map((name) => short(name, 64));
}

function first(handshakes: readonly Handshake[], type: number): Handshake | undefined {
  return handshakes.find((handshake) => handshake.type === type);
}
