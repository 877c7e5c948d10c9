/** The canary of the whole agent: through a real engine, and what is said when it stops. */
import { expect, test } from '@jest/globals';
import type { Lab, Pod } from '../../scripts/lab.ts';
import { journaled, MARKER, payloadOf, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { conversation, describeLive, inject, useLab, useWorkspace } from '../support/live.ts';
import { poll } from '../support/poll.ts';
import { whyNoProc } from '../support/proc.ts';

const PORT = 9597;
if (whyNoProc !== undefined) process.stderr.write(`skipped: CPU of the engine: ${whyNoProc}\n`);

describeLive((engine) => {
  let lab: Lab;
  let pod: Pod;
  let workspace: Workspace;
  let agent: RunningAgent | undefined;

  useLab(`dpi-y-${engine}`, (made) => {
    lab = made;
    pod = lab.addPod({ name: 'web', address: '10.65.8.2' });
  });
  useWorkspace((made) => (workspace = made));

  const start = (config: Record<string, unknown> = {}): Promise<RunningAgent> =>
    runAgent({
      lab,
      engine,
      workspace,
      pods: [pod],
      // Three of them are longer than a busy machine keeps an engine waiting.
      config: { canary: { interval: '1s' }, http: { port: PORT, address: '127.0.0.1' }, ...config },
    });

  const get = (path: string): { status: number; text: string } => {
    const ask = `curl -s -w '\\n%{http_code}' http://127.0.0.1:${PORT}${path} || true`;
    const [, text = '', status = '0'] = /^(.*)\n(\d+)$/s.exec(lab.exec(lab.node, 'sh', '-c', ask)) ?? [];
    return { status: Number(status), text };
  };

  test('an engine that stops is unready after three misses, and ready again when it goes on', async () => {
    agent = await start();
    await poll(() => get('/readiness').status === 200);
    const [pid] = agent.children('engine');
    if (pid === undefined) throw new Error('no engine');
    const from = agent.log.length;
    process.kill(pid, 'SIGSTOP');
    await poll(() => {
      const { status, text } = get('/readiness');
      return status === 503 && text.includes('lane0 does not inspect');
    });
    expect(get('/health').status).toBe(200);
    process.kill(pid, 'SIGCONT');
    await poll(() => get('/readiness').status === 200);
    await agent.logged(({ msg }) => msg === 'canary is back', from);
    const told = agent.log.slice(from).filter(({ msg }) => msg?.startsWith('canary'));
    expect(told.slice(0, 2)).toMatchObject([
      { msg: 'canary is missing', lane: 'lane0' },
      { msg: 'canary is back', lane: 'lane0' },
    ]);
    // The engine's own numbers come every 10 s.
    const analysed = await poll(() => {
      const found = /^dpi_agent_engine_packets_analysed_total\{lane="lane0"\} (\d+)$/m.exec(get('/metrics').text)?.[1];
      return Number(found ?? 0) > 10 && Number(found);
    });
    expect(analysed).toBeGreaterThan(10);
    const metrics = get('/metrics').text;
    expect(metrics).toContain('dpi_agent_ledger_unaccounted_packets{lane="lane0"} 0\n');
    expect(metrics).toContain('dpi_agent_encrypted_flows_total{lane="lane0",protocol="tls"} 0\n');
    expect(metrics).toMatch(/^dpi_agent_canary_missed_total\{lane="lane0"\} [1-9]/m);
    if (whyNoProc === undefined)
      expect(metrics).toMatch(/^dpi_agent_child_cpu_seconds_total\{lane="lane0",process="engine"\} [0-9.]+$/m);
    // Through all of it, an endpoint's alerts are the only ones that count.
    inject(lab, workspace, pod.netns, 'eth0', conversation(`${MARKER} only`, 5000));
    await agent.event((event) => payloadOf(event).includes('only'));
    await agent.stop();
    expect(journaled(workspace)).toHaveLength(1);
    expect(agent.log.at(-1)).toMatchObject({ alerts: { read: 1, journaled: 1, unattributed: 0, unparsable: 0 } });
  });

  test('after a kill -9 it is not read as an alert', async () => {
    agent = await start();
    await poll(() => get('/readiness').status === 200);
    inject(lab, workspace, pod.netns, 'eth0', conversation(`${MARKER} before`, 5000));
    await agent.event(() => true);
    await agent.stop('SIGKILL');
    agent = await start();
    await poll(() => get('/readiness').status === 200);
    inject(lab, workspace, pod.netns, 'eth0', conversation(`${MARKER} after`, 5001));
    await agent.event((event) => payloadOf(event).includes('after'));
    await agent.stop();
    expect(journaled(workspace).map((event) => /before|after/.exec(payloadOf(event))?.[0])).toEqual([
      'before',
      'after',
    ]);
    expect(agent.log.at(-1)).toMatchObject({ alerts: { journaled: 1, unattributed: 0, unparsable: 0 } });
  });
});
