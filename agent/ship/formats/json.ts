/** The event as the journal has it; of several, a list. */
import { COMMON, type Format } from './format.ts';

export function createJson(oneByOne: boolean): Format {
  return {
    ...COMMON,
    batches: true,
    body: (alerts) => {
      const events = alerts.map(({ json }) => json);
      return oneByOne ? events.join('') : `[${events.join(',')}]`;
    },
  };
}
