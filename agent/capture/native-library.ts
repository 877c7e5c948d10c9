/** Packets by our own native part: see agent/native.ts. */
import { EMPTY, FAILED, loadNative, type Native } from '../native.ts';
import { filterOn, type Library, type LibraryOptions, type OpenOptions, type Ring, type Statistics } from './ring.ts';

interface NativeRing extends Ring {
  readonly slot: number;
}

/** @throws Error when it can't be loaded. */
export function createNativeLibrary(options: LibraryOptions): Library {
  const loaded = loadNative();
  if (loaded.native === undefined) throw new Error(`the native capture cannot be loaded: ${loaded.reason}`);
  const { native } = loaded;
  const ready = native.wake(options.ready);
  return {
    name: 'native',
    replaces: true,
    entersNamespaces: true,
    async open(open) {
      const before = open.before === undefined ? -1 : (open.before as NativeRing).slot;
      const { snaplen, promiscuous, filter } = options;
      const opened = await native.open(
        open.interface,
        open.netns ?? '',
        snaplen,
        open.size,
        open.timeoutMillis,
        promiscuous,
        filterOn(open.interface, filter),
        before,
      );
      return createRing(native, ready, opened, open);
    },
    deadRings: () => 0,
  };
}

function createRing(
  native: Native,
  readySlots: Buffer,
  { slot, link, ifindex }: { slot: number; link: number; ifindex: number },
  { size }: OpenOptions,
): NativeRing {
  const state = new Uint32Array(2);
  const stateBytes = Buffer.from(state.buffer);
  const counts = new Float64Array(3);
  const countBytes = Buffer.from(counts.buffer);
  const statistics: Statistics = { received: 0, dropped: 0, delivered: 0 };
  return {
    slot,
    link,
    ifindex,
    size,
    openings: 1,
    get ready() {
      return readySlots[slot] === 1;
    },
    get empty() {
      return state[1] === EMPTY;
    },
    get failed() {
      return state[1] === FAILED;
    },
    fill: (arena, from, to, packets, room) => native.fill(slot, arena, from, to, packets, room, stateBytes),
    rearm() {
      readySlots[slot] = 0;
      native.rearm(slot);
    },
    statistics() {
      native.statistics(slot, countBytes);
      [statistics.received = 0, statistics.dropped = 0, statistics.delivered = 0] = counts;
      return statistics;
    },
    mute: () => native.mute(slot),
    close: () => native.close(slot),
  };
}
