/** `dpi-agent rules …` as a user runs it, with the real engines. */
import { describe, expect, test } from '@jest/globals';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import type { RuleRefusal } from '../../../agent/cli/rules/check.ts';
import type { ListedSet } from '../../../agent/cli/rules/list.ts';
import type { ShownRule } from '../../../agent/cli/rules/show.ts';
import { MARKER, MARKER_SID, type Workspace } from '../../support/agent.ts';
import { createAuthority } from '../../support/certificates.ts';
import { runCli, type CliResult } from '../../support/cli.ts';
import { describeEngine } from '../../support/engines.ts';
import { shareWorkspace } from '../../support/live.ts';
import { tcpConversation, writePcap } from '../../support/packets.ts';

const COMMUNITY = resolve(import.meta.dirname, '../../../../shared/rules/snort3-community.rules');
const GOOD = (sid: number): string =>
  `alert tcp any any -> any any ( msg:"OWN rule ${sid}"; content:"own-${sid}"; reference:cve,2021-44228; classtype:coin-mining; sid:${sid}; rev:1; )`;

let workspace: Workspace;
shareWorkspace((made) => {
  workspace = made;
  mkdirSync(join(workspace.directory, 'rules/own'), { recursive: true });
  writeFileSync(
    join(workspace.directory, 'rules/own/own.rules'),
    `${GOOD(1)}\n# ${GOOD(2)}\n# ${GOOD(3).replace('OWN', '\u001B[31mEVIL')}\n`,
  );
});

const at = (name: string): string => join(workspace.directory, name);
const rules = (args: string[], env: NodeJS.ProcessEnv = {}): Promise<CliResult> =>
  runCli(['rules', ...args], {
    env: {
      DPI_AGENT_RULES_DIRECTORY: at('rules'),
      DPI_AGENT_RULE_CHANGES: at('changes.conf'),
      DPI_AGENT_RULE_SETS: 'kubernetes,own',
      ...env,
    },
  });
const json = async <T>(args: string[]): Promise<T> => JSON.parse((await rules([...args, '-o', 'json'])).stdout) as T;

describe('the command line', () => {
  test('every subcommand has help with examples', async () => {
    const { stdout } = await rules(['--help']);
    for (const name of ['list', 'show', 'check', 'update', 'test', 'enable', 'disable', 'noisy']) {
      expect(stdout).toContain(`dpi-agent rules ${name}`);
      expect((await rules([name, '--help'])).stdout).toContain('Examples:');
    }
  });

  test.each([
    [[], 'Name a command'],
    [['show'], 'Not enough non-option arguments'],
    [['show', 'x'], 'expected a signature such as 21562'],
    [['disable', 'class:nonsense'], 'there is no class nonsense; rules show says which class a rule has'],
    [['disable', 'class:misc-activty'], 'there is no class misc-activty; did you mean class:misc-activity?'],
    [['disable', 'nonsense'], 'expected 1:21562, 21562, 1:220-3264, class:NAME'],
    [['update', '--set', '../x'], 'flag --set'],
    [['update', '--max-size', 'much'], 'flag --max-size'],
    [['update', '--no-check', '--from', 'x', '--checksum', 'zz'], 'flag --checksum'],
    [['list', '--rule-sets', 'nothing'], 'there is no rule set nothing'],
    [['noisy', '--since', 'yesterday'], 'flag --since'],
    [['test', '--pcap', '/no/such'], '/no/such'],
  ])('%j is refused with exit status 2 and says why', async (args, why) => {
    const { code, stderr } = await rules(args);
    expect(stderr).toContain(why);
    expect(stderr).not.toContain('    at ');
    expect(code).toBe(2);
  });

  test('show explains a rule, and a rule that nobody has is an error', async () => {
    const { stdout, code } = await rules(['show', '1:1', '3', '--text']);
    expect(code).toBe(0);
    for (const text of [
      '1:1:1',
      'coin-mining: Crypto Currency Mining',
      'CVE-2021-44228',
      'T1496, TA0040 (follows from the class)',
      `"own-1" in the payload`,
      `${at('rules/own/own.rules')}:1`,
      'nvd.nist.gov',
    ]) {
      expect(stdout).toContain(text);
    }
    expect(stdout).toContain('EVIL rule 3');
    expect(stdout).not.toContain('\u001B');
    const [off] = await json<ShownRule[]>(['show', '2']);
    expect(off).toMatchObject({ enabled: false, engines: { snort: { given: false, reason: 'it is commented out' } } });
    expect(await rules(['show', '4711'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no rule 4711 is in any set'),
    });
  });

  test('disable and enable change the file, and what list and show say', async () => {
    expect((await rules(['disable', '1', 'class:tcp-connection'])).stdout).toContain('no rule is like that now');
    expect((await rules(['enable', '2'])).stdout).toContain('enable 2: 1 rule\n');
    expect(readFileSync(at('changes.conf'), 'utf8')).toBe('disable 1\ndisable class:tcp-connection\nenable 2\n');
    const { sets, warnings } = await json<{ sets: ListedSet[]; warnings: unknown[] }>(['list']);
    expect(sets.find(({ name }) => name === 'own')).toMatchObject({
      rules: 3,
      enabled: 1,
      disabled: 2,
      changed: 2,
      used: true,
    });
    expect(warnings).toEqual([{ line: `${at('changes.conf')}:2`, reason: 'changes no rule' }]);
    expect((await rules(['show', '1:1'])).stdout).toMatch(
      /changed by +.*changes\.conf:1\nsnort +does not get it: it is turned off/,
    );
    writeFileSync(at('changes.conf'), '');
  });
});

for (const engine of ['snort', 'suricata'] as const) {
  describeEngine(engine, () => {
    test('check accepts what is right, and names each rule that is not', async () => {
      const good = await rules(['check', '-e', engine]);
      expect(good.stdout).toMatch(/^ok .* was given 84 rules of kubernetes, own: 0 refused/);
      expect(good.code).toBe(0);
      const bad = at(`bad-${engine}.rules`);
      writeFileSync(bad, `${GOOD(11)}\n${GOOD(12).replace('content', 'contents')}\nnonsense\n`);
      const { stdout, code } = await rules(['check', '-e', engine, '--rules', bad, '-o', 'json']);
      const { refused } = JSON.parse(stdout) as { refused: RuleRefusal[] };
      expect(refused).toContainEqual(expect.objectContaining({ by: 'engine', file: bad, line: 2 }));
      expect(refused).toContainEqual({ by: 'reading', file: bad, line: 3, reason: 'not a rule: "nonsense"' });
      expect(code).toBe(1);
    });

    test('test counts which rules fire, of a file and of the command line', async () => {
      const pcap = at(`${engine}.pcap`);
      const frames = [1, 2, 3].flatMap((port) =>
        tcpConversation({
          clientPort: 40_000 + port,
          start: 1_700_000_000_000_000,
          exchange: [{ from: 'client', data: `${MARKER} own-1` }],
        }),
      );
      writeFileSync(pcap, writePcap(frames));
      const { stdout, code } = await rules([
        'test',
        '-e',
        engine,
        '--pcap',
        pcap,
        '--rules',
        workspace.rules,
        '-o',
        'json',
      ]);
      expect(code).toBe(0);
      const { fired } = JSON.parse(stdout) as { fired: { signature: string; count: number }[] };
      expect(new Map(fired.map(({ signature, count }) => [signature, count]))).toEqual(
        new Map([
          [`1:${MARKER_SID}`, fired.find(({ signature }) => signature === `1:${MARKER_SID}`)?.count],
          ['1:1', 3],
        ]),
      );
      const one = await rules([
        'test',
        '-e',
        engine,
        '--pcap',
        pcap,
        '--rule',
        'alert tcp any any -> any any (msg:"tried"; content:"own-1";)',
      ]);
      expect(one.stdout).toMatch(/ 3 {2}1:1900000000:0 +tried\n1 of 1 rules fired, 3 alerts/);
      const wrong = await rules([
        'test',
        '-e',
        engine,
        '--pcap',
        pcap,
        '--rule',
        'alert tcp any any -> any any (contents:"x";)',
      ]);
      expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('contents') });
    });

    test('update takes a version over https that the engine loads, and leaves one that it refuses', async () => {
      const authority = createAuthority(at(`ca-${engine}`));
      const { key, certificate } = authority.issue('localhost');
      let text = `${GOOD(21)}\n`;
      const server: Server = createServer({ key, cert: certificate }, ({ url }, response) => {
        if (url === '/x.rules') response.end(text);
        else response.writeHead(404).end();
      });
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
      const from = `https://127.0.0.1:${(server.address() as AddressInfo).port}/x.rules`;
      const update = (env: NodeJS.ProcessEnv): Promise<CliResult> =>
        rules(['update', '-e', engine, '--set', `new-${engine}`, '--from', from], { no_proxy: '127.0.0.1', ...env });
      try {
        const trusting = { NODE_EXTRA_CA_CERTS: authority.file };
        expect(await update(trusting)).toMatchObject({
          code: 0,
          stderr: '',
          stdout: expect.stringContaining('1 rule, no checksum'),
        });
        text = `${GOOD(22).replace('content', 'contents')}\n`;
        const refused = await update(trusting);
        expect(refused).toMatchObject({ code: 1, stdout: '' });
        expect(refused.stderr).toContain('refuses 1 of 1 rules: it stays as it was');
        expect(readFileSync(at(`rules/new-${engine}/x.rules`), 'utf8')).toContain('sid:21;');
        expect(await update({})).toMatchObject({ code: 1, stderr: expect.stringContaining('certificate') });
      } finally {
        server.closeAllConnections();
        server.close();
      }
    });

    if (engine === 'snort') {
      (existsSync(COMMUNITY) ? test : test.skip)('check refuses none of the community rules', async () => {
        const { stdout, code } = await rules([
          'check',
          '-e',
          engine,
          '--rule-sets',
          'kubernetes',
          '--rules',
          COMMUNITY,
          '-o',
          'json',
        ]);
        expect(JSON.parse(stdout)).toMatchObject({ accepted: true, refused: [] });
        expect(code).toBe(0);
      });
    }
  });
}
