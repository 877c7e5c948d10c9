/**
 * What a node says of one resource: how it is written, when two say the same, and what all nodes say together.
 *
 * Reads what others wrote: fields that are missing or of another type count as nothing.
 */
import { isDeepStrictEqual } from 'node:util';
import { plain } from '../config/text.ts';
import { list, record } from './fields.ts';
import type { NodeStatus, ResourceStatus } from './resources.ts';

export type Entry = Omit<NodeStatus, 'node'>;

const MAX_ERRORS = 10;
/** Characters of an error's message. */
const MAX_MESSAGE = 512;

/** As it is written, but for `lastUpdated`. Calico names the time of an error `lastUpdated`, too. */
export function normalize(status: Entry): Entry {
  return {
    ...status,
    errorConditions: [...status.errorConditions]
      .sort((a, b) => Date.parse(b.timestamp) - Date.parse(a.timestamp))
      .slice(0, MAX_ERRORS)
      .map(({ message, timestamp }) => ({
        message: plain(message.slice(0, MAX_MESSAGE * 4).replaceAll(/\s+/g, ' '), MAX_MESSAGE - 1),
        timestamp,
        lastUpdated: timestamp,
      })),
  };
}

/** Whether they say the same, whenever it was that they began to. */
export function isSame(a: Entry | null | undefined, b: Entry | null | undefined): boolean {
  const timeless = (status: Entry | null | undefined): unknown =>
    status && { ...status, active: { ...record(status.active), lastUpdated: '' } };
  return isDeepStrictEqual(timeless(a), timeless(b));
}

/** `active`, with the time that the server's has where `success` is the same. */
export function keptSince(server: unknown, active: NodeStatus['active']): NodeStatus['active'] {
  const { success, lastUpdated } = record(server);
  const isUnchanged = (success ?? false) === active.success && Number.isFinite(Date.parse(String(lastUpdated)));
  return isUnchanged ? { ...active, lastUpdated: String(lastUpdated) } : active;
}

/** What one entry adds to the sums. */
export interface Counts {
  success: boolean;
  selected: number;
  captured: number;
  errors: number;
}

export function countsOf(entry: unknown): Counts {
  const { active, podsSelected, podsCaptured, errorConditions } = record(entry);
  return {
    success: record(active)['success'] === true,
    selected: count(podsSelected),
    captured: count(podsCaptured),
    errors: list(errorConditions).length,
  };
}

function count(value: unknown): number {
  return Number.isSafeInteger(value) ? Math.max(0, Number(value)) : 0;
}

export function sumsOf(entries: Counts[]): Required<Omit<ResourceStatus, 'nodes' | 'nodesOmitted'>> {
  const sum = (of: (entry: Counts) => number): number => entries.reduce((total, entry) => total + of(entry), 0);
  return {
    nodesActive: sum(({ success }) => Number(success)),
    podsSelected: sum(({ selected }) => selected),
    podsCaptured: sum(({ captured }) => captured),
    errors: sum(({ errors }) => errors),
  };
}
