/**
 * A destination that does what the run's script says, and remembers what it took and what it said.
 *
 * It takes an id once and says of further ones that they are duplicates, as Elasticsearch does. Some events it never
 * takes, by their ids; a stubborn one it asks to wait, until it is asked to be kind.
 */
import { SendError } from '../../agent/ship/destination.ts';
import type { Destination, Item, Outcome } from '../../agent/ship/destination.ts';
import type { VirtualClock } from './clock.ts';

export const MOODS: readonly [Mood, ...Mood[]] = ['well', 'away', 'throttling', 'partly', 'late', 'deaf', 'small'];
/**
 * `away`: no connection. `throttling`: 429 of all. `partly`: of a batch, some are to wait. `late`: after seconds.
 * `deaf`: it takes a batch, and the answer is lost. `small`: 413 for more than some events.
 */
export type Mood = 'well' | 'away' | 'throttling' | 'partly' | 'late' | 'deaf' | 'small';

type Kind = 'poison' | 'stubborn' | 'plain';

/** By the id, so that it is the same in each process's life. @param bad How many are not plain, 0..1. */
function kindOf(id: string, bad: number): Kind {
  const place = Number.parseInt(id.slice(0, 4), 16) / 0x1_0000;
  if (place < (bad * 2) / 3) return 'poison';
  return place < bad ? 'stubborn' : 'plain';
}

export interface ScriptedDestination extends Destination {
  mood: Mood;
  /** Stubborn events are taken from now on. */
  kind: boolean;
  /** Ids that it has. */
  readonly taken: ReadonlySet<string>;
  /** Whether it never takes the event. */
  isPoison(id: string): boolean;
  /** Batches that it was sent. */
  sends(): number;
  /** Called with each batch that comes, and with each answer that is given. */
  onSend: (items: readonly Item[]) => void;
  onAnswer: (items: readonly Item[], outcomes: readonly Outcome[]) => void;
  trace: ((line: string) => void) | undefined;
}

/** @param bad How many events it does not take as others, 0..1. */
export function createDestination(clock: VirtualClock, random: () => number, bad: number): ScriptedDestination {
  const taken = new Set<string>();
  let sends = 0;

  const destination: ScriptedDestination = {
    mood: 'well',
    kind: false,
    taken,
    isPoison: (id) => kindOf(id, bad) === 'poison',
    sends: () => sends,
    onSend: () => undefined,
    onAnswer: () => undefined,
    trace: undefined,
    async send(items, signal) {
      sends += 1;
      const { mood } = destination;
      destination.trace?.(`${clock.now().toFixed(3)} send ${mood} ${items.map(({ number }) => number).join(' ')}`);
      destination.onSend(items);
      await clock.wait(random() * 20, signal);
      const outcomes = answer(items, mood);
      await clock.wait(mood === 'late' ? random() * 40_000 : random() * 20, signal);
      if (signal.aborted) throw signal.reason as Error;
      if (mood === 'deaf') throw new SendError('timeout', 'no answer');
      destination.onAnswer(items, outcomes);
      return outcomes;
    },
    close: async () => undefined,
  };

  function answer(items: readonly Item[], mood: Mood): Outcome[] {
    if (mood === 'away') throw new SendError('unreachable', 'no connection');
    if (mood === 'throttling') throw new SendError('throttled', 'too many requests');
    if (mood === 'small' && items.length > 3) throw new SendError('too_large', 'too large');
    // A destination of another sort refuses a whole batch for one event.
    if (mood === 'small' && items.length > 1 && items.some(({ id }) => kindOf(id, bad) === 'poison')) {
      throw new SendError('refused', 'a part of it is no event');
    }
    return items.map((item) => outcomeOf(item, mood));
  }

  function outcomeOf({ id }: Item, mood: Mood): Outcome {
    const kind = kindOf(id, bad);
    if (kind === 'poison') return { is: 'rejected', reason: 'mapping', status: 400 };
    if (kind === 'stubborn' && !destination.kind) return { is: 'retry', reason: 'shard' };
    if (mood === 'partly' && random() < 0.5) return { is: 'retry', reason: 'busy', throttled: random() < 0.8 };
    if (taken.has(id)) return { is: 'delivered', duplicate: true };
    taken.add(id);
    return { is: 'delivered' };
  }

  return destination;
}
