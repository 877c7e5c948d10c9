/** `dpi-agent events redrive`: what the destination of a sink refused, once more. */
import cliProgress from 'cli-progress';
import type { Argv, CommandModule } from 'yargs';
import { errorCode, messageOf } from '../../files/errors.ts';
import { JournalError } from '../../journal/journal.ts';
import { deadLetterDirectory } from '../../ship/dead-letter.ts';
import { redriveLetters, type Redriven } from '../../ship/redrive.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { createLog } from '../log.ts';
import { grouped, plural } from '../print.ts';
import { COMMON_FLAGS, readConfig } from '../setup.ts';
import { findSink } from '../sinks/find.ts';

interface RedriveArgv {
  sink: string;
  output?: string;
}

export const command: CommandModule<object, RedriveArgv> = {
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
  handler: run,
};

async function run(argv: RedriveArgv): Promise<void> {
  const { sink } = argv;
  const config = readConfig({ logLevel: 'warn', ...argv }, ['sink', 'output']);
  // Loaded only here: the events need no clients.
  const { createDestination } = await import('../../ship/destinations.ts');
  const entry = findSink(config, sink);
  const destination = await createDestination(entry, config, createLog(config));
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort());
  const bar = redriveBar();
  try {
    const redriven = await redriveLetters({
      directory: deadLetterDirectory(config.stateDirectory, sink),
      maxSize: entry.deadLetterSize,
      destination,
      signal: stopping.signal,
      onProgress: bar.update,
    });
    bar.stop();
    sayProblems(sink, redriven);
    // Where events go to stdout, the counts must not.
    if (argv.output === 'json') printJson(sink, redriven, entry.kind === 'stdout' ? process.stderr : process.stdout);
    else process.stderr.write(`${describe(sink, redriven)}\n`);
    process.exitCode = redriven.left > 0 || redriven.evicted > 0 ? EXIT.failed : EXIT.ok;
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

function printJson(sink: string, redriven: Redriven, stream: NodeJS.WriteStream): void {
  const { letters, delivered, duplicates, refused, left } = redriven;
  stream.write(`${JSON.stringify({ sink, letters, delivered, duplicates, refused, left })}\n`);
}

function sayProblems(sink: string, { problem, evicted }: Redriven): void {
  if (problem !== undefined) process.stderr.write(`dpi-agent: ${sink}: ${stripControls(problem)}\n`);
  if (evicted > 0) process.stderr.write(`dpi-agent: ${plural(evicted, 'letter')} went, as sinks.deadLetterSize says\n`);
}

function describe(sink: string, { letters, delivered, duplicates, refused, left }: Redriven): string {
  const before = duplicates > 0 ? ` (${grouped(duplicates)} had been there)` : '';
  return (
    `${sink}: ${plural(letters, 'dead letter')}, ${grouped(delivered)} delivered${before}, ` +
    `${grouped(refused)} refused again, ${grouped(left)} left`
  );
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
