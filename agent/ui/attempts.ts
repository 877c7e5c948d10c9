/**
 * How often a sender failed to sign in: 10 times in a minute at most, and then it has to wait. What one does keeps nobody else out.
 *
 * A sender is an IPv4 address, or the /64 of an IPv6 one: who has one address of it has all.
 *
 * Not promised: that whoever has many addresses is held up. Bounded: of more than 10,000 senders, the one that failed longest ago is forgotten.
 */
import { isIPv6, SocketAddress } from 'node:net';

const MAX_FAILURES = 10;
/** Of one sender; what is taken back may be among the last. */
const MAX_KEPT = 100;
const WINDOW_MILLIS = 60_000;
const MAX_SENDERS = 10_000;

export interface Attempts {
  /** Seconds to wait before another one of this address may try; 0: none. */
  wait(address: string): number;
  /** Counts a failure. @returns what takes it back, for one that is counted before it is known whether it is one. */
  count(address: string): () => void;
}

/** @param now Milliseconds on a monotonic clock. */
export function createAttempts(now: () => number = () => performance.now()): Attempts {
  /** Of each sender its last failures; the one that failed longest ago is first. */
  const failures = new Map<string, { at: number }[]>();
  const recent = (sender: string): { at: number }[] =>
    (failures.get(sender) ?? []).filter(({ at }) => now() - at < WINDOW_MILLIS);

  return {
    wait(address) {
      const first = recent(senderOf(address)).at(-MAX_FAILURES);
      return first === undefined ? 0 : Math.ceil((first.at + WINDOW_MILLIS - now()) / 1000);
    },
    count(address) {
      const sender = senderOf(address);
      const failure = { at: now() };
      const list = [...recent(sender), failure].slice(-MAX_KEPT);
      failures.delete(sender);
      failures.set(sender, list);
      for (const oldest of failures.keys()) {
        if (failures.size <= MAX_SENDERS) break;
        failures.delete(oldest);
      }
      return () => {
        const others = recent(sender).filter((other) => other !== failure);
        if (failures.has(sender)) failures.set(sender, others);
      };
    },
  };
}

function senderOf(address: string): string {
  const [bare = ''] = address.split('%');
  if (!isIPv6(bare)) return bare;
  const canonical = new SocketAddress({ address: bare, family: 'ipv6' }).address;
  const mapped = /^::ffff:([\d.]+)$/.exec(canonical)?.[1];
  if (mapped !== undefined) return mapped;
  const groups = (text: string): string[] => (text === '' ? [] : text.split(':'));
  const [head = '', tail] = canonical.split('::');
  const zeros = tail === undefined ? 0 : 8 - groups(head).length - groups(tail).length;
  return [...groups(head), ...Array<string>(zeros).fill('0'), ...groups(tail ?? '')].slice(0, 4).join(':');
}
