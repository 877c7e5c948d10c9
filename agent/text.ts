/** Makes text from packets, rules and configuration safe to print: it can't move the cursor, nor break a line. */

// CSI, OSC and the like, DCS, and two-character escapes; 7-bit and 8-bit (ECMA-48).
const ESCAPES =
  // eslint-disable-next-line no-control-regex
  /(?:\u001B\[|\u009B)[0-?]*[ -/]*[@-~]|(?:\u001B[\]PX^_]|[\u0090\u0098\u009D-\u009F])[^\u0007\u001B\u009C]*(?:\u0007|\u001B\\|\u009C)?|\u001B[ -/]*[0-~]/gu;
// Other control characters, line separators, directional overrides, halves of surrogate pairs.
export const UNPRINTABLE = /[\p{Cc}\p{Cs}\u2028\u2029\u200E\u200F\u202A-\u202E\u2066-\u2069]/gu;

/** `text` without terminal escapes, control characters and marks that change its direction. */
export function stripControls(text: string): string {
  // Most texts have nothing to remove: one look decides.
  return text.search(UNPRINTABLE) === -1 ? text : text.replace(ESCAPES, '').replace(UNPRINTABLE, '');
}
