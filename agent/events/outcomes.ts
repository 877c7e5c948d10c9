/** How requests ended, for people. */
import type { Outcome } from './app.ts';

const TEXTS: Readonly<Record<Outcome, string>> = {
  '2xx': 'answered, successfully',
  '3xx': 'answered: elsewhere, or unchanged',
  '4xx': "answered: the client's error",
  '5xx': "answered: the server's error",
  answered: 'answered',
  reset: 'not answered, the connection was reset',
  refused: 'refused: nobody listens',
  'no-answer': 'not answered',
  unknown: 'not known whether it was answered',
};

/** @returns undefined where it is none: an event may come from anybody who can write the journal or the index. */
export function outcomeText(outcome: string): string | undefined {
  return Object.hasOwn(TEXTS, outcome) ? TEXTS[outcome as Outcome] : undefined;
}
