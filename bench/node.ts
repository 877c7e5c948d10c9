/**
 * A node with as many pods as it takes: how soon an agent that starts captures all of them, how soon it ends, and what
 * stays of those that come and go.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startControlPlane, type ControlPlane } from '../scripts/control-plane.ts';
import type { Lab } from '../scripts/lab.ts';
import type { RunningAgent, Workspace } from '../test/support/agent.ts';
import { fixed, grouped, withLab, withWorkspace, within, type Figure, type Setting } from './bench.ts';
import { binaries, makePods, prepareCluster, startFollowing } from './kubernetes.ts';
import { cpuSeconds, memoryByName, processTree } from './processes.ts';

const PODS = 250;
/** Others, that come, are made anew one after the other, and go: 1,000 an hour are 0.28 a second. */
const RENEWED = { count: 20, full: { perSecond: 10, seconds: 600 }, quick: { perSecond: 5, seconds: 60 } };
const AN_HOUR = 1_000;
const SETTLE_MILLIS = 10_000;
const PATIENCE_MILLIS = 120_000;
const MEBIBYTE = 2 ** 20;

export async function benchNode(setting: Setting): Promise<Figure[]> {
  return await withLab(
    async (lab) =>
      await withWorkspace(async (workspace) => {
        const cluster = await startControlPlane({
          directory: join(workspace.directory, 'control-plane'),
          binaries: await binaries(),
          wrap: (command, args) => ['ip', ['netns', 'exec', lab.node, command, ...args]],
          users: { agent: [] },
        });
        try {
          return await measure(setting, lab, workspace, cluster);
        } finally {
          await cluster.close();
        }
      }),
  );
}

async function measure(setting: Setting, lab: Lab, workspace: Workspace, cluster: ControlPlane): Promise<Figure[]> {
  prepareCluster(cluster);
  await makePods(setting, lab, cluster, { namespace: 'full', count: PODS });
  setting.say(`node: an agent starts with ${PODS} pods`);
  const since = performance.now();
  const agent = await startFollowing(setting, lab, workspace, cluster);
  const reading = performance.now() - since;
  await captured(agent, PODS);
  const all = performance.now() - since;
  const base = { engine: setting.engine.name };
  const figures: Figure[] = [
    {
      ...base,
      what: `start with ${PODS} pods, until all are captured`,
      value: seconds(all),
      details: `the engine reads packets after ${seconds(reading)}`,
    },
  ];
  try {
    figures.push(...(await renew(setting, lab, workspace, cluster, agent)).map((figure) => ({ ...base, ...figure })));
  } finally {
    setting.say('node: the agent ends');
    const { millis } = await agent.stop();
    figures.push({ ...base, what: `end with ${PODS} pods`, value: seconds(millis), details: '' });
  }
  return figures;
}

async function captured(agent: RunningAgent, count: number): Promise<void> {
  const seen = new Set<unknown>();
  let from = 0;
  const noteNew = (): boolean => {
    for (; from < agent.log.length; from++) {
      const line = agent.log[from];
      if (line?.msg === 'capturing') seen.add(line['endpoint']);
    }
    return seen.size >= count;
  };
  await within(PATIENCE_MILLIS, `the capture of ${count} pods`, agent.logged(noteNew));
}

/** What an agent holds. */
interface Held {
  memory: string;
  descriptors: number;
  sockets: number;
  files: number;
  processes: number;
}

async function renew(
  setting: Setting,
  lab: Lab,
  workspace: Workspace,
  cluster: ControlPlane,
  agent: RunningAgent,
): Promise<Omit<Figure, 'engine'>[]> {
  const { perSecond, seconds: span } = RENEWED[setting.quick ? 'quick' : 'full'];
  await sleep(SETTLE_MILLIS);
  const held = [heldBy(agent, workspace)];
  const cpuBefore = cpuSeconds(agent.pid);
  const thirds = 3;
  const began = performance.now();
  for (let third = 1; third <= thirds; third++) {
    setting.say(`node: pods are made anew, part ${third} of ${thirds}`);
    const namespace = `renewed-${third}`;
    const renewed = { perSecond, seconds: span / thirds };
    await makePods(setting, lab, cluster, { namespace, count: RENEWED.count, renewed });
    cluster.kubectl('delete', 'pods', '--all', '-n', namespace, '--force', '--grace-period=0');
    cluster.kubectl('delete', 'deeppacketinspections.projectcalico.org', '--all', '-n', namespace);
    await sleep(SETTLE_MILLIS);
    held.push(heldBy(agent, workspace));
  }
  const took = performance.now() - began;
  const pods = thirds * RENEWED.count + perSecond * span;
  const cpu = cpuSeconds(agent.pid) - cpuBefore;
  return [
    {
      what: `${grouped(pods)} pods made anew`,
      value: `${fixed((1_000 * cpu) / pods, 1)} ms of CPU for each`,
      details: `in ${seconds(took)}: ${fixed(pods / AN_HOUR, 1)} hours of 1,000 pods each`,
    },
    ...held.map(({ memory, ...counts }, index) => ({
      what: index === 0 ? 'held before' : `held after ${index} of ${thirds} parts`,
      value: memory,
      details: Object.entries(counts)
        .map(([what, count]) => `${what} ${grouped(count)}`)
        .join(', '),
    })),
  ];
}

function heldBy({ pid }: RunningAgent, { directory }: Workspace): Held {
  const tree = processTree(pid);
  const links = tree.flatMap(linksOf);
  const memory = Object.entries(memoryByName(pid)).map(
    ([name, { pss, rings }]) => `${name} ${fixed((pss - rings) / MEBIBYTE, 1)} MiB`,
  );
  return {
    memory: memory.join(', '),
    descriptors: links.length,
    sockets: links.filter((link) => link.startsWith('socket:')).length,
    files: ['state', 'journal'].reduce((sum, name) => sum + filesIn(join(directory, name)), 0),
    processes: tree.length,
  };
}

/** Descriptors may be closed meanwhile. */
function linksOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`;
  const quiet = <T>(read: () => T, otherwise: T): T => {
    try {
      return read();
    } catch {
      return otherwise;
    }
  };
  return quiet(() => readdirSync(folder), []).map((name) => quiet(() => readlinkSync(join(folder, name)), ''));
}

function filesIn(directory: string): number {
  return readdirSync(directory, { recursive: true }).length;
}

function seconds(millis: number): string {
  return `${fixed(millis / 1_000, 1)} s`;
}
