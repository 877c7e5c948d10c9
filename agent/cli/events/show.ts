/** `dpi-agent events show`: one event for people, with the request and its answer. */
import type { Argv, CommandModule } from 'yargs';
import { evidenceDirectory, withEvidence } from '../../evidence/place.ts';
import type { EeEvent } from '../../events/event.ts';
import { outcomeText } from '../../events/outcomes.ts';
import { messageOf } from '../../files/errors.ts';
import { isRecord } from '../../files/record.ts';
import { searchJournal } from '../../journal/search.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { coloursOf, columnsOf, grouped, tableRow, wrapWords } from '../print.ts';
import { journalOf, withEvent, type EvidenceArgv } from './find.ts';

const NAME_COLUMNS = 24;
const MOST_FACTS = 100;

export const command: CommandModule<object, EvidenceArgv> = {
  command: 'show <event>',
  describe: 'One event: what was asked, what was answered, and by whom',
  builder: (args: Argv) =>
    withEvent(args).example('$0 events show <id>', 'did it work?') as unknown as Argv<EvidenceArgv>,
  handler: run,
};

async function run(argv: EvidenceArgv): Promise<void> {
  const directory = journalOf(argv);
  const event = await findEvent(directory, argv.event);
  const columns = columnsOf(process.stdout);
  process.stdout.write(`${tableRow(event, coloursOf(process.stdout), columns)}\n`);
  for (const [name, value] of factsOf(event)) {
    const [first = '', ...more] = value
      .split('\n')
      .flatMap((line) => wrapWords(stripControls(line), columns - NAME_COLUMNS));
    process.stdout.write(`${name.padEnd(NAME_COLUMNS - 1)} ${first}\n`);
    for (const line of more) process.stdout.write(`${' '.repeat(NAME_COLUMNS)}${line}\n`);
  }
}

/** With what became known of its flow. @throws CommandError where it is not there. */
async function findEvent(directory: string, id: string): Promise<EeEvent> {
  try {
    const filter = { where: ({ record }: { record: unknown }) => isRecord(record) && record['event_id'] === id };
    for await (const { event } of searchJournal({ directory, filter, order: 'newest' }))
      return await withEvidence(evidenceDirectory(directory), event as unknown as EeEvent);
  } catch (error) {
    throw new CommandError(`the journal in ${directory} cannot be read: ${messageOf(error)}`, EXIT.failed);
  }
  throw new CommandError(`there is no event ${id} in ${directory}`, EXIT.failed);
}

type Fact = [name: string, value: string];

function factsOf({ origin, host, record }: EeEvent): Fact[] {
  const { outcome, app, community_id: community, packets } = record;
  const kept = packets && `${grouped(packets.count)}${packets.complete ? '' : ', not all of the flow'}`;
  const facts: [string, string | undefined][] = [
    ['event', record.event_id],
    ['resource', origin.replace(/^dpi\./, '')],
    ['node', host],
    ['class', record.classification],
    ['outcome', outcome && (outcomeText(outcome) ?? outcome)],
    ['protocol', app?.protocol],
    ...saidOf(app),
    ['community ID', community],
    ['packets', kept && `${kept}: dpi-agent events packets ${record.event_id}`],
  ];
  return facts.flatMap(([name, value]) => (value === undefined ? [] : [[stripControls(name), value] satisfies Fact]));
}

/** Everything that the application said, in its order: request, then answer. */
function saidOf(app: unknown): Fact[] {
  const said: Fact[] = [];
  const visit = (value: unknown, path: string): void => {
    if (said.length >= MOST_FACTS || path === 'protocol') return;
    if (typeof value === 'string' || typeof value === 'number')
      said.push([path.replaceAll('.', ' ').replaceAll('_', ' '), String(value)]);
    else if (Array.isArray(value)) for (const each of value) visit(each, path);
    else if (isRecord(value))
      for (const [key, inner] of Object.entries(value)) visit(inner, path === '' ? key : `${path}.${key}`);
  };
  visit(app, '');
  return said;
}
