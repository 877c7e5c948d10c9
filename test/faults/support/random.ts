/** How long the campaign is, and the seed of its moments: from the environment, as scripts/faults.mjs sets it. */

export const SEED = Number(process.env['DPI_AGENT_TEST_FAULTS_SEED'] ?? 1);
export const IS_FULL = process.env['DPI_AGENT_TEST_FAULTS'] === 'full';
process.stderr.write(`faults: ${IS_FULL ? 'full' : 'short'} campaign, seed ${SEED}\n`);

/** The number for the short campaign, or for the full one. */
export const scaled = (short: number, full: number): number => (IS_FULL ? full : short);

/** Numbers from 0 to 1, the same for the same seed and name (mulberry32). */
export function createRandom(name: string): () => number {
  let state = Buffer.from(name).reduce((hash, byte) => Math.imul(hash ^ byte, 16_777_619), SEED);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A line of the campaign's report. */
export function report(what: string, figures: Record<string, unknown>): void {
  const numbers = Object.entries(figures).filter(([, value]) => typeof value === 'number');
  process.stderr.write(`faults: ${what}: ${numbers.map(([name, value]) => `${String(value)} ${name}`).join(', ')}\n`);
}
