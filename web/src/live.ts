/** New alerts as the server sends them, until somebody pauses. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { LiveMessage } from '../../agent/ui/api.ts';

export interface Live {
  state: 'on' | 'connecting' | 'paused';
  /** Pauses, or goes on. */
  flip: () => void;
}

/** @param possible Whether the query selects alerts that are still to come. */
export function useLive(query: string, possible: boolean, take: (message: LiveMessage) => void): Live {
  const [paused, setPaused] = useState(false);
  const [state, setState] = useState<Live['state']>('connecting');
  const latest = useRef(take);
  latest.current = take;
  const on = possible && !paused;
  useEffect(() => {
    if (!on) return undefined;
    setState('connecting');
    const stream = new EventSource(`/api/live?${query}`);
    stream.addEventListener('open', () => setState('on'));
    // It connects again by itself.
    stream.addEventListener('error', () => setState('connecting'));
    stream.addEventListener('alerts', (event: MessageEvent<string>) =>
      latest.current(JSON.parse(event.data) as LiveMessage),
    );
    return () => stream.close();
  }, [query, on]);
  return { state: on ? state : 'paused', flip: () => setPaused(!paused) };
}
