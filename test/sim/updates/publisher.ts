/**
 * Who publishes a rule set: a new version from time to time, which is good, or of which something is wrong; and the way
 * to it, which fails as the run's script says.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { EngineRules } from '../../../agent/engine/rules.ts';
import { UpdateError } from '../../../agent/rulesets/fetch.ts';
import type { UpdateSystem } from '../../../agent/rulesets/update.ts';
import type { VersionFiles } from '../../../agent/rulesets/version-files.ts';
import type { VirtualClock } from '../clock.ts';

/**
 * `refused`: the engine does not load it. `blind`: it loads it and does not inspect by it. `page`: it is no rule set.
 */
export type Kind = 'good' | 'refused' | 'blind' | 'page';
/** `away`: no connection. `torn`: it ends too early. `slow`: minutes. */
export type Way = 'well' | 'away' | 'torn' | 'slow';
export const KINDS: readonly [Kind, ...Kind[]] = ['good', 'good', 'refused', 'blind', 'blind', 'page'];
export const WAYS: readonly [Way, ...Way[]] = ['well', 'well', 'away', 'torn', 'slow'];
const MINUTE = 60_000;

export interface Publisher {
  /** Of the newest version, from 1. */
  newest(): number;
  kindOf(version: number): Kind;
  publish(kind: Kind): void;
  way: Way;
  fetch: UpdateSystem['fetch'];
  unpack: UpdateSystem['unpack'];
}

/** What a file of a version says, by its name. */
export function filesOf(version: number): Record<string, string> {
  const rule = (sid: number): string => `alert tcp any any -> any any (msg:"version ${version}"; sid:${sid}; rev:1;)\n`;
  return { 'a.rules': rule(1), 'b.rules': rule(2).repeat(1 + (version % 3)) };
}

/** The version that a rule is of. */
export function versionOf(text: string): number | undefined {
  const found = /version (\d+)/.exec(text)?.[1];
  return found === undefined ? undefined : Number(found);
}

/** The version of the set in what an engine is given. */
export function inspectedBy({ files }: EngineRules): number | undefined {
  return files.map(({ text }) => versionOf(text)).find((version) => version !== undefined);
}

export function createPublisher(clock: VirtualClock, random: () => number, files: VersionFiles): Publisher {
  const kinds: Kind[] = [];
  const publisher: Publisher = {
    newest: () => kinds.length,
    kindOf: (version) => kinds[version - 1] ?? 'good',
    publish: (kind) => void kinds.push(kind),
    way: 'well',
    async fetch({ from }, file, known, signal) {
      const { way } = publisher;
      const version = kinds.length;
      await clock.wait(way === 'slow' ? random() * 10 * MINUTE : random() * 2000, signal);
      signal.throwIfAborted();
      if (way === 'away') throw new UpdateError(`${from}: no connection`);
      const etag = `"${version}"`;
      if (known.etag === etag) return { is: 'not modified' };
      const bytes = JSON.stringify({ version });
      await files.writeFile(file, way === 'torn' ? bytes.slice(0, 5) : bytes, { mode: 0o644 });
      if (way === 'torn') throw new UpdateError(`${from}: ended too early`);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      return { is: 'fetched', sha256, verified: 'none', etag };
    },
    async unpack(file, _name, directory) {
      const { version } = JSON.parse((await files.readFile(file)).toString()) as { version: number };
      if (publisher.kindOf(version) === 'page') return {};
      for (const [name, text] of Object.entries(filesOf(version))) {
        await files.writeFile(join(directory, name), text, { mode: 0o644 });
      }
      return {};
    },
  };
  return publisher;
}
