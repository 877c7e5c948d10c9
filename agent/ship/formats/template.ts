/**
 * What an operator's template makes of an event, in the Liquid language (https://liquidjs.com). It sees `event`, the
 * journal's, and `alert`, what messages say of it; no files, no other templates, no prototypes.
 *
 * Bounded: MAX_OUTPUT characters of output, MAX_MILLIS of time and MAX_MEMORY units of memory for each event, as the
 * library counts them. `{{ text | json }}` makes a string of JSON of whatever there is.
 */
import { Liquid } from 'liquidjs';
import type { Template } from 'liquidjs';
import type { Alert } from './alert.ts';
import { COMMON, JSON_TYPE, single, type Format } from './format.ts';

const MAX_TEMPLATE = 65_536;
const MAX_OUTPUT = 1 << 20;
const MAX_MILLIS = 250;
const MAX_MEMORY = 10_000_000;

const engine = new Liquid({
  ownPropertyOnly: true,
  strictFilters: true,
  // Instead of a folder.
  templates: {},
  parseLimit: MAX_TEMPLATE,
  renderLimit: MAX_MILLIS,
  memoryLimit: MAX_MEMORY,
});

/** @throws Error that says what is wrong with it, and where. */
export function parseTemplate(text: string): Template[] {
  return engine.parse(text);
}

/** @param read The template, as it is now. */
export function createTemplate(read: () => Promise<Template[]>, contentType: string = JSON_TYPE): Format {
  return {
    ...COMMON,
    contentType: () => contentType,
    batches: false,
    body: async (alerts) => render(await read(), single(alerts)),
  };
}

function render(template: Template[], { event, json: _json, ...alert }: Alert): string {
  const output: unknown = engine.renderSync(template, { event, alert });
  const text = String(output);
  if (text.length > MAX_OUTPUT) throw new Error(`the template makes more than ${MAX_OUTPUT} characters`);
  return text;
}
