/**
 * A message of Slack's incoming webhooks, in blocks (https://docs.slack.dev/reference/block-kit/blocks). Slack has no ids
 * to tell copies apart: after a lost answer a message may come twice, with the same id in its last line.
 */
import { COMMON, cut, single, type Format } from './format.ts';
import { toMessage } from './message.ts';

/** Characters. */
const MAX_HEADER = 150;
const MAX_FIELD = 2000;
const MAX_TEXT = 3000;
const MAX_URL = 3000;
const MAX_FIELDS = 10;

export const slack: Format = {
  ...COMMON,
  batches: false,
  body(alerts) {
    const alert = single(alerts);
    const { title, flow, facts } = toMessage(alert);
    const buttons = [
      buttonOf('open', 'Open the alert', alert.url),
      buttonOf('acknowledge', 'Acknowledge', alert.acknowledgeUrl),
    ].flat();
    return JSON.stringify({
      // What notifications show.
      text: cut(escape(`${title}: ${flow}`), MAX_TEXT),
      blocks: [
        { type: 'header', text: plain(title, MAX_HEADER) },
        {
          type: 'section',
          fields: facts
            .slice(0, MAX_FIELDS)
            .map(({ name, value }) => ({ type: 'mrkdwn', text: cut(`*${name}*\n${escape(value)}`, MAX_FIELD) })),
        },
        ...(buttons.length === 0 ? [] : [{ type: 'actions', elements: buttons }]),
        { type: 'context', elements: [plain(`dpi-agent, event ${alert.id}`, MAX_TEXT)] },
      ],
    });
  },
};

function buttonOf(action: string, text: string, url: string): object[] {
  if (url === '' || url.length > MAX_URL) return [];
  return [{ type: 'button', text: plain(text, 75), url, action_id: action }];
}

function plain(text: string, limit: number): object {
  return { type: 'plain_text', text: cut(text, limit), emoji: false };
}

/**
 * https://docs.slack.dev/messaging/formatting-message-text#escaping; and marks of emphasis, which Slack can't escape.
 */
function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll(/[*_~`]/g, (mark) => `\u200B${mark}\u200B`);
}
