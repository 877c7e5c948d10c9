/**
 * Merges the alerts of one packet that was seen at both ends of its flow, for the same resource, into one that names
 * both.
 *
 * Alerts leave in the order in which they came, so that the journal's highest position covers all before it; one that
 * waits for its twin holds back those behind it, for the window at most. Two alerts are twins when signature, protocol,
 * both addresses, both ports and the bytes are the same, their packets' times lie within the window, and no endpoint
 * saw both: the second packet that fires at one endpoint is another event. So is that of another pod with the same
 * address, at the same end of its own flow. An endpoint that moves to another lane is captured by both for a moment:
 * what their engines found at it at the same time is one packet.
 */
import type { Alert } from '../engine/alert.ts';
import { areOtherEnds } from './attribute.ts';
import type { AttributedAlert } from './attributed.ts';

/** Twins are looked for among this many of a flow's alerts that wait; further ones do not wait. */
const MAX_WAITING = 256;

/** And with so many alerts held in all, no further one waits. */
const MAX_HELD = 10_000;

/**
 * One event names so many further alerts at most, so that none of them is read again after a crash (see agent/events).
 */
const MAX_MERGED = 64;

/** Two captures of one interface may look at the clock one after the other. */
const SAME_TIME_MICROS = 1_000;

interface Entry {
  attributed: AttributedAlert;
  /** Milliseconds, on the caller's clock. */
  due: number;
  waits: boolean;
}

export interface Merger {
  /** @returns `merged` when it joined one that waits. */
  add(attributed: AttributedAlert, now: number): 'added' | 'merged';
  /** Those that waited long enough, in order. */
  releaseDue(now: number): AttributedAlert[];
  /** All of them, in order: no more will come. */
  releaseAll(): AttributedAlert[];
  /** When `releaseDue` will have something; undefined when nothing is held. */
  nextDue(): number | undefined;
}

/**
 * @param windowMillis 0 merges nothing.
 * @param mayHaveTwin Whether another endpoint than those that saw it may have seen the packet; if not, it need not
 * wait.
 * @param isMoving Whether two lanes may have captured the same packets of an endpoint.
 */
export function createMerger(
  windowMillis: number,
  mayHaveTwin: (attributed: AttributedAlert) => boolean,
  isMoving: (endpointId: string) => boolean = () => false,
): Merger {
  const queue: Entry[] = [];
  const waiting = new Map<string, Entry[]>();

  function releaseFirst(count: number): AttributedAlert[] {
    const released = queue.splice(0, count);
    for (const entry of released) {
      if (!entry.waits) continue;
      // Alerts of one flow leave in the order in which they came: this one is the first.
      const key = flowKey(entry.attributed);
      const flow = waiting.get(key);
      flow?.shift();
      if (flow?.length === 0) waiting.delete(key);
    }
    return released.map((entry) => entry.attributed);
  }

  return {
    add(attributed, now) {
      const key = flowKey(attributed);
      const flow = waiting.get(key) ?? [];
      const twin = flow.find(({ attributed: first }) => areTwins(first, attributed, windowMillis, isMoving));
      if (twin !== undefined) {
        const first = twin.attributed;
        twin.attributed = {
          ...first,
          seenAt: [...first.seenAt, ...attributed.seenAt.filter((other) => !isSeenAlready(first, other))],
          mergedPositions: [...first.mergedPositions, attributed.position],
          ...(first.source === undefined && attributed.source !== undefined ? { source: attributed.source } : {}),
          ...(first.destination === undefined && attributed.destination !== undefined
            ? { destination: attributed.destination }
            : {}),
        };
        if (!mayHaveTwin(twin.attributed)) twin.due = now;
        return 'merged';
      }
      const waits = windowMillis > 0 && flow.length < MAX_WAITING && queue.length < MAX_HELD && mayHaveTwin(attributed);
      const entry: Entry = { attributed, due: waits ? now + windowMillis : now, waits };
      queue.push(entry);
      if (waits) {
        flow.push(entry);
        waiting.set(key, flow);
      }
      return 'added';
    },
    releaseDue(now) {
      const first = queue.findIndex((entry) => entry.due > now);
      return releaseFirst(first === -1 ? queue.length : first);
    },
    releaseAll: () => releaseFirst(queue.length),
    nextDue: () => queue[0]?.due,
  };
}

function areTwins(
  first: AttributedAlert,
  second: AttributedAlert,
  windowMillis: number,
  isMoving: (endpointId: string) => boolean,
): boolean {
  const apartMicros = Math.abs(first.alert.timeMicros - second.alert.timeMicros);
  /** Of one packet of an endpoint that moves. */
  const areOfBothLanes = (): boolean =>
    first.position.generation !== second.position.generation &&
    apartMicros <= SAME_TIME_MICROS &&
    second.seenAt.every((other) => isMoving(other.id) && isSeenAlready(first, other));
  return (
    apartMicros <= windowMillis * 1000 &&
    first.mergedPositions.length < MAX_MERGED &&
    (second.seenAt.every((other) => areOtherEnds(first.alert, first.seenAt, other)) || areOfBothLanes()) &&
    haveSameBytes(first.alert, second.alert)
  );
}

function isSeenAlready({ seenAt }: AttributedAlert, { id }: AttributedAlert['seenAt'][number]): boolean {
  return seenAt.some((endpoint) => endpoint.id === id);
}

/** Whether nothing speaks against it: not every format has the bytes. */
function haveSameBytes({ payload: first }: Alert, { payload: second }: Alert): boolean {
  return first === undefined || second === undefined || first.equals(second);
}

function flowKey({ resource, alert }: AttributedAlert): string {
  const { gid, sid, rev, protocol, source, destination } = alert;
  return JSON.stringify([resource, gid, sid, rev, protocol, source.ip, source.port, destination.ip, destination.port]);
}
