/** `dpi-agent rules check`: lets the engine load the rules, and names each one that it refuses, or can't be given. */
import type { Argv, CommandModule } from 'yargs';
import { planSandbox } from '../../engine/sandbox.ts';
import type { Config } from '../../config/load.ts';
import type { EngineInstall } from '../../engine/engine.ts';
import { ruleKey } from '../../rulesets/files.ts';
import { changeWarnings, noRules } from '../../rulesets/open.ts';
import { isOfRule } from '../../rulesets/rule.ts';
import type { IndexedRule, RefusedBy } from '../../rulesets/sets.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { coloursOf, grouped, plural } from '../print.ts';
import { createDriver, place, readConfig, withClusterNetworks } from '../setup.ts';
import { thresholdNotes } from '../threshold-notes.ts';
import { tryRules, waitingRules, type PassedRule, type TriedRules } from '../try-rules.ts';
import {
  failing,
  neededEngine,
  OWN,
  printJson,
  printLine,
  RULES_FLAGS,
  surveyRules,
  TITLES,
  type Survey,
} from './common.ts';

interface CheckArgv {
  all: boolean;
  output: string;
}

export interface RuleRefusal {
  by: 'engine' | 'reading' | RefusedBy;
  signature?: string;
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
    const config = await withClusterNetworks(readConfig({ ...argv }, [...OWN, 'all']));
    const install = await neededEngine(config);
    const survey = await surveyRules(config, install);
    const names = argv.all ? [...survey.sets.keys()] : survey.used;
    if (names.length === 0) throw new CommandError('no rules: name some with --rules or --rule-sets');
    const found = await failing(() => checkRules(config, install, survey, names), EXIT.failed);
    process.exitCode = found.accepted ? EXIT.ok : EXIT.failed;
    if (argv.output === 'json') printJson({ engine: install.name, version: install.version, sets: names, ...found });
    else printFindings(found, `${TITLES[install.name]} ${install.version}`, names);
  },
};

interface Checked {
  /** That the engine was given. */
  rules: number;
  accepted: boolean;
  millis: number;
  /** What is wrong: rules, and other text in the files. */
  refused: RuleRefusal[];
  /** How many of `refused` are rules. */
  refusedRules: number;
  /** What the engine passes over for what it requires. */
  skipped: PassedRule[];
  /** What another rule of the same signature takes the place of. */
  dropped: PassedRule[];
  /** What is loaded, and waits for what only refused rules set. */
  waiting: PassedRule[];
  warnings: { line: string; reason: string }[];
  engineWarnings: string[];
}

async function checkRules(config: Config, install: EngineInstall, survey: Survey, names: string[]): Promise<Checked> {
  const { loaded } = survey;
  const given = [...loaded.index.values()].filter((rule) => rule.sets.some((set) => names.includes(set)));
  const nothing = noRules({ ...loaded, index: new Map() });
  if (given.length === 0 && nothing !== undefined) throw new Error(nothing);
  const sandbox = await planSandbox(String(config.engine.user), config.engine.isolateNetwork);
  const driver = createDriver(config, install);
  const tried = await tryRules(config, { install, driver, sandbox }, loaded.index, names);
  const refusals = refusalsOf(survey, names, tried);
  const dropped = droppedRules(survey, names);
  return {
    rules: given.length,
    accepted: refusals.refused.length === 0 && dropped.every(({ isLoss }) => !isLoss),
    millis: tried.millis,
    ...refusals,
    skipped: tried.failed.filter(({ skipped }) => skipped).map(passed),
    dropped: dropped.map(passed),
    waiting: waitingRules(
      survey.seen.filter(({ set }) => names.includes(set)),
      new Map(given.map((rule) => [ruleKey(rule), rule])),
      tried,
    ),
    warnings: [
      ...changeWarnings(loaded, config.ruleChanges),
      ...thresholdNotes(names.flatMap((name) => survey.sets.get(name) ?? [])),
    ],
    engineWarnings: warningsOf(tried, given),
  };
}

function refusalsOf(
  { loaded }: Survey,
  names: readonly string[],
  tried: TriedRules,
): Pick<Checked, 'refused' | 'refusedRules'> {
  const problems = loaded.problems.filter(({ set }) => names.includes(set));
  const leftOut = loaded.refused.filter(({ set }) => names.includes(set));
  const byEngine = tried.failed.filter(({ skipped }) => !skipped);
  return {
    refused: [
      ...problems.map(({ file, line, reason }) => ({ by: 'reading' as const, file, line, reason })),
      ...leftOut.map((rule) => ({ by: rule.by, ...passed(rule) })),
      ...byEngine.map((rule) => ({ by: 'engine' as const, ...passed(rule) })),
      ...tried.refused.map(({ what, reason }) => ({ by: 'engine' as const, reason: `${what}: ${reason}` })),
    ],
    refusedRules: problems.filter(isOfRule).length + leftOut.length + byEngine.length,
  };
}

/** But for those about classes and references that the sets define: the agent knows them. */
function warningsOf({ warnings }: TriedRules, given: readonly IndexedRule[]): string[] {
  const ownClasses = new Set(given.filter(({ ownClass }) => ownClass !== undefined).map(({ classtype }) => classtype));
  const ownTypes = new Set(given.flatMap(({ ownReferences = {} }) => Object.keys(ownReferences)));
  return warnings.filter((text) => {
    const [, classtype = '', type = ''] = /unknown (?:classtype: "([^"]*)"|reference key "([^"]*)")/.exec(text) ?? [];
    return !ownClasses.has(classtype) && !ownTypes.has(type.toLowerCase());
  });
}

function passed({
  gid,
  sid,
  file,
  line,
  reason,
}: Omit<PassedRule, 'signature'> & { gid: number; sid: number }): PassedRule {
  return { signature: `${gid}:${sid}`, file, line, reason };
}

/** `isLoss`: it is another rule, and not an earlier revision of the same. */
function droppedRules({ sets, loaded, seen }: Survey, names: readonly string[]) {
  const files = new Set(names.flatMap((name) => sets.get(name)?.files ?? []).map(({ path }) => path));
  const texts = new Map(seen.map(({ rule }) => [place(rule), rule.text]));
  return loaded.duplicates
    .filter(({ dropped }) => files.has(dropped.file))
    .map(({ gid, sid, kept, dropped }) => {
      const isSame = texts.get(place(kept)) === texts.get(place(dropped));
      const isLoss = kept.rev === dropped.rev && !isSame;
      const which = isSame
        ? 'the same rule'
        : isLoss
          ? 'another rule of the same revision'
          : `its revision ${kept.rev}`;
      return { gid, sid, ...dropped, isLoss, reason: `${which} is at ${place(kept)}, which is the one that is loaded` };
    });
}

function printFindings(found: Checked, by: string, names: readonly string[]): void {
  const colours = coloursOf(process.stdout);
  const { refused, skipped, dropped, waiting, warnings, engineWarnings } = found;
  const say = (label: string, text: string): void => printLine(`${label}  ${stripControls(text)}`);
  for (const problem of refused) say(colours.red(isRule(problem) ? 'refused' : 'no rule'), textOf(problem));
  for (const rule of dropped) say(colours.yellow('dropped'), textOfPassed(rule));
  for (const rule of skipped) say(colours.yellow('skipped'), textOfPassed(rule));
  for (const rule of waiting) say(colours.yellow('waits  '), textOfPassed(rule));
  for (const { line, reason } of warnings) say(colours.yellow('warning'), `${line}: ${reason}`);
  for (const text of engineWarnings) say(colours.yellow('warning'), text);
  printLine(
    `${found.accepted ? colours.green('ok') : colours.red('not ok')}  ${by} was given ${plural(found.rules, 'rule')} of ${names.join(', ')}: ` +
      `${countsOf(found).join(', ')}, in ${(found.millis / 1000).toFixed(1)} s`,
  );
}

function isRule({ reason }: RuleRefusal): boolean {
  return isOfRule({ line: 0, reason });
}

function textOf({ by, file, line, reason }: RuleRefusal): string {
  const at = file === undefined ? '' : `${line === undefined ? file : place({ file, line })}: `;
  return `${at}${reason}${by === 'translation' ? ' (not translated)' : ''}`;
}

function textOfPassed({ signature, reason, ...at }: PassedRule): string {
  return `${place(at)}: rule ${signature}: ${reason}`;
}

function countsOf({ refused, refusedRules, skipped, dropped }: Checked): string[] {
  const others = refused.filter((problem) => !isRule(problem)).length;
  return [
    `${grouped(refusedRules)} refused`,
    ...(skipped.length === 0 ? [] : [`${grouped(skipped.length)} skipped`]),
    ...(dropped.length === 0 ? [] : [`${grouped(dropped.length)} dropped`]),
    ...(others === 0 ? [] : [others === 1 ? '1 line is no rule' : `${grouped(others)} lines are no rules`]),
  ];
}
