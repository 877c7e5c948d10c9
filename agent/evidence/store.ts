/**
 * Files of evidence, and their retention.
 *
 * Invariants: a file that has its name is whole, also after its writer was killed. Files together take at most
 * `maxSize`; the oldest are deleted and counted. No evidence is written where little room is left on the disk: that is
 * the journal's.
 *
 * Not promised: that an event has evidence: what is under way when the agent dies is lost, and what was written last
 * may be damaged by a power cut.
 */
import { closeSync, open, rename, writev } from 'node:fs';
import { link, mkdir, readdir, rm, rmdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { errorCode } from '../files/errors.ts';
import { dayOf, listDays, packetFile } from './place.ts';

/** Left to the journal: so many bytes, or of a small disk this share. */
const SPARE = { bytes: 64 << 20, share: 0.05 };
/** How often the disk is asked for its room; milliseconds. */
const ASK_ROOM_MILLIS = 500;
/** Files, beside their bytes: each takes a name and some memory here. */
const MAX_FILES = 65_536;
const [FILE_MODE, FOLDER_MODE] = [0o640, 0o750];

export interface StoreSettings {
  directory: string;
  /** Bytes. */
  maxSize: number;
  /** Milliseconds; 0: as long as there is room. */
  maxAge: number;
}

export interface StoreStatus {
  files: number;
  bytes: number;
  /** Since the agent started. */
  evicted: number;
}

export interface EvidenceStore {
  /** Writes a capture file, that is in parts, by the names of all its events. @throws the system's error; then there is none of it. */
  save(events: readonly SavedEvent[], content: readonly Buffer[]): Promise<void>;
  status(): StoreStatus;
}

export interface SavedEvent {
  id: string;
  /** Of its packet, microseconds since the epoch: its day is that of its folder. */
  timeMicros: number;
}

interface Entry {
  day: string;
  eventId: string;
  size: number;
  /** Milliseconds since the epoch. */
  written: number;
}

/** What of the file system tests make fail. */
export interface StoreSystem {
  write: (path: string, content: readonly Buffer[]) => Promise<void>;
  statfs: (path: string) => Promise<{ bavail: number; blocks: number; bsize: number }>;
  now: () => number;
}

interface State extends StoreSettings {
  readonly system: StoreSystem;
  /** Oldest first. */
  entries: Entry[];
  bytes: number;
  evicted: number;
  /** Folders that are there. */
  readonly days: Set<string>;
  /** Bytes that may be written until the disk is asked again, at a time on the clock of performance.now(). */
  room: number;
  askAgainAt: number;
}

/** Removes what an agent left that died. @throws the system's error. */
export async function openEvidenceStore(
  settings: StoreSettings,
  system: Partial<StoreSystem> = {},
): Promise<EvidenceStore> {
  const state: State = {
    ...settings,
    system: { write, statfs, now: Date.now, ...system },
    entries: [],
    bytes: 0,
    evicted: 0,
    days: new Set(),
    room: 0,
    askAgainAt: 0,
  };
  for (const day of await listDays(state.directory)) await scan(state, day);
  state.entries.sort((one, other) => one.written - other.written);
  await evict(state, 0);
  return {
    save: (events, content) => save(state, events, content),
    status: () => ({ files: state.entries.length, bytes: state.bytes, evicted: state.evicted }),
  };
}

async function scan(state: State, day: string): Promise<void> {
  const folder = join(state.directory, day);
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    const eventId = /^([0-9a-f]{40})\.pcapng$/.exec(name)?.[1];
    if (eventId !== undefined) {
      const { size, nlink, mtimeMs } = await stat(path);
      remember(state, { day, eventId, size: Math.ceil(size / nlink), written: mtimeMs });
    } else if (name.endsWith('.new')) {
      await rm(path, { force: true });
    }
  }
}

function remember(state: State, entry: Entry): void {
  state.entries.push(entry);
  state.bytes += entry.size;
}

async function save(state: State, events: readonly SavedEvent[], content: readonly Buffer[]): Promise<void> {
  const { directory, system } = state;
  const whole = content.reduce((sum, { length }) => sum + length, 0);
  const size = Math.ceil(whole / events.length);
  const entries = events.map(({ id, timeMicros }): Entry => {
    return { day: dayOf(timeMicros), eventId: id, size, written: system.now() };
  });
  await evict(state, whole);
  await makeFolders(state, entries);
  await checkRoom(state, whole);
  const [path, ...others] = entries.map(({ day, eventId }) => join(directory, packetFile(day, eventId)));
  if (path === undefined) return;
  try {
    await system.write(`${path}.new`, content);
    await promisify(rename)(`${path}.new`, path);
    for (const other of others) await linkTo(path, other);
  } catch (error) {
    state.days.clear();
    await rm(`${path}.new`, { force: true }).catch(() => undefined);
    for (const entry of entries) await remove(state, entry).catch(() => undefined);
    throw error;
  }
  for (const entry of entries) remember(state, entry);
}

// Of those of promises, each step costs more than the file's bytes.
const [openFile, writeParts] = [promisify(open), promisify(writev)];

async function write(path: string, content: readonly Buffer[]): Promise<void> {
  const file = await openFile(path, 'w', FILE_MODE);
  try {
    for (let rest = content; rest.length > 0;) {
      const { bytesWritten } = await writeParts(file, rest);
      rest = behind(rest, bytesWritten);
    }
  } finally {
    closeSync(file);
  }
}

function behind(parts: readonly Buffer[], written: number): readonly Buffer[] {
  let at = written;
  const rest = parts.map((part) => {
    const begin = Math.min(at, part.length);
    at -= begin;
    return part.subarray(begin);
  });
  return rest.filter(({ length }) => length > 0);
}

async function makeFolders({ directory, days }: State, entries: readonly Entry[]): Promise<void> {
  for (const { day } of entries) {
    if (days.has(day)) continue;
    await mkdir(join(directory, day), { recursive: true, mode: FOLDER_MODE });
    days.add(day);
  }
}

async function checkRoom(state: State, size: number): Promise<void> {
  const { directory, system } = state;
  if (state.room < size || performance.now() >= state.askAgainAt) {
    const { bavail, blocks, bsize } = await system.statfs(directory);
    state.room = bavail * bsize - Math.min(SPARE.bytes, blocks * bsize * SPARE.share);
    state.askAgainAt = performance.now() + ASK_ROOM_MILLIS;
  }
  state.room -= size;
  if (state.room >= 0) return;
  const error: NodeJS.ErrnoException = new Error(`the disk of ${directory} has little room: no packets are written`);
  error.code = 'ENOSPC';
  throw error;
}

async function linkTo(path: string, other: string): Promise<void> {
  try {
    await link(path, other);
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
}

/** Makes room for so many bytes. */
async function evict(state: State, more: number): Promise<void> {
  const { maxSize, maxAge, system } = state;
  const tooOld = maxAge === 0 ? -Infinity : system.now() - maxAge;
  let count = 0;
  for (const { size, written } of state.entries) {
    const isOver = state.bytes + more > maxSize || state.entries.length - count >= MAX_FILES;
    if (!isOver && written >= tooOld) break;
    state.bytes -= size;
    count++;
  }
  const gone = state.entries.splice(0, count);
  state.evicted += count;
  for (const entry of gone) await remove(state, entry);
}

async function remove(state: State, { day, eventId }: Entry): Promise<void> {
  const { directory, days } = state;
  await rm(join(directory, packetFile(day, eventId)), { force: true });
  if (state.entries.some((entry) => entry.day === day)) return;
  if (
    await rmdir(join(directory, day)).then(
      () => true,
      () => false,
    )
  )
    days.delete(day);
}
