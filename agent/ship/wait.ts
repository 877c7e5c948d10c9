/** How a sink waits: for a time, for new events, and for files that cannot be read or written. */
import { messageOf } from '../files/errors.ts';
import { cleanReason } from './dead-letter.ts';
import { noPause, type SinkState } from './state.ts';

/** How often a sink looks at what it is not told of, and tries its files again. */
export const TICK_MILLIS = 1000;

/** @param wakeable whether new events end the wait. A stop always does. */
export async function rest(sink: SinkState, millis: number, wakeable: boolean): Promise<void> {
  if (sink.stop.aborted) return;
  const controller = new AbortController();
  const interrupt = (): void => controller.abort();
  sink.pause = { interrupt, wake: wakeable ? interrupt : noPause.wake };
  await sink.settings.clock.wait(millis, controller.signal);
  sink.pause = noPause;
}

/** Says once that `what` doesn't work, and once that it does again. @returns undefined when it doesn't. */
export async function attempt<T>(
  sink: SinkState,
  what: 'cursor' | 'dead letters' | 'journal',
  action: () => Promise<T>,
): Promise<T | undefined> {
  const { counts, troubled } = sink;
  const { name, log } = sink.settings;
  try {
    const result = await action();
    if (troubled.delete(what)) log.info({ sink: name, what }, 'the sink goes on');
    return result;
  } catch (error) {
    const message = reasonOf(error);
    counts.lastError = message;
    if (!troubled.has(what)) {
      troubled.add(what);
      log.error({ sink: name, what, error: message }, 'the sink waits: its files can not be read or written');
    }
    return undefined;
  }
}

/** For a log: one line, bounded. */
export function reasonOf(error: unknown): string {
  return cleanReason(messageOf(error));
}
