/** What makes alerts fewer: as it is wanted, and as it is kept. */
export const KINDS = ['suppress', 'limit', 'off'] as const;
export const TRACKS = ['by_source', 'by_pod', 'by_rule'] as const;

/** What is wanted: see docs/rule-tuning.md. All that it says has to hold. */
export interface TuneRequest {
  /** `off`: the rule is not loaded any more; it says a signature only. */
  kind: (typeof KINDS)[number];
  /** `<gid>:<sid>` */
  signature?: string;
  /** The pod at which it was seen, `<namespace>/<name>` with `*`. */
  pod?: string;
  /** Address or network. */
  source?: string;
  destination?: string;
  /** `mon-fri` */
  days?: string;
  /** `22:00-06:00` */
  hours?: string;
  /** A date, that day included, or a time. */
  until?: string;
  reason: string;
  /** Of a limit: so many in so many seconds, for each of these. */
  count?: number;
  seconds?: number;
  track?: (typeof TRACKS)[number];
}

export interface Tuned {
  name: string;
  kind: 'suppress' | 'threshold' | 'off';
  /** Key and value, as it is written. */
  says: Record<string, string>;
  reason?: string;
  by?: string;
  /** RFC 3339. */
  at?: string;
  until?: string;
  over: boolean;
}
