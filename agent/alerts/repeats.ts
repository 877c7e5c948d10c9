/**
 * Snort looks at a packet, and again at what it puts together from the stream, with the packet's time: a rule that
 * fires on the packet and on its body alerts twice. The second of the two is a repeat of the first.
 *
 * Two alerts are one and its repeat when id, signature, protocol, both ends and the packet's time are the same, and one
 * of them is of a packet, the other of what was put together. Each alert has one repeat at most: two requests in one
 * packet, whose bodies fire both, remain two.
 *
 * Not promised: that one is known whose first alert was read by an earlier agent, or is followed by more than
 * MAX_KNOWN others; that of unified2, which does not say what an alert is of.
 */
import { LRUCache } from 'lru-cache';
import type { Alert } from '../engine/alert.ts';

/** Alerts that may still have a repeat. */
const MAX_KNOWN = 4_096;

export interface Repeats {
  /** Whether it repeats one that was asked for before. */
  isRepeat(alert: Alert): boolean;
}

export function createRepeats(): Repeats {
  const known = new LRUCache<string, { rebuilt: boolean }>({ max: MAX_KNOWN });
  return {
    isRepeat(alert) {
      const { rebuilt } = alert;
      if (rebuilt === undefined) return false;
      const key = keyOf(alert);
      if (known.get(key)?.rebuilt === !rebuilt) {
        known.delete(key);
        return true;
      }
      known.set(key, { rebuilt });
      return false;
    },
  };
}

function keyOf({ vlan, gid, sid, rev, protocol, source, destination, timeMicros }: Alert): string {
  return [vlan, gid, sid, rev, protocol, source.ip, source.port, destination.ip, destination.port, timeMicros].join(
    ' ',
  );
}
