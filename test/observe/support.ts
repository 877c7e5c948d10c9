/** What the metrics and probes are made of, in tests: an agent of plain values. */
import { zeroCounters } from '../../agent/capture/protocol.ts';
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import { createMetrics, type Metrics, type Observed } from '../../agent/observe/metrics.ts';
import { createSignatureCounts } from '../../agent/observe/signatures.ts';

export function endpoint(name: string, namespace = 'shop'): Endpoint {
  return {
    id: `${namespace}/${name}`,
    namespace,
    name,
    nameAggr: '-',
    interface: `cali-${name}`,
    labels: {},
    addresses: [],
    resources: [],
  };
}

/** One of everything, so that each metric has a sample. */
export function observed(more: Partial<Observed> = {}): Observed {
  const signatures = createSignatureCounts();
  signatures.add({ gid: 1, sid: 21562, priority: 1 });
  return {
    endpoints: () => [
      {
        endpoint: endpoint('one"\n'),
        state: { is: 'capturing' },
        counters: { ...zeroCounters(), received: 12, receivedBytes: 1200 },
      },
    ],
    lanes: () => [
      {
        lane: 'lane0',
        engine: {
          pid: process.pid,
          since: 1,
          endings: { exited: 0, signal: 2, replaced: 0, not_started: 0 },
          analysed: 10,
          encrypted: { tls: 4 },
        },
        capture: { pid: process.pid, library: 'native' },
        canary: { is: 'alive', missed: 3, lastSuccess: 1_700_000_000_500 },
      },
    ],
    laneChanges: () => ({ wanted: 2, failed: 6 }),
    unaccounted: () => new Map([['lane0', 7]]),
    limits: () => ({
      cpu: { periods: 100, throttled: 20, throttledSeconds: 1.5 },
      pressure: { cpu: 2.5, memory: 0.5 },
      lostWhileThrottled: 30,
    }),
    signatures: () => signatures,
    watchRestarts: () => ({ pods: 2, deeppacketinspections: 0 }),
    alerts: () => ({ journaled: 3 }),
    folded: () => 5,
    suppressed: () => new Map([['scanner', 4]]),
    coverage: () => [{ resource: 'shop/all', selected: 3, capturing: 2, sending: 1, receiving: 1, both: 0, oneWay: 1 }],
    rules: () => ({
      sets: [{ name: 'custom', loaded: 9, failed: 2, version: 'abc', changedAt: 0, problem: 'bad' }],
      swaps: { swapped: 1, rolled_back: 0, restarted: 0, refused: 3 },
    }),
    ruleSources: () => [
      {
        name: 'paid',
        set: 'community',
        state: 'refused',
        version: '20260101T000000Z-abc',
        currentAt: 0,
        nextAt: 0,
        problem: 'the engine says no',
        looks: { updated: 1, unchanged: 5, refused: 2, failed: 3 },
      },
    ],
    ruleServer: () => ({ url: 'https://rules', answers: true, answeredAt: Date.now() }),
    policy: () => ({ errors: [] }),
    configuration: () => ({ file: '/c.yaml', loadedAt: 1_700_000_000_000, errors: [], needsRestart: ['lanes'] }),
    journal: () => ({
      total: 7,
      evicted: 2,
      bytes: 100,
      segments: 1,
      oldest: Date.now() - 5_000,
      appended: 7,
      evictedSegments: 1,
      replacedSegments: 0,
    }),
    evidence: () => ({
      files: 2,
      bytes: 3000,
      evicted: 1,
      alerts: { written: 2, cut: 1, notFound: 4, busy: 5, failed: 6 },
      unreadable: new Map([['tls.certificate', 3]]),
    }),
    sinks: () => [
      {
        name: 'elasticsearch',
        pending: 1,
        delivered: 3,
        duplicates: 1,
        deadLettered: 1,
        deadLettersEvicted: 8,
        evicted: 2,
        filtered: 0,
        digested: 0,
        retries: 4,
        failures: { timeout: 6 },
        evidence: { joined: 7, late: 1, without: 2 },
        circuit: 'open',
        oldestPending: Date.now() - 9_000,
      },
    ],
    ...more,
  };
}

export function metricsOf(more: Partial<Observed> = {}): Metrics {
  return createMetrics(observed(more), { version: '1.2.3', engine: { name: 'snort', version: '3.1' }, node: 'n' });
}
