/** How long the campaign is, and the seed of its moments: from the environment, as scripts/faults.mjs sets it. */
import { seeded } from '../../support/random.ts';

export const SEED = Number(process.env['DPI_AGENT_TEST_FAULTS_SEED'] ?? 1);
export const IS_FULL = process.env['DPI_AGENT_TEST_FAULTS'] === 'full';
process.stderr.write(`faults: ${IS_FULL ? 'full' : 'short'} campaign, seed ${SEED}\n`);

/** The number for the short campaign, or for the full one. */
export const scaled = (short: number, full: number): number => (IS_FULL ? full : short);

/** Numbers 0..1, the same for the same seed and name. */
export function createRandom(name: string): () => number {
  return seeded(Buffer.from(name).reduce((hash, byte) => Math.imul(hash ^ byte, 16_777_619), SEED));
}

/** A line of the campaign's report. */
export function report(what: string, figures: Record<string, unknown>): void {
  const numbers = Object.entries(figures).filter(([, value]) => typeof value === 'number');
  process.stderr.write(`faults: ${what}: ${numbers.map(([name, value]) => `${String(value)} ${name}`).join(', ')}\n`);
}
