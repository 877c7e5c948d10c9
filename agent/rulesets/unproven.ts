/**
 * Versions of rule sets that went live and are not proven yet: `.unproven.json` beside a set's versions names the one,
 * the one before, and the process that is about to prove it. It is on the disk before the link leads to the version,
 * and goes when the version is proven or gone again.
 *
 * A process that ended in between has proven nothing: the next one goes back to the version before, and the source
 * brings the new one again. So an update happened whole, or not at all.
 *
 * Not promised: the same of versions that nobody was to prove, as those of `dpi-agent rules update`.
 */
import { basename, join } from 'node:path';
import type { Logger } from 'pino';
import { errorCode, messageOf } from '../files/errors.ts';
import { identityOf, runningPid } from '../files/process.ts';
import { isRecord } from '../files/record.ts';
import { replaceFile, syncDirectory } from '../files/replace.ts';
import { nodeVersionFiles, pointTo, removeLink, versionsOf, type VersionFiles } from './version-files.ts';

const UNPROVEN_FILE = '.unproven.json';

interface Unproven {
  version: string;
  /** What the link led to; absent where there was none. */
  before?: string;
  /** Of the process, by files/process.ts. */
  prover: string;
}

/** Before the set's link leads to it. @param before What that leads to now. */
export async function noteUnproven(
  versions: string,
  version: string,
  before: string | undefined,
  files: VersionFiles,
): Promise<void> {
  // What is undefined is left out.
  const note = JSON.stringify({ version, before, prover: identityOf(process.pid) });
  await replaceFile(join(versions, UNPROVEN_FILE), `${note}\n`, 0o644, files);
}

/** The version is proven, or is gone; on the disk when it resolves. */
export async function forgetUnproven(versions: string, files: VersionFiles): Promise<void> {
  await files.rm(join(versions, UNPROVEN_FILE), { force: true });
  await syncDirectory(versions, files);
}

/**
 * Goes back from each version that was left unproven; before anything reads the rules. What can't be gone back from is
 * logged and stays.
 */
export async function leaveUnproven(
  rulesDirectory: string,
  log: Pick<Logger, 'warn' | 'error'>,
  files: VersionFiles = nodeVersionFiles,
  isRunning: (identity: string) => boolean = (identity) => runningPid(identity) !== undefined,
): Promise<void> {
  for (const set of await setsIn(join(rulesDirectory, '.versions'), files)) {
    const versions = versionsOf(rulesDirectory, set);
    try {
      const left = await readUnproven(versions, files);
      if (left === undefined || isRunning(left.prover)) continue;
      const { version, before } = left;
      if (await goBack(join(rulesDirectory, set), left, files))
        log.warn({ set, version, before }, 'rule source: its last version was never proven, the one before is back');
      await forgetUnproven(versions, files);
    } catch (error) {
      log.error(
        { set, reason: messageOf(error) },
        'rule source: its last version was never proven, and cannot be left',
      );
    }
  }
}

async function setsIn(directory: string, files: VersionFiles): Promise<string[]> {
  const entries = await files.readdir(directory, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

/** Undefined where there is none. @throws the system's error. */
async function readUnproven(versions: string, files: VersionFiles): Promise<Unproven | undefined> {
  try {
    const value: unknown = JSON.parse((await files.readFile(join(versions, UNPROVEN_FILE))).toString());
    return isRecord(value) && typeof value['version'] === 'string' ? (value as unknown as Unproven) : undefined;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** @returns false where the set is at another version by now, or there is none to go back to. */
async function goBack(link: string, { version, before }: Unproven, files: VersionFiles): Promise<boolean> {
  const target = await files.readlink(link).catch(() => undefined);
  if (target === undefined || basename(target) !== version) return false;
  if (before === undefined) await removeLink(link, files);
  else if (await isFolder(join(link, '..', before), files)) await pointTo(link, before, files);
  else return false;
  await files.rm(join(link, '..', target), { recursive: true, force: true });
  return true;
}

async function isFolder(path: string, files: VersionFiles): Promise<boolean> {
  return files.readdir(path, { withFileTypes: true }).then(
    () => true,
    () => false,
  );
}
