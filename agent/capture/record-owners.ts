/**
 * Which endpoint's packet each record of an engine's input was: Suricata's alerts of what is in a tunnel bear the
 * record's number, and none of the VLAN ids around the tunnel.
 *
 * Bounded: of records that follow each other, those of one endpoint are one entry, and the oldest entries are
 * forgotten.
 */

/** At some thousand turns of rings a second, those of half a minute. */
const MAX_RANGES = 131_072;
/** Of these the last are passed on where the process ends: what the engine has not said yet when its input ends. */
const MAX_PASSED_ON = 16_384;

/** The beginnings of ranges of records, from 1, and the VLAN ids of their endpoints. */
export interface Ranges {
  firsts: number[];
  vlans: number[];
}

/** The end of what a process has written to a FIFO. */
export interface PassedOn {
  path: string;
  /** How many records it has written. */
  records: number;
  ranges: Ranges;
}

export interface RecordOwners {
  /** The records from this one on, up to the next call's, are of the endpoint with this id. Numbers rise. */
  note(first: number, vlan: number): void;
  /** The VLAN id of the record's endpoint; undefined: it is forgotten, or was never there. */
  of(record: number): number | undefined;
  /** The latest. */
  latest(): Ranges;
}

export function createRecordOwners(): RecordOwners {
  const firsts = new Float64Array(MAX_RANGES);
  const vlans = new Uint16Array(MAX_RANGES);
  /** Ranges so far: the last is at `count - 1`, modulo the size. */
  let count = 0;
  let current = -1;

  function note(first: number, vlan: number): void {
    if (vlan === current) return;
    current = vlan;
    firsts[count % MAX_RANGES] = first;
    vlans[count % MAX_RANGES] = vlan;
    count++;
  }

  function latest(): Ranges {
    const ranges: Ranges = { firsts: [], vlans: [] };
    for (let at = Math.max(0, count - MAX_PASSED_ON); at < count; at++) {
      ranges.firsts.push(firsts[at % MAX_RANGES] ?? 0);
      ranges.vlans.push(vlans[at % MAX_RANGES] ?? 0);
    }
    return ranges;
  }

  return {
    note,
    of: (record) =>
      find(record, Math.max(0, count - MAX_RANGES), count, (at) => firsts[at % MAX_RANGES], vlans, MAX_RANGES),
    latest,
  };
}

/** Of ranges that another process has passed on. */
export function ownerIn({ firsts, vlans }: Ranges, record: number): number | undefined {
  return find(record, 0, firsts.length, (at) => firsts[at], vlans, Infinity);
}

/** The id of the last range in [low, high) that begins at the record or before it. */
function find(
  record: number,
  low: number,
  high: number,
  first: (at: number) => number | undefined,
  vlans: ArrayLike<number>,
  size: number,
): number | undefined {
  const begin = low;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if ((first(middle) ?? Infinity) <= record) low = middle + 1;
    else high = middle;
  }
  return low === begin ? undefined : vlans[(low - 1) % size];
}
