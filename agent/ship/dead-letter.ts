/**
 * Events that a sink's destination refused for good, until somebody sends them again (`dpi-agent events redrive`).
 *
 * A folder for each sink is a journal of its own, `dead-letters-<number>.ndjson`: one DeadLetter a line. A sink keeps
 * it open from one batch to the next, and closes it after a second without one, and after each while a redrive has
 * the lock of `redriving/`. Beyond the disk budget the oldest are deleted and counted.
 *
 * Redrive moves the segments to `redriving/<time>-<pid>/` and deletes them when all were sent or put back; what an
 * interrupted one left there is found by the next.
 *
 * Recovery: a letter is on the disk before the sink's cursor moves over its event. After a crash between the two the
 * same letters come again: those that are in the last segments already are left out.
 *
 * Not promised: that a letter is there once when redrive took it just between such a crash and the restart. That an
 * event of nearly 1 MiB (the agent's own are below 128 KiB) is kept: of a letter that would be longer than a line may
 * be, the length remains.
 */
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { systemClock, type Clock } from '../files/clock.ts';
import { errorCode } from '../files/errors.ts';
import { nodeFileSystem, type FileSystem } from '../files/file-system.ts';
import { syncDirectory } from '../files/replace.ts';
import { openJournal, readJournal } from '../journal/journal.ts';
import type { Journal, JournalSystem } from '../journal/journal.ts';
import { LOCK_NAME, lockDirectory } from '../journal/lock.ts';
import { isRecord } from '../files/record.ts';
import { MAX_LINE_BYTES } from '../journal/segment.ts';
import { stripControls } from '../text.ts';

const NAME = 'dead-letters';
const SEGMENT_BYTES = 4 << 20;
const MAX_REASON_BYTES = 1024;
const LOCK_MILLIS = 5000;
/** How long a folder is kept open after its last letter: shorter than a redrive waits. */
const IDLE_MILLIS = 1000;
const DAY_MILLIS = 86_400_000;

/** What is around dead letters, where it is not the machine's own. */
export interface LetterSystem extends JournalSystem {
  clock?: Pick<Clock, 'now' | 'wait'>;
}

/** Likewise, of who takes them. */
export interface TakingSystem extends Pick<JournalSystem, 'fileSystem' | 'lock'> {
  clock: Pick<Clock, 'now' | 'wait'>;
  date: () => Date;
  /** Deletes a folder with all that is in it. */
  remove: (directory: string) => Promise<void>;
}

const machine: TakingSystem = {
  fileSystem: nodeFileSystem,
  lock: lockDirectory,
  clock: systemClock,
  date: () => new Date(),
  remove: (directory) => rm(directory, { recursive: true }),
};

export interface DeadLetter {
  /** When it was refused; RFC 3339. */
  time: string;
  /** Events before it in the journal that it came from. */
  number: number;
  reason: string;
  /** The destination's code, where it gave one. */
  status?: number;
  /** How often it was sent. */
  attempts: number;
  event?: Record<string, unknown>;
  /** In place of the event: length in bytes of a line that was none, or too long to keep. */
  raw?: number;
}

/** `<stateDirectory>/sinks/<sink>-dead-letters`. */
export function deadLetterDirectory(stateDirectory: string, sink: string): string {
  return path.join(stateDirectory, 'sinks', `${sink}-dead-letters`);
}

export interface AppendOptions {
  directory: string;
  /** Bytes of all segments together. */
  maxSize: number;
  letters: readonly DeadLetter[];
  /** How long to wait for another holder of the lock. */
  lockMillis?: number;
  /** The wall clock, ms since the epoch; Date.now without it. */
  now?: () => number;
  /** Node's own without it. */
  system?: LetterSystem;
}

/**
 * Durable when it resolves. @returns how many old letters had to go for these.
 * @throws JournalError; ELOCKED when another process kept the folder locked.
 */
export async function appendDeadLetters(options: AppendOptions): Promise<{ evicted: number }> {
  const journal = await openLetters(options);
  try {
    await append(journal, await withoutPresent(journal, options));
    return { evicted: journal.status().evicted };
  } finally {
    await journal.close();
  }
}

/** As `appendDeadLetters`, of one folder at a time, which it keeps open. */
export interface LetterWriter {
  append: typeof appendDeadLetters;
  /** Gives the lock back. Letters can be appended after it. */
  close(): Promise<void>;
}

/** What is around a writer of letters: the machine's own, or what is simulated. */
export interface WriterSystem {
  after: Clock['after'];
  exists: (file: string) => boolean;
}

/** Its calls must not overlap. */
export function createLetterWriter(
  idleMillis = IDLE_MILLIS,
  { after, exists }: WriterSystem = { after: systemClock.after, exists: existsSync },
): LetterWriter {
  let open: Journal | undefined;
  let callOff = (): void => undefined;

  async function close(): Promise<void> {
    callOff();
    const journal = open;
    open = undefined;
    await journal?.close();
  }

  /** What was opened just now may have letters of a run that crashed; later on, each batch is a new one. */
  async function write(options: AppendOptions): Promise<number> {
    if (open !== undefined) {
      const { evicted } = open.status();
      await append(open, options.letters);
      return open.status().evicted - evicted;
    }
    open = await openLetters(options);
    await append(open, await withoutPresent(open, options));
    return open.status().evicted;
  }

  return {
    async append(options) {
      callOff();
      try {
        const evicted = await write(options);
        if (exists(path.join(redrivingOf(options.directory), LOCK_NAME))) await close();
        else callOff = after(idleMillis, () => void close().catch(() => undefined));
        return { evicted };
      } catch (error) {
        // A part of them may be there.
        await close().catch(() => undefined);
        throw error;
      }
    },
    close,
  };
}

function openLetters({ directory, maxSize, lockMillis = LOCK_MILLIS, now, system }: AppendOptions): Promise<Journal> {
  const settings = {
    directory,
    name: NAME,
    segmentSize: Math.min(SEGMENT_BYTES, Math.floor(maxSize / 2)),
    maxSize,
    // A year, and no age at which letters go: only their size counts.
    segmentAge: 365 * DAY_MILLIS,
    maxAge: 0,
    fsync: true,
  };
  const { clock = systemClock } = system ?? {};
  return retryLocked(clock, lockMillis, () => openJournal(settings, undefined, now, undefined, system));
}

/** Those that are not in the last segments. */
async function withoutPresent(journal: Journal, { directory, letters, system }: AppendOptions): Promise<DeadLetter[]> {
  const wanted = new Map(letters.map((letter) => [letter.number, letter]));
  const present = new Set<DeadLetter>();
  // A batch may be spread over the last segments; before them there is none of it.
  for (const [index, { sequence: segment }] of journal.segments().toReversed().entries()) {
    const before = present.size;
    const bounds = {
      from: { segment, offset: 0, event: segment },
      to: { segment, offset: Infinity, event: Infinity },
    };
    for await (const line of readJournal({ directory, name: NAME, ...bounds, fileSystem: system?.fileSystem })) {
      if (line.kind !== 'event' || typeof line.event.number !== 'number') continue;
      const letter = wanted.get(line.event.number);
      if (letter !== undefined && contentOf(line.event) === contentOf(letter)) present.add(letter);
    }
    if (index > 0 && present.size === before) break;
  }
  return letters.filter((letter) => !present.has(letter));
}

async function append(journal: Journal, letters: readonly DeadLetter[]): Promise<void> {
  const lines = letters.map(toLine);
  // A batch is never split over two segments; one that is larger than a segment would be one too large.
  for (let start = 0; start < lines.length;) {
    let size = 0;
    let end = start;
    while (end < lines.length && (end === start || size + byteLength(lines[end]) <= SEGMENT_BYTES / 4)) {
      size += byteLength(lines[end]);
      end += 1;
    }
    await journal.append(lines.slice(start, end));
    start = end;
  }
}

export interface TakenLetters {
  /** Oldest first; lines that are no dead letters are left out. */
  letters: AsyncIterable<DeadLetter>;
  /** Deletes them for good, and gives the lock back. */
  done(): Promise<void>;
  /** Leaves them for the next redrive, and gives the lock back. */
  release(): void;
}

/**
 * Takes all letters out of a sink's folder.
 * @throws JournalError; ELOCKED while another redrive runs or the folder stays locked.
 */
export async function takeDeadLetters(
  directory: string,
  lockMillis = LOCK_MILLIS,
  { fileSystem, lock, clock, date, remove } = machine,
): Promise<TakenLetters> {
  const redriving = redrivingOf(directory);
  await fileSystem.mkdir(redriving, { recursive: true, mode: 0o750 });
  const deadline = clock.now() + lockMillis;
  const release = await retryLocked(clock, lockMillis, () => lock(redriving));
  try {
    const unlock = await retryLocked(clock, deadline - clock.now(), () => lock(directory));
    try {
      const names = (await fileSystem.readdir(directory, { withFileTypes: true }))
        .map(({ name }) => name)
        .filter((name) => /^dead-letters-\d+\.ndjson$/.test(name));
      if (names.length > 0) {
        const folder = path.join(redriving, `${date().toISOString().replaceAll(':', '')}-${process.pid}`);
        await fileSystem.mkdir(folder, { recursive: true, mode: 0o750 });
        for (const name of names) await fileSystem.rename(path.join(directory, name), path.join(folder, name));
        for (const changed of [folder, redriving, directory]) await syncDirectory(changed, fileSystem);
      }
    } finally {
      unlock();
    }
    const folders = (await fileSystem.readdir(redriving, { withFileTypes: true }))
      .filter((entry) => !entry.isFile())
      .map((entry) => path.join(redriving, entry.name))
      .toSorted();
    return {
      letters: lettersOf(folders, fileSystem),
      async done() {
        for (const folder of folders) await remove(folder);
        release();
      },
      release,
    };
  } catch (error) {
    release();
    throw error;
  }
}

/** Locked by a redrive from its beginning to its end. */
const redrivingOf = (directory: string): string => path.join(directory, 'redriving');

async function* lettersOf(folders: readonly string[], fileSystem: FileSystem): AsyncGenerator<DeadLetter> {
  for (const directory of folders) {
    for await (const line of readJournal({ directory, name: NAME, fileSystem })) {
      const letter = line.kind === 'event' ? parseLetter(line.event) : undefined;
      if (letter !== undefined) yield letter;
    }
  }
}

function parseLetter({
  time,
  number,
  reason,
  status,
  attempts,
  event,
  raw,
}: Record<string, unknown>): DeadLetter | undefined {
  if (typeof time !== 'string' || typeof reason !== 'string') return undefined;
  if (typeof number !== 'number' || typeof attempts !== 'number') return undefined;
  const letter: DeadLetter = { time, number, reason: cleanReason(reason), attempts };
  if (typeof status === 'number') letter.status = status;
  if (isRecord(event)) letter.event = event;
  else if (typeof raw === 'number') letter.raw = raw;
  else return undefined;
  return letter;
}

function toLine({ time, number, reason, status, attempts, event, raw }: DeadLetter): {
  position: string;
  json: string;
} {
  const head = { time, number, reason: cleanReason(reason), ...(status === undefined ? {} : { status }), attempts };
  const position = `dead-letter:${number}`;
  const json = JSON.stringify({ ...head, ...(event === undefined ? { raw } : { event }) });
  if (event === undefined || Buffer.byteLength(json) <= MAX_LINE_BYTES) return { position, json };
  return { position, json: JSON.stringify({ ...head, raw: Buffer.byteLength(JSON.stringify(event)) }) };
}

/** What tells letters of the same number apart, when they are of different journals. */
function contentOf({ event, raw }: { event?: unknown; raw?: unknown }): string {
  return JSON.stringify(event ?? raw);
}

/** Without control characters, at most 1 KiB of UTF-8. */
export function cleanReason(reason: string): string {
  const clean = stripControls(reason.slice(0, 4 * MAX_REASON_BYTES));
  if (Buffer.byteLength(clean) <= MAX_REASON_BYTES) return clean;
  // A character that is cut in two becomes U+FFFD, which is taken off.
  return Buffer.from(clean)
    .subarray(0, MAX_REASON_BYTES)
    .toString()
    .replace(/\uFFFD+$/u, '');
}

function byteLength(line: { json: string } | undefined): number {
  return line === undefined ? 0 : Buffer.byteLength(line.json) + 1;
}

async function retryLocked<T>(
  clock: Pick<Clock, 'now' | 'wait'>,
  millis: number,
  attempt: () => T | Promise<T>,
): Promise<T> {
  const deadline = clock.now() + millis;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (errorCode(error) !== 'ELOCKED' || clock.now() >= deadline) throw error;
      await clock.wait(50, new AbortController().signal);
    }
  }
}
