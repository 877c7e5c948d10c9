/**
 * What a client's error says of a partition's messages: that they are not there, that they are, or neither.
 *
 * A broker's refusal says that it did not store them, but for the codes in `MAYBE_STORED`; and where one of several
 * tries may have stored them, they may be there. See https://kafka.apache.org/protocol#protocol_error_codes.
 */
import { errorCode, messageOf } from '../../files/errors.ts';
import { isRecord } from '../../files/record.ts';
import { SendError, type SendFailure } from '../destination.ts';

export interface Refusal {
  failure: SendFailure;
  message: string;
  /** Whether the messages may be in the topic all the same. */
  maybeStored: boolean;
  /** Whether the brokers know no more what this producer sent before. */
  isForgotten: boolean;
}

const DUPLICATE_SEQUENCE = 46;
/** Request timed out, not enough replicas after append, out of order, invalid epoch, unknown producer, fenced. */
const MAYBE_STORED: ReadonlySet<number> = new Set([7, 20, 45, 47, 59, 90]);
const FORGOTTEN: ReadonlySet<number> = new Set([45, 47, 59, 90]);

const FAILURES: Readonly<Record<number, SendFailure>> = {
  7: 'timeout',
  10: 'too_large',
  18: 'too_large',
  29: 'unauthorized',
  31: 'unauthorized',
  33: 'unauthorized',
  53: 'unauthorized',
  58: 'unauthorized',
  87: 'refused',
  89: 'throttled',
};

const REMEDIES: Partial<Record<SendFailure, string>> = {
  unauthorized: ": look at the sink's user, and whether it may write to the topic and be idempotent",
  too_large: ": lower the sink's batchSize, or raise the topic's max.message.bytes",
};

/** That the messages are in the topic already. */
export function isDuplicate(error: unknown): boolean {
  const codes = leavesOf(error).map(codeOf);
  return codes.length > 0 && codes.every((code) => code === DUPLICATE_SEQUENCE);
}

export function refusalOf(error: unknown, topic: string): Refusal {
  if (error instanceof SendError) {
    return { failure: error.failure, message: error.message, maybeStored: true, isForgotten: false };
  }
  const leaves = leavesOf(error);
  const codes = leaves.map(codeOf);
  const last = leaves.at(-1);
  const failure = failureOf(last, codes.at(-1));
  const isMissing = codes.includes(3) || messageOf(last).startsWith('Unknown topic');
  const why = isMissing ? `there is no topic ${topic}: create it` : `${messageOf(last)}${REMEDIES[failure] ?? ''}`;
  return {
    failure,
    message: why,
    maybeStored: !isMissing && codes.some((code) => code === undefined || MAYBE_STORED.has(code)),
    isForgotten: codes.some((code) => code !== undefined && FORGOTTEN.has(code)),
  };
}

function failureOf(error: unknown, code: number | undefined): SendFailure {
  if (code !== undefined) return FAILURES[code] ?? 'server_error';
  const kind = errorCode(error) ?? '';
  const text = messageOf(error);
  if (kind === 'PLT_KFK_AUTHENTICATION') return 'unauthorized';
  if (/certificate|SSL|TLS|EPROTO/i.test(`${kind} ${text}`)) return 'tls';
  if (/timed? ?out/i.test(text)) return 'timeout';
  return kind === 'PLT_KFK_USER' || kind.startsWith('PLT_KFK_UNSUPPORTED') ? 'server_error' : 'unreachable';
}

const MAX_DEPTH = 8;

/** The errors at the ends of causes and of groups of errors, in their order. */
function leavesOf(error: unknown, depth = 0): unknown[] {
  if (depth > MAX_DEPTH || !isRecord(error)) return [error];
  const inner = Array.isArray(error['errors']) ? (error['errors'] as unknown[]) : [];
  if (inner.length > 0) return inner.flatMap((each) => leavesOf(each, depth + 1));
  return error['cause'] === undefined ? [error] : leavesOf(error['cause'], depth + 1);
}

/** The protocol's. */
function codeOf(error: unknown): number | undefined {
  const code = isRecord(error) ? error['apiCode'] : undefined;
  return typeof code === 'number' ? code : undefined;
}
