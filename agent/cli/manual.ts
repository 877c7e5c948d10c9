/**
 * What each command takes, as its builder declares it: the one source of --help, the manual page and completion.
 *
 * A builder is run on a recorder in place of yargs, which has no public way to be asked what it was told. The recorder
 * has the methods that builders of this project use, and no others.
 */
import type { Argv, CommandModule, Options, PositionalOptions } from 'yargs';
import { COMMANDS } from './commands.ts';

export interface Flag {
  name: string;
  /** One letter. */
  alias?: string;
  describe: string;
  type: 'string' | 'boolean' | 'array' | 'none';
  choices?: readonly string[];
  default?: string;
  required: boolean;
}

export interface Manual {
  /** `['rules', 'show']`; empty for the program itself. */
  path: readonly string[];
  /** `rules show <signatures..>` */
  usage: string;
  describe: string;
  positionals: Flag[];
  flags: Flag[];
  commands: Manual[];
  examples: { command: string; text: string }[];
  epilogue?: string;
}

export const PROGRAM = 'dpi-agent';

export const EPILOGUE =
  'Exit codes: 0 done, 1 done in part or failed, 2 wrong arguments, configuration or input. ' +
  'Every key of the configuration is also a flag (--capture.ringSize 4MiB) and an environment variable ' +
  '(DPI_AGENT_CAPTURE_RING_SIZE); docs/configuration.md lists them.';

const OWN_FLAGS: Flag[] = [
  { name: 'help', alias: 'h', describe: 'Show help', type: 'none', required: false },
  { name: 'version', alias: 'v', describe: 'Show version number', type: 'none', required: false },
];

/** Only the commands' names, without what they take. */
export function listedManual(): Manual {
  return programManual(
    Object.entries(COMMANDS).map(([name, { describe }]) => ({
      ...empty(),
      path: [name],
      usage: name,
      describe,
    })),
  );
}

/** With all that all commands take. Loads them all. */
export async function wholeManual(): Promise<Manual> {
  const commands: Manual[] = [];
  for (const name of Object.keys(COMMANDS) as (keyof typeof COMMANDS)[]) commands.push(await manualOf(name));
  return programManual(commands);
}

/** Of one command. */
export async function manualOf(name: keyof typeof COMMANDS): Promise<Manual> {
  const { describe, load } = COMMANDS[name];
  const { command } = await load();
  return describeCommand({ ...(command as CommandModule), describe }, []);
}

function programManual(commands: Manual[]): Manual {
  const describe = 'Inspects the traffic of chosen pods with Snort 3 or Suricata and writes security events.';
  return { ...empty(), path: [], usage: '<command>', describe, flags: OWN_FLAGS, commands, epilogue: EPILOGUE };
}

function describeCommand({ command, describe, builder }: CommandModule, parent: readonly string[]): Manual {
  const usage = [...parent, String(command)].join(' ');
  const path = [...parent, String(command).split(' ')[0] ?? ''];
  const manual: Manual = { ...empty(), path, usage, describe: String(describe) };
  if (typeof builder === 'function') void builder(recorderOf(manual) as unknown as Argv);
  manual.flags.push(...OWN_FLAGS);
  return manual;
}

function empty(): Pick<Manual, 'positionals' | 'flags' | 'commands' | 'examples'> {
  return { positionals: [], flags: [], commands: [], examples: [] };
}

/** What a builder calls. */
interface Recorder {
  option(name: string, options: Options): Recorder;
  options(options: Record<string, Options>): Recorder;
  positional(name: string, options: PositionalOptions): Recorder;
  command(module: CommandModule): Recorder;
  example(command: string, text: string): Recorder;
  epilogue(text: string): Recorder;
  conflicts(): Recorder;
  demandCommand(): Recorder;
  strict(): Recorder;
}

function recorderOf(manual: Manual): Recorder {
  const recorder: Recorder = {
    option(name, options) {
      manual.flags.push(flagOf(name, options));
      return recorder;
    },
    options(options) {
      for (const [name, option] of Object.entries(options)) manual.flags.push(flagOf(name, option));
      return recorder;
    },
    positional(name, options) {
      manual.positionals.push(flagOf(name, options));
      return recorder;
    },
    command(module) {
      manual.commands.push(describeCommand(module, manual.path));
      return recorder;
    },
    example(command, text) {
      manual.examples.push({ command: command.replace('$0', PROGRAM), text });
      return recorder;
    },
    epilogue(text) {
      manual.epilogue = text;
      return recorder;
    },
    // What the manual does not tell.
    conflicts: () => recorder,
    demandCommand: () => recorder,
    strict: () => recorder,
  };
  return recorder;
}

function flagOf(name: string, options: Options | PositionalOptions): Flag {
  const { alias, describe = '', type, array, choices, default: fallback, demandOption } = options;
  return {
    name,
    ...(typeof alias === 'string' ? { alias } : {}),
    describe,
    type: type === 'boolean' ? 'boolean' : array === true ? 'array' : 'string',
    ...(choices === undefined ? {} : { choices: choices.map(String) }),
    ...(fallback === undefined ? {} : { default: String(fallback) }),
    required: demandOption === true,
  };
}

/** The innermost command that words of a command line name. */
export function commandOf(manual: Manual, words: readonly string[]): Manual {
  for (const [index, word] of words.entries()) {
    const next = manual.commands.find(({ path }) => path.at(-1) === word);
    if (next !== undefined) return commandOf(next, words.slice(index + 1));
  }
  return manual;
}
