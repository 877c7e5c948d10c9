/** Rule files as people have them, by the command line and the real engines. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createWorkspace, MARKER, type Workspace } from '../support/agent.ts';
import { runCli, type CliResult } from '../support/cli.ts';
import { describeEngine } from '../support/engines.ts';
import { tcpConversation, writePcap } from '../support/packets.ts';

const rule = (sid: number, about = ''): string =>
  `alert tcp any any -> any any (msg:"rule ${sid}"; ${about}content:"${MARKER}"; sid:${sid}; rev:1;)`;

for (const engine of ['snort', 'suricata'] as const) {
  describeEngine(engine, () => {
    let workspace: Workspace;
    let pcap: string;
    const file = (name: string, bytes: Buffer | string): string => {
      const path = join(workspace.directory, name);
      writeFileSync(path, bytes);
      return path;
    };
    const run = (command: string[], rules: string[], ...args: string[]): Promise<CliResult> =>
      runCli([...command, '-e', engine, '--rule-sets', '', ...rules.flatMap((path) => ['--rules', path]), ...args]);
    const fired = async (...rules: string[]): Promise<string[]> => {
      const { stdout } = await run(['rules', 'test', '--pcap', pcap], rules, '-o', 'json');
      const found = JSON.parse(stdout) as { fired: { signature: string }[] };
      return found.fired.map(({ signature }) => signature).toSorted();
    };
    beforeAll(() => {
      workspace = createWorkspace();
      const frames = tcpConversation({ exchange: [{ from: 'client', data: `${MARKER} café` }] });
      pcap = file('marker.pcap', writePcap(frames));
    });
    afterAll(() => workspace.remove());

    test('fire whatever they were saved as', async () => {
      const files = [
        file('cr.rules', `${rule(1)}\r# c\r${rule(2)}\r`),
        file('utf16le.rules', Buffer.from(`\uFEFF${rule(3)}\r\n`, 'utf16le')),
        file('utf16be.rules', Buffer.from(`\uFEFF${rule(4)}\n`, 'utf16le').swap16()),
        file('latin1.rules', Buffer.from(rule(5, 'content:!"caf\u00e9"; '), 'latin1')),
      ];
      expect(await fired(...files)).toEqual(['1:1', '1:2', '1:3', '1:4', '1:5']);
      expect(await fired(file('utf8.rules', rule(6, 'content:"café"; ')))).toEqual(['1:6']);
    });

    test('fire where their lines are continued, also behind blanks and at the end of the file', async () => {
      const [before = '', after = ''] = rule(1).split('content');
      const lines = `${before.replace('(', '( \\ \n')}\\\t \n content${after}\n${rule(2)}\n${rule(3)} \\`;
      const path = file('continued.rules', lines);
      expect(await fired(path)).toEqual(['1:1', '1:2', '1:3']);
      expect((await run(['rules', 'check'], [path])).stdout).toMatch(/^ok .* given 3 rules of custom: 0 refused/);
    });

    test('without a rule are a failure that says why', async () => {
      const off = file('off.rules', `# ${rule(1)}\n`);
      const wide = file('wide.rules', Buffer.concat([Buffer.from('fffe0000', 'hex'), Buffer.from('a\0\0\0')]));
      for (const [path, why] of [
        [off, 'no rules: all 1 of them are commented out or turned off'],
        [wide, `${wide}: it is UTF-32`],
        [file('text.rules', 'hello\n'), 'text.rules:1: not a rule: "hello"'],
        [file('empty.rules', ''), 'no rules: the files have none'],
      ] as const) {
        const replayed = await run(['replay', pcap], [path]);
        expect(replayed.stderr).toContain(why);
        expect(replayed.code).toBe(2);
        const checked = await run(['rules', 'check'], [path]);
        expect(checked.stdout + checked.stderr).toContain(why);
        expect(checked.code).not.toBe(0);
      }
    });
  });
}
