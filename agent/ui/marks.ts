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

interface State {
  readonly file: string;
  readonly maxMarks: number;
  /** By the alert's id, the newest last. */
  readonly marks: Map<string, Mark>;
  /** In the file. */
  lines: number;
  /** The last one is not whole. */
  torn: boolean;
  handle: FileHandle | undefined;
  /** One write after the other. */
  queue: Promise<unknown>;
}

/** @throws Error when the file can't be read. It is made with the first mark. */
export async function openMarks(file: string, maxMarks = MAX_MARKS): Promise<Marks> {
  const state = await readMarks(file, maxMarks);
  return {
    get: (id) => state.marks.get(id) ?? { state: 'open' },
    set(ids, mark) {
      const done = state.queue.then(() => write(state, ids, mark));
      state.queue = done.catch(() => undefined);
      return done;
    },
    async close() {
      await state.queue;
      await closeFile(state);
    },
  };
}

async function readMarks(file: string, maxMarks: number): Promise<State> {
  const old = await readFile(file, 'utf8').catch((error: unknown) => {
    if (errorCode(error) === 'ENOENT') return '';
    throw new Error(`can't read marks of alerts from ${file}: ${errorCode(error) ?? messageOf(error)}`, {
      cause: error,
    });
  });
  const lines = old.split('\n');
  const state: State = {
    file,
    maxMarks,
    marks: new Map(),
    lines: lines.length,
    torn: old !== '' && !old.endsWith('\n'),
    handle: undefined,
    queue: Promise.resolve(),
  };
  for (const line of lines) {
    const read = parse(line);
    if (read !== undefined) remember(state, read.id, read.mark);
  }
  return state;
}

function remember({ marks, maxMarks }: State, id: string, mark: Mark): void {
  marks.delete(id);
  marks.set(id, mark);
  for (const oldest of marks.keys()) {
    if (marks.size <= maxMarks) break;
    marks.delete(oldest);
  }
}

async function write(state: State, ids: readonly string[], mark: Mark): Promise<void> {
  const { file, maxMarks } = state;
  if (state.handle === undefined) {
    await mkdir(dirname(file), { recursive: true });
    state.handle = await open(file, 'a', 0o600);
  }
  const added = ids.map((id) => lineOf(id, mark)).join('');
  await state.handle.appendFile(state.torn ? `\n${added}` : added);
  await state.handle.datasync();
  state.torn = false;
  state.lines += ids.length;
  for (const id of ids) remember(state, id, mark);
  if (state.lines > 2 * maxMarks) await rewrite(state);
}

async function rewrite(state: State): Promise<void> {
  const { file, marks } = state;
  await replaceFile(file, [...marks].map(([id, mark]) => lineOf(id, mark)).join(''), 0o600);
  await closeFile(state);
  state.lines = marks.size;
}

async function closeFile(state: State): Promise<void> {
  await state.handle?.close();
  state.handle = undefined;
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
