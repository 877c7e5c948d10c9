/**
 * Splits a stream of bytes into JSON objects, one a line, and finds the next intact object after damage.
 *
 * - An item is an object, or a run of bytes between intact objects of one line (one damage each). A line's end and
 *   white space between objects belong to no item.
 * - A torn line may have the next object glued on behind it, and objects may have lost the line end between them:
 *   behind damage, reading goes on at the next place where an object's first bytes (`marker`) stand.
 * - A line longer than `MAX_ITEM` is one damage, to its end, whatever it holds. At most `MAX_ITEM` bytes and one chunk
 *   are held.
 * - After `end()` more bytes may follow; offsets go on counting.
 *
 * Not promised: a changed byte that leaves an object well-formed and in range is not noticed: there is no checksum.
 */
import type { Alert, Decoded, Decoder } from '../alert.ts';

/** Longest object, in bytes. */
export const MAX_ITEM = 256 * 1024;
/** How often reading starts anew within one line: bounds the work that a hostile line makes. */
const MAX_ATTEMPTS = 128;

/** How many lines an object may extend over. */
const MAX_LINES = 16;

const NEWLINE = 0x0a;
const BRACE = 0x7b;

/** A line both ways: `chars[i]` is `bytes[i]` (ISO 8859-1). So string functions search it and offsets count bytes. */
export interface Line {
  bytes: Buffer;
  chars: string;
}

/** What stands at a position of a line; `end` is the offset behind the object. */
export type ObjectAt =
  | { kind: 'alert'; alert: Alert; end: number }
  /** An intact object that is no alert: passed over. */
  | { kind: 'other'; end: number }
  /** An object that is well-formed but can't be an alert. */
  | { kind: 'invalid'; reason: string; end: number }
  /** No intact object. */
  | { kind: 'broken'; reason: string }
  /** An object that ends neither here nor broken: the next line may continue it. */
  | { kind: 'open'; reason: string };

export interface ObjectFormat {
  /** The bytes that begin each object. */
  marker: string;
  /** Reads the object that starts at `at`. Must not throw. */
  read(line: Line, at: number): ObjectAt;
}

export function createJsonLinesDecoder(format: ObjectFormat): Decoder {
  /** Stream offset of the first byte of `partial`, or of the overlong line. */
  let start = 0;
  /** The line begun, in pieces; and how many bytes of it were seen. */
  let partial: Buffer[] = [];
  let length = 0;
  /** Lines of an object that a line end didn't close, with their ends. They stand before `partial`, at `heldStart`. */
  let unclosed: Buffer | undefined;
  let unclosedStart = 0;
  let unclosedLines = 0;

  /** Reads a whole line. With `final`, an open object counts as broken; else it is kept in `held`. */
  function readLine(bytes: Buffer, base: number, final: boolean, items: Decoded[]): void {
    const line: Line = { bytes, chars: bytes.toString('latin1') };
    let at = 0;
    let damage: { from: number; reason: string } | undefined;
    let attempts = 0;
    const closeDamage = (end: number): void => {
      if (damage) items.push({ kind: 'damage', reason: damage.reason, start: base + damage.from, end: base + end });
      damage = undefined;
    };
    while (at < bytes.length) {
      if (isSpace(bytes[at])) {
        at++;
        continue;
      }
      const object: ObjectAt =
        bytes[at] === BRACE ? format.read(line, at) : { kind: 'broken', reason: 'not the start of an object' };
      if (object.kind === 'open' && !final) {
        closeDamage(at);
        unclosed = Buffer.from(bytes.subarray(at));
        unclosedStart = base + at;
        unclosedLines++;
        return;
      }
      if (object.kind === 'broken' || object.kind === 'open') {
        damage ??= { from: at, reason: object.reason };
        const next = ++attempts < MAX_ATTEMPTS ? line.chars.indexOf(format.marker, at + 1) : -1;
        at = next < 0 ? bytes.length : next;
        continue;
      }
      closeDamage(at);
      if (object.kind === 'alert')
        items.push({ kind: 'alert', alert: object.alert, start: base + at, end: base + object.end });
      if (object.kind === 'invalid')
        items.push({ kind: 'damage', reason: object.reason, start: base + at, end: base + object.end });
      at = object.end;
    }
    closeDamage(trimmedLength(bytes));
  }

  /** What was held can't be continued any more. */
  function giveUpUnclosed(items: Decoded[]): void {
    if (!unclosed) return;
    const bytes = unclosed;
    unclosed = undefined;
    unclosedLines = 0;
    readLine(bytes, unclosedStart, true, items);
  }

  /** The line [start, start + length) is complete; `lineEnd` is 1 when a line end follows it, 0 at the stream's end. */
  function finishLine(lineEnd: 0 | 1, items: Decoded[]): void {
    const total = length;
    const base = start;
    const pieces = partial;
    partial = [];
    length = 0;
    start = base + total + lineEnd;
    if (total > MAX_ITEM) {
      giveUpUnclosed(items);
      items.push({ kind: 'damage', reason: `longer than ${MAX_ITEM} bytes`, start: base, end: base + total });
      return;
    }
    const bytes = pieces.length === 1 && pieces[0] ? pieces[0] : Buffer.concat(pieces);
    if (unclosed && (unclosedLines >= MAX_LINES || unclosed.length + 1 + total > MAX_ITEM)) giveUpUnclosed(items);
    if (unclosed) {
      const joined = Buffer.concat([unclosed, LINE_END, bytes]);
      unclosed = undefined;
      readLine(joined, unclosedStart, lineEnd === 0, items);
    } else {
      unclosedLines = 0;
      readLine(bytes, base, lineEnd === 0, items);
    }
  }

  function addPiece(piece: Buffer): void {
    if (piece.length === 0) return;
    length += piece.length;
    if (length <= MAX_ITEM) partial.push(piece);
    else partial = [];
  }

  return {
    push(chunk) {
      const items: Decoded[] = [];
      let from = 0;
      for (;;) {
        const newline = chunk.indexOf(NEWLINE, from);
        if (newline < 0) break;
        addPiece(chunk.subarray(from, newline));
        finishLine(1, items);
        from = newline + 1;
      }
      // A copy, so that neither a caller's buffer that is reused nor a whole chunk for its last bytes stays in use.
      if (from < chunk.length) addPiece(Buffer.from(chunk.subarray(from)));
      return items;
    },
    end() {
      const items: Decoded[] = [];
      if (length > 0) finishLine(0, items);
      giveUpUnclosed(items);
      return items;
    },
  };
}

const LINE_END = Buffer.from('\n');

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0d || byte === 0x09 || byte === 0x0a;
}

function trimmedLength(bytes: Buffer): number {
  let end = bytes.length;
  while (end > 0 && isSpace(bytes[end - 1])) end--;
  return end;
}
