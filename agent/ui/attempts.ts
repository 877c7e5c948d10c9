/**
 * How often a sender failed to sign in: 10 times in a minute at most, and then it has to wait. What one does keeps
 * nobody else out.
 *
 * A sender is an IPv4 address, or the /64 of an IPv6 one: who has one address of it has all.
 *
 * Not promised: that whoever has many addresses is held up. Bounded: of more than 10,000 senders, the one that failed
 * longest ago is forgotten.
 */
import { LRUCache } from 'lru-cache';
import { addressBytes } from '../endpoints/address.ts';

const MAX_FAILURES = 10;
/** Of one sender; what is taken back may be among the last. */
const MAX_KEPT = 100;
const WINDOW_MILLIS = 60_000;
const MAX_SENDERS = 10_000;
/** What stands before an IPv4 address in the form of IPv6 (RFC 4291, 2.5.5.2). */
const MAPPED = Buffer.from('00000000000000000000ffff', 'hex');

export interface Attempts {
  /** Seconds to wait before another one of this address may try; 0: none. */
  wait(address: string): number;
  /** Counts a failure. @returns what takes it back, for one that is counted before it is known whether it is one. */
  count(address: string): () => void;
}

/** @param now Milliseconds on a monotonic clock. */
export function createAttempts(now: () => number = () => performance.now()): Attempts {
  /** Of each sender its last failures. */
  const failures = new LRUCache<string, { at: number }[]>({ max: MAX_SENDERS });
  // Only a failure makes a sender one that is remembered longer.
  const recent = (sender: string): { at: number }[] =>
    (failures.peek(sender) ?? []).filter(({ at }) => now() - at < WINDOW_MILLIS);

  return {
    wait(address) {
      const first = recent(senderOf(address)).at(-MAX_FAILURES);
      return first === undefined ? 0 : Math.ceil((first.at + WINDOW_MILLIS - now()) / 1000);
    },
    count(address) {
      const sender = senderOf(address);
      const failure = { at: now() };
      failures.set(sender, [...recent(sender), failure].slice(-MAX_KEPT));
      return () => {
        const others = recent(sender).filter((other) => other !== failure);
        if (failures.has(sender)) failures.set(sender, others);
      };
    },
  };
}

function senderOf(address: string): string {
  const [bare = ''] = address.split('%');
  const bytes = addressBytes(bare);
  if (bytes?.length !== 16) return bare;
  return MAPPED.equals(bytes.subarray(0, 12)) ? bytes.subarray(12).join('.') : bytes.toString('hex', 0, 8);
}
