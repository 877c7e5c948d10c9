/**
 * What the agent counts beside the kernel's own counters of the interfaces, whatever happens to its parts under
 * traffic: sent is received, and each packet has one fate.
 */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { zeroCounters, type Counters, type LibraryName } from '../../agent/capture/protocol.ts';
import { openLab, type Lab, type Pod } from '../../scripts/lab.ts';
import { createWorkspace, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { accounts, kernelPackets, settledCounters } from '../support/books.ts';
import { describeLive, spawnLoad } from '../support/live.ts';
import { poll } from '../support/poll.ts';
import { PROJECT } from '../support/project.ts';

const RATE = 20_000;
const POD = { name: 'p', address: '10.65.0.2' };
/** Something happens when so many packets were sent, and as many follow. */
const PACKETS_BEFORE = 10_000;
/** Longer than it takes. */
const SECONDS = 3_600;

describeLive((engine) => {
  describe.each<LibraryName>(engine === 'suricata' ? ['native', 'node-pcap'] : ['native'])(
    'captured by %s',
    (library) => {
      let lab: Lab;
      let workspace: Workspace;
      let pod: Pod;
      let agent: RunningAgent;
      let before: number;
      beforeEach(async () => {
        lab = openLab(`dpi-b-${engine}`);
        pod = lab.addPod(POD);
        workspace = createWorkspace();
        agent = await runAgent({ lab, engine, workspace, pods: [pod], config: { capture: { library } } });
        await agent.logged(({ msg }) => msg === 'engine reads packets');
        before = sentPackets();
      });
      afterEach(async () => {
        await agent.stop('SIGKILL');
        lab.close();
        workspace.remove();
      });

      test('an engine that is killed', async () => {
        const from = agent.log.length;
        const counters = await traffic(() => kill('engine', 'SIGKILL'));
        await agent.logged(({ msg }) => msg === 'engine reads packets', from);
        expectAccounts(counters);
        expect(counters.droppedEngineDown).toBeGreaterThan(0);
      });

      test('an engine that stands still for a while', async () => {
        const counters = await traffic(async () => {
          kill('engine', 'SIGSTOP');
          await sleep(2_000);
          kill('engine', 'SIGCONT');
        });
        expectAccounts(counters);
        expect(counters.droppedEngineDown).toBe(0);
      });

      test('a capture process that is killed under traffic, and while nothing is sent', async () => {
        // What died is told exactly where the interface was quiet for a second before.
        await settledCounters(workspace, [pod]);
        const counters = await traffic(() => kill('capture', 'SIGKILL'));
        expectAccounts(counters);
        expect(counters.droppedCaptureDied).toBeGreaterThan(0);
        const from = agent.log.length;
        kill('capture', 'SIGKILL');
        await agent.logged(({ msg }) => msg === 'capturing', from);
        await agent.logged(({ msg }) => msg === 'engine reads packets', from);
        const later = await traffic(() => undefined);
        expectAccounts(later);
        expect(later.droppedCaptureDied).toBe(counters.droppedCaptureDied);
      });

      test('an interface that goes down and up again', async () => {
        const counters = await traffic(async () => {
          lab.exec(lab.node, 'ip', 'link', 'set', pod.interface, 'down');
          await sleep(500);
          lab.exec(lab.node, 'ip', 'link', 'set', pod.interface, 'up');
        });
        expectAccounts(counters);
      });

      test('an interface that vanishes', async () => {
        const counters = await traffic(() => lab.removePod(pod), 0);
        const { received, accounted } = accounts(counters);
        // What the kernel had counted is gone with it.
        expect(received).toBeGreaterThanOrEqual(PACKETS_BEFORE);
        expect(accounted).toBe(received);
        if (library === 'native') expect(counters.droppedDetached).toBe(0);
      });

      test('an interface that is made anew under its name, and has packets before it is captured', async () => {
        const counters = await traffic(() => undefined);
        expectAccounts(counters);
        kill('capture', 'SIGSTOP');
        lab.removePod(pod);
        lab.addPod(POD);
        await spawnLoad(lab, pod.netns, 'flood', 1, RATE, 'eth0');
        const missed = sentPackets();
        kill('capture', 'SIGCONT');
        await poll(async () => (await settledCounters(workspace, [pod]))[0]?.received !== counters.received);
        const later = await traffic(() => undefined);
        const received = counters.received + sentPackets();
        expect(accounts(later)).toEqual({ received, accounted: received });
        expect(later.droppedCaptureDied).toBeGreaterThanOrEqual(missed);
      });

      /** Sends, does `meanwhile`, sends on, and gives what was counted when all is quiet again. */
      async function traffic(meanwhile: () => void | Promise<void>, packetsAfter = PACKETS_BEFORE): Promise<Counters> {
        const load = [join(PROJECT, 'dist/test/support/load.js'), 'flood', `${SECONDS}`, `${RATE}`, 'eth0'];
        const flood = lab.spawn(pod.netns, process.execPath, load, { stdio: ['ignore', 'ignore', 'inherit'] });
        const ended = once(flood, 'exit');
        await untilSent(PACKETS_BEFORE);
        await meanwhile();
        await untilSent(packetsAfter);
        flood.kill('SIGKILL');
        await ended;
        const [counters = zeroCounters()] = await settledCounters(workspace, [pod]);
        return counters;
      }

      async function untilSent(packets: number): Promise<void> {
        if (packets === 0) return;
        const wanted = sentPackets() + packets;
        await poll(() => sentPackets() >= wanted);
      }

      function sentPackets(): number {
        return kernelPackets(lab, [pod])[0] ?? NaN;
      }

      function kill(kind: 'engine' | 'capture', signal: NodeJS.Signals): void {
        for (const pid of agent.children(kind)) process.kill(pid, signal);
      }

      function expectAccounts(counters: Counters): void {
        const kernel = sentPackets() - before;
        expect(accounts(counters)).toEqual({ received: kernel, accounted: kernel });
      }
    },
  );
});
