/** Of the journal. */
import { Counter, Gauge } from 'prom-client';
import type { JournalStatus } from '../../journal/journal.ts';
import type { AddSampled } from '../../sampled-metrics.ts';
import { addEach, secondsSince, type MetricOf } from './each.ts';

export interface ObservedJournal {
  /** Undefined until it is open. */
  journal(): JournalStatus | undefined;
}

const JOURNAL: MetricOf<JournalStatus>[] = [
  [
    Counter,
    'journal_events_total',
    'Events journaled since the journal began, by earlier agents too.',
    ({ total }) => total,
  ],
  [
    Counter,
    'journal_evicted_events_total',
    'Events that retention deleted since the agent started.',
    ({ evicted }) => evicted,
  ],
  [Gauge, 'journal_size_bytes', "The journal's files together.", ({ bytes }) => bytes],
  [Gauge, 'journal_segments', "Number of the journal's files.", ({ segments }) => segments],
  [
    Gauge,
    'journal_oldest_event_age_seconds',
    "Time since the first write of the journal's oldest file.",
    ({ oldest }) => (oldest === undefined ? undefined : secondsSince(oldest)),
  ],
];

export function addJournal(add: AddSampled, observed: ObservedJournal): void {
  addEach(add, [], JOURNAL, () => {
    const status = observed.journal();
    return status === undefined ? [] : [[{}, status]];
  });
}
