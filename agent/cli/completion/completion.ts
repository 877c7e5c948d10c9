/** What there is to complete at each command, whatever the shell. */
import type { Flag, Manual } from '../manual.ts';

export interface Completion {
  /** Every command, the program itself first. */
  places: Place[];
  /** Keys of the configuration, which are flags of all commands that take one. */
  keys: string[];
}

/** One command. */
export interface Place {
  /** `rules show`; empty for the program. */
  path: string;
  commands: { name: string; text: string }[];
  flags: CompletedFlag[];
  takesConfig: boolean;
  /** What its arguments may be; undefined: anything. */
  arguments?: Values;
}

export interface CompletedFlag {
  name: string;
  alias?: string;
  text: string;
  /** Absent where none follows. */
  value?: Values;
}

/** `any`: nothing is known of it. */
export type Values = readonly string[] | 'files' | 'any';

const FILES = new Set([
  'config',
  'file',
  'files',
  'from',
  'kubeconfig',
  'new',
  'old',
  'pcap',
  'ruleChanges',
  'rules',
  'socket',
]);

export function completionOf(manual: Manual, keys: readonly string[]): Completion {
  return { places: placesOf(manual), keys: [...keys] };
}

function placesOf(manual: Manual): Place[] {
  const { path, commands, flags, positionals } = manual;
  const [first] = positionals;
  const place: Place = {
    path: path.join(' '),
    commands: commands.map((command) => ({ name: command.path.at(-1) ?? '', text: plain(command.describe) })),
    flags: flags.map(completedFlag),
    takesConfig: flags.some(({ name }) => name === 'config'),
    ...(first === undefined ? {} : { arguments: valuesOf(first) }),
  };
  return [place, ...commands.flatMap(placesOf)];
}

function completedFlag(flag: Flag): CompletedFlag {
  const { name, alias, describe, type } = flag;
  return {
    name,
    ...(alias === undefined ? {} : { alias }),
    text: plain(describe),
    ...(type === 'none' || type === 'boolean' ? {} : { value: valuesOf(flag) }),
  };
}

function valuesOf({ name, choices }: Flag): Values {
  return choices ?? (FILES.has(name) || name.endsWith('.directory') ? 'files' : 'any');
}

/** In one line, and without what a shell would take for its own within quotes. */
function plain(text: string): string {
  return text.replaceAll(/['"`$\\[\]]/g, '').replaceAll(':', ' -');
}

/** All words that lead to commands, by the path before them: `rules` → list, show, … */
export function steps({ places }: Completion): { before: string; name: string }[] {
  return places.flatMap(({ path, commands }) => commands.map(({ name }) => ({ before: path, name })));
}

export const joined = (before: string, name: string): string => (before === '' ? name : `${before} ${name}`);
