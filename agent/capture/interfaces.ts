/** What the kernel says of a network interface. Its identity is the ifindex: a name can be given again. */
import { lstatSync, readFileSync } from 'node:fs';

const IFF_UP = 0x1;

export type InterfaceState = { is: 'up'; ifindex: number } | { is: 'down'; ifindex: number } | { is: 'absent' };

/** Reads /sys/class/net, which shows the network namespace that mounted it. */
export function interfaceState(name: string): InterfaceState {
  try {
    const base = `/sys/class/net/${name}`;
    const ifindex = Number(readFileSync(`${base}/ifindex`, 'latin1'));
    const flags = Number(readFileSync(`${base}/flags`, 'latin1').trim());
    return { is: (flags & IFF_UP) !== 0 ? 'up' : 'down', ifindex };
  } catch {
    return { is: 'absent' };
  }
}

/** Changes when the interface is another one, even by the same name; 0: there is none. Cheaper than its ifindex. */
export function interfaceIdentity(name: string): number {
  // The kernel makes a new inode for each device it registers.
  return lstatSync(`/sys/class/net/${name}`, { throwIfNoEntry: false })?.ino ?? 0;
}

export interface InterfaceCounters {
  /** Received and sent together. */
  packets: number;
  dropped: number;
}

/** What the kernel has counted at each interface of this process's network namespace. */
export function interfaceCounters(): Map<string, InterfaceCounters> {
  const counters = new Map<string, InterfaceCounters>();
  // Format: proc_pid_net(5), two lines of titles first.
  for (const line of readFileSync('/proc/self/net/dev', 'latin1').split('\n').slice(2)) {
    const colon = line.indexOf(':');
    const fields = line
      .slice(colon + 1)
      .trim()
      .split(/\s+/)
      .map(Number);
    const sum = (received: number, sent: number): number => (fields[received] ?? 0) + (fields[sent] ?? 0);
    if (colon > 0) counters.set(line.slice(0, colon).trim(), { packets: sum(1, 9), dropped: sum(3, 11) });
  }
  return counters;
}
