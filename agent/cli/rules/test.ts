/** `dpi-agent rules test`: which rules fire on recorded packets, and how often. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Argv, CommandModule } from 'yargs';
import type { EngineInstall } from '../../engine/engine.ts';
import type { ReplaySummary } from '../../replay/replay.ts';
import { parseRules } from '../../rulesets/rule.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { isWhole, watchInterruption } from '../interrupt.ts';
import { createLog } from '../log.ts';
import { coloursOf, grouped, plural } from '../print.ts';
import { checkFiles, progressBar } from '../replay.ts';
import { loadRulesOnce, prepareInspection, readConfig, withClusterNetworks } from '../setup.ts';
import { replayAccepted, shortfalls, furtherText, type AcceptedReplay } from '../replay-accepted.ts';
import { OWN, printJson, printLine, RULES_FLAGS } from './common.ts';

interface TestArgv {
  pcap: string[];
  rule?: string[];
  progress: boolean;
  output: string;
}

/** Where a rule of the command line is without one. */
const FIRST_SID = 1_900_000_000;

export const command: CommandModule<object, TestArgv> = {
  command: 'test',
  describe: 'Which rules fire on recorded packets, and how often',
  builder: (args: Argv) =>
    args
      .options(RULES_FLAGS)
      .option('pcap', {
        type: 'string',
        array: true,
        nargs: 1,
        demandOption: true,
        describe: 'Capture file (repeatable)',
      })
      .option('rule', {
        type: 'string',
        array: true,
        nargs: 1,
        describe: 'Only this rule, without those of sets and files (repeatable)',
      })
      .option('progress', {
        type: 'boolean',
        default: true,
        describe: 'Progress bar on stderr, where that is a terminal',
      })
      .strict(false)
      .example('$0 rules test --pcap capture.pcap', 'the rules that are used')
      .example('$0 rules test --pcap a.pcap --pcap b.pcap --rules my.rules', 'with rules of your own')
      .example(
        `$0 rules test --pcap a.pcap --rule 'alert http (msg:"x"; content:"smk="; sid:1;)'`,
        'one rule',
      ) as unknown as Argv<TestArgv>,
  async handler(argv) {
    const files = argv.pcap.map(String);
    const own = await mkdtemp(join(tmpdir(), 'dpi-agent-test-'));
    try {
      await chmod(own, 0o711);
      await run(argv, files, own);
    } finally {
      await rm(own, { recursive: true, force: true });
    }
  },
};

async function run(argv: TestArgv, files: string[], own: string): Promise<void> {
  const config = await withClusterNetworks(readConfig(await flagsOf(argv, own), [...OWN, 'pcap', 'rule', 'progress']));
  const total = await checkFiles(files);
  const log = createLog(config);
  const inspection = await prepareInspection(config, log);
  const loaded = await loadRulesOnce(config, inspection.install, log);
  const bar = progressBar(argv, total);
  const interruption = watchInterruption(() => bar.stop());
  const tested = await replayAccepted(config, loaded, {
    ...inspection,
    output: config.engine.output,
    ...(total === undefined ? {} : { expectedBytes: total }),
    files,
    node: config.node,
    evidence: { payload: false, maxBytes: 0, rule: false },
    stop: interruption.stop,
    abandon: interruption.abandon,
    onProgress: bar.update,
    onEvent: () => undefined,
  });
  bar.stop();
  const { summary } = tested;
  const missing = shortfalls(summary);
  const isPart = interruption.abandon.aborted || !isWhole(summary) || missing.length > 0;
  const failed = isPart || summary.engineError !== undefined || summary.files.some(isDamaged);
  process.exitCode = failed ? EXIT.failed : EXIT.ok;
  for (const line of interruption.explain(summary)) process.stderr.write(`dpi-agent: ${line}\n`);
  for (const file of summary.files.filter(isDamaged)) process.stderr.write(`dpi-agent: ${damageOf(file)}\n`);
  for (const line of missing) process.stderr.write(`dpi-agent: ${stripControls(line)}\n`);
  if (summary.engineError !== undefined) process.stderr.write(`dpi-agent: ${summary.engineError.message}\n`);
  if (argv.output === 'json') printAsJson(tested, inspection.install);
  else printAsTable(tested);
}

/** The configuration's, with a rule of the command line in place of all others. */
async function flagsOf(argv: TestArgv, own: string): Promise<Record<string, unknown>> {
  const flags: Record<string, unknown> = { logLevel: 'warn', ...argv };
  if (argv.rule === undefined) return flags;
  if (Array.isArray(flags['rules'])) throw new CommandError('expected --rule or --rules, not both');
  const file = join(own, 'command-line.rules');
  await writeFile(file, argv.rule.map(withSid).join('\n'));
  // The sets that are only there for being there are not asked for either.
  return { ...flags, rules: [file], ruleSets: '', rulesDirectory: own, ruleChanges: join(own, 'none') };
}

type TestedFile = ReplaySummary['files'][number];

function isDamaged({ error, damageCount }: TestedFile): boolean {
  return error !== undefined || damageCount > 0;
}

function damageOf({ file, error, damages, damageCount }: TestedFile): string {
  const [first] = damages;
  const where = first === undefined ? '' : `, the first at offset ${first.offset}: ${first.reason}`;
  return stripControls(`${file}: ${error ?? `${damageCount} damaged places${where}`}`);
}

function firedOf({ summary, index }: AcceptedReplay) {
  return summary.signatures.map(({ gid, sid, rev, message, count }) => {
    const rule = index.get(`${gid}:${sid}`);
    return {
      signature: `${gid}:${sid}`,
      rev,
      message,
      count,
      ...(rule === undefined ? {} : { sets: rule.sets, file: rule.file, line: rule.line }),
    };
  });
}

function printAsJson(tested: AcceptedReplay, { name, version }: EngineInstall): void {
  const { summary, index, leftOut } = tested;
  printJson({
    engine: name,
    version,
    packets: summary.packets,
    alerts: summary.alerts,
    suppressed: Object.fromEntries(summary.suppressed),
    rules: index.size,
    leftOut,
    fired: firedOf(tested),
  });
}

function printAsTable(tested: AcceptedReplay): void {
  const { summary, index } = tested;
  const fired = firedOf(tested);
  const colours = coloursOf(process.stdout);
  if (fired.length > 0) printLine(colours.bold(`${'ALERTS'.padStart(9)}  ${'RULE'.padEnd(16)}  MESSAGE`));
  for (const { signature, rev, message, count } of fired) {
    printLine(
      `${grouped(count).padStart(9)}  ${`${signature}:${rev}`.padEnd(16)}  ${stripControls(message) || '(no text)'}`,
    );
  }
  printLine(
    `${grouped(fired.length)} of ${grouped(index.size)} rules fired, ${plural(summary.alerts, 'alert')}${furtherText(summary)}, in ${plural(summary.packets, 'packet')}`,
  );
}

/** A rule that is tried out needs no signature. @throws CommandError for what is no rule. */
function withSid(text: string, index: number): string {
  const problemOf = (rule: string): string | undefined => {
    const { rules, problems } = parseRules(rule, { file: '' });
    return problems[0]?.reason ?? (rules.length === 1 && rules[0]?.enabled === true ? undefined : 'expected one rule');
  };
  const completed = text.replace(/;?\s*\)\s*$/, `; sid:${FIRST_SID + index}; )`);
  for (const rule of [text, completed]) if (problemOf(rule) === undefined) return rule;
  throw new CommandError(`flag --rule: ${stripControls(problemOf(text) ?? '')}`);
}
