/**
 * What an agent carries within the limits of its container: 1 CPU and 1 GiB of memory, by control groups, set up as the
 * operator does for them.
 *
 * Traffic of one kind is sent onto a pod's veth at one pace after the other: doubled until packets are lost, then
 * halved between what was carried and what was not. A pace is carried when no packet of it was lost anywhere and the
 * alert of its last packet was reported at most half a second after it was sent. After that come connections that stay
 * open, more than the engine keeps: the most memory that the processes took.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lostOf } from '../agent/capture/protocol.ts';
import { askStatus } from '../agent/observe/ask.ts';
import type { Snapshot } from '../agent/observe/snapshot.ts';
import { share } from '../agent/operator/desired.ts';
import type { Lab, Pod } from '../scripts/lab.ts';
import { payloadOf, type RunningAgent, type Workspace } from '../test/support/agent.ts';
import { RULE_SETS } from './alone.ts';
import {
  allowLargeFrames,
  fixed,
  grouped,
  runAgent,
  within,
  withLab,
  withWorkspace,
  type Figure,
  type Setting,
} from './bench.ts';
import { send } from './cpu.ts';
import { createLimitedGroup, type LimitedGroup } from './limits.ts';
import { memoryByName } from './processes.ts';
import { END, EXPECTED_SIDS, expectedAlerts, writeOpenFlows, writeTraffic, type Mix, type Traffic } from './traffic.ts';

const CPUS = 1;
const MEMORY = 2 ** 30;
const LIMITS = { cpu: `${CPUS}`, memory: '1Gi' };
/** Of the way between carried and not. */
const HALVINGS = { full: 3, quick: 1 };
const SECONDS = { full: 10, quick: 2 };
/** Alerts that each pass must give: an engine that does not read what it gets carries any pace. */
const MARKERS = 50;
const OPEN_FLOWS = { full: 120_000, quick: 10_000 };
const FLOW_PACE = 15_000;
const START_MILLIS = 120_000;
const ASK_MILLIS = 5_000;
/** From the last packet to its alert. */
const DONE_MILLIS = 500;
/** What is behind by more has lost packets, or will. */
const END_MILLIS = 30_000;
/** Counters are reported each second. */
const REPORTED_MILLIS = 1_500;
const SAMPLE_MILLIS = 1_000;
const MEBIBYTE = 2 ** 20;

interface Load {
  mix: Mix;
  title: string;
  /** Packets a second. */
  first: number;
  full: Until;
  quick: Until;
  /** Bits a second, with rules beside the built-in set. */
  target?: { atLeast: number; aim: number };
}

const LOADS: Load[] = [
  {
    mix: 'small',
    title: 'requests and look-ups, 54 to 600 bytes',
    first: 20_000,
    full: { packets: 400_000 },
    quick: { packets: 40_000 },
  },
  {
    mix: 'full',
    title: 'downloads in full frames of 1,514 bytes',
    first: 40_000,
    full: { bytes: 300e6 },
    quick: { bytes: 60e6 },
  },
  {
    mix: 'large',
    title: 'downloads between pods of the node, frames of 60 KB',
    first: 4_000,
    full: { bytes: 600e6 },
    quick: { bytes: 100e6 },
  },
  {
    mix: 'mixed',
    title: 'of the bytes 70 % TLS, 20 % downloads in frames of 60 KB, 10 % requests',
    first: 20_000,
    full: { bytes: 600e6 },
    quick: { bytes: 100e6 },
    target: { atLeast: 4e9, aim: 8e9 },
  },
];

type Until = Parameters<typeof writeTraffic>[2];

interface Place {
  lab: Lab;
  pod: Pod;
  workspace: Workspace;
  agent: RunningAgent;
  /** Of files, so far: each brings other flows. */
  passes: number;
}

/** @throws Error when control groups can't be made, or not even the first pace is carried. */
export async function benchSizing(setting: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  const ruleSettings = setting.rules.length === 0 ? [[]] : [[], setting.rules];
  for (const rules of ruleSettings) {
    const group = createLimitedGroup('dpi-bench', { cpus: CPUS, memory: MEMORY });
    try {
      await withWorkspace((workspace) =>
        withLab(async (lab) => {
          const pod = lab.addPod({ name: 'target', address: '10.65.0.2' });
          allowLargeFrames(lab, pod);
          await measure(setting, { lab, pod, workspace }, rules, group, figures);
        }),
      );
    } finally {
      await remove(group);
    }
  }
  return figures;
}

async function measure(
  setting: Setting,
  at: Omit<Place, 'agent' | 'passes'>,
  rules: string[],
  group: LimitedGroup,
  figures: Figure[],
): Promise<void> {
  const sizing = share({ limits: LIMITS });
  if ('problem' in sizing) throw new Error(sizing.problem);
  const agent = await within(
    START_MILLIS,
    'the start of dpi-agent',
    runAgent({
      lab: at.lab,
      engine: setting.engine.name,
      workspace: at.workspace,
      pods: [at.pod],
      ruleSets: RULE_SETS,
      config: {
        logLevel: 'info',
        lanes: sizing.lanes,
        engine: { memoryLimit: `${sizing.engineBytes}` },
        rules: [at.workspace.rules, ...rules],
        // Each run waits for an alert of its own.
        alerts: { burst: 0 },
      },
      started: (pid) => group.add(pid),
    }),
  );
  const place: Place = { ...at, agent, passes: 0 };
  try {
    const { rules: loaded } = await ask(place);
    const add = (what: string, value: string, details: string): void =>
      void figures.push({
        engine: setting.engine.name,
        what: `${grouped(loaded.loaded)} rules, ${what}`,
        value,
        details,
      });
    for (const load of LOADS) {
      const { pace, bits, flows, memory, tried } = await most(setting, place, load);
      const target = rules.length > 0 ? describeTarget(load) : '';
      add(
        load.title,
        `${grouped(bits / 1e6)} Mbit/s`,
        `${grouped(pace)} packets/s, ${grouped(flows)} flows/s; up to ${fixed(memory / MEBIBYTE, 0)} MiB; paces ${tried}${target}`,
      );
    }
    const count = OPEN_FLOWS[setting.quick ? 'quick' : 'full'];
    setting.say(`sizing: ${grouped(count)} open flows`);
    const traffic = await writeOpenFlows(join(place.workspace.directory, 'flows.pcap'), count);
    const { lost, memory } = await carry(place, traffic, FLOW_PACE, 1);
    add(
      `${grouped(count)} flows that stay open`,
      `${fixed(memory / MEBIBYTE, 0)} MiB`,
      `most that all processes took at a time; killed by the kernel ${group.killed()}; packets lost ${grouped(lost)} of ${grouped(traffic.packets)}`,
    );
  } finally {
    await agent.stop();
  }
}

function describeTarget({ target }: Load): string {
  if (target === undefined) return '';
  return `; at least ${grouped(target.atLeast / 1e6)} Mbit/s, aim ${grouped(target.aim / 1e6)} Mbit/s`;
}

interface Most {
  /** Packets a second. */
  pace: number;
  /** Bits a second. */
  bits: number;
  /** Flows a second: the generated conversations. */
  flows: number;
  /** Bytes, of all processes. */
  memory: number;
  tried: string;
}

/** The largest pace of this traffic that is carried. */
async function most(setting: Setting, place: Place, load: Load): Promise<Most> {
  const seconds = SECONDS[setting.quick ? 'quick' : 'full'];
  setting.say(`sizing, ${load.title}: writing it`);
  const traffic = await writeTraffic(
    join(place.workspace.directory, 'load.pcap'),
    load.mix,
    load[setting.quick ? 'quick' : 'full'],
    MARKERS,
  );
  const tried: string[] = [];
  let carried = 0;
  let lost = Infinity;
  let best: Omit<Most, 'tried'> | undefined;
  for (let halvings = HALVINGS[setting.quick ? 'quick' : 'full']; halvings > 0;) {
    const pace = lost === Infinity ? Math.max(load.first, carried * 2) : (carried + lost) / 2;
    if (lost !== Infinity && carried > 0) halvings -= 1;
    setting.say(`sizing, ${load.title}: ${grouped(pace)} packets/s`);
    const run = await carry(place, traffic, pace, Math.max(1, Math.round((pace * seconds) / traffic.packets)));
    tried.push(`${grouped(pace)}${run.carried ? '' : ` (${run.lost > 0 ? `lost ${grouped(run.lost)}` : run.why})`}`);
    if (run.carried) {
      carried = pace;
      best = {
        pace: run.pace,
        bits: (8 * traffic.bytes * run.pace) / traffic.packets,
        flows: (traffic.conversations * run.pace) / traffic.packets,
        memory: run.memory,
      };
    } else {
      lost = pace;
      if (carried === 0 && pace < load.first / 8) throw new Error(`${load.title}: not even ${grouped(pace)} packets/s`);
    }
  }
  if (best === undefined) throw new Error(`${load.title}: no pace was carried: ${tried.join(', ')}`);
  return { ...best, tried: tried.join(', ') };
}

interface Run {
  carried: boolean;
  /** Why not, where nothing was lost. */
  why: string;
  /** As it was sent, packets a second. */
  pace: number;
  lost: number;
  memory: number;
}

async function carry(place: Place, traffic: Traffic, pace: number, passes: number): Promise<Run> {
  const { agent } = place;
  const before = lostPackets(await ask(place));
  const from = agent.events.length;
  let memory = 0;
  const timer = setInterval(() => {
    memory = Math.max(
      memory,
      Object.values(memoryByName(agent.pid)).reduce((all, { pss }) => all + pss, 0),
    );
  }, SAMPLE_MILLIS);
  try {
    const sent = await send(place, traffic, pace, passes, place.passes);
    place.passes += passes;
    const started = performance.now();
    const isLast = (): boolean =>
      agent.events.slice(from).filter((event) => payloadOf(event).includes(END)).length >= passes;
    while (!isLast() && performance.now() - started < END_MILLIS) await sleep(10);
    const behind = performance.now() - started;
    await sleep(REPORTED_MILLIS);
    const lost = lostPackets(await ask(place)) - before;
    const expected = agent.events
      .slice(from)
      .filter(({ record }) => EXPECTED_SIDS.has(Number(record.snort_signature_id)));
    const missed = passes * expectedAlerts(traffic) - expected.length;
    const real = sent.packets / sent.seconds;
    const slow = real < pace * 0.95;
    return {
      carried: lost === 0 && !slow && missed <= 0 && behind <= DONE_MILLIS,
      why: slow
        ? `only ${grouped(real)} could be sent`
        : missed > 0
          ? `${missed} alerts missing`
          : `${grouped(behind)} ms behind`,
      pace: real,
      lost,
      memory,
    };
  } finally {
    clearInterval(timer);
  }
}

function ask({ workspace }: Place): Promise<Snapshot> {
  return askStatus({ socket: join(workspace.directory, 'state/agent.sock') }, ASK_MILLIS);
}

function lostPackets({ endpoints }: Snapshot): number {
  return endpoints.reduce((sum, { counters }) => sum + lostOf(counters), 0);
}

/** A process that has just ended may still be in it. */
async function remove(group: LimitedGroup): Promise<void> {
  for (let tries = 50; ; tries--) {
    try {
      group.remove();
      return;
    } catch (error) {
      if (tries === 0) throw error;
      await sleep(100);
    }
  }
}
