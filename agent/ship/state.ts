/** What a sink is given, and what it has in hand: the state that the steps of a batch share, each part by its name. */
import path from 'node:path';
import type { Logger } from 'pino';
import type { FileSystem } from '../files/file-system.ts';
import type { Cursor } from '../journal/journal.ts';
import type { QuietSettings, When } from '../config/sinks.ts';
import { systemClock, type SinkClock } from './clock.ts';
import { noProgress, saveProgress, type Progress } from './cursor.ts';
import { createLetterWriter, deadLetterDirectory, type LetterWriter } from './dead-letter.ts';
import type { Destination, SendFailure } from './destination.ts';
import { isWaiting, type Entry, type Unsettled } from './entry.ts';
import type { EvidenceCounts, LateFacts } from './late-facts.ts';
import { createQuiet, type Quiet } from './quiet.ts';
import { createFilter, type Takes } from './when.ts';

/** What tests make fail. */
export interface SinkIo {
  save(file: string, progress: Progress): Promise<void>;
  appendLetters: LetterWriter['append'];
  /** Once nothing is appended any more. */
  closeLetters?: LetterWriter['close'];
}

export interface SinkOptions {
  /** Such as `elasticsearch`: the name of its files. */
  name: string;
  stateDirectory: string;
  journal: {
    directory: string;
    end(): Cursor;
    onAppend(listener: () => void): () => void;
    /** Where it and the cursor are read; node's own without it. */
    fileSystem?: FileSystem;
  };
  /** Closed when the sink is stopped. */
  destination: Destination;
  /** At most this many events, at most this many bytes, and how long an event waits for others. */
  batch: { batchEvents: number; batchSize: number; batchMillis: number };
  /** Bytes. */
  deadLetterSize: number;
  /** Which events it takes; all without it. */
  when?: When;
  /** How alike ones become one; they don't without it. */
  quiet?: QuietSettings;
  /** What becomes known of events after they were journaled; nothing without it. */
  late?: LateFacts;
  log: Pick<Logger, 'info' | 'warn' | 'error'>;
  /**
   * Called for each send that delivered events.
   * @param oldest of them: when its packet was captured, in ms since the Unix epoch.
   */
  onDelivered?: (count: number, oldest: number) => void;
  /** Called for each send that was answered. */
  onSent?: (seconds: number) => void;
  clock?: SinkClock;
  /** 0..1. */
  random?: () => number;
  /** Milliseconds: the first wait is at most `base`, each further one at most twice as long, none longer than `max`. */
  retry?: { base: number; max: number };
  io?: SinkIo;
}

/** What lies between the cursor and the reader. */
export interface Window {
  entries: Entry[];
  /** Behind the last entry. */
  position: Cursor;
  /** Whether `position` is known and nobody reads from it. */
  isSteady: boolean;
  /** Whether the next event has no room in the batch. */
  isOverfull: boolean;
}

/** What the sends of late say of the destination. */
export interface Breaker {
  /** Sends in a row that settled nothing. */
  failedInARow: number;
  /** Waits since the last send that settled something. */
  backoffs: number;
  /** When the destination wants to be asked again at the earliest; monotonic, in milliseconds. */
  notBefore: number;
  /** `since` is monotonic, in milliseconds; undefined: the circuit is closed. */
  open: { since: number; tries: number } | undefined;
}

/** Since the start. */
export interface Counts {
  delivered: number;
  /** Sends that had events which had been sent before. */
  retries: number;
  failures: Partial<Record<SendFailure | 'retry', number>>;
  deadLettersEvicted: number;
  evidence: EvidenceCounts;
  lastError: string | undefined;
  /** Milliseconds since the Unix epoch. */
  lastSuccess: number | undefined;
}

export type SinkSettings = SinkOptions & Required<Pick<SinkOptions, 'clock' | 'random' | 'retry' | 'io'>>;

export interface SinkState {
  readonly settings: SinkSettings;
  readonly files: { cursor: string; deadLetters: string };
  /** Aborted when the sink is to end. */
  readonly stop: AbortSignal;
  /** Aborted when it has to end at once. */
  readonly abort: AbortSignal;
  readonly takes: Takes | undefined;
  readonly quiet: Quiet | undefined;
  /** As it is on the disk. */
  progress: Progress;
  /** When it was saved; monotonic, in milliseconds. */
  savedAt: number;
  /** Nothing is held back any more: the sink is to end. */
  isHurried: boolean;
  readonly window: Window;
  readonly breaker: Breaker;
  readonly counts: Counts;
  /** Which of its files do not work, as was logged. */
  readonly troubled: Set<string>;
  /** End the wait under way, where there is one. */
  pause: { wake: () => void; interrupt: () => void };
}

export const noPause: SinkState['pause'] = { wake: () => undefined, interrupt: () => undefined };

export function createState(options: SinkOptions, stop: AbortSignal, abort: AbortSignal): SinkState {
  const { name, stateDirectory } = options;
  const progress = noProgress();
  const clock = options.clock ?? systemClock;
  return {
    settings: {
      ...options,
      clock,
      random: options.random ?? Math.random,
      retry: options.retry ?? { base: 500, max: 30_000 },
      io: options.io ?? ioOfDisk(),
    },
    files: {
      cursor: path.join(stateDirectory, 'sinks', `${name}.cursor.json`),
      deadLetters: deadLetterDirectory(stateDirectory, name),
    },
    stop,
    abort,
    takes: options.when === undefined ? undefined : createFilter(options.when),
    quiet: options.quiet === undefined ? undefined : createQuiet(options.quiet, clock),
    progress,
    savedAt: -Infinity,
    isHurried: false,
    window: { entries: [], position: progress.cursor, isSteady: false, isOverfull: false },
    breaker: { failedInARow: 0, backoffs: 0, notBefore: -Infinity, open: undefined },
    counts: {
      delivered: 0,
      retries: 0,
      failures: {},
      deadLettersEvicted: 0,
      evidence: { joined: 0, late: 0, without: 0 },
      lastError: undefined,
      lastSuccess: undefined,
    },
    troubled: new Set(),
    pause: noPause,
  };
}

function ioOfDisk(): SinkIo {
  const letters = createLetterWriter();
  return { save: saveProgress, appendLetters: letters.append, closeLetters: () => letters.close() };
}

/** Those that can be sent: not held back. */
export function unsettledOf({ entries }: Window): Unsettled[] {
  return entries.filter(isWaiting);
}

/** Of the cursor, and what retention deleted behind it. */
export function evictedOf({ progress, window }: SinkState): number {
  return window.entries.reduce((sum, { gap }) => sum + gap, progress.evicted);
}

/** Events of the journal that the sink is not done with. */
export function pendingOf(sink: SinkState): number {
  const { delivered, deadLettered, filtered, digested } = sink.progress;
  const done = delivered + deadLettered + filtered + digested + evictedOf(sink);
  return Math.max(0, sink.settings.journal.end().event - done);
}
