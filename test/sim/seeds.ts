import { PARTS, type Part } from './parts.ts';

/** How to run again what failed. */
export async function brokenSeeds(part: Part, from: number, until: number): Promise<string[]> {
  const broken = [];
  for (let seed = from; seed <= until; seed++) {
    const result = await PARTS[part](seed);
    if (result.broken !== undefined)
      broken.push(`npm run test:sim -- --part ${part} --seed ${seed}    # ${result.broken}`);
  }
  return broken;
}
