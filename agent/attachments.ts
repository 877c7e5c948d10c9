/**
 * Which endpoints are inspected: each leases a VLAN id that has its rule sets, and the least loaded lane captures it.
 *
 * Invariants: an endpoint is captured only once the engines have its rule sets; it keeps its id until it is detached,
 * whatever else of it changes, and its lane as long as the lanes are the same ones. One that moves is captured by both
 * lanes for a moment, so that no packet is missed; its alerts of that moment are merged.
 *
 * Not promised: that a pattern is found which began in a flow's packets before the move, and ends in those after it.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Logger } from 'pino';
import { addCounters, zeroCounters, type AttachSpec, type Counters } from './capture/protocol.ts';
import type { EndpointState } from './capture/supervisor.ts';
import { createCombinations, type Combination, type Combinations } from './endpoints/combinations.ts';
import { keepMost, tapsOf, type Endpoint, type Keep } from './endpoints/endpoint.ts';
import type { Leases } from './endpoints/leases.ts';
import { systemClock, type Clock } from './files/clock.ts';
import type { Lane } from './lane.ts';
import type { LiveRules } from './rulesets/live.ts';

/** How long an engine keeps the rules of sets that no endpoint has any more. */
const TRIM_MILLIS = 60_000;
/** Until a lane that an endpoint moves to captures it, at most, and between two looks. */
const MOVE_MILLIS = 5_000;
const LOOK_MILLIS = 20;
/** In which the lane before reads what came before that. */
const OVERLAP_MILLIS = 200;
/** Alerts of the packets that both lanes captured come so much later, at most. */
const AFTER_MOVE_MILLIS = 1_000;

export interface AttachmentsOptions {
  leases: Leases;
  /** Those that take endpoints. */
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
  /** Moves endpoints whose lane takes none any more, and so many others that each lane has about as many. */
  spread: () => Promise<void>;
  /** Whether two lanes may have captured the same packets of it a moment ago. */
  isMoving: (endpointId: string) => boolean;
  stop(): void;
}

interface Attachment {
  endpoint: Endpoint;
  lane: Lane;
  /** The lane that it moves to. */
  next: Lane | undefined;
  /** It is being detached, and moves no more. */
  isLeaving: boolean;
  /** Resolves when it has moved. */
  moved: Promise<void>;
  /** What lanes counted that it was in before. */
  earlier: Counters;
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
  readonly moving: Set<string>;
  spreading: Promise<void>;
  stopped: boolean;
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
    moving: new Set(),
    spreading: Promise.resolve(),
    stopped: false,
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
    spread: () => (parts.spreading = parts.spreading.then(() => spread(parts))),
    isMoving: (endpointId) => parts.moving.has(endpointId),
    stop() {
      parts.stopped = true;
      parts.callOffTrim();
    },
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
  const attachment: Attachment = { ...NEW, endpoint, lane, earlier: zeroCounters(), isCaptured: isLoaded };
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
  if ((hasOtherTaps || isKeptOtherwise) && attachment.isCaptured) {
    for (const lane of [attachment.lane, attachment.next]) lane?.capture.attach(specOf(endpoint, vlan, keep));
  }
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
  attachment.isLeaving = true;
  await attachment.moved;
  const counters = addCounters(await attachment.lane.capture.detach(endpointId), attachment.earlier);
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

function capturedEndpoints({ attached }: Parts): CapturedEndpoint[] {
  const lanes = new Set([...attached.values()].map(({ lane }) => lane));
  const byLane = new Map(
    [...lanes].map((lane) => [lane, { states: lane.capture.states(), counters: lane.capture.counters() }]),
  );
  return [...attached.values()].flatMap(({ endpoint, lane, earlier }) => {
    const counters = byLane.get(lane)?.counters.get(endpoint.id);
    const state = byLane.get(lane)?.states.get(endpoint.id);
    if (counters === undefined || state === undefined) return [];
    return { endpoint, lane: lane.name, state, counters: addCounters({ ...counters }, earlier) };
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
  const [first, ...rest] = lanes;
  if (first === undefined) throw new Error('there is no lane');
  return rest.reduce((best, lane) => (loadOf(lane, attached) < loadOf(best, attached) ? lane : best), first);
}

function loadOf(lane: Lane, attached: Map<string, Attachment>): number {
  return [...attached.values()].filter((entry) => (entry.next ?? entry.lane) === lane).length;
}

const NEW = { next: undefined, isLeaving: false, moved: Promise.resolve(), moves: 0 } satisfies Partial<Attachment>;

/** One at a time: the others are captured as before meanwhile. */
async function spread(parts: Parts): Promise<void> {
  for (let next = nextMove(parts); next !== undefined && !parts.stopped; next = nextMove(parts)) {
    const { attachment, to } = next;
    attachment.moved = move(parts, attachment, to);
    await attachment.moved;
  }
}

function nextMove({ lanes, attached }: Parts): { attachment: Attachment; to: Lane } | undefined {
  const to = leastLoaded(lanes, attached);
  const all = [...attached.values()].filter(({ isLeaving }) => !isLeaving);
  const fullest = lanes.find((lane) => loadOf(lane, attached) > loadOf(to, attached) + 1);
  const attachment = all.find(({ lane }) => !lanes.includes(lane)) ?? all.find(({ lane }) => lane === fullest);
  return attachment === undefined ? undefined : { attachment, to };
}

async function move(parts: Parts, attachment: Attachment, to: Lane): Promise<void> {
  const { leases, keep, moving, clock, log } = parts;
  const { lane: from } = attachment;
  const { id } = attachment.endpoint;
  const vlan = leases.idOf(id);
  if (attachment.isCaptured && vlan !== undefined) {
    attachment.next = to;
    moving.add(id);
    to.capture.attach(specOf(attachment.endpoint, vlan, keep));
    const pause = (millis: number): Promise<void> => new Promise((resolve) => clock.after(millis, resolve));
    for (let left = MOVE_MILLIS; left > 0 && isStarting(to, id); left -= LOOK_MILLIS) await pause(LOOK_MILLIS);
    await pause(OVERLAP_MILLIS);
    addCounters(attachment.earlier, await leave(from, id));
    clock.after(AFTER_MOVE_MILLIS, () => moving.delete(id));
    log.info({ endpoint: id, from: from.name, lane: to.name }, 'captured by another lane');
  }
  attachment.lane = to;
  attachment.next = undefined;
}

/** @returns the lane's counters, without what was left in its ring, which the other lane has. */
async function leave({ capture }: Lane, id: string): Promise<Counters> {
  const before = capture.counters().get(id)?.droppedDetached ?? 0;
  const counters = await capture.detach(id);
  const left = counters.droppedDetached - before;
  return { ...counters, droppedDetached: before, received: counters.received - left };
}

function isStarting({ capture }: Lane, id: string): boolean {
  return capture.states().get(id)?.is === 'starting';
}
