/**
 * The project's own native code (native/capture.c): mechanics that Node has no call for. It is built once for a machine
 * by scripts/native.mjs, and stays good over versions of Node, because it uses Node-API only.
 */
import { existsSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { CALLS, whyNotLoaded, whyNotLoadedMeanwhile } from '../native/load.mjs';
import { messageOf } from './files/errors.ts';

export { whyNotLoaded };

export const EMPTY = 0;
export const FAILED = 2;

/** Every call throws an Error that says what is wrong, unless it says otherwise. */
export interface Native {
  /**
   * Opens a ring of packets on an interface.
   * @param netns Path of its network namespace; empty: this process's own.
   * @param snaplen Bytes of a packet, up to 262,144.
   * @param size Bytes of the ring.
   * @param timeout Milliseconds after which the kernel gives a block that is not full.
   * @param filter BPF expression; empty: all packets.
   * @param before Slot of a ring on the same interface. When the promise resolves, that one gets no further packet;
   *   each is in one of the two, and all in it were captured before those of this one. -1: none.
   * @returns slot: its number in the other calls; link: a DLT.
   */
  open(
    device: string,
    netns: string,
    snaplen: number,
    size: number,
    timeout: number,
    promiscuous: boolean,
    filter: string,
    before: number,
  ): Promise<{ slot: number; link: number; ifindex: number }>;
  /**
   * Copies packets from a ring to `arena` in [from, to), each as a pcap record: seconds, microseconds, captured and
   * original length (32 bits each, of this machine's byte order), `room` free bytes, the frame. Stops where another one
   * of the greatest length would not fit.
   * @param state 8 bytes: set to how many there are, and to EMPTY, FAILED, or 1 when there may be more.
   * @returns where they end.
   */
  fill(slot: number, arena: Buffer, from: number, to: number, packets: number, room: number, state: Uint8Array): number;
  /**
   * Sets three doubles: packets that the kernel had for the ring, those of them that it dropped, those that `fill` has
   * given.
   */
  statistics(slot: number, out: Uint8Array): void;
  /** It gets no further packet. */
  mute(slot: number): void;
  close(slot: number): Promise<unknown>;
  /**
   * Calls back when a ring has packets or has failed, once until `rearm`. In the result, the bytes of such slots are 1.
   * To be called once.
   */
  wake(callback: () => void): Buffer;
  rearm(slot: number): void;
  /** Memory for `fill` and `splice`, up to 256 MiB. */
  arena(bytes: number): Buffer;
  /** Gives such memory other pages, of zeros. What a FIFO was given stays there as it was. */
  renew(arena: Buffer): void;
  /**
   * Gives bytes to a FIFO without a copy: they must stay as they are until they were read.
   * @returns how many it took, or a negative errno.
   */
  splice(fd: number, arena: Buffer, from: number, to: number): number;
  /** Bytes in a FIFO that were not read. */
  pending(fd: number): number;
  /** Gives a FIFO room for so many bytes, where that is allowed. @returns what it has. */
  widen(fd: number, bytes: number): number;
  makeFifo(path: string, mode: number): void;
  /** How late timers of this thread, and of children that it starts from now on, may be. @returns what it was. */
  timerSlack(nanoseconds: number): number;
}

export type Loaded =
  /** `file`: which file it is; another one, or one that was changed, is known by another text. */
  { native: Native; file: string } | { native: undefined; file: undefined; reason: string };

/** A FIFO's room that Linux lets anybody ask for (fs.pipe-max-size). */
export const FIFO_BYTES = 1 << 20;

/** What mends a native part that can't be loaded. */
export const REBUILD = 'npm run setup';

/** Beside this file in dist/, or in dist/ where the sources themselves run. */
const PLACES = ['../native/capture.node', '../dist/native/capture.node'];

let loaded: Loaded | undefined;
let loading: Promise<Loaded> | undefined;

/**
 * The first call takes a tenth of a second, because another process is asked whether the file can be loaded: one that
 * is damaged ends the process that loads it.
 * @param asked The `file` that the process which started this one has loaded: it is loaded without a question.
 */
export function loadNative(asked?: string): Loaded {
  loaded ??= load((path, file) => (file === asked ? undefined : whyNotLoaded(path, { calls: CALLS })));
  return loaded;
}

/** The same, while this process does other things. */
export function loadNativeMeanwhile(): Promise<Loaded> {
  return (loading ??= askMeanwhile());
}

async function askMeanwhile(): Promise<Loaded> {
  const path = placeOf();
  const reason =
    path === undefined || loaded !== undefined ? undefined : await whyNotLoadedMeanwhile(path, { calls: CALLS });
  return (loaded ??= load(() => reason));
}

function load(whyNot: (path: string, file: string) => string | undefined): Loaded {
  const path = placeOf();
  if (path === undefined) return { native: undefined, file: undefined, reason: 'it is not built' };
  try {
    const file = identityOf(path);
    const reason = whyNot(path, file);
    if (reason !== undefined) return { native: undefined, file: undefined, reason };
    const module = { exports: {} };
    process.dlopen(module, path, constants.dlopen.RTLD_NOW);
    return { native: module.exports as Native, file };
  } catch (error) {
    return { native: undefined, file: undefined, reason: messageOf(error) };
  }
}

const placeOf = (): string | undefined =>
  PLACES.map((place) => fileURLToPath(new URL(place, import.meta.url))).find(existsSync);

function identityOf(path: string): string {
  const { dev, ino, size, mtimeMs, ctimeMs } = statSync(path);
  return [dev, ino, size, mtimeMs, ctimeMs].join(' ');
}
