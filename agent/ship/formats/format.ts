/** What a request of the http sink says. One file a format; `formats.ts` knows them by name. */
import type { SendError } from '../destination.ts';
import type { Alert } from './alert.ts';

/** What formats know beside the events. */
export interface Context {
  /** What secretFile has; empty without one. */
  secret: string;
  /** Of the configuration. */
  labels: Readonly<Record<string, string>>;
}

export interface Format {
  /** Whether a request can have several events. */
  readonly batches: boolean;
  contentType(alerts: readonly Alert[]): string;
  /** @throws Error when the event can't be said so; the sink sets it aside. */
  body(alerts: readonly Alert[], context: Context): string | Promise<string>;
  /**
   * Where the secret goes: `bearer` with that word before it in Authorization, `splunk` with that one, or `body` where
   * the format puts it.
   */
  readonly secret: 'bearer' | 'splunk' | 'body';
  /** What an answer says that has the status of success. Undefined: what its status says. */
  refusal?(answer: string, events: number): SendError | undefined;
  /** Whether an answer with a status of failure is about what an operator has to mend, and not about its events. */
  isOperators?(answer: string): boolean;
}

export const JSON_TYPE = 'application/json';

/** What most have. */
export const COMMON = { contentType: () => JSON_TYPE, secret: 'bearer' } as const;

/** One alert of a format that has one a request. */
export function single(alerts: readonly Alert[]): Alert {
  const [alert] = alerts;
  if (alert === undefined) throw new Error('a request needs an event');
  return alert;
}

/** The first characters, and an ellipsis where there were more. */
export function cut(text: string, limit: number): string {
  if (text.length <= limit) return text;
  // Not a half of a pair.
  return `${text.slice(0, limit - 1).replace(/[\uD800-\uDBFF]$/, '')}…`;
}

/** Without fields that are empty. */
export function filled(
  fields: Record<string, string | number | readonly string[] | undefined>,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined && value !== '' && value.toString() !== ''),
  );
}
