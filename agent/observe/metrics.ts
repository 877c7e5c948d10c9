/** The agent's metrics in Prometheus' text format, read from it at each scrape. Labels are bounded by the number of endpoints, 4,093. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { Counters } from '../capture/protocol.ts';
import type { Endpoint } from '../endpoints/endpoint.ts';

export interface Observed {
  endpoints(): { endpoint: Endpoint; state: { is: string }; counters: Counters }[];
  /** Alerts by what became of them. */
  alerts(): Record<string, number>;
}

export interface Facts {
  version: string;
  engine: { name: string; version: string };
  node: string;
}

/** What became of a packet, by the counter that has it. */
const PACKETS: [keyof Counters, string][] = [
  ['received', 'received'],
  ['forwarded', 'forwarded'],
  ['truncated', 'truncated'],
  ['unsupported', 'unsupported'],
  ['droppedKernel', 'dropped_kernel'],
  ['droppedInterface', 'dropped_interface'],
  ['droppedQueue', 'dropped_queue'],
  ['droppedEngineDown', 'dropped_engine_down'],
  ['droppedDetached', 'dropped_detached'],
];

/** @returns a function that gives the text of a scrape. */
export function createMetrics(observed: Observed, { version, engine, node }: Facts): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'dpi_agent_' });
  const info = new Gauge({
    name: 'dpi_agent_info',
    help: 'The agent and its engine; always 1.',
    labelNames: ['version', 'engine', 'engine_version', 'node'],
    registers: [],
  });
  info.set({ version, engine: engine.name, engine_version: engine.version, node }, 1);
  const endpoints = new Gauge({
    name: 'dpi_agent_endpoints',
    help: 'Endpoints by the state of their capture.',
    labelNames: ['state'],
    registers: [],
    collect() {
      const states = observed.endpoints().map((entry) => entry.state.is);
      for (const state of ['starting', 'capturing', 'waiting']) {
        this.set({ state }, states.filter((is) => is === state).length);
      }
    },
  });
  const packets = new Counter({
    name: 'dpi_agent_packets_total',
    help: "Packets of an endpoint by what became of them; gone with the endpoint's capture.",
    labelNames: ['namespace', 'endpoint', 'outcome'],
    registers: [],
    collect() {
      this.reset();
      for (const { endpoint, counters } of observed.endpoints()) {
        for (const [name, outcome] of PACKETS) {
          this.inc({ namespace: endpoint.namespace, endpoint: endpoint.name, outcome }, counters[name]);
        }
      }
    },
  });
  const alerts = new Counter({
    name: 'dpi_agent_alerts_total',
    help: 'Alerts of the engine by what became of them.',
    labelNames: ['outcome'],
    registers: [],
    collect() {
      this.reset();
      for (const [outcome, count] of Object.entries(observed.alerts())) this.inc({ outcome }, count);
    },
  });
  registry.registerMetric(info);
  registry.registerMetric(endpoints);
  registry.registerMetric(packets);
  registry.registerMetric(alerts);
  return () => registry.metrics();
}
