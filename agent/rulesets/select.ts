/** Which rule files an engine gets: the built-in sets by name, and the operator's paths. */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { EngineName } from '../engine/engine.ts';
import { findRuleFiles } from './files.ts';

/** rules/ of the package, from agent/rulesets/ as well as from dist/agent/rulesets/. */
function builtInDirectory(): string {
  const places = ['../../rules/', '../../../rules/'].map((up) => fileURLToPath(new URL(up, import.meta.url)));
  return places.find((path) => existsSync(join(path, 'kubernetes'))) ?? places[0] ?? 'rules';
}

/**
 * @param sets Names of built-in sets.
 * @param paths Files and folders; in a folder, files called `snort.rules` or `….snort.rules` are Snort's only, and likewise for Suricata.
 * @throws Error that names a set or path that does not exist, and the ones that do.
 */
export async function selectRuleFiles(
  sets: readonly string[],
  paths: readonly string[],
  engine: EngineName,
): Promise<string[]> {
  const directory = builtInDirectory();
  const files: string[] = [];
  for (const set of sets) {
    const file = join(directory, set, `${engine}.rules`);
    if (!existsSync(file)) {
      const known = (await readdir(directory).catch(() => [])).filter((name) =>
        existsSync(join(directory, name, `${engine}.rules`)),
      );
      throw new Error(
        `ruleSets: there is no built-in rule set ${set} for ${engine}; there is: ${known.join(', ') || 'none'}`,
      );
    }
    files.push(file);
  }
  for (const path of paths) {
    const found = await findRuleFiles(path);
    files.push(...found.filter((file) => file === path || isFor(file, engine)));
  }
  return [...new Set(files)];
}

function isFor(file: string, engine: EngineName): boolean {
  const owner = /(?:^|\.)(snort|suricata)\.rules$/.exec(basename(file))?.[1];
  return owner === undefined || owner === engine;
}
