/**
 * Holds a pod's network namespace open, so that its path leads to it and to no other for as long as it is held: another
 * process, of another pod, may have the id of the one in /proc/<pid>/ns/net in a moment.
 */
import { closeSync, fstatSync, openSync, readlinkSync } from 'node:fs';
import type { Namespace } from './resolve/namespace.ts';

export interface HeldNamespace {
  /** For processes of the agent. */
  path: string;
  release(): void;
}

/** @throws Error when it is gone, or may not be opened. */
export function holdNamespace({ link, members: [pid] }: Namespace): HeldNamespace {
  const fd = openSync(`/proc/${pid}/ns/net`, 'r');
  if (`net:[${fstatSync(fd).ino}]` !== link) {
    closeSync(fd);
    throw new Error(`process ${pid} is no longer in the pod's network namespace`);
  }
  return { path: `/proc/${process.pid}/fd/${fd}`, release: () => closeSync(fd) };
}

/** Whether the process that led to it still does. */
export function isStillThere({ link, members: [pid] }: Namespace): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`) === link;
  } catch {
    return false;
  }
}
