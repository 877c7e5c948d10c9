/**
 * Flood control: of each signature at each endpoint, for each resource, a token bucket lets so many alerts pass that
 * become an event each. When it is empty, alerts are folded into one for a while: the first of them, with their exact
 * count.
 *
 * Before the merging of twins, so that a fold has one endpoint. While a fold is open, every alert of its kind goes into
 * it, and a fold never spans generations of an engine: so what a journaled fold stands for can be told from its first
 * and last position alone, after a crash too. Alerts of a generation come in the order of their positions.
 *
 * Bounded: beyond MAX_KINDS, the bucket that was used least recently is forgotten (its kind has a full one again), and
 * folds that opened first are due at once.
 */
import type { Position } from '../engine/alert.ts';
import type { AttributedAlert } from './attributed.ts';

export const MAX_KINDS = 65_536;

export interface FloodLimit {
  /** Alerts of one kind that pass at once; 0 lets all pass. */
  burst: number;
  /** How many do in the long run. */
  ratePerSecond: number;
  /** How long a fold is open. */
  foldMillis: number;
}

export interface FloodControl {
  /** @param now Milliseconds on a monotonic clock, as in all of these. */
  admit(attributed: AttributedAlert, now: number): 'passed' | 'folded';
  /** Closes the folds that were open for long enough, in the order of their opening. */
  closeDue(now: number): AttributedAlert[];
  /** No more will come, or somebody waits for what is there. */
  closeAll(): AttributedAlert[];
  /** When `closeDue` will have something; undefined when no fold is open. */
  nextDue(): number | undefined;
  /** The lowest offset in a generation's output of an alert in an open fold. */
  heldFrom(generation: string): number | undefined;
}

interface Bucket {
  tokens: number;
  /** When there were so many. */
  at: number;
}

interface Fold {
  first: AttributedAlert;
  bucket: Bucket;
  count: number;
  lastPosition: Position;
  lastTimeMicros: number;
  due: number;
}

interface FloodState {
  readonly limit: FloodLimit;
  /** Of kinds without an open fold; the one that was used least recently is first. */
  readonly idle: Map<string, Bucket>;
  /** By generation, then kind, in the order of their opening, which is that of their offsets and of their ends. */
  readonly open: Map<string, Map<string, Fold>>;
  folds: number;
}

export function createFloodControl(limit: FloodLimit): FloodControl {
  const state: FloodState = { limit, idle: new Map(), open: new Map(), folds: 0 };
  const { open } = state;
  return {
    admit: (attributed, now) => admit(state, attributed, now),
    closeDue: (now) => close(state, (fold) => fold.due <= now),
    closeAll: () => close(state, () => true),
    nextDue() {
      const dues = [...open.values()].flatMap((kinds) => firstOf(kinds)?.due ?? []);
      return dues.length === 0 ? undefined : Math.min(...dues);
    },
    heldFrom: (generation) => firstOf(open.get(generation) ?? new Map<string, Fold>())?.first.position.offset,
  };
}

function admit(state: FloodState, attributed: AttributedAlert, now: number): 'passed' | 'folded' {
  const { limit, open } = state;
  if (limit.burst === 0) return 'passed';
  const { alert, position, resource, seenAt } = attributed;
  const kind = `${resource} ${seenAt[0]?.id ?? ''} ${alert.gid}:${alert.sid}`;
  const kinds = open.get(position.generation) ?? new Map<string, Fold>();
  const fold = kinds.get(kind);
  if (fold !== undefined) {
    addTo(fold, attributed);
    return 'folded';
  }
  const bucket = useToken(state, kind, now);
  if (bucket === undefined) return 'passed';
  open.set(position.generation, kinds);
  kinds.set(kind, {
    first: attributed,
    bucket,
    count: 1,
    lastPosition: position,
    lastTimeMicros: alert.timeMicros,
    due: now + limit.foldMillis,
  });
  state.folds++;
  return 'folded';
}

function addTo(fold: Fold, { alert, position }: AttributedAlert): void {
  fold.count++;
  fold.lastPosition = position;
  fold.lastTimeMicros = Math.max(fold.lastTimeMicros, alert.timeMicros);
}

/** @returns the kind's bucket when it is empty, out of `idle`. */
function useToken({ limit, idle }: FloodState, kind: string, now: number): Bucket | undefined {
  const { burst, ratePerSecond } = limit;
  const bucket = idle.get(kind) ?? { tokens: burst, at: now };
  bucket.tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) * ratePerSecond) / 1000);
  bucket.at = now;
  idle.delete(kind);
  if (bucket.tokens < 1) return bucket;
  bucket.tokens -= 1;
  rememberBucket(idle, kind, bucket);
  return undefined;
}

function rememberBucket(idle: Map<string, Bucket>, kind: string, bucket: Bucket): void {
  idle.set(kind, bucket);
  if (idle.size <= MAX_KINDS) return;
  for (const oldest of idle.keys()) return void idle.delete(oldest);
}

/** Closes folds that are due, and others while there are too many. */
function close(state: FloodState, isDue: (fold: Fold) => boolean): AttributedAlert[] {
  const closed: Fold[] = [];
  for (const [generation, kinds] of state.open) {
    for (const [kind, fold] of kinds) {
      if (!isDue(fold) && state.folds <= MAX_KINDS) break;
      kinds.delete(kind);
      state.folds--;
      rememberBucket(state.idle, kind, fold.bucket);
      closed.push(fold);
    }
    if (kinds.size === 0) state.open.delete(generation);
  }
  return closed.map(({ first, count, lastPosition, lastTimeMicros }) =>
    count === 1 ? outOfTurn(first) : { ...first, fold: { count, lastPosition, lastTimeMicros } },
  );
}

function firstOf(kinds: Map<string, Fold>): Fold | undefined {
  for (const fold of kinds.values()) return fold;
  return undefined;
}

/** Of an alert that folded none: those before it may still wait for their twins, and it says nothing of them. */
function outOfTurn(first: AttributedAlert): AttributedAlert {
  return { ...first, checkpoint: { ...first.position, offset: 0 } };
}
