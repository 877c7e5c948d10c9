/**
 * Appends to a journal that can't be written for a while.
 *
 * A batch is tried again, once a second, until it is in the journal; from a deadline on it is given up when it fails.
 * Nothing behind a batch that was given up is written: a later agent reads on behind the last line of the journal.
 */
import { systemClock, type Clock } from '../files/clock.ts';
import type { EventLine, Journal } from './journal.ts';

const RETRY_MILLIS = 1_000;

export interface PatientEvents {
  /** The journal can't be written, for the first time since it could. */
  failed(error: unknown): void;
  /** It can again. */
  recovered(): void;
}

export interface PatientJournal {
  /** Resolves when the batch is durable. Rejects when it, or one before it, was given up. */
  append(lines: EventLine[]): Promise<void>;
  /** @param deadline Milliseconds, on the monotonic clock: what can't be written then is given up. */
  giveUpAt(deadline: number): void;
  /** Whether this is why an append was rejected. */
  isGivenUp(error: unknown): boolean;
}

export function beingPatient(
  { append }: Pick<Journal, 'append'>,
  events: PatientEvents,
  clock: Clock = systemClock,
): PatientJournal {
  const impatience = new AbortController();
  let givenUp: Error | undefined;

  async function afterFailure(): Promise<void> {
    if (impatience.signal.aborted) {
      givenUp = new Error('the agent ends before its journal can be written; the next one reads these alerts again');
    } else {
      await clock.wait(RETRY_MILLIS, impatience.signal);
    }
  }

  return {
    async append(lines) {
      if (lines.length === 0) return;
      for (let failures = 0; ; failures++) {
        if (givenUp !== undefined) throw givenUp;
        try {
          await append(lines);
          if (failures > 0) events.recovered();
          return;
        } catch (error) {
          if (failures === 0) events.failed(error);
          await afterFailure();
        }
      }
    },
    giveUpAt(deadline) {
      clock.after(deadline - clock.now(), () => impatience.abort());
    },
    isGivenUp: (error) => error === givenUp,
  };
}
