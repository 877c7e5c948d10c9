/** The operator's overrides: a file in the engine's language, of which nothing is read but its text. */
import { readFile } from 'node:fs/promises';
import { messageOf } from '../files/errors.ts';

const MAX_OVERRIDES_BYTES = 1 << 20;

/** @throws Error that names the file. */
export async function readOverrides(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new Error(`engine.extraConfig: cannot read ${path}: ${messageOf(error)}`, { cause: error });
  }
  if (text.length > MAX_OVERRIDES_BYTES) throw new Error(`engine.extraConfig: ${path} is larger than 1 MB`);
  return text;
}
