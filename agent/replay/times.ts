/**
 * Times that engines can hold: Snort and Suricata have 31 bits for seconds, and make 1970 or a time before it of what
 * is beyond 2038. So a file's times are moved as a whole, and the times of its alerts are moved back.
 *
 * Not promised: that a flow goes on over a jump of decades within a file, or behind a year's capture across 2038.
 */

/** From here on, a year of capture might not fit: 2033. */
const LATEST_START = 2 ** 31 - 2 ** 27;
/** Time-outs of an hour and more are added to it: 2037. */
const LATEST = 2 ** 31 - 2 ** 24;
/** What is moved begins in 2004. */
const MOVED_TO = 2 ** 30;
/** Jumps out of the range, each over decades. What jumps more often has its times clamped. */
const MAX_MOVES = 65_536;

export interface Times {
  /** The time for an engine. @param record Number of the record that is given to it, rising. */
  give(seconds: number, record: number): number;
  /** Seconds that an alert's time lacks. @param record Undefined: of no record of its own. */
  lack(record: number | undefined): number;
}

/** Whether an engine can hold the time as it is. */
export function isOrdinary(seconds: number): boolean {
  return seconds >= 0 && seconds <= LATEST_START;
}

export function createTimes(): Times {
  const moves: { from: number; by: number }[] = [];
  let by = 0;
  let isFirst = true;

  function give(seconds: number, record: number): number {
    const fits = isFirst ? isOrdinary(seconds) : seconds - by >= 0 && seconds - by <= LATEST;
    isFirst = false;
    if (!fits && moves.length < MAX_MOVES) {
      by = isOrdinary(seconds) ? 0 : seconds - MOVED_TO;
      moves.push({ from: record, by });
    }
    return Math.min(Math.max(seconds - by, 0), LATEST);
  }

  return {
    give,
    lack: (record) => moves.findLast(({ from }) => record === undefined || from <= record)?.by ?? 0,
  };
}
