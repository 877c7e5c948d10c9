/** Times of packets: seconds and microseconds since 1970, clamped to 0..2^32-1 seconds. */
export interface Time {
  seconds: number;
  /** 0..999999. */
  micros: number;
}

/** Of an interface. */
export interface Clock {
  /** Ticks in a second. */
  perSecond: bigint;
  /** The same, if doubles compute its times without loss; 0 otherwise. */
  perSecondExact: number;
  /** Seconds to add to its times. */
  offset: number;
}

const MAX_SECONDS = 2 ** 32;

/** @param fraction Of a second, in `perMicro`ths of a microsecond; a damaged file's may be more than one. */
export function setTime(time: Time, seconds: number, fraction: number, perMicro: 1 | 1000): void {
  time.seconds = seconds;
  time.micros = perMicro === 1 ? fraction : Math.floor(fraction / perMicro);
  if (time.micros >= 1e6) carrySeconds(time);
}

/** From a time of 64 bits in the clock's ticks. */
export function setTimeOfTicks(time: Time, clock: Clock, high: number, low: number): void {
  const { perSecond, perSecondExact } = clock;
  if (perSecondExact === 1e6 && high < 1e6) {
    const ticks = high * 2 ** 32 + low;
    time.seconds = Math.floor(ticks / 1e6);
    time.micros = ticks - time.seconds * 1e6;
  } else if (perSecondExact > 0) {
    divide(time, perSecondExact, high, low);
  } else {
    const ticks = (BigInt(high) << 32n) | BigInt(low);
    time.seconds = Number(ticks / perSecond);
    time.micros = Number(((ticks % perSecond) * 1_000_000n) / perSecond);
  }
  time.seconds += clock.offset;
  if (time.seconds < 0 || time.seconds >= MAX_SECONDS) clamp(time);
}

/** Division by hand, 16 bits a step. */
function divide(time: Time, perSecond: number, high: number, low: number): void {
  let rest = 0;
  let seconds = 0;
  for (let step = 0; step < 4; step++) {
    const word = step < 2 ? high : low;
    rest = rest * 65_536 + (step % 2 === 0 ? word >>> 16 : word & 0xffff);
    const quotient = Math.floor(rest / perSecond);
    seconds = seconds * 65_536 + quotient;
    rest -= quotient * perSecond;
  }
  time.seconds = seconds;
  time.micros = Math.floor((rest * 1e6) / perSecond);
}

function carrySeconds(time: Time): void {
  time.seconds += Math.floor(time.micros / 1e6);
  time.micros %= 1e6;
  if (time.seconds >= MAX_SECONDS) clamp(time);
}

function clamp(time: Time): void {
  time.micros = time.seconds < 0 ? 0 : 999_999;
  time.seconds = time.seconds < 0 ? 0 : MAX_SECONDS - 1;
}
