/**
 * `dpi-agent rules diff`: what a new version of rules changes, and what the rules that go or change did of late, by the
 * journal. What new rules would have done, no journal knows: `replay` and `rules test` tell it of recorded packets.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Argv, CommandModule } from 'yargs';
import { shown } from '../../config/text.ts';
import { severityOf } from '../../events/event.ts';
import { errorCode } from '../../files/errors.ts';
import { searchJournal } from '../../journal/search.ts';
import { loadVocabulary } from '../../rulesets/classes.ts';
import {
  diffRules,
  readRules,
  sumByClass,
  type ChangedRule,
  type ClassSum,
  type DiffedRule,
  type RuleDiff,
} from '../../rulesets/diff.ts';
import { SET_NAME } from '../../rulesets/sets.ts';
import { findVersion } from '../../rulesets/update.ts';
import { stripControls } from '../../text.ts';
import { levelOf } from '../../events/level.ts';
import { CommandError, EXIT } from '../exit.ts';
import { timeOf } from '../events/flags.ts';
import { coloursOf, grouped, plural } from '../print.ts';
import { engineFolder, readConfig } from '../setup.ts';
import { failing, installedEngine, OWN, printJson, printLine, RULES_FLAGS } from './common.ts';

/** With so many signatures and fewer, the journal is searched for them; beyond, it is read as a whole. */
const MAX_SEARCHED = 50;
/** Rules that are listed of each kind; the rest is counted. */
const MAX_LISTED = 50;

interface DiffArgv {
  old: string;
  new?: string;
  since: string;
  all: boolean;
  output: string;
}

interface WithEvents {
  severity: number;
  /** In the journal; absent where there is none. */
  events?: number;
}

/** As programs get it. */
export interface ShownDiff {
  old: string;
  new: string;
  added: (DiffedRule & WithEvents)[];
  removed: (DiffedRule & WithEvents)[];
  changed: (ChangedRule & WithEvents)[];
  same: number;
  classes: (ClassSum & { severity: number })[];
  /** From when on events are counted; absent without a journal. */
  since?: string;
}

const { config, engine, output } = RULES_FLAGS;

export const command: CommandModule<object, DiffArgv> = {
  command: 'diff <old> [new]',
  describe: 'Added, removed and changed rules between sets, versions, files or folders',
  builder: (args: Argv) =>
    args
      .positional('old', {
        type: 'string',
        demandOption: true,
        describe: 'A set, set@version, set@previous, file or folder',
      })
      .positional('new', {
        type: 'string',
        describe: 'Likewise; without it, a set is compared with its version before',
      })
      .options({ config, engine, output })
      .option('journal.directory', { type: 'string', describe: "The journal's folder; default: the configuration's" })
      .option('since', {
        type: 'string',
        default: '7d',
        describe: 'Events are counted from then on: 30m, 7d ago, or a time',
      })
      .option('all', {
        type: 'boolean',
        default: false,
        describe: `List all rules, not only ${MAX_LISTED} of each kind`,
      })
      .strict(false)
      .example('$0 rules diff community', 'what the last update changed')
      .example('$0 rules diff community@previous new.rules', 'a version and a file')
      .example(
        "$0 rules diff old/ new/ -o json | jq '.removed[] | select(.events > 0)'",
        'what will be missed',
      ) as unknown as Argv<DiffArgv>,
  async handler(argv) {
    const configuration = readConfig({ ...argv }, [...OWN, 'old', 'new', 'since', 'all']);
    const since = timeOf(argv.since, Date.now());
    if (since === undefined) {
      throw new CommandError(
        `flag --since: ${shown(argv.since)}: expected a time such as 30m, 7d, or 2026-11-24T00:00:00Z`,
      );
    }
    const [old, next] = argv.new === undefined ? [`${argv.old}@previous`, argv.old] : [argv.old, argv.new];
    const { rulesDirectory } = configuration;
    const install = await installedEngine(configuration);
    const vocabulary = loadVocabulary(install === undefined ? undefined : engineFolder(install), [rulesDirectory]);
    const diff = await failing(async () => {
      const [before, after] = [await placeOf(rulesDirectory, old), await placeOf(rulesDirectory, next)];
      return diffRules(await readRules(before), await readRules(after), vocabulary);
    });
    const events = await countEvents(configuration.journal.directory, since, [...diff.removed, ...diff.changed]);
    const result = withEvents(diff, events, {
      old,
      new: next,
      ...(events === undefined ? {} : { since: new Date(since).toISOString() }),
    });
    if (argv.output === 'json') printJson(result);
    else print(result, argv.all ? Infinity : MAX_LISTED);
  },
};

/** Where the rules of what was named are. @throws Error that says what there is not. */
async function placeOf(rulesDirectory: string, name: string): Promise<string> {
  const [, set = '', version = ''] = /^([^@/]+)@(.+)$/.exec(name) ?? [];
  if (SET_NAME.test(set) && !existsSync(name)) return findVersion(rulesDirectory, set, version);
  const ofSet = join(rulesDirectory, name);
  return SET_NAME.test(name) && existsSync(ofSet) ? ofSet : name;
}

/** By signature; undefined without a journal. */
async function countEvents(
  directory: string,
  since: number,
  rules: readonly DiffedRule[],
): Promise<Map<string, number> | undefined> {
  const wanted = new Map(rules.map(({ gid, sid }) => [`${gid}:${sid}`, 0]));
  const signatures = rules.map(({ gid, sid }) => ({ generator: String(gid), id: String(sid) }));
  const filter = { since, ...(rules.length <= MAX_SEARCHED ? { signatures } : {}) };
  if (!existsSync(directory)) return undefined;
  if (rules.length === 0) return wanted;
  try {
    for await (const { event } of searchJournal({ directory, filter, order: 'newest' })) {
      const { generator_id: gid, snort_signature_id: sid } = event.record;
      const count = wanted.get(`${gid}:${sid}`);
      if (count !== undefined) wanted.set(`${gid}:${sid}`, count + 1);
    }
    return wanted;
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined) throw error;
    throw new CommandError(`can't read the journal in ${directory}: ${code}`, EXIT.failed);
  }
}

function withEvents(
  diff: RuleDiff,
  events: ReadonlyMap<string, number> | undefined,
  about: Pick<ShownDiff, 'old' | 'new' | 'since'>,
): ShownDiff {
  const add = <Rule extends DiffedRule>(rule: Rule): Rule & WithEvents => {
    const count = events?.get(`${rule.gid}:${rule.sid}`);
    return { ...rule, severity: severityOf(rule.priority), ...(count === undefined ? {} : { events: count }) };
  };
  const byEvents = (a: WithEvents, b: WithEvents): number => (b.events ?? 0) - (a.events ?? 0);
  return {
    ...about,
    added: diff.added.map(add),
    removed: diff.removed.map(add).toSorted(byEvents),
    changed: diff.changed.map(add).toSorted(byEvents),
    same: diff.same,
    classes: sumByClass(diff).map((sum) => ({ ...sum, severity: severityOf(sum.priority) })),
  };
}

function print(diff: ShownDiff, most: number): void {
  const { added, removed, changed, same, classes, since } = diff;
  const colours = coloursOf(process.stdout);
  const counts = [
    `${grouped(added.length)} added`,
    `${grouped(removed.length)} removed`,
    `${grouped(changed.length)} changed`,
    `${grouped(same)} the same`,
  ];
  printLine(`${stripControls(diff.old)} → ${stripControls(diff.new)}: ${counts.join(', ')}`);
  if (since !== undefined) printLine(`events of what is removed or changed are those since ${since}`);
  if (classes.length > 0) {
    printLine();
    printLine(
      colours.bold(
        `${'CLASS'.padEnd(32)} ${['SEVERITY', 'ADDED', 'REMOVED', 'CHANGED'].map((title) => title.padStart(8)).join(' ')}`,
      ),
    );
  }
  for (const sum of classes) {
    const numbers = [sum.added, sum.removed, sum.changed].map(grouped);
    const cells = [levelOf(sum.severity), ...numbers].map((cell) => cell.padStart(8));
    printLine(`${(stripControls(sum.classtype) || '(none)').padEnd(32)} ${cells.join(' ')}`);
  }
  list('+', added, most, () => '');
  list('-', removed, most, () => '');
  list(
    '~',
    changed,
    most,
    ({ formerRev, rev, changes }) => `: ${changes.join(', ')}${rev === formerRev ? '' : ` (was rev ${formerRev})`}`,
  );
}

function list<Rule extends DiffedRule & WithEvents>(
  sign: string,
  rules: readonly Rule[],
  most: number,
  what: (rule: Rule) => string,
): void {
  if (rules.length > 0) printLine();
  for (const rule of rules.slice(0, most)) {
    const { gid, sid, rev, message, enabled, events } = rule;
    const off = enabled ? '' : ' (off)';
    const count = events === undefined ? '' : `  ${plural(events, 'event')}`;
    printLine(`${sign} ${gid}:${sid}:${rev}  ${stripControls(`${message}${off}${what(rule)}`)}${count}`);
  }
  if (rules.length > most) printLine(`${sign} and ${grouped(rules.length - most)} more: --all lists them`);
}
