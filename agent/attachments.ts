/**
 * Which endpoints are inspected: each leases a VLAN id that has its rule sets, and the least loaded lane captures it.
 *
 * Invariants: an endpoint is captured only once the engines have its rule sets; it keeps its id and its lane until it
 * is detached, whatever else of it changes.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import type { AttachSpec, Counters } from './capture/protocol.ts';
import type { EndpointState } from './capture/supervisor.ts';
import { createCombinations, type Combination, type Combinations } from './endpoints/combinations.ts';
import { keepMost, tapsOf, type Endpoint, type Keep } from './endpoints/endpoint.ts';
import type { Leases } from './endpoints/leases.ts';
import { systemClock, type Clock } from './files/clock.ts';
import type { Lane } from './lane.ts';
import type { LiveRules } from './rulesets/live.ts';

/** How long an engine keeps the rules of sets that no endpoint has any more. */
const TRIM_MILLIS = 60_000;

export interface AttachmentsOptions {
  leases: Leases;
  lanes: readonly Lane[];
  rules: Pick<LiveRules, 'defaults' | 'changed'>;
  /** What keeps packets from being inspected, by part. */
  problems: ReadonlyMap<string, string>;
  /** What is kept of packets for alerts of resources that say nothing of it. */
  keep: Keep;
  /** It is captured on other interfaces from now on. */
  goesOver: (endpointId: string) => void;
  onChange?: () => void;
  log: Logger;
  clock?: Pick<Clock, 'after'>;
}

export interface CapturedEndpoint {
  endpoint: Endpoint;
  lane: string;
  state: EndpointState;
  counters: Counters;
}

export interface Attachments {
  /**
   * An endpoint that is attached gets its new labels and resources, and goes over to its new interfaces.
   * @throws Error when no VLAN id is free.
   */
  attach: (endpoint: Endpoint) => void;
  /** @returns the endpoint's last counters. */
  detach: (endpointId: string) => Promise<Counters | undefined>;
  /** Those that a lane was told of. */
  captured: () => CapturedEndpoint[];
  /** A lane captures an endpoint from now on, or no longer. */
  noteState: (endpointId: string, state: EndpointState) => void;
  /** Which ids are inspected by other rule sets than the default ones. */
  combinations: () => Combination[];
  stop(): void;
}

interface Attachment {
  endpoint: Endpoint;
  lane: Lane;
  /** Its lane was told, as the rule sets that it needs are loaded. */
  isCaptured: boolean;
  /** How often its id went over to other rule sets. */
  moves: number;
}

interface Parts extends AttachmentsOptions {
  clock: Pick<Clock, 'after'>;
  attached: Map<string, Attachment>;
  /** Endpoints that were captured at some time. */
  everCaptured: Set<string>;
  combinations: Combinations;
  /** Combinations are others since the rules were last told to change. */
  isToldAll: boolean;
  /** Changes of them that the engines may not have yet. */
  changing: number;
  /** Calls the next trim off. */
  callOffTrim: () => void;
}

export function openAttachments(options: AttachmentsOptions): Attachments {
  const parts: Parts = {
    clock: systemClock,
    ...options,
    attached: new Map(),
    everCaptured: new Set(),
    combinations: createCombinations(options.rules.defaults),
    isToldAll: true,
    changing: 0,
    callOffTrim: () => undefined,
  };
  return {
    attach(endpoint) {
      const attachment = parts.attached.get(endpoint.id);
      if (attachment === undefined) attachNew(parts, endpoint);
      else changeAttached(parts, attachment, endpoint);
    },
    detach: (endpointId) => detach(parts, endpointId),
    captured: () => capturedEndpoints(parts),
    noteState: (endpointId, state) => noteState(parts, endpointId, state),
    combinations: parts.combinations.list,
    stop: () => parts.callOffTrim(),
  };
}

function attachNew(parts: Parts, endpoint: Endpoint): void {
  const { leases, lanes, attached, combinations, rules, log } = parts;
  const sets = setsOf(endpoint, rules);
  const accepts = combinations.accepts(sets);
  const isNew = !leases.spare().some(accepts);
  if (isNew) {
    combinations.claim(leases.spare(), sets);
    parts.isToldAll = false;
  }
  const vlan = leases.acquire(endpoint, accepts);
  const lane = leastLoaded(lanes, attached);
  // Of what was claimed or given up before, the engines may not know yet.
  const isLoaded = parts.isToldAll && parts.changing === 0;
  const attachment: Attachment = { endpoint, lane, isCaptured: isLoaded, moves: 0 };
  attached.set(endpoint.id, attachment);
  if (isLoaded) return lane.capture.attach(specOf(endpoint, vlan, parts.keep));
  log.info({ endpoint: endpoint.id, sets }, 'its rule sets are loaded first');
  void captureOnceLoaded(parts, attachment, vlan);
}

/** Again, where it asked for others meanwhile. */
async function captureOnceLoaded(parts: Parts, attachment: Attachment, vlan: number): Promise<void> {
  let moves: number;
  do {
    ({ moves } = attachment);
    await changeRules(parts);
    if (parts.attached.get(attachment.endpoint.id) !== attachment) return;
  } while (moves !== attachment.moves);
  attachment.isCaptured = true;
  attachment.lane.capture.attach(specOf(attachment.endpoint, vlan, parts.keep));
}

function changeAttached(parts: Parts, attachment: Attachment, endpoint: Endpoint): void {
  const { leases, combinations, rules, keep, goesOver, onChange } = parts;
  const { endpoint: before } = attachment;
  const hasOtherTaps = !isDeepStrictEqual(tapsOf(before), tapsOf(endpoint));
  const isKeptOtherwise = keepMost(before, keep) !== keepMost(endpoint, keep);
  leases.update(endpoint);
  attachment.endpoint = endpoint;
  const vlan = leases.idOf(endpoint.id);
  if (vlan === undefined) return;
  if (hasOtherTaps && attachment.isCaptured) goesOver(endpoint.id);
  if ((hasOtherTaps || isKeptOtherwise) && attachment.isCaptured)
    attachment.lane.capture.attach(specOf(endpoint, vlan, keep));
  if (!combinations.move(vlan, setsOf(endpoint, rules))) return;
  attachment.moves++;
  trimLater(parts);
  void changeRules(parts).then(onChange);
}

/** Brings the combinations, as they are now, to the engines. */
async function changeRules(parts: Parts): Promise<void> {
  parts.isToldAll = true;
  parts.changing++;
  await parts.rules.changed();
  parts.changing--;
}

async function detach(parts: Parts, endpointId: string): Promise<Counters | undefined> {
  const { leases, attached, everCaptured, combinations, log } = parts;
  const attachment = attached.get(endpointId);
  if (attachment === undefined) return undefined;
  const counters = await attachment.lane.capture.detach(endpointId);
  attached.delete(endpointId);
  everCaptured.delete(endpointId);
  try {
    leases.free(endpointId);
  } catch (error) {
    log.error(
      { err: error, endpoint: endpointId },
      'the end of its lease is not on disk; it is written with the next change',
    );
  }
  if (combinations.list().length > 0) trimLater(parts);
  return counters;
}

/** An engine keeps rules that nobody asks for any more only for a while. */
function trimLater(parts: Parts): void {
  const { leases, attached, combinations, clock } = parts;
  parts.callOffTrim();
  parts.callOffTrim = clock.after(TRIM_MILLIS, () => {
    const leased = [...attached.keys()].flatMap((id) => leases.idOf(id) ?? []);
    if (combinations.trim(leased)) void changeRules(parts);
  });
}

function capturedEndpoints({ lanes, attached }: Parts): CapturedEndpoint[] {
  const byLane = new Map(
    lanes.map((lane) => [lane.name, { states: lane.capture.states(), counters: lane.capture.counters() }]),
  );
  return [...attached.values()].flatMap(({ endpoint, lane }) => {
    const counters = byLane.get(lane.name)?.counters.get(endpoint.id);
    const state = byLane.get(lane.name)?.states.get(endpoint.id);
    return counters === undefined || state === undefined ? [] : [{ endpoint, lane: lane.name, state, counters }];
  });
}

function noteState({ attached, everCaptured, problems, onChange, log }: Parts, id: string, state: EndpointState): void {
  const attachment = attached.get(id);
  if (attachment === undefined) return;
  const about = { endpoint: id, interface: attachment.endpoint.interface };
  if (state.is === 'capturing') {
    everCaptured.add(id);
    log.info({ ...about, linkType: state.linkType }, 'capturing');
  } else if (state.is === 'waiting' && !problems.has(`capture/${attachment.lane.name}`)) {
    // Interfaces go when their pods end.
    log[everCaptured.has(id) ? 'info' : 'warn']({ ...about, reason: state.reason }, 'not capturing');
  }
  onChange?.();
}

/** The sets that any of its resources names. */
function setsOf({ resources, ruleSets }: Endpoint, rules: Pick<LiveRules, 'defaults'>): string[] {
  return [...new Set(resources.flatMap((key) => ruleSets?.[key] ?? rules.defaults()))];
}

function specOf(endpoint: Endpoint, vlan: number, keep: Keep): AttachSpec {
  const { id, addresses } = endpoint;
  return { id, taps: tapsOf(endpoint), vlan, addresses, keep: keepMost(endpoint, keep) };
}

/** Its endpoints share a lane's engine, so a new one goes where the fewest are. */
function leastLoaded(lanes: readonly Lane[], attached: Map<string, Attachment>): Lane {
  const load = (lane: Lane): number => [...attached.values()].filter((entry) => entry.lane === lane).length;
  const [first, ...rest] = lanes;
  if (first === undefined) throw new Error('there is no lane');
  return rest.reduce((best, lane) => (load(lane) < load(best) ? lane : best), first);
}
