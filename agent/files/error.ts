import { isNativeError } from 'node:util/types';

/** The system's code of an error ("ENOENT"), undefined where there is none. */
export function errorCode(error: unknown): string | undefined {
  return isNativeError(error) && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
