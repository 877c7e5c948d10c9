/** What became of the alerts that were read. Each ends in exactly one count, once nothing is held any more. */

/**
 * `read + copies = journaled + merged + suppressed + recovered + unparsable + unattributed + unasked + failed`, once
 * nothing is held any more.
 */
export interface AlertCounts {
  /** Alerts and pieces of damage in the engines' output. */
  read: number;
  /** Further events of alerts that several resources select. */
  copies: number;
  journaled: number;
  /** The same packet seen at its other end, or alerted of twice by Snort, or folded into another's event. */
  merged: number;
  /** By the operator's policy. */
  suppressed: number;
  /** Read again after a crash, and already in the journal. */
  recovered: number;
  unparsable: number;
  /** With a VLAN id that nobody held at the packet's time. */
  unattributed: number;
  /** Of a rule that is in none of the sets that the endpoint's resources asked for. */
  unasked: number;
  /** By an error of the agent's own, no event could be made of them (`failed-alerts.ndjson` in the state folder). */
  failed: number;
}

export interface AlertBooks {
  add(count: keyof AlertCounts, alerts?: number): void;
  /** One alert. @param reason Name of the policy's entry. */
  addSuppressed(reason: string): void;
  /** Alerts that the flood control folded into another's event: they are merged. */
  addFolded(alerts: number): void;
  counts: () => AlertCounts;
  /** Those of `merged` that the flood control folded. */
  folded: () => number;
  /** Those that are suppressed, by reason. */
  suppressed: () => ReadonlyMap<string, number>;
}

/** Reasons that are counted by their names; what policies of hundreds of names give beyond is `other`. */
const MAX_REASONS = 256;

export function createAlertBooks(): AlertBooks {
  const counts: AlertCounts = {
    read: 0,
    copies: 0,
    journaled: 0,
    merged: 0,
    suppressed: 0,
    recovered: 0,
    unparsable: 0,
    unattributed: 0,
    unasked: 0,
    failed: 0,
  };
  let folded = 0;
  const suppressed = new Map<string, number>();

  return {
    add(count, alerts = 1) {
      counts[count] += alerts;
    },
    addSuppressed(reason) {
      counts.suppressed++;
      const name = suppressed.has(reason) || suppressed.size < MAX_REASONS ? reason : 'other';
      suppressed.set(name, (suppressed.get(name) ?? 0) + 1);
    },
    addFolded(alerts) {
      folded += alerts;
      counts.merged += alerts;
    },
    counts: () => ({ ...counts }),
    folded: () => folded,
    suppressed: () => new Map(suppressed),
  };
}
