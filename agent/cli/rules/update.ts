/** `dpi-agent rules update`: a rule set from where it is published, or from a file; also as an init container. */
import cliProgress from 'cli-progress';
import type { Argv, CommandModule } from 'yargs';
import { findRuleFiles } from '../../rulesets/files.ts';
import { loadWithChanges } from '../../rulesets/open.ts';
import { SET_NAME } from '../../rulesets/sets.ts';
import { COMMUNITY_URL, rollBack, UpdateError, updateSet } from '../../rulesets/update.ts';
import { parseDuration, parseSize } from '../../config/leaves.ts';
import type { Config } from '../../config/load.ts';
import { planSandbox } from '../../engine/sandbox.ts';
import { messageOf } from '../../files/errors.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { grouped } from '../print.ts';
import { createDriver, place, readConfig, withClusterNetworks } from '../setup.ts';
import { tryRules } from '../tried.ts';
import { version } from '../version.ts';
import { neededEngine, OWN, printJson, RULES_FLAGS, TITLES } from './common.ts';

interface UpdateArgv {
  from: string;
  set: string;
  checksum?: string;
  check: boolean;
  'max-size': string;
  timeout: string;
  rollback: boolean;
  output: string;
}

const { config, engine, output } = RULES_FLAGS;
const NOT_OF_CONFIG = [...OWN, 'from', 'set', 'checksum', 'check', 'maxSize', 'timeout', 'rollback'];
/** Refused rules that are listed; the rest is counted. */
const MAX_REFUSED_LISTED = 10;

export const command: CommandModule<object, UpdateArgv> = {
  command: 'update',
  describe: 'Download a rule set, let the engine load it, and put it in place',
  builder: (args: Argv) =>
    args
      .options({ config, engine, output })
      .option('from', {
        type: 'string',
        default: COMMUNITY_URL,
        describe: 'URL or file: .tar.gz, .tar, .zip, .rules, .rules.gz',
      })
      .option('set', { type: 'string', default: 'community', describe: 'The rule set that it becomes' })
      .option('checksum', { type: 'string', describe: 'sha256:… or md5:…; default: what is published beside it' })
      .option('check', { type: 'boolean', default: true, describe: 'Let the engine load it before it goes live' })
      .option('max-size', { type: 'string', default: '64MiB', describe: 'Most that is downloaded' })
      .option('timeout', { type: 'string', default: '5m', describe: 'Most that the download may take' })
      .option('rollback', { type: 'boolean', default: false, describe: 'Back to the version before, without download' })
      .strict(false)
      .example('$0 rules update', 'the Snort 3 community rules, as the set community')
      .example('$0 rules update --from rules.tar.gz --checksum sha256:…', 'from a file')
      .example(
        '$0 rules update --from https://mirror/own.rules --set own --no-check',
        'without an engine, as in an init container',
      )
      .example('$0 rules update --rollback', 'the version before') as unknown as Argv<UpdateArgv>,
  handler: update,
};

async function update(argv: UpdateArgv): Promise<void> {
  const configuration = await withClusterNetworks(readConfig({ logLevel: 'warn', ...argv }, NOT_OF_CONFIG));
  const { rulesDirectory } = configuration;
  const { set } = argv;
  if (!SET_NAME.test(set) || set === 'custom') {
    throw new CommandError(
      `flag --set: ${JSON.stringify(stripControls(set))}: expected a name of a-z, 0-9 and "-", not custom`,
    );
  }
  const json = argv.output === 'json';
  try {
    if (argv.rollback) {
      const former = await rollBack(rulesDirectory, set);
      if (json) printJson({ set, ...former, changed: true });
      else process.stdout.write(`${set}: back to version ${former.version}, ${grouped(former.rules)} rules\n`);
      return;
    }
    const maxBytes = parseSize(argv['max-size']);
    const timeoutMillis = parseDuration(argv.timeout);
    if (maxBytes === undefined || maxBytes < 1 || maxBytes > 1 << 30)
      throw wrong('max-size', argv['max-size'], 'a size up to 1GiB');
    if (timeoutMillis === undefined || timeoutMillis < 1 || timeoutMillis > 3_600_000) {
      throw wrong('timeout', argv.timeout, 'a time up to 1h, such as 5m');
    }
    const stopping = new AbortController();
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort());
    const bar = progressBar();
    const install = argv.check ? await neededEngine(configuration) : undefined;
    const notes: string[] = [];
    const result = await updateSet({
      rulesDirectory,
      set,
      from: argv.from,
      ...(argv.checksum === undefined ? {} : { checksum: argv.checksum }),
      maxBytes,
      timeoutMillis,
      userAgent: `dpi-agent/${version()}`,
      signal: stopping.signal,
      onProgress: bar.update,
      async check(directory) {
        bar.stop();
        if (install === undefined) return;
        notes.push(...(await checkVersion(configuration, install, set, directory)));
      },
    }).finally(() => bar.stop());
    for (const note of notes) process.stderr.write(`dpi-agent: ${stripControls(note)}\n`);
    if (json) printJson({ set, ...result, notes });
    else {
      process.stdout.write(
        `${set}: version ${result.version}, ${grouped(result.rules)} rules, ` +
          (result.problems > 0 ? `${grouped(result.problems)} places that are none, ` : '') +
          (result.verified === 'none' ? 'no checksum published' : `${result.verified} verified`) +
          (result.changed ? '\n' : '; it was in use already\n'),
      );
    }
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    throw new CommandError(error.message, error.message.startsWith('flag ') ? EXIT.usage : EXIT.failed);
  }
}

function wrong(flag: string, value: string, expected: string): CommandError {
  return new CommandError(`flag --${flag}: ${JSON.stringify(stripControls(value))}: expected ${expected}`);
}

/** A version goes live unless the engine can load nothing of it, or refuses more than a tenth. @throws UpdateError */
async function checkVersion(
  configuration: Config,
  install: Awaited<ReturnType<typeof neededEngine>>,
  set: string,
  directory: string,
): Promise<string[]> {
  const paths = await findRuleFiles(directory);
  const files = paths.map((path) => ({ path, syntax: 'either' as const, root: directory }));
  const loaded = await loadWithChanges(configuration, install.name, [{ name: set, files }]);
  const sandbox = await planSandbox(String(configuration.engine.user), configuration.engine.isolateNetwork);
  const driver = createDriver(configuration, install);
  const title = `${TITLES[install.name]} ${install.version}`;
  const tried = await tryRules(configuration, { install, driver, sandbox }, loaded.index, [set]).catch(
    (error: unknown) => {
      throw new UpdateError(`${title} does not load it: ${messageOf(error)}`);
    },
  );
  const [unclear] = tried.refused;
  if (unclear !== undefined) throw new UpdateError(`${title} does not load it: ${unclear.what}: ${unclear.reason}`);
  const shorter = (file: string): string => file.slice(directory.length + 1);
  const refused = tried.failed.filter(({ skipped }) => !skipped);
  const skipped = tried.failed.length - refused.length;
  const list = refused
    .slice(0, MAX_REFUSED_LISTED)
    .map(({ file, line, reason }) => `${title} refuses ${place({ file: shorter(file), line })}: ${reason}`);
  if (refused.length > list.length) list.push(`${title} refuses ${grouped(refused.length)} in all`);
  if (refused.length * 10 > loaded.index.size) {
    throw new UpdateError(
      [
        `${title} refuses ${grouped(refused.length)} of ${grouped(loaded.index.size)} rules: it stays as it was`,
        ...list,
      ].join('\n'),
    );
  }
  if (skipped > 0) list.push(`${title} skips ${grouped(skipped)} rules for what they require: rules check names them`);
  return list;
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
