/** What following pods is made of, and what it remembers from one round to the next. */
import type { Logger } from 'pino';
import type { Clock } from '../../files/clock.ts';
import type { Pod } from '../../kube/pods.ts';
import type { DeepPacketInspection } from '../../kube/resources.ts';
import type { Endpoint, Keep } from '../endpoint.ts';
import type { HeldNamespace } from '../hold.ts';
import type { Namespace } from '../resolve/namespace.ts';
import type { Place, PlaceAnswer, PlaceRequest, SideWanted } from '../resolve/place.ts';
import type { Selection } from '../select.ts';

/** What capture tells of an endpoint. */
export interface CaptureState {
  endpoint: Endpoint;
  state: { is: 'starting' } | { is: 'capturing'; ifindex: number } | { is: 'waiting'; reason: string };
  /** `oneWay`: only what it sends, or receives, passes its interface. */
  coverage?: { oneWay?: 'sending' | 'receiving' };
}

export interface FollowedCapture {
  attach(endpoint: Endpoint): void;
  detach(endpointId: string): Promise<unknown>;
  endpoints(): CaptureState[];
  /** Why nothing in pods' network namespaces can be captured; undefined: it can. */
  barredFromPods(): string | undefined;
  /** What is wrong with inspection as a whole, such as an engine that does not run. */
  problems(): string[];
  /** What is wrong, though packets are inspected, for a resource that names these rule sets; undefined: the default ones. */
  conditions(ruleSets: readonly string[] | undefined): string[];
  /** The versions of those sets that sources brought, where any did. */
  ruleVersions?(ruleSets: readonly string[] | undefined): Record<string, string>;
}

/** Where pods are captured, and whether their loopback is. */
export interface Side {
  readonly side: SideWanted;
  readonly loopback: boolean;
}

export type Resolve = (requests: PlaceRequest[], barred?: string) => Map<string, PlaceAnswer>;

export interface Namespaces {
  hold(namespace: Namespace): HeldNamespace;
  isStillThere(namespace: Namespace): boolean;
}

/** The time of rounds. */
export type FollowClock = Pick<Clock, 'now' | 'after'>;

export interface Following extends Side {
  readonly resolve: Resolve;
  readonly namespaces: Namespaces;
  readonly capture: FollowedCapture;
  readonly log: Logger;
  readonly clock: FollowClock;
  /** Has a round follow. */
  readonly changed: () => void;
  /** By the pod's key, like all of these. */
  readonly attached: Map<string, Attached>;
  /** Their captures are being ended. */
  readonly detaching: Set<string>;
  readonly unresolved: Map<string, Unresolved>;
}

export interface Attached {
  pod: Pod;
  endpoint: Endpoint;
  place: Place;
  /** What was asked for when the place was found. */
  asked: string;
  held: HeldNamespace | undefined;
  /** When it came from the node's side, on the rounds' clock. */
  wentOverAt: number | undefined;
  /** Why it can't be captured on its own side. */
  keptOut: string | undefined;
}

/** A pod whose interface is looked for again. */
export interface Unresolved {
  uid: string;
  /** Absent where it is capture that has a reason. */
  reason: string | undefined;
  attempts: number;
  /** On the rounds' clock. */
  retryAt: number;
}

export interface Wanted {
  readonly resources: readonly DeepPacketInspection[];
  readonly selection: Selection;
  /** Of resources that name some, by their keys. */
  readonly ruleSets: ReadonlyMap<string, string[]>;
  /** What is kept of packets, of resources that say so, by their keys. */
  readonly evidence: ReadonlyMap<string, Keep>;
  /** Of resources that choose some of their pods' further networks, by their keys. */
  readonly networks: ReadonlyMap<string, string>;
}

/** What a round goes by. */
export interface Round extends Wanted {
  /** By endpoint id; as they were when what is wanted no more was detached. */
  readonly states: ReadonlyMap<string, CaptureState>;
}
