/**
 * HTTP/1 messages in the runs of a stream (RFC 9112), as leniently as servers and attackers are.
 *
 * Not by a library: those that there are refuse what an alert is often about (unknown methods, blanks in a URL), and
 * http-parser-js needs seconds for one header of 80 KB of blanks. Time is linear in the bytes here.
 */
import { timeAt, type Run } from './pieces.ts';

export interface Message {
  /** Microseconds since 1970, of its first byte. */
  time: number;
  /** The words of the first line: method, URL, version; or version, status, reason. */
  first: readonly [string, string, string];
  /** By their small names; those that are repeated, with a comma between. */
  headers: ReadonlyMap<string, string>;
  /** The beginning of its body, without the frames of chunks. */
  body: Buffer;
  /** Bytes of the body that are there. */
  bodyBytes: number;
}

/** How long a body is. */
export type BodyLength = number | 'chunked' | 'to-the-end';

const MAX_HEAD = 64 << 10;
const MAX_HEADERS = 256;
const MAX_BODY = 64 << 10;
const MAX_MESSAGES = 1_000;
const LF = 0x0a;
const CR = 0x0d;

export interface Reading {
  /** The words of a first line; undefined: it is none. */
  firstLine(line: string): Message['first'] | undefined;
  /** @returns undefined: nothing of HTTP follows. */
  bodyOf(message: Message): BodyLength | undefined;
}

export function readMessages(runs: readonly Run[], reading: Reading): Message[] {
  const messages: Message[] = [];
  let position = runs[0]?.offset ?? 0;
  for (const run of runs) {
    // A body may end in a gap: what is behind it begins with a message, or is left out.
    let at = Math.max(0, position - run.offset);
    while (at < run.bytes.length && messages.length < MAX_MESSAGES) {
      const head = readHead(run, at, reading);
      if (head === undefined) break;
      const { message } = head;
      messages.push(message);
      const length = reading.bodyOf(message);
      if (length === undefined) return messages;
      at = readBody(run.bytes, head.end, length, message);
    }
    position = Math.max(position, run.offset + at);
  }
  return messages;
}

/** A head that has no end is as long as what there is of it. */
function readHead(run: Run, start: number, reading: Reading): { message: Message; end: number } | undefined {
  const { bytes } = run;
  let at = start;
  while (bytes[at] === CR || bytes[at] === LF) at++;
  const begin = at;
  const limit = Math.min(bytes.length, begin + MAX_HEAD);
  const headers = new Map<string, string>();
  let first: Message['first'] | undefined;
  let name = '';
  while (at < limit) {
    const feed = bytes.subarray(at, limit).indexOf(LF);
    const end = feed < 0 ? limit : at + feed;
    const line = bytes.toString('utf8', at, bytes[end - 1] === CR && end > at ? end - 1 : end);
    at = end + 1;
    if (first === undefined) {
      first = reading.firstLine(line);
      if (first === undefined) return undefined;
    } else if (line === '') break;
    else if (/^[ \t]/.test(line)) append(headers, name, line, ' ');
    else name = readHeader(headers, line);
  }
  if (first === undefined) return undefined;
  const message = { time: timeAt(run, begin), first, headers, body: Buffer.alloc(0), bodyBytes: 0 };
  return { message, end: Math.min(at, bytes.length) };
}

function readHeader(headers: Map<string, string>, line: string): string {
  const colon = line.indexOf(':');
  if (colon <= 0) return '';
  const name = line.slice(0, colon).trim().toLowerCase();
  if (headers.has(name)) append(headers, name, line.slice(colon + 1), ', ');
  else if (headers.size < MAX_HEADERS) headers.set(name, line.slice(colon + 1).trim());
  return name;
}

function append(headers: Map<string, string>, name: string, value: string, between: string): void {
  const before = headers.get(name);
  if (before !== undefined && before.length < MAX_HEAD) headers.set(name, `${before}${between}${value.trim()}`);
}

/** @returns where the next message begins; behind the run, where the body goes on there. */
function readBody(bytes: Buffer, start: number, length: BodyLength, message: Message): number {
  if (length === 'chunked') return readChunks(bytes, start, message);
  const end = length === 'to-the-end' ? bytes.length : start + length;
  const there = bytes.subarray(start, end);
  message.body = there.subarray(0, MAX_BODY);
  message.bodyBytes = there.length;
  return end;
}

function readChunks(bytes: Buffer, start: number, message: Message): number {
  const parts: Buffer[] = [];
  let kept = 0;
  let at = start;
  for (;;) {
    const feed = bytes.indexOf(LF, at);
    const [, digits] = /^\s{0,8}([\da-f]{1,8})/i.exec(bytes.toString('latin1', at, Math.min(feed, at + 20))) ?? [];
    if (feed < 0 || digits === undefined) {
      at = bytes.length;
      break;
    }
    const size = parseInt(digits, 16);
    if (size === 0) {
      at = endOfTrailers(bytes, feed + 1);
      break;
    }
    const chunk = bytes.subarray(feed + 1, feed + 1 + size);
    message.bodyBytes += chunk.length;
    if (kept < MAX_BODY) parts.push(chunk.subarray(0, MAX_BODY - kept));
    kept += chunk.length;
    at = feed + 1 + size;
    if (bytes[at] === CR) at++;
    if (bytes[at] === LF) at++;
  }
  message.body = Buffer.concat(parts);
  return at;
}

function endOfTrailers(bytes: Buffer, start: number): number {
  for (let at = start; ;) {
    const feed = bytes.indexOf(LF, at);
    if (feed < 0) return bytes.length;
    const isEmpty = feed === at || (feed === at + 1 && bytes[at] === CR);
    at = feed + 1;
    if (isEmpty) return at;
  }
}
