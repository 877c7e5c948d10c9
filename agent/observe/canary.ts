/**
 * The canary of a lane: a frame of the agent's own that goes the whole way of a packet, capture process → FIFO → engine → alert file →
 * reader, at each interval. Its alert is the proof that the lane inspects. It stands for nothing else: no count, no event.
 *
 * A frame that is not back when the next one is due, or that nobody took, is missed. After `MAX_MISSED` in a row the lane is missing until
 * one returns, however late. While a proof is under way no other frame is sent, and none missed.
 */
import { canaryPayload, type Returned } from '../engine/canary.ts';

/** Misses in a row that make a lane unready. */
const MAX_MISSED = 3;
/** Frames whose way is timed; an older one that returns is a success without a latency. */
const MAX_TIMED = 256;
/** Between two frames of a proof: an engine that reloads takes up its rules when a packet comes. */
const PROOF_MILLIS = 100;

export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Milliseconds since the Unix epoch. */
  wall(): number;
  /** @returns what takes the call back. */
  after(millis: number, call: () => void): () => void;
}

export interface CanaryOptions {
  /** 0: none is sent but for proofs. */
  intervalMillis: number;
  inject(number: number, payload: string): void;
  /** One returned, after so many seconds. */
  returned(seconds: number): void;
  /** Frames return no longer, or again. */
  changed(status: CanaryStatus): void;
  clock?: Clock;
}

export interface CanaryStatus {
  /** `waiting`: none was sent yet. `missing`: the lane does not inspect, as far as the canary tells. */
  is: 'off' | 'waiting' | 'alive' | 'missing';
  missed: number;
  /** Milliseconds since the Unix epoch. */
  lastSuccess?: number;
  /** Of the last one that returned. */
  lastSeconds?: number;
  /** When that one was sent, on the monotonic clock: what went in before it has been inspected. */
  provenAt?: number;
}

export interface Canary {
  /** The engine reads packets, with rules whose canary has this token. */
  started(token: string): void;
  /** What became of a frame on its way to the engine. */
  injected(number: number, accepted: 'accepted' | 'queue-full' | 'closed'): void;
  /** Its alert was read. */
  returned(alert: Returned): void;
  /**
   * Whether rules whose canary has `token` inspect, within so many milliseconds. From then on, frames have this token. Packets flow meanwhile, so
   * an engine that reloads is not stuck for want of one. Proofs come one after the other.
   * `given`: gives it up.
   */
  prove(token: string, timeoutMillis: number, given?: AbortSignal): Promise<boolean>;
  status(): CanaryStatus;
  stop(): void;
}

const SYSTEM: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after(millis, call) {
    const timer = setTimeout(call, millis);
    return () => clearTimeout(timer);
  },
};

export function createCanary(options: CanaryOptions): Canary {
  const { intervalMillis, clock = SYSTEM } = options;
  /** Of the rules that inspect. */
  let current: string | undefined;
  let number = 0;
  const sentAt = new Map<number, number>();
  /** The last one, while it is neither back nor missed. */
  let awaited: number | undefined;
  let missed = 0;
  let missedInARow = 0;
  let last: { wall: number; seconds?: number; provenAt?: number } | undefined;
  let proof: { token: string; settle(proven: boolean): void } | undefined;
  let proofs: Promise<unknown> = Promise.resolve();
  let cancel = (): void => undefined;
  let stopped = false;

  function send(token: string): number {
    number++;
    sentAt.set(number, clock.now());
    for (const oldest of sentAt.keys()) {
      if (sentAt.size <= MAX_TIMED) break;
      sentAt.delete(oldest);
    }
    const sent = number;
    options.inject(sent, canaryPayload(token, sent));
    return sent;
  }

  /** Sends one, and another after each interval. */
  function beat(): void {
    cancel();
    if (awaited !== undefined) miss();
    if (stopped || proof !== undefined || current === undefined || intervalMillis === 0) return;
    // Set before it is sent: it may be refused at once.
    awaited = number + 1;
    send(current);
    cancel = clock.after(intervalMillis, beat);
  }

  function miss(): void {
    awaited = undefined;
    missed++;
    missedInARow++;
    if (missedInARow === MAX_MISSED) options.changed(status());
  }

  function succeed(sent: number): void {
    const at = sentAt.get(sent);
    sentAt.delete(sent);
    last = { wall: clock.wall() };
    if (at !== undefined) {
      last.seconds = (clock.now() - at) / 1000;
      last.provenAt = at;
      options.returned(last.seconds);
    }
    if (awaited !== undefined && sent >= awaited) awaited = undefined;
    const wasMissing = missedInARow >= MAX_MISSED;
    missedInARow = 0;
    if (wasMissing) options.changed(status());
  }

  function status(): CanaryStatus {
    const is =
      intervalMillis === 0
        ? 'off'
        : missedInARow >= MAX_MISSED
          ? 'missing'
          : last === undefined && missed === 0
            ? 'waiting'
            : 'alive';
    return {
      is,
      missed,
      ...(last === undefined ? {} : { lastSuccess: last.wall }),
      ...(last?.seconds === undefined ? {} : { lastSeconds: last.seconds }),
      ...(last?.provenAt === undefined ? {} : { provenAt: last.provenAt }),
    };
  }

  function runProof(token: string, timeoutMillis: number, given?: AbortSignal): Promise<boolean> {
    if (stopped || given?.aborted === true) return Promise.resolve(false);
    cancel();
    awaited = undefined;
    const end = clock.now() + timeoutMillis;
    return new Promise((resolve) => {
      const again = (): void => {
        const left = end - clock.now();
        if (left <= 0) return proof?.settle(false);
        send(token);
        cancel = clock.after(Math.min(PROOF_MILLIS, left), again);
      };
      proof = {
        token,
        settle(proven) {
          proof = undefined;
          cancel();
          given?.removeEventListener('abort', giveUp);
          if (proven) current = token;
          resolve(proven);
          beat();
        },
      };
      const giveUp = (): void => proof?.settle(false);
      given?.addEventListener('abort', giveUp, { once: true });
      again();
    });
  }

  return {
    started(token) {
      current = token;
      if (proof === undefined) beat();
      else proof.settle(false);
    },
    injected(which, accepted) {
      if (which === awaited && accepted !== 'accepted') miss();
    },
    returned(alert) {
      if (alert === 'other') return;
      const isProof = alert.token === proof?.token;
      if (!isProof && alert.token !== current) return;
      succeed(alert.number);
      if (isProof) proof?.settle(true);
    },
    prove(token, timeoutMillis, given) {
      const result = proofs.then(() => runProof(token, timeoutMillis, given));
      proofs = result;
      return result;
    },
    status,
    stop() {
      stopped = true;
      proof?.settle(false);
      cancel();
    },
  };
}
