/**
 * Keeps what is captured equal to what the resources select: level-triggered, from the caches, in rounds.
 *
 * Invariants: a pod is captured once, however many resources select it; a pod that was deleted and made again under its
 * name gets its capture ended and a new one; a pod whose interface is not certain is not captured, and is looked for
 * again until it is. A pod that went over to its own side, because not all that it sends and receives passes the
 * node's, stays there for as long as it is captured; where it can't be captured there, it comes back once and stays on
 * the node's. What goes wrong is in the resource's status for as long as it is so.
 */
import type { Logger } from 'pino';
import { systemClock } from '../files/clock.ts';
import { NETWORKS_ANNOTATION } from '../kube/networks.ts';
import type { Pod } from '../kube/pods.ts';
import { evidenceOf, ruleSetsOf, type DeepPacketInspection } from '../kube/resources.ts';
import { detach } from './follow/attach.ts';
import { findWanted } from './follow/find.ts';
import type {
  FollowClock,
  FollowedCapture,
  Following,
  Namespaces,
  Resolve,
  Round,
  Side,
  Wanted,
} from './follow/parts.ts';
import { nothingReported, reportRound, untilTold, type Report, type Reported } from './follow/report.ts';
import { holdNamespace, isStillThere } from './hold.ts';
import { findPlaces } from './resolve/place.ts';
import { createSelect, type Select } from './select.ts';

/** Changes that come together are one round. */
const COALESCE_MILLIS = 20;
/** Rounds come this often when nothing happens. */
const IDLE_MILLIS = 30_000;

export interface FollowOptions extends Side {
  /** Whether both caches were complete once: until then, what they lack may exist, and nothing is done. */
  synced(): boolean;
  resources(): DeepPacketInspection[];
  /** This node's pods. */
  pods(): Pod[];
  /** Finds the interfaces of pods, by their keys; by default, those of the machine. */
  resolve?: Resolve;
  /** By default, those of the machine. */
  namespaces?: Namespaces;
  capture: FollowedCapture;
  report: Report;
  log: Logger;
  clock?: FollowClock;
}

export interface Follower {
  /** Something may have changed: resources, pods, an endpoint's state. */
  changed: () => void;
  /** The pods that each resource selects on this node, by its key, as of the last round. */
  selected: () => ReadonlyMap<string, readonly string[]>;
  /** Ends rounds, and leaves what is attached. */
  stop: () => void;
}

export function followPods(options: FollowOptions): Follower {
  const { side, loopback, resolve = findPlaces, capture, log, clock = systemClock } = options;
  const { namespaces = { hold: holdNamespace, isStillThere } } = options;
  const select = createSelect();
  const reported = nothingReported();
  let selected = new Map<string, readonly string[]>();
  const rounds = repeat(
    () => {
      if (!options.synced()) return;
      const wanted = whatIsWanted(options, select);
      detachUnwanted(following, wanted);
      selected = new Map([...wanted.selection.resources].map(([key, { pods }]) => [key, pods]));
      const round = { ...wanted, states: statesOf(capture) };
      findWanted(following, round);
      reportRound(following, round, reported, options.report);
    },
    () => untilDue(following, reported),
    { clock, log },
  );
  const changed = (): void => rounds.schedule(COALESCE_MILLIS);
  const following: Following = {
    side,
    loopback,
    resolve,
    namespaces,
    capture,
    log,
    clock,
    changed,
    attached: new Map(),
    detaching: new Set(),
    unresolved: new Map(),
  };
  changed();
  return { changed, selected: () => selected, stop: rounds.stop };
}

interface Repeated {
  /** The next round comes after so long at the latest. */
  schedule: (millis: number) => void;
  stop: () => void;
}

/** Runs rounds, also after one that failed. @param dueIn Milliseconds until the next one, as of the end of one. */
function repeat(round: () => void, dueIn: () => number, { clock, log }: { clock: FollowClock; log: Logger }): Repeated {
  /** Calls the next round off. */
  let callOff: (() => void) | undefined;
  let dueAt = 0;
  let stopped = false;

  function schedule(millis: number): void {
    const at = clock.now() + millis;
    if (stopped || (callOff !== undefined && at >= dueAt)) return;
    callOff?.();
    dueAt = at;
    callOff = clock.after(millis, run);
  }

  function run(): void {
    callOff = undefined;
    try {
      round();
    } catch (error) {
      log.error({ err: error }, 'pods could not be followed; trying again');
    }
    schedule(dueIn());
  }

  return {
    schedule,
    stop() {
      stopped = true;
      callOff?.();
    },
  };
}

function whatIsWanted(options: FollowOptions, select: Select): Wanted {
  const resources = options.resources();
  return {
    resources,
    selection: select(resources, options.pods()),
    ruleSets: new Map(
      resources.flatMap((resource) => {
        const named = ruleSetsOf(resource);
        return named === undefined ? [] : [[resource.key, named]];
      }),
    ),
    evidence: new Map(
      resources.flatMap((resource) => {
        const kept = evidenceOf(resource);
        return kept === undefined ? [] : [[resource.key, kept] as const];
      }),
    ),
    networks: new Map(
      resources.flatMap(({ key, annotations }) => {
        const chosen = annotations[NETWORKS_ANNOTATION];
        return chosen === undefined ? [] : [[key, chosen] as const];
      }),
    ),
  };
}

function statesOf(capture: FollowedCapture): Round['states'] {
  return new Map(capture.endpoints().map((entry) => [entry.endpoint.id, entry]));
}

function detachUnwanted(following: Following, { selection }: Wanted): void {
  const { attached, unresolved } = following;
  for (const [key, { pod }] of attached) {
    const wanted = selection.pods.get(key);
    if (wanted === undefined) detach(following, key, 'no resource selects it');
    else if (wanted.pod.uid !== pod.uid) detach(following, key, 'it was made again');
  }
  for (const [key, { uid }] of unresolved) {
    if (selection.pods.get(key)?.pod.uid !== uid) unresolved.delete(key);
  }
}

/** Milliseconds until something is due by itself. */
function untilDue({ unresolved, clock }: Following, reported: Reported): number {
  const now = clock.now();
  const retries = [...unresolved.values()].map(({ retryAt }) => retryAt - now);
  return Math.max(COALESCE_MILLIS, Math.min(IDLE_MILLIS, ...retries, ...untilTold(reported, now)));
}
