/**
 * Packets that no capture process has seen: those that came while none had the interface open, or since the last report
 * of one that died. Only the kernel's own counters of the interface tell how many. They run a little ahead of what is
 * captured, so under load the number is an estimate; it becomes exact as soon as the interface is quiet for a second.
 *
 * An interface that has taken the place of another one of its name was made meanwhile: its counters began at 0, and all
 * that they have and nobody captured was missed.
 *
 * Not known: what passes an interface in a pod's own network namespace, and with a filter what was wanted of it; what
 * an interface had counted that is gone, since the last report.
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
  /** The next report is the first one. */
  forget: (id: string) => void;
}

interface Known {
  name: string;
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
    let entry = known.get(id);
    if (entry === undefined || entry.name !== seen.name || isReset(entry, seen)) {
      known.set(id, startingAt(seen));
      return 0;
    }
    if (entry.ifindex !== seen.ifindex) {
      entry = { ...startingAt({ ...seen, interface: 0, captured: 0 }), open: true };
      known.set(id, entry);
    }
    return update(entry, seen);
  }

  return {
    report,
    processEnded() {
      for (const entry of known.values()) {
        entry.before = entry.captured;
        entry.open = true;
      }
    },
    forget: (id) => void known.delete(id),
  };
}

/** Its counters began anew. */
function isReset(entry: Known, seen: Seen): boolean {
  return entry.ifindex === seen.ifindex && seen.interface < entry.interface;
}

function update(entry: Known, seen: Seen): number {
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

function startingAt({ name, ifindex, interface: counted, captured, openings }: Seen): Known {
  const offset = counted - captured;
  return { name, ifindex, interface: counted, captured, before: 0, unseen: 0, offset, open: false, openings };
}
