/** What is indexed of an event. */
import { toEcs } from '../../events/ecs.ts';
import type { EeEvent } from '../../events/event.ts';
import { isRecord } from '../../files/record.ts';
import type { Item } from '../destination.ts';
import type { Names } from './template.ts';

/** The journal's line, or what the schema makes of it; for a data stream, with its time. */
export function documentOf({ json }: Pick<Item, 'json'>, { schema, isStream }: Names, cluster: string): string {
  if (schema === 'calico') return isStream === true ? stamped(json) : json;
  try {
    return JSON.stringify(toEcs(JSON.parse(json) as EeEvent, cluster));
  } catch {
    // Not one of the agent's: somebody else wrote it into the journal.
    return isStream === true ? stamped(json) : json;
  }
}

/** Of the packet, to the microsecond; where that is no time a data stream takes, the time of sending. */
function stamped(json: string): string {
  const event = parse(json);
  if (event === undefined) return json;
  const time = isRecord(event['record']) ? event['record']['timestamp'] : undefined;
  const isTime = typeof time === 'string' && TIME.test(time) && !Number.isNaN(Date.parse(time));
  return JSON.stringify({ '@timestamp': isTime ? time : new Date().toISOString(), ...event });
}

/** `date_nanos` ends in 2262. */
const TIME = /^(19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/;

function parse(json: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
