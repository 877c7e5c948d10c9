/**
 * What packets of alerts cost: CPU of all processes of one agent that has been running for a while, for the same load
 * of a pod whose packets are kept and of one whose are not.
 *
 * The loads come in turn, each to one of the pods, with some ten alerts a second (small packets have more), of
 * connections that are new each time. A turn ends when its files are written; it counts user and system time until
 * then. So what differs between the pods of a pair of turns is what evidence costs, once code is compiled and memory is
 * as it stays.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab, Pod } from '../scripts/lab.ts';
import type { RunningAgent, Workspace } from '../test/support/agent.ts';
import { RING_MEGABYTES, RULE_SETS } from './alone.ts';
import {
  allowLargeFrames,
  fixed,
  median,
  runAgent,
  within,
  withLab,
  withWorkspace,
  type Figure,
  type Setting,
} from './bench.ts';
import { send } from './cpu.ts';
import { cpuByName } from './processes.ts';
import { writeTraffic, type Mix, type Traffic } from './traffic.ts';

/** Seconds of load in a turn, and pairs of turns that are compared; seconds of each pod's load before them. */
const TURNS = { full: { seconds: 6, pairs: 6, before: 40 }, quick: { seconds: 2, pairs: 2, before: 4 } };
/** Alerts a second before them: what runs for days has long been compiled. */
const MARKERS_BEFORE = 45;
/** Of a load's file; it is sent several times in a turn. */
const FILE_SECONDS = 2;
/** Until the files of a turn's last alerts are written. */
const SETTLE_MILLIS = 2_800;
const START_MILLIS = 60_000;
/** What the sender has of different addresses for a file's clients. */
const MOST_SHIFTS = 60;

interface Load {
  mix: Mix;
  title: string;
  packetsPerSecond?: number;
  bytesPerSecond?: number;
  /** A second, beside the alerts that the load's connections have. */
  markers: number;
}

const LOADS: Load[] = [
  { mix: 'clear', title: 'clear text, frames of 24-60 KB, 100 MB/s', bytesPerSecond: 100e6, markers: 0 },
  { mix: 'small', title: 'small packets, 20,000/s', packetsPerSecond: 20_000, markers: 0 },
  { mix: 'tls', title: 'TLS bulk, 100 MB/s', bytesPerSecond: 100e6, markers: 3 },
  { mix: 'mixed', title: 'mixed, 100 MB/s', bytesPerSecond: 100e6, markers: 3 },
];

interface Turn {
  /** Seconds, by process. */
  cpu: Record<string, number>;
  alerts: number;
}

interface Place {
  lab: Lab;
  agent: RunningAgent;
}

interface Sending {
  traffic: Traffic;
  /** Packets a second. */
  rate: number;
  passes: number;
}

export async function benchEvidenceCost(setting: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const load of LOADS) figures.push(await withWorkspace((workspace) => measure(setting, workspace, load)));
  return figures;
}

async function measure(setting: Setting, workspace: Workspace, load: Load): Promise<Figure> {
  const { seconds, pairs, before } = TURNS[setting.quick ? 'quick' : 'full'];
  setting.say(`evidence-cost, ${load.title}: writing the load`);
  const warmUp = await prepare(join(workspace.directory, 'before.pcap'), load, MARKERS_BEFORE, before);
  const sending = await prepare(join(workspace.directory, 'load.pcap'), load, load.markers, seconds);
  return await withLab(async (lab) => {
    const pods = addPods(lab);
    const agent = await within(START_MILLIS, 'the start of dpi-agent', start(setting, workspace, lab, pods));
    try {
      const place = { lab, agent };
      setting.say(`evidence-cost, ${load.title}: warming up`);
      await Promise.all([pods.kept, pods.off].map((pod) => takeTurn(place, pod, warmUp, MOST_SHIFTS)));
      const turns: [kept: Turn, off: Turn][] = [];
      for (let pair = 0; pair < pairs; pair++) {
        setting.say(`evidence-cost, ${load.title}: pair ${pair + 1} of ${pairs}`);
        turns.push(await pairOf(place, pods, sending, pair));
      }
      return figureOf(setting, load, turns, (sending.passes * sending.traffic.packets) / sending.rate);
    } finally {
      await agent.stop();
    }
  });
}

async function prepare(path: string, load: Load, markers: number, seconds: number): Promise<Sending> {
  const { mix, packetsPerSecond, bytesPerSecond = 0 } = load;
  const until =
    packetsPerSecond === undefined
      ? { bytes: bytesPerSecond * FILE_SECONDS }
      : { packets: packetsPerSecond * FILE_SECONDS };
  const traffic = await writeTraffic(path, mix, until, markers * FILE_SECONDS);
  const rate = packetsPerSecond ?? (bytesPerSecond * traffic.packets) / traffic.bytes;
  return { traffic, rate, passes: Math.ceil(seconds / FILE_SECONDS) };
}

interface Pods {
  kept: Pod;
  off: Pod;
}

function addPods(lab: Lab): Pods {
  const add = (name: string, address: string): Pod => {
    const pod = lab.addPod({ name, address });
    allowLargeFrames(lab, pod);
    return pod;
  };
  return { kept: add('kept', '10.65.0.2'), off: add('off', '10.65.0.3') };
}

async function start(setting: Setting, workspace: Workspace, lab: Lab, { kept, off }: Pods): Promise<RunningAgent> {
  return await runAgent({
    lab,
    engine: setting.engine.name,
    workspace,
    pods: [
      { ...kept, evidence: 'full' },
      { ...off, evidence: 'off' },
    ],
    ruleSets: RULE_SETS,
    config: {
      logLevel: 'info',
      rules: [workspace.rules, ...setting.rules],
      capture: { ringSize: `${RING_MEGABYTES}MiB`, maxRingSize: `${RING_MEGABYTES}MiB` },
    },
  });
}

/** The one that comes first is another one each time. */
async function pairOf(place: Place, { kept, off }: Pods, sending: Sending, pair: number): Promise<[Turn, Turn]> {
  const first = (pair * sending.passes) % MOST_SHIFTS;
  if (pair % 2 === 0) return [await takeTurn(place, kept, sending, first), await takeTurn(place, off, sending, first)];
  const without = await takeTurn(place, off, sending, first);
  return [await takeTurn(place, kept, sending, first), without];
}

async function takeTurn(
  { lab, agent }: Place,
  pod: Pod,
  { traffic, rate, passes }: Sending,
  first: number,
): Promise<Turn> {
  const before = cpuByName(agent.pid);
  const alerts = agent.events.length;
  await send({ lab, pod }, traffic, rate, passes, first);
  await sleep(SETTLE_MILLIS);
  const after = cpuByName(agent.pid);
  const names = Object.entries(after);
  const cpu = Object.fromEntries(names.map(([name, seconds]) => [name, seconds - (before[name] ?? 0)]));
  return { cpu, alerts: agent.events.length - alerts };
}

function figureOf(setting: Setting, load: Load, turns: readonly [Turn, Turn][], seconds: number): Figure {
  const all = ({ cpu }: Turn): number => Object.values(cpu).reduce((sum, each) => sum + each, 0);
  const sum = (side: 0 | 1, of: (turn: Turn) => number): number =>
    turns.reduce((total, pair) => total + of(pair[side]), 0);
  const [kept, off] = [sum(0, all), sum(1, all)];
  const alerts = sum(0, (turn) => turn.alerts);
  const names = Object.keys(turns[0]?.[0].cpu ?? {});
  const parts = names.map((name) => {
    const of = (turn: Turn): number => turn.cpu[name] ?? 0;
    return `${name} ${fixed(sum(0, of))} : ${fixed(sum(1, of))} s`;
  });
  const each = turns.map(([one, other]) => (all(one) / all(other) - 1) * 100);
  return {
    engine: setting.engine.name,
    what: load.title,
    value: `${fixed((kept / off - 1) * 100, 1)} %`,
    details: [
      `${fixed(kept)} : ${fixed(off)} s`,
      `pairs ${each.map((percent) => fixed(percent, 1)).join(' ')}, median ${fixed(median(each), 1)} %`,
      `${fixed(alerts / (turns.length * seconds), 1)} alerts a second, ${fixed(((kept - off) / alerts) * 1000, 2)} ms each`,
      parts.join(', '),
    ].join('; '),
  };
}
