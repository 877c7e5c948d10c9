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

/** Changes when the interface is another one, though its name be the same; 0: there is none. Cheaper than its ifindex. */
export function interfaceIdentity(name: string): number {
  // The kernel makes a new inode for each device it registers.
  return lstatSync(`/sys/class/net/${name}`, { throwIfNoEntry: false })?.ino ?? 0;
}
