/** `dpi-agent rules show`: a rule in plain words. */
import type { Argv, CommandModule } from 'yargs';
import type { EngineName } from '../../engine/engine.ts';
import { BUILT_IN_VOCABULARY, classOf, linkOf, loadVocabulary, type RuleVocabulary } from '../../rulesets/classes.ts';
import { priorityOf, ruleFacts, type RuleFacts } from '../../rulesets/enrich.ts';
import { explainRule, type Explanation } from '../../rulesets/explain.ts';
import type { RuleInfo } from '../../rulesets/rule.ts';
import type { SeenRule } from '../../rulesets/sets.ts';
import { severityOf } from '../../events/event.ts';
import { stripControls } from '../../text.ts';
import { levelOf } from '../../events/level.ts';
import { CommandError, EXIT } from '../exit.ts';
import { coloursOf, columnsOf, wrapWords, type Colours } from '../print.ts';
import { engineFolder, readConfig, withClusterNetworks } from '../setup.ts';
import { ENGINES, installedEngine, OWN, printJson, printLine, RULES_FLAGS, surveyRules, TITLES } from './common.ts';

interface ShowArgv {
  signatures: string[];
  text: boolean;
  output: string;
}

/** What an engine is given of a rule. */
interface EngineRule {
  given: boolean;
  /** Where it is another text than the file's: translated. */
  text?: string;
  /** Why it is not given. */
  reason?: string;
  /** Of a set with a file for each engine: the place of the other one's. */
  place?: string;
}

/** One rule at one place, or at the places that each engine has of it. */
export interface ShownRule {
  signature: string;
  rev: number;
  message: string;
  classtype: string;
  classText: string;
  /** 0 where nothing says. */
  priority: number;
  severity: number;
  explanation: Explanation;
  facts: RuleFacts;
  references: { reference: string; link?: string }[];
  set: string;
  file: string;
  line: number;
  enabled: boolean;
  /** Lines of the operator's changes that changed it. */
  changes: string[];
  /** What each engine is given of it. */
  engines: Partial<Record<EngineName, EngineRule>>;
  text: string;
}

export const command: CommandModule<object, ShowArgv> = {
  command: 'show <signatures..>',
  describe: 'What a rule says and looks for, in plain words',
  builder: (args: Argv) =>
    args
      .positional('signatures', { type: 'string', array: true, demandOption: true, describe: '21562 or 1:21562' })
      .options(RULES_FLAGS)
      .option('text', { type: 'boolean', default: false, describe: 'The rule as it stands, too' })
      .strict(false)
      .example('$0 rules show 21562', 'whatever generator it has')
      .example('$0 rules show 1:1000001 --text', 'with its text')
      .example('$0 rules show 21562 -o json | jq .[].facts.cves', 'its CVEs'),
  async handler(argv) {
    const config = await withClusterNetworks(readConfig({ ...argv }, [...OWN, 'signatures', 'text']));
    const wanted = argv.signatures.map((text) => {
      const [, gid, sid] = /^(?:(\d{1,10}):)?(\d{1,10})(?::\d{1,10})?$/.exec(text) ?? [];
      if (sid === undefined)
        throw new CommandError(`${JSON.stringify(stripControls(text))}: expected a signature such as 21562 or 1:21562`);
      return { gid: gid === undefined ? undefined : Number(gid), sid: Number(sid), text };
    });
    const install = await installedEngine(config);
    const vocabulary =
      install === undefined ? BUILT_IN_VOCABULARY : loadVocabulary(engineFolder(install), [config.rulesDirectory]);
    const surveys = await Promise.all(
      ENGINES.map((name) => surveyRules(config, name === install?.name ? install : { name })),
    );
    const shown: ShownRule[] = [];
    for (const { gid, sid, text } of wanted) {
      const places = new Map<string, ShownRule>();
      for (const [index, engine] of ENGINES.entries()) {
        for (const seen of surveys[index]?.seen ?? []) {
          if (seen.rule.sid !== sid || (gid ?? seen.rule.gid) !== seen.rule.gid) continue;
          const key = `${seen.rule.file}:${seen.rule.line}`;
          const entry = places.get(key) ?? describeRule(seen, vocabulary, config.ruleChanges);
          entry.engines[engine] = engineRuleOf(seen);
          places.set(key, entry);
        }
      }
      if (places.size === 0)
        throw new CommandError(`no rule ${text} is in any set; dpi-agent rules list shows them`, EXIT.failed);
      shown.push(...joined([...places.values()], install?.name ?? 'snort'));
    }
    if (argv.output === 'json') printJson(shown);
    else for (const [index, rule] of shown.entries()) print(rule, index > 0, argv.text);
  },
};

export function describeRule({ set, rule }: SeenRule, vocabulary: RuleVocabulary, changesFile: string): ShownRule {
  const priority = priorityOf(rule, vocabulary);
  return {
    signature: `${rule.gid}:${rule.sid}`,
    rev: rule.rev,
    message: rule.message,
    classtype: rule.classtype,
    classText: classOf(rule, vocabulary)?.text ?? '',
    priority,
    severity: severityOf(priority),
    explanation: explainRule(rule),
    facts: ruleFacts(rule, vocabulary),
    references: rule.references.map((reference) => {
      const link = linkOf(reference, vocabulary, rule.ownReferences);
      return { reference: `${reference.type},${reference.id}`, ...(link === undefined ? {} : { link }) };
    }),
    set,
    file: rule.file,
    line: rule.line,
    enabled: rule.enabled,
    changes: (rule.changes ?? []).map((line) => `${changesFile}:${line}`),
    engines: {},
    text: rule.text,
  };
}

/** A set with a file for each engine has one rule, not two: that of the engine which is installed. */
export function joined(shown: readonly ShownRule[], engine: EngineName): ShownRule[] {
  const result: ShownRule[] = [];
  const own = (rule: ShownRule): boolean => rule.engines[engine] !== undefined;
  for (const rule of shown.toSorted((a, b) => Number(own(b)) - Number(own(a)))) {
    const twin = result.find(
      (other) =>
        other.set === rule.set &&
        other.signature === rule.signature &&
        ENGINES.every((name) => (other.engines[name] === undefined) !== (rule.engines[name] === undefined)),
    );
    if (twin === undefined) result.push(rule);
    else {
      for (const name of ENGINES) {
        const entry = rule.engines[name];
        if (entry !== undefined) twin.engines[name] = { ...entry, place: `${rule.file}:${rule.line}` };
      }
    }
  }
  return result;
}

function engineRuleOf({ rule, outcome }: SeenRule): EngineRule {
  if (outcome.kind === 'enabled')
    return { given: true, ...(outcome.staged === rule.text ? {} : { text: outcome.staged }) };
  return { given: false, reason: outcome.kind === 'refused' ? outcome.reason : whyDisabled(rule) };
}

function whyDisabled(rule: RuleInfo): string {
  return rule.changes === undefined ? 'it is commented out' : 'it is turned off';
}

const WIDTH = 12;
const LEAST_TEXT = 30;

function print(shown: ShownRule, separate: boolean, withText: boolean): void {
  const colours = coloursOf(process.stdout);
  if (separate) printLine();
  for (const line of linesOf(shown, withText, colours, columnsOf(process.stdout))) printLine(line);
}

/** What is printed of a rule; all texts of it without control characters. The rule itself stays as it is written. */
export function linesOf(shown: ShownRule, withText: boolean, colours: Colours, columns = Infinity): string[] {
  const { facts, explanation, engines } = shown;
  const lines: string[] = [];
  const row = (label: string, ...texts: string[]): void => {
    const parts = texts.flatMap((text) => wrapWords(stripControls(text), Math.max(columns - WIDTH, LEAST_TEXT)));
    for (const [index, text] of parts.entries()) {
      lines.push(`${colours.dim((index === 0 ? label : '').padEnd(WIDTH))}${text}`);
    }
  };
  const severe = shown.priority === 1 ? colours.red : shown.priority === 2 ? colours.yellow : colours.cyan;
  lines.push(
    `${colours.bold(`${shown.signature}:${shown.rev}`)}  ${severe(stripControls(shown.message) || '(no text)')}`,
  );
  row(
    'class',
    ...(shown.classtype === '' ? [] : [`${shown.classtype}${shown.classText === '' ? '' : `: ${shown.classText}`}`]),
  );
  const priority = shown.priority === 0 ? '' : `, priority ${shown.priority}`;
  row('severity', `${levelOf(shown.severity)} (${shown.severity}${priority})`);
  row('traffic', explanation.traffic);
  row('direction', ...(explanation.direction === undefined ? [] : [explanation.direction]));
  row('services', ...(explanation.services.length === 0 ? [] : [explanation.services.join(', ')]));
  row('looks for', ...explanation.looksFor);
  row('cve', ...(facts.cves.length === 0 ? [] : [facts.cves.join(', ')]));
  const attack = [...facts.mitreIds, ...(facts.mitreTactic === undefined ? [] : [facts.mitreTactic])].join(', ');
  row(
    'mitre',
    ...(attack === '' ? [] : [`${attack}${facts.mitreSource === 'class' ? ' (follows from the class)' : ''}`]),
  );
  row('to do', ...facts.mitigations);
  row('references', ...shown.references.map(({ reference, link }) => link ?? reference));
  row('set', shown.set);
  row('file', `${shown.file}:${shown.line}`);
  row('changed by', ...shown.changes);
  for (const engine of ENGINES) {
    const entry = engines[engine];
    if (entry === undefined) row(engine, `${TITLES[engine]} does not get this file`);
    else if (entry.given)
      row(
        engine,
        `gets it${entry.text === undefined ? '' : ', translated'}${entry.place === undefined ? '' : `, as ${entry.place} has it`}`,
      );
    else row(engine, `does not get it: ${entry.reason ?? ''}${entry.place === undefined ? '' : `, in ${entry.place}`}`);
  }
  if (withText) {
    lines.push('', ...shown.text.split('\n').map(stripControls));
    const translated = engines.suricata?.text;
    if (translated !== undefined) lines.push('', ...translated.split('\n').map(stripControls));
  }
  return lines;
}
