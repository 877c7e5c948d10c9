/**
 * A message of Teams' workflows ("when a webhook request is received"): an Adaptive Card (https://adaptivecards.io).
 * Teams has no ids to tell copies apart.
 */
import type { Level } from '../../events/level.ts';
import { SendError } from '../destination.ts';
import { COMMON, cut, single, type Format } from './format.ts';
import { toMessage } from './message.ts';

/** The whole message may have 28 KB. */
const MAX_TITLE = 300;
const MAX_FACT = 500;

const STYLES: Record<Level, string> = { critical: 'attention', high: 'attention', medium: 'warning', low: 'default' };

export const teams: Format = {
  ...COMMON,
  batches: false,
  body(alerts) {
    const alert = single(alerts);
    const { title, facts } = toMessage(alert);
    const actions = [
      { type: 'Action.OpenUrl', title: 'Open the alert', url: alert.url },
      { type: 'Action.OpenUrl', title: 'Acknowledge', url: alert.acknowledgeUrl },
    ].filter(({ url }) => url !== '');
    const card = {
      $schema: 'http://adaptivecards.io/schemas/adaptive-card.json',
      type: 'AdaptiveCard',
      version: '1.4',
      msteams: { width: 'Full' },
      body: [
        {
          type: 'TextBlock',
          text: escape(cut(title, MAX_TITLE)),
          size: 'Large',
          weight: 'Bolder',
          color: STYLES[alert.level],
          wrap: true,
        },
        {
          type: 'FactSet',
          facts: facts.map(({ name, value }) => ({ title: name, value: escape(cut(value, MAX_FACT)) })),
        },
        { type: 'TextBlock', text: `dpi-agent, event ${alert.id}`, size: 'Small', isSubtle: true, wrap: true },
      ],
      ...(actions.length === 0 ? {} : { actions }),
    };
    const contentType = 'application/vnd.microsoft.card.adaptive';
    return JSON.stringify({ type: 'message', attachments: [{ contentType, contentUrl: null, content: card }] });
  },
  // Connectors of Office 365 answer 200, and what went wrong in words.
  refusal(answer) {
    const [, status] = /Microsoft Teams endpoint returned HTTP error (\d{3})/.exec(answer) ?? [];
    if (status === undefined) return undefined;
    const failure = { '429': 'throttled', '413': 'too_large', '400': 'refused' } as const;
    return new SendError(
      failure[status as keyof typeof failure] ?? 'server_error',
      `Teams answered ${status} in its text`,
    );
  },
};

/** Of the Markdown that cards know. */
function escape(text: string): string {
  return text.replaceAll(/[\\*_[\]()`#~|>-]/g, (mark) => `\\${mark}`);
}
