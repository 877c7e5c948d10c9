/** What is indexed of an event. */
import { toEcs } from '../../events/ecs.ts';
import type { EeEvent } from '../../events/event.ts';
import type { Item } from '../destination.ts';
import type { Schema } from './template.ts';

/** The journal's line, or what the schema makes of it. */
export function documentOf({ json }: Pick<Item, 'json'>, schema: Schema, cluster: string): string {
  if (schema === 'calico') return json;
  try {
    return JSON.stringify(toEcs(JSON.parse(json) as EeEvent, cluster));
  } catch {
    // Not one of the agent's: somebody else wrote it into the journal.
    return json;
  }
}
