/** The hellos of TLS (RFC 8446, 4.1; RFC 5246, 7.4.1). */
import { cursorOf, numbers16, untilCut } from './cursor.ts';

export interface Extension {
  type: number;
  data: Buffer;
}

export interface Hello {
  version: number;
  /** All that the client offers; the one that the server chose. */
  ciphers: number[];
  /** In their order. */
  extensions: Extension[];
  /** Whether it was read to its end: fingerprints are of all of it. */
  isWhole: boolean;
}

export const EXTENSION = {
  serverName: 0,
  groups: 10,
  pointFormats: 11,
  signatureAlgorithms: 13,
  alpn: 16,
  supportedVersions: 43,
} as const;

const RANDOM = 32;
const MAX_EXTENSIONS = 256;

export function readClientHello(body: Buffer): Hello {
  return readHello(body, (cursor) => {
    const ciphers = numbers16(cursor.vector(2));
    cursor.vector(1);
    return ciphers;
  });
}

export function readServerHello(body: Buffer): Hello {
  return readHello(body, (cursor) => {
    const cipher = cursor.u16();
    cursor.u8();
    return [cipher];
  });
}

function readHello(body: Buffer, ciphersOf: (cursor: ReturnType<typeof cursorOf>) => number[]): Hello {
  const hello: Hello = { version: 0, ciphers: [], extensions: [], isWhole: false };
  const cursor = cursorOf(body);
  untilCut(() => {
    hello.version = cursor.u16();
    cursor.take(RANDOM);
    cursor.vector(1);
    hello.ciphers = ciphersOf(cursor);
    if (cursor.left > 0) {
      const length = cursor.u16();
      readExtensions(cursor.take(Math.min(length, cursor.left)), hello.extensions, length);
    }
    hello.isWhole = true;
  });
  return hello;
}

/** @throws CutShort, behind those that could be read. */
function readExtensions(bytes: Buffer, extensions: Extension[], length: number): void {
  const cursor = cursorOf(bytes);
  while (cursor.left > 0 && extensions.length < MAX_EXTENSIONS) {
    const type = cursor.u16();
    extensions.push({ type, data: cursor.vector(2) });
  }
  cursor.take(length - bytes.length);
}

export function extension({ extensions }: Hello, type: number): Buffer | undefined {
  return extensions.find((each) => each.type === type)?.data;
}

/** RFC 8701: reserved, sent by clients so that servers ignore what they do not know. */
export function isGrease(number: number): boolean {
  return (number & 0x0f0f) === 0x0a0a && number >>> 8 === (number & 0xff);
}

export function serverName(hello: Hello): string | undefined {
  let name: string | undefined;
  untilCut(() => {
    const cursor = cursorOf(cursorOf(extension(hello, EXTENSION.serverName) ?? Buffer.alloc(0)).vector(2));
    if (cursor.u8() === 0) name = cursor.vector(2).toString('utf8');
  });
  return name;
}

/** As bytes, in latin1: names of protocols may be any. */
export function alpnOf(hello: Hello): string[] {
  const names: string[] = [];
  untilCut(() => {
    const cursor = cursorOf(cursorOf(extension(hello, EXTENSION.alpn) ?? Buffer.alloc(0)).vector(2));
    while (cursor.left > 0 && names.length < 32) names.push(cursor.vector(1).toString('latin1'));
  });
  return names;
}

/** What a client offers, or the one that a server chose; without the extension that of the hello. */
export function versionsOf(hello: Hello, isClient: boolean): number[] {
  const data = extension(hello, EXTENSION.supportedVersions);
  if (data === undefined) return [hello.version];
  return numbers16(isClient ? data.subarray(1, 1 + (data[0] ?? 0)) : data).filter((version) => !isGrease(version));
}
