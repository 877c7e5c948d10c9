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
import { isRecord } from './files/record.ts';
import type { Journal } from './journal/journal.ts';
import type { PacketFile } from './ship/destination.ts';
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
  /** What was just journaled goes out too, where sinks take it; the rest waits for the next agent. */
  stop(): Promise<void>;
}

export async function startSinks(options: SinksOptions): Promise<Sinks> {
  const entries = sinkEntries(options.config.sinks);
  const sinks = await Promise.all(entries.map((entry) => start(entry, options)));
  return {
    status: () => sinks.map((sink) => sink.status()),
    async stop() {
      for (const sink of sinks) sink.hurry();
      await drain(sinks);
      await Promise.all(sinks.map((sink) => sink.stop(GRACE_MILLIS)));
    },
  };
}

async function start(entry: SinkEntry, options: SinksOptions): Promise<Sink> {
  const { config, journal, onSent, log } = options;
  const late = lateFactsOf(options);
  const { name, when, quiet, deadLetterSize, settings } = entry;
  const destination = await createDestination(entry, config, log);
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
function lateFactsOf({ config, evidence }: SinksOptions): LateFacts | undefined {
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

async function drain(sinks: readonly Sink[]): Promise<void> {
  const isSending = (sink: Sink): boolean => sink.status().pending > 0 && sink.status().circuit === 'closed';
  for (const end = performance.now() + GRACE_MILLIS; performance.now() < end && sinks.some(isSending);) {
    await sleep(LOOK_MILLIS);
  }
}
