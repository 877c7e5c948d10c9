/** What `check` and `doctor` find, and how they print it. */
import type { Options } from 'yargs';
import { stripControls } from '../text.ts';
import { coloursOf, columnsOf, wrapWords } from './print.ts';

export interface Finding {
  /** `info`: nothing is wrong, and worth knowing. */
  level: 'ok' | 'info' | 'warning' | 'error';
  /** What was looked at: configuration, rights, capture, folder, policy, sinks, rule server, interface, cluster, engine, rules. */
  subject: string;
  message: string;
  /** What to do about it. */
  remedy?: string;
}

/** Flags of the commands that print them. */
export const FINDING_FLAGS = {
  output: { alias: 'o', choices: ['table', 'json'], default: 'table', describe: 'json: a list of findings' },
} as const satisfies Record<string, Options>;

/** Of what is said; before it stand level and subject. */
const INDENT = 24;
const LEAST_ROOM = 30;

export function print(findings: Finding[], output: string): void {
  if (output === 'json') {
    process.stdout.write(`${JSON.stringify(findings, null, 2)}\n`);
    return;
  }
  const colours = coloursOf(process.stdout);
  const signs = {
    ok: colours.green('ok     '),
    info: colours.dim('info   '),
    warning: colours.yellow('warning'),
    error: colours.red('error  '),
  };
  const room = Math.max(columnsOf(process.stdout) - INDENT, LEAST_ROOM);
  const indent = ' '.repeat(INDENT);
  for (const { level, subject, message, remedy } of findings) {
    const lines = wrapWords(stripControls(message), room);
    process.stdout.write(`${signs[level]}  ${subject.padEnd(13)}  ${lines.join(`\n${indent}`)}\n`);
    if (remedy === undefined || level === 'ok') continue;
    const remedyLines = wrapWords(stripControls(remedy), room - 2);
    process.stdout.write(`${indent}→ ${remedyLines.join(`\n${indent}  `)}\n`);
  }
}
