/** Events in the Elastic Common Schema, as a list: for the HTTP inputs of Logstash, Filebeat and Elastic Agent. */
import { toEcs } from '../../events/ecs.ts';
import type { EeEvent } from '../../events/event.ts';
import type { Alert } from './alert.ts';
import { COMMON, type Format } from './format.ts';

export function createElasticEcs(oneByOne: boolean): Format {
  return {
    ...COMMON,
    batches: true,
    body(alerts) {
      const documents = alerts.map(({ event, cluster }: Alert) => toEcs(event as unknown as EeEvent, cluster));
      return JSON.stringify(oneByOne ? documents[0] : documents);
    },
  };
}
