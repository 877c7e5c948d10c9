import { describe, expect, test } from '@jest/globals';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zeroCounters } from '../../agent/capture/protocol.ts';
import { createSignatureCounts, MAX_SIGNATURES } from '../../agent/observe/signatures.ts';
import { whyNoProc } from '../support/proc.ts';
import { PROJECT } from '../support/project.ts';
import { checkMetrics, testWithPromtool } from '../support/promtool.ts';
import { endpoint, metricsOf, observed } from './support.ts';

const GOLDEN = join(PROJECT, 'test/observe/metrics.golden');

if (whyNoProc !== undefined) process.stderr.write(`skipped: ${whyNoProc}\n`);
const withProc = whyNoProc === undefined ? test : test.skip;

/** Names, types and help texts. */
function described(text: string): string {
  return text
    .split('\n')
    .filter((line) => line.startsWith('# '))
    .join('\n');
}

/** Value of a series, by its name and labels as they are printed. */
const valueOf = (text: string, series: string): number => {
  const line = text.split('\n').find((one) => one.startsWith(`${series} `));
  if (line === undefined) throw new Error(`there is no ${series}`);
  return Number(line.slice(series.length + 1));
};

const seriesOf = (text: string, name: string): string[] =>
  text.split('\n').filter((line) => line.startsWith(`${name}{`));

describe('the metrics', () => {
  test('are those of metrics.golden (UPDATE_GOLDEN=1 writes it)', async () => {
    const text = described(await metricsOf().text()) + '\n';
    // What Node offers depends on its version.
    const own = text
      .split('\n')
      .filter((line) => !/ dpi_agent_(nodejs|process)_/.test(line))
      .join('\n');
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(GOLDEN, own);
    expect(own).toBe(readFileSync(GOLDEN, 'utf8'));
  });

  test('are all in docs/metrics.md', () => {
    const page = readFileSync(join(PROJECT, 'docs/metrics.md'), 'utf8');
    const names = [...readFileSync(GOLDEN, 'utf8').matchAll(/^# TYPE dpi_agent_(\S+) /gm)].map(
      ([, name]) => name ?? '',
    );
    expect(names.length).toBeGreaterThan(30);
    expect(names.filter((name) => !page.includes(`\`${name}`))).toEqual([]);
  });

  testWithPromtool('satisfy promtool check metrics', async () => {
    const metrics = metricsOf();
    metrics.canaryReturned('lane0', 0.02);
    metrics.sinkSent('elasticsearch', 0.1);
    expect(checkMetrics(await metrics.text())).toEqual({ status: 0, output: '' });
  });

  test('are there before there is anything to tell', async () => {
    const nothing = {
      endpoints: () => [],
      lanes: () => [],
      sinks: () => [],
      suppressed: () => new Map<string, number>(),
    };
    const rules = { sets: [], swaps: { swapped: 0, rolled_back: 0, restarted: 0, refused: 0 } };
    const text = await metricsOf({
      ...nothing,
      coverage: () => [],
      rules: () => rules,
      signatures: () => undefined,
    }).text();
    expect(seriesOf(text, 'dpi_agent_engine_up')).toEqual([]);
    expect(valueOf(text, 'dpi_agent_endpoints{state="capturing"}')).toBe(0);
  });

  test('have no sample of what there is not', async () => {
    const samples = (text: string): string[] =>
      text.split('\n').filter((line) => /^dpi_agent_(alert_policy|journal)_/.test(line));
    // Without a policy, 0 would be an alert of Prometheus.
    expect(samples(await metricsOf({ policy: () => undefined, journal: () => undefined }).text())).toEqual([]);
    const both = samples(await metricsOf().text()).map((line) => line.split(' ')[0]);
    expect(both).toEqual(expect.arrayContaining(['dpi_agent_alert_policy_valid', 'dpi_agent_journal_events_total']));
  });

  test('say of each lane what the agent says', async () => {
    const metrics = metricsOf();
    metrics.canaryReturned('lane0', 0.02);
    const text = await metrics.text();
    for (const [series, value] of [
      ['dpi_agent_lanes_wanted', 2],
      ['dpi_agent_lane_changes_failed_total', 6],
      ['dpi_agent_engine_up{lane="lane0"}', 1],
      ['dpi_agent_engine_restarts_total{lane="lane0",reason="signal"}', 2],
      ['dpi_agent_engine_packets_analysed_total{lane="lane0"}', 10],
      ['dpi_agent_encrypted_flows_total{lane="lane0",protocol="tls"}', 4],
      ['dpi_agent_canary_last_success_timestamp_seconds{lane="lane0"}', 1_700_000_000.5],
      ['dpi_agent_canary_missed_total{lane="lane0"}', 3],
      ['dpi_agent_canary_latency_seconds_bucket{le="0.025",lane="lane0"}', 1],
      ['dpi_agent_canary_latency_seconds_bucket{le="0.01",lane="lane0"}', 0],
      ['dpi_agent_ledger_unaccounted_packets{lane="lane0"}', 7],
      ['dpi_agent_signature_alerts_total{gid="1",sid="21562"}', 1],
      ['dpi_agent_alerts_by_priority_total{priority="1"}', 1],
      ['dpi_agent_kube_watch_restarts_total{resource="pods"}', 2],
    ] as const) {
      expect([series, valueOf(text, series)]).toEqual([series, value]);
    }
    expect(valueOf(text, 'dpi_agent_sink_oldest_pending_seconds{sink="elasticsearch"}')).toBeGreaterThanOrEqual(9);
  });

  withProc('say of its processes what the kernel says', async () => {
    // This test's process stands for the engine.
    const text = await metricsOf().text();
    expect(valueOf(text, 'dpi_agent_child_resident_memory_bytes{lane="lane0",process="engine"}')).toBeGreaterThan(1e6);
    expect(valueOf(text, 'dpi_agent_child_cpu_seconds_total{lane="lane0",process="engine"}')).toBeGreaterThan(0);
  });

  test('of an engine that is down say so, and have no process', async () => {
    const [lane] = observed().lanes();
    if (lane === undefined) throw new Error('no lane');
    const { pid: _, since: __, ...engine } = lane.engine;
    const text = await metricsOf({ lanes: () => [{ ...lane, engine }] }).text();
    expect(valueOf(text, 'dpi_agent_engine_up{lane="lane0"}')).toBe(0);
    expect(text).not.toContain('process="engine"');
  });
});

test('interfaces of an endpoint are counted by their side', async () => {
  const taps = [
    { interface: 'cali1' },
    { interface: 'net1', netns: '/proc/1/ns/net' },
    { interface: 'lo', netns: '/x' },
  ];
  const text = await metricsOf({
    endpoints: () => [
      { endpoint: endpoint('plain'), state: { is: 'capturing' }, counters: zeroCounters() },
      { endpoint: { ...endpoint('wide'), taps }, state: { is: 'capturing' }, counters: zeroCounters() },
    ],
  }).text();
  expect(seriesOf(text, 'dpi_agent_endpoint_taps')).toEqual([
    'dpi_agent_endpoint_taps{namespace="shop",endpoint="plain",side="host"} 1',
    'dpi_agent_endpoint_taps{namespace="shop",endpoint="plain",side="pod"} 0',
    'dpi_agent_endpoint_taps{namespace="shop",endpoint="wide",side="host"} 1',
    'dpi_agent_endpoint_taps{namespace="shop",endpoint="wide",side="pod"} 2',
  ]);
});

describe('the number of series', () => {
  test('is that of the pods that are there, when 10,000 come and go', async () => {
    let from = 0;
    const metrics = metricsOf({
      endpoints: () =>
        Array.from({ length: 100 }, (_, index) => ({
          endpoint: endpoint(`pod-${from + index}`),
          state: { is: 'capturing' },
          counters: zeroCounters(),
        })),
    });
    let first = 0;
    for (from = 0; from < 10_000; from += 100) {
      const text = await metrics.text();
      first ||= text.length;
      expect(seriesOf(text, 'dpi_agent_packets_total')).toHaveLength(100 * 11);
      expect(seriesOf(text, 'dpi_agent_received_bytes_total')).toHaveLength(100);
      // Names get longer by three digits at most.
      expect(text.length).toBeLessThan(first * 1.1);
    }
    expect(await metrics.text()).not.toContain('pod-42"');
  });

  test('of signatures stays within its bound when 50,000 fire, and who has one keeps it', async () => {
    const signatures = createSignatureCounts();
    const metrics = metricsOf({ signatures: () => signatures });
    const total = 50_000;
    for (let sid = 1; sid <= total; sid++) signatures.add({ gid: 1, sid, priority: sid % 9 });
    for (let again = 0; again < 5; again++) signatures.add({ gid: 1, sid: 7, priority: 1 });
    const text = await metrics.text();
    expect(seriesOf(text, 'dpi_agent_signature_alerts_total')).toHaveLength(MAX_SIGNATURES + 1);
    expect(valueOf(text, 'dpi_agent_signature_alerts_total{gid="1",sid="7"}')).toBe(6);
    expect(valueOf(text, 'dpi_agent_signature_alerts_total{gid="other",sid="other"}')).toBe(total - MAX_SIGNATURES);
    // 1 to 4, none and other.
    expect(seriesOf(text, 'dpi_agent_alerts_by_priority_total')).toHaveLength(6);
  });
});
