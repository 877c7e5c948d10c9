/**
 * The ledger of packets: whether what came in is all accounted for, checked again and again from the counters.
 *
 * 1. `received = forwarded + shunted + dropped + unsupported + in the ring`, for each endpoint. A ring is read in
 *    order, so what was received before `WINDOW_MILLIS` must be accounted for by now, and nothing may be accounted for
 *    that was not received by now.
 * 2. `handed = analysed + in flight`, for each generation of an engine. What was handed to the FIFO before a canary
 *    that came back has been analysed; the engine's next report but one must say so. Without canaries this side is not
 *    checked.
 *
 * Not checkable: what lay in the FIFO and in an engine when it died, and what the kernel did not show to the socket.
 * Nor what an engine analysed between its last report and a change of its rules: Snort begins to count anew then, so
 * what is missing in the first reports after it is let pass.
 */

/** No packet is in a ring for so long. */
const WINDOW_MILLIS = 60_000;
/** Checks in a row that must find a gap: counters of two processes are not of one moment. */
const PERSISTS = 2;
const MAX_SAMPLES = 256;
/** Reports after a change of the rules: one may have been under way, and the next but one says what a canary proves. */
const REPORTS_AFTER_RELOAD = 3;

export interface EndpointCount {
  id: string;
  lane: string;
  received: number;
  /** Forwarded, dropped and unsupported. */
  accounted: number;
}

export interface EngineCount {
  lane: string;
  generation: string;
  /** Records handed to the engine's FIFO, as last counted. */
  handed: number;
  /** Of them, as last reported by the engine. */
  analysed: number;
  /** How often the rules were changed in place. */
  reloads: number;
  /** When the last canary that came back was sent, on the clock of `now`; undefined: none did. */
  provenAt?: number | undefined;
}

export interface Ledger {
  /** @param now Milliseconds, monotonic. */
  check(now: number, endpoints: EndpointCount[], engines: EngineCount[]): void;
  /** Packets of each lane that a gap which persists says nothing of. */
  unaccounted(): Map<string, number>;
}

export type Side = 'ring' | 'engine';

interface LaneState {
  generation: string;
  analysed: number;
  /** `handed` at earlier checks; of those before `provenAt`, the last only. */
  samples: { at: number; handed: number }[];
  /** What was analysed when the engine reported last, as the canaries tell. */
  proven: number;
  reloads: number;
  /** Reports that are still let pass, and what was missing in those that were. */
  passing: number;
  passed: number;
}

interface State {
  readonly changed: (lane: string, side: Side, packets: number) => void;
  /** Earlier checks of the endpoints, from `WINDOW_MILLIS` ago on. */
  history: { at: number; counts: Map<string, EndpointCount> }[];
  readonly lanes: Map<string, LaneState>;
  /** By lane and side: how often in a row, and how many packets. */
  readonly gaps: Map<string, { lane: string; side: Side; times: number; packets: number }>;
}

/** @param changed Called when a gap opens, with its packets, and when it closes, with 0. */
export function createLedger(changed: (lane: string, side: Side, packets: number) => void): Ledger {
  const state: State = { changed, history: [], lanes: new Map(), gaps: new Map() };
  return {
    check(now, endpoints, engines) {
      checkRings(state, now, endpoints);
      for (const engine of engines) checkEngine(state, now, engine);
    },
    unaccounted() {
      const byLane = new Map<string, number>();
      for (const { lane, times, packets } of state.gaps.values())
        if (times >= PERSISTS) byLane.set(lane, (byLane.get(lane) ?? 0) + packets);
      return byLane;
    },
  };
}

function checkRings(state: State, now: number, endpoints: EndpointCount[]): void {
  const { history, gaps } = state;
  const oldest = history.findLast(({ at }) => now - at >= WINDOW_MILLIS);
  const byLane = new Map<string, number>(
    [...gaps.values()].flatMap(({ lane, side }) => (side === 'ring' ? [[lane, 0] as const] : [])),
  );
  for (const { id, lane, received, accounted } of endpoints) {
    const before = oldest?.counts.get(id);
    const sum = byLane.get(lane) ?? 0;
    // One that was attached again counts from 0.
    const comparable = before !== undefined && before.received <= received && before.accounted <= accounted;
    const missing = comparable ? Math.max(0, before.received - accounted) : 0;
    const surplus = comparable ? Math.max(0, before.accounted - received) : 0;
    byLane.set(lane, sum + missing + surplus);
  }
  for (const [lane, packets] of byLane) note(state, lane, 'ring', packets);
  state.history = history.slice(oldest === undefined ? 0 : history.indexOf(oldest));
  state.history.push({ at: now, counts: new Map(endpoints.map((count) => [count.id, count])) });
}

function checkEngine(state: State, now: number, count: EngineCount): void {
  const { handed, analysed, reloads } = count;
  const lane = laneOf(state, count);
  if (reloads !== lane.reloads) {
    lane.reloads = reloads;
    lane.passing = REPORTS_AFTER_RELOAD;
  }
  if (analysed !== lane.analysed) checkReport(state, lane, count);
  lane.samples.push({ at: now, handed });
  if (lane.samples.length > MAX_SAMPLES) lane.samples.shift();
}

/** What is known of the lane's engine; a new one begins anew. */
function laneOf(state: State, { lane, generation, analysed, reloads }: EngineCount): LaneState {
  const known = state.lanes.get(lane);
  if (known?.generation === generation) return known;
  const fresh = { generation, analysed, samples: [], proven: 0, reloads, passing: 0, passed: 0 };
  state.lanes.set(lane, fresh);
  note(state, lane, 'engine', 0);
  return fresh;
}

/** The engine has reported. */
function checkReport(state: State, lane: LaneState, { lane: name, handed, analysed, provenAt }: EngineCount): void {
  const { samples } = lane;
  const missing = lane.proven - analysed;
  if (lane.passing > 0) {
    lane.passing--;
    lane.passed = Math.max(lane.passed, missing);
  }
  note(state, name, 'engine', Math.max(0, missing - lane.passed, lane.analysed - handed));
  lane.analysed = analysed;
  if (provenAt === undefined) return;
  const last = samples.findLastIndex(({ at }) => at < provenAt);
  samples.splice(0, last);
  if (last >= 0) lane.proven = samples[0]?.handed ?? 0;
}

function note({ gaps, changed }: State, lane: string, side: Side, packets: number): void {
  const key = `${side} ${lane}`;
  const before = gaps.get(key);
  if (packets === 0) {
    gaps.delete(key);
    if (before !== undefined && before.times >= PERSISTS) changed(lane, side, 0);
    return;
  }
  const times = (before?.times ?? 0) + 1;
  gaps.set(key, { lane, side, times, packets });
  if (times === PERSISTS) changed(lane, side, packets);
}
