/** Files that rules name, by the command line and the real Suricata; Snort's rules name none. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createWorkspace, type Workspace } from '../support/agent.ts';
import { firedBy, runCli, type CliResult } from '../support/cli.ts';
import { describeEngine } from '../support/engines.ts';
import { httpConversation, writePcap } from '../support/packets.ts';

const BODY = 'a body that a list of checksums knows';
const AGENT = 'curl/8';

const md5 = createHash('md5').update(BODY).digest('hex');
const agents = Buffer.from(AGENT).toString('base64');
const rule = (sid: number, options: string): string =>
  `alert http any any -> any any (msg:"rule ${sid}"; ${options} sid:${sid}; rev:1;)`;
const LOCAL = [
  rule(1, 'http.user_agent; dataset:isset,agents,type string,load ua.lst;'),
  rule(2, 'filemd5:md5.txt;'),
  rule(3, 'filemd5:lists/md5.txt;'),
  rule(4, 'http.user_agent; dataset:set,seen,type string,state seen.lst;'),
];
const SCRIPT = 'function init(args) return { payload = tostring(true) } end\nfunction match(args) return 1 end\n';

describeEngine('suricata', () => {
  let workspace: Workspace;
  let pcap: string;
  const file = (name: string, text: string): string => {
    const path = join(workspace.directory, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
    return path;
  };
  const given = ['-e', 'suricata', '--rule-sets', ''];
  const run = (command: string[], ...args: string[]): Promise<CliResult> => runCli([...command, ...given, ...args]);
  const fired = (...args: string[]): Promise<string[]> => firedBy(['--pcap', pcap, ...given, ...args]);
  beforeAll(() => {
    workspace = createWorkspace();
    pcap = join(workspace.directory, 'http.pcap');
    const frames = httpConversation({
      request: { headers: { 'User-Agent': AGENT } },
      response: { body: BODY },
    });
    writeFileSync(pcap, writePcap(frames));
    file('own/ua.lst', `${agents}\n`);
    file('own/md5.txt', `${md5}\n`);
    file('own/lists/md5.txt', `${md5}\n`);
    file('own/x.lua', SCRIPT);
  });
  afterAll(() => workspace.remove());

  test('datasets and lists beside the rules are used, of a file as of a folder', async () => {
    const path = file('own/local.rules', `${LOCAL.join('\n')}\n`);
    const all = ['1:1', '1:2', '1:3', '1:4'];
    expect(await fired('--rules', path)).toEqual(all);
    expect(await fired('--rules', join(path, '..'))).toEqual(all);
    const checked = await run(['rules', 'check'], '--rules', path);
    expect(checked.stdout).toMatch(/^ok .* given 4 rules of custom: 0 refused/);
  }, 120_000);

  test('reputations of the set are used', async () => {
    file('rep/categories.txt', '7,Bad,bad hosts\n');
    file('rep/bad.list', '10.0.0.0/24,7,100\n');
    const path = file('rep/r.rules', `${rule(1, 'iprep:any,Bad,>,10;')}\n${rule(2, 'iprep:any,Good,>,10;')}\n`);
    const checked = await run(['rules', 'check'], '--rules', path);
    expect(checked.stdout).toContain(`:2: iprep: ${join(path, '../categories.txt')} has no category "Good"`);
    expect(await fired('--rules', path)).toEqual(['1:1']);
  }, 120_000);

  test('what goes for a whole set is known, and thresholds are pointed to the policy', async () => {
    file('whole/reference.config', 'config reference: mine https://example.org/mine/\n');
    const threshold = file('whole/threshold.config', 'suppress gen_id 1, sig_id 1, track by_src, ip 192.0.2.1\n');
    const path = file('whole/r.rules', `${rule(1, 'content:"GET"; reference:mine,abc;')}\n`);
    const checked = await run(['rules', 'check'], '--rules', path);
    expect(checked.stdout).toContain(`warning  ${threshold}: its 1 entries have no effect`);
    expect(checked.stdout).toContain(`warning  ${threshold}:1: is a line of an engine's threshold.config`);
    expect(checked.stdout).not.toContain('unknown reference');
    const shown = await runCli(['rules', 'show', '1', '--rule-sets', '', '--rules', path]);
    expect(shown.stdout).toContain('https://example.org/mine/abc');
  }, 120_000);

  test('scripts run where rulesLua says so', async () => {
    const path = file('own/lua.rules', `${rule(5, 'lua:x.lua;')}\n${rule(6, 'http.method; content:"GET";')}\n`);
    expect(await fired('--rules', path)).not.toContain('1:5');
    expect(await fired('--rules', path, '--rulesLua', 'true')).toContain('1:5');
  }, 120_000);

  test('what can not be had is named by the file of the operator, and nothing else is left out', async () => {
    file('own/bad.lst', '!\n');
    file('own/bad.lua', 'this is no Lua\n');
    const lines = [
      rule(1, 'filemd5:../http.pcap;'),
      rule(2, 'filemd5:nowhere;'),
      rule(3, 'http.user_agent; dataset:isset,bad,type string,load bad.lst;'),
      rule(4, 'lua:bad.lua;'),
      rule(5, 'filemd5:md5.txt;'),
    ];
    const path = file('own/some.rules', `${lines.join('\n')}\n`);
    const checked = await run(['rules', 'check'], '--rules', path, '--rulesLua', 'true');
    expect(checked.stdout).toContain(`refused  ${path}:1: filemd5: "../http.pcap" leads out`);
    expect(checked.stdout).toContain(`refused  ${path}:2: filemd5: there is no file "nowhere" beside ${path}`);
    expect(checked.stdout).toContain(
      `refused  ${path}:3: dataset: ${workspace.directory}/own/bad.lst:1: expected base64`,
    );
    expect(checked.stdout).toContain(`refused  ${path}:4: `);
    expect(checked.stdout).toContain('given 2 rules of custom: 4 refused');
    expect(checked.stdout).not.toMatch(/\/config\/|dpi-agent-rules-/);
    expect(await fired('--rules', path, '--rulesLua', 'true')).toEqual(['1:5']);
  }, 120_000);
});
