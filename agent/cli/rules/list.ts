/** `dpi-agent rules list`: the rule sets. */
import { stat } from 'node:fs/promises';
import type { Argv, CommandModule } from 'yargs';
import { changeWarnings } from '../../rulesets/open.ts';
import { installedSet } from '../../rulesets/update.ts';
import type { EngineName } from '../../engine/engine.ts';
import { stripControls } from '../../text.ts';
import { coloursOf, columnsOf, grouped } from '../print.ts';
import { readConfig, withClusterNetworks } from '../setup.ts';
import { paintLine, tableLines, type Line } from '../table.ts';
import {
  installedEngine,
  OWN,
  printJson,
  printLine,
  RULES_FLAGS,
  SNORT,
  surveyRules,
  TITLES,
  type Survey,
} from './common.ts';

export interface ListedSet {
  name: string;
  /** Whether resources get it that name none. */
  used: boolean;
  files: string[];
  rules: number;
  enabled: number;
  disabled: number;
  /** Rules that the engine can't be given. */
  refused: number;
  /** Places in the files that are no rules. */
  problems: number;
  /** Changed by the operator's file. */
  changed: number;
  /** Of a set that was downloaded. */
  version?: string;
  source?: string;
  /** When the newest of its files was changed: milliseconds since the epoch. */
  changedAt?: number;
}

interface ListArgv {
  output: string;
}

export const command: CommandModule<object, ListArgv> = {
  command: 'list',
  describe: 'The rule sets: how many rules, from where, how old',
  builder: (args: Argv) =>
    args
      .options(RULES_FLAGS)
      .strict(false)
      .example('$0 rules list', '')
      .example('$0 rules list -o json | jq .sets[].name', 'names for programs'),
  async handler(argv) {
    const config = await withClusterNetworks(readConfig({ ...argv }, OWN));
    const installed = (await installedEngine(config)) ?? SNORT;
    const { name: engine } = installed;
    const survey = await surveyRules(config, installed);
    const sets = await listSets(survey, config.rulesDirectory);
    const warnings = changeWarnings(survey.loaded, config.ruleChanges);
    const { problems, unlistedProblems } = survey.loaded;
    if (argv.output === 'json') {
      printJson({ engine, sets, changes: survey.loaded.changes.touched(), warnings, problems, unlistedProblems });
      return;
    }
    printTable(sets, engine);
    const more = [
      ...problems.slice(0, 10).map(({ file, line, reason }) => `${file}:${line}: ${reason}`),
      ...(problems.length > 10 ? [`and ${grouped(problems.length - 10 + unlistedProblems)} more problems`] : []),
      ...warnings.map(({ line, reason }) => `${line}: ${reason}`),
    ];
    if (more.length > 0) printLine();
    for (const line of more) printLine(stripControls(line));
  },
};

async function listSets({ sets, used, loaded, seen }: Survey, rulesDirectory: string): Promise<ListedSet[]> {
  const listed = new Map<string, ListedSet>();
  for (const { name, files } of sets.values()) {
    const times = await Promise.all(
      files.map(({ path }) =>
        stat(path).then(
          ({ mtimeMs }) => mtimeMs,
          () => 0,
        ),
      ),
    );
    const installed = await installedSet(rulesDirectory, name);
    listed.set(name, {
      name,
      used: used.includes(name),
      files: files.map(({ path }) => path),
      rules: 0,
      enabled: 0,
      disabled: 0,
      refused: 0,
      problems: loaded.problems.filter(({ set }) => set === name).length,
      changed: 0,
      ...(installed === undefined ? {} : { version: installed.version, source: installed.source }),
      changedAt: Math.round(Math.max(0, ...times)),
    });
  }
  for (const { set, rule, outcome } of seen) {
    const entry = listed.get(set);
    if (entry === undefined) continue;
    entry.rules++;
    entry[outcome.kind]++;
    if (rule.changes !== undefined) entry.changed++;
  }
  return [...listed.values()];
}

function printTable(sets: readonly ListedSet[], engine: EngineName): void {
  const colours = coloursOf(process.stdout);
  const columns = columnsOf(process.stdout);
  const rows = sets.map((set): Line => {
    const cells = [
      `${set.name}${set.used ? '' : ' (not used)'}`,
      ...[set.enabled, set.disabled, set.refused, set.changed, set.problems].map(grouped),
      age(set.changedAt ?? 0, Date.now()),
      set.version ?? '-',
    ];
    return set.used ? cells : cells.map((text) => ({ text, paint: 'dim' }));
  });
  const titles = ['SET', '>ENABLED', '>DISABLED', '>REFUSED', '>CHANGED', '>PROBLEMS', 'AGE', 'VERSION'];
  for (const line of tableLines(titles, rows, columns, ['CHANGED', 'AGE', 'PROBLEMS']))
    printLine(paintLine(line, columns, colours));
  printLine();
  printLine(`for ${TITLES[engine]}; "not used" is every set that resources have to name`);
}

/** "3 d" */
export function age(since: number, now: number): string {
  if (since <= 0) return '-';
  const minutes = Math.max(0, Math.floor((now - since) / 60_000));
  if (minutes < 60) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}
