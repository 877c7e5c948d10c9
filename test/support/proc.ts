import { readlinkSync } from 'node:fs';

/** Why processes can't be looked at by their pids in /proc; undefined where they can. */
export const whyNoProc =
  readlinkSync('/proc/self') === String(process.pid) ? undefined : '/proc shows another pid namespace than this one';
