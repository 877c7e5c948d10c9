/**
 * The node's network, as kernel files show it during one round of resolving. Each file is read when the first pod needs
 * it and then kept, so a Host must not live longer than a round: it would give yesterday's answers.
 */
import { closeSync, constants, openSync, readdirSync, readlinkSync, readSync, statSync } from 'node:fs';
import {
  canonical,
  parseArp,
  parseDevices,
  parseForwarding,
  parseIgmp,
  parsePodUid,
  parseRoutes,
  parseRoutes6,
  parseStartTime,
  type HostRoute,
  type Neighbour,
} from './kernel.ts';

/** An interface, in whatever network namespace. */
export interface Device {
  name: string;
  ifindex: number;
  /** Index of its peer, or of what it is built upon, in the namespace of that one; its own where it has neither. */
  iflink: number;
  /**
   * `veth` is what can't be told from one: an Ethernet device of software, with a peer, on top of nothing and with no
   * kind of its own.
   */
  kind: 'veth' | 'bridge' | 'other';
  /** For messages: `a bridge`. */
  what: string;
  /** Of the kind `veth`: probably a netkit, which eBPF programs redirect packets past. Known only while it is up. */
  netkit?: true;
}

export interface Host {
  /** Where processes are: `/proc`. */
  proc: string;
  /** The node's network namespace (`net:[4026531840]`), and its sysfs's device number; undefined: may not be read. */
  netns: string | undefined;
  sysfs: number | undefined;
  /** An interface and its present index; undefined: there is none, or /proc and /sys do not agree about it. */
  device(name: string): Device | undefined;
  deviceOfIndex(ifindex: number): Device | undefined;
  /** Names of the interfaces that host routes to an address lead to. */
  routes(address: string): string[];
  /** IPv4 neighbours with this address. */
  neighbours(address: string): Neighbour[];
  /** Names of the ports behind which a bridge has learned a MAC. */
  ports(bridge: string, mac: string): string[];
  /** Processes in the pod's cgroup, the oldest first. */
  processes(uid: string): number[];
}

export interface Root {
  /** Processes, by their ids in the node's pid namespace. */
  proc: string;
  /** A process in the node's network namespace. */
  self?: string;
  /** A sysfs that was mounted in the node's network namespace. */
  sys: string;
}

export function readHost({ proc, self = `${proc}/self`, sys }: Root = { proc: '/proc', sys: '/sys' }): Host {
  const classNet = `${sys}/class/net`;
  const present = lazy(() => new Set(parseDevices(read(`${self}/net/dev`))));
  const indices = lazy(() => parseIgmp(read(`${self}/net/igmp`)));
  const routes = lazy(() =>
    groupBy<HostRoute>(
      [...parseRoutes(read(`${self}/net/route`)), ...parseRoutes6(read(`${self}/net/ipv6_route`))],
      ({ address }) => address,
    ),
  );
  const neighbours = lazy(() => groupBy<Neighbour>(parseArp(read(`${self}/net/arp`)), ({ address }) => address));
  const forwarding = memo((bridge: string) => readForwarding(`${classNet}/${bridge}`));
  const byIndex = lazy(
    () => new Map([...present()].map((name) => [Number(read(`${classNet}/${name}/ifindex`)), name] as const)),
  );
  const pods = lazy(() => readProcesses(proc));
  const device = memo((name: string) => {
    if (!present().has(name)) return undefined;
    const known = readDevice(classNet, name);
    // /sys of another network namespace has other interfaces under the same names.
    return known === undefined || (indices().get(name) ?? known.ifindex) !== known.ifindex ? undefined : known;
  });
  return {
    proc,
    netns: attempt(() => readlinkSync(`${self}/ns/net`)),
    sysfs: attempt(() => statSync(classNet).dev),
    device,
    deviceOfIndex(ifindex) {
      const found = device(byIndex().get(ifindex) ?? '');
      return found?.ifindex === ifindex ? found : undefined;
    },
    routes: (address) => [
      ...new Set(
        routes()
          .get(canonical(address) ?? '')
          ?.map((route) => route.device),
      ),
    ],
    neighbours: (address) => neighbours().get(address) ?? [],
    ports: (bridge, mac) => forwarding(bridge).get(mac) ?? [],
    processes(uid) {
      const pids = pods().get(uid);
      // A process of unknown age has ended.
      const started = pids?.map((pid) => ({ pid, at: parseStartTime(read(`${proc}/${pid}/stat`)) })) ?? [];
      return started
        .flatMap(({ pid, at }) => (at === undefined ? [] : [{ pid, at }]))
        .toSorted((a, b) => a.at - b.at || a.pid - b.pid)
        .map(({ pid }) => pid);
    },
  };
}

/** Of linux/if_arp.h and linux/if.h. */
const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;
const IFF_UP = 0x1;
const IFF_NOARP = 0x80;

/** @param classNet A folder like /sys/class/net. @returns undefined when the interface is not there. */
export function readDevice(classNet: string, name: string): Device | undefined {
  const base = `${classNet}/${name}`;
  const entries = attempt(() => readdirSync(base)) ?? [];
  const uevent = read(`${base}/uevent`);
  const ifindex = Number(/^IFINDEX=(\d+)$/m.exec(uevent)?.[1]);
  const iflink = Number(read(`${base}/iflink`));
  const type = Number(read(`${base}/type`));
  const flags = Number(read(`${base}/flags`));
  // One that goes while we look has empty files.
  if (type === 0 || !Number.isInteger(ifindex + iflink + type)) return undefined;
  const kind = /^DEVTYPE=(\w+)$/m.exec(uevent)?.[1];
  const what = (): string | undefined => {
    if (type === ARPHRD_LOOPBACK) return 'the loopback';
    if (entries.includes('tun_flags')) return 'a tun or tap device';
    if (type !== ARPHRD_ETHER) return `a tunnel or the like (ARPHRD ${type})`;
    if (entries.includes('bridge')) return 'a bridge';
    if (kind !== undefined) return `a device of type ${kind}`;
    if (entries.includes('device')) return 'a hardware interface';
    if (entries.some((entry) => entry.startsWith('lower_'))) return 'an interface on top of another one';
    if (iflink === 0) return 'a device without a peer';
    // A veth whose peer happens to have the same index looks alike but for this flag.
    if (iflink === ifindex && (flags & IFF_NOARP) !== 0) return 'a dummy';
    return undefined;
  };
  const other = what();
  // It looks like a veth but for this: a veth that is up tells a speed (drivers/net/veth.c), a netkit has none
  // (drivers/net/netkit.c).
  const netkit = other === undefined && (flags & IFF_UP) !== 0 && read(`${base}/speed`) === '';
  return {
    name,
    ifindex,
    iflink,
    kind: other === undefined ? 'veth' : other === 'a bridge' ? 'bridge' : 'other',
    what: other ?? (netkit ? 'a netkit' : 'a veth'),
    ...(netkit ? { netkit } : {}),
  };
}

/** @param bridge Its folder in /sys/class/net. @returns Ports' names by MAC. */
function readForwarding(bridge: string): Map<string, string[]> {
  const names = new Map(
    (attempt(() => readdirSync(`${bridge}/brif`)) ?? []).map(
      (port) => [Number(read(`${bridge}/brif/${port}/port_no`)), port] as const,
    ),
  );
  const learned = parseForwarding(readBytes(`${bridge}/brforward`));
  return new Map([...learned].map(([mac, ports]) => [mac, ports.flatMap((port) => names.get(port) ?? [])] as const));
}

/** Process ids by pod UID. */
function readProcesses(proc: string): Map<string, number[]> {
  const pods = new Map<string, number[]>();
  for (const entry of attempt(() => readdirSync(proc)) ?? []) {
    if (!/^\d+$/.test(entry)) continue;
    const uid = parsePodUid(read(`${proc}/${entry}/cgroup`));
    if (uid === undefined) continue;
    const pids = pods.get(uid);
    if (pids === undefined) pods.set(uid, [Number(entry)]);
    else pids.push(Number(entry));
  }
  return pods;
}

/** A kernel file as text; empty when it can't be read. What is beyond `limit` bytes is left out. */
export function read(path: string, limit = Infinity): string {
  return readBytes(path, limit).toString('utf8');
}

const CHUNK = Buffer.alloc(65_536);

function readBytes(path: string, limit = Infinity): Buffer {
  const parts: Buffer[] = [];
  let fd: number | undefined;
  try {
    // Non-blocking: in a pod's root, a FIFO could be in the file's place.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    for (let size = 0, count = -1; count !== 0 && size < limit; size += count) {
      count = readSync(fd, CHUNK, 0, CHUNK.length, null);
      parts.push(Buffer.from(CHUNK.subarray(0, count)));
    }
  } catch {
    // It is gone, or not ours to read.
    return Buffer.alloc(0);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
  return Buffer.concat(parts);
}

export function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

function lazy<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => (made ??= { value: make() }).value;
}

function memo<T>(make: (key: string) => T): (key: string) => T {
  const made = new Map<string, { value: T }>();
  return (key) => {
    let known = made.get(key);
    if (known === undefined) made.set(key, (known = { value: make(key) }));
    return known.value;
  };
}

function groupBy<T>(items: T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}
