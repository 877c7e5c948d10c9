/**
 * Asks a capture process whose records were, by their numbers in an engine's input; what it no longer can say, the
 * process has passed on at its end (record-owners.ts). Numbers go on over processes that handed over to each other.
 *
 * Not promised: an answer about what a process that died has written.
 */
import type { ToCapture } from './protocol.ts';
import { ownerIn, type PassedOn } from './record-owners.ts';

const ANSWER_MILLIS = 2_000;
/** The FIFO in use, and the one before, of which alerts may still be read. */
const KEPT_PATHS = 2;

export interface OwnerQueries {
  /** VLAN ids of the records' endpoints; undefined: nobody knows. */
  ask(path: string, records: readonly number[]): Promise<(number | undefined)[]>;
  /** 0: the process does not know. */
  answered(query: number, vlans: readonly number[]): void;
  /** A process ends, and another one goes on behind what it has written, if any. */
  passedOn(passed: PassedOn): void;
  /** What was asked is answered by what the process has passed on. */
  processEnded(): void;
}

interface Query {
  path: string;
  records: readonly number[];
  resolve: (vlans: (number | undefined)[]) => void;
}

/** @param send @returns whether there is a process. */
export function createOwnerQueries(send: (message: ToCapture) => boolean): OwnerQueries {
  const open = new Map<number, Query>();
  /** Of each FIFO, records of the processes before the one that writes to it. */
  const before = new Map<string, number>();
  let last: (PassedOn & { before: number }) | undefined;
  let queries = 0;

  function passedOwner(path: string, record: number): number | undefined {
    if (last === undefined || last.path !== path) return undefined;
    const number = record - last.before;
    return number > last.records ? undefined : ownerIn(last.ranges, number);
  }

  function ask(path: string, records: readonly number[]): Promise<(number | undefined)[]> {
    const query = ++queries;
    const skipped = before.get(path) ?? 0;
    return new Promise((resolve) => {
      const timer = setTimeout(() => giveUp(query), ANSWER_MILLIS);
      open.set(query, {
        path,
        records,
        resolve(vlans) {
          clearTimeout(timer);
          open.delete(query);
          resolve(vlans);
        },
      });
      if (!send({ type: 'whose', query, path, records: records.map((record) => record - skipped) })) giveUp(query);
    });
  }

  function giveUp(query: number): void {
    answered(query, []);
  }

  function answered(query: number, vlans: readonly number[]): void {
    const asked = open.get(query);
    asked?.resolve(asked.records.map((record, index) => vlans[index] || passedOwner(asked.path, record)));
  }

  return {
    ask,
    answered,
    passedOn(passed) {
      const { path, records } = passed;
      const skipped = before.get(path) ?? 0;
      last = { ...passed, before: skipped };
      before.set(path, skipped + records);
      for (const old of [...before.keys()].slice(0, -KEPT_PATHS)) before.delete(old);
    },
    processEnded: () => [...open.keys()].forEach(giveUp),
  };
}
