/**
 * The file of the operator's changes to rules (its language: modify.ts): reading it, and adding to it without
 * disturbing what is there.
 */
import { readFile, realpath, stat } from 'node:fs/promises';
import { errorCode } from '../files/errors.ts';
import { replaceFile } from '../files/replace.ts';
import { parseChanges, type Change } from './modify.ts';

const MAX_FILE_BYTES = 1 << 20;

/** The changes of a file; none where there is no file. @throws Error that lists each error as `file:line: what`. */
export async function readChanges(file: string): Promise<Change[]> {
  const parsed = parseChanges((await readText(file)) ?? '');
  if ('changes' in parsed) return parsed.changes;
  throw new Error(parsed.problems.map(({ line, reason }) => `${file}:${line}: ${reason}`).join('\n'));
}

/** Undefined where there is no such file. @throws Error that says why it can't be read. */
export async function readText(file: string): Promise<string | undefined> {
  try {
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) throw new Error(`${file} is too large: expected at most ${MAX_FILE_BYTES} bytes`);
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT') return undefined;
    throw code === undefined ? error : new Error(`cannot read ${file}: ${code}`, { cause: error });
  }
}

/**
 * The text with the change as its last line. Other lines that turn the same condition on or off go: the last one
 * counts, and its comment stays. All else is kept as it is.
 * @param condition As a line has it; it is put into quotes where it must be.
 */
export function withChange(text: string, action: 'enable' | 'disable', condition: string): string {
  const word = /[\s"#]/.test(condition) ? `"${condition.replaceAll('"', String.raw`\"`)}"` : condition;
  let comment = '';
  const lines = text === '' ? [] : text.replace(/\n$/, '').split('\n');
  const kept = lines.filter((line) => {
    const match = /^\s*(?:enable|disable)\s+(.*?)\s*\r?$/.exec(line);
    const rest = match?.[1] ?? '';
    if (rest !== word && !(rest.startsWith(word) && /^\s+#/.test(rest.slice(word.length)))) return true;
    comment = rest.slice(word.length);
    return false;
  });
  return `${[...kept, `${action} ${word}${comment}`].join('\n')}\n`;
}

/**
 * Adds a change to the file, which is made where there is none.
 * @returns whether anything changed.
 * @throws Error that says why it can't be written.
 */
export async function writeChange(file: string, action: 'enable' | 'disable', condition: string): Promise<boolean> {
  const before = (await readText(file)) ?? '';
  const after = withChange(before, action, condition);
  if (after === before) return false;
  await writeText(file, after);
  return true;
}

/**
 * Adds lines behind what is there.
 * @returns those that were not there yet.
 * @throws Error that says why it can't be written, or that there are too many changes.
 */
export async function addChanges(file: string, lines: readonly string[]): Promise<string[]> {
  const before = (await readText(file)) ?? '';
  const there = new Set(before.split('\n').map((line) => line.trim()));
  const added = lines.filter((line) => !there.has(line));
  if (added.length === 0) return [];
  const kept = before === '' || before.endsWith('\n') ? before : `${before}\n`;
  const after = `${kept}${added.join('\n')}\n`;
  const parsed = parseChanges(after);
  const [problem] = 'problems' in parsed ? parsed.problems : [];
  if (problem !== undefined) throw new Error(`${file}:${problem.line}: ${problem.reason}`);
  await writeText(file, after);
  return added;
}

/** A link stays one. @throws Error that says why it can't be written. */
export async function writeText(file: string, text: string): Promise<void> {
  try {
    const path = await realpath(file).catch(() => file);
    const mode = await stat(path).then(
      (stats) => stats.mode & 0o777,
      () => 0o644,
    );
    await replaceFile(path, text, mode);
  } catch (error) {
    const code = errorCode(error) ?? '';
    const advice: Record<string, string> = {
      ENOENT: 'its folder does not exist: make it, or name another file',
      EROFS: 'it is read-only: change what it is mounted from (a ConfigMap)',
      EACCES: 'permission denied',
    };
    throw new Error(`cannot write ${file}: ${advice[code] ?? (code || String(error))}`, { cause: error });
  }
}
