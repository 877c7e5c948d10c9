/**
 * Holds the obligations, and knows nothing of how the product meets them: it looks at the disk with a reader of its
 * own, at what `append` and `save` said, and at what the destination took and answered.
 *
 * 1. Each event is in the journal once; one whose append was acknowledged is there after any crash, under the same
 * number, or retention
 *    deleted it.
 * 2. The cursor passes an event only when it is delivered, is a letter on the disk, or was deleted by retention; and
 * each such event
 *    is in exactly one of the three counts. It does not go back, nor do the counts.
 * 3. An event that the destination confirmed is not sent again by the same process, nor one that a saved cursor has
 * passed by any.
 * 4. Letters are the events themselves, each once.
 * 5. At any moment the counts of the sink make up the journal's events.
 * 6. When the faults have ended, all is settled.
 * 7. What the sink does not take is not sent, and counts as filtered; what alike events stand for counts as digested,
 * and digests that were sent have all of their alerts in their counts.
 *
 * An alert whose event retention deleted may be read again, and has then another number.
 *
 * Where a sync was lost, a power cut may take what was acknowledged: the obligations begin anew from what the disk
 * holds then.
 */
import type { Item, Outcome } from '../../agent/ship/destination.ts';
import type { Progress } from '../../agent/ship/cursor.ts';
import type { SinkStatus } from '../../agent/ship/sink.ts';
import type { Disk } from './disk.ts';
import type { Choice } from './plan.ts';

export interface Places {
  journal: string;
  cursor: string;
  letters: string;
}

export interface Oracle {
  /**
   * The first obligation that was broken. What finds it may be called by the product, which would take it for its own
   * error.
   */
  broken(): string | undefined;
  /** @param end the journal's number of events just then. */
  acknowledged(lines: readonly string[], end: number): void;
  sent: (items: readonly Item[]) => void;
  answered: (items: readonly Item[], outcomes: readonly Outcome[]) => void;
  saved(progress: Progress): void;
  unlinking: (path: string) => void;
  renamed: (path: string) => void;
  /** The process has ended. @param lossy whether the disk lost what it said it had. */
  ended(lossy: boolean): void;
  /** The next one has opened the journal. */
  opened(journalEnd: number): void;
  /** Whether the cursor's file is behind that many events. */
  passed(events: number): boolean;
  books(status: SinkStatus, journalEnd: number): void;
  settled(status: SinkStatus, journalEnd: number): void;
  /** The run does not come to an end. */
  stuck(): void;
  facts(): { evicted: number; letters: number };
}

const NOTHING: Progress = {
  cursor: { segment: 0, offset: 0, event: 0 },
  delivered: 0,
  duplicates: 0,
  deadLettered: 0,
  evicted: 0,
  filtered: 0,
  digested: 0,
};

/** What is known of an event of the journal. */
interface Known {
  isTaken: boolean;
  /** Alerts that it stands for. */
  alerts: number;
}

interface State {
  readonly choice: Choice;
  /** By number. */
  known: Map<number, Known>;
  /** By number, how many alerts beside its own a digest had when it was sent; of this process. */
  folded: Map<number, number>;
  foldedAlerts: number;
  /** Alerts of events that were digested; of this process. */
  digested: number;
  readonly disk: Disk;
  readonly places: Places;
  readonly taken: ReadonlySet<string>;
  /** Of acknowledged events, and of those that were found after a crash. */
  numbers: Map<string, number>;
  /** By number, of what retention deleted. */
  evicted: Map<number, string>;
  readonly lettersEvicted: Set<number>;
  /** By number; of this process. */
  confirmed: Set<number>;
  /** As its file is seen, and as the last save that was confirmed left it. */
  seen: Progress;
  durable: Progress;
  /** Whether the disk ever lost what it said it had, and whether just now. */
  lost: boolean;
  fresh: boolean;
  broken: string | undefined;
}

/** @param taken Ids of what the destination has. */
export function createOracle(disk: Disk, places: Places, taken: ReadonlySet<string>, choice: Choice): Oracle {
  const state: State = {
    choice,
    known: new Map(),
    folded: new Map(),
    foldedAlerts: 0,
    digested: 0,
    disk,
    places,
    taken,
    numbers: new Map(),
    evicted: new Map(),
    lettersEvicted: new Set(),
    confirmed: new Set(),
    seen: NOTHING,
    durable: NOTHING,
    lost: false,
    fresh: false,
    broken: undefined,
  };
  return {
    broken: () => state.broken,
    acknowledged(lines, end) {
      for (const [index, line] of lines.entries()) {
        const number = end - lines.length + index;
        state.numbers.set(idOf(line) ?? '', number);
        state.known.set(number, knownOf(line, choice));
      }
    },
    sent: (items) => noteSent(state, items),
    answered(items, outcomes) {
      for (const [index, { number }] of items.entries()) {
        if (outcomes[index]?.is === 'delivered') state.confirmed.add(number);
      }
    },
    saved: (progress) => void (state.durable = progress),
    unlinking: (path) => noteUnlinking(state, path),
    renamed(path) {
      if (path === places.cursor) noteCursor(state);
    },
    ended: (lossy) => noteEnd(state, lossy),
    opened: (journalEnd) => noteOpened(state, journalEnd),
    passed: (events) => readCursor(state).cursor.event >= events,
    books: (status, journalEnd) => checkBooks(state, status, journalEnd),
    settled: (status, journalEnd) => checkSettled(state, status, journalEnd),
    stuck: () => fail(state, 6, 'it does not come to an end'),
    facts: () => ({
      evicted: state.evicted.size,
      letters: readLetters(state).size + state.lettersEvicted.size,
    }),
  };
}

function fail(state: State, obligation: number, message: string): void {
  state.broken ??= `obligation ${obligation}: ${message}`;
}

function readCursor(state: State): Progress {
  const bytes = state.disk.peek(state.places.cursor);
  const progress = bytes === undefined ? NOTHING : (parse(bytes.toString()) as Progress | undefined);
  if (progress === undefined && !state.lost) fail(state, 2, 'the cursor file is damaged');
  // What is 0 may be left out.
  return { ...NOTHING, ...progress };
}

/** By number. */
function readLetters(state: State): Map<number, string> {
  const letters = new Map<number, string>();
  for (const [, line] of linesOf(state.disk, state.places.letters)) {
    const letter = parse(line) as { number: number; event?: { record: { event_id: string } } } | undefined;
    if (letter === undefined) continue;
    if (letters.has(letter.number) && !state.lost) fail(state, 4, `event ${letter.number} is two letters`);
    letters.set(letter.number, letter.event?.record.event_id ?? '');
  }
  return letters;
}

/** The number of each id in the journal's files. What a crash tore is no event. */
function readEvents(state: State): Map<string, number> {
  const events = new Map<string, number>();
  for (const [number, line] of linesOf(state.disk, state.places.journal)) {
    const id = idOf(line);
    if (id === undefined) continue;
    state.known.set(number, knownOf(line, state.choice));
    if (events.has(id)) fail(state, 1, `${id} is in the journal twice`);
    events.set(id, number);
  }
  return events;
}

function knownOf(json: string, { signatures }: Choice): Known {
  const { record } = parse(json) as { record: { snort_signature_id: string; count?: number } };
  return { isTaken: signatures?.includes(record.snort_signature_id) ?? true, alerts: record.count ?? 1 };
}

function noteSent(state: State, items: readonly Item[]): void {
  const { confirmed, durable, numbers, evicted, choice, known, folded } = state;
  for (const { number, id, json } of items) {
    if (confirmed.has(number)) fail(state, 3, `event ${number} was confirmed and is sent again`);
    if (number < durable.cursor.event)
      fail(state, 3, `event ${number} is sent; the cursor is at ${durable.cursor.event}`);
    const before = numbers.get(id);
    if (before !== undefined && before !== number && evicted.get(number) !== id)
      fail(state, 1, `${id} is sent as ${number} and was number ${before}`);
    const sent = knownOf(json, choice);
    if (!sent.isTaken) fail(state, 7, `event ${number} is sent, and not for the sink`);
    const own = known.get(number)?.alerts ?? sent.alerts;
    if (choice.quiet === undefined && sent.alerts !== own) fail(state, 7, `event ${number} was changed`);
    const more = sent.alerts - own - (folded.get(number) ?? 0);
    if (more <= 0) continue;
    folded.set(number, sent.alerts - own);
    state.foldedAlerts += more;
  }
}

function noteUnlinking({ disk, places, lettersEvicted, evicted }: State, path: string): void {
  if (path.startsWith(`${places.letters}/`)) {
    for (const [, line] of linesOfFile(disk, path)) lettersEvicted.add((parse(line) as { number: number }).number);
  } else if (path.startsWith(`${places.journal}/`)) {
    for (const [number, line] of linesOfFile(disk, path)) evicted.set(number, idOf(line) ?? '');
  }
}

function noteCursor(state: State): void {
  const now = readCursor(state);
  compare(state, state.seen, now);
  state.seen = now;
}

/** What is between two cursors is in exactly one count each. */
function compare(state: State, before: Progress, after: Progress): void {
  const from = before.cursor.event;
  const to = after.cursor.event;
  if (to < from) fail(state, 2, `the cursor goes back from ${from} to ${to}`);
  const became = becameOf(state, from, to);
  const { delivered, refusable, deletable, filterable, digestible } = became;
  const counts = {
    delivered: after.delivered - before.delivered,
    deadLettered: after.deadLettered - before.deadLettered,
    evicted: after.evicted - before.evicted,
    filtered: after.filtered - before.filtered,
    digested: after.digested - before.digested,
  };
  const right =
    counts.delivered === delivered &&
    counts.deadLettered <= refusable &&
    counts.evicted <= deletable &&
    counts.filtered <= filterable &&
    counts.digested <= digestible &&
    Object.values(counts).reduce((sum, count) => sum + count, 0) === to - from;
  if (!right)
    fail(state, 2, `events ${from} to ${to}: counted ${JSON.stringify(counts)}, were ${JSON.stringify(became)}`);
}

interface Became {
  delivered: number;
  /** At most. */
  refusable: number;
  deletable: number;
  filterable: number;
  digestible: number;
}

/** How many of these events were delivered, and how many may have had each other end. */
function becameOf(state: State, from: number, to: number): Became {
  const { confirmed, lettersEvicted, evicted, known, choice } = state;
  const became: Became = { delivered: 0, refusable: 0, deletable: 0, filterable: 0, digestible: 0 };
  let letters: Map<number, string> | undefined;
  for (let number = from; number < to; number++) {
    if (confirmed.has(number)) {
      became.delivered += 1;
      continue;
    }
    letters ??= readLetters(state);
    const isLetter = letters.has(number) || lettersEvicted.has(number);
    const event = known.get(number);
    if (isLetter) became.refusable += 1;
    if (evicted.has(number)) became.deletable += 1;
    if (event?.isTaken === false) became.filterable += 1;
    else if (choice.quiet !== undefined && !isLetter) became.digestible += 1;
    if (isLetter || evicted.has(number) || event?.isTaken === false) continue;
    if (choice.quiet === undefined) fail(state, 2, `the cursor is at ${to} and event ${number} is not settled`);
    else noteDigested(state, number, event?.alerts ?? 1);
  }
  return became;
}

/** A digest that stands for it was settled before it. */
function noteDigested(state: State, number: number, alerts: number): void {
  state.digested += alerts;
  const { digested, foldedAlerts } = state;
  if (digested > foldedAlerts)
    fail(state, 7, `event ${number} is passed; digests have ${foldedAlerts} alerts, ${digested} were digested`);
}

function noteEnd(state: State, lossy: boolean): void {
  state.confirmed = new Set();
  state.folded = new Map();
  state.foldedAlerts = 0;
  state.digested = 0;
  if (lossy) {
    state.lost = true;
    state.fresh = true;
  }
  // Until the journal is opened again after that, there is nothing to compare with.
  if (!state.fresh) compareWithDisk(state);
}

function noteOpened(state: State, journalEnd: number): void {
  const found = readEvents(state);
  if (state.fresh) beginAnew(state, found, journalEnd);
  state.fresh = false;
  for (const [id, number] of found) state.numbers.set(id, number);
}

function checkBooks(state: State, status: SinkStatus, journalEnd: number): void {
  const { delivered, deadLettered, evicted, filtered, digested, pending } = status;
  const sum = delivered + deadLettered + evicted + filtered + digested + pending;
  if (sum !== journalEnd) fail(state, 5, `the counts make ${sum}, and the journal has ${journalEnd} events`);
}

function checkSettled(state: State, { pending }: SinkStatus, journalEnd: number): void {
  if (pending !== 0) fail(state, 6, `${pending} events are pending`);
  const progress = readCursor(state);
  const { event } = progress.cursor;
  // The file of a sink that begins anew is that of before, until there is something to save.
  const isLeft = state.lost && event > journalEnd;
  if (event !== journalEnd && !isLeft) fail(state, 6, `the cursor ends at ${event} of ${journalEnd}`);
  checkPassed(state, progress, readEvents(state));
}

/** All before the cursor is somewhere, whoever sent it. */
function checkPassed(state: State, progress: Progress, events: ReadonlyMap<string, number>): void {
  const { lost, taken, lettersEvicted, evicted, numbers, known, choice } = state;
  if (lost) return;
  const letters = readLetters(state);
  for (const [id, number] of events) {
    if (number >= progress.cursor.event || taken.has(id)) continue;
    if (letters.has(number) || lettersEvicted.has(number) || evicted.has(number)) continue;
    if (known.get(number)?.isTaken === false || choice.quiet !== undefined) continue;
    fail(state, 2, `the cursor is at ${progress.cursor.event} and ${id}, number ${number}, is nowhere`);
  }
  for (const [number, id] of letters) {
    const right = numbers.get(id);
    if (right !== undefined && right !== number && evicted.get(number) !== id)
      fail(state, 4, `the letter ${number} holds the event of ${right}`);
  }
}

/** What a crash left, before recovery. */
function compareWithDisk(state: State): void {
  const { evicted, numbers, durable } = state;
  const found = readEvents(state);
  const evictedIds = new Set(evicted.values());
  for (const [id, number] of numbers) {
    const now = found.get(id);
    if (now === undefined && !evictedIds.has(id))
      fail(state, 1, `${id}, number ${number}, was acknowledged and is lost`);
    if (now !== undefined && now !== number) fail(state, 1, `${id} was number ${number} and is ${now}`);
  }
  const progress = readCursor(state);
  if (progress.cursor.event < durable.cursor.event) {
    fail(state, 2, `the cursor was saved at ${durable.cursor.event} and is at ${progress.cursor.event}`);
  }
  checkPassed(state, progress, found);
  state.seen = progress;
}

function beginAnew(state: State, found: ReadonlyMap<string, number>, journalEnd: number): void {
  state.numbers = new Map();
  state.evicted = new Map(Array.from({ length: journalEnd }, (_, number) => [number, '']));
  for (const number of found.values()) state.evicted.delete(number);
  const progress = readCursor(state);
  state.seen = progress.cursor.event <= journalEnd ? progress : NOTHING;
  state.durable = state.seen;
}

/** Complete lines of a segment, or of all in a folder, with their numbers. */
export function* linesOf(disk: Disk, directory: string): Generator<[number, string]> {
  if (directory.endsWith('.ndjson')) yield* linesOfFile(disk, directory);
  for (const name of disk.list(directory)) {
    if (name.endsWith('.ndjson')) yield* linesOfFile(disk, `${directory}/${name}`);
  }
}

function* linesOfFile(disk: Disk, path: string): Generator<[number, string]> {
  let number = Number(/-(\d+)\.ndjson$/.exec(path)?.[1]);
  const text = disk.peek(path)?.toString('latin1') ?? '';
  for (let start = 0, end = text.indexOf('\n'); end >= 0; start = end + 1, end = text.indexOf('\n', start)) {
    yield [number, text.slice(start, end)];
    number += 1;
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

function idOf(line: string): string | undefined {
  const event = parse(line) as { record?: { event_id?: unknown } } | undefined;
  const id = event?.record?.event_id;
  return typeof id === 'string' ? id : undefined;
}
