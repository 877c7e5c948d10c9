/**
 * Of which pods both directions are seen: by resource for metrics and status, and by endpoint whether its packets pass
 * the interface in one direction only. Made of the capture's counters, which are compared from time to time.
 */
import type { Counters } from '../capture/protocol.ts';

/** What an endpoint was seen to do within the window. */
export interface EndpointCoverage {
  sending: boolean;
  receiving: boolean;
  /** Only what it sends, or receives, passes its interface, though its peers get answers: the rest goes another way. */
  oneWay?: 'sending' | 'receiving';
}

export interface ResourceCoverage {
  /** `<namespace>/<name>` */
  resource: string;
  selected: number;
  capturing: number;
  sending: number;
  receiving: number;
  both: number;
  /** Only one direction of their traffic passes their interfaces. */
  oneWay: number;
}

export interface Covered {
  endpoint: { id: string };
  state: { is: string };
  counters: Counters;
}

export interface Coverage {
  /** Compares the counters with those of before. @returns endpoints that are one-way from now on, or no longer. */
  update(endpoints: readonly Covered[]): { id: string; oneWay?: EndpointCoverage['oneWay'] }[];
  /** It is captured elsewhere from now on: counts until the next comparison say nothing of what is seen there. */
  forget(endpointId: string): void;
  of(endpointId: string): EndpointCoverage;
}

/** One flow might have lost its other half to a full ring that nobody noticed. */
const MIN_FLOWS = 2;

interface Known {
  counters: Counters;
  /** On the clock of `now`; of flows, one time each. */
  sentAt: number;
  receivedAt: number;
  sentOnly: number[];
  receivedOnly: number[];
  oneWay: EndpointCoverage['oneWay'];
  /** Since the last comparison. */
  isForgotten?: true;
}

interface State {
  readonly windowMillis: number;
  readonly now: () => number;
  /** By the endpoint's id. */
  readonly known: Map<string, Known>;
}

/** @param now Monotonic, in milliseconds. */
export function createCoverage(windowMillis: number, now: () => number = () => performance.now()): Coverage {
  const known = new Map<string, Known>();
  const state: State = { windowMillis, now, known };
  return {
    update: (endpoints) => update(state, endpoints),
    forget(endpointId) {
      const entry = known.get(endpointId);
      if (entry !== undefined) known.set(endpointId, { ...fresh(entry.counters), isForgotten: true });
    },
    of: (endpointId) => coverageOf(state, endpointId),
  };
}

function update({ windowMillis, now, known }: State, endpoints: readonly Covered[]): ReturnType<Coverage['update']> {
  const time = now();
  const ids = new Set(endpoints.map(({ endpoint }) => endpoint.id));
  for (const id of known.keys()) if (!ids.has(id)) known.delete(id);
  const changes: ReturnType<Coverage['update']> = [];
  for (const { endpoint, counters } of endpoints) {
    const entry = known.get(endpoint.id) ?? fresh(counters);
    known.set(endpoint.id, entry);
    if (entry.isForgotten === true) {
      known.set(endpoint.id, { ...fresh(counters), counters: { ...counters } });
      continue;
    }
    compare(entry, counters, time);
    const oneWay = oneWayOf(entry, time, windowMillis);
    if (oneWay === entry.oneWay) continue;
    entry.oneWay = oneWay;
    changes.push({ id: endpoint.id, ...(oneWay === undefined ? {} : { oneWay }) });
  }
  return changes;
}

function compare(entry: Known, counters: Counters, time: number): void {
  const more = (name: keyof Counters): number => Math.max(0, counters[name] - entry.counters[name]);
  if (more('sentSeconds') > 0) entry.sentAt = time;
  if (more('receivedSeconds') > 0) entry.receivedAt = time;
  // What is missing of a flow may be among the packets that its ring had no room for. What the kernel drops at the
  // interface says nothing of that: a frame of a protocol that nobody on the node wants counts there too.
  if (more('droppedKernel') === 0) {
    note(entry.sentOnly, more('flowsSentOnly'), time);
    note(entry.receivedOnly, more('flowsReceivedOnly'), time);
  }
  entry.counters = { ...counters };
}

/** Not more than decide. */
function note(times: number[], count: number, time: number): void {
  for (let index = 0; index < Math.min(count, MIN_FLOWS); index++) times.push(time);
  times.splice(0, times.length - MIN_FLOWS);
}

/** Two flows say so first, then one is enough for it to last. */
function oneWayOf(
  { sentOnly, receivedOnly, oneWay }: Known,
  time: number,
  windowMillis: number,
): EndpointCoverage['oneWay'] {
  const shows = (times: number[], direction: EndpointCoverage['oneWay']): boolean =>
    times.filter((at) => time - at <= windowMillis).length >= (oneWay === direction ? 1 : MIN_FLOWS);
  return shows(sentOnly, 'sending') ? 'sending' : shows(receivedOnly, 'receiving') ? 'receiving' : undefined;
}

function coverageOf({ windowMillis, now, known }: State, endpointId: string): EndpointCoverage {
  const entry = known.get(endpointId);
  if (entry === undefined) return { sending: false, receiving: false };
  const since = now() - windowMillis;
  const { oneWay } = entry;
  return {
    sending: entry.sentAt >= since,
    receiving: entry.receivedAt >= since,
    ...(oneWay === undefined ? {} : { oneWay }),
  };
}

/** Of an endpoint that is new, all that was counted is news. */
function fresh(counters: Counters): Known {
  const zeros = Object.fromEntries(Object.keys(counters).map((name) => [name, 0])) as unknown as Counters;
  return {
    counters: zeros,
    sentAt: -Infinity,
    receivedAt: -Infinity,
    sentOnly: [],
    receivedOnly: [],
    oneWay: undefined,
  };
}

/**
 * @param selected The pods that each resource selects on this node, captured or not, by its key.
 * @returns one for each resource, by its key.
 */
export function coverResources(
  selected: ReadonlyMap<string, readonly string[]>,
  endpoints: readonly { endpoint: { id: string }; state: { is: string }; coverage: EndpointCoverage }[],
): ResourceCoverage[] {
  const byId = new Map(endpoints.map((entry) => [entry.endpoint.id, entry]));
  return [...selected]
    .map(([resource, pods]): ResourceCoverage => {
      const captured = pods.flatMap((pod) => byId.get(pod) ?? []);
      const count = (test: (entry: (typeof captured)[number]) => boolean): number => captured.filter(test).length;
      return {
        resource,
        selected: pods.length,
        capturing: count(({ state }) => state.is === 'capturing'),
        sending: count(({ coverage }) => coverage.sending),
        receiving: count(({ coverage }) => coverage.receiving),
        both: count(({ coverage }) => coverage.sending && coverage.receiving),
        oneWay: count(({ coverage }) => coverage.oneWay !== undefined),
      };
    })
    .sort((a, b) => a.resource.localeCompare(b.resource));
}
