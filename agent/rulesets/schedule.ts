/**
 * Looks at the sources of rule sets from time to time, one at a time, and tells how it went. What an update is, is
 * given to it.
 *
 * A source is due after `every`, and up to a tenth of that later, so that the nodes of a cluster do not come all at
 * once; first soon after the start, at once where its set is not there. What fails is tried again after a minute, and
 * twice as long each time, up to `every`; a version that is refused is not tried again, only looked past. What was
 * rolled back is left alone until it is released.
 *
 * Not promised: that a look is remembered over a restart.
 */
import type { Logger } from 'pino';
import { systemClock, type Clock } from '../files/clock.ts';
import { messageOf } from '../files/errors.ts';
import { setOf, type RuleSource } from './sources.ts';
import { installedSet, isPinned, RefusedError, type UpdateResult } from './update.ts';
import { nodeVersionFiles, type VersionFiles } from './version-files.ts';

/** A part of `every`. */
const JITTER = 0.1;
const FIRST_MILLIS = 300_000;
const RETRY_MILLIS = 60_000;
const PIN_LOOK_MILLIS = 60_000;
/** Node's timers end at 24 days. */
const MAX_WAIT_MILLIS = 3_600_000;
const MAX_PROBLEM_LENGTH = 500;

export type SourceOutcome = 'updated' | 'unchanged' | 'refused' | 'failed';

/** All times are milliseconds since the epoch. */
export interface SourceStatus {
  name: string;
  set: string;
  state: 'waiting' | 'updating' | 'current' | 'pinned' | 'refused' | 'failed';
  /** In use. */
  version?: string;
  /** When it was last known to be the newest. */
  currentAt?: number;
  /** When it is looked at next. */
  nextAt: number;
  /** Why its newest version is not used. */
  problem?: string;
  /** Looks by how they ended. */
  looks: Record<SourceOutcome, number>;
}

export interface ScheduleOptions {
  sources: readonly RuleSource[];
  rulesDirectory: string;
  /** Takes a source's newest version. @throws UpdateError, whose message has no secrets. */
  update: (source: RuleSource, signal: AbortSignal) => Promise<UpdateResult>;
  log: Logger;
  clock?: Pick<Clock, 'now' | 'wait'>;
  /** From 0 to 1. */
  random?: () => number;
  files?: VersionFiles;
}

export interface SourceSchedule {
  status: () => SourceStatus[];
  /** Resolves when nothing of it runs any more. */
  stop: () => Promise<void>;
}

interface Followed {
  readonly source: RuleSource;
  readonly status: Omit<SourceStatus, 'nextAt'>;
  /** By the clock. */
  due: number;
  /** In a row. */
  failures: number;
}

interface Schedule extends Required<ScheduleOptions> {
  readonly followed: Followed[];
  readonly stopping: AbortController;
}

export function followSources(options: ScheduleOptions): SourceSchedule {
  const { sources } = options;
  const schedule: Schedule = {
    clock: systemClock,
    random: Math.random,
    files: nodeVersionFiles,
    ...options,
    followed: sources.map(asFollowed),
    stopping: new AbortController(),
  };
  const ended = follow(schedule);
  return {
    status: () => schedule.followed.map((followed) => statusOf(followed, schedule.clock.now())),
    async stop() {
      schedule.stopping.abort();
      await ended;
    },
  };
}

function asFollowed(source: RuleSource): Followed {
  const looks = { updated: 0, unchanged: 0, refused: 0, failed: 0 };
  return { source, status: { name: source.name, set: setOf(source), state: 'waiting', looks }, due: 0, failures: 0 };
}

function statusOf({ status, due }: Followed, now: number): SourceStatus {
  return { ...status, looks: { ...status.looks }, nextAt: Math.round(Date.now() + Math.max(0, due - now)) };
}

async function follow(schedule: Schedule): Promise<void> {
  const { followed, clock, stopping } = schedule;
  for (const each of followed) await begin(schedule, each);
  while (!stopping.signal.aborted) {
    const [next] = followed.toSorted((a, b) => a.due - b.due);
    if (next === undefined) return;
    const wait = next.due - clock.now();
    if (wait > 0) await clock.wait(Math.min(wait, MAX_WAIT_MILLIS), stopping.signal);
    else await look(schedule, next);
  }
}

async function begin({ rulesDirectory, clock, random, files }: Schedule, followed: Followed): Promise<void> {
  const { status, source } = followed;
  const installed = await installedSet(rulesDirectory, status.set, files);
  if (installed !== undefined) status.version = installed.version;
  const most = installed === undefined ? 0 : Math.min(FIRST_MILLIS, JITTER * source.every);
  followed.due = clock.now() + random() * most;
}

async function look(schedule: Schedule, followed: Followed): Promise<void> {
  const { rulesDirectory, clock, random, files, stopping, log } = schedule;
  const { source, status } = followed;
  const { every } = source;
  if (await isPinned(rulesDirectory, status.set, files).catch(() => false)) {
    if (status.state !== 'pinned') log.info({ source: source.name, set: status.set }, 'rule source: its set is pinned');
    status.state = 'pinned';
    followed.due = clock.now() + Math.min(every, PIN_LOOK_MILLIS);
    return;
  }
  const before = status.state;
  status.state = 'updating';
  const outcome = await take(schedule, followed);
  if (stopping.signal.aborted) {
    // What fails while the agent ends says nothing.
    status.state = before;
    return;
  }
  status.looks[outcome]++;
  status.state = outcome === 'refused' || outcome === 'failed' ? outcome : 'current';
  followed.failures = outcome === 'failed' ? followed.failures + 1 : 0;
  const isLater = 1 + JITTER * random();
  const retry = RETRY_MILLIS * 2 ** (followed.failures - 1);
  followed.due = clock.now() + (outcome === 'failed' ? Math.min(every, retry) : every) * isLater;
}

async function take({ update, stopping, log }: Schedule, { source, status }: Followed): Promise<SourceOutcome> {
  const { set } = status;
  const about = { source: source.name, set };
  try {
    const { changed, version, rules, problems, verified } = await update(source, stopping.signal);
    status.version = version;
    status.currentAt = Date.now();
    delete status.problem;
    if (!changed) return 'unchanged';
    log.info({ ...about, version, rules, problems, verified }, 'rule source: a new version is in use');
    return 'updated';
  } catch (error) {
    const reason = messageOf(error).replaceAll(/\s+/g, ' ').slice(0, MAX_PROBLEM_LENGTH);
    status.problem = reason;
    const isRefused = error instanceof RefusedError;
    if (isRefused) log.error({ ...about, reason }, 'rule source: its newest version is refused, the one before stays');
    else if (!stopping.signal.aborted) log.warn({ ...about, reason }, 'rule source: no update, it is tried again');
    return isRefused ? 'refused' : 'failed';
  }
}
