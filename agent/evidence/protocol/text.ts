/** Texts out of packets, for people: printable and short. */
import { stripControls, UNPRINTABLE } from '../../text.ts';

/** At most `limit` UTF-16 code units. */
export function short(text: string, limit: number): string {
  return stripControls(text.slice(0, limit)).trim();
}

/** Bytes of any kind, as a hex dump has them at its side: what can't be printed is a dot, lines become one. */
export function shown(bytes: Buffer, limit: number): string {
  return bytes
    .toString('utf8', 0, limit * 4)
    .replaceAll(/[\r\n\t]+/g, ' ')
    .replaceAll(UNPRINTABLE, '.')
    .slice(0, limit)
    .replaceAll(/[\uD800-\uDBFF]$/g, '');
}

/** Without the fields that are undefined, empty texts and empty lists. */
export function filled<T extends object>(values: {
  [Key in keyof T]: T[Key] | undefined;
}): Partial<T> {
  const has = (value: unknown): boolean =>
    value !== undefined && value !== '' && !(Array.isArray(value) && value.length === 0);
  return Object.fromEntries(Object.entries(values).filter(([, value]) => has(value))) as Partial<T>;
}
