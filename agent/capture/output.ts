/**
 * The writing end of an engine's FIFO, fed from the arena.
 *
 * Records go to the FIFO in order and whole. An engine that does not read fast enough is not waited for: what it has no
 * room for stays in the arena, which is bounded, and `blocked` tells that nothing should be added until it reads. So
 * nothing here blocks.
 *
 * Where the native part is loaded, pages are given to the FIFO instead of copied (vmsplice(2)), and used again when
 * they were read.
 *
 * The header of the stream is alone in the FIFO until it was read: Suricata 8.0.0 to 8.0.5 lose what comes with it
 * (https://redmine.openinfosecfoundation.org/issues/8464).
 *
 * Not promised: that the engine analysed what it has read.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { constants as os } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from '../files/errors.ts';
import { FIFO_BYTES, type Native } from '../native.ts';
import { createArena, type Arena } from './arena.ts';
import { pcapFileHeader, RECORD_HEADER } from './record.ts';
import { createRecordOwners, type Ranges, type RecordOwners } from './record-owners.ts';

/** Beside what a FIFO holds: what is filled in one go, and what was not written yet. */
const LEAST_ARENA = 4 << 20;
const MOST_ARENA = 256 << 20;
/** With so much that waits, the engine is slower than what comes. */
const WAITING_BYTES = 64 * 1024;
/** Between two tries to open a FIFO that nobody reads yet, and to write what waits. */
const OPEN_RETRY_MILLIS = 10;
const RETRY_MILLIS = 1;

export type Accepted = 'accepted' | 'queue-full' | 'closed';

export interface Handed {
  path: string;
  records: number;
}

export interface Output {
  readonly arena: Arena;
  /** Opens a FIFO that an engine is about to read, in place of the present one. `behind`: another process began it. */
  open(path: string, behind?: boolean): void;
  /** Resolves when nothing waits any more, or after `graceMillis`. @returns whether nothing does. */
  empty(graceMillis: number): Promise<boolean>;
  /** Takes no more, and closes the FIFO once all was read, or after `graceMillis`: the end of the engine's input. */
  close(graceMillis: number, reason?: string): Promise<void>;
  readonly isOpen: boolean;
  /** The engine has to read before anything is added. */
  readonly blocked: boolean;
  /** Adds `records` whole records of one endpoint, or of one file, that are in the arena in [from, to). */
  add(from: number, to: number, records: number): void;
  /** Writes what the FIFO has room for. */
  flush(): void;
  /** Records that this process handed to the FIFO that is open, or that wait for it; undefined when none is. */
  handed(): Handed | undefined;
  /**
   * The VLAN id of a record, by its number among those that this process handed to the FIFO, from 1. Undefined: it is
   * too long ago.
   */
  ownerOf(path: string, record: number): number | undefined;
  /** The latest owners of the FIFO that is open. */
  owners(): Ranges | undefined;
}

export interface OutputEvents {
  /** `behind`: in the middle of a stream that another process has begun. */
  opened(path: string, behind: boolean): void;
  /** The engine is gone, or was given up. `lost` counts the records that it had not read by then, by VLAN id. */
  closed(path: string, reason: string, lost: Map<number, number>): void;
  /** The FIFO is full. */
  blocked(): void;
  /** There is room again. */
  drained(): void;
}

type Fifo =
  | { is: 'closed' }
  | { is: 'opening'; path: string; timer: NodeJS.Timeout }
  /** `ending`: nothing is added any more. `begun`: the engine has read the stream's header. */
  | { is: 'open'; path: string; fd: number; ending: boolean; begun: boolean };

interface State {
  readonly arena: Arena;
  readonly native: Native | undefined;
  readonly events: OutputEvents;
  fifo: Fifo;
  /** Whether pages are given to the FIFO. */
  splices: boolean;
  /** Records of the FIFO that is open. */
  handed: number;
  /** By FIFO, the one in use last. */
  readonly owners: Map<string, RecordOwners>;
  current: RecordOwners | undefined;
  retry: NodeJS.Timeout | undefined;
  /** What was told last: `blocked`, or `drained`. */
  full: boolean;
}

/** @param native Without it, bytes are copied into a FIFO of 64 KiB. */
export function createOutput(queueSize: number, native: Native | undefined, events: OutputEvents): Output {
  const size = Math.min(Math.max(queueSize, LEAST_ARENA), MOST_ARENA);
  const arena = createArena(native === undefined ? Buffer.allocUnsafeSlow(size) : native.arena(size));
  const state: State = {
    arena,
    native,
    events,
    fifo: { is: 'closed' },
    splices: native !== undefined,
    handed: 0,
    owners: new Map(),
    current: undefined,
    retry: undefined,
    full: false,
  };
  return {
    arena,
    open: (path, behind = false) => open(state, path, behind),
    empty: (graceMillis) => empty(state, graceMillis),
    close: (graceMillis, reason = 'closed by the agent') => close(state, graceMillis, reason),
    get isOpen() {
      return isOpen(state);
    },
    get blocked() {
      return isBlocked(state);
    },
    add: (from, to, records) => add(state, from, to, records),
    flush: () => flush(state),
    handed: () => (state.fifo.is === 'open' ? { path: state.fifo.path, records: state.handed } : undefined),
    ownerOf: (path, record) => state.owners.get(path)?.of(record),
    owners: () => (state.fifo.is === 'open' ? state.current?.latest() : undefined),
  };
}

function open(state: State, path: string, behind: boolean): void {
  if (state.fifo.is === 'open') abandon(state, 'replaced by another output');
  if (state.fifo.is === 'opening') clearTimeout(state.fifo.timer);
  tryOpen(state, path, behind);
}

function tryOpen(state: State, path: string, behind: boolean): void {
  const { native, events } = state;
  let fd: number;
  try {
    // Without a reader this fails with ENXIO instead of waiting for one that may never come.
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  } catch (error) {
    if (errorCode(error) === 'ENXIO') {
      const timer = setTimeout(() => tryOpen(state, path, behind), OPEN_RETRY_MILLIS);
      state.fifo = { is: 'opening', path, timer };
    } else {
      state.fifo = { is: 'closed' };
      events.closed(path, `cannot be opened: ${String(error)}`, new Map());
    }
    return;
  }
  // Only the native part can tell what was read.
  state.fifo = { is: 'open', path, fd, ending: false, begun: behind || native === undefined };
  state.handed = 0;
  noteOwners(state, path);
  try {
    native?.widen(fd, FIFO_BYTES);
    // An empty FIFO has room for it.
    if (!behind) writeSync(fd, pcapFileHeader());
  } catch (error) {
    return abandon(state, reasonOf(error));
  }
  events.opened(path, behind);
}

/** Alerts of the FIFO before may still be read. */
function noteOwners(state: State, path: string): void {
  const { owners } = state;
  state.current = createRecordOwners();
  owners.delete(path);
  for (const old of [...owners.keys()].slice(0, -1)) owners.delete(old);
  owners.set(path, state.current);
}

function add(state: State, from: number, to: number, records: number): void {
  const { arena } = state;
  state.current?.note(state.handed + 1, vlanOf(arena, from));
  state.handed += records;
  arena.commit(from, to);
}

function flush(state: State): void {
  const { arena, events, fifo } = state;
  if (fifo.is !== 'open') return;
  while (arena.waiting > 0) {
    fifo.begun ||= hasBegun(state, fifo);
    const written = fifo.begun ? write(state, fifo.fd) : 0;
    if (written === 'gone') return;
    if (written === 0) {
      state.retry ??= setTimeout(flushAgain, RETRY_MILLIS, state);
      break;
    }
  }
  arena.release(arena.consumed - unread(state, fifo.fd));
  const before = state.full;
  state.full = isBlocked(state);
  if (state.full && !before) events.blocked();
  if (before && !state.full) events.drained();
}

function flushAgain(state: State): void {
  state.retry = undefined;
  flush(state);
}

/** Also of an engine that is gone, which the next write tells. */
function hasBegun({ native }: State, { fd, path }: Fifo & { is: 'open' }): boolean {
  return native === undefined || native.pending(fd) === 0 || !hasReader(path);
}

/** One write: its bytes, 0 when the FIFO is full, `gone` when nobody reads it any more. */
function write(state: State, fd: number): number | 'gone' {
  const { arena, native } = state;
  try {
    if (!state.splices || native === undefined)
      return arena.consume((from, to) => writeSync(fd, arena.bytes, from, to - from));
    const done = arena.consume((from, to) => native.splice(fd, arena.bytes, from, to));
    if (done >= 0) return done;
    if (done === -os.errno.EAGAIN) return 0;
    if (done === -os.errno.EPIPE) abandon(state, 'the engine closed its input');
    // A sandbox may forbid the call; then what is in the FIFO has to be read before its place is used again.
    else state.splices = false;
    return state.splices ? 'gone' : 0;
  } catch (error) {
    if (errorCode(error) === 'EAGAIN') return 0;
    abandon(state, reasonOf(error));
    return 'gone';
  }
}

/** Bytes of the stream that are in the FIFO; without the native part none has to be kept for it. */
function unread({ arena, native }: State, fd: number): number {
  return native === undefined ? 0 : Math.min(arena.consumed, native.pending(fd));
}

function isOpen({ fifo }: State): boolean {
  return fifo.is === 'open' && !fifo.ending;
}

function isBlocked(state: State): boolean {
  return isOpen(state) && state.arena.waiting > WAITING_BYTES;
}

function abandon(state: State, reason: string): void {
  const { arena, native, events, fifo } = state;
  if (fifo.is !== 'open') return;
  const { fd, path } = fifo;
  const read = arena.consumed - unread(state, fd);
  state.fifo = { is: 'closed' };
  closeSync(fd);
  clearTimeout(state.retry);
  state.retry = undefined;
  state.full = false;
  const lost = new Map<number, number>();
  arena.clear(read, (record) => {
    const vlan = vlanOf(arena, record);
    lost.set(vlan, (lost.get(vlan) ?? 0) + 1);
  });
  // An engine that lives may read on.
  native?.renew(arena.bytes);
  events.closed(path, reason, lost);
}

/** Of a tagged record. */
function vlanOf({ view }: Arena, record: number): number {
  return view.getUint16(record + RECORD_HEADER + 14) & 0xfff;
}

async function empty(state: State, graceMillis: number): Promise<boolean> {
  const { arena } = state;
  flush(state);
  await until(state, () => arena.waiting === 0, graceMillis);
  return arena.waiting === 0;
}

/** Returns also when the output is another one. */
async function until(state: State, isDone: () => boolean, graceMillis: number): Promise<void> {
  const awaited = state.fifo;
  const deadline = performance.now() + graceMillis;
  while (awaited.is === 'open' && state.fifo === awaited && !isDone() && performance.now() < deadline)
    await sleep(RETRY_MILLIS);
}

async function close(state: State, graceMillis: number, reason: string): Promise<void> {
  const { arena, fifo } = state;
  if (fifo.is === 'opening') {
    clearTimeout(fifo.timer);
    state.fifo = { is: 'closed' };
  }
  if (fifo.is !== 'open') return;
  fifo.ending = true;
  flush(state);
  const { fd, path } = fifo;
  await until(state, () => arena.waiting === 0 && (unread(state, fd) === 0 || !hasReader(path)), graceMillis);
  // Another one may have been opened meanwhile.
  if (state.fifo === fifo) abandon(state, reason);
}

function hasReader(path: string): boolean {
  try {
    closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
    return true;
  } catch {
    return false;
  }
}

function reasonOf(error: unknown): string {
  return errorCode(error) === 'EPIPE' ? 'the engine closed its input' : String(error);
}
