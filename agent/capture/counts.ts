/**
 * What an endpoint's capture processes counted, one after the other. What died with a process, or came while none had
 * the interface open, is told by the interface's own counters (unseen.ts).
 */
import type { Handed } from './output.ts';
import { addCounters, inRingOf, zeroCounters, type Counters, type Report } from './protocol.ts';
import { watchUnseen } from './unseen.ts';

export interface Counts {
  /** Of the process that runs. @param attached Reports of other endpoints are late. */
  report(report: Report, attached: Pick<ReadonlySet<string>, 'has'>): void;
  /** Another process goes on in the middle of the FIFO. */
  handedOver: (handed: Handed) => void;
  /**
   * What it had counted stays; what lay in its rings died with it, and what comes until another one captures is unseen.
   */
  processEnded(): void;
  /** It is captured on other interfaces from now on, of which what came before is not wanted. */
  goesOver(id: string): void;
  /** As last reported. */
  total(id: string): Counters;
  forget(id: string): void;
  /** Records in a FIFO so far, or in the queue before it; undefined before the first report. */
  handed: (path: string) => number | undefined;
}

export function createCounts(): Counts {
  /** By processes that have ended. */
  const before = new Map<string, Counters>();
  const latest = new Map<string, Counters>();
  const unseen = watchUnseen();
  const handed = countHanded();

  function addUnseen(id: string, packets: number): void {
    const sum = before.get(id) ?? zeroCounters();
    sum.received += packets;
    sum.droppedCaptureDied += packets;
    before.set(id, sum);
  }

  return {
    report({ counters: reported, seen, handed: records }, attached) {
      for (const [id, counters] of Object.entries(reported)) {
        if (!attached.has(id)) continue;
        latest.set(id, counters);
        const found = seen[id];
        const packets = found === undefined ? 0 : unseen.report(id, found);
        if (packets !== 0) addUnseen(id, packets);
      }
      if (records !== undefined) handed.report(records);
    },
    handedOver: handed.handedOver,
    processEnded() {
      for (const [id, counters] of latest) {
        const sum = addCounters(before.get(id) ?? zeroCounters(), counters);
        sum.droppedCaptureDied += inRingOf(counters);
        before.set(id, sum);
      }
      latest.clear();
      unseen.processEnded();
    },
    goesOver: unseen.forget,
    total(id) {
      const sum = zeroCounters();
      for (const part of [before.get(id), latest.get(id)]) if (part !== undefined) addCounters(sum, part);
      return sum;
    },
    forget(id) {
      before.delete(id);
      latest.delete(id);
      unseen.forget(id);
    },
    handed: handed.of,
  };
}

interface HandedCounts {
  report: (handed: Handed) => void;
  handedOver: (handed: Handed) => void;
  of: (path: string) => number | undefined;
}

/** Of the FIFO that is open: by processes that handed it over, and by the one that runs. */
function countHanded(): HandedCounts {
  let current: { path: string; before: number; latest: number } | undefined;
  const at = (path: string): NonNullable<typeof current> => {
    if (current?.path !== path) current = { path, before: 0, latest: 0 };
    return current;
  };
  return {
    report({ path, records }) {
      at(path).latest = records;
    },
    handedOver({ path, records }) {
      const sum = at(path);
      sum.before += records;
      sum.latest = 0;
    },
    of: (path) => (current?.path === path ? current.before + current.latest : undefined),
  };
}
