/**
 * What is kept of the packets of a turn, before they are changed for the engine.
 *
 * Records that follow each other are copied together, and what turns out to be encrypted bulk is taken back; then fewer
 * are copied together. Of a record that is large only the first bytes are copied until that is known.
 *
 * Copying all of an endpoint's bulk would cost 5 % of what its inspection does. So of its large records those up to a
 * rate are kept whole, after a burst, and of those beyond it the beginnings.
 */
import type { Keep } from '../../endpoints/endpoint.ts';
import type { Arena } from '../arena.ts';
import { linkTypeFromDlt } from '../frame/link.ts';
import { RECORD_HEADER } from '../record.ts';
import { createLayer, firstLayer, readLayer } from './layers.ts';
import type { Kind, RecentMemory } from './memory.ts';

/** A record of so many captured bytes is large. */
const LARGE_BYTES = 8192;
/** A smaller one that is encrypted is kept whole up to so many, and beyond that as many of it as of a large one. */
const WHOLE_BYTES = 1024;
const FIRST_BYTES = 256;
/** Of a large one beyond the rate. */
const BEGINNING_BYTES = 1024;
/** Whole ones of an endpoint that was quiet. */
const BURST_BYTES = 16 << 20;
const VLAN_IDS = 4096;
/** Copied together. */
const TOGETHER_BYTES = 64 * 1024;
const TOGETHER_RECORDS = 256;
/** Of a frame without IP, where only headers are kept. */
const LINK_BYTES = 14;
const MAX_LAYERS = 4;

export interface Keeper {
  /** The records of another turn come. */
  begin(): void;
  /** There are no more of them. */
  end(): void;
  /**
   * Before the record at `at` is changed.
   * @param to Where the records of the turn end.
   * @param alone Whether those behind it may turn out not to be wanted.
   */
  keep(kind: Kind, how: Keep, at: number, to: number, alone: boolean): void;
  /** It is given to the engine, or could be: all of it is kept, if it is. @param start Where its frame begins. */
  passed(vlan: number, start: number, captured: number): void;
  /** It is kept from the engine, or part of it is. */
  shunted(at: number): void;
}

interface State {
  readonly memory: RecentMemory;
  readonly source: Buffer;
  readonly view: DataView;
  /** The records that were copied together, and where they are in memory. */
  from: number;
  to: number;
  copied: number;
  /** Of the records: see Kind. */
  room: number;
  /** Only the beginning of the last record was copied. */
  isPart: boolean;
  /** How many are copied together next. */
  most: number;
  readonly allowances: Allowances;
}

/** Of large records that are kept whole, by VLAN id. */
interface Allowances {
  /** Bytes a millisecond. */
  readonly rate: number;
  readonly left: Float64Array;
  /** When that was so, on the clock of performance.now(). */
  readonly since: Float64Array;
  now: number;
}

/**
 * @param source The arena that turns are read into.
 * @param rate Bytes a second of each endpoint's large records that are kept whole.
 * @param now Milliseconds.
 */
export function createKeeper(
  memory: RecentMemory,
  { bytes: source, view }: Pick<Arena, 'bytes' | 'view'>,
  rate: number,
  now: () => number = performance.now.bind(performance),
): Keeper {
  const state: State = {
    memory,
    source,
    view,
    from: 0,
    to: 0,
    copied: 0,
    room: 0,
    isPart: false,
    most: TOGETHER_RECORDS,
    allowances: {
      rate: rate / 1000,
      left: new Float64Array(VLAN_IDS).fill(BURST_BYTES),
      since: new Float64Array(VLAN_IDS),
      now: 0,
    },
  };
  return {
    begin() {
      state.from = state.to = 0;
      state.isPart = false;
      state.allowances.now = now();
    },
    end: () => memory.settle(),
    keep(kind, how, at, to, alone) {
      if (at < state.to && at >= state.from) return;
      state.isPart = false;
      state.from = at;
      state.to = 0;
      state.room = kind.room;
      if (how === 'headers') keepHeaders(state, kind, at);
      else if (how === 'full') keepAll(state, kind, at, to, alone ? 1 : state.most);
    },
    passed(vlan, start, captured) {
      if (state.isPart) memory.addRest(source, start, allowed(state.allowances, vlan, captured));
      state.isPart = false;
      if (state.most < TOGETHER_RECORDS) state.most *= 2;
    },
    shunted: (at) => takeBack(state, at),
  };
}

/** How many of these bytes are kept. */
function allowed({ rate, left, since, now }: Allowances, vlan: number, captured: number): number {
  const room = Math.min(BURST_BYTES, (left[vlan] ?? 0) + (now - (since[vlan] ?? 0)) * rate);
  since[vlan] = now;
  left[vlan] = room < captured ? room : room - captured;
  return room < captured ? BEGINNING_BYTES : captured;
}

function keepAll(state: State, kind: Kind, at: number, to: number, most: number): void {
  const { memory, source, view } = state;
  const captured = view.getUint32(at + 8, true);
  if (captured > LARGE_BYTES) {
    memory.addHead(kind, source, at, captured, FIRST_BYTES);
    state.isPart = true;
    return;
  }
  state.to = endOfRun(view, kind, at, to, most);
  state.copied = memory.addAll(kind, source, at, state.to);
}

/** Up to a large one, and to what is copied together. */
function endOfRun(view: DataView, { room }: Kind, at: number, to: number, most: number): number {
  const head = RECORD_HEADER + room;
  let end = at + head + view.getUint32(at + 8, true);
  for (let count = 1; count < most && end < to; count++) {
    const captured = view.getUint32(end + 8, true);
    if (captured > LARGE_BYTES || end + head + captured - at > TOGETHER_BYTES) break;
    end += head + captured;
  }
  return end;
}

function takeBack(state: State, at: number): void {
  const { memory, view, from, to, copied, room } = state;
  state.isPart = false;
  const captured = view.getUint32(at + 8, true);
  if (at < from || at >= to || captured <= WHOLE_BYTES) return;
  memory.shorten(copied + at - from, FIRST_BYTES);
  // What is behind it is copied once more.
  state.to = at + RECORD_HEADER + room + captured;
  state.from = state.to;
  state.most = 1;
}

function keepHeaders({ memory, source, view }: State, kind: Kind, at: number): void {
  const first = at + RECORD_HEADER + kind.room;
  const captured = view.getUint32(at + 8, true);
  memory.addHead(kind, source, at, captured, headerBytes(source, first, first + captured, kind.link));
}

const layer = createLayer();

/** Up to the innermost payload that can be told. */
function headerBytes(source: Buffer, start: number, end: number, dlt: number): number {
  const link = linkTypeFromDlt(dlt);
  let at = link === undefined ? -1 : firstLayer(source, start, end, link);
  let payload = Math.min(end, start + LINK_BYTES);
  for (let count = 0; at >= 0 && count < MAX_LAYERS && readLayer(layer, source, at, end); count++) {
    ({ payload } = layer);
    at = layer.inner;
  }
  return Math.min(payload, end) - start;
}
