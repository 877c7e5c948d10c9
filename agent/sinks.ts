/**
 * The sinks that the configuration names, each with the journal before it and what becomes known of events later, and
 * how they end.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from './config/load.ts';
import { sinkEntries, type SinkEntry } from './config/sinks.ts';
import type { Evidence } from './evidence/collect.ts';
import { evidenceDirectory, knownOf, type Recorded } from './evidence/place.ts';
import { cutPackets } from './evidence/pcapng.ts';
import { readPacketFile } from './evidence/read.ts';
import { messageOf } from './files/errors.ts';
import { isRecord } from './files/record.ts';
import type { Journal } from './journal/journal.ts';
import type { Destination, PacketFile } from './ship/destination.ts';
import { createDestination } from './ship/destinations.ts';
import type { LateFacts } from './ship/late-facts.ts';
import { startSink, type Sink, type SinkStatus } from './ship/sink.ts';

/** What the sinks may take to confirm what they are sending when the agent ends. */
const GRACE_MILLIS = 3_000;
const LOOK_MILLIS = 20;
/** Beyond `evidence.after`, what an event may wait for the packets of its flow to be written. */
const WRITING_MILLIS = 2_000;

export interface SinksOptions {
  config: Config;
  journal: Journal;
  /** Of packets of alerts; absent where none are kept. */
  evidence?: Pick<Evidence, 'isPending' | 'onSettled' | 'status'>;
  /** A sink's destination answered a send after so many seconds. */
  onSent?: (sink: string, seconds: number) => void;
  log: Logger;
}

export interface Sinks {
  status: () => SinkStatus[];
  /**
   * Goes over to the sinks of another configuration; those that are the same in both go on. One that is changed goes on
   * from its cursor.
   * @throws Error when one of them can't be made; then all are as they were.
   */
  apply(config: Config): Promise<void>;
  /** What was just journaled goes out too, where sinks take it; the rest waits for the next agent. */
  stop(): Promise<void>;
}

interface Running {
  sink: Sink;
  /** Of all that it was made from. */
  print: string;
}

interface State extends Omit<SinksOptions, 'config'> {
  running: readonly Running[];
  isStopped: boolean;
  /** The last change that was begun: one after the other. */
  changing: Promise<void>;
}

export async function startSinks({ config, ...options }: SinksOptions): Promise<Sinks> {
  const state: State = { ...options, running: [], isStopped: false, changing: Promise.resolve() };
  await goOver(state, config);
  return {
    status: () => state.running.map(({ sink }) => sink.status()),
    apply: (next) => inTurn(state, () => goOver(state, next)),
    stop: () => inTurn(state, () => stopAll(state)),
  };
}

function inTurn(state: State, change: () => Promise<void>): Promise<void> {
  const done = state.changing.then(change);
  state.changing = done.catch(() => undefined);
  return done;
}

/** All that can fail is done before anything is stopped. */
async function goOver(state: State, config: Config): Promise<void> {
  if (state.isStopped) return;
  const before = new Map(state.running.map((each) => [each.print, each]));
  const wanted = sinkEntries(config.sinks).map((entry) => ({ entry, print: printOf(entry, config) }));
  const created = await createAll(
    wanted.filter(({ print }) => !before.has(print)),
    config,
    state.log,
  );
  const prints = new Set(wanted.map(({ print }) => print));
  await Promise.all(
    [...before.values()].filter(({ print }) => !prints.has(print)).map(({ sink }) => sink.stop(GRACE_MILLIS)),
  );
  state.running = wanted.flatMap(({ entry, print }) => {
    const destination = created.get(print);
    if (destination !== undefined) return { sink: start(entry, destination, config, state), print };
    return before.get(print) ?? [];
  });
}

/** What a sink and its destination are made from. */
function printOf(entry: SinkEntry, { ui }: Config): string {
  const { publicUrl, acknowledgeKeyFile, acknowledgeFor } = ui;
  return JSON.stringify([entry, publicUrl, acknowledgeKeyFile, acknowledgeFor]);
}

/** @throws Error when one can't be made, with its name; then there is none. */
async function createAll(
  wanted: readonly { entry: SinkEntry; print: string }[],
  config: Config,
  log: Logger,
): Promise<Map<string, Destination>> {
  const created = new Map<string, Destination>();
  try {
    for (const { entry, print } of wanted) {
      created.set(
        print,
        await createDestination(entry, config, log).catch((error: unknown) => {
          throw new Error(`sink ${entry.name}: ${messageOf(error)}`, { cause: error });
        }),
      );
    }
    return created;
  } catch (error) {
    await Promise.all([...created.values()].map((destination) => destination.close()));
    throw error;
  }
}

function start(entry: SinkEntry, destination: Destination, config: Config, state: State): Sink {
  const { journal, onSent, log } = state;
  const late = lateFactsOf(config, state);
  const { name, when, quiet, deadLetterSize, settings } = entry;
  const batchEvents = Math.min(settings.batchEvents, destination.maxEvents ?? Infinity);
  return startSink({
    name,
    ...(when === undefined ? {} : { when }),
    ...(quiet === undefined ? {} : { quiet }),
    ...(late === undefined ? {} : { late }),
    deadLetterSize,
    stateDirectory: config.stateDirectory,
    journal: { ...journal, directory: config.journal.directory },
    destination,
    batch: { ...settings, batchEvents },
    onSent: (seconds) => onSent?.(name, seconds),
    log: log.child({ sink: name }),
  });
}

/** What is known of an event's flow is in its file of evidence. */
function lateFactsOf(config: Config, { evidence }: State): LateFacts | undefined {
  if (evidence === undefined) return undefined;
  const directory = evidenceDirectory(config.journal.directory);
  const { keep, after } = config.evidence;
  return {
    patienceMillis: after + WRITING_MILLIS,
    isPending: evidence.isPending,
    onSettled: evidence.onSettled,
    async find(event) {
      if (keep === 'off' && evidence.status().files === 0) return 'none';
      if (!isRecorded(event)) return undefined;
      const record = await knownOf(directory, event);
      return record && { record, packets: (maxBytes) => readPackets(directory, event.record.event_id, maxBytes) };
    },
  };
}

async function readPackets(directory: string, eventId: string, maxBytes: number): Promise<PacketFile | undefined> {
  const content = await readPacketFile(directory, eventId);
  return content && cutPackets(content, maxBytes);
}

function isRecorded(event: object): event is Recorded {
  const { record } = event as { record?: unknown };
  return isRecord(record) && typeof record['event_id'] === 'string' && typeof record['timestamp'] === 'string';
}

async function stopAll(state: State): Promise<void> {
  state.isStopped = true;
  const sinks = state.running.map(({ sink }) => sink);
  for (const sink of sinks) sink.hurry();
  await drain(sinks);
  await Promise.all(sinks.map((sink) => sink.stop(GRACE_MILLIS)));
}

async function drain(sinks: readonly Sink[]): Promise<void> {
  const isSending = (sink: Sink): boolean => sink.status().pending > 0 && sink.status().circuit === 'closed';
  for (const end = performance.now() + GRACE_MILLIS; performance.now() < end && sinks.some(isSending);) {
    await sleep(LOOK_MILLIS);
  }
}
