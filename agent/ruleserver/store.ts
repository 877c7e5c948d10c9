/**
 * The versions that a rule server serves, on its disk.
 *
 *     <directory>/state.json               by set: its versions, and how far each is rolled out; replaced in one step
 *     <directory>/files/<sha256>.tar.gz    what is in them
 *
 * Of a set, two versions are kept: the one to be rolled out and the last one that was proven, or where that is the same
 * the one before. A state that can't be read is as if it were not there: what nodes have then proves it again.
 */
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { replaceFile } from '../files/replace.ts';
import { DIGEST } from '../rulesets/served.ts';
import { SET_NAME } from '../rulesets/sets.ts';
import { nameOf, packVersion } from './pack.ts';
import { versionOf, type ServedVersion, type SetVersions } from './rollout.ts';

const KEPT_VERSIONS = 2;

const digest = z.string().regex(DIGEST);
const storedState = z.record(
  z.string().regex(SET_NAME),
  z.object({
    target: digest,
    proven: digest.exactOptional(),
    versions: z.array(
      z.object({
        digest,
        version: z.string(),
        bytes: z.int(),
        rules: z.int(),
        engines: z.array(
          z.object({
            name: z.enum(['snort', 'suricata']),
            version: z.string(),
            problem: z.string().exactOptional(),
          }),
        ),
        since: z.string(),
        state: z.enum(['new', 'proven', 'stopped']),
        node: z.string().exactOptional(),
        reason: z.string().exactOptional(),
        provers: z.array(z.string()),
      }),
    ),
  }),
);

export interface Store {
  readonly sets: Map<string, SetVersions>;
  /** Makes a version the one to be rolled out. @param directory Its files. */
  publish(
    set: string,
    directory: string,
    about: Pick<ServedVersion, 'version' | 'rules' | 'engines' | 'since'>,
  ): Promise<ServedVersion>;
  /** The set is at a version that was published before. @returns false where that is not kept. */
  aim(set: string, version: string): Promise<boolean>;
  /** Writes down what changed. */
  save(): Promise<void>;
  /** Of what is served; undefined: there is none of this digest. */
  fileOf(digest: string): string | undefined;
}

/** @param served Sets of the configuration; others are forgotten. @throws the system's error. */
export async function openStore(directory: string, served: readonly string[]): Promise<Store> {
  const files = join(directory, 'files');
  await mkdir(files, { recursive: true, mode: 0o755 });
  const sets = await readState(join(directory, 'state.json'), served, new Set(await readdir(files)));
  let saving = Promise.resolve();
  const save = (): Promise<void> => {
    const text = `${JSON.stringify(Object.fromEntries(sets), null, 2)}\n`;
    return (saving = saving.catch(() => undefined).then(() => replaceFile(join(directory, 'state.json'), text, 0o644)));
  };
  const isServed = (wanted: string): boolean =>
    [...sets.values()].some((each) => versionOf(each, wanted) !== undefined);
  const keepTwo = async (versions: SetVersions): Promise<void> => {
    versions.versions = kept(versions);
    await save();
    for (const name of await readdir(files)) {
      const isNeeded = isServed(name.replace(/\.tar\.gz$/, ''));
      if (!isNeeded) await rm(join(files, name), { force: true });
    }
  };
  return {
    sets,
    async publish(set, from, about) {
      const { digest: packed, bytes } = await packVersion(from, files);
      const versions = sets.get(set) ?? { target: packed, versions: [] };
      const known = versionOf(versions, packed);
      const version: ServedVersion = known ?? { digest: packed, bytes, state: 'new', provers: [], ...about };
      // Its name is that of the folder that it is in now.
      version.version = about.version;
      versions.target = packed;
      versions.versions = [...versions.versions.filter((each) => each !== version), version];
      sets.set(set, versions);
      await keepTwo(versions);
      return version;
    },
    async aim(set, name) {
      const versions = sets.get(set);
      const found = versions?.versions.find((each) => each.version === name);
      if (versions === undefined || found === undefined) return false;
      if (versions.target === found.digest) return true;
      // Nodes have it already, and what was stopped is still to be told.
      if (versions.proven === found.digest && versionOf(versions, versions.target)?.state === 'stopped') return true;
      versions.target = found.digest;
      if (found.state === 'proven') versions.proven = found.digest;
      await keepTwo(versions);
      return true;
    },
    save,
    fileOf: (wanted) => (isServed(wanted) ? join(files, nameOf(wanted)) : undefined),
  };
}

async function readState(
  file: string,
  served: readonly string[],
  files: ReadonlySet<string>,
): Promise<Map<string, SetVersions>> {
  try {
    const state = storedState.parse(JSON.parse(await readFile(file, 'utf8')));
    return new Map(
      Object.entries(state).filter(
        ([set, { target, proven, versions }]) =>
          served.includes(set) &&
          [target, ...(proven === undefined ? [] : [proven])].every((each) =>
            versions.some((v) => v.digest === each),
          ) &&
          versions.every((version) => files.has(nameOf(version.digest))),
      ),
    );
  } catch {
    return new Map();
  }
}

/** In the order that they have. */
function kept({ target, proven, versions }: SetVersions): ServedVersion[] {
  const needed = new Set([target, ...(proven === undefined ? [] : [proven])]);
  for (const { digest: other } of versions.toReversed()) if (needed.size < KEPT_VERSIONS) needed.add(other);
  return versions.filter((version) => needed.has(version.digest));
}
