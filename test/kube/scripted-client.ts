/** An ApiClient whose answers a test writes: for faults that a real server can't be asked for. */
import { ApiError, type ApiClient, type Query } from '../../agent/kube/api.ts';

export interface Request {
  method: 'GET' | 'PATCH' | 'APPLY' | 'POST' | 'DELETE';
  path: string;
  query: Query;
  /** What is written. */
  patch: object;
  signal: AbortSignal | undefined;
}

export interface ScriptedClient extends ApiClient {
  requests: Request[];
}

/** @param answer Gives the body, or throws. A function, so that it can change between requests. */
export function scriptedClient(answer: (request: Request) => unknown): ScriptedClient {
  const requests: Request[] = [];
  const ask = async <T>(request: Request): Promise<T> => {
    requests.push(request);
    return (await answer(request)) as T;
  };
  return {
    server: 'https://scripted',
    requests,
    get: (path, query, signal) => ask({ method: 'GET', path, query: query ?? {}, patch: {}, signal }),
    create: (path, object, signal) => ask({ method: 'POST', path, query: {}, patch: object, signal }),
    mergePatch: (path, patch, signal) => ask({ method: 'PATCH', path, query: {}, patch, signal }),
    apply: (path, patch, _manager, signal) => ask({ method: 'APPLY', path, query: {}, patch, signal }),
    remove: (path, uid, signal) => ask({ method: 'DELETE', path, query: {}, patch: { uid }, signal }),
    watch: () => Promise.reject(new Error('nothing here watches')),
  };
}

const REASONS: Record<number, string> = { 403: 'Forbidden', 404: 'NotFound', 409: 'Conflict' };

/** An answer with an HTTP status; without one, no answer. */
export function apiError(status?: number): ApiError {
  return new ApiError(`status ${status}`, status, (status && REASONS[status]) || 'Unreachable');
}

/** A request that never ends, but for its signal. */
export function hang(request: Request): Promise<never> {
  return new Promise((_, reject) => {
    request.signal?.addEventListener('abort', () => reject(apiError()));
  });
}
