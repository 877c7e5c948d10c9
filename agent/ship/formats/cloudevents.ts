/**
 * CloudEvents 1.0 in JSON (https://github.com/cloudevents/spec): one in structured mode, several as a batch. `source`
 * and `id` together tell copies apart.
 */
import type { Alert } from './alert.ts';
import { COMMON, type Format } from './format.ts';

export function createCloudEvents(oneByOne: boolean): Format {
  return {
    ...COMMON,
    batches: true,
    contentType: () => `application/cloudevents${oneByOne ? '' : '-batch'}+json`,
    body(alerts) {
      const events = alerts.map(toCloudEvent);
      return oneByOne ? events.join('') : `[${events.join(',')}]`;
    },
  };
}

function toCloudEvent({ id, cluster, node, resource, timestamp, json }: Alert): string {
  const attributes = {
    specversion: '1.0',
    id,
    source: `/dpi-agent/${encodeURIComponent(cluster)}/${encodeURIComponent(node)}`,
    type: 'dpi-agent.alert.v1',
    ...(resource === '' ? {} : { subject: resource }),
    time: timestamp,
    datacontenttype: 'application/json',
  };
  return `${JSON.stringify(attributes).slice(0, -1)},"data":${json}}`;
}
