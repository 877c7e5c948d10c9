/** The sinks that the configuration names, each with the journal before it, and how they end. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Config } from './config/load.ts';
import type { Journal } from './journal/journal.ts';
import { createDestinations } from './ship/destinations.ts';
import { startSink, type Sink, type SinkStatus } from './ship/sink.ts';

/** What the sinks may take to confirm what they are sending when the agent ends. */
const GRACE_MILLIS = 3_000;
const LOOK_MILLIS = 20;

export interface SinksOptions {
  config: Config;
  journal: Journal;
  /** A sink's destination answered a send after so many seconds. */
  onSent?: (sink: string, seconds: number) => void;
  log: Logger;
}

export interface Sinks {
  status: () => SinkStatus[];
  /** What was just journaled goes out too, where sinks take it; the rest waits for the next agent. */
  stop(): Promise<void>;
}

export async function startSinks({ config, journal, onSent, log }: SinksOptions): Promise<Sinks> {
  const sinks = (await createDestinations(config, log)).map(({ name, destination }) =>
    startSink({
      name,
      stateDirectory: config.stateDirectory,
      journal: { ...journal, directory: config.journal.directory },
      destination,
      batch: config.sinks[name],
      deadLetterSize: config.sinks.deadLetterSize,
      onSent: (seconds) => onSent?.(name, seconds),
      log: log.child({ sink: name }),
    }),
  );
  return {
    status: () => sinks.map((sink) => sink.status()),
    async stop() {
      await drain(sinks);
      await Promise.all(sinks.map((sink) => sink.stop(GRACE_MILLIS)));
    },
  };
}

async function drain(sinks: readonly Sink[]): Promise<void> {
  const isSending = (sink: Sink): boolean => sink.status().pending > 0 && sink.status().circuit === 'closed';
  for (const end = performance.now() + GRACE_MILLIS; performance.now() < end && sinks.some(isSending);) {
    await sleep(LOOK_MILLIS);
  }
}
