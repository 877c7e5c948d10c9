/** An alert with everything that is known about it: whose traffic, which resource asked, where it was read. */
import type { Endpoint } from '../endpoints/endpoint.ts';
import type { Alert, Position } from '../engine/alert.ts';

/** The workload at one end of a flow. */
export type Peer = Pick<Endpoint, 'namespace' | 'name' | 'nameAggr'>;

/** What the rule itself says, beyond what the engine repeats in an alert. */
export interface RuleFacts {
  /** Short name of the class: `trojan-activity`; empty where the rule has none. */
  classtype: string;
  /** `url,…`, `bugtraq,…` and the like, as the rule has them. */
  references: string[];
  /** Those of them that have one, as URLs. */
  links: string[];
  /** `CVE-2021-44228`. */
  cves: string[];
  /** The whole rule, on one line. */
  text: string;
  /** MITRE ATT&CK techniques: `T1190`. */
  mitreIds: string[];
  /** MITRE ATT&CK tactic: `Initial Access`. */
  mitreTactic?: string;
  /** Whether the rule states techniques and tactic, or they follow from its class. */
  mitreSource?: 'rule' | 'class';
  /** What to do about it, a sentence each. */
  mitigations: string[];
}

export interface AttributedAlert {
  alert: Alert;
  /** In the engine's output. */
  position: Position;
  /** Positions of further alerts, of the same packet, that went into this one. */
  mergedPositions: Position[];
  /**
   * What the flood control folded into this one, which is the first of them; absent where it stands for itself only.
   */
  fold?: { count: number; lastPosition: Position; lastTimeMicros: number };
  /** Alerts from there on were still held when this one was journaled. */
  checkpoint?: Position;
  /** The DeepPacketInspection that asked, `<namespace>/<name>`. An alert has one of these for each. */
  resource: string;
  /** Endpoints that saw the packet; at least one. */
  seenAt: Endpoint[];
  /** Absent where the address is nobody's that the agent knows. */
  source?: Peer;
  destination?: Peer;
  engine: { name: string; version: string };
  /** The node's name. */
  node: string;
  rule?: RuleFacts;
}
