/**
 * What was made of the journal's alerts: `marks.ndjson`, a line a mark, appended and synced; the last line of an alert
 * counts. The journal itself is the agent's, and is never written.
 *
 * A torn last line, after a crash, is passed over, and ended by the next one. The newest 100,000 alerts that are marked
 * are kept: the file is written anew, beside and renamed, when it has twice as many lines.
 */
import { mkdir, open, readFile, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode, messageOf } from '../files/errors.ts';
import { replaceFile } from '../files/replace.ts';
import { STATES } from './api.ts';
import { fields, text, type Mark } from './row.ts';

const MAX_MARKS = 100_000;

export interface Marks {
  get(id: string): Mark;
  set(ids: readonly string[], mark: Mark): Promise<void>;
  close(): Promise<void>;
}

/** @throws Error when the file can't be read. It is made with the first mark. */
export async function openMarks(file: string, maxMarks = MAX_MARKS): Promise<Marks> {
  const marks = new Map<string, Mark>();
  const old = await readFile(file, 'utf8').catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return '';
    throw new Error(`can't read marks of alerts from ${file}: ${errorCode(error) ?? messageOf(error)}`, {
      cause: error,
    });
  });
  let lines = 0;
  for (const line of old.split('\n')) {
    const read = parse(line);
    if (read !== undefined) remember(read.id, read.mark);
    lines += 1;
  }
  let torn = old !== '' && !old.endsWith('\n');
  let handle: FileHandle | undefined;
  let queue: Promise<unknown> = Promise.resolve();

  function remember(id: string, mark: Mark): void {
    marks.delete(id);
    marks.set(id, mark);
    for (const oldest of marks.keys()) {
      if (marks.size <= maxMarks) break;
      marks.delete(oldest);
    }
  }

  async function write(ids: readonly string[], mark: Mark): Promise<void> {
    if (handle === undefined) {
      await mkdir(dirname(file), { recursive: true });
      handle = await open(file, 'a', 0o600);
    }
    const added = ids.map((id) => lineOf(id, mark)).join('');
    await handle.appendFile(torn ? `\n${added}` : added);
    await handle.datasync();
    torn = false;
    lines += ids.length;
    for (const id of ids) remember(id, mark);
    if (lines > 2 * maxMarks) await rewrite();
  }

  async function rewrite(): Promise<void> {
    await replaceFile(file, [...marks].map(([id, mark]) => lineOf(id, mark)).join(''), 0o600);
    await handle?.close();
    handle = undefined;
    lines = marks.size;
  }

  return {
    get: (id) => marks.get(id) ?? { state: 'open' },
    set(ids, mark) {
      const done = queue.then(() => write(ids, mark));
      queue = done.catch(() => undefined);
      return done;
    },
    async close() {
      await queue;
      await handle?.close();
      handle = undefined;
    },
  };
}

function lineOf(id: string, mark: Mark): string {
  return `${JSON.stringify({ id, ...mark })}\n`;
}

function parse(line: string): { id: string; mark: Mark } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { id, state, by, at } = fields(value);
  const known = STATES.find((name) => name === state);
  if (typeof id !== 'string' || known === undefined) return undefined;
  return {
    id,
    mark: { state: known, ...(text(by) === '' ? {} : { by: text(by) }), ...(text(at) === '' ? {} : { at: text(at) }) },
  };
}
