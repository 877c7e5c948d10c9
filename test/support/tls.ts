/** Hellos of TLS, made by hand. */

const u16 = (value: number): Buffer => Buffer.from([value >>> 8, value & 0xff]);
export const list16 = (values: readonly number[]): Buffer => Buffer.concat(values.map(u16));
export const vector16 = (data: Buffer): Buffer => Buffer.concat([u16(data.length), data]);

export function extension(type: number, data: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([u16(type), vector16(data)]);
}

/** In a record. */
export function handshake(type: number, body: Buffer): Buffer {
  const message = Buffer.concat([Buffer.from([type, 0]), vector16(body)]);
  return Buffer.concat([Buffer.from([22, 3, 1]), vector16(message)]);
}

export function clientHello(ciphers: readonly number[], extensions: readonly Buffer[]): Buffer {
  const random = Buffer.alloc(32, 7);
  const fields = [u16(0x0303), random, Buffer.from([0]), vector16(list16(ciphers)), Buffer.from([1, 0])];
  return handshake(1, Buffer.concat([...fields, vector16(Buffer.concat(extensions))]));
}

export const NAME = Buffer.from('shop.test');
export const SERVER_NAME = extension(0, vector16(Buffer.concat([Buffer.from([0]), vector16(NAME)])));
/** 1.3 and 1.2, and one of RFC 8701. */
export const VERSIONS = extension(43, Buffer.from([6, 0x1a, 0x1a, 3, 4, 3, 3]));
