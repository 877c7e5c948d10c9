/** `dpi-agent events`: the journal's events, and those that come. */
import { once } from 'node:events';
import type { Argv, CommandModule, Options } from 'yargs';
import { shown } from '../config/text.ts';
import type { EeEvent } from '../events/event.ts';
import { evidenceDirectory, withEvidence, withEvidenceSync } from '../evidence/place.ts';
import { errorCode } from '../files/errors.ts';
import {
  followJournal,
  journalEnd,
  searchJournal,
  type FoundEvent,
  type JournalFilter,
  type Place,
} from '../journal/search.ts';
import { stripControls, UNPRINTABLE } from '../text.ts';
import { readFlags, type FilterArgv } from './events/flags.ts';
import { command as packets } from './events/packets.ts';
import { command as show } from './events/show.ts';
import { command as pcap } from './events/pcap.ts';
import { command as redrive } from './events/redrive.ts';
import { CommandError, EXIT } from './exit.ts';
import { coloursOf, columnsOf, plural, tableHeader, tableRow } from './print.ts';
import { COMMON_FLAGS, readConfig } from './setup.ts';

const LAST = 10;

const OWN = 'since until signature pod resource ip host url sni ja4 severity query limit order follow output'.split(
  ' ',
);

interface EventsArgv extends FilterArgv {
  _: (string | number)[];
  output?: string;
}

const repeatable = { type: 'string', array: true, nargs: 1 } as const;

const FLAGS = {
  config: COMMON_FLAGS.config,
  'journal.directory': {
    type: 'string',
    describe: "The journal's folder; default: the configuration's",
  },
  since: { type: 'string', describe: 'Not before: 30m, 1h, 7d ago, or 2026-11-24T00:00:00Z' },
  until: { type: 'string', describe: 'Before: as --since' },
  signature: { ...repeatable, describe: 'Of this rule: 21562 or 1:21562 (repeatable)' },
  pod: {
    ...repeatable,
    describe: 'From, to or seen at this pod: namespace/name, also shop/* (repeatable)',
  },
  resource: {
    ...repeatable,
    describe: 'Of this resource: namespace/name, also shop/* (repeatable)',
  },
  ip: {
    ...repeatable,
    describe: 'From or to this address, or network such as 10.65.0.0/24 (repeatable)',
  },
  host: { ...repeatable, describe: 'Of requests to this host, without its port, also *.shop.test (repeatable)' },
  url: { ...repeatable, describe: 'Of requests whose URL has this in it (repeatable)' },
  sni: { ...repeatable, describe: 'Of TLS or QUIC to this server name, also * (repeatable)' },
  ja4: { ...repeatable, describe: 'Of TLS clients with this JA4, also t13d* (repeatable)' },
  severity: {
    type: 'string',
    describe: 'At least this severe: critical, high, medium, low, or 0 to 100',
  },
  query: {
    type: 'string',
    describe: "As the search of the Alerts page: 'port: 4444 and not pod: ci/*'",
  },
  limit: {
    type: 'string',
    describe: 'At most this many; with --follow: of those that are there',
  },
  order: {
    choices: ['newest', 'oldest'],
    describe: 'What comes first; newest, with --follow oldest',
  },
  follow: {
    alias: 'f',
    type: 'boolean',
    describe: `The last ${LAST}, or all --since, and then those that come`,
  },
  output: {
    alias: 'o',
    choices: ['table', 'json'],
    describe: "json: the journal's lines, with record.packets where there are; table on a terminal, else json",
  },
} as const satisfies Record<string, Options>;

/** The commands below have their own. */
const OWN_FLAGS = Object.fromEntries(Object.entries(FLAGS).map(([name, flag]) => [name, { ...flag, global: false }]));

export const command: CommandModule<object, EventsArgv> = {
  command: 'events',
  builder: (args: Argv) =>
    args
      .command(redrive as unknown as CommandModule)
      .command(pcap as unknown as CommandModule)
      .command(packets as unknown as CommandModule)
      .command(show as unknown as CommandModule)
      .options(OWN_FLAGS)
      .strict(false)
      .example('$0 events --since 1h --severity high', 'the severe ones of the last hour')
      .example("$0 events --pod 'shop/backend-*' --signature 21562", 'what a rule found at pods')
      .example('$0 events -f -o json | jq .record.snort_alert', 'follow, as tail -f does')
      .example('$0 events redrive --sink elasticsearch', 'send again what was refused') as unknown as Argv<EventsArgv>,
  handler: run,
};

async function run(argv: EventsArgv): Promise<void> {
  if (argv._.length > 1)
    throw new CommandError(`events: ${shown(argv._[1])}: expected flags, or redrive, show, pcap, packets`);
  // What a flow said is beside the journal.
  const { filter, limit } = readFlags(argv, Date.now(), (event) =>
    withEvidenceSync(evidenceDirectory(directory), event as EeEvent),
  );
  const { journal } = readConfig({ ...argv }, OWN);
  const { directory } = journal;
  let skipped = 0;
  const stopping = new AbortController();
  const options = { directory, filter, onSkip: () => void (skipped += 1), signal: stopping.signal };
  const print = createPrinter(argv.output ?? (process.stdout.isTTY ? 'table' : 'json'), evidenceDirectory(directory));
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

/** @param evidence Folder of what became known of events after they were journaled. */
function createPrinter(output: string, evidence: string): Printer {
  const { stdout } = process;
  const colours = coloursOf(stdout);
  let count = 0;
  return {
    async event({ line }) {
      count += 1;
      let text = output === 'json' ? await withEvidenceLine(evidence, line) : line;
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

/** The line as it is, where nothing became known. */
async function withEvidenceLine(evidence: string, line: string): Promise<string> {
  const event = JSON.parse(line) as EeEvent;
  const known = await withEvidence(evidence, event);
  return known === event ? line : JSON.stringify(known);
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
