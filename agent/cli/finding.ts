/** What `check` and `doctor` find, and how they print it. */
import { stripControls } from '../text.ts';
import { coloursOf } from './print.ts';

export interface Finding {
  /** `info`: nothing is wrong, and worth knowing. */
  level: 'ok' | 'info' | 'warning' | 'error';
  /** What was looked at: configuration, rights, capture, folder, policy, interface, cluster, engine, rules. */
  subject: string;
  message: string;
  /** What to do about it. */
  remedy?: string;
}

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
  for (const { level, subject, message, remedy } of findings) {
    process.stdout.write(`${signs[level]}  ${subject.padEnd(13)}  ${stripControls(message)}\n`);
    if (remedy !== undefined && level !== 'ok') process.stdout.write(`${' '.repeat(24)}→ ${stripControls(remedy)}\n`);
  }
}
