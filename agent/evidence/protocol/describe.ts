/**
 * What a flow's packets say to a person: the application's protocol, whether the request was answered, how much went
 * where.
 *
 * Pure. Whatever the bytes are, nothing throws; time and memory are bounded by what is kept of the packets.
 */
import type { Description } from '../../events/app.ts';
import type { FlowPacket } from '../packet.ts';
import { readApp } from './apps.ts';
import { createAttempt, type Parser } from './attempt.ts';
import { communityId } from './community-id.ts';
import { readConversation } from './conversation.ts';
import { outcomeOf } from './outcome.ts';
import type { FlowKey } from './transport.ts';

export interface EngineFacts {
  /** Microseconds since 1970, of the packet that fired: of several requests the one under way is told. */
  timeMicros?: number;
}

export interface FlowDescription extends Description {
  /** Parsers that failed, once for each time. */
  errors: Parser[];
}

/**
 * @param packets Of both directions, in the order of their capture.
 * @param allocate Memory of so many bytes at least, for what a side said: nothing of the result is part of it.
 */
export function describeFlow(
  packets: readonly FlowPacket[],
  flow: FlowKey,
  facts: EngineFacts = {},
  allocate: (bytes: number) => Buffer = Buffer.allocUnsafe.bind(Buffer),
): FlowDescription {
  const conversation = readConversation(packets, flow, allocate);
  const errors: Parser[] = [];
  const attempt = createAttempt((parser) => errors.push(parser));
  const app = readApp(conversation, facts.timeMicros, attempt);
  const id = communityId(flow);
  return {
    ...(app === undefined ? {} : { app }),
    outcome: outcomeOf(conversation, app),
    ...(id === undefined ? {} : { communityId: id }),
    traffic: conversation.traffic,
    errors,
  };
}
