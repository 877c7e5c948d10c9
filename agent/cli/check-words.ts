/**
 * Commands and flags with a typing mistake, before yargs or the configuration, which know no names beside their own.
 */
import { nearest } from '../config/nearest.ts';
import { stripControls } from '../text.ts';
import { CommandError } from './exit.ts';
import type { Manual } from './manual.ts';

/**
 * @param manual Of the command that the words name.
 * @throws CommandError that says what may have been meant.
 */
export async function checkWords(manual: Manual, words: readonly string[]): Promise<void> {
  checkCommand(manual, words);
  if (manual.path.length > 0) await checkFlags(manual, words);
}

/** @throws CommandError that says what may have been meant. */
export function checkCommand({ path, commands }: Manual, words: readonly string[]): void {
  const behind = words.slice(path.length === 0 ? 0 : words.indexOf(path.at(-1) ?? '') + 1);
  // What stands behind a flag may be its value.
  const word = behind.find((one, index) => !one.startsWith('-') && behind[index - 1]?.startsWith('-') !== true);
  if (word === undefined) return;
  const meant = nearest(
    word,
    commands.map((command) => command.path.at(-1) ?? ''),
  );
  // Whether a word is an argument of a command, yargs knows.
  if (meant === undefined && path.length > 0) return;
  const before = path.map((name) => `${name} `).join('');
  const advice = meant === undefined ? 'dpi-agent --help lists them' : `did you mean ${before}${meant}?`;
  throw new CommandError(`there is no command ${stripControls(before + word)}; ${advice}`);
}

async function checkFlags({ flags }: Manual, words: readonly string[]): Promise<void> {
  const known = new Set(flags.flatMap(spellings));
  const unknown = words.flatMap((word) => {
    const [, name] = /^--([^=]+)/.exec(word) ?? [];
    return name === undefined || known.has(name) ? [] : [name];
  });
  if (unknown.length === 0) return;
  const { isKnownKey } = await import('../config/load.ts');
  const errors = unknown.flatMap((name) => {
    const meant = isKnownKey(name) ? undefined : nearest(name, known);
    return meant === undefined ? [] : [`there is no flag --${stripControls(name)}; did you mean --${meant}?`];
  });
  if (errors.length > 0) throw new CommandError(errors.join('\n'));
}

/** As yargs takes it. */
function spellings({ name, type }: Manual['flags'][number]): string[] {
  const camel = name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return type === 'boolean' ? [name, camel, `no-${name}`] : [name, camel];
}
