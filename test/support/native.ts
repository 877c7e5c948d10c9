/** Our own native code where it is built; one line says when it is not. */
import { loadNative } from '../../agent/native.ts';

const loaded = loadNative();

export const native = loaded.native;
export const whyNoNative =
  loaded.native === undefined ? `the native code cannot be loaded: ${loaded.reason}` : undefined;
