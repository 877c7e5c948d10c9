/** How often something may happen: so many times at once, and then so many a second. */
export interface Pace {
  /** @returns whether it may happen now. */
  take(): boolean;
}

/** @param now Milliseconds. */
export function createPace(
  atOnce: number,
  perSecond: number,
  now: () => number = performance.now.bind(performance),
): Pace {
  let left = atOnce;
  let since = now();
  return {
    take() {
      const time = now();
      left = Math.min(atOnce, left + ((time - since) * perSecond) / 1000);
      since = time;
      if (left < 1) return false;
      left--;
      return true;
    },
  };
}
