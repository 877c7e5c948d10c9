/** Fields of an API object, whatever it really holds. */
import { isIP } from 'node:net';
import { isRecord } from '../files/record.ts';

export function record(value: unknown): Record<string, unknown> {
  return isRecord(value) ? value : {};
}

export function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

export function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

export function texts(value: unknown): Record<string, string> {
  return Object.fromEntries(
    Object.entries(record(value)).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

/** An address in the one form to compare (IPv6 as in RFC 5952); undefined when it is none, or has a zone. */
export function canonicalAddress(address: string): string | undefined {
  if (isIP(address) === 4) return address;
  if (isIP(address) === 0 || address.includes('%')) return undefined;
  return new URL(`http://[${address}]/`).hostname.slice(1, -1);
}
