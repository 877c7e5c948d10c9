/** Rule files as people have them, by the command line and the real engines. */
import { expect, test } from '@jest/globals';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ShownRule } from '../../agent/cli/rules/show.ts';
import type { EeEvent } from '../../agent/events/event.ts';
import { MARKER, type Workspace } from '../support/agent.ts';
import { firedBy, runCli, type CliResult } from '../support/cli.ts';
import { describeEngine } from '../support/engines.ts';
import { shareWorkspace } from '../support/live.ts';
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
    const given = (rules: string[]): string[] => {
      return ['-e', engine, '--rule-sets', '', ...rules.flatMap((path) => ['--rules', path])];
    };
    const run = (command: string[], rules: string[], ...args: string[]): Promise<CliResult> =>
      runCli([...command, ...given(rules), ...args]);
    const fired = (...rules: string[]): Promise<string[]> => firedBy(['--pcap', pcap, ...given(rules)]);
    shareWorkspace((made) => {
      workspace = made;
      const frames = tcpConversation({ exchange: [{ from: 'client', data: `${MARKER} café` }] });
      pcap = file('marker.pcap', writePcap(frames));
    });

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

    test('with two rules of one signature: check names the one that is dropped, and the later revision fires', async () => {
      const other = (rev: number): string => rule(1).replace(MARKER, 'other').replace('rev:1', `rev:${rev}`);
      for (const [text, dropped, code, fires] of [
        [`${other(1)}\n${rule(1)}\n`, 'dup.rules:2: rule 1:1: another rule of the same revision is at', 1, []],
        [`${rule(1)}\n${other(0)}\n`, 'dup.rules:2: rule 1:1: its revision 1 is at', 0, ['1:1']],
        [`${other(0)}\n${rule(1)}\n`, 'dup.rules:1: rule 1:1: its revision 1 is at', 0, ['1:1']],
        [`${rule(1)}\n${rule(1)}\n`, 'dup.rules:2: rule 1:1: the same rule is at', 0, ['1:1']],
      ] as const) {
        const path = file('dup.rules', text);
        const checked = await run(['rules', 'check'], [path]);
        expect(checked.stdout).toContain(`dropped  ${workspace.directory}/${dropped}`);
        expect(checked.stdout).toContain('given 1 rule of custom: 0 refused, 1 dropped');
        expect(checked.code).toBe(code);
        expect(await fired(path)).toEqual(fires);
      }
    });

    test('with bad rules: replay, rules test and check leave these out and say so, and no others', async () => {
      const broken = [
        rule(2, 'contnt:"x"; '),
        rule(4, 'content:"x;y"; nocase_:1; '),
        rule(6).replace('msg:"rule 6"', 'msg:"rule; 6'),
      ];
      const lines = [rule(1), broken[0], rule(3), broken[1], rule(5), broken[2], rule(7)];
      const path = file('bad.rules', `${lines.join('\n')}\n`);
      expect(await fired(path)).toEqual(['1:1', '1:3', '1:5', '1:7']);
      const replayed = await run(['replay', pcap], [path], '-o', 'json');
      expect(replayed.stderr).toContain(`left out: ${path}:2: rule 1:2: `);
      expect(replayed.stderr).toContain(`left out: ${path}:4: rule 1:4: `);
      expect(replayed.stderr).not.toContain(`left out: ${path}:3`);
      expect(replayed.stdout.trim().split('\n')).toHaveLength(4);
      expect(replayed.code).toBe(0);
      const strict = await run(['replay', pcap], [path], '--rulesLeaveOut', 'false');
      expect(strict.code).toBe(1);
      const checked = await run(['rules', 'check'], [path]);
      expect(checked.stdout).toMatch(/: 3 refused, in /);
      expect(checked.code).toBe(1);
    });

    test("in Snort 2's syntax: it is named, and what Snort 3 writes; counts are of rules", async () => {
      const path = file(
        'two.snort.rules',
        [
          rule(1),
          'var NET 10.0.0.0/8',
          'config disable_decode_alerts',
          'suppress gen_id 1, sig_id 1',
          rule(2, 'content:"x"; nocase; '),
          rule(3, 'threshold: type limit, track by_src, count 1, seconds 60; '),
          rule(4).replace('->', '<-'),
          rule(5, String.raw`pcre:"/a[^;]/"; `),
          rule(6).replace('msg:"rule 6"; ', ''),
        ].join('\n'),
      );
      const { stdout, code } = await run(['rules', 'check'], [path]);
      const said = (line: number): string => stdout.split('\n').find((text) => text.includes(`:${line}: `)) ?? '';
      expect(said(2)).toMatch(/^no rule .*Snort 2's syntax: Snort 3 writes ips\.variables/);
      expect(said(3)).toMatch(/^no rule .*Snort 2's syntax/);
      expect(said(4)).toMatch(/^no rule .*alerts\.policy/);
      expect(said(5)).toMatch(/^refused .*nocase: Snort 2's syntax: Snort 3 writes content:"…", nocase/);
      expect(said(6)).toMatch(/^refused .*threshold: Snort 2's syntax: Snort 3 writes detection_filter/);
      expect(said(7)).toMatch(/^refused .*write it the other way round/);
      expect(said(8)).toMatch(/^refused .*Snort 3 writes \\x3b/);
      expect(said(9)).toBe('');
      expect(stdout).toContain(': 4 refused, 3 lines are no rules, in ');
      expect(code).toBe(1);
    });

    test('that wait for a flowbit which only a refused rule sets: they are named, with that rule', async () => {
      const lines = [
        rule(1, 'contnt:"x"; flowbits:set,seen; '),
        rule(2, 'flowbits:isset,seen; '),
        rule(3, 'flowbits:set,other; '),
        rule(4, 'flowbits:isset,other; '),
      ];
      const path = file('bits.rules', lines.join('\n'));
      const { stdout } = await run(['rules', 'check'], [path]);
      const said = `${path}:2: rule 1:2: waits in vain for flowbits:seen, which only refused rules set: 1:1 (${path}:1)`;
      expect(stdout.split('\n').filter((line) => line.startsWith('waits'))).toEqual([`waits    ${said}`]);
      const checked = await run(['check'], [path], '-o', 'json');
      const findings = JSON.parse(checked.stdout) as { message: string }[];
      expect(findings.map(({ message }) => message)).toContain(said.replace('1:2: waits', '1:2 waits'));
    }, 60_000);

    if (engine === 'suricata') {
      test('with rules that require what is not there: each is named, with the reason', async () => {
        const path = file(
          'requires.rules',
          [rule(1, 'requires: version >= 99.0.0; '), rule(2, 'requires: feature nothing; '), rule(3)].join('\n'),
        );
        const checked = await run(['rules', 'check'], [path]);
        expect(checked.stdout).toContain(
          `skipped  ${path}:1: rule 1:1: Suricata version less than required: version >= 99.0.0`,
        );
        expect(checked.stdout).toContain(`skipped  ${path}:2: rule 1:2: `);
        expect(checked.stdout).toContain('given 3 rules of custom: 0 refused, 2 skipped');
        expect(checked.code).toBe(0);
        const replayed = await run(['replay', pcap], [path]);
        expect(replayed.stderr).toContain(`left out: ${path}:1: Suricata version less than required`);
      });

      test('with a signature whose later rule requires what is not there: the earlier one fires', async () => {
        const later = (sid: number, version: string): string =>
          rule(sid, `requires: version >= ${version}; `).replace('rev:1', 'rev:2');
        const lines = [rule(1), later(1, '99.0.0'), later(2, '7'), rule(2)];
        const path = file('earlier.rules', lines.join('\n'));
        const replayed = await run(['replay', pcap], [path], '-o', 'json');
        const records = replayed.stdout
          .trim()
          .split('\n')
          .map((line) => (JSON.parse(line) as EeEvent).record);
        expect(records.map((record) => `${record.snort_signature_id}:${record.snort_signature_revision}`)).toEqual(
          expect.arrayContaining(['1:1', '2:2']),
        );
        expect(records).toHaveLength(2);
        const checked = await run(['rules', 'check'], [path]);
        expect(checked.stdout).toContain(`skipped  ${path}:2: rule 1:1: `);
      });
    }

    test('the policy holds in replay and rules test, and what is wrong with it ends them', async () => {
      const path = file('policy.rules', `${rule(1)}\n${rule(2)}\n`);
      const under = (text: string, ...command: string[]): Promise<CliResult> =>
        run(command, [path], '-o', 'json', '--alerts.policy', file('policy.yaml', text));
      const suppress = 'suppress:\n  - { name: ours, signature: 1:1 }\n';
      const replayed = await under(suppress, 'replay', pcap);
      const [event, ...others] = replayed.stdout.trim().split('\n');
      expect(others).toEqual([]);
      expect((JSON.parse(event ?? '') as EeEvent).record.snort_signature_id).toBe('2');
      expect(replayed.stderr).toContain('1 alert, 1 more suppressed by the policy (ours: 1)');
      const tested = await under(suppress, 'rules', 'test', '--pcap', pcap);
      expect(JSON.parse(tested.stdout)).toMatchObject({
        alerts: 1,
        suppressed: { ours: 1 },
        fired: [{ signature: '1:2' }],
      });
      for (const [text, why] of [
        ['suppress:\n  - { gen_id: 1, sig_id: 1 }\n', 'policy.yaml:2:7: suppress[0].gen_id: is no key here'],
        ['suppress:\n  - { source: "::/0" }\n', 'suppress[0]: matches every alert'],
        ['suppress gen_id 1, sig_id 1, track by_src, ip 10.0.0.1 # ours\n', 'policy.yaml:1: is a line of an engine'],
      ] as const) {
        for (const command of [
          ['replay', pcap],
          ['rules', 'test', '--pcap', pcap],
        ]) {
          const { stderr, stdout, code } = await under(text, ...command);
          expect(stderr).toContain(why);
          expect(stdout).toBe('');
          expect(code).toBe(2);
        }
      }
    });

    test("of a set with classes of its own: these count in events and in rules show, and are no other set's", async () => {
      const classified = (sid: number): string => rule(sid, 'classtype:trojan-activity; ');
      for (const [set, text] of [
        ['own', `${rule(1, 'classtype:my-own-class; ')}\n${classified(2)}\n`],
        ['other', `${classified(3)}\n`],
      ] as const) {
        mkdirSync(join(workspace.directory, 'sets', set), { recursive: true });
        file(`sets/${set}/x.rules`, text);
      }
      const classes = ['my-own-class,Our very own class,1', 'trojan-activity,Harmless here,4'];
      file('sets/own/classification.config', classes.map((line) => `config classification: ${line}\n`).join(''));
      const sets = ['--rulesDirectory', join(workspace.directory, 'sets'), '--rule-sets', 'own,other'];
      const replayed = await runCli(['replay', '-e', engine, ...sets, pcap, '-o', 'json']);
      const events = replayed.stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as EeEvent)
        .map(({ severity, record }) => [record.snort_signature_id, `${severity} ${record.classification}`] as const);
      expect(new Map(events)).toEqual(
        new Map([
          ['1', '100 Our very own class'],
          ['2', '40 Harmless here'],
          ['3', '100 A Network Trojan was detected'],
        ]),
      );
      const shown = await runCli(['rules', 'show', '1', '2', '3', ...sets, '-o', 'json']);
      const found = JSON.parse(shown.stdout) as ShownRule[];
      expect(found.map(({ severity, priority, classText }) => [severity, priority, classText])).toEqual([
        [100, 1, 'Our very own class'],
        [40, 4, 'Harmless here'],
        [100, 1, 'A Network Trojan was detected'],
      ]);
      const checked = await runCli(['rules', 'check', '-e', engine, ...sets]);
      expect(checked.stdout).not.toContain('my-own-class');
      expect(checked.code).toBe(0);
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
