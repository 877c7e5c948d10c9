/**
 * Alerts by signature and by priority, for metrics whose number of series is bounded and whose series stay: the first
 * `limit` signatures that fire have a series each for as long as the agent runs, all others share one.
 */
export interface SignatureCounts {
  add(alert: { gid: number; sid: number; priority: number }): void;
  /** `<gid>:<sid>` of each that has a series. */
  bySignature(): ReadonlyMap<string, number>;
  /** Alerts of all other signatures. */
  other(): number;
  /** `1` to `4`, `none`, `other`. */
  byPriority(): ReadonlyMap<string, number>;
}

export const MAX_SIGNATURES = 256;

export function createSignatureCounts(limit = MAX_SIGNATURES): SignatureCounts {
  const signatures = new Map<string, number>();
  const priorities = new Map<string, number>();
  let other = 0;
  return {
    add({ gid, sid, priority }) {
      const key = `${gid}:${sid}`;
      const count = signatures.get(key);
      if (count !== undefined || signatures.size < limit) signatures.set(key, (count ?? 0) + 1);
      else other++;
      const label = priority === 0 ? 'none' : priority <= 4 ? String(priority) : 'other';
      priorities.set(label, (priorities.get(label) ?? 0) + 1);
    },
    bySignature: () => signatures,
    other: () => other,
    byPriority: () => priorities,
  };
}
