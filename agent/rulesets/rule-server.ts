/**
 * Follows a rule server: takes the versions that it offers this node, and tells it what became of them.
 *
 * The server is asked after `every`, and up to a tenth of that later; at once again where something was taken, so that
 * it learns whether that inspects. What an update is, is given. While the server does not answer, all stays as it is,
 * and is said.
 *
 * Not promised: that a version which a node refused is offered to no other; that is for the server to decide.
 */
import type { Logger } from 'pino';
import { systemClock, type Clock } from '../files/clock.ts';
import { messageOf } from '../files/errors.ts';
import { fileUrl, follow, tokenOf, type RuleServerSettings } from './rule-server-client.ts';
import type { SourceStatus } from './schedule.ts';
import {
  MAX_SERVED_SETS,
  shortDigest,
  shortReason,
  type FollowRequest,
  type HeldBack,
  type HeldSet,
  type OfferedVersion,
  type ServedSet,
} from './served.ts';
import type { SourceRequest } from './sources.ts';
import { installedSet, isPinned, RefusedError, type InstalledVersion, type UpdateResult } from './update.ts';
import { nodeVersionFiles, type VersionFiles } from './version-files.ts';

/** A part of `every`. */
const JITTER = 0.1;
const MAX_WAITS = 8;
/** A server that offers another version each time is not asked for ever. */
const MAX_IN_ROW = 3;
/** In a row, until resources are told of it. */
const AWAY_FAILURES = 3;

export interface RuleServerStatus {
  url: string;
  /** Whether its last answer was one. */
  answers: boolean;
  /** Milliseconds since the epoch, of the last answer. */
  answeredAt?: number;
  /** Why there is none. */
  problem?: string;
}

export interface RuleServerOptions {
  server: RuleServerSettings;
  node: string;
  engine: FollowRequest['engine'];
  rulesDirectory: string;
  /** Sets that sources of this agent's own bring. */
  own: ReadonlySet<string>;
  /** Whether something here is inspected by the set. */
  isUsed: (set: string) => boolean;
  /** Why a set's newest files do not inspect; undefined where they do. */
  problemOf: (set: string) => string | undefined;
  /** @throws UpdateError, whose message has no secrets. */
  update: (request: SourceRequest, signal: AbortSignal) => Promise<UpdateResult>;
  /** What is told may be another thing now. */
  onChange?: () => void;
  log: Logger;
  clock?: Pick<Clock, 'now' | 'wait'>;
  /** From 0 to 1. */
  random?: () => number;
  files?: VersionFiles;
  ask?: typeof follow;
}

export interface FollowedServer {
  status: () => RuleServerStatus;
  /** Of each set that it serves. */
  sets: () => SourceStatus[];
  /** What a resource should know that names these sets. */
  conditions: (named: readonly string[]) => string[];
  /** Resolves when nothing of it runs any more. */
  stop: () => Promise<void>;
}

interface Followed {
  readonly status: Omit<SourceStatus, 'nextAt'>;
  refused: NonNullable<HeldSet['refused']> | undefined;
  next: HeldBack | undefined;
}

interface Following extends Required<RuleServerOptions> {
  readonly followed: Map<string, Followed>;
  readonly stopping: AbortController;
  readonly server: RuleServerSettings;
  answeredAt: number | undefined;
  problem: string | undefined;
  /** In a row. */
  failures: number;
  /** By the clock. */
  due: number;
}

export function followRuleServer(options: RuleServerOptions): FollowedServer {
  const following: Following = {
    clock: systemClock,
    random: Math.random,
    files: nodeVersionFiles,
    ask: follow,
    onChange: () => undefined,
    ...options,
    followed: new Map(),
    stopping: new AbortController(),
    answeredAt: undefined,
    problem: undefined,
    failures: 0,
    due: 0,
  };
  const ended = run(following);
  return {
    status: () => statusOf(following),
    sets: () => setsOf(following),
    conditions: (named) => conditionsOf(following, named),
    async stop() {
      following.stopping.abort();
      await ended;
    },
  };
}

async function run(following: Following): Promise<void> {
  const { clock, stopping } = following;
  const { signal } = stopping;
  let inRow = 0;
  while (!signal.aborted) {
    inRow = (await round(following)) ? inRow + 1 : 0;
    if (signal.aborted) return;
    const wait = inRow > 0 && inRow <= MAX_IN_ROW ? 0 : waitOf(following);
    following.due = clock.now() + wait;
    following.onChange();
    if (wait > 0) await clock.wait(wait, signal);
  }
}

/** Longer where it does not answer. */
function waitOf({ server: { every }, failures, random }: Following): number {
  const times = Math.min(MAX_WAITS, 2 ** Math.max(0, failures - 1));
  return every * times * (1 + JITTER * random());
}

/** @returns whether the server is to be told at once. */
async function round(following: Following): Promise<boolean> {
  const { server, ask, stopping, log } = following;
  let sets: ServedSet[];
  try {
    ({ sets } = await ask(server, await requestOf(following), stopping.signal));
  } catch (error) {
    if (!stopping.signal.aborted) noteAway(following, error);
    return false;
  }
  if (following.problem !== undefined) log.info({ url: server.url }, 'rule server: answers again');
  following.problem = undefined;
  following.failures = 0;
  following.answeredAt = Date.now();
  let tookSome = false;
  for (const served of sets) {
    if (!following.own.has(served.set) && !stopping.signal.aborted)
      tookSome = (await take(following, served)) || tookSome;
  }
  for (const [set, followed] of following.followed) {
    if (!sets.some((served) => served.set === set)) followed.next = undefined;
  }
  return tookSome;
}

function noteAway(following: Following, error: unknown): void {
  const problem = shortReason(messageOf(error));
  if (following.problem !== problem)
    following.log.warn({ reason: problem }, 'rule server: no answer; the rules that are here stay');
  following.problem = problem;
  following.failures++;
}

async function requestOf(following: Following): Promise<FollowRequest> {
  const { node, engine, followed } = following;
  const sets: FollowRequest['sets'] = {};
  for (const set of followed.keys()) sets[set] = await heldOf(following, set);
  return { node, engine, inspects: true, sets };
}

async function heldOf(
  { followed, rulesDirectory, isUsed, problemOf, files }: Following,
  set: string,
): Promise<HeldSet> {
  const installed = await installedSet(rulesDirectory, set, files);
  const refused = followed.get(set)?.refused;
  return {
    ...(installed === undefined || problemOf(set) !== undefined ? {} : { digest: installed.sha256 }),
    used: isUsed(set),
    pinned: await isPinned(rulesDirectory, set, files).catch(() => false),
    ...(refused === undefined ? {} : { refused }),
  };
}

/** @returns whether the server does not know yet what the node has. */
async function take(following: Following, { set, take: offer, next }: ServedSet): Promise<boolean> {
  const isNew = !following.followed.has(set);
  const followed = followedOf(following, set);
  if (followed === undefined) return false;
  const { rulesDirectory, files } = following;
  const installed = await installedSet(rulesDirectory, set, files);
  noteNext(following, followed, next);
  if (installed !== undefined) followed.status.version = installed.version;
  if (await isPinned(rulesDirectory, set, files).catch(() => false)) {
    followed.status.state = 'pinned';
    return isNew;
  }
  if (offer === undefined || offer.digest === followed.refused?.digest || offer.digest === installed?.sha256) {
    settle(followed, offer, installed);
    return isNew;
  }
  return takeVersion(following, followed, offer);
}

/** Undefined where there are too many. */
function followedOf({ followed }: Following, set: string): Followed | undefined {
  const known = followed.get(set);
  if (known !== undefined || followed.size >= MAX_SERVED_SETS) return known;
  const looks = { updated: 0, unchanged: 0, refused: 0, failed: 0 };
  const added: Followed = { status: { name: set, set, state: 'waiting', looks }, refused: undefined, next: undefined };
  followed.set(set, added);
  return added;
}

function noteNext({ log }: Following, followed: Followed, next: HeldBack | undefined): void {
  const { set } = followed.status;
  if (next?.state === 'stopped' && (followed.next?.state !== 'stopped' || followed.next.digest !== next.digest))
    log.warn({ set, version: next.version, node: next.node, reason: next.reason }, 'rule server: a version is stopped');
  followed.next = next;
}

/** Nothing is to be taken. */
function settle(followed: Followed, offer: OfferedVersion | undefined, installed: InstalledVersion | undefined): void {
  const { status, refused, next } = followed;
  status.looks.unchanged++;
  if (offer !== undefined && offer.digest === refused?.digest) return;
  if (next?.state === 'stopped') {
    status.state = 'refused';
    status.problem = stoppedOf(next);
    return;
  }
  delete status.problem;
  status.state = installed === undefined && offer === undefined ? 'waiting' : 'current';
  status.currentAt = Date.now();
}

const stoppedOf = ({ version, node, reason }: HeldBack): string =>
  `its newest version ${version} is stopped: ${node === undefined ? '' : `node ${node}: `}${reason ?? 'it did not inspect'}`;

async function takeVersion(following: Following, followed: Followed, offer: OfferedVersion): Promise<boolean> {
  const { stopping, log } = following;
  const { status } = followed;
  const about = { set: status.set, version: offer.version, digest: shortDigest(offer.digest) };
  const before = status.state;
  status.state = 'updating';
  following.onChange();
  try {
    if (offer.prove) log.info(about, 'rule server: this node proves a version');
    const { version, rules } = await bring(following, status.set, offer);
    status.version = version;
    status.currentAt = Date.now();
    status.state = 'current';
    status.looks.updated++;
    delete status.problem;
    followed.refused = undefined;
    log.info({ ...about, rules }, 'rule server: a new version is in use');
    return true;
  } catch (error) {
    if (stopping.signal.aborted) {
      status.state = before;
      return false;
    }
    return notTaken(following, followed, offer, error);
  }
}

function notTaken({ log }: Following, followed: Followed, offer: OfferedVersion, error: unknown): boolean {
  const { status } = followed;
  const reason = shortReason(messageOf(error));
  const about = { set: status.set, version: offer.version, reason };
  status.problem = reason;
  if (error instanceof RefusedError) {
    status.state = 'refused';
    status.looks.refused++;
    followed.refused = { digest: offer.digest, reason };
    log.error(about, 'rule server: a version is refused, the one before stays');
    return true;
  }
  status.state = 'failed';
  status.looks.failed++;
  log.warn(about, 'rule server: a version could not be taken, it is tried again');
  return false;
}

async function bring(
  { server, update, stopping }: Following,
  set: string,
  offer: OfferedVersion,
): Promise<UpdateResult> {
  return update(await versionRequest(server, set, offer), stopping.signal);
}

/** What an update to a version that a server offers is to be given. @throws UpdateError that names the token's file. */
export async function versionRequest(
  server: RuleServerSettings,
  set: string,
  { digest, bytes }: Pick<OfferedVersion, 'digest' | 'bytes'>,
): Promise<SourceRequest> {
  return {
    set,
    from: fileUrl(server, digest),
    checksum: `sha256:${digest}`,
    secret: { value: await tokenOf(server), header: 'Authorization' },
    ...(server.caFile === undefined ? {} : { caFile: server.caFile }),
    maxBytes: Math.min(server.maxBytes, Math.max(1, bytes)),
    timeoutMillis: server.timeout,
  };
}

function statusOf({ server: { url }, problem, answeredAt }: Following): RuleServerStatus {
  return {
    url,
    answers: problem === undefined && answeredAt !== undefined,
    ...(answeredAt === undefined ? {} : { answeredAt }),
    ...(problem === undefined ? {} : { problem }),
  };
}

function setsOf({ followed, clock, due }: Following): SourceStatus[] {
  const nextAt = Math.round(Date.now() + Math.max(0, due - clock.now()));
  return [...followed.values()].map(({ status }) => ({ ...status, looks: { ...status.looks }, nextAt }));
}

function conditionsOf({ followed, problem, failures }: Following, named: readonly string[]): string[] {
  const ofSets = named.flatMap((set) => {
    const { state, problem: ofSet } = followed.get(set)?.status ?? {};
    if (ofSet === undefined || (state !== 'refused' && state !== 'failed')) return [];
    return [`rule set ${set}: the version before stays: ${ofSet}`];
  });
  return problem !== undefined && failures >= AWAY_FAILURES
    ? [...ofSets, `the rules that are here stay: ${problem}`]
    : ofSets;
}
