/** `dpi-agent rules check`: lets the engine load the rules, and names each one that it refuses, or can't be given. */
import type { Argv, CommandModule } from 'yargs';
import { changeWarnings, noRules } from '../../rulesets/open.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { coloursOf, grouped } from '../print.ts';
import { place, readConfig } from '../setup.ts';
import {
  failing,
  neededEngine,
  OWN,
  printJson,
  printLine,
  RULES_FLAGS,
  stageAll,
  surveyRules,
  TITLES,
  validate,
} from './common.ts';

interface CheckArgv {
  all: boolean;
  output: string;
}

export interface RuleRefusal {
  by: 'engine' | 'translation' | 'reading';
  file?: string;
  line?: number;
  reason: string;
}

export const command: CommandModule<object, CheckArgv> = {
  command: 'check',
  describe: 'Let the engine load the rules, and name each that it refuses',
  builder: (args: Argv) =>
    args
      .options(RULES_FLAGS)
      .option('all', { type: 'boolean', default: false, describe: 'Of all sets, not only of those that are used' })
      .strict(false)
      .example('$0 rules check --rules my.rules', 'with rules of your own')
      .example('$0 rules check --all -e suricata -o json | jq .refused', 'for the other engine'),
  async handler(argv) {
    const config = readConfig({ ...argv }, [...OWN, 'all']);
    const install = await neededEngine(config);
    const survey = await surveyRules(config, install.name);
    const names = argv.all ? [...survey.sets.keys()] : survey.used;
    if (names.length === 0) throw new CommandError('no rules: name some with --rules or --rule-sets');
    const files = stageAll(survey, names);
    const nothing = noRules({ ...survey.loaded, index: new Map() });
    if (files.length === 0 && nothing !== undefined) throw new CommandError(nothing, EXIT.failed);
    const result = await failing(() => validate(config, install, files), EXIT.failed);
    const ofSets = <T extends { set: string }>(items: readonly T[]): T[] =>
      items.filter(({ set }) => names.includes(set));
    const refused: RuleRefusal[] = [
      ...ofSets(survey.loaded.problems).map(({ file, line, reason }) => ({
        by: 'reading' as const,
        file,
        line,
        reason,
      })),
      ...ofSets(survey.loaded.refused).map(({ file, line, reason }) => ({
        by: 'translation' as const,
        file,
        line,
        reason,
      })),
      ...result.errors.map(({ file, line, reason }) => ({
        by: 'engine' as const,
        ...(file === undefined ? {} : { file }),
        ...(line === undefined ? {} : { line }),
        reason,
      })),
      ...(result.otherwise === undefined ? [] : [{ by: 'engine' as const, reason: result.otherwise }]),
    ];
    const rules = [...survey.loaded.index.values()].filter((rule) =>
      rule.sets.some((set) => names.includes(set)),
    ).length;
    const warnings = changeWarnings(survey.loaded, config.ruleChanges);
    const accepted = result.accepted && refused.length === 0;
    process.exitCode = accepted ? EXIT.ok : EXIT.failed;
    if (argv.output === 'json') {
      printJson({
        engine: install.name,
        version: install.version,
        sets: names,
        rules,
        accepted,
        millis: result.millis,
        refused,
        warnings,
      });
      return;
    }
    const colours = coloursOf(process.stdout);
    for (const { by, file, line, reason } of refused) {
      const at = file === undefined ? '' : `${line === undefined ? file : place({ file, line })}: `;
      const note = by === 'translation' ? ' (not translated)' : '';
      printLine(`${colours.red('refused')}  ${stripControls(`${at}${reason}${note}`)}`);
    }
    for (const { line, reason } of warnings)
      printLine(`${colours.yellow('warning')}  ${stripControls(`${line}: ${reason}`)}`);
    const by = `${TITLES[install.name]} ${install.version}`;
    printLine(
      `${accepted ? colours.green('ok') : colours.red('not ok')}  ${by} was given ${grouped(rules)} rules of ${names.join(', ')}: ` +
        `${grouped(refused.length)} refused, in ${(result.millis / 1000).toFixed(1)} s`,
    );
  },
};
