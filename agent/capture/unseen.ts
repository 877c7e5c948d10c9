/**
 * Packets that no capture process has seen: those that came while none had the interface open, or since the last report
 * of one that died. Only the kernel's own counters of the interface tell how many. They run a little ahead of what is
 * captured, so under load the number is an estimate; it becomes exact as soon as the interface is quiet for a second.
 *
 * Not known: what passes an interface in a pod's own network namespace, and with a filter what was wanted of it.
 */
import type { Seen } from './protocol.ts';

export interface Unseen {
  /**
   * Of each report of a process.
   * @returns packets that nobody has seen, beyond those that were told before; fewer than 0 where those were too many.
   */
  report(id: string, seen: Seen): number;
  /** What was captured is counted from 0 again. */
  processEnded(): void;
  attached(id: string, ifindex: number): void;
  forget(id: string): void;
}

interface Known {
  ifindex: number;
  /** Of the last report: the interface's counter, and what all processes together had captured. */
  interface: number;
  captured: number;
  /** Captured, and unseen, before the process that reports now. */
  before: number;
  unseen: number;
  /** What the interface had counted when nothing was captured; exact when it was quiet then. */
  offset: number;
  /** A process has ended or opened the interface anew, and what nobody saw is not known yet, or not exactly. */
  open: boolean;
  openings: number;
}

export function watchUnseen(): Unseen {
  const known = new Map<string, Known>();

  function report(id: string, seen: Seen): number {
    const entry = known.get(id);
    if (entry === undefined || entry.interface < 0 || seen.interface < entry.interface) {
      known.set(id, fresh(entry?.ifindex ?? 0, seen));
      return 0;
    }
    if (seen.openings !== entry.openings) entry.open = true;
    entry.openings = seen.openings;
    const isQuiet = entry.interface === seen.interface && entry.before + seen.captured === entry.captured;
    const before = entry.unseen;
    entry.interface = seen.interface;
    entry.captured = entry.before + seen.captured;
    const offset = entry.interface - entry.captured - entry.unseen;
    if (!entry.open) {
      if (isQuiet) entry.offset = offset;
      return 0;
    }
    entry.unseen = Math.max(0, entry.unseen + offset - entry.offset);
    if (isQuiet) entry.open = false;
    return entry.unseen - before;
  }

  return {
    report,
    processEnded() {
      for (const entry of known.values()) {
        entry.before = entry.captured;
        entry.open = true;
      }
    },
    attached(id, ifindex) {
      const entry = known.get(id);
      if (entry !== undefined && entry.ifindex !== 0 && entry.ifindex !== ifindex) known.delete(id);
      const now = known.get(id);
      if (now !== undefined) now.ifindex = ifindex;
      else known.set(id, { ...fresh(ifindex, { interface: -1, captured: 0, openings: 0 }) });
    },
    forget: (id) => void known.delete(id),
  };
}

function fresh(ifindex: number, seen: Seen): Known {
  return {
    ifindex,
    interface: seen.interface,
    captured: seen.captured,
    before: 0,
    unseen: 0,
    offset: seen.interface - seen.captured,
    open: false,
    openings: seen.openings,
  };
}
