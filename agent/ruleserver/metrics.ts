/** The rule server's metrics in Prometheus' text format: bounded by the sources (64); no label grows with the cluster. */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { SourceStatus } from '../rulesets/schedule.ts';
import { shortDigest } from '../rulesets/served.ts';
import { addSampledTo, type AddSampled, type Sample } from '../sampled-metrics.ts';
import type { SetStatus } from './serving.ts';

export interface ObservedServing {
  sets(): SetStatus[];
  sources(): SourceStatus[];
  /** Requests by the status of their answers. */
  requests(): ReadonlyMap<number, number>;
}

/** @returns a function that gives the text of a scrape. */
export function createMetrics(observed: ObservedServing, version: string): () => Promise<string> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'dpi_agent_ruleserver_' });
  const add = addSampledTo(registry, 'dpi_agent_ruleserver_');
  add(Gauge, 'info', ['version'], 'The rule server; always 1.', () => [[{ version }, 1]]);
  addSets(add, observed);
  addSources(add, observed);
  add(Counter, 'requests_total', ['status'], 'Requests of agents, by the HTTP status of the answer.', () =>
    [...observed.requests()].map(([status, count]) => [{ status: String(status) }, count]),
  );
  return () => registry.metrics();
}

function addSets(add: AddSampled, observed: ObservedServing): void {
  const each = (samples: (set: SetStatus) => Sample[]) => (): Sample[] => observed.sets().flatMap(samples);
  add(
    Gauge,
    'version_info',
    ['set', 'version', 'digest'],
    'The version of a set that is to be rolled out; always 1.',
    each(({ set, target: { version: name, digest } }) => [[{ set, version: name, digest: shortDigest(digest) }, 1]]),
  );
  add(
    Gauge,
    'version_state',
    ['set', 'state'],
    'How far the newest version is: 1 for its state. new: a node has to prove it; stopped: it did not inspect there.',
    each(({ set, target }) =>
      ['new', 'proven', 'stopped'].map((state): Sample => [{ set, state }, Number(target.state === state)]),
    ),
  );
  add(
    Gauge,
    'nodes',
    ['set', 'version'],
    'Nodes that were heard of of late, by what they have: the newest version (target), the last proven one, another.',
    each(({ set, nodes }) => Object.entries(nodes).map(([which, count]): Sample => [{ set, version: which }, count])),
  );
}

function addSources(add: AddSampled, observed: ObservedServing): void {
  add(
    Gauge,
    'source_failing',
    ['source'],
    "Whether a source's last look failed, or its newest version is refused by the engines.",
    () =>
      observed
        .sources()
        .map(({ name, state }): Sample => [{ source: name }, state === 'failed' || state === 'refused' ? 1 : 0]),
  );
  add(Counter, 'source_looks_total', ['source', 'outcome'], 'Looks for a new version, by how they ended.', () =>
    observed
      .sources()
      .flatMap(({ name, looks }) =>
        Object.entries(looks).map(([outcome, count]): Sample => [{ source: name, outcome }, count]),
      ),
  );
}
