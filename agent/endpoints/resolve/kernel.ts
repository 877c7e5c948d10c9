/**
 * Parsers of kernel files: pure, and lenient. A line that is not of the form described is passed over, whatever it
 * holds, since some of these files show what a pod has a say in.
 */
import { SocketAddress } from 'node:net';
import { endianness } from 'node:os';

/** Of linux/route.h. */
const RTF_REJECT = 0x0200;
/** Of linux/ipv6_route.h: exceptions, anycast and the node's own addresses. */
const RTF_CACHE = 0x0100_0000;
const RTF_ANYCAST = 0x0010_0000;
const RTF_LOCAL = 0x8000_0000;
/** Of net/if_arp.h: the entry has a hardware address. */
const ATF_COM = 0x02;

export interface HostRoute {
  address: string;
  device: string;
}

/**
 * Directly attached single addresses of /proc/net/route (net/ipv4/fib_trie.c, fib_route_seq_show): the main table only.
 * Address and mask are hexadecimal, in the machine's byte order.
 */
export function parseRoutes(text: string, order: 'BE' | 'LE' = endianness()): HostRoute[] {
  const routes: HostRoute[] = [];
  for (const line of text.split('\n')) {
    const match = /^(\S+)\t([0-9A-F]{8})\t0{8}\t([0-9A-F]{1,8})\t(?:\d+\t){3}F{8}\t/.exec(line);
    const [, device, destination, flags] = match ?? [];
    if (device === undefined || destination === undefined || device === '*') continue;
    if ((Number(`0x${flags}`) & RTF_REJECT) !== 0) continue;
    const bytes = Buffer.from(destination, 'hex');
    routes.push({ address: (order === 'LE' ? bytes.toReversed() : bytes).join('.'), device });
  }
  return routes;
}

/** Interfaces of the default routes in the same file, in its order. */
export function parseDefaultRoutes(text: string): string[] {
  return [...text.matchAll(/^(\S+)\t0{8}\t[0-9A-F]{8}\t([0-9A-F]{1,8})\t(?:\d+\t){3}0{8}\t/gm)].flatMap(
    ([, device = '*', flags]) => (device === '*' || (Number(`0x${flags}`) & RTF_REJECT) !== 0 ? [] : [device]),
  );
}

/** Single addresses of /proc/net/ipv6_route (net/ipv6/ip6_fib.c, ipv6_route_native_seq_show): all tables. */
export function parseRoutes6(text: string): HostRoute[] {
  const routes: HostRoute[] = [];
  for (const line of text.split('\n')) {
    const match = /^([0-9a-f]{32}) 80 0{32} 00 0{32} [0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{8} ([0-9a-f]{8}) +(\S+)$/.exec(
      line,
    );
    const [, destination, flags, device] = match ?? [];
    if (destination === undefined || device === undefined) continue;
    const set = Number(`0x${flags}`);
    if ([RTF_REJECT, RTF_CACHE, RTF_ANYCAST, RTF_LOCAL].some((flag) => (set & flag) !== 0)) continue;
    const address = addressOfHex(destination);
    if (address !== undefined) routes.push({ address, device });
  }
  return routes;
}

export interface Neighbour {
  address: string;
  /** As the kernel prints it: `02:42:0a:00:00:05`. */
  mac: string;
  device: string;
}

/** Complete Ethernet entries of /proc/net/arp (proc(5)). */
export function parseArp(text: string): Neighbour[] {
  const neighbours: Neighbour[] = [];
  for (const line of text.split('\n')) {
    const match = /^([\d.]+) +0x1 +0x([0-9a-f]+) +((?:[0-9a-f]{2}:){5}[0-9a-f]{2}) +\S+ +(\S+)$/.exec(line);
    const [, address, flags, mac, device] = match ?? [];
    if (address === undefined || mac === undefined || device === undefined) continue;
    if ((Number(`0x${flags}`) & ATF_COM) !== 0) neighbours.push({ address, mac, device });
  }
  return neighbours;
}

const FDB_ENTRY = 16;

/**
 * /sys/class/net/<bridge>/brforward: `struct __fdb_entry` of linux/if_bridge.h, 16 bytes each: MAC (6), low byte of the
 * port's number, whether the address is the bridge's own, age (4), high byte of the port's number, padding (3).
 * @returns Port numbers by learned MAC; with VLANs on the bridge one MAC can have several.
 */
export function parseForwarding(table: Buffer): Map<string, number[]> {
  const ports = new Map<string, number[]>();
  for (let at = 0; at + FDB_ENTRY <= table.length; at += FDB_ENTRY) {
    if (table.readUInt8(at + 7) !== 0) continue;
    const mac = table.toString('hex', at, at + 6).replaceAll(/..(?!$)/g, '$&:');
    const port = table.readUInt8(at + 6) | (table.readUInt8(at + 12) << 8);
    const known = ports.get(mac);
    if (known === undefined) ports.set(mac, [port]);
    else if (!known.includes(port)) known.push(port);
  }
  return ports;
}

/** IPv6 addresses and their interfaces, of /proc/net/if_inet6 (net/ipv6/addrconf.c, if6_seq_show). */
export function parseInet6(text: string): { address: string; ifindex: number; device: string }[] {
  return text.split('\n').flatMap((line) => {
    const [, hex = '', ifindex, device = ''] =
      /^([0-9a-f]{32}) ([0-9a-f]+) [0-9a-f]+ [0-9a-f]+ [0-9a-f]+ +(\S+)$/.exec(line) ?? [];
    const address = addressOfHex(hex);
    return address === undefined ? [] : [{ address, ifindex: Number(`0x${ifindex}`), device }];
  });
}

/** The namespace's own IPv4 addresses, of /proc/net/fib_trie (net/ipv4/fib_trie.c, fib_trie_seq_show). */
export function parseLocalAddresses(text: string): Set<string> {
  const addresses = new Set<string>();
  let leaf = '';
  for (const line of text.split('\n')) {
    leaf = /^ *\|-- ([\d.]+)$/.exec(line)?.[1] ?? leaf;
    if (leaf !== '' && /^ *\/32 host LOCAL$/.test(line)) addresses.add(leaf);
  }
  return addresses;
}

/**
 * Index by name of the interfaces that are up, of /proc/net/igmp (net/ipv4/igmp.c, igmp_mc_seq_show): each has joined
 * 224.0.0.1.
 */
export function parseIgmp(text: string): Map<string, number> {
  return new Map([...text.matchAll(/^(\d+)\t([^\s:]+) *:/gm)].map(([, ifindex, name = '']) => [name, Number(ifindex)]));
}

/** Names of all interfaces, of /proc/net/dev (proc(5)). */
export function parseDevices(text: string): string[] {
  return [...text.matchAll(/^ *([^\s:|]+):/gm)].map(([, name = '']) => name);
}

/**
 * The pod that a process belongs to, of /proc/<pid>/cgroup (cgroups(7)). A pod's cgroup is `pod<uid>` by the kubelet's
 * cgroupfs driver, `kubepods-burstable-pod<uid>.slice` with `_` for `-` by its systemd driver. The outermost one
 * counts: below it, a privileged pod can name cgroups as it likes.
 * @returns The UID; undefined for a process of no pod, or when the hierarchies of cgroup v1 differ.
 */
export function parsePodUid(text: string): string | undefined {
  const uids = new Set<string>();
  for (const line of text.split('\n')) {
    const uid =
      /^\d+:[^:]*:\/(?:.*?[/-])??pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?=\.slice|[/:]|$)/.exec(
        line,
      )?.[1];
    if (uid !== undefined) uids.add(uid.replaceAll('_', '-'));
  }
  const [uid] = uids;
  return uids.size === 1 ? uid : undefined;
}

/** When a process started, in ticks since boot: field 22 of /proc/<pid>/stat (proc(5)). Field 2 may hold anything. */
export function parseStartTime(stat: string): number | undefined {
  const field = stat.slice(stat.lastIndexOf(')') + 1).split(' ')[20];
  return field !== undefined && /^\d+$/.test(field) ? Number(field) : undefined;
}

/** 32 hexadecimal digits as RFC 5952 has them; undefined for anything else. */
function addressOfHex(hex: string): string | undefined {
  return hex.length === 32 ? canonical(hex.replaceAll(/.{4}(?!$)/g, '$&:')) : undefined;
}

/** An address in the form that all of this folder compares; undefined when it is none. */
export function canonical(address: string): string | undefined {
  try {
    return new SocketAddress({ address, family: address.includes(':') ? 'ipv6' : 'ipv4' }).address;
  } catch {
    return undefined;
  }
}
