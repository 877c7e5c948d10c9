/**
 * Finds rule files, and reads them.
 *
 * A folder is searched to any depth for `*.rules`. Names that start with a dot are left out: a mounted ConfigMap keeps
 * its files a second time in such folders. A file that is reached by two ways counts once; links that lead back up end
 * there.
 */
import { constants } from 'node:fs';
import { access, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from '../files/errors.ts';
import { decodeRules } from './encoding.ts';
import type { RuleInfo } from './rule.ts';

/** Far beyond any rule set there is: 4,004 community rules are 2 MB. */
const MAX_FILE_BYTES = 64 << 20;

export interface Place {
  file: string;
  /** From 1. */
  line: number;
}

/** The key of a rule in a `RuleIndex`: `gid:sid`. */
export function ruleKey({ gid, sid }: { gid: number; sid: number }): string {
  return `${gid}:${sid}`;
}

/**
 * The file itself, or the rule files in a folder, sorted by path (by code units).
 * Rejects with an Error that names the path if it is missing, unreadable, neither file nor folder, or a folder without
 * rule files.
 */
export async function findRuleFiles(path: string): Promise<string[]> {
  const files = new Map<string, string>();
  await collect(path, { files, folders: new Set(), isRoot: true });
  if (files.size === 0) throw new Error(`no rule files (*.rules) in ${path}`);
  return [...files.values()].toSorted();
}

interface Search {
  /** Real path of a file to the path by which it was found first. */
  files: Map<string, string>;
  /** Real paths of the folders seen. */
  folders: Set<string>;
  isRoot: boolean;
}

async function collect(path: string, search: Search): Promise<void> {
  const { files, folders, isRoot } = search;
  const isRules = path.endsWith('.rules');
  let kind;
  try {
    kind = await stat(path);
  } catch (error) {
    // A link that leads nowhere, or round and round, hides no rules unless its name says so.
    if (!isRoot && !isRules && ['ENOENT', 'ELOOP'].includes(errorCode(error) ?? '')) return;
    throw unreadable(path, error);
  }
  try {
    const real = await realpath(path);
    if (kind.isDirectory()) {
      if (folders.has(real)) return;
      folders.add(real);
      const names = (await readdir(path)).filter((name) => !name.startsWith('.')).toSorted();
      for (const name of names) await collect(join(path, name), { files, folders, isRoot: false });
    } else if (kind.isFile()) {
      if (!isRoot && !isRules) return;
      await access(path, constants.R_OK);
      if (!files.has(real)) files.set(real, path);
    } else if (isRoot || isRules) {
      throw new RuleFileError(`cannot read rules from ${path}: neither a file nor a folder`);
    }
  } catch (error) {
    throw unreadable(path, error);
  }
}

export function place({ file, line, rev }: RuleInfo): Place & { rev: number } {
  return { file, line, rev };
}

/**
 * Its text, with line feeds only.
 * @throws Error that names a file that can't be read, is no text, or is larger than any list of rules.
 */
export async function readRuleFile(file: string): Promise<string> {
  try {
    const { size } = await stat(file);
    if (size > MAX_FILE_BYTES) {
      const megabytes = Math.round(size / (1 << 20));
      throw new RuleFileError(
        `cannot read rules from ${file}: ${megabytes} MB, at most ${MAX_FILE_BYTES >> 20} are read`,
      );
    }
    const decoded = decodeRules(await readFile(file));
    if ('problem' in decoded) throw new RuleFileError(`cannot read rules from ${file}: ${decoded.problem}`);
    return decoded.text;
  } catch (error) {
    throw unreadable(file, error);
  }
}

class RuleFileError extends Error {}

function unreadable(path: string, error: unknown): Error {
  if (error instanceof RuleFileError) return error;
  const reason = errorCode(error) ?? String(error);
  const text =
    { ENOENT: 'no such file or folder', EACCES: 'permission denied', ELOOP: 'links without end' }[reason] ?? reason;
  return new RuleFileError(`cannot read rules from ${path}: ${text}`, { cause: error });
}
