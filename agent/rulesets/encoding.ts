/**
 * The text of a rule file, whatever it was saved as: UTF-8 and UTF-16 with or without a byte order mark, else Latin-1;
 * lines that end with LF, CRLF or CR.
 *
 * Invariants: the text has line feeds only, and as many lines as an editor shows. What rules look for stays the same
 * bytes: in a file of Latin-1, patterns have them in hexadecimal, because an engine gets UTF-8. Never throws.
 */
import { kindOf, MAGIC_BYTES } from '../files/magic.ts';

export type DecodedRules = { text: string } | { problem: string };

/** Of a file without a byte order mark, to tell UTF-16 by. */
const SAMPLE_BYTES = 4096;

export function decodeRules(bytes: Buffer): DecodedRules {
  const kind = kindOf(bytes.subarray(0, MAGIC_BYTES));
  if (kind !== undefined) return { problem: `it is ${kind}, not rules` };
  const mark = bytes.subarray(0, 4).toString('hex');
  if (mark === 'fffe0000' || mark === '0000feff') return { problem: 'it is UTF-32: save it as UTF-8' };
  const wide = wideEncoding(bytes);
  if (wide !== undefined) {
    if (bytes.length % 2 === 1) return { problem: `it is ${wide.toUpperCase()}, and ends inside a character` };
    return { text: withLineFeeds(new TextDecoder(wide).decode(bytes)) };
  }
  try {
    return { text: withLineFeeds(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) };
  } catch {
    return { text: withLineFeeds(withHexPatterns(bytes)) };
  }
}

/** By the byte order mark, else by where the zeros are that ASCII has in UTF-16. */
function wideEncoding(bytes: Buffer): 'utf-16le' | 'utf-16be' | undefined {
  const mark = bytes.subarray(0, 2).toString('hex');
  if (mark === 'fffe') return 'utf-16le';
  if (mark === 'feff') return 'utf-16be';
  const sample = bytes.subarray(0, SAMPLE_BYTES);
  let even = 0;
  let odd = 0;
  for (const [index, byte] of sample.entries()) {
    if (byte !== 0) continue;
    if (index % 2 === 0) even++;
    else odd++;
  }
  const most = sample.length / 4;
  if (odd > most && even === 0) return 'utf-16le';
  return even > most && odd === 0 ? 'utf-16be' : undefined;
}

/** Old editors of the Mac end lines with CR alone; a file that was converted twice ends them with CR CR LF. */
function withLineFeeds(text: string): string {
  return text.includes('\r') ? text.replaceAll(/\r+\n|\r/g, '\n') : text;
}

/** Bytes beyond ASCII of patterns in hexadecimal, as `content` and `pcre` write it; those of messages as characters. */
function withHexPatterns(bytes: Buffer): string {
  return bytes
    .toString('latin1')
    .replaceAll(/\b(content|uricontent|pcre|regex)\s*:\s*!?\s*"(?:[^"\\\r\n]|\\.)*"/g, (option, keyword: string) =>
      option.replaceAll(/[\u0080-\u00ff]+/g, (run) => hexOf(run, keyword === 'content' || keyword === 'uricontent')),
    );
}

function hexOf(run: string, isContent: boolean): string {
  const pairs = [...Buffer.from(run, 'latin1')].map((byte) => byte.toString(16).toUpperCase());
  return isContent ? `|${pairs.join(' ')}|` : pairs.map((pair) => `\\x${pair}`).join('');
}
