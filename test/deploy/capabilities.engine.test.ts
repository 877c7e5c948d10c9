/** The agent with the capabilities of the DaemonSet, and with those of components/fewer-rights, and no others. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLab, type Lab } from '../../scripts/lab.ts';
import { createWorkspace, MARKER, MARKER_SID, runAgent, type Workspace } from '../support/agent.ts';
import { openCgroups, whyNoCgroups } from '../support/cgroups.ts';
import { describeLive, inject, isAlive } from '../support/live.ts';
import { announce, resourceOfAll, serveOneNode } from '../support/one-node.ts';
import { udpExchange } from '../support/packets.ts';
import { whyNoProc } from '../support/proc.ts';
import { containerOf, daemonSetOf, read } from './support.ts';

const ALL = containerOf(daemonSetOf(read('daemonset.yaml'))).securityContext.capabilities.add;
const FEWER = ALL.filter((name) => name !== 'SYS_ADMIN' && name !== 'SYS_PTRACE');

if (whyNoProc !== undefined) process.stderr.write(`skipped: ${whyNoProc}\n`);
const withProc = whyNoProc === undefined ? test : test.skip;
const withCgroups = whyNoProc === undefined && whyNoCgroups === undefined ? test : test.skip;

/** What a container with these capabilities and `allowPrivilegeEscalation: false` has, for a command. */
function limited(capabilities: string[]): string[] {
  const bounding = ['-all', ...capabilities.map((name) => `+${name.toLowerCase()}`)].join(',');
  return ['setpriv', `--bounding-set=${bounding}`, '--inh-caps=-all', '--ambient-caps=-all', '--no-new-privs'];
}

describeLive((engine) => {
  let lab: Lab;
  let workspace: Workspace;
  beforeEach(() => {
    lab = openLab(`dpi-r-${engine}`);
    workspace = createWorkspace();
  });
  afterEach(() => {
    lab.close();
    workspace.remove();
  });

  describe.each([
    { what: 'the capabilities of the DaemonSet', capabilities: ALL, isolated: true },
    { what: 'those of fewer-rights', capabilities: FEWER, isolated: false },
  ])('with $what', ({ capabilities, isolated }) => {
    const [command = '', ...args] = limited(capabilities);
    const limitedLab = (): Lab => ({
      ...lab,
      spawn: (netns, program, rest, options) => lab.spawn(netns, command, [...args, program, ...rest], options),
    });
    const config = isolated ? {} : { engine: { isolateNetwork: false } };

    withProc('it inspects, gives the engine no right that it can be spared, and ends one that hangs', async () => {
      const pod = lab.addPod({ name: 'backend', address: '10.66.0.2' });
      const agent = await runAgent({ lab: limitedLab(), engine, workspace, pods: [pod], config });
      const [child = 0] = agent.children('engine');

      const status = readFileSync(`/proc/${child}/status`, 'latin1');
      expect(status).toMatch(/^Uid:\s+65534\s+65534\s+65534\s+65534$/m);
      for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'])
        expect(status).toMatch(new RegExp(`^Cap${set}:\\s+0+$`, 'm'));
      expect(readlinkSync(`/proc/${child}/ns/net`) !== readlinkSync(`/proc/${agent.pid}/ns/net`)).toBe(isolated);
      expect(agent.log.filter((line) => line['missing'] !== undefined)).toEqual([]);

      const frames = udpExchange({
        client: '10.66.0.2',
        server: '10.66.0.1',
        exchange: [{ from: 'client', data: MARKER }],
      });
      inject(lab, workspace, pod.netns, 'eth0', frames);
      await agent.event(({ record }) => record.snort_signature_id === String(MARKER_SID));

      const look = (): string => lab.exec(lab.node, command, ...args, 'readlink', `/proc/${child}/ns/net`);
      if (isolated) expect(look()).toMatch(/^net:/);
      else expect(look).toThrow();

      process.kill(child, 'SIGSTOP');
      // An agent that may not kill it waits for ever.
      const ended = await Promise.race([agent.stop(), sleep(60_000, undefined, { ref: false })]);
      expect(ended?.code).toBe(0);
      expect(isAlive(child)).toBe(false);
    });

    withCgroups('a pod that the node does not show is captured in the pod, or the status says why not', async () => {
      const cgroups = openCgroups();
      const pod = lab.addUplinkPod('macvlan', { name: 'backend', address: '10.66.0.2' });
      const pods = [(await announce(lab, cgroups, pod)).object];
      const node = await serveOneNode(lab, workspace, { resources: [resourceOfAll()], pods });
      const kubernetes = { kubeconfig: node.kubeconfig };
      const agent = await runAgent({
        lab: limitedLab(),
        engine,
        workspace,
        pods: [],
        config: { ...config, kubernetes },
      });
      if (isolated) {
        await agent.logged(({ msg, endpoint }) => msg === 'capturing' && endpoint === 'default/backend');
      } else {
        while (node.status()?.errorConditions[0] === undefined) await sleep(50);
        expect(node.status()?.errorConditions[0]?.message).toContain("no right to enter a pod's network namespace");
      }
      await agent.stop('SIGKILL');
      lab.close();
      await cgroups.remove();
    });
  });
});
