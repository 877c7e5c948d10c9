/**
 * Says when files may have changed: by inotify where it works, and by a look at them from time to time, as network file systems and mounted
 * ConfigMaps (a link that is swapped) tell nothing, or not all.
 *
 * A change is told once files have stayed the same for a moment: until then, somebody is writing.
 */
import { watch, type FSWatcher } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

const POLL_MILLIS = 10_000;
const SETTLE_MILLIS = 300;
/** Folders that are watched; further ones are only looked at. */
const MAX_WATCHED = 256;

export interface WatchOptions {
  /** Files and folders that matter now; those that are not there matter too. */
  paths: () => Promise<string[]>;
  /** Called after the first look, as files may have changed before it, and for each change from then on. */
  changed: () => void;
  pollMillis?: number;
  settleMillis?: number;
}

/** @returns what ends it. */
export function watchFiles({
  paths,
  changed,
  pollMillis = POLL_MILLIS,
  settleMillis = SETTLE_MILLIS,
}: WatchOptions): () => void {
  const watchers = new Map<string, FSWatcher>();
  let known: string | undefined;
  let pending: string | undefined;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let looking = false;
  let again = false;

  function schedule(millis: number): void {
    if (stopped) return;
    clearTimeout(timer);
    timer = setTimeout(() => void look(), millis);
    timer.unref();
  }

  async function look(): Promise<void> {
    if (looking) {
      again = true;
      return;
    }
    looking = true;
    const list = await paths().catch(() => []);
    const now = await fingerprint(list);
    follow(list);
    looking = false;
    if (stopped) return;
    if (now === known) {
      pending = undefined;
      schedule(again ? settleMillis : pollMillis);
    } else if (known === undefined || now === pending) {
      known = now;
      pending = undefined;
      changed();
      schedule(pollMillis);
    } else {
      pending = now;
      schedule(settleMillis);
    }
    again = false;
  }

  /** A file is watched by its folder: it may be replaced. */
  function follow(list: readonly string[]): void {
    const folders = new Set([...list, ...list.map((path) => dirname(path))].slice(0, 2 * MAX_WATCHED));
    for (const [folder, watcher] of watchers) {
      if (folders.has(folder)) continue;
      watcher.close();
      watchers.delete(folder);
    }
    for (const folder of folders) {
      if (stopped || watchers.has(folder) || watchers.size >= MAX_WATCHED) continue;
      try {
        const watcher = watch(folder, { persistent: false }, () => schedule(settleMillis));
        watcher.on('error', () => {
          watcher.close();
          watchers.delete(folder);
        });
        watchers.set(folder, watcher);
      } catch {
        // It is not there, or there are no more inotify watches: looks will tell.
      }
    }
  }

  void look();
  return () => {
    stopped = true;
    clearTimeout(timer);
    for (const watcher of watchers.values()) watcher.close();
  };
}

/** What tells one state of some files from another without reading them. */
async function fingerprint(list: readonly string[]): Promise<string> {
  const parts = await Promise.all(
    list.map(async (path) => {
      try {
        const [{ ino, size, mtimeMs, ctimeMs }, real] = await Promise.all([stat(path), realpath(path)]);
        return `${path} ${real} ${ino} ${size} ${mtimeMs} ${ctimeMs}`;
      } catch {
        return `${path} -`;
      }
    }),
  );
  return parts.join('\n');
}
