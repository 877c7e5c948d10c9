/** `dpi-agent man`: the manual page, in the language of man(7). */
import type { Argv, CommandModule } from 'yargs';
import { EPILOGUE, PROGRAM, wholeManual, type Flag, type Manual } from './manual.ts';
import { version } from './version.ts';

export const command: CommandModule = {
  command: 'man',
  builder: (args: Argv) =>
    args
      .example('$0 man | man -l -', 'to read it')
      .example('$0 man > /usr/local/share/man/man1/dpi-agent.1', 'to have it where man looks'),
  async handler() {
    process.stdout.write(manPage(await wholeManual(), version()));
  },
};

export function manPage(manual: Manual, release: string): string {
  const lines = [
    `.TH DPI\\-AGENT 1 "" "${PROGRAM} ${release}" "User Commands"`,
    '.SH NAME',
    `${roff(PROGRAM)} \\- inspect the traffic of chosen pods with Snort 3 or Suricata`,
    '.SH SYNOPSIS',
    `.B ${roff(PROGRAM)}`,
    '.I command',
    '.RI [ flags ]',
    '.SH DESCRIPTION',
    text(manual.describe),
    '.SH COMMANDS',
    ...manual.commands.flatMap(commandLines),
    '.SH NOTES',
    text(EPILOGUE),
    '.SH SEE ALSO',
    '.BR snort (8),',
    '.BR suricata (1)',
  ];
  return `${lines.join('\n')}\n`;
}

function commandLines({ usage, describe, positionals, flags, commands, examples, epilogue }: Manual): string[] {
  return [
    `.SS "${roff(usage)}"`,
    text(describe),
    ...positionals.flatMap((flag) => ['.TP', `.I ${roff(flag.name)}`, text(flagText(flag))]),
    // Those of all commands are told once.
    ...flags
      .filter(({ type }) => type !== 'none')
      .flatMap((flag) => [
        '.TP',
        `.BR ${flag.alias === undefined ? '' : `\\-${flag.alias} ", " `}${roff(`--${flag.name}`)}`,
        text(flagText(flag)),
      ]),
    ...examples.flatMap((example) => [
      '.PP',
      ...(example.text === '' ? [] : [text(example.text)]),
      '.PP',
      '.RS 4',
      '.nf',
      text(example.command),
      '.fi',
      '.RE',
    ]),
    ...(epilogue === undefined ? [] : ['.PP', text(epilogue)]),
    ...commands.flatMap(commandLines),
  ];
}

function flagText({ describe, choices, default: fallback, required }: Flag): string {
  const facts = [
    ...(choices === undefined ? [] : [`one of ${choices.join(', ')}`]),
    ...(fallback === undefined || fallback === '' ? [] : [`default: ${fallback}`]),
    ...(required ? ['required'] : []),
  ];
  return `${describe}${facts.length === 0 ? '' : ` (${facts.join('; ')})`}`;
}

/** Characters that roff takes for its own, and those that it does not know. */
function roff(plain: string): string {
  return plain
    .replaceAll('\\', String.raw`\e`)
    .replaceAll('-', String.raw`\-`)
    .replaceAll('"', String.raw`\(dq`)
    .replaceAll(/[^ -~]/gu, (character) => {
      const code = (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
      return `\\[u${code}]`;
    });
}

/** A line of text: one that begins with a dot or an apostrophe would be a request. */
function text(plain: string): string {
  return roff(plain).replace(/^(?=[.'])/, String.raw`\&`);
}
