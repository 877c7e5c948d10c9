/** Each condition caused for real, on the whole agent: exactly its metrics and probes change, and recover. */
import { expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readiness } from '../../agent/observe/readiness.ts';
import type { Lab, Pod } from '../../scripts/lab.ts';
import { MARKER, payloadOf, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { conversation, describeLive, inject, serve, useLab, useWorkspace } from '../support/live.ts';
import { poll } from '../support/poll.ts';

const PORT = 9598;
const COLLECTOR_PORT = 9599;
const PROMETHEUS_PORT = 9600;

const hasPrometheus = spawnSync('prometheus', ['--version']).error === undefined;

describeLive((engine) => {
  let lab: Lab;
  let flooded: Pod;
  let quiet: Pod;
  let workspace: Workspace;
  let agent: RunningAgent | undefined;

  useLab(`dpi-o-${engine}`, (made) => {
    lab = made;
    flooded = lab.addPod({ name: 'flooded', address: '10.65.9.2' });
    quiet = lab.addPod({ name: 'quiet', address: '10.65.9.3' });
  });
  useWorkspace((made) => (workspace = made));

  const ask = (path: string, port = PORT): string =>
    lab.exec(lab.node, 'sh', '-c', `curl -s 'http://127.0.0.1:${port}${path}' || true`);
  /** A sample's value; undefined where there is none. */
  const metric = (series: string): number | undefined => {
    const line = ask('/metrics')
      .split('\n')
      .find((one) => one.startsWith(`dpi_agent_${series} `));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
  };
  const packets = (pod: Pod, outcome: string): number =>
    metric(`packets_total{namespace="default",endpoint="${pod.name}",outcome="${outcome}"}`) ?? 0;
  const unready = (): Readiness['components'] =>
    (JSON.parse(ask('/readiness')) as Readiness).components.filter(({ ready }) => !ready);

  test('a ring that overflows, a sink that refuses, and a Prometheus that sees it', async () => {
    agent = await runAgent({
      lab,
      engine,
      workspace,
      pods: [flooded, quiet],
      config: {
        canary: { interval: '1s' },
        http: { port: PORT, address: '127.0.0.1' },
        capture: { ringSize: '512KiB', maxRingSize: '512KiB' },
        sinks: { syslog: { address: `127.0.0.1:${COLLECTOR_PORT}` } },
      },
    });
    await poll(() => ask('/readiness').includes('"ready":true'));
    if (hasPrometheus) {
      const config = join(workspace.directory, 'prometheus.yml');
      const data = join(workspace.directory, 'data');
      mkdirSync(data);
      writeFileSync(
        config,
        `global: { scrape_interval: 1s }\nscrape_configs: [{ job_name: dpi, static_configs: [{ targets: ['127.0.0.1:${PORT}'] }] }]\n`,
      );
      lab.spawn(
        lab.node,
        'prometheus',
        [`--config.file=${config}`, `--storage.tsdb.path=${data}`, `--web.listen-address=127.0.0.1:${PROMETHEUS_PORT}`],
        { stdio: 'ignore' },
      );
    } else {
      process.stderr.write('skipped: prometheus is not installed (Debian: apt-get install prometheus)\n');
    }

    // The kernel drops what the capture process does not read.
    const [capture] = agent.children('capture');
    if (capture === undefined) throw new Error('no capture process');
    process.kill(capture, 'SIGSTOP');
    inject(lab, workspace, flooded.netns, 'eth0', conversation('x'.repeat(1_000), 5000), 600);
    process.kill(capture, 'SIGCONT');
    await poll(() => packets(flooded, 'dropped_kernel') > 0);
    expect(packets(quiet, 'dropped_kernel')).toBe(0);
    expect(packets(flooded, 'dropped_queue') + packets(flooded, 'dropped_engine_down')).toBe(0);
    // All of it is accounted for, once the ring is read.
    await poll(
      () =>
        packets(flooded, 'received') ===
        packets(flooded, 'forwarded') + packets(flooded, 'dropped_kernel') + packets(flooded, 'unsupported'),
    );
    // A canary that the capture process did not send meanwhile may have been missed.
    await poll(() => unready().length === 0);

    // An alert still comes through, and the collector refuses its event.
    inject(lab, workspace, flooded.netns, 'eth0', conversation(`${MARKER} waits`, 6000));
    await agent.event((event) => payloadOf(event).includes('waits'));
    await poll(() => (metric('sink_failures_total{sink="syslog",reason="unreachable"}') ?? 0) > 0);
    expect(metric('sink_pending_events{sink="syslog"}')).toBe(1);
    expect(metric('sink_oldest_pending_seconds{sink="syslog"}')).toBeGreaterThan(0);
    expect(metric('signature_alerts_total{gid="1",sid="9000001"}')).toBeGreaterThan(0);
    // A sink is no reason not to be ready.
    await poll(() => {
      const { ready, components } = JSON.parse(ask('/readiness')) as Readiness;
      return ready && components.every((one) => one.ready || one.component === 'sink');
    });
    await serve(lab, lab.node, COLLECTOR_PORT);
    await poll(() => metric('sink_pending_events{sink="syslog"}') === 0);
    expect(metric('sink_events_total{sink="syslog",outcome="delivered"}')).toBe(1);
    expect(metric('sink_oldest_pending_seconds{sink="syslog"}')).toBe(0);
    expect(metric('sink_send_duration_seconds_count{sink="syslog"}')).toBeGreaterThan(0);
    expect(metric('ledger_unaccounted_packets{lane="lane0"}')).toBe(0);

    if (!hasPrometheus) return;
    const query = (expression: string): string =>
      ask(`/api/v1/query?query=${encodeURIComponent(expression)}`, PROMETHEUS_PORT);
    const value = (expression: string): string | undefined =>
      /"value":\[[\d.]+,"([^"]+)"\]/.exec(query(expression))?.[1];
    await poll(() => value('up{job="dpi"}') === '1');
    await poll(() => Number(value('dpi_agent_packets_total{outcome="dropped_kernel",endpoint="flooded"}') ?? 0) > 0);
    expect(value('dpi_agent_engine_up')).toBe('1');
    expect(Number(value('count(dpi_agent_canary_latency_seconds_bucket{lane="lane0"})'))).toBe(13);
  });
});
