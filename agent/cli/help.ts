/** `--help` of a command. Examples can be copied: a line that has to be broken ends with a backslash. */
import { wrapWords } from './print.ts';
import { PROGRAM, type Flag, type Manual } from './manual.ts';

const MOST_COLUMNS = 110;
/** What stands before the text of a flag or a command is at most this long; else the text begins on the next line. */
const MOST_TERM = 32;

/** @param columns What there is room for. */
export function helpText(manual: Manual, columns: number): string {
  const width = Math.min(columns, MOST_COLUMNS);
  const { usage, describe, commands, positionals, flags, examples, epilogue } = manual;
  const sections = [
    [`${PROGRAM} ${usage}`],
    wrapWords(describe, width),
    titled(
      'Commands:',
      listed(
        commands.map((command) => [`${PROGRAM} ${command.usage}`, command.describe]),
        width,
      ),
    ),
    titled(
      'Arguments:',
      listed(
        positionals.map((flag) => [flag.name, textOf(flag)]),
        width,
      ),
    ),
    titled(
      'Options:',
      listed(
        flags.map((flag) => [termOf(flag), textOf(flag)]),
        width,
      ),
    ),
    titled(
      'Examples:',
      examples.flatMap((example) => exampleLines(example, width)),
    ),
    epilogue === undefined ? [] : wrapWords(epilogue, width),
  ];
  return `${sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join('\n'))
    .join('\n\n')}\n`;
}

function titled(title: string, lines: string[]): string[] {
  return lines.length === 0 ? [] : [title, ...lines];
}

/** `-c, --config` */
function termOf({ name, alias }: Flag): string {
  return `${alias === undefined ? '    ' : `-${alias}, `}--${name}`;
}

function textOf({ describe, type, choices, default: fallback, required }: Flag): string {
  const isOff = type === 'boolean' && fallback === 'false';
  return [
    describe,
    ...(choices === undefined ? [] : [`[${choices.join(', ')}]`]),
    ...(required ? ['[required]'] : []),
    ...(fallback === undefined || isOff || fallback === '' ? [] : [`[default: ${fallback}]`]),
  ].join(' ');
}

function listed(entries: [term: string, text: string][], width: number): string[] {
  const longest = Math.max(0, ...entries.map(([term]) => term.length).filter((length) => length <= MOST_TERM));
  const indent = 2 + longest + 2;
  return entries.flatMap(([term, text]) => {
    const [first = '', ...more] = wrapWords(text, Math.max(width - indent, 20));
    const rest = more.map((line) => `${' '.repeat(indent)}${line}`);
    if (term.length <= longest) return [`  ${term.padEnd(longest)}  ${first}`, ...rest];
    return [`  ${term}`, `${' '.repeat(indent)}${first}`, ...rest];
  });
}

function exampleLines({ command, text }: { command: string; text: string }, width: number): string[] {
  const comment = wrapWords(text, width - 4).map((line) => `  # ${line}`);
  return [...(text === '' ? [] : comment), ...brokenCommand(command, width - 2).map((line) => `  ${line}`)];
}

/** A command of the shell in lines of at most `width` characters, as far as its words are not longer. */
export function brokenCommand(command: string, width: number): string[] {
  // Blanks in quotes are no place to break it.
  const words = command.match(/(?:'[^']*'|"(?:[^"\\]|\\.)*"|\\.|[^\s'"\\])+/g) ?? [];
  const lines: string[] = [];
  let line = '';
  for (const [index, word] of words.entries()) {
    const isLast = index === words.length - 1;
    if (line !== '' && line.length + 1 + word.length + (isLast ? 0 : 2) > width) {
      lines.push(`${line} \\`);
      line = `    ${word}`;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
