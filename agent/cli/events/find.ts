/** Finds the packets of an event, for those who ask by its id. */
import type { Argv } from 'yargs';
import { shown } from '../../config/text.ts';
import { EVENT_ID, evidenceDirectory } from '../../evidence/place.ts';
import { readPacketFile } from '../../evidence/read.ts';
import { messageOf } from '../../files/errors.ts';
import { CommandError, EXIT } from '../exit.ts';
import { COMMON_FLAGS, readConfig } from '../setup.ts';

export interface EvidenceArgv {
  event: string;
  output?: string;
}

export function withEvent(args: Argv): Argv {
  return args
    .positional('event', {
      type: 'string',
      demandOption: true,
      describe: "The event's id: record.event_id, 40 hexadecimal digits",
    })
    .option('config', COMMON_FLAGS.config)
    .option('journal.directory', { type: 'string', describe: "The journal's folder; default: the configuration's" })
    .strict(false);
}

/** The folder of the journal. @throws CommandError where the event's id is none. */
export function journalOf(argv: EvidenceArgv): string {
  const { event } = argv;
  if (!EVENT_ID.test(event))
    throw new CommandError(
      `${shown(event)}: expected an event's id, 40 hexadecimal digits: record.event_id of  dpi-agent events -o json`,
    );
  return readConfig({ ...argv }, ['event', 'output']).journal.directory;
}

/** The event's capture file. @throws CommandError that says what to do. */
export async function readPackets(argv: EvidenceArgv): Promise<Buffer> {
  const { event } = argv;
  const directory = evidenceDirectory(journalOf(argv));
  let content: Buffer | undefined;
  try {
    content = await readPacketFile(directory, event);
  } catch (error) {
    throw new CommandError(`the packets in ${directory} cannot be read: ${messageOf(error)}`, EXIT.failed);
  }
  if (content !== undefined) return content;
  throw new CommandError(
    `there are no packets of event ${event} in ${directory}: none were found, they are not written yet ` +
      '(evidence.after), or they were deleted (evidence.maxSize, evidence.maxAge)',
    EXIT.failed,
  );
}
