/**
 * One rule as several for Suricata: it has one SID, and as many generator ids as copies, because Suricata takes a pair
 * of both once. Rules are made so by the translator; alerts get the rule's own generator id back when they are read.
 */

/** Generator ids of rules are below it: Snort's are below 1,000, and nobody's are so high. */
const STEP = 100_000_000;

/** The highest number of a copy, so that its generator id fits into 32 bits. */
const LAST_COPY = 41;

/** @param copy From 0, the rule itself, to `LAST_COPY`. `undefined` where the generator id is too high to be copied. */
export function copyGid(gid: number, copy: number): number | undefined {
  return gid < STEP && copy <= LAST_COPY ? gid + copy * STEP : undefined;
}

/** The rule's own generator id. */
export function originalGid(gid: number): number {
  return gid % STEP || gid;
}
