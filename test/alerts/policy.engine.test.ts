/** The policy of alerts in a running agent: what it suppresses, its changes, and its counts over a kill. */
import { expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Lab, Pod } from '../../scripts/lab.ts';
import { journaled, MARKER, payloadOf, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { conversation, describeLive, inject, useLab, useWorkspace } from '../support/live.ts';

type Counts = Record<
  'read' | 'copies' | 'journaled' | 'merged' | 'suppressed' | 'recovered' | 'unparsable' | 'unattributed' | 'unasked',
  number
>;

describeLive((engine) => {
  let lab: Lab;
  let pod: Pod;
  let workspace: Workspace;
  let agent: RunningAgent | undefined;

  useLab(`dpi-p-${engine}`, (made) => {
    lab = made;
    pod = lab.addPod({ name: 'backend', address: '10.65.1.2' });
  });
  useWorkspace((made) => (workspace = made));

  const policy = (yaml: string): void => writeFileSync(join(workspace.directory, 'policy.yaml'), yaml);
  const start = (): Promise<RunningAgent> =>
    runAgent({
      lab,
      engine,
      workspace,
      pods: [pod],
      config: { alerts: { policy: join(workspace.directory, 'policy.yaml') } },
    });
  let port = 5000;
  /** Alerts with the client's address, each of a flow of its own. */
  const attack = (source: string, text: string, count = 1): void =>
    inject(
      lab,
      workspace,
      pod.netns,
      'eth0',
      Array.from({ length: count }, (_, index) =>
        conversation(`${MARKER} ${text} <${index}>`, port++, source, pod.address),
      ).flat(),
    );

  /** Ends the agent and gives its counts, which must balance. */
  async function counts(): Promise<Counts> {
    await agent?.stop();
    const last = agent?.log.findLast((line) => 'alerts' in line)?.['alerts'] as Counts;
    const { read, copies, ...became } = last;
    const { merged, suppressed, recovered, unparsable, unattributed, unasked } = became;
    expect(became.journaled + merged + suppressed + recovered + unparsable + unattributed + unasked).toBe(
      read + copies,
    );
    return last;
  }

  test('suppresses and counts; a changed file counts without a restart, a wrong one changes nothing', async () => {
    policy('suppress:\n  - name: scanner\n    source: 10.65.9.0/24\n');
    agent = await start();
    attack('10.65.9.1', 'scan', 3);
    attack('10.65.8.1', 'first');
    await agent.event((event) => payloadOf(event).includes('first'));
    policy('suppress: 7\n');
    const refused = await agent.logged(({ msg }) => msg?.startsWith('policy of alerts: ') === true);
    expect(refused.msg).toContain('policy.yaml:1:11: suppress: 7: expected a list of entries');
    attack('10.65.9.1', 'still', 2);
    attack('10.65.8.1', 'second');
    await agent.event((event) => payloadOf(event).includes('second'));
    const from = agent.log.length;
    policy('threshold:\n  - { pod: default/backend, count: 2, seconds: 3600, track: by_source, type: limit }\n');
    await agent.logged(({ msg }) => msg === 'policy of alerts', from);
    attack('10.65.9.1', 'limited', 5);
    attack('10.65.8.1', 'third');
    await agent.event((event) => payloadOf(event).includes('third'));
    expect(await counts()).toMatchObject({ journaled: 5, suppressed: 8 });
    expect(journaled(workspace).map((event) => payloadOf(event).replace(/^.*dpi-marker /s, ''))).toEqual([
      'first <0>',
      'second <0>',
      'limited <0>',
      'limited <1>',
      'third <0>',
    ]);
  });

  test('after a kill, what is suppressed is suppressed again, and nothing is lost or twice', async () => {
    policy('suppress: [{ message: ^TEST, source: 10.65.9.1 }]\n');
    agent = await start();
    for (let round = 0; round < 10; round++) {
      attack('10.65.9.1', 'noise', 10);
      attack('10.65.8.1', `round-${round}`);
    }
    attack('10.65.9.1', 'noise', 20);
    await agent.event((event) => payloadOf(event).includes('round-3'));
    await agent.stop('SIGKILL');
    agent = await start();
    const { suppressed } = await counts();
    expect(suppressed).toBeGreaterThan(0);
    const rounds = journaled(workspace).map((event) => /round-\d/.exec(payloadOf(event))?.[0] ?? '');
    expect(rounds.toSorted()).toEqual(Array.from({ length: 10 }, (_, round) => `round-${round}`));
  });
});
