/**
 * CPU time for the same live packets: the agent in all (agent, capture, engine) against the engine capturing by itself
 * with AF_PACKET.
 *
 * A round starts one of the two on a pod's veth, waits until it reports a first packet's alert, sends a load of the
 * same kind and size, so that neither is measured while it compiles or fills its caches, then the load, and ends when
 * it reports the last packet's alert. CPU time is that of the load. The pace is halved when either side lost a packet.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineName } from '../agent/engine/engine.ts';
import type { Lab, Pod } from '../scripts/lab.ts';
import { payloadOf, type Workspace } from '../test/support/agent.ts';
import { writePcap } from '../test/support/packets.ts';
import { PROJECT } from '../test/support/project.ts';
import { prepareAlone, RING_MEGABYTES, RULE_SETS } from './alone.ts';
import {
  allowLargeFrames,
  fixed,
  grouped,
  median,
  runAgent,
  watch,
  within,
  withLab,
  withWorkspace,
  type Result,
  type Setting,
} from './bench.ts';
import { cpuByName, cpuSeconds } from './processes.ts';
import { END, EXPECTED_SIDS, expectedAlerts, markerPacket, writeTraffic, type Mix, type Traffic } from './traffic.ts';

const ROUNDS = { full: 3, quick: 1 };
const MARKERS = 50;
const READY = '<ready>';
const START_MILLIS = 60_000;
const SETTLE_MILLIS = 1_000;
const END_MILLIS = 60_000;
const STOP_MILLIS = 10_000;
const SLOWER_AT_MOST = 3;
const BULK = { full: { bytes: 1e9 }, quick: { bytes: 100e6 } };
const BULK_PACES = [{ bytesPerSecond: 100e6 }, { bytesPerSecond: 300e6 }];

type Pace = { packetsPerSecond: number } | { bytesPerSecond: number };

interface Load {
  mix: Mix;
  title: string;
  full: Until;
  quick: Until;
  paces: Pace[];
  targets: Record<EngineName, { atLeast: number; aim: number }>;
}

type Until = Parameters<typeof writeTraffic>[2];

const LOADS: Load[] = [
  {
    mix: 'clear',
    title: 'clear text, frames of 24-60 KB',
    ...BULK,
    paces: BULK_PACES,
    targets: { snort: { atLeast: 1.4, aim: 1.1 }, suricata: { atLeast: 2, aim: 1.3 } },
  },
  {
    mix: 'small',
    title: 'small packets',
    full: { packets: 400_000 },
    quick: { packets: 40_000 },
    paces: [{ packetsPerSecond: 20_000 }, { packetsPerSecond: 40_000 }],
    targets: { snort: { atLeast: 0.95, aim: 0.8 }, suricata: { atLeast: 1.5, aim: 1.1 } },
  },
  {
    mix: 'tls',
    title: 'TLS bulk',
    ...BULK,
    paces: BULK_PACES,
    targets: { snort: { atLeast: 0.3, aim: 0.15 }, suricata: { atLeast: 0.5, aim: 0.2 } },
  },
  {
    mix: 'mixed',
    title: 'mixed',
    ...BULK,
    paces: BULK_PACES,
    targets: { snort: { atLeast: 0.7, aim: 0.45 }, suricata: { atLeast: 1, aim: 0.6 } },
  },
];

interface Round extends Counted {
  /** Seconds. */
  cpu: number;
  parts: Record<string, number>;
  sender: Sent;
}

interface Runs {
  agent: Round[];
  alone: Round[];
}

interface Counted {
  received: number;
  dropped: number;
  /** Of `EXPECTED_SIDS`. */
  alerts: number;
  /** Part of the received bytes that the engine was given. */
  given: number;
}

interface Sent {
  packets: number;
  bytes: number;
  seconds: number;
  cpu: number;
}

interface Subject {
  pid: number;
  /** Resolves once so many alerts with this text in their payloads are reported. */
  reported(text: string, times?: number): Promise<void>;
  /** Ends it, and says what it counted. */
  stop(): Promise<Counted>;
}

interface Sendings {
  traffic: Traffic;
  warmUp: Traffic;
}

interface Place {
  lab: Lab;
  workspace: Workspace;
  pod: Pod;
}

export async function benchCpu(setting: Setting): Promise<Result[]> {
  const results: Result[] = [];
  for (const load of LOADS) {
    await withWorkspace(async (workspace) => {
      setting.say(`cpu, ${load.title}: writing the load`);
      const until = load[setting.quick ? 'quick' : 'full'];
      const traffic = await writeTraffic(join(workspace.directory, 'load.pcap'), load.mix, until, MARKERS);
      const warmUp = await writeTraffic(join(workspace.directory, 'warm-up.pcap'), load.mix, until, 0);
      for (const pace of load.paces) results.push(await compare(setting, workspace, load, { traffic, warmUp }, pace));
    });
  }
  return results;
}

async function compare(
  setting: Setting,
  workspace: Workspace,
  load: Load,
  sent: Sendings,
  pace: Pace,
): Promise<Result> {
  const { traffic } = sent;
  const rounds = setting.quick ? ROUNDS.quick : ROUNDS.full;
  const title = `${load.title}, ${describePace(pace)}`;
  let rate =
    'packetsPerSecond' in pace ? pace.packetsPerSecond : (pace.bytesPerSecond * traffic.packets) / traffic.bytes;
  const refuted: string[] = [];
  for (; ; rate /= 2) {
    const runs: Runs = { agent: [], alone: [] };
    const isRefuted = (): boolean => refuted.length < SLOWER_AT_MOST && droppedOf(runs) > 0;
    for (let round = 1; round <= rounds && !isRefuted(); round++) {
      for (const side of ['agent', 'alone'] as const) {
        const who = side === 'agent' ? 'dpi-agent' : `${setting.engine.name} alone`;
        setting.say(`cpu, ${title}, ${grouped(rate)} packets/s: round ${round} of ${rounds}, ${who}`);
        runs[side].push(await runRound(setting, workspace, load.mix, sent, rate, side));
      }
    }
    if (!isRefuted()) return toResult(setting, load, title, sent, refuted, runs);
    refuted.push(`${grouped(rate)} packets/s (${dropsOf(runs.agent)} : ${dropsOf(runs.alone)} dropped)`);
  }
}

function droppedOf({ agent, alone }: Runs): number {
  return dropsOf([...agent, ...alone]);
}

function dropsOf(rounds: Round[]): number {
  return rounds.reduce((sum, { dropped }) => sum + dropped, 0);
}

function describePace(pace: Pace): string {
  return 'packetsPerSecond' in pace
    ? `${grouped(pace.packetsPerSecond)} packets/s`
    : `${grouped(pace.bytesPerSecond / 1e6)} MB/s`;
}

function toResult(
  setting: Setting,
  load: Load,
  title: string,
  { traffic, warmUp }: Sendings,
  refuted: string[],
  runs: Runs,
): Result {
  const cpu = (side: Round[]): number => median(side.map((run) => run.cpu));
  const both = (value: (run: Round) => string | number): string =>
    [runs.agent, runs.alone].map((side) => side.map(value).join(' ')).join(' : ');
  const middle = runs.agent.toSorted((a, b) => a.cpu - b.cpu)[Math.floor((runs.agent.length - 1) / 2)];
  const expected = expectedAlerts(traffic) + expectedAlerts(warmUp);
  const short = [...runs.agent, ...runs.alone].some(({ alerts }) => alerts < expected);
  const dropped = droppedOf(runs);
  const failure =
    dropped > 0
      ? `${dropped} packets were dropped, also at this pace`
      : short
        ? `not every one of ${expected} alerts was reported: one side did not inspect everything`
        : undefined;
  return {
    benchmark: 'cpu',
    engine: setting.engine.name,
    what: title,
    agent: `${fixed(cpu(runs.agent))} s`,
    alone: `${fixed(cpu(runs.alone))} s`,
    value: cpu(runs.agent) / cpu(runs.alone),
    unit: 'ratio',
    target: load.targets[setting.engine.name],
    details: {
      load: `${grouped(traffic.packets)} packets, ${grouped(traffic.bytes / 1e6)} MB`,
      ...(refuted.length > 0 ? { 'too fast were': refuted.join(', ') } : {}),
      'sent at': `${both(({ sender }) => fixed(sender.bytes / 1e6 / sender.seconds, 0))} MB/s, ${both(({ sender }) => grouped(sender.packets / sender.seconds))} packets/s`,
      'agent by process': Object.entries(middle?.parts ?? {})
        .map(([name, seconds]) => `${name} ${fixed(seconds)} s`)
        .join(', '),
      runs: both((run) => fixed(run.cpu)),
      received: both((run) => run.received),
      dropped: both((run) => run.dropped),
      'bytes that the engine was given': `${runs.agent.map((run) => fixed(run.given * 100, 0)).join(' ')} %`,
      alerts: `${both((run) => run.alerts)} of ${expected}`,
      'CPU of the sender, with the copying into the ring': `${both((run) => fixed(run.sender.cpu))} s`,
    },
    ...(failure === undefined ? {} : { failure }),
  };
}

async function runRound(
  setting: Setting,
  workspace: Workspace,
  mix: Mix,
  { traffic, warmUp }: Sendings,
  rate: number,
  side: 'agent' | 'alone',
): Promise<Round> {
  return await withLab(async (lab) => {
    const pod = lab.addPod({ name: 'target', address: '10.65.0.2' });
    if (mix !== 'small') {
      allowLargeFrames(lab, pod);
    }
    const place = { lab, workspace, pod };
    const subject = await (side === 'agent' ? startAgent(setting, place) : startAlone(setting, place));
    try {
      await untilReady(subject, place);
      await send(place, warmUp, rate, 1, 1);
      await within(END_MILLIS, `the warm-up of ${side}`, subject.reported(END)).catch(() => undefined);
      await sleep(SETTLE_MILLIS);
      const before = cpuSeconds(subject.pid);
      const partsBefore = cpuByName(subject.pid);
      const sender = await send(place, traffic, rate);
      const end = subject.reported(END, 2);
      end.catch(() => undefined);
      const missing = await within(END_MILLIS, `the last packet's alert of ${side}`, end).catch(
        (error: Error) => error,
      );
      const cpu = cpuSeconds(subject.pid) - before;
      const partsAfter = cpuByName(subject.pid);
      const parts = Object.fromEntries(
        Object.entries(partsAfter).map(([name, seconds]) => [name, seconds - (partsBefore[name] ?? 0)]),
      );
      const counted = await subject.stop();
      // With losses, it may be one of them.
      if (missing !== undefined && counted.dropped === 0) throw missing;
      return { cpu, parts, sender, ...counted };
    } catch (error) {
      await subject.stop().catch(() => undefined);
      throw error;
    }
  });
}

/** Packets from before an engine captures are nobody's: one is sent again and again until it is reported. */
async function untilReady(subject: Subject, { lab, workspace, pod }: Place): Promise<void> {
  const file = join(workspace.directory, 'ready.pcap');
  writeFileSync(file, writePcap(markerPacket(0, READY)));
  let ready = false;
  const reported = subject.reported(READY).then(() => (ready = true));
  reported.catch(() => undefined);
  for (const deadline = Date.now() + START_MILLIS; !ready && Date.now() < deadline;) {
    lab.exec(pod.netns, process.execPath, join(PROJECT, 'dist/test/support/inject.js'), 'eth0', file);
    await Promise.race([reported, sleep(500)]);
  }
  if (!ready) throw new Error(`no packet was reported within ${START_MILLIS / 1000} s`);
}

/** From the pod's own interface, packets a second. */
export async function send(
  { lab, pod }: Pick<Place, 'lab' | 'pod'>,
  traffic: Traffic,
  rate: number,
  passes = 1,
  first = 0,
): Promise<Sent> {
  const args = [join(PROJECT, 'dist/bench/sender.js'), 'eth0', traffic.path, ...[rate, passes, first].map(String)];
  const child = lab.spawn(pod.netns, process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const millis = 60_000 + (2000 * passes * traffic.packets) / rate;
  const { code } = await within(millis, 'sending', watch(child));
  if (code !== 0) throw new Error(`the sender ended with status ${code}`);
  return JSON.parse(output) as Sent;
}

async function startAgent(setting: Setting, { lab, workspace, pod }: Place): Promise<Subject> {
  const agent = await within(
    START_MILLIS,
    'the start of dpi-agent',
    runAgent({
      lab,
      engine: setting.engine.name,
      workspace,
      pods: [pod],
      ruleSets: RULE_SETS,
      config: {
        logLevel: 'info',
        rules: [workspace.rules, ...setting.rules],
        capture: { ringSize: `${RING_MEGABYTES}MiB`, maxRingSize: `${RING_MEGABYTES}MiB` },
      },
    }),
  );
  let stopped = false;
  return {
    pid: agent.pid,
    async reported(text, times = 1) {
      while (!stopped && agent.events.filter((event) => payloadOf(event).includes(text)).length < times)
        await sleep(20);
    },
    async stop() {
      stopped = true;
      await agent.stop();
      const counts = agent.log.findLast((line) => line.msg === 'endpoint') ?? {};
      const count = (name: string): number => Number(counts[name] ?? 0);
      // What lay in the ring when it was closed came after the load: the last packet had been reported.
      const dropped = Object.keys(counts)
        .filter((name) => name.startsWith('dropped') && name !== 'droppedDetached')
        .reduce((sum, name) => sum + count(name), 0);
      const alerts = agent.events.filter(
        (event) => EXPECTED_SIDS.has(Number(event.record.snort_signature_id)) && !payloadOf(event).includes(READY),
      );
      return {
        received: count('received'),
        dropped,
        alerts: alerts.length,
        given: count('forwardedBytes') / count('receivedBytes'),
      };
    },
  };
}

async function startAlone(setting: Setting, { lab, workspace, pod }: Place): Promise<Subject> {
  const name = `alone-${performance.now()}`;
  const alone = await prepareAlone(setting, workspace, name, { interface: pod.interface });
  const child = lab.spawn(lab.node, alone.binary, alone.arguments, { stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = watch(child);
  let ended = false;
  let output = '';
  const take = (chunk: Buffer): string => (output = (output + chunk.toString()).slice(-200_000));
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  exited.then(
    () => (ended = true),
    () => (ended = true),
  );
  const includes =
    (text: string) =>
    (alert: { payload?: Buffer }): boolean =>
      alert.payload?.includes(text) === true;
  return {
    pid: child.pid ?? 0,
    async reported(text, times = 1) {
      while (alone.alerts().filter(includes(text)).length < times) {
        if (ended) throw new Error(`${alone.binary} ended:\n${output.slice(-4000)}`);
        await sleep(20);
      }
    },
    async stop() {
      child.kill('SIGINT');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MILLIS);
      await closed;
      clearTimeout(timer);
      const counted = lossesOf(setting.engine.name, output);
      if (counted === undefined)
        throw new Error(`${alone.binary} did not say what it dropped:\n${output.slice(-4000)}`);
      const alerts = alone.alerts().filter((alert) => EXPECTED_SIDS.has(alert.sid) && !includes(READY)(alert));
      return { ...counted, alerts: alerts.length, given: 1 };
    },
  };
}

/** What an engine says at its end. Snort leaves out lines that would be 0. */
function lossesOf(engine: 'snort' | 'suricata', output: string): { received: number; dropped: number } | undefined {
  if (engine === 'suricata') {
    const found = /: packets: (\d+), drops: (\d+)/.exec(output);
    return found === null ? undefined : { received: Number(found[1]), dropped: Number(found[2]) };
  }
  const daq = /^daq$([^-]*)/m.exec(output)?.[1];
  const count = (key: string): number => Number(new RegExp(`^\\s*${key}: (\\d+)`, 'm').exec(daq ?? '')?.[1] ?? 0);
  return daq === undefined ? undefined : { received: count('received'), dropped: count('dropped') };
}
