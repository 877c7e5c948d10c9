/** Whether what was asked was answered. */
import type { AppFacts, Outcome } from '../../events/app.ts';
import type { Conversation } from './conversation.ts';

export function outcomeOf(conversation: Conversation, app: AppFacts | undefined): Outcome {
  const { client, server, transport, hasBeginning } = conversation;
  if (transport === 'other' || conversation.traffic.packets_to_server + conversation.traffic.packets_to_client === 0)
    return 'unknown';
  const status = app?.http?.status;
  if (status !== undefined) return byStatus(status);
  if (server.reset && !server.opened && server.sent === 0 && hasBeginning) return 'refused';
  // A request that is known, and has no answer, though others may have had theirs.
  const isUnanswered = app?.http?.method !== undefined || isQuestion(app);
  if (server.sent > 0 && !isUnanswered) return 'answered';
  if (server.reset || client.reset) return 'reset';
  return hasBeginning || isUnanswered ? 'no-answer' : 'unknown';
}

function byStatus(status: number): Outcome {
  if (status >= 200 && status < 300) return '2xx';
  if (status >= 300 && status < 400) return '3xx';
  if (status >= 400 && status < 500) return '4xx';
  return status >= 500 && status < 600 ? '5xx' : 'answered';
}

/** A question of DNS whose answer is not there. */
function isQuestion(app: AppFacts | undefined): boolean {
  return app?.dns !== undefined && app.dns.rcode === undefined;
}
