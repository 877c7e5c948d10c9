/** The operator's metrics in Prometheus' text format; no label grows with the cluster. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import { addSampledTo, type Sample } from '../sampled-metrics.ts';
import type { OperatorStatus } from './operator.ts';

/** @returns a function that gives the text of a scrape. */
export function createMetrics(status: () => OperatorStatus, version: string): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'dpi_agent_operator_' });
  const addSampled = addSampledTo(registry, 'dpi_agent_operator_');

  const add = (
    Metric: typeof Counter | typeof Gauge,
    name: string,
    labelNames: string[],
    help: string,
    samples: (status: OperatorStatus) => Sample[],
  ): void => addSampled(Metric, name, labelNames, help, () => samples(status()));

  const maybe = (value: number | undefined): Sample[] => (value === undefined ? [] : [[{}, value]]);
  add(Gauge, 'info', ['version'], 'The operator; always 1.', () => [[{ version }, 1]]);
  add(Gauge, 'leader', [], 'Whether this replica leads: 1 or 0.', ({ leader }) => [[{}, Number(leader)]]);
  add(Gauge, 'inspections', [], 'DeepPacketInspection resources of all namespaces.', ({ inspections }) =>
    maybe(inspections),
  );
  add(
    Gauge,
    'applied',
    [],
    'Whether what is wanted of the DaemonSet is applied: 1 or 0; of the leader only.',
    ({ verdict }) => maybe(verdict && Number(verdict.status)),
  );
  add(Gauge, 'copies', [], 'Copies of resources in crd.projectcalico.org.', ({ copies }) => maybe(copies));
  add(
    Gauge,
    'copies_taken',
    [],
    'Resources without a copy, as an object of their name stands there.',
    ({ copiesTaken }) => [[{}, copiesTaken]],
  );
  add(Gauge, 'nodes', [], 'Nodes whose agents say something of a resource.', ({ nodes }) => [[{}, nodes]]);
  add(
    Counter,
    'statuses_written_total',
    [],
    'Statuses of resources that were written out of what the nodes say.',
    ({ statusesWritten }) => [[{}, statusesWritten]],
  );
  add(Counter, 'put_back_total', ['object'], 'Changes of others that were put back.', ({ putBack }) => [
    [{ object: 'daemonset' }, putBack.daemonSet],
    [{ object: 'copy' }, putBack.copy],
  ]);
  add(Counter, 'rounds_total', ['outcome'], 'Comparisons of what is with what shall be.', ({ rounds }) => [
    [{ outcome: 'done' }, rounds.done],
    [{ outcome: 'failed' }, rounds.failed],
  ]);
  return () => registry.metrics();
}
