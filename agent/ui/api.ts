/** What the Alerts page and its server say to each other, in JSON. Types only: the page is built with them too. */
import type { Level } from '../events/level.ts';

export { KINDS as TUNE_KINDS, TRACKS as TUNE_TRACKS, type Tuned, type TuneRequest } from '../tuning/entry.ts';

/** Of a rule's priority: 1, 2, 3, and the rest. */
export type { Level };
export const LEVELS: readonly Level[] = ['critical', 'high', 'medium', 'low'];

/** What somebody made of an alert. `open`: nothing yet. */
export type State = 'open' | 'acknowledged' | 'dismissed';
export const STATES: readonly State[] = ['open', 'acknowledged', 'dismissed'];

/** Why an alert was dismissed. */
export const REASONS = ['false-positive', 'expected', 'accepted-risk', 'duplicate', 'remedied'] as const;
export type Reason = (typeof REASONS)[number];

/** What somebody did with an alert. */
export interface Act {
  /** RFC 3339. */
  at: string;
  by: string;
  state?: State;
  reason?: Reason;
  comment?: string;
  /** Whose it is; empty: nobody's. */
  assignee?: string;
  /** The name of what quietens its like. */
  tuned?: string;
}

export const RANGES = ['15m', '1h', '6h', '24h', '7d', '30d', 'all'] as const;
export type Range = (typeof RANGES)[number];

export interface End {
  ip: string;
  port?: number;
  /** The pod, or the Service; absent where it is not known. */
  name?: string;
  namespace?: string;
}

/** An alert as the list shows it. */
export interface AlertRow {
  id: string;
  /** Capture time, RFC 3339 in UTC. */
  timestamp: string;
  /** 0..100 */
  severity: number;
  level: Level;
  state: State;
  /** Who acknowledged or dismissed it, and when (RFC 3339). */
  handledBy?: string;
  handledAt?: string;
  reason?: Reason;
  /** Whose it is. */
  assignee?: string;
  /** `<namespace>/<name>` of the DeepPacketInspection. */
  resource: string;
  /** Its namespace: that of the inspected pod. Who may see the alert is decided by it. */
  namespace: string;
  gid: string;
  sid: string;
  rev: string;
  message: string;
  classification?: string;
  /** `TA0011`; absent where the rule names none. */
  tactic?: string;
  techniques: string[];
  cves: string[];
  protocol: string;
  service?: string;
  source: End;
  destination: End;
  /** Alerts that it stands for. */
  count: number;
  /** `<namespace>/<name>` of the pods where it was seen. */
  seenAt: string[];
  node: string;
  /** How the request ended; this and what follows, where the flow's packets were kept. */
  outcome?: string;
  community?: string;
  app?: RowApp;
}

/** What the application said, as far as it can be searched for. */
export interface RowApp {
  protocol: string;
  /** Without a port. */
  host?: string;
  method?: string;
  url?: string;
  status?: number;
  useragent?: string;
  domains?: string[];
  sni?: string;
  ja3?: string;
  ja4?: string;
  /** Of both sides. */
  hassh?: string[];
}

/** Newest first; or the most severe first, and of those the newest. */
export const ORDERS = ['time', 'severity'] as const;
export type Order = (typeof ORDERS)[number];

export interface Page {
  rows: AlertRow[];
  /** For the parameter `after`; absent on the last page. */
  next?: string;
}

export interface FacetValue {
  value: string;
  /** What to call it, where it is not the value itself. */
  label?: string;
  count: number;
}

export const FACETS = ['namespace', 'pod', 'signature', 'level', 'tactic', 'state'] as const;
export type FacetName = (typeof FACETS)[number];

export interface Bucket {
  /** Milliseconds since the epoch. */
  start: number;
  counts: Record<Level, number>;
}

export interface Summary {
  /** Of what all filters select. */
  total: number;
  /** Older alerts are still being read: the counts grow. */
  reading?: true;
  counts: Record<Level, number>;
  histogram: {
    /** Milliseconds since the epoch. */
    from: number;
    to: number;
    /** Milliseconds. */
    interval: number;
    buckets: Bucket[];
  };
  /** Each under all filters but its own, so that a second value can be chosen. The most frequent values. */
  facets: Record<FacetName, FacetValue[]>;
}

export interface Group {
  /** `<gid>:<sid>` or `<namespace>/<name>` */
  key: string;
  label: string;
  count: number;
  level: Level;
  /** RFC 3339. */
  newest: string;
}

/** A rule as the server's rule sets have it. */
export interface RuleText {
  text: string;
  rev: number;
  sets: string[];
  file: string;
  line: number;
  classtype: string;
}

export interface AlertDetail {
  row: AlertRow;
  /** The document. */
  event: unknown;
  rule?: RuleText;
  /** Of the rule that fired. */
  words?: RuleWords;
  advice: Advice;
  /** What was done with it, the oldest first. */
  history: Act[];
}

/** A packet of an alert's flow. */
export interface PacketRow {
  /** RFC 3339, with microseconds. */
  time: string;
  /** Whether the alert's source sent it. */
  fromSource: boolean;
  protocol: string;
  /** Of TCP: `SYN,ACK`. */
  flags?: string;
  /** Bytes on the wire, and those that were captured. */
  length: number;
  captured: number;
  /** Captured bytes of payload; base64 of as many as there is room for. */
  payloadBytes: number;
  payload: string;
  /** It fired the alert. */
  fired?: true;
  /** Bytes of the payload that the alert's rule looks for, from and up to; without overlaps, in order. */
  marks?: [number, number][];
}

export interface AlertPackets {
  packets: PacketRow[];
  /** That are in the file and not here. */
  left: number;
}

export type SourceAbout =
  | { kind: 'journal'; directory: string; limit: number }
  | { kind: 'elasticsearch'; url: string; index: string; idField: string };

export interface Session {
  access: 'none' | 'password' | 'kubernetes';
  user: string;
  version: string;
  source: SourceAbout;
  /** Where alerts of further clusters can be seen: below `/clusters/<name>/api/`. */
  clusters?: { own: string; further: { name: string; source: SourceAbout }[] };
  kibanaUrl?: string;
  /** Whether there is an API server to try selectors on. */
  dryRun: boolean;
  /** Where what quietens alerts is kept; absent where nothing can be. */
  tuning?: string;
  /** Whether pods can be isolated from here, by who has the right. */
  isolates: boolean;
}

/** Before anybody has signed in. */
export interface SignInNeeded {
  error: string;
  access: 'password' | 'kubernetes';
}

export interface Refusal {
  error: string;
}

export interface Coverage {
  nodes: {
    name: string;
    /** `unknown`: it does not answer. */
    state: 'ready' | 'starting' | 'impaired' | 'unknown';
    problems: string[];
    engine?: string;
    pods?: number;
    /** Names of the first of them. */
    podNames?: string[];
    rules?: number;
    version?: string;
    /** Pods of whose traffic a part is encrypted bulk, that nobody can inspect; those with the most of it. */
    encrypted?: { pod: string; bytes: number; share: number }[];
  }[];
  resources: {
    key: string;
    selector: string;
    nodes: number;
    podsSelected: number;
    podsCaptured: number;
    errors: { node: string; message: string; timestamp: string }[];
  }[];
  /** What could not be asked, and why. */
  problems: string[];
}

export interface DryRun {
  selector: string;
  namespace: string;
  pods: { name: string; node: string; selected: boolean; inspected: boolean; why?: string }[];
}

/** A selector, or a query, that can't be read. */
export interface PlacedRefusal extends Refusal {
  /** From 0. */
  position: number;
}

/**
 * The live stream's messages `alerts`. `ready`, without data, comes before them, and after each new connection: the
 * list may miss what came before it.
 */
export interface LiveMessage {
  rows: AlertRow[];
  /** There were more than the server sends at once: load the list again. */
  more: boolean;
}

/** The live stream's messages `marks`: what somebody made of alerts. */
export interface MarkMessage extends Act {
  ids: string[];
}

/** What isolating a pod cuts, and what stays open. */
export interface IsolationAnswer {
  cut: {
    namespace: string;
    pod: string;
    node: string;
    addresses: string[];
    /** API group of the policy that cuts. */
    engine: string;
    services: { name: string; others: number }[];
    open: { policy: string; direction: 'ingress' | 'egress' }[];
    notes: string[];
  };
  /** Absent: nothing was done. */
  isolation?: IsolatedPod;
}

export interface IsolatedPod {
  namespace: string;
  pod: string;
  allow: 'nothing' | 'dns';
  by: string;
  reason: string;
  alert?: string;
  /** RFC 3339. */
  since: string;
  until: string;
}

/** What was marked. */
export interface MarkAnswer {
  marked: number;
  /** More match than are marked at once: the same request marks the next ones. */
  more: boolean;
  /** As they were before, to undo it. */
  before: { state: State; ids: string[] }[];
}

/** What it would have left out of the last days. */
export interface TuneOutcome {
  /** That were looked at, and those of them that would not be there. */
  events: number;
  leftOut: number;
  /** The same in alerts, as an event can stand for many. */
  alerts: number;
  alertsLeftOut: number;
  criticalLeftOut: number;
  /** The oldest that was looked at; RFC 3339. */
  since?: string;
  /** There were older ones in these days, too many to look at. */
  more: boolean;
  /** The most frequent first. */
  kinds: { signature: string; message: string; leftOut: number }[];
}

/** Fields of the query language whose values can be listed. */
export const VALUE_FIELDS = [
  'source.ip',
  'destination.ip',
  'source.pod',
  'destination.pod',
  'source.namespace',
  'destination.namespace',
  'destination.port',
  'protocol',
  'service',
  'node',
  'class',
  'cve',
  'technique',
  'resource',
  'assignee',
] as const;
export type ValueField = (typeof VALUE_FIELDS)[number];

/** Alerts from one namespace, or pod, to another; empty: no pod's, or not known whose. */
export interface Pair {
  source: string;
  destination: string;
  counts: Record<Level, number>;
}

export interface Talker {
  ip: string;
  name?: string;
  namespace?: string;
  counts: Record<Level, number>;
}

/** Who attacks whom. The most frequent ones. */
export interface Flows {
  pairs: Pair[];
  /** From pod to pod, `<namespace>/<name>`; empty: no pod's, or not known whose. */
  edges: Pair[];
  /** Alerts that are in none of the edges. */
  others: number;
  /** Sources. */
  talkers: Talker[];
}

/** How many, and since when. */
export interface Span {
  count: number;
  /** RFC 3339; absent where there are none. */
  first?: string;
  last?: string;
}

export const RELATIONS = ['flow', 'source', 'pod', 'technique'] as const;
export type Relation = (typeof RELATIONS)[number];

/** Alerts around one, a day before and behind it. */
export interface Related {
  from: string;
  to: string;
  of: {
    by: Relation;
    /** What they have in common, as a query. */
    q: string;
    count: number;
    /** The newest of them. */
    rows: AlertRow[];
  }[];
  /** Alerts of its signature, whenever. */
  signature: Span;
  /** All alerts that may be seen, whenever. */
  all: Span;
}

/** A rule in plain words. */
export interface RuleWords {
  traffic: string;
  direction?: string;
  services: string[];
  looksFor: string[];
}

/** What to look at, and what to do. */
export interface Advice {
  check: string[];
  act: string[];
}

/** What became of alerts that a program acknowledged. */
export interface AcknowledgeAnswer {
  acknowledged: string[];
  /** Those that somebody had acknowledged or dismissed before. */
  before: string[];
  unknown: string[];
}
