/**
 * Whether what should be ciphertext could be text: null ciphers, and handshakes that are only a disguise.
 *
 * Of ciphertext, every second byte is 0x80 or more; of text in ASCII none is. So one byte is mostly all that is looked
 * at, and 32 bytes below 0x80 in a row come once in 2^32 times. Not recognised: clear text that has other bytes among
 * the first ones, such as what is compressed, and other alphabets in UTF-8.
 */
import { byteAt } from '../bytes.ts';
import type { Direction } from './flow.ts';

/** Where a unit begins, and where a wrong answer would cut a unit in two. */
export const AT_BEGINNING = 32;
export const WITHIN = 64;

/**
 * Looks at up to `bound` bytes of [from, to).
 * @returns Whether `bound` bytes in a row were below 0x80, with those looked at before.
 */
export function looksClear(direction: Direction, bytes: Buffer, from: number, to: number, bound: number): boolean {
  const end = Math.min(to, from + bound);
  for (let at = from; at < end; at++) {
    if (byteAt(bytes, at) >= 0x80) {
      direction.text = 0;
      return false;
    }
    if (direction.text < WITHIN) direction.text++;
  }
  return direction.text >= bound;
}
