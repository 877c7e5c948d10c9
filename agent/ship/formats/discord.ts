/**
 * A message of Discord's webhooks, with an embed (https://discord.com/developers/docs/resources/webhook#execute-webhook).
 * Nobody is mentioned, whatever the texts say. Discord has no ids to tell copies apart.
 */
import { COMMON, cut, single, type Format } from './format.ts';
import { COLOURS, toMessage } from './message.ts';

/** https://discord.com/developers/docs/resources/message#embed-object-embed-limits; 6000 characters in all. */
const MAX_TITLE = 256;
const MAX_VALUE = 400;
/** A value may have 1024 characters. */
const MAX_LINK = 900;

export const discord: Format = {
  ...COMMON,
  batches: false,
  body(alerts) {
    const alert = single(alerts);
    const { title, facts } = toMessage(alert);
    return JSON.stringify({
      username: 'dpi-agent',
      allowed_mentions: { parse: [] },
      embeds: [
        {
          title: escaped(title, MAX_TITLE),
          color: COLOURS[alert.level],
          timestamp: new Date(alert.time).toISOString(),
          fields: [
            ...facts.map(({ name, value }) => ({ name, value: escaped(value, MAX_VALUE), inline: true })),
            // Buttons are for applications; a webhook's embed has links in its text.
            ...(alert.acknowledgeUrl === '' || alert.acknowledgeUrl.length > MAX_LINK
              ? []
              : [{ name: 'Acknowledge', value: `[Acknowledge the alert](${alert.acknowledgeUrl})`, inline: false }]),
          ],
          footer: { text: `event ${alert.id}` },
          ...(alert.url === '' ? {} : { url: alert.url }),
        },
      ],
    });
  },
};

/** Of the Markdown that Discord knows. */
function escaped(text: string, limit: number): string {
  return cut(
    text.replaceAll(/[\\*_~`|>[\]()#@<:-]/g, (mark) => `\\${mark}`),
    limit,
  );
}
