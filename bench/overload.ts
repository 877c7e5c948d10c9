/**
 * One pod floods the lane that it shares with a quiet one: which of the quiet pod's alerts come and how late, what
 * became of the flood's packets by the agent's books and by the kernel's, and how long the agent was silent.
 *
 * The kernel's books are the statistics of the interface's host side. They are read where nothing is under way, so that
 * both have counted the same packets.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { COUNTER_NAMES, type Counters } from '../agent/capture/protocol.ts';
import { askStatus } from '../agent/observe/ask.ts';
import type { Snapshot } from '../agent/observe/snapshot.ts';
import type { Lab, Pod } from '../scripts/lab.ts';
import { MARKER, payloadOf, type RunningAgent, type Workspace } from '../test/support/agent.ts';
import { RULE_SETS } from './alone.ts';
import { fixed, grouped, runAgent, withLab, withWorkspace, within, type Figure, type Setting } from './bench.ts';
import { send } from './cpu.ts';
import { listen, microsOf, preciseClock, talk } from './latency.ts';
import { writeTraffic, type Traffic } from './traffic.ts';

const PACE = 120_000;
const FILE_PACKETS = 400_000;
const SECONDS = { full: { flood: 33, before: 10, all: 60 }, quick: { flood: 6, before: 3, all: 15 } };
const SPACING_MILLIS = 1_000;
const START_MILLIS = 60_000;
/** An agent under load may answer late. */
const ASK_MILLIS = 60_000;
const POLL_MILLIS = 100;
const LOOK_MILLIS = 10;
/** From the kernel's books to a report that has their last packet in it: it lay in a ring, or on its way. */
const SETTLED_MILLIS = 1_500;
/** What comes later does not come. */
const REST_MILLIS = 90_000;

interface Place {
  lab: Lab;
  workspace: Workspace;
  agent: RunningAgent;
  flooding: Pod;
  quiet: Pod;
  /** Takes the quiet pod's datagrams. */
  server: Pod;
}

/** What both have counted of a pod's interface so far. */
interface Books {
  kernel: number;
  counters: Counters;
}

export async function benchOverload(setting: Setting): Promise<Figure[]> {
  return await withWorkspace((workspace) =>
    withLab(async (lab) => {
      setting.say('overload: writing the flood');
      const traffic = await writeTraffic(
        join(workspace.directory, 'flood.pcap'),
        'small',
        { packets: FILE_PACKETS },
        0,
      );
      const flooding = lab.addPod({ name: 'flooding', address: '10.65.0.2' });
      const quiet = lab.addPod({ name: 'quiet', address: '10.65.0.3' });
      const server = lab.addPod({ name: 'server', address: '10.65.0.4' });
      await listen(lab, server);
      const agent = await start(setting, lab, workspace, [flooding, quiet]);
      try {
        return await measure(setting, { lab, workspace, agent, flooding, quiet, server }, traffic);
      } finally {
        await agent.stop();
      }
    }),
  );
}

function start(setting: Setting, lab: Lab, workspace: Workspace, pods: Pod[]): Promise<RunningAgent> {
  return within(
    START_MILLIS,
    'the start of dpi-agent',
    runAgent({
      lab,
      engine: setting.engine.name,
      workspace,
      pods,
      ruleSets: RULE_SETS,
      config: {
        logLevel: 'info',
        lanes: 1,
        rules: [workspace.rules, ...setting.rules],
        // Each datagram's alert is waited for.
        alerts: { burst: 0 },
      },
    }),
  );
}

async function measure(setting: Setting, place: Place, traffic: Traffic): Promise<Figure[]> {
  const { lab, agent, flooding, quiet, server } = place;
  const seconds = SECONDS[setting.quick ? 'quick' : 'full'];
  const passes = Math.max(1, Math.round((PACE * seconds.flood) / traffic.packets));
  setting.say('overload: waiting for rest');
  const before = await atRest(place);
  const alerts = watchAlerts(agent, quiet);
  const silence = watchReports(place);
  try {
    setting.say(`overload: ${grouped(PACE)} packets/s for ${seconds.flood} s`);
    const marked = talk(lab, quiet, server, seconds.all, { spacing: SPACING_MILLIS, background: 0 });
    const flood = sleep(seconds.before * 1000).then(() => send({ lab, pod: flooding }, traffic, PACE, passes));
    const [{ packets, seconds: took }] = await Promise.all([flood, marked]);
    setting.say('overload: waiting for rest');
    const after = await atRest(place);
    return [
      alertFigure(setting, alerts.delays, seconds.all),
      packetFigure(
        setting,
        'packets of the flooding pod',
        before.flooding,
        after.flooding,
        `sent at ${grouped(packets / took)} packets/s`,
      ),
      packetFigure(setting, 'packets of the quiet pod', before.quiet, after.quiet),
      {
        engine: setting.engine.name,
        what: 'longest time between two reports',
        value: `${fixed(silence.longest() / 1000, 1)} s`,
        details: `capture processes seen ${silence.captures.size}, restarts of the engine ${after.restarts}`,
      },
    ];
  } finally {
    alerts.stop();
    silence.stop();
  }
}

function alertFigure({ engine }: Setting, delays: Map<number, number>, sent: number): Figure {
  const missing = Array.from({ length: sent }, (_, number) => number).filter((number) => !delays.has(number));
  const largest = Math.max(0, ...delays.values());
  return {
    engine: engine.name,
    what: 'alerts of the quiet pod',
    value: `${delays.size} of ${sent}`,
    details: `at most ${grouped(largest)} ms after the packet${missing.length === 0 ? '' : `; missing: ${missing.join(' ')}`}`,
  };
}

/** Sent by the kernel's books; received, and where the rest is, by the agent's. */
function packetFigure({ engine }: Setting, what: string, before: Books, after: Books, more = ''): Figure {
  const sent = after.kernel - before.kernel;
  const count = (name: keyof Counters): number => after.counters[name] - before.counters[name];
  const others = COUNTER_NAMES.filter((name) => isFate(name) && count(name) !== 0);
  const unaccounted = sent - count('received') - count('droppedInterface');
  return {
    engine: engine.name,
    what,
    value: `${grouped(count('received'))} of ${grouped(sent)} received`,
    details: [
      ...(more === '' ? [] : [more]),
      `neither received nor said to be dropped ${grouped(unaccounted)}`,
      ...others.map((name) => `${name} ${grouped(count(name))}`),
    ].join(', '),
  };
}

/** What became of packets, received or not. */
function isFate(name: string): boolean {
  return name.startsWith('dropped') || ['forwarded', 'shunted', 'unsupported'].includes(name);
}

/** Milliseconds from a packet's capture to its event, by the datagram's number. */
function watchAlerts(agent: RunningAgent, pod: Pod): { delays: Map<number, number>; stop(): void } {
  const now = preciseClock();
  const delays = new Map<number, number>();
  let looked = agent.events.length;
  const timer = setInterval(() => {
    const at = now();
    for (const event of agent.events.slice(looked)) {
      looked++;
      if (event.source_ip !== pod.address) continue;
      const number = new RegExp(`${MARKER} <(\\d+)>`).exec(payloadOf(event))?.[1];
      if (number !== undefined) delays.set(Number(number), at - microsOf(event.record.timestamp) / 1000);
    }
  }, LOOK_MILLIS);
  return { delays, stop: () => clearInterval(timer) };
}

interface Reports {
  /** Milliseconds in which no counters were reported, at most, until now. */
  longest(): number;
  /** Pids of capture processes. */
  captures: Set<number>;
  stop(): void;
}

function watchReports(place: Place): Reports {
  const captures = new Set<number>();
  let last = Date.now();
  let longest = 0;
  let stopped = false;
  const note = (at: number): void => {
    longest = Math.max(longest, at - last);
    last = Math.max(last, at);
  };
  const poll = async (): Promise<void> => {
    while (!stopped) {
      // An agent that does not answer is silent.
      const status = await ask(place).catch(() => undefined);
      const [lane] = status?.lanes ?? [];
      if (lane?.countedAt !== undefined) note(lane.countedAt);
      if (lane?.capture.pid !== undefined) captures.add(lane.capture.pid);
      await sleep(POLL_MILLIS);
    }
  };
  void poll();
  return {
    longest: () => Math.max(longest, Date.now() - last),
    captures,
    stop: () => void (stopped = true),
  };
}

/** Both books of both pods, when the kernel counts nothing more and the agent has reported since. */
async function atRest(place: Place): Promise<{ flooding: Books; quiet: Books; restarts: number }> {
  const { lab, flooding, quiet } = place;
  const kernel = (): [number, number] => [kernelPackets(lab, flooding), kernelPackets(lab, quiet)];
  for (const deadline = performance.now() + REST_MILLIS; performance.now() < deadline;) {
    const from = kernel();
    const since = Date.now();
    const status = await reportAfter(place, since + SETTLED_MILLIS, deadline);
    const to = kernel();
    if (status === undefined || from.join() !== to.join()) continue;
    return {
      flooding: { kernel: from[0], counters: countersOf(status, flooding) },
      quiet: { kernel: from[1], counters: countersOf(status, quiet) },
      restarts: status.lanes[0]?.engine.restarts ?? 0,
    };
  }
  throw new Error("the pods' interfaces did not come to rest, or the agent no longer reported");
}

async function reportAfter(place: Place, time: number, deadline: number): Promise<Snapshot | undefined> {
  while (performance.now() < deadline) {
    const status = await ask(place).catch(() => undefined);
    if ((status?.lanes[0]?.countedAt ?? 0) > time) return status;
    await sleep(POLL_MILLIS);
  }
  return undefined;
}

/** In both directions, of the host's side. */
function kernelPackets(lab: Lab, pod: Pod): number {
  const files = ['rx_packets', 'tx_packets'].map((name) => `/sys/class/net/${pod.interface}/statistics/${name}`);
  return lab
    .exec(lab.node, 'cat', ...files)
    .trim()
    .split('\n')
    .reduce((sum, line) => sum + Number(line), 0);
}

function countersOf({ endpoints }: Snapshot, pod: Pod): Counters {
  const found = endpoints.find((endpoint) => endpoint.interface === pod.interface);
  if (found === undefined) throw new Error(`the agent's status has no ${pod.interface}`);
  return found.counters;
}

function ask({ workspace }: Place): Promise<Snapshot> {
  return askStatus({ socket: join(workspace.directory, 'state/agent.sock') }, ASK_MILLIS);
}
