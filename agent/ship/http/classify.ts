/**
 * What the status of an answer means.
 *
 * | status | |
 * |---|---|
 * | of `success` | the events are delivered |
 * | 401, 403 | unauthorized: secrets are read again |
 * | 408 | timeout |
 * | 413 | too large: by halves |
 * | 429 | throttled, until `Retry-After` |
 * | 400, 409, 422 | refused: by halves, down to the event |
 * | all others | the sink waits: an operator mends the address, or the server comes back |
 */
import { stripControls } from '../../text.ts';
import { SendError, type SendFailure } from '../destination.ts';
import type { Answer } from './request.ts';

const MAX_REASON = 300;

const FAILURES: Readonly<Record<number, SendFailure>> = {
  400: 'refused',
  401: 'unauthorized',
  403: 'unauthorized',
  408: 'timeout',
  409: 'refused',
  413: 'too_large',
  422: 'refused',
  429: 'throttled',
};

const REMEDIES: Partial<Record<SendFailure, string>> = {
  unauthorized: ": look at the sink's secret, and what it may do",
  too_large: ': lower its batchSize',
};

/** @param success Statuses such as 200 or 2xx. */
export function isSuccess(status: number, success: readonly string[]): boolean {
  return success.some((each) => each === String(status) || each === `${Math.floor(status / 100)}xx`);
}

/** @param mask Takes secrets out of the answer's text, which may repeat what it was sent. */
export function failureOf(answer: Answer, origin: string, mask: (text: string) => string): SendError {
  const { status, text, afterMillis } = answer;
  const failure = FAILURES[status] ?? 'server_error';
  const said = excerpt(text, mask);
  const unknown = status === 404 || status === 405 || status === 410 ? ": look at the sink's url" : '';
  const message = `${origin} answered ${status}${said === '' ? '' : ` (${said})`}${REMEDIES[failure] ?? unknown}`;
  return new SendError(failure, message, undefined, afterMillis);
}

/** One line of it, short and printable. */
export function excerpt(text: string, mask: (text: string) => string): string {
  // Before it is cut: half a secret is too much.
  return stripControls(
    mask(text)
      .slice(0, 4 * MAX_REASON)
      .replaceAll(/\s+/g, ' '),
  )
    .trim()
    .slice(0, MAX_REASON);
}
