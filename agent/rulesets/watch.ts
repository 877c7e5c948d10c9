/**
 * Says when files may have changed: by inotify where it works, and by a look at them from time to time, as network file
 * systems and mounted ConfigMaps (a link that is swapped) tell nothing, or not all.
 *
 * A change is told once files have stayed the same for a moment: until then, somebody is writing. Where inotify told of
 * it, and of nothing more in that moment, one look is enough; else two are compared.
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

interface Watching {
  readonly options: Required<WatchOptions>;
  readonly folders: FolderWatch;
  /** What the files were when they were last told of, and what they are while they do not settle. */
  known: string | undefined;
  pending: string | undefined;
  /** The next look. */
  timer: NodeJS.Timeout | undefined;
  looking: boolean;
  /** It was due while a look was under way. */
  again: boolean;
  /** By inotify, since the last look began. */
  told: boolean;
  stopped: boolean;
}

/** @returns what ends it. */
export function watchFiles(options: WatchOptions): () => void {
  const watching: Watching = {
    options: { pollMillis: POLL_MILLIS, settleMillis: SETTLE_MILLIS, ...options },
    folders: watchFolders(() => {
      watching.told = true;
      schedule(watching, watching.options.settleMillis);
    }),
    known: undefined,
    pending: undefined,
    timer: undefined,
    looking: false,
    again: false,
    told: false,
    stopped: false,
  };
  void look(watching);
  return () => {
    watching.stopped = true;
    clearTimeout(watching.timer);
    watching.folders.follow([]);
  };
}

function schedule(watching: Watching, millis: number): void {
  if (watching.stopped) return;
  clearTimeout(watching.timer);
  watching.timer = setTimeout(() => void look(watching), millis);
  watching.timer.unref();
}

async function look(watching: Watching): Promise<void> {
  if (watching.looking) {
    watching.again = true;
    return;
  }
  watching.looking = true;
  const wasTold = watching.told;
  watching.told = false;
  const list = await watching.options.paths().catch(() => []);
  const now = await fingerprint(list);
  watching.looking = false;
  if (watching.stopped) return;
  // A file is watched by its folder: it may be replaced.
  watching.folders.follow([...list, ...list.map((path) => dirname(path))]);
  schedule(watching, compare(watching, now, wasTold && !watching.told));
  watching.again = false;
}

/**
 * @param isQuiet Nothing has happened for a moment before the look, nor since.
 * @returns after how many milliseconds to look again.
 */
function compare(watching: Watching, now: string, isQuiet: boolean): number {
  const { known, pending, again } = watching;
  const { changed, pollMillis, settleMillis } = watching.options;
  watching.pending = undefined;
  if (now === known) return again ? settleMillis : pollMillis;
  if (known === undefined || now === pending || isQuiet) {
    watching.known = now;
    changed();
    return pollMillis;
  }
  watching.pending = now;
  return settleMillis;
}

interface FolderWatch {
  /** These are watched from now on, and no others. */
  follow(folders: readonly string[]): void;
}

/** @param changed Something in one of them did. */
function watchFolders(changed: () => void): FolderWatch {
  const watchers = new Map<string, FSWatcher>();
  const unwatch = (folder: string): void => {
    watchers.get(folder)?.close();
    watchers.delete(folder);
  };
  return {
    follow(all) {
      const folders = new Set(all.slice(0, 2 * MAX_WATCHED));
      for (const folder of watchers.keys()) if (!folders.has(folder)) unwatch(folder);
      for (const folder of folders) {
        if (watchers.has(folder) || watchers.size >= MAX_WATCHED) continue;
        try {
          const watcher = watch(folder, { persistent: false }, changed);
          watcher.on('error', () => unwatch(folder));
          watchers.set(folder, watcher);
        } catch {
          // It is not there, or there are no more inotify watches: looks will tell.
        }
      }
    },
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
