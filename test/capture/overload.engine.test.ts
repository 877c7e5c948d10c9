/**
 * Endpoints that send more than the engine takes, beside others that send little: those lose nothing, reports go on,
 * and the books are right.
 *
 * How long alerts take, and reports are apart, depends on the machine: it is printed.
 */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { appendFileSync } from 'node:fs';
import { lostOf, type LibraryName } from '../../agent/capture/protocol.ts';
import { openLab, type Lab, type Pod } from '../../scripts/lab.ts';
import {
  createWorkspace,
  MARKER_SID,
  payloadOf,
  runAgent,
  type RunningAgent,
  type Workspace,
} from '../support/agent.ts';
import { accounts, kernelPackets, settledCounters, watchReports } from '../support/books.ts';
import { describeLive, spawnLoad } from '../support/live.ts';
import { poll } from '../support/poll.ts';

/** More than either engine takes, and together no more than one CPU sends. */
const PACKETS_PER_SECOND = 120_000;
/** Less than a pod's share of what an engine takes, on any machine. */
const MODERATE_PACKETS_PER_SECOND = 50;

/**
 * Each takes an engine some ten microseconds for a packet with a body of the flood, so that no machine's engine is fast
 * enough.
 */
const SLOW_RULES = Array.from(
  { length: 20 },
  (_, index) =>
    `alert tcp any any -> any any ( msg:"TEST slow"; pcre:"/x+x+x+[${index}z]/"; sid:${MARKER_SID + 1 + index}; rev:1; )\n`,
);
/**
 * The kernel closes a block of a ring after some milliseconds, whatever is in it: the smallest ring has two, and where
 * many processes share few CPUs, a pod of several packets in that time may lose some before it is read. This has 32,
 * which the pods that send little fill in more than half a second. No larger, so that the floods lose soon.
 */
const RINGS = { ringSize: '8MiB', maxRingSize: '8MiB' };
const LOOK_MILLIS = 20;

const NATIVE: { library: LibraryName; pods: number; flooding: number; seconds: number }[] = [
  { library: 'native', pods: 2, flooding: 1, seconds: 5 },
  { library: 'native', pods: 1, flooding: 1, seconds: 4 },
  { library: 'native', pods: 50, flooding: 3, seconds: 5 },
];
/** The turns between pods are the same code for both; only what a turn takes from one is not. */
const NODE_PCAP: typeof NATIVE = [{ library: 'node-pcap', pods: 2, flooding: 1, seconds: 5 }];

describeLive((engine) => {
  let lab: Lab;
  let workspace: Workspace;
  let agent: RunningAgent | undefined;
  beforeEach(() => {
    lab = openLab(`dpi-o-${engine}`);
    workspace = createWorkspace();
    appendFileSync(workspace.rules, SLOW_RULES.join(''));
  });
  afterEach(async () => {
    await agent?.stop('SIGKILL');
    agent = undefined;
    lab.close();
    workspace.remove();
  });

  describe('with more than the engine takes', () => {
    test.each(engine === 'suricata' ? [...NATIVE, ...NODE_PCAP] : NATIVE)(
      '$flooding of $pods pods, captured by $library: the others lose nothing, and every packet is counted once',
      async ({ library, pods: count, flooding, seconds }) => {
        const pods = Array.from({ length: count }, (_, index) => addPod(index));
        const [floods, quiet] = [pods.slice(0, flooding), pods.slice(flooding)];
        agent = await runAgent({ lab, engine, workspace, pods, config: { capture: { library, ...RINGS } } });
        await agent.logged(({ msg }) => msg === 'engine reads packets');
        const before = kernelPackets(lab, pods);
        const alerts = watchAlerts(agent);
        const reports = watchReports(workspace);
        const senders = floods.map(({ netns }) =>
          spawnLoad(lab, netns, 'flood', seconds, Math.floor(PACKETS_PER_SECOND / flooding), 'eth0'),
        );
        for (const { netns } of quiet.slice(0, 1))
          senders.push(
            spawnLoad(lab, netns, 'flood', seconds, MODERATE_PACKETS_PER_SECOND, 'eth0'),
            spawnLoad(lab, lab.node, 'mark', seconds, ...quiet.map((pod) => pod.interface)),
          );
        const sent = await Promise.all(senders);
        const counters = await settledCounters(workspace, pods);
        const { longestGap } = await reports();
        const after = kernelPackets(lab, pods);

        const books = counters.map(accounts);
        const kernel = after.map((packets, index) => packets - (before[index] ?? NaN));
        const lost = counters.map(lostOf);
        const markers = quiet.flatMap((pod) => alertsOf(pod, seconds));
        const missing = (): string[] => markers.filter((marker) => !alerts.arrivals.has(marker));
        await poll(() => missing().length === 0).catch(() => undefined);
        alerts.stop();
        process.stderr.write(
          `${engine}, ${library}, ${flooding} of ${count} flood: sent ${sent.slice(0, flooding).join(' ')}, lost ${lost.slice(0, flooding).join(' ')}, ` +
            `alerts after ${Math.max(0, ...alerts.arrivals.values())} ms at most, reports ${longestGap} ms apart at most\n`,
        );
        expect(books.map(({ received }) => received)).toEqual(kernel);
        expect(books.map(({ accounted }) => accounted)).toEqual(kernel);
        expect(lost.slice(flooding)).toEqual(quiet.map(() => 0));
        for (const packets of lost.slice(0, flooding)) expect(packets).toBeGreaterThan(0);
        expect(missing()).toEqual([]);
        expect(agent.log.filter(({ msg }) => msg === 'capture process hangs and is killed')).toEqual([]);
      },
    );
  });

  function addPod(index: number): Pod {
    return lab.addPod({ name: `p${index}`, address: `10.65.0.${index + 2}` });
  }
});

function alertsOf(pod: Pod, seconds: number): string[] {
  return Array.from({ length: seconds }, (_, number) => `<${pod.interface} ${number}>`);
}

/** How many milliseconds after its packet was captured each marker's alert came out of the agent. */
function watchAlerts(agent: RunningAgent): { arrivals: Map<string, number>; stop: () => void } {
  const arrivals = new Map<string, number>();
  let seen = 0;
  const look = (): void => {
    for (const event of agent.events.slice(seen)) {
      const text = /<\w+ \d+>/.exec(payloadOf(event))?.[0];
      if (text !== undefined && !arrivals.has(text))
        arrivals.set(text, Date.now() - Date.parse(event.record.timestamp));
    }
    seen = agent.events.length;
  };
  const timer = setInterval(look, LOOK_MILLIS);
  return { arrivals, stop: () => clearInterval(timer) };
}
