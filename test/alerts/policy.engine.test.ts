/** The policy of alerts in a running agent: what it suppresses, its changes, and its counts over a kill. */
import { expect, test } from '@jest/globals';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import type { Snapshot } from '../../agent/observe/snapshot.ts';
import type { Lab, Pod } from '../../scripts/lab.ts';
import { journaled, MARKER, payloadOf, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { runCli } from '../support/cli.ts';
import { poll } from '../support/poll.ts';
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

  test('a changed configuration is taken over without a restart, but for what needs one; a wrong one changes nothing', async () => {
    const file = join(workspace.directory, 'dpi-agent.yaml');
    const other = join(workspace.directory, 'other.yaml');
    const change = (edit: (config: Record<string, unknown>) => void): void => {
      const config = parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
      edit(config);
      // As a ConfigMap is swapped: the link to its folder.
      writeFileSync(join(workspace.directory, 'new'), stringify(config));
      renameSync(join(workspace.directory, 'new'), file);
    };
    const status = async (): Promise<Snapshot> =>
      JSON.parse(
        (await runCli(['status', '--socket', join(workspace.directory, 'state/agent.sock'), '-o', 'json'])).stdout,
      ) as Snapshot;
    const seen = (text: string): number => agent?.events.filter((event) => payloadOf(event).includes(text)).length ?? 0;
    policy('suppress: [{ source: 10.65.9.0/24 }]\n');
    writeFileSync(other, 'suppress: [{ source: 10.65.7.0/24 }]\n');
    agent = await start();
    change((config) => {
      config['alerts'] = { policy: other };
      config['sinks'] = [{ name: 'out', stdout: {} }];
      config['logLevel'] = 'info';
      config['canary'] = { interval: '20s' };
    });
    await agent.logged(({ msg }) => msg === 'configuration: these keys need a restart');
    expect(agent.log.find(({ msg }) => msg === 'configuration: taken over')?.['changed']).toEqual([
      'logLevel',
      'sinks.list',
      'alerts.policy',
    ]);
    expect((await status()).configuration).toMatchObject({ file, errors: [], needsRestart: ['canary.interval'] });
    attack('10.65.7.1', 'suppressed');
    attack('10.65.9.1', 'passes');
    // By the agent itself, and by the sink that is new.
    await poll(() => seen('passes') === 2);
    const from = agent.log.length;
    change((config) => {
      config['sinks'] = [
        { name: 'out', stdout: {} },
        { name: 'out', http: { url: 'ftp://x' } },
      ];
      config['logLevel'] = 'loud';
    });
    await agent.logged(({ msg }) => msg === 'the configuration of before stays', from);
    const errors = agent.log.slice(from).map(({ msg }) => msg);
    expect(errors).toContainEqual(
      expect.stringMatching(/dpi-agent.yaml:\d+:\d+: logLevel: "loud": expected one of trace,/),
    );
    expect(errors).toContainEqual(expect.stringMatching(/dpi-agent.yaml:\d+:\d+: sinks\[1\].http.url: "ftp:/));
    const after = await status();
    expect(after.configuration?.errors).toHaveLength(3);
    expect(after.sinks.map(({ name, delivered }) => [name, delivered])).toEqual([['out', 1]]);
    expect(agent.log.filter(({ level }) => level === 'debug' || level === 'trace').length).toBe(
      agent.log.slice(0, from).filter(({ level }) => level === 'debug' || level === 'trace').length,
    );
    expect(await counts()).toMatchObject({ journaled: 1, suppressed: 1 });
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
