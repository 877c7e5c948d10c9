/**
 * What is in an error, whatever was thrown, and in whichever realm it was made: `instanceof Error` is false for another
 * realm's.
 */
import { isNativeError } from 'node:util/types';

/** The code of an error of the system, Node or zlib ("ENOENT"); undefined where there is none. */
export function errorCode(error: unknown): string | undefined {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : undefined;
}

/** What was thrown, without "Error:" and stack. */
export function messageOf(error: unknown): string {
  return isNativeError(error) || error instanceof Error ? error.message : String(error);
}
