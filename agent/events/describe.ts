/** Puts what evidence found out about a flow into an event. */
import type { Description } from './app.ts';
import { MAX_EVENT_BYTES, type EeEvent, type EventRecord } from './event.ts';

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

/** The event with what is known of its flow. Payload makes room where the event would be too long. */
export function withDescription(event: EeEvent, description: Description): EeEvent {
  const record = { ...event.record, ...describedRecord(description) };
  const excess = Buffer.byteLength(JSON.stringify({ ...event, record })) - MAX_EVENT_BYTES + 64;
  if (excess > 0 && record.payload !== undefined) {
    const kept = Math.max(0, record.payload.length - excess);
    record.payload = record.payload.slice(0, kept - (kept % 4));
    record.payload_truncated = true;
  }
  return { ...event, record };
}
