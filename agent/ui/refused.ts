/** Why a request is not served, as a status and words for who asked. */
import { accessProblem } from './access.ts';
import { BusyError } from './passwords.ts';
import { QueryError } from './query.ts';
import { SourceError } from './source.ts';

/** A request can't be served, with the reason for who asked. */
export class Refused extends Error {
  readonly status: number;
  readonly more: object;
  constructor(status: number, message: string, more: object = {}) {
    super(message);
    this.status = status;
    this.more = more;
  }
}

/** What became of any error: status, words, and what else the answer says. */
export function refusalOf(error: unknown): [number, string, object] {
  if (error instanceof Refused) return [error.status, error.message, error.more];
  if (error instanceof QueryError) {
    const { message, position } = error;
    return [400, message, position === undefined ? {} : { position }];
  }
  if (error instanceof SourceError) return [502, error.message, {}];
  if (error instanceof BusyError) return [503, error.message, {}];
  const problem = accessProblem(error);
  if (problem !== undefined) return [502, problem, {}];
  const { statusCode, message } = error as { statusCode?: unknown; message?: unknown };
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) return [statusCode, String(message), {}];
  return [500, 'the server failed: its log says why', {}];
}
