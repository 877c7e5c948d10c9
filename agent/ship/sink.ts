/**
 * Carries the journal's events to one destination: reads from the sink's cursor, gathers batches, sends, tries again,
 * sets aside what is refused for good, and moves the cursor.
 *
 * The way of a batch, a file each:
 *
 *   gather.ts    the journal is read on into the window, and the batch waits for more
 *   late.ts      what became known of an event since is put into it
 *   send.ts      it is sent; what is refused as a whole goes in halves
 *   settle.ts    each event is delivered, refused for good, or to be sent again
 *   breaker.ts   how long to wait for that, and when single events go
 *   commit.ts    dead letters and then the cursor go to the disk
 *
 * Order: an event is settled (delivered, or refused for good) → its dead letter is on the disk → the cursor moves over
 * it. The cursor never moves over an event that is unsettled: after a crash, events behind it are sent again, and the
 * destination tells which it had.
 *
 * The window is what lies between the cursor and the reader: events sent but not settled, events settled behind one
 * that isn't, and gaps where retention was faster. Unsettled events are at most one batch, by count and by size; dead
 * letters that wait for the cursor at most another; of delivered ones nothing but the count stays. So an event that
 * always fails holds up no other.
 *
 * An event fails for good when the destination says so, when alone it is too large or refused, or when the destination
 * asked 8 times to try it again while it took others in between (a throttled one is not counted against it).
 *
 * Events that `when` leaves out are filtered, those that a digest stands for are digested (quiet.ts): both are settled.
 *
 * Invariant, at any moment: journal's events = delivered + deadLettered + evicted + filtered + digested + pending. An
 * event that retention deletes while it is in the window may still be delivered, and counts as that; in a crash it
 * becomes evicted.
 *
 * Failures: after each send that leaves events unsettled the sink waits (exponential, full jitter). After 3 sends in a
 * row that settled nothing the circuit opens: single events go, each time another one, until one goes through. It is
 * logged when it opens and when it closes, not in between. A destination that says when it wants to be asked again is
 * not asked before. When dead letters or cursor can't be written, or the journal
 * not be read, the sink tries each second.
 *
 * Not promised: that nothing is sent twice after a crash; an event that was set aside just before it may then be
 * delivered too. A lone event that fails stays pending until others come and go through: nothing else tells a bad event
 * from a bad destination.
 */
import { backoffMillis } from './breaker.ts';
import { commit } from './commit.ts';
import { loadProgress, type Progress } from './cursor.ts';
import type { PacketCounts, SendFailure } from './destination.ts';
import { isWaiting } from './entry.ts';
import { completeEvents } from './late.ts';
import type { EvidenceCounts } from './late-facts.ts';
import { dueIn, gather, isWorthWaking, noticeEvicted } from './gather.ts';
import { sendRound } from './send.ts';
import { createState, evictedOf, pendingOf, unsettledOf, type SinkOptions, type SinkState } from './state.ts';
import { attempt, reasonOf, rest, TICK_MILLIS } from './wait.ts';

export interface SinkStatus extends Omit<Progress, 'cursor'> {
  name: string;
  /** Events of the journal that the sink is not done with. */
  pending: number;
  /** Dead letters that had to go for newer ones, since the start. */
  deadLettersEvicted: number;
  /** Sends since the start that had events which had been sent before. */
  retries: number;
  /** Sends since the start that went wrong; `retry`: the destination took only a part, or nothing. */
  failures: Partial<Record<SendFailure | 'retry', number>>;
  /** Events since the start, by whether what became known of their flows went with them. */
  evidence: EvidenceCounts;
  /** Capture files, where the destination takes them. */
  packets?: PacketCounts;
  circuit: 'closed' | 'open';
  lastError?: string;
  /** Milliseconds since the Unix epoch, as are all times here. */
  lastSuccess?: number;
  /** Capture time of the oldest event that was read and is not settled. */
  oldestPending?: number;
}

export interface Sink {
  readonly name: string;
  status(): SinkStatus;
  /** What is held back to be digested goes out now, and from now on. */
  hurry(): void;
  /** Gives a send under way this long at most, then aborts it; saves the cursor; closes the destination. */
  stop(graceMillis: number): Promise<void>;
}

/** Begins at once; whatever goes wrong is logged and tried again. */
export function startSink(options: SinkOptions): Sink {
  const stop = new AbortController();
  const abort = new AbortController();
  const sink = createState(options, stop.signal, abort.signal);
  const forget = options.journal.onAppend(() => {
    if (isWorthWaking(sink)) sink.pause.wake();
  });
  const unfollow = options.late?.onSettled(() => sink.pause.wake());
  const running = Promise.all([run(sink), lookForEvicted(sink)]);
  return {
    name: options.name,
    status: () => statusOf(sink),
    hurry() {
      sink.isHurried = true;
      sink.pause.wake();
    },
    async stop(graceMillis) {
      forget();
      unfollow?.();
      stop.abort();
      sink.pause.interrupt();
      await endWithin(sink, running, graceMillis, abort);
    },
  };
}

async function run(sink: SinkState): Promise<void> {
  const { breaker, stop, window } = sink;
  await beginAtCursor(sink);
  while (!stop.aborted) {
    await gather(sink);
    await completeEvents(sink);
    await commit(sink);
    if (stop.aborted) break;
    const unsettled = unsettledOf(window);
    const due = dueIn(sink, unsettled);
    if (due > 0) await rest(sink, due, true);
    else await sendRound(sink, unsettled.slice(0, sink.settings.batch.batchEvents));
    await commit(sink);
    if (breaker.backoffs > 0 && window.entries.some(isWaiting)) await rest(sink, backoffMillis(sink), false);
  }
}

async function beginAtCursor(sink: SinkState): Promise<void> {
  const { files, settings, stop, window } = sink;
  const { name, journal, log } = settings;
  while (!stop.aborted) {
    const loaded = await attempt(sink, 'cursor', () => loadProgress(files.cursor, journal.end(), journal.fileSystem));
    if (loaded === undefined) {
      await rest(sink, TICK_MILLIS, false);
      continue;
    }
    const { progress, reason } = loaded;
    sink.progress = progress;
    window.position = progress.cursor;
    window.isSteady = true;
    if (reason !== undefined) log.warn({ sink: name, reason }, 'the sink begins at the oldest event of the journal');
    return;
  }
}

/** Also while a send is under way, or its destination is away. */
async function lookForEvicted(sink: SinkState): Promise<void> {
  const { settings, stop } = sink;
  while (!stop.aborted) {
    await settings.clock.wait(TICK_MILLIS, stop);
    if (!stop.aborted) await noticeEvicted(sink);
  }
}

async function endWithin(
  { settings: { name, clock, destination, io, log } }: SinkState,
  running: Promise<unknown>,
  graceMillis: number,
  abort: AbortController,
): Promise<void> {
  const grace = new AbortController();
  const late = clock.wait(graceMillis, grace.signal).then(() => abort.abort(new Error('the sink was stopped')));
  await running;
  grace.abort();
  await late;
  await io
    .closeLetters?.()
    .catch((error: unknown) => log.warn({ sink: name, error: reasonOf(error) }, 'closing the dead letters failed'));
  await destination
    .close()
    .catch((error: unknown) => log.warn({ sink: name, error: reasonOf(error) }, 'closing failed'));
}

function statusOf(sink: SinkState): SinkStatus {
  const { delivered, duplicates, deadLettered, filtered, digested } = sink.progress;
  const { deadLettersEvicted, retries, failures, evidence, lastError, lastSuccess } = sink.counts;
  const packets = sink.settings.destination.packets?.();
  const oldest = sink.window.entries.find(isWaiting);
  return {
    name: sink.settings.name,
    pending: pendingOf(sink),
    delivered,
    duplicates,
    deadLettered,
    evicted: evictedOf(sink),
    filtered,
    digested,
    deadLettersEvicted,
    retries,
    failures: { ...failures },
    evidence: { ...evidence },
    ...(packets === undefined ? {} : { packets }),
    circuit: sink.breaker.open === undefined ? 'closed' : 'open',
    ...(lastError === undefined ? {} : { lastError }),
    ...(lastSuccess === undefined ? {} : { lastSuccess }),
    ...(oldest === undefined ? {} : { oldestPending: oldest.time }),
  };
}
