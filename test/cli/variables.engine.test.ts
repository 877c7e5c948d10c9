/** Variables of rules, by the command line and the real engines. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createWorkspace, MARKER, type Workspace } from '../support/agent.ts';
import { firedBy, runCli, type CliResult } from '../support/cli.ts';
import { describeEngine } from '../support/engines.ts';
import { tcpConversation, writePcap } from '../support/packets.ts';

const CLIENT = '192.0.2.10';
const SERVER = '198.51.100.20';

const rule = (sid: number, from: string, to: string): string =>
  `alert tcp ${from} -> ${to} (msg:"rule ${sid}"; flow:to_server,established; content:"${MARKER}"; sid:${sid}; rev:1;)`;
const RULES = [
  rule(1, '$EXTERNAL_NET any', '$HOME_NET any'),
  rule(2, '$HOME_NET any', '$EXTERNAL_NET any'),
  rule(3, '!$HOME_NET any', '$HTTP_SERVERS any'),
  rule(4, 'any any', 'any $MY_PORTS'),
  rule(5, 'any any', '$MY_NET any'),
  rule(6, 'any any', '[$HOME_NET,!198.0.0.0/8] any'),
  rule(7, 'any any', '$AIM_SERVERS any'),
];
const INBOUND = ['HOME_NET=198.51.100.0/24', 'EXTERNAL_NET=!$HOME_NET', 'MY_PORTS=8080', `MY_NET=[${SERVER},10.0.0.1]`];

for (const engine of ['snort', 'suricata'] as const) {
  describeEngine(engine, () => {
    let workspace: Workspace;
    let pcap: string;
    const file = (name: string, bytes: Buffer | string): string => {
      const path = join(workspace.directory, name);
      writeFileSync(path, bytes);
      return path;
    };
    const given = (rules: string): string[] => ['-e', engine, '--rule-sets', '', '--rules', rules];
    const run = (command: string[], rules: string, ...args: string[]): Promise<CliResult> =>
      runCli([...command, ...given(rules), ...args]);
    const fired = (rules: string, ...args: string[]): Promise<string[]> =>
      firedBy(['--pcap', pcap, ...given(rules), ...args]);
    beforeAll(() => {
      workspace = createWorkspace();
      const frames = tcpConversation({
        client: CLIENT,
        server: SERVER,
        serverPort: 8080,
        exchange: [{ from: 'client', data: `${MARKER} x` }],
      });
      pcap = file('marker.pcap', writePcap(frames));
    });
    afterAll(() => workspace.remove());

    test('decide what fires, also of rules that are translated', async () => {
      for (const name of ['v.rules', 'v.snort.rules']) {
        const path = file(name, `${RULES.join('\n')}\n`);
        const args = ['--variables', INBOUND.join(' ')];
        expect(await fired(path, ...args)).toEqual(['1:1', '1:3', '1:4', '1:5', '1:7']);
        const other = ['--variables.HOME_NET', '192.0.2.0/24', '--variables.EXTERNAL_NET', '!$HOME_NET'];
        expect(await fired(path, ...other)).toEqual(['1:2']);
      }
    }, 120_000);

    test('rules that they make dead, or that name none that is known, are named with what to set', async () => {
      const path = file('dead.rules', `${RULES.join('\n')}\n`);
      const { stdout, code } = await run(['rules', 'check'], path);
      expect(stdout).toContain(
        `refused  ${path}:3: it can match nothing: the source !$HOME_NET leaves no addresses, as HOME_NET is any: set variables.HOME_NET`,
      );
      expect(stdout).toContain(`${path}:4: $MY_PORTS is not defined: set variables.MY_PORTS to ports`);
      expect(stdout).toContain(`${path}:5: $MY_NET is not defined: set variables.MY_NET to addresses`);
      expect(stdout).toContain('given 4 rules of custom: 3 refused');
      expect(code).toBe(1);
      const set = await run(['rules', 'check'], path, '--variables', INBOUND.join(' '));
      expect(set.stdout).toContain(`${path}:6: it can match nothing: the destination [$HOME_NET,!198.0.0.0/8]`);
      expect(set.stdout).toContain('given 6 rules of custom: 1 refused');
    }, 120_000);

    test('that are wrong end every command, with the key, the value and what is right', async () => {
      const path = file('one.rules', `${RULES[0]}\n`);
      const { stderr, code } = await run(['replay', pcap], path, '--variables.HOME_NET', '10.0.0.300');
      expect(stderr).toContain(
        'variables.HOME_NET: "10.0.0.300": expected any, pods, or addresses and networks such as',
      );
      expect(code).toBe(2);
    });

    if (engine === 'suricata') {
      test('of the overrides, which may be some, add to the rest', async () => {
        const path = file('v.snort.rules', `${RULES.slice(0, 3).join('\n')}\n`);
        const vars = `%YAML 1.1\n---\nvars: { address-groups: { HOME_NET: "[198.51.100.0/24]", EXTERNAL_NET: "!$HOME_NET" } }\n`;
        expect(await fired(path, '--engine.extraConfig', file('home.yaml', vars))).toEqual(['1:1', '1:3']);
      });
    }
  });
}
