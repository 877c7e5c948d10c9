/**
 * A replay by the rules that the engine takes: what it refuses is left out and named, as an agent that runs does it.
 *
 * The engine is asked only where it ends before it has read anything: good rules are loaded once, not twice.
 */
import { createPolicy, type Policy } from '../alerts/policy.ts';
import { readPolicy } from '../alerts/policy-file.ts';
import type { Config } from '../config/load.ts';
import type { EngineRules } from '../engine/rules.ts';
import { messageOf } from '../files/errors.ts';
import { linkTypeText } from '../replay/link-names.ts';
import { replay, type ReplayOptions, type ReplaySummary } from '../replay/replay.ts';
import { engineRulesOf } from '../rulesets/open.ts';
import type { RuleIndex } from '../rulesets/sets.ts';
import { stripControls } from '../text.ts';
import { CommandError, EXIT } from './exit.ts';
import { grouped, plural } from './print.ts';
import { tryRules } from './try-rules.ts';

/** Rules that are named; the rest is counted. */
const MAX_NAMED = 20;

export interface LeftOutRule {
  file?: string;
  line?: number;
  reason: string;
}

export interface AcceptedReplay {
  summary: ReplaySummary;
  /** The rules by which it inspected. */
  index: RuleIndex;
  leftOut: LeftOutRule[];
}

/** The policy of `alerts.policy`, as `run` uses it. @throws CommandError that lists what is wrong with it. */
function policyOf({ alerts }: Config): { policy?: Policy } {
  if (alerts.policy === undefined) return {};
  const read = readPolicy(alerts.policy);
  if ('errors' in read) throw new CommandError(read.errors.join('\n'));
  const broken = (name: string, reason: string): void =>
    void process.stderr.write(
      `dpi-agent: an entry of the policy is not used: ${stripControls(`${name}: ${reason}`)}\n`,
    );
  return { policy: createPolicy(read, 0, broken) };
}

/** For the summary: what of the alerts is no event of its own. Empty where that is nothing. */
export function furtherText({ suppressed, repeated }: Pick<ReplaySummary, 'suppressed' | 'repeated'>): string {
  const repeats = repeated === 0 ? '' : `, ${grouped(repeated)} more for the body of a packet that fired`;
  if (suppressed.size === 0) return repeats;
  const total = [...suppressed.values()].reduce((sum, count) => sum + count, 0);
  const by = [...suppressed].map(([name, count]) => `${name}: ${grouped(count)}`).join(', ');
  return `${repeats}, ${grouped(total)} more suppressed by the policy (${by})`;
}

/** What keeps the alerts from being all that there are, for the user; nothing where that is nothing. */
export function shortfalls({ files, unparsable, unattributed }: ReplaySummary): string[] {
  const unread = files.filter(({ unsupportedTypes }) => unsupportedTypes.length > 0);
  return [
    ...unread.map(({ file, unsupported, unsupportedTypes }) => {
      const types = unsupportedTypes.map(linkTypeText).join(', ');
      return `${file}: ${plural(unsupported, 'packet is', 'packets are')} not inspected: no engine reads link type ${types}`;
    }),
    ...(unparsable > 0
      ? [`${plural(unparsable, 'piece')} of the engine's output ${unparsable === 1 ? 'was' : 'were'} not readable`]
      : []),
    ...(unattributed > 0
      ? [`${plural(unattributed, 'alert is', 'alerts are')} left out: their file can't be told`]
      : []),
  ];
}

/** @throws CommandError where the engine takes none of the rules, or the policy is none. */
export async function replayAccepted(
  config: Config,
  { index, engineRules }: { index: RuleIndex; engineRules: EngineRules },
  options: Omit<ReplayOptions, 'rules' | 'engineRules'>,
): Promise<AcceptedReplay> {
  const inspect = (rules: RuleIndex, given: EngineRules): Promise<ReplaySummary> =>
    replay({ ...options, ...policyOf(config), rules, engineRules: () => given });
  const asGiven = async (): Promise<ReplaySummary> => inspect(index, engineRules);
  if (!config.rulesLeaveOut) return asItIs(await asGiven(), index);
  // A rule that it skips makes no error, and what it would load in its place is not among those given.
  const first = mayBeReplaced(index) ? undefined : await asGiven();
  const isRefused = first?.engineError !== undefined && !first.started && !options.abandon.aborted;
  if (first !== undefined && !isRefused) return asItIs(first, index);

  const { taken, leftOut } = await acceptedOf(config, options, index);
  // What it does not name is not mended by a second try.
  if (leftOut.length === 0) return asItIs(first ?? (await asGiven()), index);
  if (taken.size === 0)
    throw new CommandError(`no rules: the engine takes none of them: ${described(leftOut)}`, EXIT.failed);
  const summary = await inspect(taken, await engineRulesOf(config, { index: taken }));
  return named({ summary, index: taken, leftOut });
}

function asItIs(summary: ReplaySummary, index: RuleIndex): AcceptedReplay {
  return named({ summary, index, leftOut: [...summary.skipped] });
}

/** Whether the engine may skip a rule that an earlier one of its signature would be loaded for. */
function mayBeReplaced(index: RuleIndex): boolean {
  return [...index.values()].some(({ earlier, staged }) => earlier !== undefined && /\brequires\s*:/.test(staged));
}

/** @throws CommandError with what the engine has against more than single rules. */
async function acceptedOf(
  config: Config,
  options: Parameters<typeof tryRules>[1],
  index: RuleIndex,
): Promise<Pick<AcceptedReplay, 'leftOut'> & { taken: RuleIndex }> {
  const names = new Set([...index.values()].flatMap(({ sets }) => sets));
  const { taken, failed, refused } = await tryRules(config, options, index, names).catch((error: unknown) => {
    throw new CommandError(messageOf(error), EXIT.failed);
  });
  const [unclear] = refused;
  if (unclear !== undefined) throw new CommandError(`${unclear.what} is refused: ${unclear.reason}`, EXIT.failed);
  const leftOut = failed.map(({ gid, sid, file, line, reason }) => ({
    file,
    line,
    reason: `rule ${gid}:${sid}: ${reason}`,
  }));
  return { taken, leftOut };
}

function named(taken: AcceptedReplay): AcceptedReplay {
  const { leftOut } = taken;
  for (const rule of leftOut.slice(0, MAX_NAMED)) process.stderr.write(`dpi-agent: left out: ${described([rule])}\n`);
  if (leftOut.length > MAX_NAMED)
    process.stderr.write(
      `dpi-agent: ${plural(leftOut.length - MAX_NAMED, 'more rule is', 'more rules are')} left out: dpi-agent rules check names them\n`,
    );
  return taken;
}

function described([rule]: readonly LeftOutRule[]): string {
  if (rule === undefined) return '';
  const { file, line, reason } = rule;
  return stripControls(file === undefined ? reason : `${file}:${line}: ${reason}`);
}
