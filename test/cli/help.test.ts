/** What the builders of all commands declare: as --help, as the manual page, and as completion. */
import { beforeAll, describe, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { completionOf } from '../../agent/cli/completion/completion.ts';
import { bashScript } from '../../agent/cli/completion/bash.ts';
import { fishScript } from '../../agent/cli/completion/fish.ts';
import { zshScript } from '../../agent/cli/completion/zsh.ts';
import { checkWords } from '../../agent/cli/check-words.ts';
import { brokenCommand, helpText } from '../../agent/cli/help.ts';
import { manPage } from '../../agent/cli/man.ts';
import { commandOf, wholeManual, type Manual } from '../../agent/cli/manual.ts';
import { runCli } from '../support/cli.ts';

let manual: Manual;
let all: Manual[];
const withSubcommands = (one: Manual): Manual[] => [one, ...one.commands.flatMap(withSubcommands)];
beforeAll(async () => {
  manual = await wholeManual();
  all = withSubcommands(manual);
});

const isThere = (program: string): boolean =>
  spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;
function where(program: string): typeof test | typeof test.skip {
  if (isThere(program)) return test;
  process.stderr.write(`skipped: there is no ${program} to read what is made for it\n`);
  return test.skip;
}

describe('--help', () => {
  test.each([60, 80, 120])('fits into %d columns, and its examples can be copied', (columns) => {
    for (const one of all) {
      const text = helpText(one, columns);
      for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(Math.min(columns, 110));
      const commands = (text.split('Examples:\n')[1] ?? '').replaceAll(/ \\\n +/g, ' ').split('\n');
      for (const { command } of one.examples) expect(commands).toContain(`  ${command}`);
    }
  });

  test('breaks a command between words, not in quotes', () => {
    expect(brokenCommand(`run 'a b  c' "d \\" e" f\\ g h`, 14)).toEqual([
      `run 'a b  c' \\`,
      '    "d \\" e" \\',
      '    f\\ g h',
    ]);
    expect(brokenCommand('run', 2)).toEqual(['run']);
  });

  test('has examples for each command that does something', () => {
    expect(all.filter(({ path, examples }) => path.length > 0 && examples.length === 0)).toEqual([]);
  });
});

describe('what is mistyped', () => {
  test.each([
    ['statsu', 'there is no command statsu; did you mean status?'],
    ['zzzzzz', 'there is no command zzzzzz; dpi-agent --help lists them'],
    ['rules shwo', 'there is no command rules shwo; did you mean rules show?'],
    ['events --since 1h redriv', 'there is no command events redriv; did you mean events redrive?'],
    ['run --interfce lo', 'there is no flag --interfce; did you mean --interface?'],
    ['events --sevrity=3', 'there is no flag --sevrity; did you mean --severity?'],
    ['replay --no-progres x', 'there is no flag --no-progres; did you mean --no-progress?'],
  ])('%s', async (line, message) => {
    const words = line.split(' ');
    await expect(checkWords(commandOf(manual, words), words)).rejects.toThrow(message);
  });

  test.each([
    'run --capture.snaplen 1',
    'run --log-level debug',
    'events --since status',
    'rules test --nothing',
    'ui',
  ])('%s is left to others', async (line) => {
    const words = line.split(' ');
    expect(await checkWords(commandOf(manual, words), words)).toBeUndefined();
  });

  test.each([[['statsu']], [['statsu', '--help']]])('%j ends with status 2', async (words) => {
    expect(await runCli(words)).toEqual({
      code: 2,
      stdout: '',
      stderr: 'dpi-agent: there is no command statsu; did you mean status?\n',
    });
  });
});

describe('completion', () => {
  const scriptOf = (make: typeof bashScript): string => make(completionOf(manual, ['capture.filter', 'lanes']));

  where('bash')('of bash: commands, flags, values, keys and files', () => {
    const lines = [
      'dpi-agent st',
      'dpi-agent rules dis',
      'dpi-agent rules list --en',
      'dpi-agent run --engine s',
      'dpi-agent events --output = j',
      'dpi-agent run --',
      'dpi-agent run --cap',
      'dpi-agent completion ',
      'dpi-agent replay /etc/passw',
      'dpi-agent status --interval ',
    ].map((line) =>
      line
        .split(' ')
        .map((word) => `'${word}'`)
        .join(' '),
    );
    const asked = `at() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _dpi_agent; echo "\${COMPREPLY[*]}"; }`;
    const script = [scriptOf(bashScript), asked, ...lines.map((line) => `at ${line}`)].join('\n');
    const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8' });
    const found = stdout.split('\n');
    expect({ found, stderr }).toMatchObject({ stderr: '' });
    expect(found[0]).toBe('status');
    expect(found[1]).toBe('disable');
    expect(found[2]).toBe('--engine');
    expect(found[3]).toBe('snort suricata');
    expect(found[4]).toBe('json');
    expect(found[5]).toContain('--config --engine');
    expect(found[5]).not.toContain('--capture.filter');
    expect(found[6]).toBe('--capture.filter');
    expect(found[7]).toBe('bash zsh fish');
    expect(found[8]).toContain('/etc/passwd');
    expect(found[9]).toBe('');
  });

  where('zsh')('of zsh is read by zsh', () => {
    expect(spawnSync('zsh', ['-n'], { input: scriptOf(zshScript), encoding: 'utf8' })).toMatchObject({
      status: 0,
      stderr: '',
    });
  });

  where('fish')('of fish: commands, flags and values', () => {
    const complete = (line: string): string[] => {
      const input = `${scriptOf(fishScript)}\ncomplete -C '${line}'\n`;
      const { stdout, stderr } = spawnSync('fish', ['--no-config'], { input, encoding: 'utf8' });
      expect(stderr).toBe('');
      return stdout
        .split('\n')
        .filter(Boolean)
        .map((found) => found.split('\t')[0] ?? '');
    };
    expect(complete('dpi-agent stat')).toEqual(['status']);
    expect(complete('dpi-agent rules dis')).toEqual(['disable']);
    expect(complete('dpi-agent run --engine s').toSorted()).toEqual(['snort', 'suricata']);
  });

  test('of zsh and fish knows every command and flag', () => {
    for (const script of [scriptOf(zshScript), scriptOf(fishScript)]) {
      for (const { path } of all) expect(script).toContain(path.join(' '));
      for (const { name } of all.flatMap(({ flags }) => flags)) expect(script).toContain(name);
    }
  });
});

describe('the manual page', () => {
  test('has every command, flag and example', () => {
    const page = manPage(manual, '1.2.3')
      .replaceAll(String.raw`\-`, '-')
      .replaceAll(String.raw`\(dq`, '"')
      .replaceAll(String.raw`\e`, '\\')
      .replaceAll(String.raw`\[u2026]`, '…');
    for (const { usage, flags, examples } of all.slice(1)) {
      expect(page).toContain(`.SS "${usage}"`);
      for (const { name } of flags.slice(0, -2)) expect(page).toContain(`--${name}`);
      for (const { command } of examples) expect(page).toContain(`\n${command}\n`);
    }
  });

  where('groff')('is without an error for groff', () => {
    const made = spawnSync('groff', ['-man', '-Tutf8', '-ww', '-z'], {
      input: manPage(manual, '1.2.3'),
      encoding: 'utf8',
    });
    expect(made).toMatchObject({ status: 0, stderr: '' });
  });
});
