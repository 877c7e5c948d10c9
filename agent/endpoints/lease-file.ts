/**
 * The file of the leases: NDJSON, a line for each change of a lease. The last line with its id and beginning counts,
 * and torn ones do not. It is written anew when it is opened and when most of its lines are old. A change is on the disk
 * before it is used: what a power cut took from the file would give the alerts of the time before it to an id's owner
 * of earlier. With 250 pods that takes 70 ms on an SSD.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { errorCode } from '../files/errors.ts';
import { makeDirectorySync } from '../files/folder.ts';
import { replaceFileSync } from '../files/replace.ts';
import type { Endpoint } from './endpoint.ts';

export const FIRST_ID = 1;
/** 4094 is the canary's, 4095 is reserved by 802.1Q. */
export const LAST_ID = 4093;
/** The file is written anew when it has so many lines, and twice as many as there can be leases. */
const MAX_LINES = 10_000;

export interface Lease {
  vlan: number;
  endpoint: Endpoint;
  /** Microseconds since the epoch; `until` is absent while the lease runs. */
  since: number;
  until?: number;
}

/** What reaches the file: it is on the disk before anything else goes on. Errors are those of node:fs. */
export interface LeaseFiles {
  read(file: string): string;
  append(file: string, text: string): void;
  /** In one step. The folder is made where it is missing. */
  replace(file: string, text: string): void;
}

export const nodeFiles: LeaseFiles = {
  read: (file) => readFileSync(file, 'utf8'),
  append: (file, text) => appendFileSync(file, text, { flush: true }),
  replace(file, text) {
    makeDirectorySync(dirname(file), 0o711);
    replaceFileSync(file, text, 0o600);
  },
};

export interface LeaseFile {
  readonly path: string;
  readonly files: LeaseFiles;
  lines: number;
  /** A write failed, and may have left a part of its line. */
  isTorn: boolean;
}

/**
 * @param most Leases that are remembered, at most. @param all Those that are. @throws Error when it can't be written.
 */
export function saveLease(file: LeaseFile, lease: Lease, most: number, all: () => Lease[]): void {
  if (file.isTorn || file.lines > Math.max(MAX_LINES, 2 * most)) return rewriteLeases(file, all());
  file.isTorn = true;
  file.files.append(file.path, `${JSON.stringify(lease)}\n`);
  file.isTorn = false;
  file.lines++;
}

export function rewriteLeases(file: LeaseFile, leases: Lease[]): void {
  file.files.replace(file.path, leases.map((lease) => `${JSON.stringify(lease)}\n`).join(''));
  file.lines = leases.length;
  file.isTorn = false;
}

/** In the order of their lines: by time, but for a clock that was set. */
export function readLeases({ path, files }: LeaseFile): Lease[] {
  let text: string;
  try {
    text = files.read(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
  const leases = new Map<string, Lease>();
  for (const line of text.split('\n')) {
    try {
      const lease: unknown = JSON.parse(line);
      if (isLease(lease)) leases.set(`${lease.vlan} ${lease.since}`, lease);
    } catch {
      // Torn: the agent that wrote it had not used it yet.
    }
  }
  return [...leases.values()];
}

function isLease(value: unknown): value is Lease {
  const lease = value as Partial<Lease> | null;
  return (
    typeof lease === 'object' &&
    lease !== null &&
    Number.isInteger(lease.vlan) &&
    Number(lease.vlan) >= FIRST_ID &&
    Number(lease.vlan) <= LAST_ID &&
    Number.isFinite(lease.since) &&
    (lease.until === undefined || Number.isFinite(lease.until)) &&
    typeof lease.endpoint?.id === 'string' &&
    Array.isArray(lease.endpoint.resources) &&
    Array.isArray(lease.endpoint.addresses)
  );
}
