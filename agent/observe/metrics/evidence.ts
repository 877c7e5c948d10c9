/** Of the packets of alerts. */
import { Counter, Gauge } from 'prom-client';
import type { EvidenceStatus } from '../../evidence/collect.ts';
import type { AddSampled, Sample } from '../../sampled-metrics.ts';
import { addEach, type MetricOf } from './each.ts';

export interface ObservedEvidence {
  /** Undefined where none are kept. */
  evidence(): EvidenceStatus | undefined;
}

const EVIDENCE: MetricOf<EvidenceStatus>[] = [
  [
    Counter,
    'evidence_evicted_files_total',
    'Files of packets that retention deleted since the agent started.',
    ({ evicted }) => evicted,
  ],
  [Gauge, 'evidence_files', 'Files of packets.', ({ files }) => files],
  [Gauge, 'evidence_size_bytes', 'The files of packets together.', ({ bytes }) => bytes],
];

export function addEvidence(add: AddSampled, observed: ObservedEvidence): void {
  add(
    Counter,
    'evidence_alerts_total',
    ['outcome'],
    'Alerts by what became of the packets of their flows; cut: not all of the flow.',
    () => {
      const { written, cut, notFound, busy, failed } = observed.evidence()?.alerts ?? {};
      const outcomes = { written, cut, not_found: notFound, busy, failed };
      return Object.entries(outcomes).flatMap(([outcome, count]): Sample[] =>
        count === undefined ? [] : [[{ outcome }, count]],
      );
    },
  );
  add(
    Counter,
    'evidence_unreadable_total',
    ['parser'],
    'Flows of alerts in which a part of a protocol could not be read.',
    () => [...(observed.evidence()?.unreadable ?? [])].map(([parser, count]): Sample => [{ parser }, count]),
  );
  addEach(add, [], EVIDENCE, () => {
    const status = observed.evidence();
    return status === undefined ? [] : [[{}, status]];
  });
}
