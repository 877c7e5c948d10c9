/** The events as the journal has them, each a line. */
import { COMMON, type Format } from './format.ts';

export const ndjson: Format = {
  ...COMMON,
  batches: true,
  contentType: () => 'application/x-ndjson',
  body: (alerts) => alerts.map(({ json }) => `${json}\n`).join(''),
};
