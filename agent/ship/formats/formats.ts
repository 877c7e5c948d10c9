/** Formats by their names. */
import type { HttpSettings } from '../../config/sinks.ts';
import { alertmanager } from './alertmanager.ts';
import { createCloudEvents } from './cloudevents.ts';
import { discord } from './discord.ts';
import { createElasticEcs } from './elastic-ecs.ts';
import { falcosidekick } from './falcosidekick.ts';
import type { Format } from './format.ts';
import { createJson } from './json.ts';
import { loki } from './loki.ts';
import { ndjson } from './ndjson.ts';
import { otlp } from './otlp.ts';
import { pagerduty } from './pagerduty.ts';
import { slack } from './slack.ts';
import { splunkHec } from './splunk-hec.ts';
import { teams } from './teams.ts';

/** All but the template, which needs a library. */
type Simple = Exclude<HttpSettings['format'], 'template'>;

const FORMATS: Record<Simple, (oneByOne: boolean) => Format> = {
  json: createJson,
  ndjson: () => ndjson,
  cloudevents: createCloudEvents,
  slack: () => slack,
  teams: () => teams,
  discord: () => discord,
  pagerduty: () => pagerduty,
  alertmanager: () => alertmanager,
  'splunk-hec': () => splunkHec,
  loki: () => loki,
  otlp: () => otlp,
  'elastic-ecs': createElasticEcs,
  falcosidekick: () => falcosidekick,
};

export function formatOf(name: Simple, oneByOne: boolean): Format {
  return FORMATS[name](oneByOne);
}
