import { simulate } from './run.ts';

/** How to run again what failed. */
export async function brokenSeeds(from: number, until: number): Promise<string[]> {
  const broken = [];
  for (let seed = from; seed <= until; seed++) {
    const result = await simulate(seed);
    if (result.broken !== undefined) broken.push(`npm run test:sim -- --seed ${seed}    # ${result.broken}`);
  }
  return broken;
}
