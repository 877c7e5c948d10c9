/** What `rules enable` and `rules disable` have in common: a line more in the operator's file of changes. */
import type { Argv, CommandModule } from 'yargs';
import type { Config } from '../../config/load.ts';
import { nearest } from '../../config/nearest.ts';
import { PatternError } from '../../pattern.ts';
import { writeChange } from '../../rulesets/changes.ts';
import { BUILT_IN_VOCABULARY, loadVocabulary } from '../../rulesets/classes.ts';
import { parseCondition } from '../../rulesets/modify.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { grouped, plural } from '../print.ts';
import { engineFolder, readConfig, withClusterNetworks } from '../setup.ts';
import { failing, installedEngine, OWN, printJson, printLine, RULES_FLAGS, SNORT, surveyRules } from './common.ts';

interface ChangeArgv {
  conditions: string[];
  output: string;
}

export function changeCommand(action: 'enable' | 'disable'): CommandModule<object, ChangeArgv> {
  return {
    command: `${action} <conditions..>`,
    describe: `Turn rules ${action === 'enable' ? 'on' : 'off'}: by signature, class, set, file or expression`,
    builder: (args: Argv) =>
      args
        .positional('conditions', {
          type: 'string',
          array: true,
          demandOption: true,
          describe: '1:21562, 21562, class:NAME, set:NAME, file:NAME or re:EXPRESSION; each is a line of its own',
        })
        .options(RULES_FLAGS)
        .option('ruleChanges', { type: 'string', describe: "The file; default: the configuration's" })
        .strict(false)
        .example(`$0 rules ${action} 1:21562`, 'one rule')
        .example(`$0 rules ${action} class:misc-activity`, 'a class')
        .example(`$0 rules ${action} 're:/POLICY-OTHER .*telnet/i'`, 'what an expression finds'),
    async handler(argv) {
      const config = await withClusterNetworks(readConfig({ ...argv }, [...OWN, 'conditions']));
      await checkClasses(config, classesOf(argv.conditions));
      const file = config.ruleChanges;
      const written: { condition: string; changed: boolean }[] = [];
      for (const condition of argv.conditions) {
        const changed = await failing(() => writeChange(file, action, condition), EXIT.failed);
        written.push({ condition, changed });
      }
      // Told after it is written: rules may well come later.
      const { loaded, seen } = await surveyRules(config, (await installedEngine(config)) ?? SNORT);
      const counts = loaded.changes.touched().slice(-argv.conditions.length);
      const results = written.map((entry, index) => ({ ...entry, rules: counts[index]?.rules ?? 0 }));
      const enabled = seen.filter(({ outcome }) => outcome.kind !== 'disabled').length;
      if (argv.output === 'json') {
        printJson({ file, action, results, enabled, disabled: seen.length - enabled });
        return;
      }
      for (const { condition, changed, rules } of results) {
        const what = rules === 0 ? 'no rule is like that now' : plural(rules, 'rule');
        printLine(`${action} ${stripControls(condition)}: ${what}${changed ? '' : ' (was there already)'}`);
      }
      printLine(`${file}: ${plural(enabled, 'rule is', 'rules are')} on now, ${grouped(seen.length - enabled)} off`);
    },
  };
}

/** The classes that conditions name. @throws CommandError for what is no condition. */
function classesOf(conditions: readonly string[]): string[] {
  return conditions.flatMap((condition) => {
    if (/[\r\n]/.test(condition)) throw new CommandError('a condition has no line breaks');
    try {
      const parsed = parseCondition(condition);
      return parsed.kind === 'class' ? [parsed.name] : [];
    } catch (error) {
      if (error instanceof PatternError) throw new CommandError(stripControls(error.message));
      throw error;
    }
  });
}

/** Sets and rules may come later; classes that no engine and no rule has are mistyped. @throws CommandError */
async function checkClasses(config: Config, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const install = await installedEngine(config);
  const vocabulary =
    install === undefined ? BUILT_IN_VOCABULARY : loadVocabulary(engineFolder(install), [config.rulesDirectory]);
  const { seen } = await surveyRules(config, install ?? SNORT);
  const known = new Set([...vocabulary.classes.keys(), ...seen.map(({ rule }) => rule.classtype.toLowerCase())]);
  for (const name of names) {
    if (known.has(name)) continue;
    const meant = nearest(name, known);
    const advice = meant === undefined ? 'rules show says which class a rule has' : `did you mean class:${meant}?`;
    throw new CommandError(`there is no class ${stripControls(name)}; ${advice}`);
  }
}
