/**
 * Splunk's HTTP Event Collector, `/services/collector/event`
 * (https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector): events one after the
 * other. The event's id is the indexed field `event_id`.
 */
import { isRecord } from '../../files/record.ts';
import { SendError } from '../destination.ts';
import { COMMON, filled, type Format } from './format.ts';

/**
 * "Server is busy", "queue is full": https://docs.splunk.com/Documentation/Splunk/latest/Data/TroubleshootHTTPEventCollector
 */
const BUSY = new Set([9, 26]);

/** "Incorrect index", a data channel that is missing or wrong, acknowledgements that are off: all of the token. */
const OF_THE_TOKEN = new Set([7, 10, 11, 14, 16]);

export const splunkHec: Format = {
  ...COMMON,
  batches: true,
  secret: 'splunk',
  body: (alerts, { labels }) =>
    alerts
      .map((alert) => {
        const { id, signature, level, cluster } = alert;
        const envelope = {
          time: alert.time / 1000,
          ...filled({ host: alert.node }),
          source: 'dpi-agent',
          sourcetype: 'dpi-agent:alert',
          fields: { ...filled({ event_id: id, signature, level, cluster, resource: alert.resource }), ...labels },
        };
        return `${JSON.stringify(envelope).slice(0, -1)},"event":${alert.json}}\n`;
      })
      .join(''),
  refusal(answer) {
    const value = parsed(answer);
    if (!isRecord(value)) return new SendError('incomplete', "its answer is not that of Splunk's collector");
    const { code, text } = value;
    if (code === 0) return undefined;
    const failure = typeof code === 'number' && BUSY.has(code) ? 'throttled' : 'refused';
    return new SendError(failure, `code ${String(code)}: ${String(text)}`);
  },
  isOperators(answer) {
    const value = parsed(answer);
    return isRecord(value) && typeof value['code'] === 'number' && OF_THE_TOKEN.has(value['code']);
  },
};

function parsed(answer: string): unknown {
  try {
    return JSON.parse(answer);
  } catch {
    return undefined;
  }
}
