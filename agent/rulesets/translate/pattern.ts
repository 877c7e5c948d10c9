/** The patterns of `content`: text in quotation marks, with bytes in hexadecimal between bars. */
import { refuse, shown } from './refusal.ts';

/** Bytes of a pattern without its quotation marks, as Snort 3 reads it: `\` takes the next character as it is. */
export function parsePattern(text: string): Buffer {
  // Files are read as UTF-8: other bytes came as this character, and which ones they were is lost.
  if (text.includes('\uFFFD')) refuse('a pattern with bytes that are not UTF-8: write them in hexadecimal');
  const parts: Buffer[] = [];
  let position = 0;
  let plain = '';
  const flush = (): void => {
    if (plain !== '') parts.push(Buffer.from(plain, 'utf8'));
    plain = '';
  };
  while (position < text.length) {
    const character = text.charAt(position);
    if (character === '|') {
      const end = text.indexOf('|', position + 1);
      const hex = end < 0 ? undefined : text.slice(position + 1, end).replaceAll(/\s/g, '');
      if (hex === undefined || hex.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(hex)) {
        refuse(`bytes in hexadecimal are not pairs of digits between two bars: ${shown(text)}`);
      }
      flush();
      parts.push(Buffer.from(hex, 'hex'));
      position = end + 1;
    } else {
      if (character === '\\') position += 1;
      // A character of two UTF-16 units comes as two steps; joined in `plain` they are one again.
      plain += text.charAt(position);
      position += 1;
    }
  }
  flush();
  const bytes = Buffer.concat(parts);
  if (bytes.length === 0) refuse('an empty pattern');
  return bytes;
}

/** In the form that Suricata reads the same: what it might take for something else is in hexadecimal. */
export function printPattern(bytes: Buffer): string {
  let text = '';
  let hex: string[] = [];
  const flush = (): void => {
    if (hex.length > 0) text += `|${hex.join(' ')}|`;
    hex = [];
  };
  for (const byte of bytes) {
    const character = String.fromCharCode(byte);
    if (byte < 0x20 || byte > 0x7e || '";:\\|'.includes(character)) {
      hex.push(byte.toString(16).toUpperCase().padStart(2, '0'));
    } else {
      flush();
      text += character;
    }
  }
  flush();
  return text;
}
