/**
 * What was done with the journal's alerts: `marks.ndjson`, a line an act, appended and synced; of an alert, the last one
 * with a state says its state. The journal itself is the agent's, and is never written.
 *
 * A torn last line, after a crash, is passed over, and ended by the next one. The newest 100,000 alerts that are marked
 * are kept, with their last 20 acts: the file is written anew, beside and renamed, when it has twice as many lines.
 */
import { mkdir, open, readFile, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode, messageOf } from '../files/errors.ts';
import { replaceFile } from '../files/replace.ts';
import type { Act } from './api.ts';
import { actOf, fields, type Mark } from './row.ts';

const MAX_MARKS = 100_000;
/** Of one alert. */
const MAX_ACTS = 20;

export interface Marks {
  get(id: string): Mark;
  /** The oldest first. */
  history(id: string): Act[];
  add(ids: readonly string[], act: Act): Promise<void>;
  close(): Promise<void>;
}

interface State {
  readonly file: string;
  readonly maxMarks: number;
  /** By the alert's id, the newest last. */
  readonly acts: Map<string, readonly Act[]>;
  /** Acts that are kept. */
  kept: number;
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
    get: (id) => markOf(state.acts.get(id) ?? []),
    history: (id) => [...(state.acts.get(id) ?? [])],
    add(ids, act) {
      const done = state.queue.then(() => write(state, ids, act));
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
    acts: new Map(),
    kept: 0,
    lines: lines.length,
    torn: old !== '' && !old.endsWith('\n'),
    handle: undefined,
    queue: Promise.resolve(),
  };
  for (const line of lines) {
    const read = parse(line);
    if (read !== undefined) remember(state, read.id, read.act);
  }
  return state;
}

function markOf(acts: readonly Act[]): Mark {
  const last = acts.findLast(({ state }) => state !== undefined);
  const { assignee } = acts.findLast((act) => act.assignee !== undefined) ?? {};
  return {
    state: last?.state ?? 'open',
    ...(last === undefined || last.by === '' ? {} : { by: last.by }),
    ...(last === undefined || last.at === '' ? {} : { at: last.at }),
    ...(last?.reason === undefined ? {} : { reason: last.reason }),
    ...(assignee === undefined ? {} : { assignee }),
  };
}

function remember(state: State, id: string, act: Act): void {
  const { acts, maxMarks } = state;
  const before = acts.get(id) ?? [];
  const after = withAct(before, act);
  acts.delete(id);
  acts.set(id, after);
  state.kept += after.length - before.length;
  for (const [oldest, { length }] of acts) {
    if (acts.size <= maxMarks) break;
    acts.delete(oldest);
    state.kept -= length;
  }
}

/** What says state and whose it is stays, however much is said behind it. */
function withAct(before: readonly Act[], act: Act): readonly Act[] {
  const all = [...before, act];
  if (all.length <= MAX_ACTS) return all;
  const needed = new Set([
    all.findLastIndex(({ state }) => state !== undefined),
    all.findLastIndex(({ assignee }) => assignee !== undefined),
  ]);
  const first = all.findIndex((_, index) => !needed.has(index));
  return all.toSpliced(first, 1);
}

async function write(state: State, ids: readonly string[], act: Act): Promise<void> {
  const { file, maxMarks } = state;
  if (state.handle === undefined) {
    await mkdir(dirname(file), { recursive: true });
    state.handle = await open(file, 'a', 0o600);
  }
  const added = ids.map((id) => lineOf(id, act)).join('');
  await state.handle.appendFile(state.torn ? `\n${added}` : added);
  await state.handle.datasync();
  state.torn = false;
  state.lines += ids.length;
  for (const id of ids) remember(state, id, act);
  if (state.lines > 2 * Math.max(maxMarks, state.kept)) await rewrite(state);
}

async function rewrite(state: State): Promise<void> {
  const { file, acts, kept } = state;
  const lines = [...acts].flatMap(([id, of]) => of.map((act) => lineOf(id, act)));
  await replaceFile(file, lines.join(''), 0o600);
  await closeFile(state);
  state.lines = kept;
}

async function closeFile(state: State): Promise<void> {
  await state.handle?.close();
  state.handle = undefined;
}

function lineOf(id: string, act: Act): string {
  return `${JSON.stringify({ id, ...act })}\n`;
}

function parse(line: string): { id: string; act: Act } | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { id } = fields(value);
  const act = actOf(value);
  return typeof id !== 'string' || act === undefined ? undefined : { id, act };
}
