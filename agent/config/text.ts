/** Values from outside in error messages: bounded, and safe to print. */
import { stripControls } from '../text.ts';

/** `text` without terminal escapes and control characters, at most `limit` code points and an ellipsis. */
export function plain(text: string, limit: number): string {
  // Bounded before the expressions run over it; half an escape sequence loses its control characters too.
  const cleaned = stripControls(text.slice(0, limit * 4));
  const points = Array.from(cleaned);
  return points.length > limit || text.length > limit * 4 ? `${points.slice(0, limit).join('')}…` : cleaned;
}

/** A value as an error shows it: text quoted, at most 80 characters; collections by their kind only. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(plain(value, 80));
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'a mapping';
  return plain(String(value), 80);
}
