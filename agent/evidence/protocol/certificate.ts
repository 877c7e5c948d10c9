/** A server's certificate. */
import { X509Certificate } from 'node:crypto';
import type { TlsFacts } from '../../events/app.ts';
import { cursorOf } from './cursor.ts';
import { short } from './text.ts';

const MAX_CERTIFICATE = 64 << 10;
const MAX_NAMES = 8;

/** @param body Of the handshake message Certificate of TLS up to 1.2 (RFC 5246, 7.4.2). @throws where it is none. */
export function readCertificate(body: Buffer): TlsFacts['certificate'] {
  const der = cursorOf(cursorOf(body).vector(3)).vector(3);
  if (der.length > MAX_CERTIFICATE) return undefined;
  const certificate = new X509Certificate(der);
  const names = namesOf(certificate);
  return {
    subject: nameText(certificate.subject),
    issuer: nameText(certificate.issuer),
    serial: short(certificate.serialNumber.toLowerCase(), 64),
    not_before: timeText(certificate.validFrom),
    not_after: timeText(certificate.validTo),
    sha1: certificate.fingerprint.replaceAll(':', '').toLowerCase(),
    sha256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    ...(names.length === 0 ? {} : { names }),
  };
}

/** A part a line: as one line. Without any it is undefined, whatever its type says. */
function nameText(name: string | undefined): string {
  return short((name ?? '').replaceAll('\n', ', '), 512);
}

/** RFC 3339; empty where the certificate has none that can be read. */
function timeText(time: string): string {
  const millis = Date.parse(time);
  return Number.isNaN(millis) ? '' : new Date(millis).toISOString().replace('.000Z', 'Z');
}

function namesOf({ subjectAltName }: X509Certificate): string[] {
  return (subjectAltName ?? '')
    .slice(0, 4_096)
    .split(', ')
    .slice(0, MAX_NAMES)
    .map((name) => short(name.replace(/^(?:DNS|IP Address):/, ''), 255))
    .filter((name) => name !== '');
}
