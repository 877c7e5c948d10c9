/**
 * A destination that does what the run's script says, and remembers what it took and what it said. Some events it never
 * takes, by their ids; a stubborn one it asks to wait, until it is asked to be kind.
 *
 * It is of one of the kinds that there are:
 *
 * - `by id`: it takes an id once, says of further ones that they are duplicates, and answers for each event, as
 *   Elasticsearch and OpenSearch do.
 * - `whole`: it takes a batch, or says no to all of it, as HTTP, syslog and Kafka do. Where the connection ends within a
 *   batch, it has the beginning, and nobody is told. A copy is no duplicate to it.
 * - `one by one`: the events of a batch are requests of their own, as those of chats are; the first one that fails holds
 *   up the rest.
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

export const DELIVERIES = ['by id', 'whole', 'one by one'] as const;
export type Delivery = (typeof DELIVERIES)[number];
/** As of the http sink. */
const MAX_SINGLE = 10;

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

export interface DestinationOptions {
  clock: VirtualClock;
  random: () => number;
  /** How many events it does not take as others, 0..1. */
  bad: number;
  delivery: Delivery;
}

export function createDestination({ clock, random, bad, delivery }: DestinationOptions): ScriptedDestination {
  const taken = new Set<string>();
  let sends = 0;

  const destination: ScriptedDestination = {
    ...(delivery === 'one by one' ? { maxEvents: MAX_SINGLE } : {}),
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
    if (delivery === 'whole') return takeWhole(items, mood);
    if (delivery === 'one by one') return takeSingly(items, mood);
    return items.map((item) => outcomeOf(item, mood));
  }

  /** Where a batch has no outcome for each event, it stumbles now and then in any mood, until it is kind. */
  function isTroubled(mood: Mood): boolean {
    return !destination.kind && random() < (mood === 'partly' ? 0.5 : 0.1);
  }

  function takeWhole(items: readonly Item[], mood: Mood): Outcome[] {
    const kinds = items.map(({ id }) => kindOf(id, bad));
    if (kinds.includes('poison')) throw new SendError('refused', 'a part of it is no event');
    if (kinds.includes('stubborn') && !destination.kind) throw new SendError('too_large', 'too large for now');
    const isCut = isTroubled(mood);
    for (const { id } of isCut ? items.slice(0, Math.floor(random() * items.length)) : items) taken.add(id);
    if (isCut) throw new SendError('unreachable', 'the connection ended');
    return items.map(() => ({ is: 'delivered' }));
  }

  function takeSingly(items: readonly Item[], mood: Mood): Outcome[] {
    const outcomes: Outcome[] = [];
    for (const item of items) {
      if (isTroubled(mood)) break;
      const outcome = outcomeOf(item, 'well');
      outcomes.push(outcome.is === 'delivered' ? { is: 'delivered' } : outcome);
    }
    const waiting: Outcome = { is: 'retry', reason: 'the events before it were not taken', throttled: true };
    return items.map((_, index) => outcomes[index] ?? waiting);
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
