/** `dpi-agent check`, `run` and the command line itself, where they do not capture. */
import { describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Finding } from '../../agent/cli/finding.ts';
import type { Workspace } from '../support/agent.ts';
import { runCli } from '../support/cli.ts';
import { describeEngine } from '../support/engines.ts';
import { shareWorkspace } from '../support/live.ts';
import { PROJECT } from '../support/project.ts';

let workspace: Workspace;
shareWorkspace((made) => (workspace = made));

const folders = (): string[] => [
  '--stateDirectory',
  join(workspace.directory, 'state'),
  '--journal.directory',
  workspace.journal,
];

describe('the command line', () => {
  test('--help lists the commands, and each command shows examples', async () => {
    const { stdout, code } = await runCli(['--help']);
    for (const command of ['run', 'status', 'replay', 'check', 'doctor', 'explain']) {
      expect(stdout).toContain(`dpi-agent ${command}`);
      expect((await runCli([command, '--help'])).stdout).toContain('Examples:');
    }
    expect(code).toBe(0);
  });

  test.each([
    [[], 'Name a command'],
    [['nonsense'], 'nonsense'],
    [['run'], 'nothing to inspect'],
    [['run', '-i', 'lo', '--engine.serchMethod', 'ac'], 'the nearest known one is engine.searchMethod'],
    [['run', '-i', 'lo', '--lanes', '0'], 'flag --lanes: lanes: "0": expected auto, or an integer from 1 to 64'],
    [['run', '-i', 'a/b'], 'the name of an interface'],
    [['run', '-c', '/no/such.yaml'], '/no/such.yaml'],
    [['run', '-i', 'lo', '--rules', '/no/such.rules'], '/no/such.rules'],
    [['run', '-i', 'lo', '--rule-sets', 'kubernets'], 'there is no rule set kubernets; there is: kubernetes'],
    [['run', '-i', 'lo', '--engine.binary', '/bin/true'], '/bin/true'],
  ])('%j is refused with exit status 2 and says why', async (args, why) => {
    const { code, stderr } = await runCli(args, {
      env: { DPI_AGENT_STATE_DIRECTORY: join(workspace.directory, 'state') },
    });
    expect(stderr).toContain(why);
    expect(stderr).not.toContain('    at ');
    expect(code).toBe(2);
  });

  test('an unknown environment variable is an error that names the nearest', async () => {
    const { code, stderr } = await runCli(['run', '-i', 'lo'], { env: { DPI_AGENT_CAPTURE_SNAPLENN: '1' } });
    expect(stderr).toContain('DPI_AGENT_CAPTURE_SNAPLEN');
    expect(code).toBe(2);
  });
});

const isRoot = process.getuid?.() === 0;
if (!isRoot) process.stderr.write('skipped: taking a right from the agent needs root\n');

(isRoot ? test : test.skip)(
  'check says that a network namespace can’t be entered, and not that all is well',
  async () => {
    const config = join(workspace.directory, 'netns.yaml');
    writeFileSync(
      config,
      'endpoints:\n  - { interface: eth0, netns: /proc/self/ns/net, namespace: shop, pod: web, addresses: [10.0.0.1] }\n',
    );
    const args = ['--bounding-set=-sys_admin', process.execPath, join(PROJECT, 'bin/dpi-agent.js'), 'check'];
    const child = spawn('setpriv', [...args, '-o', 'json', '-c', config, ...folders()], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    for await (const chunk of child.stdout) output += String(chunk);
    const found = (JSON.parse(output) as Finding[]).filter(({ message }) => message.includes('/proc/self/ns/net'));
    expect(found).toEqual([
      {
        level: 'error',
        subject: 'interface',
        message: "/proc/self/ns/net is not inspected: no right to enter a pod's network namespace (CAP_SYS_ADMIN)",
        remedy: 'run as root, or grant the capability SYS_ADMIN',
      },
    ]);
  },
);

for (const engine of ['snort', 'suricata'] as const) {
  describeEngine(engine, () => {
    const check = async (...args: string[]): Promise<{ findings: Finding[]; code: number | null }> => {
      const { stdout, code } = await runCli(['check', '-e', engine, '-o', 'json', ...folders(), ...args]);
      return { findings: JSON.parse(stdout) as Finding[], code };
    };

    test('check finds nothing wrong where nothing is wrong', async () => {
      const { findings, code } = await check('-i', 'lo');
      expect(findings.filter(({ level }) => level === 'error')).toEqual([]);
      expect(findings).toContainEqual(expect.objectContaining({ subject: 'rules', level: 'ok' }));
      expect(findings).toContainEqual(
        expect.objectContaining({ subject: 'interface', level: 'ok', message: 'lo is up (ifindex 1)' }),
      );
      expect(code).toBe(0);
    });

    test('check names each refused rule by file and line, and what to do', async () => {
      const rules = join(workspace.directory, 'bad.rules');
      writeFileSync(
        rules,
        'alert tcp any any -> any any ( msg:"good"; content:"a"; sid:1; )\nalert tcp any any -> any any ( msg:"bad"; contnt:"a"; sid:2; )\n',
      );
      const { findings, code } = await check('-i', 'lo', '--rules', rules);
      const finding = findings.find(({ message }) => message.startsWith(`${rules}:2: `));
      expect(finding).toMatchObject({ level: 'error', subject: 'rules', message: expect.stringContaining('contnt') });
      expect(finding?.remedy).toBeDefined();
      expect(code).toBe(1);
    });

    test('check warns of interfaces that are not there, and says that they are waited for', async () => {
      const { findings, code } = await check('-i', 'cali0123456789a');
      expect(findings).toContainEqual(
        expect.objectContaining({ level: 'warning', subject: 'interface', message: 'there is no cali0123456789a' }),
      );
      expect(code).toBe(0);
    });

    test('check reports every error of the configuration with its place', async () => {
      const config = join(workspace.directory, 'bad.yaml');
      writeFileSync(config, 'lanes: 0\njurnal: {}\n');
      const { findings, code } = await check('-c', config);
      expect(findings.map(({ message }) => message)).toEqual([
        expect.stringContaining(`${config}:2:1`),
        expect.stringContaining(`${config}:1:`),
      ]);
      expect(code).toBe(1);
    });

    test('run with rules that the engine refuses ends at once with status 2 and names them', async () => {
      const rules = join(workspace.directory, 'refused.rules');
      writeFileSync(rules, 'alert tcp any any -> any any ( msg:"bad"; contnt:"a"; sid:2; )\n');
      const { code, stderr } = await runCli([
        'run',
        '-e',
        engine,
        '-i',
        'lo',
        '--rule-sets',
        '',
        '--rules',
        rules,
        ...folders(),
      ]);
      expect(stderr).toContain(`no rules: the engine takes none of them: ${rules}:1: rule 1:2: `);
      expect(code).toBe(2);
    });

    (isRoot ? test : test.skip)('run says why its engine cannot be started, and ends with status 2', async () => {
      const program = [process.execPath, join(PROJECT, 'bin/dpi-agent.js')];
      const args = ['run', '-i', 'lo', '-e', engine, ...folders(), '--http.port', '0'];
      // Without this right the engine can't become another user.
      const child = spawn('setpriv', ['--bounding-set=-setuid', ...program, ...args], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      let said = '';
      for await (const chunk of child.stderr) said += String(chunk);
      if (child.exitCode === null) await once(child, 'exit');
      expect(said).toContain(`dpi-agent: ${engine} cannot be started: spawn EPERM`);
      expect(child.exitCode).toBe(2);
    });
  });
}
