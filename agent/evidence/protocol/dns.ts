/** DNS, over UDP and TCP: the question that an alert is about, and its answer. */
import { decode, type Answer, type DecodedPacket } from 'dns-packet';
import type { DnsFacts } from '../../events/app.ts';
import type { Attempt } from './attempt.ts';
import type { Conversation, Side } from './conversation.ts';
import { cursorOf, untilCut } from './cursor.ts';
import { timeAt } from './pieces.ts';
import { short } from './text.ts';

/** DNS, mDNS, LLMNR. */
const PORTS: ReadonlySet<number> = new Set([53, 5353, 5355]);
/** Of a message: what an answer's bytes may grow to is bounded by it. */
const MAX_MESSAGE = 16 << 10;
const MAX_MESSAGES = 512;
const MAX_QUESTIONS = 8;
const MAX_ANSWERS = 32;
/** Of answers together. */
const MAX_TEXT = 6_000;
const HEADER = 12;

interface Message {
  time: number;
  isAnswer: boolean;
  id: number;
  bytes: Buffer;
}

export function isDns({ serverPort, client, server }: Conversation): boolean {
  if (serverPort === undefined || !PORTS.has(serverPort)) return false;
  return client.sent > 0 || server.sent > 0;
}

/** @param time Of the alert, in microseconds since 1970. */
export function dnsFacts(conversation: Conversation, time: number | undefined, attempt: Attempt): DnsFacts | undefined {
  const messages = [conversation.client, conversation.server]
    .flatMap((side) => messagesOf(side, conversation.transport === 'tcp'))
    .toSorted((a, b) => a.time - b.time);
  const begun = time === undefined ? [] : messages.filter((message) => message.time <= time);
  const about = begun.findLast(({ isAnswer }) => !isAnswer) ?? begun.at(-1) ?? messages[0];
  if (about === undefined) return undefined;
  const answer = messages.find(({ isAnswer, id, time: at }) => isAnswer && id === about.id && at >= about.time);
  const question = attempt('dns', () => decode(about.bytes));
  const answered = answer === undefined ? undefined : attempt('dns', () => decode(answer.bytes));
  return factsOf(about, question ?? answered, answer, answered);
}

function messagesOf({ datagrams, runs }: Side, isStream: boolean): Message[] {
  if (!isStream) return datagrams.slice(0, MAX_MESSAGES).flatMap(({ bytes, time }) => messageOf(bytes, time));
  const messages: Message[] = [];
  for (const run of runs) {
    const cursor = cursorOf(run.bytes);
    untilCut(() => {
      while (cursor.left > 2 && messages.length < MAX_MESSAGES) {
        const time = timeAt(run, run.bytes.length - cursor.left);
        messages.push(...messageOf(cursor.vector(2), time));
      }
    });
  }
  return messages;
}

function messageOf(bytes: Buffer, time: number): Message[] {
  if (bytes.length < HEADER) return [];
  const isAnswer = (bytes.readUInt8(2) & 0x80) !== 0;
  return [{ time, isAnswer, id: bytes.readUInt16BE(0), bytes: bytes.subarray(0, MAX_MESSAGE) }];
}

function factsOf(
  about: Message,
  question: DecodedPacket | undefined,
  answer: Message | undefined,
  answered: DecodedPacket | undefined,
): DnsFacts {
  const answers = answersOf(answered?.answers ?? []);
  return {
    id: about.id,
    questions: (question?.questions ?? []).slice(0, MAX_QUESTIONS).map(({ name, type }) => ({
      name: short(name, 255),
      type: short(type, 16),
    })),
    ...(answers.length === 0 ? {} : { answers }),
    ...(answer === undefined ? {} : { rcode: rcodeOf(answer.bytes) }),
  };
}

function answersOf(all: readonly Answer[]): NonNullable<DnsFacts['answers']> {
  let room = MAX_TEXT;
  return all
    .slice(0, MAX_ANSWERS)
    .map(answerOf)
    .filter(({ name, data }) => (room -= name.length + data.length) >= 0);
}

function answerOf(answer: Answer): NonNullable<DnsFacts['answers']>[number] {
  const ttl = 'ttl' in answer ? answer.ttl : undefined;
  return {
    name: short(answer.name, 255),
    type: short(answer.type, 16),
    ...(ttl === undefined ? {} : { ttl }),
    data: short(dataOf('data' in answer ? answer.data : undefined), 512),
  };
}

/** As dig prints it, of the common types; of others the fields that there are. */
function dataOf(data: unknown): string {
  if (typeof data === 'string') return data;
  if (Buffer.isBuffer(data)) return data.toString('hex');
  if (Array.isArray(data))
    return data.map((part) => (Buffer.isBuffer(part) ? part.toString('utf8') : String(part))).join(' ');
  if (typeof data !== 'object' || data === null) return '';
  return Object.values(data)
    .map((value) => (Buffer.isBuffer(value) ? value.toString('hex') : String(value)))
    .join(' ');
}

/** https://www.iana.org/assignments/dns-parameters, as far as a header has room for. */
const RCODES = [
  'NOERROR',
  'FORMERR',
  'SERVFAIL',
  'NXDOMAIN',
  'NOTIMP',
  'REFUSED',
  'YXDOMAIN',
  'YXRRSET',
  'NXRRSET',
  'NOTAUTH',
  'NOTZONE',
  'DSOTYPENI',
];

function rcodeOf(bytes: Buffer): string {
  const code = bytes.readUInt8(3) & 0x0f;
  return RCODES[code] ?? `RCODE${code}`;
}
