/**
 * Fingerprints of hellos: JA3 and JA3S (https://github.com/salesforce/ja3), JA4
 * (https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md).
 */
import { createHash } from 'node:crypto';
import { numbers16 } from './cursor.ts';
import { alpnOf, extension, EXTENSION, isGrease, versionsOf, type Hello } from './tls-hello.ts';

const JA4_VERSIONS: Readonly<Record<number, string>> = {
  0x0304: '13',
  0x0303: '12',
  0x0302: '11',
  0x0301: '10',
  0x0300: 's3',
  0x0002: 's2',
};

export function ja3(hello: Hello): string {
  const groups = numbers16((extension(hello, EXTENSION.groups) ?? Buffer.alloc(0)).subarray(2));
  const formats = [...(extension(hello, EXTENSION.pointFormats) ?? Buffer.alloc(0)).subarray(1)];
  const list = (values: readonly number[]): string => values.filter((value) => !isGrease(value)).join('-');
  return md5(
    [
      String(hello.version),
      list(hello.ciphers),
      list(hello.extensions.map(({ type }) => type)),
      list(groups),
      formats.join('-'),
    ].join(','),
  );
}

export function ja3s(hello: Hello): string {
  const types = hello.extensions.map(({ type }) => type);
  return md5(`${hello.version},${hello.ciphers.join('-')},${types.join('-')}`);
}

export function ja4(hello: Hello, transport: 'tcp' | 'udp'): string {
  const ciphers = hello.ciphers.filter((cipher) => !isGrease(cipher));
  const types = hello.extensions.map(({ type }) => type).filter((type) => !isGrease(type));
  const version = Math.max(...versionsOf(hello, true));
  const count = (values: readonly number[]): string => String(Math.min(values.length, 99)).padStart(2, '0');
  const start = [
    transport === 'udp' ? 'q' : 't',
    JA4_VERSIONS[version] ?? '00',
    types.includes(EXTENSION.serverName) ? 'd' : 'i',
    count(ciphers),
    count(types),
    ja4Alpn(alpnOf(hello)[0] ?? ''),
  ].join('');
  const sorted = types.filter((type) => type !== EXTENSION.serverName && type !== EXTENSION.alpn);
  const algorithms = numbers16((extension(hello, EXTENSION.signatureAlgorithms) ?? Buffer.alloc(0)).subarray(2));
  const signed = algorithms.filter((algorithm) => !isGrease(algorithm)).map(hex);
  const extensions = sorted.map(hex).toSorted().join(',');
  return [
    start,
    sha256(ciphers.map(hex).toSorted().join(',')),
    sha256(signed.length === 0 ? extensions : `${extensions}_${signed.join(',')}`),
  ].join('_');
}

/** Its first and its last character; of bytes that are no letters or digits, the first and the last hex digit. */
function ja4Alpn(name: string): string {
  if (name === '') return '00';
  const ends = `${name.at(0)}${name.at(-1)}`;
  if (/^[\da-z]{2}$/i.test(ends)) return ends;
  const digits = Buffer.from(name, 'latin1').toString('hex');
  return `${digits.at(0)}${digits.at(-1)}`;
}

function hex(value: number): string {
  return value.toString(16).padStart(4, '0');
}

function md5(text: string): string {
  return createHash('md5').update(text).digest('hex');
}

/** 12 digits; zeros of nothing. */
function sha256(text: string): string {
  return text === '' ? '0'.repeat(12) : createHash('sha256').update(text).digest('hex').slice(0, 12);
}
