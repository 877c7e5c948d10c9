/**
 * `dpi-agent policy add`: one entry more, with a reason, after it was tried on the journal of the last days.
 *
 * At most the newest 100,000 events of the signature are looked at.
 */
import { userInfo } from 'node:os';
import type { Argv, CommandModule } from 'yargs';
import { shown } from '../../config/text.ts';
import { parseDuration } from '../../config/leaves.ts';
import { errorCode } from '../../files/errors.ts';
import { searchJournal } from '../../journal/search.ts';
import { stripControls } from '../../text.ts';
import { rowOf } from '../../ui/row.ts';
import type { Outcome, PastAlert } from '../../tuning/preview.ts';
import { KINDS, TRACKS, type TuneRequest } from '../../tuning/entry.ts';
import { CommandError } from '../exit.ts';
import { timeOf } from '../events/flags.ts';
import { grouped, plural } from '../print.ts';
import { readConfig } from '../setup.ts';
import { printJson, printLine } from '../rules/common.ts';
import { openTuning, POLICY_FLAGS, withReasons, wordsOf } from './common.ts';

const MOST_TRIED = 100_000;
const OWN =
  'output kind signature pod source destination days hours until reason count per track since dryRun dry-run'.split(
    ' ',
  );

interface AddArgv {
  output: string;
  kind: TuneRequest['kind'];
  signature?: string;
  pod?: string;
  source?: string;
  destination?: string;
  days?: string;
  hours?: string;
  until?: string;
  reason: string;
  count: string;
  per: string;
  track: NonNullable<TuneRequest['track']>;
  since: string;
  dryRun: boolean;
}

export const command: CommandModule<object, AddArgv> = {
  command: 'add <kind>',
  describe: 'Suppress or limit alerts, or turn a rule off; says first what it would have left out',
  builder: (args: Argv) =>
    args
      .positional('kind', { choices: KINDS, demandOption: true, describe: 'limit: so many pass; off: not loaded' })
      .options(POLICY_FLAGS)
      .option('alerts.policy', { type: 'string', describe: "The policy's file; default: the configuration's" })
      .option('journal.directory', { type: 'string', describe: "The journal's folder; default: the configuration's" })
      .option('signature', { alias: 's', type: 'string', describe: 'Of this signature, such as 1:21562' })
      .option('pod', { type: 'string', describe: 'At this pod, namespace/name, with * for any characters' })
      .option('source', { type: 'string', describe: 'From this address or network' })
      .option('destination', { type: 'string', describe: 'To this address or network' })
      .option('days', { type: 'string', describe: 'On these days, such as mon-fri' })
      .option('hours', { type: 'string', describe: 'At these hours, such as 22:00-06:00' })
      .option('until', { type: 'string', describe: 'Ends: in 7d, or with the day 2027-01-31' })
      .option('reason', { type: 'string', demandOption: true, describe: 'Why, for people' })
      .option('count', { type: 'string', default: '1', describe: 'limit: this many pass' })
      .option('per', { type: 'string', default: '1h', describe: 'limit: in this time' })
      .option('track', { choices: TRACKS, default: 'by_source', describe: 'limit: of each of these' })
      .option('since', { type: 'string', default: '7d', describe: 'Try it on events from this time ago' })
      .option('dry-run', { type: 'boolean', default: false, describe: 'Only say what it would have left out' })
      .strict(false)
      .example("$0 policy add suppress -s 1:408 --pod 'ci/runner-*' --until 7d --reason scanner", 'one pod, a week')
      .example('$0 policy add limit -s 1:1000045 --per 1h --reason noisy --dry-run', 'what one an hour would leave')
      .example('$0 policy add off -s 1:408 --reason useless', 'the rule is not loaded') as unknown as Argv<AddArgv>,
  async handler(argv) {
    const config = readConfig({ ...argv }, OWN);
    const request = requestOf(argv);
    const tuning = await openTuning(config);
    await withReasons(() => tuning.attempt(request, []));
    const past = await pastAlerts(config.journal.directory, request, argv.since);
    const outcome = tuning.attempt(request, past);
    const added = argv.dryRun ? undefined : await withReasons(() => tuning.add(request, ownName()));
    if (argv.output === 'json') return printJson({ outcome, ...(added === undefined ? {} : { added }) });
    for (const line of outcomeLines(outcome, argv.since)) printLine(line);
    if (added === undefined) return printLine('nothing was changed (--dry-run)');
    const { ruleChanges, ui } = config;
    const where = added.kind === 'off' && ui.policyConfigMap === undefined ? ruleChanges : tuning.where;
    printLine(`${where}: ${stripControls(`${added.name}: ${wordsOf(added)}`)}`);
    return printLine(`to undo it: dpi-agent policy remove ${added.name}`);
  },
};

/** @throws CommandError */
function requestOf({ kind, reason, track, count, per, until, ...argv }: AddArgv): TuneRequest {
  const { signature, pod, source, destination, days, hours } = argv;
  const seconds = (parseDuration(per) ?? NaN) / 1000;
  if (kind === 'limit' && !Number.isInteger(seconds))
    throw new CommandError(`flag --per: ${shown(per)}: expected a time such as 1h`);
  const end = until === undefined ? undefined : endOf(until);
  const criteria = { signature, pod, source, destination, days, hours, until: end };
  const said = Object.entries(criteria).filter(([, value]) => value !== undefined);
  const limit = kind === 'limit' ? { count: Number(count), seconds, track } : {};
  return { kind, reason, ...Object.fromEntries(said), ...limit };
}

/** A time from now on is that time; all else is for the policy to read. */
function endOf(text: string): string {
  const ahead = /^\d+[a-z]+$/.test(text) ? parseDuration(text) : undefined;
  return ahead === undefined ? text : new Date(Date.now() + ahead).toISOString();
}

/** @throws CommandError */
async function pastAlerts(directory: string, { signature }: TuneRequest, ago: string): Promise<PastAlert[]> {
  const since = timeOf(ago, Date.now());
  if (since === undefined) throw new CommandError(`flag --since: ${shown(ago)}: expected a time ago such as 7d`);
  const [gid, sid] = signature?.split(':') ?? [];
  const found: PastAlert[] = [];
  try {
    for await (const { event } of searchJournal({ directory, filter: { since }, order: 'newest' })) {
      if (sid !== undefined && (event.record.snort_signature_id !== sid || event.record.generator_id !== gid)) continue;
      const row = rowOf(event);
      if (row !== undefined) found.push(row);
      if (found.length === MOST_TRIED) break;
    }
  } catch (error) {
    // Without a journal there is nothing to try it on, as on a machine that only has the policy.
    if (errorCode(error) !== 'ENOENT') throw error;
  }
  return found;
}

/** Of who runs it; a number where it has no name. */
function ownName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid ${process.getuid?.() ?? ''}`;
  }
}

function outcomeLines({ events, leftOut, criticalLeftOut, kinds }: Outcome, since: string): string[] {
  if (events === 0) return [`the journal of the last ${since} has no such event: what it leaves out is not known`];
  const critical = criticalLeftOut === 0 ? '' : `, ${grouped(criticalLeftOut)} of them critical`;
  return [
    `of ${plural(events, 'event')} in the last ${since}, it would have left out ${grouped(leftOut)}${critical}`,
    ...kinds.map((kind) => `  ${kind.signature}  ${stripControls(kind.message)}  ${grouped(kind.leftOut)}`),
  ];
}
