/**
 * What a flow's packets say to a person: the application's protocol, whether the request was answered, how much went
 * where.
 *
 * Whatever the bytes are, nothing throws; time and memory are bounded by what is kept of the packets.
 */
import { createBufferPool } from '../../buffer-pool.ts';
import type { Description } from '../../events/app.ts';
import type { FlowPacket } from '../packet.ts';
import { readApp } from './apps.ts';
import { createAttempt, type Parser } from './attempt.ts';
import { communityId } from './community-id.ts';
import { readConversation, type Conversation } from './conversation.ts';
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

/** For the bytes of both sides: nothing that is said of them is part of it. */
const pool = createBufferPool(2 << 20);

/** @param packets Of both directions, in the order of their capture. */
export function describeFlow(packets: readonly FlowPacket[], flow: FlowKey, facts: EngineFacts = {}): FlowDescription {
  const taken: Buffer[] = [];
  const allocate = (bytes: number): Buffer => {
    const buffer = pool.take(bytes);
    taken.push(buffer);
    return buffer;
  };
  const description = describe(readConversation(packets, flow, allocate), flow, facts);
  for (const buffer of taken) pool.give(buffer);
  return description;
}

function describe(conversation: Conversation, flow: FlowKey, facts: EngineFacts): FlowDescription {
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
