/** What receivers take, as far as a message of the agent can break it, each from where its vendor publishes it. */
import * as z from 'zod';

const time = z.iso.datetime();

/**
 * https://docs.slack.dev/reference/block-kit/blocks, /composition-objects/text-object, /block-elements/button-element
 */
const slackPlain = (max: number) =>
  z.strictObject({ type: z.literal('plain_text'), text: z.string().min(1).max(max), emoji: z.boolean().optional() });
const slackText = z.union([
  slackPlain(3000),
  z.strictObject({ type: z.literal('mrkdwn'), text: z.string().min(1).max(3000) }),
]);
const slackField = z.strictObject({ type: z.literal('mrkdwn'), text: z.string().min(1).max(2000) });
export const slack = z.strictObject({
  text: z.string().min(1).max(40_000),
  blocks: z
    .array(
      z.discriminatedUnion('type', [
        z.strictObject({ type: z.literal('header'), text: slackPlain(150) }),
        z.strictObject({ type: z.literal('section'), fields: z.array(slackField).min(1).max(10) }),
        z.strictObject({
          type: z.literal('actions'),
          elements: z
            .array(
              z.strictObject({
                type: z.literal('button'),
                text: slackPlain(75),
                url: z.url().max(3000),
                action_id: z.string().max(255),
              }),
            )
            .min(1)
            .max(25),
        }),
        z.strictObject({ type: z.literal('context'), elements: z.array(slackText).min(1).max(10) }),
      ]),
    )
    .min(1)
    .max(50),
});

/**
 * http://adaptivecards.io/schemas/adaptive-card.json, version 1.4; the envelope:
 * https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using
 */
const textBlock = z.strictObject({
  type: z.literal('TextBlock'),
  text: z.string().min(1),
  size: z.enum(['Default', 'Small', 'Medium', 'Large', 'ExtraLarge']).optional(),
  weight: z.enum(['Default', 'Lighter', 'Bolder']).optional(),
  color: z.enum(['default', 'dark', 'light', 'accent', 'good', 'warning', 'attention']).optional(),
  isSubtle: z.boolean().optional(),
  wrap: z.boolean().optional(),
});
const factSet = z.strictObject({
  type: z.literal('FactSet'),
  facts: z.array(z.strictObject({ title: z.string(), value: z.string() })),
});
export const teams = z.strictObject({
  type: z.literal('message'),
  attachments: z
    .array(
      z.strictObject({
        contentType: z.literal('application/vnd.microsoft.card.adaptive'),
        contentUrl: z.null(),
        content: z.strictObject({
          $schema: z.url(),
          type: z.literal('AdaptiveCard'),
          version: z.literal('1.4'),
          msteams: z.strictObject({ width: z.literal('Full') }),
          body: z.array(z.discriminatedUnion('type', [textBlock, factSet])),
          actions: z
            .array(z.strictObject({ type: z.literal('Action.OpenUrl'), title: z.string(), url: z.url() }))
            .optional(),
        }),
      }),
    )
    .length(1),
});
/** Of a message of Teams, in bytes. */
export const TEAMS_BYTES = 28 << 10;

/** https://discord.com/developers/docs/resources/webhook#execute-webhook, .../message#embed-object */
export const discord = z.strictObject({
  username: z.string().min(1).max(80),
  allowed_mentions: z.strictObject({ parse: z.array(z.never()) }),
  embeds: z
    .array(
      z.strictObject({
        title: z.string().min(1).max(256),
        color: z.int().min(0).max(0xff_ff_ff),
        timestamp: time,
        url: z.url().optional(),
        fields: z
          .array(
            z.strictObject({
              name: z.string().min(1).max(256),
              value: z.string().min(1).max(1024),
              inline: z.boolean(),
            }),
          )
          .max(25),
        footer: z.strictObject({ text: z.string().max(2048) }),
      }),
    )
    .max(10)
    .refine((embeds) => JSON.stringify(embeds).length <= 6000, 'more than 6000 characters'),
});

/** https://developer.pagerduty.com/docs/events-api-v2/trigger-events */
export const pagerduty = z.strictObject({
  routing_key: z.string().length(32),
  event_action: z.enum(['trigger', 'acknowledge', 'resolve']),
  dedup_key: z.string().min(1).max(255),
  client: z.string(),
  client_url: z.url().optional(),
  payload: z.strictObject({
    summary: z.string().min(1).max(1024),
    source: z.string().min(1),
    severity: z.enum(['critical', 'error', 'warning', 'info']),
    timestamp: time,
    component: z.string(),
    group: z.string(),
    class: z.string(),
    custom_details: z.record(z.string(), z.unknown()),
  }),
  links: z.array(z.strictObject({ href: z.url(), text: z.string() })),
});

/** https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml: postableAlerts, labelSet */
const labelSet = z.record(z.string().regex(/^[a-zA-Z_][a-zA-Z0-9_]*$/), z.string().min(1));
export const alertmanager = z
  .array(
    z.strictObject({
      labels: labelSet,
      annotations: labelSet,
      startsAt: time,
      endsAt: time.optional(),
      generatorURL: z.url().optional(),
    }),
  )
  .min(1);

/** https://docs.splunk.com/Documentation/Splunk/latest/Data/FormateventsforHTTPEventCollector */
export const splunk = z.strictObject({
  time: z.number(),
  host: z.string().optional(),
  source: z.string(),
  sourcetype: z.string(),
  fields: z.record(z.string(), z.union([z.string(), z.array(z.string())])),
  event: z.record(z.string(), z.unknown()),
});

/** https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs */
export const loki = z.strictObject({
  streams: z
    .array(
      z.strictObject({
        stream: labelSet,
        values: z
          .array(z.tuple([z.string().regex(/^\d{19}$/), z.string().min(1), z.record(z.string(), z.string())]))
          .min(1),
      }),
    )
    .min(1),
});

/**
 * https://github.com/open-telemetry/opentelemetry-proto: collector/logs/v1, logs/v1, common/v1, in the JSON of protocol
 * buffers: integers of 64 bits are texts.
 */
const anyValue = z.union([
  z.strictObject({ stringValue: z.string() }),
  z.strictObject({ intValue: z.string().regex(/^-?\d+$/) }),
]);
const keyValues = z.array(z.strictObject({ key: z.string().min(1), value: anyValue }));
const nanos = z.string().regex(/^\d{19}$/);
export const otlp = z.strictObject({
  resourceLogs: z.array(
    z.strictObject({
      resource: z.strictObject({ attributes: keyValues }),
      scopeLogs: z.array(
        z.strictObject({
          scope: z.strictObject({ name: z.string() }),
          logRecords: z.array(
            z.strictObject({
              timeUnixNano: nanos,
              observedTimeUnixNano: nanos,
              severityNumber: z.int().min(1).max(24),
              severityText: z.string(),
              eventName: z.string(),
              body: anyValue,
              attributes: keyValues,
            }),
          ),
        }),
      ),
    }),
  ),
});

/** https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/cloudevents.json */
export const cloudEvent = z.strictObject({
  specversion: z.literal('1.0'),
  id: z.string().min(1),
  source: z.string().min(1),
  type: z.string().min(1),
  subject: z.string().min(1),
  time,
  datacontenttype: z.string().min(1),
  data: z.record(z.string(), z.unknown()),
});

/** https://github.com/falcosecurity/falcosidekick/blob/master/types/types.go: FalcoPayload; priorities of Falco */
export const falcosidekick = z.strictObject({
  uuid: z.uuid(),
  output: z.string().min(1),
  priority: z.enum(['Emergency', 'Alert', 'Critical', 'Error', 'Warning', 'Notice', 'Informational', 'Debug']),
  rule: z.string().min(1),
  time,
  source: z.string(),
  hostname: z.string(),
  tags: z.array(z.string()),
  output_fields: z.record(z.string(), z.union([z.string(), z.number()])),
});
