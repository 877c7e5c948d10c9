/** Asks the page's server. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { pathOf } from './cluster.ts';

export class AnswerError extends Error {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  constructor(status: number, message: string, body: Record<string, unknown>) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** Questions that nobody has waited for yet. */
const ahead = new Map<string, Promise<Response>>();

/** Asks what will be asked soon, so that questions of a page that is opened go side by side. */
export function askAhead(path: string): void {
  const answer = fetch(pathOf(path), { credentials: 'same-origin' });
  // Who waits for it learns why.
  answer.catch(() => undefined);
  ahead.set(path, answer);
}

function takeAhead(path: string): Promise<Response> | undefined {
  const answer = ahead.get(path);
  ahead.delete(path);
  return answer;
}

/** @throws AnswerError with what the server says; status 0 when it does not answer. The signal's reason, once it is aborted. */
export async function ask<T>(path: string, init: RequestInit = {}): Promise<T> {
  const { ok, status, body } = await answerTo(path, init).catch((error: unknown) => {
    init.signal?.throwIfAborted();
    throw new AnswerError(0, 'The server of this page does not answer. Is dpi-agent ui running?', {
      cause: String(error),
    });
  });
  init.signal?.throwIfAborted();
  if (ok) return body as T;
  const said = (body ?? {}) as Record<string, unknown>;
  const message = typeof said['error'] === 'string' ? said['error'] : `the server answered ${status}`;
  throw new AnswerError(status, message, said);
}

async function answerTo(path: string, init: RequestInit): Promise<{ ok: boolean; status: number; body: unknown }> {
  // What was asked ahead and failed is asked again: somebody may have signed in since.
  const early = await takeAhead(path)?.catch(() => undefined);
  const answer = early?.ok === true ? early : await fetch(pathOf(path), { credentials: 'same-origin', ...init });
  const { ok, status } = answer;
  // An answer that is cut off, or no longer wanted, is none.
  const text = await answer.text();
  return { ok, status, body: text === '' ? {} : parsed(text, ok) };
}

/** What fails may be said by a proxy, in HTML. */
function parsed(text: string, ok: boolean): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (ok) throw error;
    return {};
  }
}

export function answerErrorOf(reason: unknown): AnswerError {
  return reason instanceof AnswerError ? reason : new AnswerError(0, String(reason), {});
}

/** Browsers let no longer ones outlive their page. */
const KEPT_ALIVE_CHARACTERS = 60_000;

export function send<T>(method: 'POST' | 'DELETE', path: string, body?: object): Promise<T> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  return ask<T>(path, {
    method,
    // Who goes on to another page at once has done it all the same.
    keepalive: (text?.length ?? 0) <= KEPT_ALIVE_CHARACTERS,
    ...(text === undefined ? {} : { body: text, headers: { 'content-type': 'application/json' } }),
  });
}

export interface Loaded<T> {
  data?: T;
  error?: AnswerError;
  /** Also while older data are shown. */
  loading: boolean;
  /** The data, if any, are of another path. */
  stale: boolean;
  reload: () => void;
}

interface Answered<T> {
  /** Whose the data are. */
  path?: string;
  data?: T;
  failed?: { path: string; error: AnswerError };
  loading: boolean;
}

/** What a path answers; a path that is replaced is asked no longer. @param path undefined: nothing is asked. */
export function useAnswer<T>(path: string | undefined): Loaded<T> {
  const [state, setState] = useState<Answered<T>>({ loading: path !== undefined });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    if (path === undefined) return undefined;
    const stop = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    ask<T>(path, { signal: stop.signal }).then(
      (data) => setState({ path, data, loading: false }),
      (reason: unknown) => {
        if (stop.signal.aborted) return;
        setState((before) => ({ ...before, failed: { path, error: answerErrorOf(reason) }, loading: false }));
      },
    );
    return () => stop.abort();
  }, [path, turn]);
  const { data, failed, loading } = state;
  return {
    ...(data === undefined ? {} : { data }),
    ...(failed === undefined || failed.path !== path ? {} : { error: failed.error }),
    loading: path !== undefined && loading,
    stale: path !== undefined && state.path !== path,
    reload: () => setTurn((number) => number + 1),
  };
}

/** Calls at once, and then at most each `millis`; the last call is never lost. */
export function useThrottled(action: () => void, millis: number): () => void {
  const latest = useRef(action);
  latest.current = action;
  const state = useRef<{ timer?: ReturnType<typeof setTimeout>; again: boolean }>({ again: false });
  useEffect(() => () => clearTimeout(state.current.timer), []);
  return () => {
    const run = (): void => {
      const { current } = state;
      current.again = false;
      current.timer = setTimeout(() => {
        delete current.timer;
        if (current.again) run();
      }, millis);
      latest.current();
    };
    if (state.current.timer === undefined) run();
    else state.current.again = true;
  };
}
