/**
 * Events as messages of a topic of Kafka: the key is the inspected pod, so that a pod's events stay in order in one
 * partition; the value is the journal's line; the headers have the event's id.
 *
 * Once, as long as the process lives: of a producer with an id, brokers drop a batch that they have, by its sequence
 * numbers. That takes that the very same batch is sent again, and nothing else in its place: another one with the same
 * numbers would be taken for it, and be lost. So messages of a partition whose storing is not certain stay together
 * (`unresolved`), and go again as they were before anything else goes to their partition, whatever the sink asks for
 * meanwhile. What is found to be stored so is remembered until the sink asks (`confirmed`): at most a window of it.
 *
 * Not promised: that a message is there once after the agent was killed or a file of secrets changed between storing
 * and saying so, or brokers forgot the producer (`transactional.id.expiration.ms` and the like). Then the same batch
 * goes again by a new producer: twice at most for each such case, with the same id.
 */
import type { Logger } from 'pino';
import type { KafkaSettings } from '../../config/sinks.ts';
import { messageOf } from '../../files/errors.ts';
import { SendError, type Destination, type Item, type Outcome } from '../destination.ts';
import { withinTime } from '../http/limit.ts';
import type { WatchedFiles } from '../secret-files.ts';
import { isDuplicate, refusalOf, type Refusal } from './errors.ts';
import { partitionOf, toMessage } from './message.ts';
import { createProducer, type TextMessage, type TextProducer } from './producer.ts';
import { watchSecrets, type Secrets } from './secrets.ts';

/** Of what was found to be stored; a window of the sink has fewer. */
const MAX_CONFIRMED = 100_000;

export interface KafkaOptions {
  settings: KafkaSettings;
  cluster: string;
  log: Pick<Logger, 'info' | 'warn'>;
  /** Of clients. */
  create?: typeof createProducer;
}

/** Messages of one partition that are sent together. */
interface Group {
  readonly partition: number;
  readonly items: Item[];
  readonly messages: TextMessage[];
  /** Being sent. */
  pending: Promise<unknown> | undefined;
}

interface State {
  readonly options: KafkaOptions;
  readonly files: WatchedFiles<Secrets>;
  readonly closing: AbortController;
  connected: { of: Secrets; producer: TextProducer } | undefined;
  unresolved: Group[];
  /** By the item; whether it had been stored before. */
  readonly confirmed: Map<string, boolean>;
}

/** Why items did not go through, by the item. */
type Refusals = Map<string, Refusal>;

export function createKafka(options: KafkaOptions): Destination {
  const state: State = {
    options,
    files: watchSecrets(options.settings),
    closing: new AbortController(),
    connected: undefined,
    unresolved: [],
    confirmed: new Map(),
  };
  return {
    send: (items, signal) => send(state, items, signal),
    async close() {
      state.closing.abort();
      await disconnect(state);
    },
  };
}

async function send(state: State, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  signal.throwIfAborted();
  await connect(state);
  const refusals: Refusals = new Map();
  const deliverAll = (groups: readonly Group[]): Promise<unknown> =>
    Promise.all(groups.map((group) => deliver(state, group, refusals, signal)));
  await deliverAll(state.unresolved.slice());
  const known = new Set(state.unresolved.flatMap((group) => group.items.map(keyOf)));
  const left = items.filter((item) => !state.confirmed.has(keyOf(item)) && !known.has(keyOf(item)));
  const groups = await groupsOf(state, left, signal);
  const busy = new Set(state.unresolved.map(({ partition }) => partition));
  await deliverAll(groups.filter(({ partition }) => !busy.has(partition)));
  signal.throwIfAborted();
  return outcomesOf(state, items, refusals);
}

function outcomesOf({ confirmed }: State, items: readonly Item[], refusals: Refusals): Outcome[] {
  const failed = items.map((item) => refusals.get(keyOf(item))).filter((refusal) => refusal !== undefined);
  const isNone = items.every((item) => !confirmed.has(keyOf(item)));
  const [first = [...refusals.values()][0]] = failed;
  if (isNone && first !== undefined && !failed.some(isOwn)) throw new SendError(first.failure, first.message);
  return items.map((item): Outcome => {
    const key = keyOf(item);
    const isThere = confirmed.get(key);
    confirmed.delete(key);
    if (isThere !== undefined) return isThere ? { is: 'delivered', duplicate: true } : { is: 'delivered' };
    const refusal = refusals.get(key);
    if (refusal !== undefined && isOwn(refusal)) return { is: 'rejected', reason: refusal.message };
    const { message = 'what was sent to its partition before is not certain' } = refusal ?? {};
    return { is: 'retry', reason: message, throttled: true };
  });
}

/** @throws SendError when the files can't be read. */
async function connect(state: State): Promise<void> {
  const { files, options } = state;
  const secrets = await files.read();
  if (state.connected?.of === secrets) return;
  await disconnect(state);
  const { create = createProducer } = options;
  try {
    state.connected = { of: secrets, producer: create(options.settings, secrets) };
  } catch (error) {
    throw new SendError('server_error', `the client can't be made: ${messageOf(error)}`);
  }
}

/** With it goes its id, and what brokers know of that. */
async function disconnect(state: State): Promise<void> {
  const { connected } = state;
  state.connected = undefined;
  for (const group of state.unresolved) group.pending = undefined;
  await Promise.resolve(connected?.producer.close(true)).catch(() => undefined);
}

/** @throws SendError when the brokers do not say which partitions there are. */
async function groupsOf(state: State, items: readonly Item[], signal: AbortSignal): Promise<Group[]> {
  const { topic } = state.options.settings;
  const { connected, options } = state;
  if (connected === undefined || items.length === 0) return [];
  const asked = connected.producer.metadata({ topics: [topic] });
  const metadata = await answered(state, asked, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw sendError(state, refusalOf(error, topic));
  });
  const partitions = metadata.topics.get(topic)?.partitionsCount ?? 0;
  if (partitions === 0) throw new SendError('server_error', `there is no topic ${topic}: create it`);
  const groups = new Map<number, Group>();
  for (const item of items) {
    const message = toMessage(item, topic, options.cluster);
    const partition = partitionOf(message.key, partitions);
    const group: Group = groups.get(partition) ?? { partition, items: [], messages: [], pending: undefined };
    groups.set(partition, group);
    group.items.push(item);
    group.messages.push({ ...message, partition });
  }
  return [...groups.values()];
}

/** What does not take a sink's secrets is asked again with those of then. */
function sendError({ files, connected }: State, { failure, message }: Refusal): SendError {
  connected?.producer.clearMetadata();
  if (failure === 'unauthorized' || failure === 'tls') files.forget();
  return new SendError(failure, message);
}

async function deliver(state: State, group: Group, refusals: Refusals, signal: AbortSignal): Promise<void> {
  const { connected, options } = state;
  if (connected === undefined) return;
  const isAgain = state.unresolved.includes(group);
  // Before it is sent: whatever happens now, it may be there.
  if (!isAgain) state.unresolved.push(group);
  try {
    await answered(state, sending(group, connected.producer), signal);
    settle(state, group, false);
  } catch (error) {
    if (isDuplicate(error)) return settle(state, group, true);
    const refusal = refusalOf(error, options.settings.topic);
    void sendError(state, refusal);
    // That this try was not stored says nothing of those before it.
    const isNotThere = !refusal.maybeStored && (!isAgain || isOwn(refusal));
    if (isNotThere) state.unresolved = state.unresolved.filter((each) => each !== group);
    if (!isAgain && isOwn(refusal) && group.items.length > 1) return deliverHalves(state, group, refusals, signal);
    for (const item of group.items) refusals.set(keyOf(item), refusal);
    if (refusal.isForgotten)
      options.log.warn({ reason: refusal.message }, 'the brokers forgot the producer: messages may come twice');
    // A batch that takes the numbers of one that may be there would be taken for it.
    if (refusal.isForgotten || (isAgain && isNotThere)) await disconnect(state);
  }
}

/** Whether it may be the fault of one message. */
function isOwn({ failure, maybeStored }: Refusal): boolean {
  return !maybeStored && (failure === 'too_large' || failure === 'refused');
}

/** Down to the message. */
async function deliverHalves(state: State, group: Group, refusals: Refusals, signal: AbortSignal): Promise<void> {
  const { partition, items, messages } = group;
  const middle = Math.ceil(items.length / 2);
  for (const [from, to] of [
    [0, middle],
    [middle, items.length],
  ]) {
    if (state.unresolved.some((each) => each.partition === partition)) return;
    const half = { partition, items: items.slice(from, to), messages: messages.slice(from, to), pending: undefined };
    await deliver(state, half, refusals, signal);
  }
}

/** The same as before while that is under way. */
function sending(group: Group, producer: TextProducer): Promise<unknown> {
  if (group.pending !== undefined) return group.pending;
  const pending = producer.send({ messages: group.messages });
  const end = (): void => {
    if (group.pending === pending) group.pending = undefined;
  };
  pending.then(end, end);
  group.pending = pending;
  return pending;
}

function settle(state: State, group: Group, duplicate: boolean): void {
  const { confirmed } = state;
  state.unresolved = state.unresolved.filter((each) => each !== group);
  for (const item of group.items) confirmed.set(keyOf(item), duplicate);
  for (const oldest of confirmed.keys()) {
    if (confirmed.size <= MAX_CONFIRMED) break;
    confirmed.delete(oldest);
  }
}

/** The client's calls can't be called off: who waits for them can. */
function answered<T>({ options, closing }: State, call: Promise<T>, signal: AbortSignal): Promise<T> {
  const { timeoutMillis, brokers } = options.settings;
  const late = (): SendError => new SendError('timeout', `${brokers.join(', ')} did not answer in ${timeoutMillis} ms`);
  return withinTime({ signal, closing: closing.signal, timeoutMillis, late }, (within) =>
    Promise.race([call, whenAborted(within)]),
  );
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    if (signal.aborted) reject(signal.reason as Error);
  });
}

function keyOf({ number, id }: Item): string {
  return `${number} ${id}`;
}
