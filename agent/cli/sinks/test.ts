/**
 * `dpi-agent sinks test NAME`: sends a sample, marked as a test, past cursor and filters, and says what the answer was.
 */
import type { Argv, CommandModule } from 'yargs';
import type { Config } from '../../config/load.ts';
import type { SinkEntry } from '../../config/sinks.ts';
import { messageOf } from '../../files/errors.ts';
import { SendError, type Outcome } from '../../ship/destination.ts';
import { createSample } from '../../ship/sample.ts';
import { stripControls } from '../../text.ts';
import { EXIT } from '../exit.ts';
import { createLog } from '../log.ts';
import { readConfig } from '../setup.ts';
import { describeSink } from './describe.ts';
import { findSink } from './find.ts';
import { OWN, printJson, printLine, SINK_FLAGS, type SinksArgv } from './flags.ts';

interface TestArgv extends SinksArgv {
  name: string;
}

interface SinkTest {
  sink: string;
  to: string;
  /** Whether the destination took it. */
  delivered: boolean;
  /** Of the sample: what to look for there. */
  eventId: string;
  /** What the destination answered, of those that answer. */
  answer?: string;
  /** Why not. */
  failure?: SendError['failure'] | 'rejected' | 'retry';
  reason?: string;
}

export const command: CommandModule<object, TestArgv> = {
  command: 'test <name>',
  describe: 'Send a sample, marked as a test, and say what the destination answered',
  builder: (args: Argv) =>
    args
      .options(SINK_FLAGS)
      .positional('name', { type: 'string', demandOption: true, describe: "The sink's name" })
      .strict(false)
      .example('$0 sinks test soc-chat -c dpi-agent.yaml', '')
      .example(
        '$0 sinks test soc-chat -c dpi-agent.yaml -o json | jq .delivered',
        'for programs; the exit code says it too',
      ),
  async handler(argv) {
    const config = readConfig({ logLevel: 'warn', ...argv }, OWN);
    const entry = findSink(config, argv.name);
    const result = await testSink(config, entry);
    process.exitCode = result.delivered ? EXIT.ok : EXIT.failed;
    // Where events go to stdout, nothing else must.
    const stream = entry.kind === 'stdout' ? process.stderr : process.stdout;
    if (argv.output === 'json') return printJson(result, stream);
    const { sink, to, eventId, answer, reason, failure } = result;
    if (answer !== undefined && result.delivered) printLine(`answer: ${stripControls(answer)}`, stream);
    printLine(
      result.delivered
        ? `${sink}: ${to} took the test, event ${eventId}`
        : `${sink}: ${to} did not take the test (${failure}): ${stripControls(reason ?? '')}`,
      stream,
    );
  },
};

async function testSink(config: Config, entry: SinkEntry): Promise<SinkTest> {
  const { createDestination } = await import('../../ship/destinations.ts');
  const sample = createSample(config.node, Date.now());
  const id = sample.record.event_id;
  const { to } = describeSink(entry);
  const destination = await createDestination(entry, config, createLog(config));
  try {
    const item = { number: 0, id, json: JSON.stringify(sample) };
    const [outcome] = await destination.send([item], new AbortController().signal).catch(failed);
    const answer = destination.answer?.();
    return {
      sink: entry.name,
      to,
      eventId: id,
      ...(answer === undefined ? {} : { answer }),
      ...resultOf(outcome),
    };
  } finally {
    await destination.close();
  }
}

type Result = Pick<SinkTest, 'delivered' | 'failure' | 'reason'>;

function failed(error: unknown): [Result] {
  const failure = error instanceof SendError ? error.failure : 'unreachable';
  return [{ delivered: false, failure, reason: messageOf(error) }];
}

function resultOf(outcome: Outcome | Result | undefined): Result {
  if (outcome === undefined) return { delivered: false, failure: 'incomplete', reason: 'it gave no outcome' };
  if ('delivered' in outcome) return outcome;
  if (outcome.is === 'delivered') return { delivered: true };
  return { delivered: false, failure: outcome.is, reason: outcome.reason };
}
