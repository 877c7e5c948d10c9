/**
 * Text that nobody here wrote: shown as it is, as text; what would be invisible, or would move other text, is shown by
 * its number.
 */
import type { ComponentChild, JSX } from 'preact';

// Control characters, halves of surrogate pairs, marks of direction, and characters without width.
const HIDDEN =
  /[\p{Cc}\p{Cs}\p{Co}\u00AD\u061C\u115F\u1160\u17B4\u17B5\u180E\u200B-\u200F\u2028-\u202E\u2060-\u206F\u3164\uFEFF\uFFA0\uFFF0-\uFFFB]|[\u{E0000}-\u{E0FFF}]/gu;

export function Text({ children }: { children: string }): JSX.Element {
  return <bdi>{marked(children)}</bdi>;
}

/** The same for where no marks can be: titles, and drawn text. */
export function shown(text: string): string {
  return text.replaceAll(HIDDEN, nameOf);
}

/** @param lines Whether ends of lines and tabs are kept, where they are shown as such. */
export function marked(text: string, lines = false): ComponentChild[] {
  const parts: ComponentChild[] = [];
  let done = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (lines && (match[0] === '\n' || match[0] === '\t')) continue;
    if (match.index > done) parts.push(text.slice(done, match.index));
    parts.push(<Hidden name={nameOf(match[0])} />);
    done = match.index + match[0].length;
  }
  if (done < text.length) parts.push(text.slice(done));
  return parts;
}

function Hidden({ name }: { name: string }): JSX.Element {
  return (
    <span class="hidden-character" title="a character that would not be seen">
      {name}
    </span>
  );
}

function nameOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code === 0x1b) return 'ESC';
  return `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
}

/** Bytes as text: what is not printable ASCII as `\x1b`, ends of lines kept. */
export function bytesAsText(bytes: Uint8Array): ComponentChild[] {
  const parts: ComponentChild[] = [];
  let plain = '';
  let hidden = '';
  const flush = (): void => {
    if (plain !== '') parts.push(plain);
    if (hidden !== '') parts.push(<span class="hidden-character">{hidden}</span>);
    plain = '';
    hidden = '';
  };
  for (const byte of bytes) {
    if (byte >= 0x20 && byte < 0x7f) {
      if (hidden !== '') flush();
      plain += String.fromCharCode(byte);
    } else {
      if (plain !== '') flush();
      hidden += byte === 0x0a ? '\\n' : byte === 0x0d ? '\\r' : byte === 0x09 ? '\\t' : `\\x${hex(byte)}`;
      if (byte === 0x0a) {
        flush();
        plain = '\n';
      }
    }
  }
  flush();
  return parts;
}

/** From a byte up to another. */
export type Span = readonly [from: number, to: number];

/** As `bytesAsText`, with some of the bytes marked. @param spans In order, without overlaps. */
export function markedText(bytes: Uint8Array, spans: readonly Span[]): ComponentChild[] {
  const parts: ComponentChild[] = [];
  let done = 0;
  for (const [from, to] of spans) {
    parts.push(...bytesAsText(bytes.subarray(done, from)), <mark>{bytesAsText(bytes.subarray(from, to))}</mark>);
    done = to;
  }
  return [...parts, ...bytesAsText(bytes.subarray(done))];
}

/** As `hexdump -C` prints it, with some of the bytes marked. @param spans As of `markedText`. */
export function bytesAsHex(bytes: Uint8Array, spans: readonly Span[] = []): ComponentChild[] {
  const parts: ComponentChild[] = [];
  const isMarked = (at: number): boolean => spans.some(([from, to]) => at >= from && at < to);
  for (let offset = 0; offset < bytes.length; offset += ROW_BYTES) {
    const row = [...bytes.subarray(offset, offset + ROW_BYTES)];
    const marks = row.map((_, index) => spans.length > 0 && isMarked(offset + index));
    const digits = row.map((byte, index) => hex(byte) + (index === 7 ? '  ' : ' '));
    const missing = '   '.repeat(ROW_BYTES - row.length) + (row.length < 8 ? ' ' : '');
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.'));
    parts.push(
      `${offset === 0 ? '' : '\n'}${offset.toString(16).padStart(4, '0')}  `,
      ...runsOf(digits, marks),
      `${missing} `,
      ...runsOf(text, marks),
    );
  }
  return parts;
}

const ROW_BYTES = 16;

/** Neighbours that are marked together. */
function runsOf(texts: readonly string[], marks: readonly boolean[]): ComponentChild[] {
  const parts: ComponentChild[] = [];
  for (let from = 0, to = 0; from < texts.length; from = to) {
    while (to < texts.length && marks[to] === marks[from]) to++;
    const run = texts.slice(from, to).join('');
    // Blanks behind the last one are none of it.
    if (marks[from] === true) parts.push(<mark>{run.trimEnd()}</mark>, run.slice(run.trimEnd().length));
    else parts.push(run);
  }
  return parts;
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}

export function fromBase64(text: string): Uint8Array {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}

const NUMBER = new Intl.NumberFormat('en');
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
export const grouped = (value: number): string => NUMBER.format(value);
export const short = (value: number): string => (value < 10_000 ? NUMBER.format(value) : COMPACT.format(value));
