/**
 * Counts of pairs of numbers, in the order in which they were met. A table with open addressing: it is asked once for
 * each of a million alerts, and a Map takes ten times as long.
 */
const FIRST_CAPACITY = 1024;

export interface Pairs {
  /** @param kind Below the number of kinds. */
  add(one: number, other: number, kind: number): void;
  /** @returns each pair with its counts by kind. */
  all(): { one: number; other: number; counts: Uint32Array }[];
}

interface State {
  size: number;
  /** One more than the pair's number; 0: free. */
  places: Uint32Array;
  /** By the pair's number. */
  ones: Uint32Array;
  others: Uint32Array;
  counts: Uint32Array;
}

export function createPairs(kinds: number): Pairs {
  const state: State = { size: 0, ...columns(FIRST_CAPACITY, kinds) };
  return {
    add(one, other, kind) {
      const at = numberOf(state, one, other) * kinds + kind;
      state.counts[at] = (state.counts[at] ?? 0) + 1;
      if (state.size * 2 > state.places.length) enlarge(state, kinds);
    },
    all: () =>
      Array.from({ length: state.size }, (_, number) => ({
        one: state.ones[number] ?? 0,
        other: state.others[number] ?? 0,
        counts: state.counts.subarray(number * kinds, (number + 1) * kinds),
      })),
  };
}

function columns(capacity: number, kinds: number): Omit<State, 'size'> {
  const column = (length: number): Uint32Array => new Uint32Array(length);
  const pairs = capacity / 2 + 1;
  return { places: column(capacity), ones: column(pairs), others: column(pairs), counts: column(pairs * kinds) };
}

/** A new pair gets the next number. */
function numberOf(state: State, one: number, other: number): number {
  const { places, ones, others } = state;
  for (let place = placeOf(one, other, places.length); ; place = (place + 1) & (places.length - 1)) {
    const number = (places[place] ?? 0) - 1;
    if (number === -1) {
      state.size += 1;
      places[place] = state.size;
      ones[state.size - 1] = one;
      others[state.size - 1] = other;
      return state.size - 1;
    }
    if (ones[number] === one && others[number] === other) return number;
  }
}

function placeOf(one: number, other: number, capacity: number): number {
  const mixed = Math.imul(Math.imul(one, 0x9e3779b1) ^ other, 0x85ebca6b);
  return (mixed ^ (mixed >>> 15)) & (capacity - 1);
}

function enlarge(state: State, kinds: number): void {
  const { ones, others, counts, size } = state;
  const after = columns(state.places.length * 2, kinds);
  after.ones.set(ones);
  after.others.set(others);
  after.counts.set(counts);
  for (let number = 0; number < size; number += 1) {
    let place = placeOf(ones[number] ?? 0, others[number] ?? 0, after.places.length);
    while (after.places[place] !== 0) place = (place + 1) & (after.places.length - 1);
    after.places[place] = number + 1;
  }
  Object.assign(state, after);
}
