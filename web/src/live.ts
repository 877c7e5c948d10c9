/** New alerts, and what others make of alerts, as the server sends them, until somebody pauses. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { LiveMessage, MarkMessage } from '../../agent/ui/api.ts';
import { pathOf } from './cluster.ts';

const RETRY_MILLIS = 3000;

export interface Live {
  /** `past`: what is looked at has an end, and nothing is still to come. */
  state: 'on' | 'connecting' | 'paused' | 'past';
  /** Pauses, or goes on. */
  flip: () => void;
}

export interface LiveTaker {
  alerts(message: LiveMessage): void;
  marks(message: MarkMessage): void;
  /** What came before may be missing. @param first Only what came since the query was asked. */
  ready(first: boolean): void;
}

/** @param possible Whether the query selects alerts that are still to come. */
export function useLive(query: string, possible: boolean, taker: LiveTaker): Live {
  const [paused, setPaused] = useState(false);
  const [state, setState] = useState<'on' | 'connecting'>('connecting');
  const latest = useRef(taker);
  latest.current = taker;
  /** The query whose alerts came last. */
  const followed = useRef<string>(undefined);
  const on = possible && !paused;
  useEffect(() => {
    if (!on) return undefined;
    return connect(query, setState, {
      alerts: (message) => latest.current.alerts(message),
      marks: (message) => latest.current.marks(message),
      ready: () => {
        const first = followed.current !== query;
        followed.current = query;
        latest.current.ready(first);
      },
    });
  }, [query, on]);
  const flip = (): void => setPaused(!paused);
  if (!possible) return { state: 'past', flip };
  return { state: paused ? 'paused' : state, flip };
}

/** Connects again whatever ends the stream. @returns what ends it for good. */
function connect(
  query: string,
  tell: (state: 'on' | 'connecting') => void,
  taker: Omit<LiveTaker, 'ready'> & { ready(): void },
): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let stream: EventSource | undefined;
  const open = (): void => {
    tell('connecting');
    const current = new EventSource(pathOf(`/api/live?${query}`));
    stream = current;
    current.addEventListener('open', () => tell('on'));
    current.addEventListener('error', () => {
      tell('connecting');
      // After an answer that is no stream, it does not connect again by itself.
      if (current.readyState === EventSource.CLOSED) timer = setTimeout(open, RETRY_MILLIS);
    });
    current.addEventListener('ready', () => taker.ready());
    current.addEventListener('alerts', (event: MessageEvent<string>) =>
      taker.alerts(JSON.parse(event.data) as LiveMessage),
    );
    current.addEventListener('marks', (event: MessageEvent<string>) =>
      taker.marks(JSON.parse(event.data) as MarkMessage),
    );
  };
  open();
  return () => {
    clearTimeout(timer);
    stream?.close();
  };
}
