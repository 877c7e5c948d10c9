/**
 * Proves that an engine inspects: a frame of the agent's own goes the whole way of a packet, capture process → FIFO →
 * engine → alert file → reader, at each interval, and its alert is the proof. It stands for nothing else: no count, no
 * event. Other rules inspect only once a frame that they alone fire on has come back.
 *
 * A frame that is not back when the next one is due, or that nobody took, is missed. While a proof of other rules is
 * under way no other frame is sent, and none missed.
 */
import { canaryPayload, type Returned } from './canary.ts';

/** Frames whose way is timed; an older one that returns is a success without a latency. */
const MAX_TIMED = 256;
/** Between two frames of a proof: an engine that reloads takes up its rules when a packet comes. */
const PROOF_MILLIS = 100;

export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** @returns what takes the call back. */
  after(millis: number, call: () => void): () => void;
}

/** A frame's way, as far as it is remembered. */
export interface Way {
  /** Milliseconds, monotonic: what went in before it has been inspected. */
  sentAt: number;
  seconds: number;
}

export interface ProverOptions {
  /** 0: no frame is sent but for proofs. */
  intervalMillis: number;
  inject(number: number, payload: string): void;
  /** A frame came back. */
  returned(way: Way | undefined): void;
  missed(): void;
  clock?: Clock;
}

export interface Prover {
  /** The engine reads packets, with rules whose canary has this token. */
  started(token: string): void;
  /** What became of a frame on its way to the engine. */
  injected(number: number, accepted: 'accepted' | 'queue-full' | 'closed'): void;
  /** Its alert was read. */
  returned(alert: Returned): void;
  /**
   * Whether rules whose canary has `token` inspect, within so many milliseconds. From then on, frames have this token.
   * Packets flow meanwhile, so an engine that reloads is not stuck for want of one. Proofs come one after the other.
   */
  prove(token: string, timeoutMillis: number, giveUp?: AbortSignal): Promise<boolean>;
  stop(): void;
}

const SYSTEM: Clock = {
  now: () => performance.now(),
  after(millis, call) {
    const timer = setTimeout(call, millis);
    return () => clearTimeout(timer);
  },
};

interface Proof {
  token: string;
  settle(proven: boolean): void;
}

interface ProverState {
  readonly options: ProverOptions;
  readonly clock: Clock;
  /** Of the rules that inspect. */
  token: string | undefined;
  /** Of the last frame. */
  number: number;
  /** By the frame's number. */
  readonly sentAt: Map<number, number>;
  /** The last frame, while it is neither back nor missed. */
  awaited: number | undefined;
  proof: Proof | undefined;
  /** Settles with the last proof that was asked for. */
  proofs: Promise<unknown>;
  /** Takes the next frame back. */
  cancel: () => void;
  stopped: boolean;
}

export function createProver(options: ProverOptions): Prover {
  const state: ProverState = {
    options,
    clock: options.clock ?? SYSTEM,
    token: undefined,
    number: 0,
    sentAt: new Map(),
    awaited: undefined,
    proof: undefined,
    proofs: Promise.resolve(),
    cancel: () => undefined,
    stopped: false,
  };
  return {
    started: (token) => start(state, token),
    injected(number, accepted) {
      if (number === state.awaited && accepted !== 'accepted') miss(state);
    },
    returned: (alert) => takeBack(state, alert),
    prove(token, timeoutMillis, giveUp) {
      const result = state.proofs.then(() => prove(state, token, timeoutMillis, giveUp));
      state.proofs = result;
      return result;
    },
    stop() {
      state.stopped = true;
      state.proof?.settle(false);
      state.cancel();
    },
  };
}

function start(state: ProverState, token: string): void {
  state.token = token;
  if (state.proof === undefined) beat(state);
  else state.proof.settle(false);
}

/** Sends a frame, and another after each interval. */
function beat(state: ProverState): void {
  const { options, clock } = state;
  state.cancel();
  if (state.awaited !== undefined) miss(state);
  if (state.stopped || state.proof !== undefined || state.token === undefined || options.intervalMillis === 0) return;
  // Set before it is sent: it may be refused at once.
  state.awaited = state.number + 1;
  send(state, state.token);
  state.cancel = clock.after(options.intervalMillis, () => beat(state));
}

function send(state: ProverState, token: string): void {
  const { options, clock, sentAt } = state;
  const number = ++state.number;
  sentAt.set(number, clock.now());
  for (const oldest of sentAt.keys()) {
    if (sentAt.size <= MAX_TIMED) break;
    sentAt.delete(oldest);
  }
  options.inject(number, canaryPayload(token, number));
}

function miss(state: ProverState): void {
  state.awaited = undefined;
  state.options.missed();
}

function takeBack(state: ProverState, alert: Returned): void {
  if (alert === 'other') return;
  const isProof = alert.token === state.proof?.token;
  if (!isProof && alert.token !== state.token) return;
  if (state.awaited !== undefined && alert.number >= state.awaited) state.awaited = undefined;
  state.options.returned(wayOf(state, alert.number));
  if (isProof) state.proof?.settle(true);
}

/** It is forgotten with that. */
function wayOf({ sentAt, clock }: ProverState, number: number): Way | undefined {
  const at = sentAt.get(number);
  sentAt.delete(number);
  return at === undefined ? undefined : { sentAt: at, seconds: (clock.now() - at) / 1000 };
}

function prove(state: ProverState, token: string, timeoutMillis: number, giveUp?: AbortSignal): Promise<boolean> {
  if (state.stopped || giveUp?.aborted === true) return Promise.resolve(false);
  state.cancel();
  state.awaited = undefined;
  return new Promise((resolve) => {
    const onAbort = (): void => state.proof?.settle(false);
    state.proof = {
      token,
      settle(proven) {
        state.proof = undefined;
        state.cancel();
        giveUp?.removeEventListener('abort', onAbort);
        if (proven) state.token = token;
        resolve(proven);
        beat(state);
      },
    };
    giveUp?.addEventListener('abort', onAbort, { once: true });
    sendUntil(state, token, state.clock.now() + timeoutMillis);
  });
}

/** Sends frames of the proof that is under way. @param end On the monotonic clock. */
function sendUntil(state: ProverState, token: string, end: number): void {
  const left = end - state.clock.now();
  if (left <= 0) return state.proof?.settle(false);
  send(state, token);
  state.cancel = state.clock.after(Math.min(PROOF_MILLIS, left), () => sendUntil(state, token, end));
}
