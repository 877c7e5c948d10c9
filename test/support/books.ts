/** The agent's counters beside the kernel's own of the same interfaces. */
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import { lostOf, type Counters } from '../../agent/capture/protocol.ts';
import { askStatus } from '../../agent/observe/ask.ts';
import type { Snapshot } from '../../agent/observe/snapshot.ts';
import type { Lab, Pod } from '../../scripts/lab.ts';
import type { Workspace } from './agent.ts';
import { poll } from './poll.ts';

/** Reports without a change after which nothing is under way. */
const QUIET_REPORTS = 3;
const ASK_MILLIS = 60_000;
const POLL_MILLIS = 100;

/** Packets that the kernel has counted at the host sides of the pods, sent and received. */
export function kernelPackets(lab: Lab, pods: Pod[]): number[] {
  const files = pods.flatMap(({ interface: name }) =>
    ['rx', 'tx'].map((direction) => `/sys/class/net/${name}/statistics/${direction}_packets`),
  );
  const counts = lab
    .exec(lab.node, 'cat', ...files)
    .trim()
    .split('\n')
    .map(Number);
  return pods.map((_, index) => (counts[2 * index] ?? NaN) + (counts[2 * index + 1] ?? NaN));
}

export function snapshot(workspace: Workspace): Promise<Snapshot> {
  return askStatus({ socket: join(workspace.directory, 'state', 'agent.sock') }, ASK_MILLIS);
}

/** The pods' counters once nothing changes any more: no packet may be under way. */
export async function settledCounters(workspace: Workspace, pods: Pod[]): Promise<Counters[]> {
  let last = '';
  let countedAt: number | undefined;
  let same = 0;
  return poll(async () => {
    const { endpoints, lanes } = await snapshot(workspace);
    const now = lanes[0]?.countedAt;
    if (now === countedAt) return undefined;
    countedAt = now;
    const counters = pods.flatMap((pod) => endpoints.find(({ name }) => name === pod.name)?.counters ?? []);
    // What is told of directions goes on by the second.
    const text = JSON.stringify(counters.map(accounts));
    same = text === last ? same + 1 : 0;
    last = text;
    return same >= QUIET_REPORTS ? counters : undefined;
  });
}

/** The two sides of an endpoint's account: packets that came, and what became of them. */
export function accounts(counters: Counters): { received: number; accounted: number } {
  const { received, forwarded, shunted, unsupported } = counters;
  return { received, accounted: forwarded + shunted + unsupported + lostOf(counters) };
}

export interface Watched {
  /** Milliseconds between two reports of the capture process, at most. */
  longestGap: number;
}

/** Watches the reports of a running agent, until the returned function is called. */
export function watchReports(workspace: Workspace): () => Promise<Watched> {
  let watching = true;
  const watched: Watched = { longestGap: 0 };
  const done = (async () => {
    for (let last: number | undefined; watching; await sleep(POLL_MILLIS)) {
      const countedAt = (await snapshot(workspace)).lanes[0]?.countedAt;
      if (countedAt === undefined || countedAt === last) continue;
      if (last !== undefined) watched.longestGap = Math.max(watched.longestGap, countedAt - last);
      last = countedAt;
    }
  })();
  return async () => {
    watching = false;
    await done;
    return watched;
  };
}
