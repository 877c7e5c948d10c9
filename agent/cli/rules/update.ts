/** `dpi-agent rules update`: rule sets from where they are published, or from files; also as an init container. */
import cliProgress from 'cli-progress';
import type { Argv, CommandModule } from 'yargs';
import { parseDuration, parseSize } from '../../config/leaves.ts';
import type { Config } from '../../config/load.ts';
import type { EngineInstall } from '../../engine/engine.ts';
import { UpdateError } from '../../rulesets/fetch.ts';
import { COMMUNITY_URL, requestOf, setOf, type RuleSource, type SourceRequest } from '../../rulesets/sources.ts';
import { isPinned, releasePin, updateSet, type UpdateResult } from '../../rulesets/update.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { grouped, plural } from '../print.ts';
import { readConfig, withClusterNetworks } from '../setup.ts';
import { version } from '../version.ts';
import { installedEngine, neededEngine, OWN, printJson, printLine, RULES_FLAGS, setNamed } from './common.ts';
import { rollBackSet } from './rollback.ts';
import { useLines, useOfSets, useSets, type SetUse } from './use.ts';
import { checkVersion } from './version-check.ts';

interface UpdateArgv {
  sources?: string[];
  from?: string;
  set?: string;
  checksum?: string;
  check: boolean;
  use: boolean;
  'max-size': string;
  timeout: string;
  rollback: boolean;
  output: string;
  config?: string;
}

const { config, engine, output } = RULES_FLAGS;
const NOT_OF_CONFIG = OWN.concat(
  'sources',
  'from',
  'set',
  'checksum',
  'check',
  'use',
  'maxSize',
  'timeout',
  'rollback',
);

export const command: CommandModule<object, UpdateArgv> = {
  command: 'update [sources..]',
  describe: 'Download rule sets, let the engine load them, and put them in place',
  builder: (args: Argv) =>
    args
      .positional('sources', {
        type: 'string',
        array: true,
        describe: 'Sources of the configuration (ruleSources); default: all, or the Snort 3 community rules',
      })
      .options({ config, engine, output })
      .option('from', { type: 'string', describe: 'URL or file: .tar.gz, .tar, .zip, .rules, .rules.gz' })
      .option('set', { type: 'string', describe: 'The rule set that it becomes [community]' })
      .option('checksum', { type: 'string', describe: 'sha256:… or md5:…; default: what is published beside it' })
      .option('check', { type: 'boolean', default: true, describe: 'Let the engine load it before it goes live' })
      .option('use', {
        type: 'boolean',
        default: false,
        describe: 'Add what was updated to ruleSets of the configuration file',
      })
      .option('max-size', { type: 'string', default: '64MiB', describe: 'Most that is downloaded' })
      .option('timeout', { type: 'string', default: '5m', describe: 'Most that the download may take' })
      .option('rollback', { type: 'boolean', default: false, describe: 'As rules rollback' })
      .strict(false)
      .example('$0 rules update', 'all sources of the configuration; without any, the Snort 3 community rules')
      .example('$0 rules update -c dpi-agent.yaml --use', 'and let the configuration load what was updated')
      .example('$0 rules update --from rules.tar.gz --checksum sha256:…', 'from a file')
      .example(
        '$0 rules update --from https://mirror/own.rules --set own --no-check',
        'without an engine, as in an init container',
      ) as unknown as Argv<UpdateArgv>,
  handler: update,
};

/** What is to be updated: a source of the configuration, or what the flags name. */
interface Job {
  name: string;
  set: string;
  /** Nobody asked for this one by name: what was rolled back stays. */
  isOneOfAll: boolean;
  request(install: EngineInstall | undefined): Promise<SourceRequest>;
}

type Outcome =
  ({ is: 'updated'; notes: string[] } & UpdateResult) | { is: 'pinned' } | { is: 'failed'; reason: string };

async function update(argv: UpdateArgv): Promise<void> {
  const configuration = await withClusterNetworks(readConfig({ logLevel: 'warn', ...argv }, NOT_OF_CONFIG));
  const isJson = argv.output === 'json';
  const jobs = jobsOf(argv, configuration);
  if (argv.rollback) {
    const [only] = jobs;
    if (only === undefined || jobs.length > 1) throw new CommandError('flag --rollback: name one source, or --set');
    return rollBackSet(configuration.rulesDirectory, only.set, isJson);
  }
  const stopping = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort());
  const install = argv.check ? await neededEngine(configuration) : await installedEngine(configuration);
  const given = { configuration, install, check: argv.check, signal: stopping.signal };
  const done: { job: Job; outcome: Outcome }[] = [];
  for (const job of jobs) {
    const outcome = await run(job, given);
    done.push({ job, outcome });
    if (!isJson) print(job, outcome);
  }
  if (done.some(({ outcome }) => outcome.is !== 'failed')) await report(done, argv, given);
  endWithFailures(done);
}

type Done = readonly { job: Job; outcome: Outcome }[];

/** What is loaded now, and what is not. */
async function report(done: Done, argv: UpdateArgv, { configuration, install }: Given): Promise<void> {
  const updated = done.filter(({ outcome }) => outcome.is === 'updated').map(({ job }) => job.set);
  if (argv.use && updated.length > 0) await useSets(configuration, argv.config, updated);
  const ruleSets = argv.use ? [...new Set([...configuration.ruleSets, ...updated])] : configuration.ruleSets;
  const use = await useOfSets({ ...configuration, ruleSets }, install?.name ?? 'snort');
  if (argv.output === 'json') printAll(done, use);
  else for (const line of useLines(use, argv.config)) printLine(stripControls(line));
}

/** @throws CommandError for what was not asked for rightly. */
function jobsOf(argv: UpdateArgv, { ruleSources }: Config): Job[] {
  const { sources = [], from, set, checksum } = argv;
  const isOfFlags = (from ?? set ?? checksum) !== undefined;
  if (sources.length > 0 && isOfFlags) throw new CommandError('expected names of sources, or --from and --set');
  if (sources.length > 0) return sources.map((name) => jobOf(sourceNamed(name, ruleSources), false));
  if (ruleSources.length > 0 && !isOfFlags) return ruleSources.map((source) => jobOf(source, true));
  return [jobOfFlags(argv)];
}

function sourceNamed(name: string, sources: Config['ruleSources']): RuleSource {
  const source = sources.find((each) => each.name === name);
  if (source !== undefined) return source;
  const known = sources.map((each) => each.name).join(', ') || 'none';
  throw new CommandError(
    `there is no source ${JSON.stringify(stripControls(name))} in ruleSources; there is: ${known}`,
  );
}

function jobOf(source: RuleSource, isOneOfAll: boolean): Job {
  return {
    name: source.name,
    set: setOf(source),
    isOneOfAll,
    request: (install) => requestOf(source, install),
  };
}

function jobOfFlags(argv: UpdateArgv): Job {
  const set = setNamed('flag --set', argv.set ?? 'community');
  const maxBytes = parseSize(argv['max-size']);
  const timeoutMillis = parseDuration(argv.timeout);
  if (maxBytes === undefined || maxBytes < 1 || maxBytes > 1 << 30)
    throw wrong('max-size', argv['max-size'], 'a size up to 1GiB');
  if (timeoutMillis === undefined || timeoutMillis < 1 || timeoutMillis > 3_600_000) {
    throw wrong('timeout', argv.timeout, 'a time up to 1h, such as 5m');
  }
  const { from = COMMUNITY_URL, checksum } = argv;
  const request = { set, from, ...(checksum === undefined ? {} : { checksum }), maxBytes, timeoutMillis };
  return { name: set, set, isOneOfAll: false, request: async () => request };
}

interface Given {
  configuration: Config;
  install: EngineInstall | undefined;
  check: boolean;
  signal: AbortSignal;
}

async function run(job: Job, { configuration, install, check, signal }: Given): Promise<Outcome> {
  const { rulesDirectory } = configuration;
  if (job.isOneOfAll && (await isPinned(rulesDirectory, job.set))) return { is: 'pinned' };
  const bar = progressBar();
  const notes: string[] = [];
  try {
    const result = await updateSet({
      ...(await job.request(install)),
      rulesDirectory,
      userAgent: `dpi-agent/${version()}`,
      signal,
      again: true,
      onProgress: bar.update,
      async check(directory) {
        bar.stop();
        if (check && install !== undefined)
          notes.push(...(await checkVersion(configuration, install, job.set, directory)));
      },
    });
    // Who asks for it by name wants the newest from now on.
    await releasePin(rulesDirectory, job.set);
    return { is: 'updated', ...result, notes };
  } catch (error) {
    if (error instanceof UpdateError) return { is: 'failed', reason: error.message };
    throw error;
  } finally {
    bar.stop();
  }
}

function print({ name, set }: Job, outcome: Outcome): void {
  if (outcome.is === 'failed') return;
  if (outcome.is === 'pinned') {
    printLine(`${set}: stays as it is, it was rolled back: dpi-agent rules update ${name} takes the newest again`);
    return;
  }
  for (const note of outcome.notes) process.stderr.write(`dpi-agent: ${stripControls(note)}\n`);
  printLine(
    `${set}: version ${outcome.version}, ${plural(outcome.rules, 'rule')}, ` +
      (outcome.problems > 0
        ? `${plural(outcome.problems, 'place')} that ${outcome.problems === 1 ? 'is' : 'are'} none, `
        : '') +
      (outcome.verified === 'none' ? 'no checksum published' : `${outcome.verified} verified`) +
      (outcome.changed ? '' : '; it was in use already'),
  );
}

/** Of one, its own keys; of several, a list. */
function printAll(done: Done, use: SetUse): void {
  const all = done.map(({ job: { name, set }, outcome: { is, ...rest } }) => ({
    source: name,
    set,
    outcome: is,
    ...rest,
  }));
  const [only] = all;
  if (all.length !== 1 || only === undefined) printJson({ updates: all, ...use });
  else {
    const { source: _, ...rest } = only;
    printJson({ ...rest, ...use });
  }
}

/** @throws CommandError with all that failed. */
function endWithFailures(done: Done): void {
  const reasons = done.flatMap(({ outcome }) => (outcome.is === 'failed' ? [outcome.reason] : []));
  if (reasons.length === 0) return;
  const isUsage = reasons.every((reason) => reason.startsWith('flag '));
  throw new CommandError(reasons.join('\n'), isUsage ? EXIT.usage : EXIT.failed);
}

function wrong(flag: string, value: string, expected: string): CommandError {
  return new CommandError(`flag --${flag}: ${JSON.stringify(stripControls(value))}: expected ${expected}`);
}

/** On a terminal only: an init container's log has one line. */
function progressBar(): { update: (bytes: number, total: number | undefined) => void; stop: () => void } {
  if (!process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  let bar: cliProgress.SingleBar | undefined;
  return {
    update(bytes, total) {
      if (bar === undefined) {
        const format = total === undefined ? 'download {read} KB' : 'download {bar} {percentage}% | {read} KB';
        bar = new cliProgress.SingleBar(
          { format, stream: process.stderr, hideCursor: true, clearOnComplete: true },
          cliProgress.Presets.shades_classic,
        );
        bar.start(Math.max(total ?? 1, 1), 0, { read: '0' });
      }
      bar.update(total === undefined ? 0 : Math.min(bytes, total), { read: grouped(Math.round(bytes / 1000)) });
    },
    stop() {
      bar?.stop();
      bar = undefined;
    },
  };
}
