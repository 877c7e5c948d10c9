/** Puts what evidence found out about a flow into an event. */
import type { Description } from './app.ts';
import { MAX_EVENT_BYTES, type EventRecord } from './event.ts';

/** What of a record is known by the flow. */
export type DescribedRecord = Pick<EventRecord, 'outcome' | 'app' | 'community_id' | 'traffic'>;

export function describedRecord({ app, outcome, communityId, traffic }: Description): DescribedRecord {
  return {
    outcome,
    ...(app === undefined ? {} : { app }),
    ...(communityId === undefined ? {} : { community_id: communityId }),
    traffic,
  };
}

interface Recorded {
  record: { payload?: unknown };
}

/** The event with what is known of its flow. Payload makes room where the event would be too long. */
export function withKnown<Event extends Recorded, Known extends object>(
  event: Event,
  known: Known,
): Event & { record: Known } {
  const record: Recorded['record'] & { payload_truncated?: true } = { ...event.record, ...known };
  const excess = Buffer.byteLength(JSON.stringify({ ...event, record })) - MAX_EVENT_BYTES + 64;
  if (excess > 0 && typeof record.payload === 'string') {
    const kept = Math.max(0, record.payload.length - excess);
    record.payload = record.payload.slice(0, kept - (kept % 4));
    record.payload_truncated = true;
  }
  return { ...event, record } as Event & { record: Known };
}
