/**
 * What becomes known of an event after it was journaled: the packets of its flow, and what they say. An event waits for
 * it where it is under way, for a bounded time, and goes out with what is known then, or without. The cursor stays
 * before it meanwhile; its id is the same.
 *
 * Events that wait count for the batch that is gathered. So where many do, the sink falls back behind the journal, by no
 * more than the time that one may wait: of what it reads then, all is known.
 */
import { withKnown } from '../events/describe.ts';
import { isRecord } from '../files/record.ts';
import { isUnsettled, isWaiting, type Unsettled } from './entry.ts';
import type { Found } from './late-facts.ts';
import type { SinkState } from './state.ts';
import { reasonOf } from './wait.ts';

/** Completes the events for which it is time, in order, until there is a batch of them. */
export async function completeEvents(sink: SinkState): Promise<void> {
  const { window, settings, stop } = sink;
  let ready = 0;
  for (const entry of window.entries) {
    if (ready > settings.batch.batchSize || stop.aborted) return;
    if (isUnsettled(entry) && entry.late !== undefined && isDue(sink, entry)) await complete(sink, entry);
    if (isWaiting(entry)) ready += entry.bytes;
  }
}

function isDue({ settings: { late, clock }, isHurried }: SinkState, { late: wait, state }: Unsettled): boolean {
  return isHurried || late?.isPending(state.item.id) !== true || clock.now() >= (wait?.until ?? 0);
}

async function complete(sink: SinkState, entry: Unsettled): Promise<void> {
  const { settings, counts } = sink;
  const { late, clock } = settings;
  const { item, event } = entry.state;
  const waited = entry.late?.waited === true;
  if (late?.isPending(item.id) === true) {
    counts.evidence.late += 1;
  } else {
    const found = await find(sink, event);
    if (found === undefined) counts.evidence.without += 1;
    else if (found !== 'none') {
      counts.evidence.joined += 1;
      put(entry, found);
    }
  }
  delete entry.late;
  // Others that become known now can go with it.
  if (waited) entry.gatheredAt = clock.now();
}

async function find({ settings: { name, late, log } }: SinkState, event: Record<string, unknown>) {
  try {
    return await late?.find(event);
  } catch (error) {
    log.warn({ sink: name, error: reasonOf(error) }, 'what is known of an event cannot be read: it goes without');
    return undefined;
  }
}

function put(entry: Unsettled, { record, packets }: Found): void {
  const { item, event } = entry.state;
  const known = withKnown({ ...event, record: isRecord(event['record']) ? event['record'] : {} }, record);
  const json = JSON.stringify(known);
  entry.state = { is: 'unsettled', event: known, item: { ...item, json, packets } };
  entry.bytes = Buffer.byteLength(json) + 1;
}
