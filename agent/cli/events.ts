/** `dpi-agent events`: the journal's events, and those that come; `events redrive`: a sink's dead letters once more. */
import { once } from 'node:events';
import cliProgress from 'cli-progress';
import type { Argv, CommandModule } from 'yargs';
import { shown } from '../config/text.ts';
import type { EeEvent } from '../events/event.ts';
import { systemClock } from '../files/clock.ts';
import { errorCode, messageOf } from '../files/errors.ts';
import { JournalError } from '../journal/error.ts';
import {
  followJournal,
  journalEnd,
  searchJournal,
  type FoundEvent,
  type JournalFilter,
  type Place,
} from '../journal/search.ts';
import {
  appendDeadLetters,
  deadLetterDirectory,
  takeDeadLetters,
  type DeadLetter,
  type LetterSystem,
  type TakingSystem,
} from '../ship/dead-letter.ts';
import { SendError, type Destination, type Item, type Outcome } from '../ship/destination.ts';
import { stripControls, UNPRINTABLE } from '../text.ts';
import { readFlags, type FilterArgv } from './event-flags.ts';
import { CommandError, EXIT } from './exit.ts';
import { createLog } from './log.ts';
import { coloursOf, columnsOf, grouped, plural, tableHeader, tableRow } from './print.ts';
import { COMMON_FLAGS, readConfig } from './setup.ts';
import { findSink } from './sinks/find.ts';

const LAST = 10;

const OWN = 'since until signature pod resource ip severity query limit order follow output'.split(' ');

interface EventsArgv extends FilterArgv {
  _: (string | number)[];
  output?: string;
}

interface RedriveArgv {
  sink: string;
  output?: string;
}

const redriveCommand: CommandModule<object, RedriveArgv> = {
  command: 'redrive',
  describe: 'Send once more what the destination of a sink refused',
  builder: (args: Argv) =>
    args
      .option('config', COMMON_FLAGS.config)
      .option('sink', {
        type: 'string',
        demandOption: true,
        describe: 'The name of the sink whose dead letters are sent (dpi-agent sinks list)',
      })
      .option('output', { alias: 'o', choices: ['json'], describe: 'json: the counts as one JSON object on stdout' })
      .strict(false)
      .example('$0 events redrive --sink elasticsearch -c dpi-agent.yaml', 'what Elasticsearch refused')
      .example(
        '$0 events redrive --sink syslog -c dpi-agent.yaml -o json | jq .left',
        'how many are left',
      ) as unknown as Argv<RedriveArgv>,
  handler: redrive,
};

/** redrive has its own. */
const own = { global: false } as const;
const repeatable = { type: 'string', array: true, nargs: 1 } as const;

export const command: CommandModule<object, EventsArgv> = {
  command: 'events',
  builder: (args: Argv) =>
    args
      .command(redriveCommand as CommandModule)
      .option('config', { ...COMMON_FLAGS.config, ...own })
      .option('journal.directory', {
        ...own,
        type: 'string',
        describe: "The journal's folder; default: the configuration's",
      })
      .option('since', { ...own, type: 'string', describe: 'Not before: 30m, 1h, 7d ago, or 2026-11-24T00:00:00Z' })
      .option('until', { ...own, type: 'string', describe: 'Before: as --since' })
      .option('signature', { ...own, ...repeatable, describe: 'Of this rule: 21562 or 1:21562 (repeatable)' })
      .option('pod', {
        ...own,
        ...repeatable,
        describe: 'From, to or seen at this pod: namespace/name, also shop/* (repeatable)',
      })
      .option('resource', {
        ...own,
        ...repeatable,
        describe: 'Of this resource: namespace/name, also shop/* (repeatable)',
      })
      .option('ip', {
        ...own,
        ...repeatable,
        describe: 'From or to this address, or network such as 10.65.0.0/24 (repeatable)',
      })
      .option('severity', {
        ...own,
        type: 'string',
        describe: 'At least this severe: critical, high, medium, low, or 0 to 100',
      })
      .option('query', {
        ...own,
        type: 'string',
        describe: "As the search of the Alerts page: 'port: 4444 and not pod: ci/*'",
      })
      .option('limit', {
        ...own,
        type: 'string',
        describe: 'At most this many; with --follow: of those that are there',
      })
      .option('order', {
        ...own,
        choices: ['newest', 'oldest'],
        describe: 'What comes first; newest, with --follow oldest',
      })
      .option('follow', {
        ...own,
        alias: 'f',
        type: 'boolean',
        describe: `The last ${LAST}, or all --since, and then those that come`,
      })
      .option('output', {
        ...own,
        alias: 'o',
        choices: ['table', 'json'],
        describe: "json: the journal's lines as they are; table on a terminal, else json",
      })
      .strict(false)
      .example('$0 events --since 1h --severity high', 'the severe ones of the last hour')
      .example("$0 events --pod 'shop/backend-*' --signature 21562", 'what a rule found at pods')
      .example('$0 events -f -o json | jq .record.snort_alert', 'follow, as tail -f does')
      .example('$0 events redrive --sink elasticsearch', 'send again what was refused') as unknown as Argv<EventsArgv>,
  handler: run,
};

async function run(argv: EventsArgv): Promise<void> {
  if (argv._.length > 1) throw new CommandError(`events: ${shown(argv._[1])}: expected flags, or redrive`);
  const { filter, limit } = readFlags(argv);
  const { journal } = readConfig({ ...argv }, OWN);
  const { directory } = journal;
  let skipped = 0;
  const stopping = new AbortController();
  const options = { directory, filter, onSkip: () => void (skipped += 1), signal: stopping.signal };
  const print = createPrinter(argv.output ?? (process.stdout.isTTY ? 'table' : 'json'));
  try {
    if (argv.follow === true) {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort());
      const from = await startOf({ directory, filter }, limit ?? (filter.since === undefined ? LAST : undefined));
      for await (const hit of followJournal({ ...options, ...(from === undefined ? {} : { from }) })) {
        if (stopping.signal.aborted) break;
        await print.event(hit);
      }
    } else if (limit !== 0) {
      const order = argv.order === 'oldest' ? 'oldest' : 'newest';
      for await (const hit of searchJournal({ ...options, order })) {
        if ((await print.event(hit)) === limit) break;
      }
    }
  } catch (error) {
    throw unreadable(directory, error);
  }
  if (skipped > 0) {
    process.stderr.write(
      `dpi-agent: ${plural(skipped, 'damaged line')} in ${directory} ${skipped === 1 ? 'was' : 'were'} passed over\n`,
    );
  }
  if (print.count() === 0 && argv.follow !== true && process.stderr.isTTY) {
    process.stderr.write(`dpi-agent: no event in ${directory} is like that\n`);
  }
}

/** Where the last `limit` events begin that the filter selects; undefined: at the oldest. */
async function startOf(
  options: { directory: string; filter: JournalFilter },
  limit: number | undefined,
): Promise<Place | undefined> {
  if (limit === undefined) return undefined;
  if (limit === 0) return journalEnd(options.directory);
  let count = 0;
  for await (const { at } of searchJournal({ ...options, order: 'newest' })) if (++count === limit) return at;
  return undefined;
}

interface Printer {
  /** Resolves when the next may come, with the number of events so far. */
  event(hit: FoundEvent): Promise<number>;
  count(): number;
}

function createPrinter(output: string): Printer {
  const { stdout } = process;
  const colours = coloursOf(stdout);
  let count = 0;
  return {
    async event({ line }) {
      count += 1;
      let text = line;
      if (output === 'table') {
        // The writer's texts are clean; a line that somebody else put into the file may not be.
        const event = JSON.parse(line, (_, value: unknown) =>
          typeof value === 'string' ? stripControls(value) : value,
        ) as EeEvent;
        text = `${count === 1 ? `${tableHeader(colours, columnsOf(stdout))}\n` : ''}${tableRow(event, colours, columnsOf(stdout))}`;
      } else if (stdout.isTTY) {
        // What JSON may hold as it is but a terminal would obey, in JSON's other way to write it.
        text = line.replace(
          UNPRINTABLE,
          (character) => String.raw`\u` + character.charCodeAt(0).toString(16).padStart(4, '0'),
        );
      }
      if (!stdout.write(`${text}\n`)) await once(stdout, 'drain');
      return count;
    },
    count: () => count,
  };
}

const ADVICE: Record<string, string> = {
  ENOENT: 'it does not exist: name the folder that the agent writes with --journal.directory or --config',
  ENOTDIR: 'it is not a folder: name the one that the agent writes with --journal.directory or --config',
  EACCES: 'permission denied: run as root, or as a member of the group of the folder',
  EPERM: 'not permitted: run as root, or as a member of the group of the folder',
  EIO: 'the disk reports an error: check the kernel log',
};

function unreadable(directory: string, error: unknown): unknown {
  const code = errorCode(error);
  const advice = code === undefined ? undefined : ADVICE[code];
  if (code === undefined || advice === undefined) return error;
  return new CommandError(
    `can't read the journal in ${directory}: ${advice} (${code})`,
    code === 'EIO' ? EXIT.failed : EXIT.usage,
  );
}

export interface Redriven {
  letters: number;
  /** With duplicates: those that had been there already. */
  delivered: number;
  duplicates: number;
  /** Put back because they were refused again. */
  refused: number;
  /** Put back because they could not be sent now. */
  left: number;
  /** Old letters that had to go for those that were put back. */
  evicted: number;
  /** Why some are left. */
  problem?: string;
}

const BATCH = 500;
/** After each try but the last; milliseconds. */
const PAUSES = [500, 1000, 2000, 4000];

export interface RedriveOptions {
  /** Of the dead letters. */
  directory: string;
  /** Bytes that those put back may take. */
  maxSize: number;
  destination: Destination;
  signal: AbortSignal;
  onProgress?: (counts: Readonly<Redriven>) => void;
  pauses?: readonly number[];
  now?: () => number;
  system?: TakingSystem & LetterSystem;
}

/**
 * Sends all dead letters once more, and puts back what is refused or can't be sent. Once a batch can't be sent, or when
 * the signal is aborted, the rest is put back as it is. A letter is put back before the taken ones are deleted: killed
 * or failed in between, the next redrive sends them all again.
 * @throws JournalError when letters can't be taken or put back.
 */
export async function redriveLetters(options: RedriveOptions): Promise<Redriven> {
  const { directory, maxSize, signal, onProgress, now = Date.now, system } = options;
  const counts: Redriven = { letters: 0, delivered: 0, duplicates: 0, refused: 0, left: 0, evicted: 0 };
  const deadLetters = await takeDeadLetters(directory, undefined, system);
  let complete = false;
  try {
    for await (const letters of batches(deadLetters.letters, BATCH)) {
      counts.letters += letters.length;
      const outcomes =
        counts.problem === undefined && !signal.aborted
          ? await deliver(options, letters)
          : letters.map((): Outcome => ({ is: 'retry', reason: 'it was interrupted' }));
      const back: DeadLetter[] = [];
      for (const [index, letter] of letters.entries()) {
        const outcome = outcomes[index] ?? { is: 'retry', reason: 'the destination did not tell what became of it' };
        if (outcome.is === 'delivered') {
          counts.delivered += 1;
          if (outcome.duplicate === true) counts.duplicates += 1;
        } else if (outcome.is === 'retry') {
          counts.left += 1;
          counts.problem ??= outcome.reason;
          back.push(letter);
        } else {
          counts.refused += 1;
          back.push(
            letter.event === undefined
              ? letter
              : {
                  number: letter.number,
                  event: letter.event,
                  time: new Date(now()).toISOString(),
                  reason: outcome.reason,
                  attempts: letter.attempts + 1,
                  ...(outcome.status === undefined ? {} : { status: outcome.status }),
                },
          );
        }
      }
      if (back.length > 0) {
        const put = { directory, maxSize, letters: back, ...(system === undefined ? {} : { system, now }) };
        counts.evicted += (await appendDeadLetters(put)).evicted;
      }
      onProgress?.(counts);
    }
    complete = true;
  } finally {
    if (complete) await deadLetters.done();
    else deadLetters.release();
  }
  return counts;
}

/** An outcome for each letter; retry only after the last try. */
async function deliver(
  { destination, signal, pauses = PAUSES, system }: RedriveOptions,
  letters: readonly DeadLetter[],
): Promise<Outcome[]> {
  const { clock } = system ?? { clock: systemClock };
  const outcomes: Outcome[] = letters.map(({ event, reason }) =>
    event === undefined ? { is: 'rejected', reason } : { is: 'retry', reason: 'it was interrupted' },
  );
  for (let attempt = 0; attempt <= pauses.length && !signal.aborted; attempt++) {
    const open = letters.flatMap(({ number, event }, index) => {
      if (event === undefined || outcomes[index]?.is !== 'retry') return [];
      const { record } = event as Partial<EeEvent>;
      return [{ index, item: { number, id: String(record?.event_id), json: JSON.stringify(event) } }];
    });
    if (open.length === 0) break;
    const sent = await send(
      destination,
      open.map(({ item }) => item),
      signal,
    );
    for (const [position, { index }] of open.entries())
      outcomes[index] = sent[position] ?? { is: 'retry', reason: 'the destination did not tell what became of it' };
    const pause = pauses[attempt];
    if (pause === undefined || !outcomes.some(({ is }) => is === 'retry')) break;
    await clock.wait(pause, signal);
  }
  return outcomes;
}

/** A batch that is refused as a whole is halved until it is known whose fault it is. */
async function send(destination: Destination, items: readonly Item[], signal: AbortSignal): Promise<Outcome[]> {
  try {
    return await destination.send(items, signal);
  } catch (error) {
    if (signal.aborted) return items.map(() => ({ is: 'retry', reason: 'it was interrupted' }));
    if (!(error instanceof SendError)) throw error;
    const reason = error.message;
    if (error.failure !== 'too_large' && error.failure !== 'refused') return items.map(() => ({ is: 'retry', reason }));
    if (items.length === 1) return [{ is: 'rejected', reason }];
    const half = Math.ceil(items.length / 2);
    return [
      ...(await send(destination, items.slice(0, half), signal)),
      ...(await send(destination, items.slice(half), signal)),
    ];
  }
}

async function* batches<T>(items: AsyncIterable<T>, size: number): AsyncGenerator<T[]> {
  let batch: T[] = [];
  for await (const item of items) {
    if (batch.push(item) < size) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

async function redrive(argv: RedriveArgv): Promise<void> {
  const { sink } = argv;
  const config = readConfig({ logLevel: 'warn', ...argv }, ['sink', 'output']);
  // Loaded only here: the events need no clients.
  const { createDestination } = await import('../ship/destinations.ts');
  const entry = findSink(config, sink);
  const destination = await createDestination(entry, config, createLog(config));
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort());
  const bar = redriveBar();
  try {
    const { problem, evicted, ...counts } = await redriveLetters({
      directory: deadLetterDirectory(config.stateDirectory, sink),
      maxSize: entry.deadLetterSize,
      destination,
      signal: stopping.signal,
      onProgress: bar.update,
    });
    bar.stop();
    if (problem !== undefined) process.stderr.write(`dpi-agent: ${sink}: ${stripControls(problem)}\n`);
    if (evicted > 0)
      process.stderr.write(`dpi-agent: ${plural(evicted, 'letter')} went, as sinks.deadLetterSize says\n`);
    const { letters, delivered, duplicates, refused, left } = counts;
    if (argv.output === 'json') {
      // Where events go to stdout, the counts must not.
      const stream = entry.kind === 'stdout' ? process.stderr : process.stdout;
      stream.write(`${JSON.stringify({ sink, letters, delivered, duplicates, refused, left })}\n`);
    } else {
      process.stderr.write(
        `${sink}: ${plural(letters, 'dead letter')}, ${grouped(delivered)} delivered` +
          `${duplicates > 0 ? ` (${grouped(duplicates)} had been there)` : ''}, ${grouped(refused)} refused again, ${grouped(left)} left\n`,
      );
    }
    process.exitCode = left > 0 || evicted > 0 ? EXIT.failed : EXIT.ok;
  } catch (error) {
    bar.stop();
    if (error instanceof JournalError || errorCode(error) !== undefined) {
      throw new CommandError(messageOf(error), EXIT.failed);
    }
    throw error;
  } finally {
    await destination.close();
  }
}

/** How many there are is known only at the end. */
function redriveBar(): { update: (counts: Readonly<Redriven>) => void; stop(): void } {
  if (!process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  const bar = new cliProgress.SingleBar({
    format: 'redrive {letters} letters | {delivered} delivered | {refused} refused | {left} left',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  const shownAs = ({ letters, delivered, refused, left }: Readonly<Redriven>): Record<string, string> => ({
    letters: grouped(letters),
    delivered: grouped(delivered),
    refused: grouped(refused),
    left: grouped(left),
  });
  bar.start(1, 0, { letters: '0', delivered: '0', refused: '0', left: '0' });
  return { update: (counts) => bar.update(0, shownAs(counts)), stop: () => bar.stop() };
}
