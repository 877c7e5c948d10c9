/**
 * A pod's network namespace: that of the oldest process in the pod's cgroup, which is the sandbox (pause) where the
 * runtime has one. It has to have all of the pod's addresses, as /proc/<pid>/net shows them, which only the kernel
 * writes.
 *
 * Needs the node's pid namespace, and CAP_SYS_PTRACE. Static pods are not found: their cgroup has another UID than the
 * object in the API.
 */
import { readlinkSync } from 'node:fs';
import { errorCode } from '../../files/errors.ts';
import { read, type Host } from './host.ts';
import { canonical, parseInet6, parseLocalAddresses } from './kernel.ts';
import type { PodIdentity } from './resolver.ts';

/** Of a pod's kernel files no more is read: it can make them as long as it likes. */
export const LIMIT = 1 << 20;
/** Processes that are looked at: of some, /sys can't be read. */
const TRIES = 8;

export interface Namespace {
  /** Its identity, as /proc/<pid>/ns/net links to it: `net:[4026532281]`. */
  link: string;
  /** Processes in it, the oldest first. */
  members: [number, ...number[]];
}

export type NamespaceAnswer =
  { kind: 'found'; namespace: Namespace; addresses: Set<string> } | { kind: 'missing'; reason: string };

export function findNamespace(pod: PodIdentity, host: Host): NamespaceAnswer {
  if (pod.addresses.length === 0) return missing('the pod has no address yet');
  const pids = host.processes(pod.uid);
  if (pids.length === 0) return missing(`no process in a cgroup of pod ${pod.uid}`);
  if (host.netns === undefined) return missing("the node's network namespace can't be read");
  let netns: string | undefined;
  const members: number[] = [];
  for (const pid of pids) {
    const link = linkOf(host, pid);
    if (link === 'denied') return missing(`no right to look into process ${pid} (CAP_SYS_PTRACE)`);
    // Its runtime's helpers run in the node's namespace.
    if (link === undefined || link === host.netns) continue;
    netns ??= link;
    if (link === netns && members.push(pid) === TRIES) break;
  }
  const [oldest, ...others] = members;
  if (oldest === undefined || netns === undefined)
    return missing("the pod's processes are in the node's network namespace");
  const addresses = addressesOf(`${host.proc}/${oldest}/net`);
  const foreign = pod.addresses.find((address) => !addresses.has(canonical(address) ?? ''));
  if (foreign !== undefined) return missing(`the network namespace of process ${oldest} does not have ${foreign}`);
  return { kind: 'found', namespace: { link: netns, members: [oldest, ...others] }, addresses };
}

function linkOf(host: Host, pid: number): string | undefined {
  try {
    return readlinkSync(`${host.proc}/${pid}/ns/net`);
  } catch (error) {
    const code = errorCode(error);
    return code === 'EACCES' || code === 'EPERM' ? 'denied' : undefined;
  }
}

/** The namespace's own addresses. @param net A folder like /proc/<pid>/net. */
function addressesOf(net: string): Set<string> {
  const own = parseLocalAddresses(read(`${net}/fib_trie`, LIMIT));
  for (const { address } of parseInet6(read(`${net}/if_inet6`, LIMIT))) own.add(address);
  return own;
}

function missing(reason: string): { kind: 'missing'; reason: string } {
  return { kind: 'missing', reason };
}
