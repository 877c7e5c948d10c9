/**
 * HPACK (RFC 7541): the headers of HTTP/2, decoded.
 *
 * The table is bounded as its peers agreed by default, the list of a block by what one has of bytes. Not followed: a
 * larger table that settings allow; a block that needs it is left out.
 */
import { cursorOf, CutShort, type Cursor } from './cursor.ts';

/** Their bytes, as latin1: the table's size is that of the bytes. */
export type Header = readonly [name: string, value: string];

export interface HpackDecoder {
  /** Headers of a block. @throws where it is none: the decoder is of no use then. */
  decode(block: Buffer): Header[];
}

const TABLE_BYTES = 4_096;
const ENTRY_BYTES = 32;
const MAX_HEADERS = 256;
const MAX_LIST = 64 << 10;

// prettier-ignore
const STATIC: readonly Header[] = [
  [':authority', ''], [':method', 'GET'], [':method', 'POST'], [':path', '/'], [':path', '/index.html'],
  [':scheme', 'http'], [':scheme', 'https'], [':status', '200'], [':status', '204'], [':status', '206'],
  [':status', '304'], [':status', '400'], [':status', '404'], [':status', '500'], ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'], ['accept-language', ''], ['accept-ranges', ''], ['accept', ''],
  ['access-control-allow-origin', ''], ['age', ''], ['allow', ''], ['authorization', ''], ['cache-control', ''],
  ['content-disposition', ''], ['content-encoding', ''], ['content-language', ''], ['content-length', ''],
  ['content-location', ''], ['content-range', ''], ['content-type', ''], ['cookie', ''], ['date', ''], ['etag', ''],
  ['expect', ''], ['expires', ''], ['from', ''], ['host', ''], ['if-match', ''], ['if-modified-since', ''],
  ['if-none-match', ''], ['if-range', ''], ['if-unmodified-since', ''], ['last-modified', ''], ['link', ''],
  ['location', ''], ['max-forwards', ''], ['proxy-authenticate', ''], ['proxy-authorization', ''], ['range', ''],
  ['referer', ''], ['refresh', ''], ['retry-after', ''], ['server', ''], ['set-cookie', ''],
  ['strict-transport-security', ''], ['transfer-encoding', ''], ['user-agent', ''], ['vary', ''], ['via', ''],
  ['www-authenticate', ''],
];

export function createHpackDecoder(): HpackDecoder {
  /** The latest first. */
  const table: Header[] = [];
  let size = 0;
  let limit = TABLE_BYTES;

  function shrink(to: number): void {
    while (size > to) size -= sizeOf(table.pop() ?? ['', '']);
  }

  function remember(header: Header): void {
    shrink(Math.max(0, limit - sizeOf(header)));
    if (sizeOf(header) > limit) return;
    table.unshift(header);
    size += sizeOf(header);
  }

  function entry(index: number): Header {
    const found = index <= STATIC.length ? STATIC[index - 1] : table[index - STATIC.length - 1];
    if (found === undefined) throw new Error('no such entry of the table');
    return found;
  }

  function literal(cursor: Cursor, first: number, prefix: number): Header {
    const index = integer(cursor, first, prefix);
    const name = index === 0 ? text(cursor) : entry(index)[0];
    return [name, text(cursor)];
  }

  /** @returns undefined for a change of the table's size. */
  function next(cursor: Cursor): Header | undefined {
    const first = cursor.u8();
    if (first >= 0x80) return entry(integer(cursor, first, 7));
    if (first >= 0x40) {
      const header = literal(cursor, first, 6);
      remember(header);
      return header;
    }
    if (first < 0x20) return literal(cursor, first, 4);
    limit = integer(cursor, first, 5);
    if (limit > TABLE_BYTES) throw new Error('a larger table than agreed');
    shrink(limit);
    return undefined;
  }

  return {
    decode(block) {
      const headers: Header[] = [];
      const cursor = cursorOf(block);
      let length = 0;
      while (cursor.left > 0) {
        const header = next(cursor);
        if (header === undefined) continue;
        length += sizeOf(header);
        // What is beyond still changes the table.
        if (headers.length < MAX_HEADERS && length <= MAX_LIST) headers.push(header);
      }
      return headers;
    },
  };
}

function sizeOf([name, value]: Header): number {
  return name.length + value.length + ENTRY_BYTES;
}

/** RFC 7541, 5.1, of at most 28 bits. */
function integer(cursor: Cursor, first: number, prefix: number): number {
  const most = (1 << prefix) - 1;
  let value = first & most;
  if (value < most) return value;
  for (let shift = 0; shift <= 21; shift += 7) {
    const byte = cursor.u8();
    value += (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  throw new Error('a number too large');
}

function text(cursor: Cursor): string {
  const first = cursor.u8();
  const bytes = cursor.take(integer(cursor, first, 7));
  return first >= 0x80 ? huffman(bytes) : bytes.toString('latin1');
}

/** Lengths of the codes of RFC 7541, Appendix B, by symbol: the codes follow from them (it is a canonical code). */
// prettier-ignore
const LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
  6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
  15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
  20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
  22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26,
  26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20,
  24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/** By length and code: the symbol. */
const SYMBOLS = codesOf(LENGTHS);

function codesOf(lengths: readonly number[]): ReadonlyMap<number, number> {
  const symbols = lengths.map((length, symbol) => ({ length, symbol })).toSorted((a, b) => a.length - b.length);
  const codes = new Map<number, number>();
  let code = 0;
  let before = 0;
  for (const { length, symbol } of symbols) {
    code *= 2 ** (length - before);
    codes.set(keyOf(length, code), symbol);
    code++;
    before = length;
  }
  return codes;
}

function keyOf(length: number, code: number): number {
  return length * 2 ** 31 + code;
}

function huffman(bytes: Buffer): string {
  const symbols: number[] = [];
  let code = 0;
  let length = 0;
  for (const byte of bytes)
    for (let bit = 7; bit >= 0; bit--) {
      code = code * 2 + ((byte >>> bit) & 1);
      length++;
      const symbol = length < 5 ? undefined : SYMBOLS.get(keyOf(length, code));
      if (symbol !== undefined) {
        symbols.push(symbol);
        code = length = 0;
      } else if (length > 30) throw new CutShort();
    }
  return Buffer.from(symbols.filter((symbol) => symbol < 256)).toString('latin1');
}
