import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { EngineInstall, GenerationInput } from '../../agent/engine/engine.ts';
import { createSnortDriver, type SnortSettings } from '../../agent/engine/snort/snort.ts';
import { createSuricataDriver } from '../../agent/engine/suricata/suricata.ts';

let folder: string;
let input: GenerationInput;
let snort: EngineInstall;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-drivers-'));
  const prefix = join(folder, 'opt', "it's snort");
  for (const path of ['bin', 'etc/snort', 'lib/daq']) mkdirSync(join(prefix, path), { recursive: true });
  writeFileSync(join(prefix, 'bin/snort'), '');
  writeFileSync(join(prefix, 'etc/snort/snort.lua'), '');
  symlinkSync(join(prefix, 'bin/snort'), join(folder, 'snort'));
  snort = { name: 'snort', binary: join(folder, 'snort'), version: '3.12.2.0', searchMethods: ['hyperscan'] };
  input = {
    mode: 'live',
    fifo: '/run/g/packets.fifo',
    configDirectory: folder,
    outputDirectory: '/run/g/output',
    rulesDirectory: folder,
    ruleFiles: ['/run/g/config/000-a.rules', '/run/g/config/001-b.rules'],
    policies: [],
    output: 'json',
  };
});

afterEach(() => rmSync(folder, { recursive: true }));

async function prepareSnort(settings: Partial<SnortSettings> = {}, more: Partial<GenerationInput> = {}) {
  const driver = createSnortDriver({ searchMethod: 'auto', arguments: [], ...settings });
  const command = await driver.prepare(snort, { ...input, ...more });
  return { command, lua: readFileSync(join(folder, 'snort.lua'), 'utf8') };
}

describe('snort.lua', () => {
  test('includes the installation’s own, then has what the agent needs', async () => {
    const { lua } = await prepareSnort();
    const lines = lua.split('\n');
    expect(lines[1]).toBe(`include '${folder}/opt/it\\'s snort/etc/snort/snort.lua'`);
    expect(lua).toContain(`network = { checksum_eval = 'none' }`);
    expect(lua).toContain('[[\ninclude /run/g/config/000-a.rules\ninclude /run/g/config/001-b.rules\n]]');
    expect(lua).toMatch(
      /^alert_json = \{ file = true, limit = \d+, fields = '[^']*\bvlan\b[^']*\bb64_data\b[^']*' \}$/m,
    );
    expect(lua).not.toContain('unified2');
  });

  test.each([
    ['auto', ['hyperscan'], 'hyperscan'],
    ['auto', [], undefined],
    ['ac_full', ['hyperscan'], 'ac_full'],
  ])('search method %s with a build that has %j is %s', async (searchMethod, searchMethods, expected) => {
    snort = { ...snort, searchMethods };
    const { lua } = await prepareSnort({ searchMethod });
    expect(/^search_engine = \{ search_method = '(.*)' \}$/m.exec(lua)?.[1]).toBe(expected);
  });

  test.each([
    ['reading / writing', 'hyperscan', ", rule_db_dir = '/run/g/patterns'"],
    ['reading / writing', 'ac_full', ''],
    ['reading', 'hyperscan', ''],
  ])('a build whose folder of patterns is for %s keeps those of %s: %s', async (use, searchMethod, expected) => {
    const says = `string search_engine.rule_db_dir: directory for ${use} rule group databases`;
    writeFileSync(snort.binary, `#!/bin/sh\n[ "$*" = '--help-config search_engine' ] && echo '${says}'\n`);
    chmodSync(snort.binary, 0o755);
    const { lua } = await prepareSnort({ searchMethod }, { patternsDirectory: '/run/g/patterns' });
    expect(lua).toContain(`search_engine = { search_method = '${searchMethod}'${expected} }`);
  });

  test('asks for time-stamped files of unified2', async () => {
    const { lua, command } = await prepareSnort({}, { output: 'unified2' });
    expect(lua).toMatch(/^unified2 = \{ .*nostamp = false/m);
    expect(lua).not.toContain('alert_json');
    expect(command).toMatchObject({ alertFile: 'unified2.log', stamped: true });
  });

  test('bounds flows and what they hold back by the memory limit', async () => {
    expect((await prepareSnort()).lua).not.toContain('max_flows');
    const { lua } = await prepareSnort({ memoryLimit: 768 << 20 });
    expect(lua).toContain('stream = { max_flows = 61440 }');
    expect(lua).toContain('stream_tcp = { queue_limit = { max_bytes = 983040 } }');
    expect(lua).toContain('memory = { cap = 805306368 }');
    expect((await prepareSnort({ memoryLimit: 2 ** 40 })).lua).toContain('max_bytes = 4194304');
  });

  test('includes the operator’s file last', async () => {
    const { lua } = await prepareSnort({}, { overridesFile: '/etc/dpi/extra.lua' });
    expect(lua.trimEnd().split('\n').at(-1)).toBe(`include '/etc/dpi/extra.lua'`);
  });

  test('other rule sets are a policy of some VLAN ids, behind the operator’s binder', async () => {
    const policies = [{ id: 2, vlans: [7, 9], ruleFiles: ['/r/b.rules'] }];
    const { lua } = await prepareSnort({}, { policies, overridesFile: '/etc/dpi/extra.lua' });
    expect(lua.trimEnd().split('\n').slice(-3)).toEqual([
      `include '/etc/dpi/extra.lua'`,
      'binder = binder or {}',
      `table.insert(binder, 1, { when = { vlans = '7 9' }, use = { ips_policy = '${folder}/policy-2.lua' } })`,
    ]);
    const policy = readFileSync(join(folder, 'policy-2.lua'), 'utf8');
    expect(policy).toMatch(
      /^include '.*etc\/snort\/snort_defaults\.lua'\n(?:default_variables.*\n)+ips = \{ id = 2, .* rules = \[\[\ninclude \/r\/b\.rules\n\]\] \}\n$/,
    );
  });

  test('sets variables, what follows from them, and what the installation has not', async () => {
    const variables = {
      HOME_NET: '[10.0.0.0/8,!10.1.0.0/16]',
      EXTERNAL_NET: '!$HOME_NET',
      HTTP_PORTS: '8080',
      MINE: '53',
    };
    await prepareSnort({}, { variables, policies: [{ id: 2, vlans: [7], ruleFiles: [] }] });
    for (const name of ['snort.lua', 'policy-2.lua']) {
      const lines = readFileSync(join(folder, name), 'utf8').split('\n');
      expect(lines).toEqual(
        expect.arrayContaining([
          `default_variables.nets.HOME_NET = '[10.0.0.0/8,!10.1.0.0/16]'`,
          `default_variables.nets.EXTERNAL_NET = '![10.0.0.0/8,!10.1.0.0/16]'`,
          `default_variables.nets.SQL_SERVERS = '[10.0.0.0/8,!10.1.0.0/16]'`,
          `default_variables.ports.HTTP_PORTS = '8080'`,
          `default_variables.ports.FILE_DATA_PORTS = '[8080,110,143]'`,
          `default_variables.ports.MINE = '53'`,
          `default_variables.ports.VXLAN_PORTS = default_variables.ports.VXLAN_PORTS or '4789'`,
        ]),
      );
    }
    expect((await prepareSnort()).lua).toContain(
      'default_variables.nets.AIM_SERVERS = default_variables.nets.AIM_SERVERS or default_variables.nets.HOME_NET\n',
    );
  });

  test('no name breaks out of its string', async () => {
    for (const name of [`/x'; os.execute('id') --`, '/x\\', "/x\\'", '/x\ninclude "y"', '/x\\\n']) {
      const { lua } = await prepareSnort({ searchMethod: name }, { overridesFile: name });
      const literals = [
        ...lua.matchAll(/^(?:include|search_engine = \{ search_method =) ('(?:[^'\\\n]|\\.)*')( \})?$/gm),
      ];
      // The installation's, the search method and the operator's: as a reader of Lua sees them.
      const read = literals.map(([, literal = '']) =>
        literal.slice(1, -1).replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped)),
      );
      expect(read.slice(1)).toEqual([name, name]);
    }
  });

  test('an installation without snort.lua is an error that says where it was looked for', async () => {
    rmSync(join(folder, 'opt'), { recursive: true });
    mkdirSync(join(folder, 'opt/bin'), { recursive: true });
    rmSync(join(folder, 'snort'));
    writeFileSync(join(folder, 'opt/bin/snort'), '');
    snort = { ...snort, binary: join(folder, 'opt/bin/snort') };
    // Where this machine has Snort's configuration in the usual place, that one is taken.
    const outcome = await prepareSnort().then(
      ({ lua }) => lua,
      (error: unknown) => String(error),
    );
    expect(outcome).toMatch(
      /snort\.lua was not found \(looked at .*\/opt\/etc\/snort\/snort\.lua, |include '\/etc\/snort\/snort\.lua'/,
    );
  });
});

describe('Snort’s command line', () => {
  test('reads the FIFO, packet by packet when live, whole frames, modules from beside the executable', async () => {
    const { command } = await prepareSnort({ arguments: ['--mine'] });
    expect(command.arguments.join(' ')).toBe(
      `-c ${folder}/snort.lua --daq-dir ${folder}/opt/it's snort/lib/daq -r /run/g/packets.fifo -l /run/g/output -s 65535 -U -y --daq-batch-size 1 --mine`,
    );
    expect(command).toMatchObject({ alertFile: 'alert_json.txt', stamped: false });
  });

  test('reads a replay in batches', async () => {
    expect((await prepareSnort({}, { mode: 'replay' })).command.arguments).not.toContain('--daq-batch-size');
  });

  test('only checks configuration and rules to validate', async () => {
    const driver = createSnortDriver({ searchMethod: 'auto', arguments: ['--mine'] });
    const args = await driver.validateArguments(snort, input);
    expect(args).toEqual(expect.arrayContaining(['-T', '--mine', '-c', join(folder, 'snort.lua')]));
    expect(args).not.toContain('-r');
  });
});

describe('what Snort says', () => {
  const driver = createSnortDriver({ searchMethod: 'auto', arguments: [] });
  // Snort 3.12.2
  const log = `Loading ips.rules:
Loading /run/g/config/000-a.rules:
ERROR: /run/g/config/000-a.rules:2 unknown rule keyword: nosuch.
ERROR: my rules/b.rules:4 unknown rule action ';'
ERROR: can't find a decoder module called: nosuch
FATAL: see prior 3 errors (0 warnings)
Fatal Error, Quitting..
`;

  test('of rules has file and line where it names them', () => {
    expect(driver.ruleErrors(log, 10)).toEqual([
      { file: '/run/g/config/000-a.rules', line: 2, reason: 'unknown rule keyword: nosuch.' },
      { file: 'my rules/b.rules', line: 4, reason: "unknown rule action ';'", follows: true },
      { reason: "can't find a decoder module called: nosuch" },
    ]);
    expect(driver.ruleErrors(log, 1)).toHaveLength(1);
    expect(driver.ruleErrors('all is well', 10)).toEqual([]);
  });

  test('of a Lua file is kept whole', () => {
    const text = "can't init /run/g/snort.lua: /run/g/snort.lua:3: unexpected symbol near '='";
    expect(driver.ruleErrors(`FATAL: ${text}\n`, 10)).toEqual([{ reason: text }]);
  });

  test('of packets is the number analysed', () => {
    const summary = `Packet Statistics
--------------------------------------------------
daq
                    pcaps: 1
                 received: 20
                 analyzed: 20
                    allow: 20
--------------------------------------------------
detection
                 analyzed: 20
             raw_searches: 2
`;
    expect(driver.analysedPackets(summary)).toBe(20);
    expect(driver.analysedPackets('not analyzed: yet')).toBeUndefined();
  });
});

describe('suricata.yaml', () => {
  const install: EngineInstall = {
    name: 'suricata',
    binary: '/usr/bin/suricata',
    version: '7.0.10',
    searchMethods: [],
  };
  async function prepare(
    settings: Partial<Parameters<typeof createSuricataDriver>[0]> = {},
    more: Partial<GenerationInput> = {},
  ) {
    const driver = createSuricataDriver({ arguments: [], ...settings });
    const command = await driver.prepare(install, { ...input, ...more });
    const text = readFileSync(join(folder, 'suricata.yaml'), 'utf8');
    return { command, text, config: parse(text) as Record<string, unknown> };
  }

  test('has the rules, alerts with payload, VLAN ids in the flow’s key and no checksums', async () => {
    const { text, config } = await prepare();
    expect(text).toMatch(/^%YAML 1\.1\n---\n/);
    expect(config).toMatchObject({
      'rule-files': input.ruleFiles,
      vars: { 'address-groups': { HOME_NET: 'any', EXTERNAL_NET: 'any' } },
      outputs: [
        { 'eve-log': { filename: 'eve.json', types: [{ alert: { payload: true } }] } },
        { 'eve-log': { filename: 'stats.json', types: [{ stats: { totals: true } }] } },
      ],
      vlan: { 'use-for-tracking': true },
      stream: { 'checksum-validation': false, midstream: true },
      'pcap-file': { 'checksum-checks': false },
    });
  });

  test.each([
    [undefined, '32768kb', '15616kb', '65536kb', '262144kb', 65_536],
    [128 << 20, '5461kb', '6016kb', '10922kb', '43690kb', 8_192],
    [2 ** 40, '44739242kb', '15732736kb', '89478485kb', '357913941kb', 65_536],
  ])('shares a memory limit of %d bytes out', async (memoryLimit, defrag, flow, stream, reassembly, buckets) => {
    const { config } = await prepare(memoryLimit === undefined ? {} : { memoryLimit });
    expect(config).toMatchObject({
      defrag: { memcap: defrag, 'hash-size': buckets },
      flow: { memcap: flow },
      stream: { memcap: stream, reassembly: { memcap: reassembly } },
    });
  });

  test('other rule sets are a tenant of some VLAN ids, with all that rules need', async () => {
    const { config } = await prepare({}, { policies: [{ id: 2, vlans: [7, 9], ruleFiles: ['/r/b.rules'] }] });
    expect(config).toMatchObject({
      'multi-detect': {
        default: true,
        tenants: [{ id: 2, yaml: `${folder}/tenant-2.yaml` }],
        mappings: [
          { 'vlan-id': 7, 'tenant-id': 2 },
          { 'vlan-id': 9, 'tenant-id': 2 },
        ],
      },
    });
    const { vars, ...rest } = parse(readFileSync(join(folder, 'tenant-2.yaml'), 'utf8')) as Record<string, unknown>;
    expect(vars).toEqual(config['vars']);
    expect(rest).toMatchObject({ 'rule-files': ['/r/b.rules'] });
  });

  test('variables add to the defaults, and those of the overrides to both; behind these, which may have only some', async () => {
    const overrides =
      '%YAML 1.1\n---\nvars:\n  address-groups: { HOME_NET: "[10.0.0.0/8]" }\n  port-groups: { SSH_PORTS: 2222 }\n';
    const { text, config } = await prepare(
      {},
      {
        variables: { HOME_NET: '192.168.0.0/16', HTTP_PORTS: '8080', MINE: '[53,5353]' },
        overrides,
        overridesFile: '/o',
        policies: [{ id: 2, vlans: [7], ruleFiles: [] }],
      },
    );
    expect(config['vars']).toMatchObject({
      'address-groups': { HOME_NET: '[10.0.0.0/8]', EXTERNAL_NET: 'any', HTTP_SERVERS: '$HOME_NET' },
      'port-groups': { SSH_PORTS: '2222', HTTP_PORTS: '8080', MINE: '[53,5353]', SNORT_HTTP_PORTS: '$HTTP_PORTS' },
    });
    expect(text.indexOf('\nvars:')).toBeGreaterThan(text.indexOf('\ninclude:'));
    const tenant = parse(readFileSync(join(folder, 'tenant-2.yaml'), 'utf8')) as Record<string, unknown>;
    expect(tenant['vars']).toEqual(config['vars']);
  });

  test('says each setting where it belongs: Suricata passes over aliases', async () => {
    const { text } = await prepare();
    expect(text).not.toMatch(/: [&*]/);
    expect(text).toMatch(/^ {4}smtp:\n {6}enabled: yes$/m);
  });

  test('keeps names with quotes, colons and hashes as they are', async () => {
    const ruleFiles = [`/r/it's "a" rule.rules`, '/r/a: b #c.rules', '/r/- [x].rules'];
    const overridesFile = `/etc/it's: "mine".yaml`;
    expect((await prepare({}, { ruleFiles, overridesFile })).config).toMatchObject({
      'rule-files': ruleFiles,
      include: [overridesFile],
    });
  });

  test('is run on the FIFO by one thread, in the order of the packets', async () => {
    const { command } = await prepare({ arguments: ['--mine'] });
    const line = command.arguments.join(' ');
    expect(line).toContain(
      `-c ${folder}/suricata.yaml -l /run/g/output -k none -r /run/g/packets.fifo --runmode single`,
    );
    expect(line).toMatch(/ --mine$/);
    expect(command).toMatchObject({ alertFile: 'eve.json', stamped: false });
  });

  test('has tenants where there are policies or may come: Suricata refuses to have none in a replay', async () => {
    const enabled = async (more: Partial<GenerationInput>): Promise<unknown> =>
      ((await prepare({}, more)).config['multi-detect'] as { enabled: unknown }).enabled;
    expect(await enabled({ mode: 'live' })).toBe(true);
    expect(await enabled({ mode: 'replay' })).toBe(false);
  });

  test('tells all alerts of a packet where endpoints share rules, and in a replay those that Suricata tells by itself', async () => {
    const { config } = await prepare({}, { mode: 'live' });
    expect(config['packet-alert-max']).toBe(255);
    expect((await prepare({}, { mode: 'replay' })).config).not.toHaveProperty('packet-alert-max');
  });

  test('is only checked to validate', async () => {
    const args = await createSuricataDriver({ arguments: [] }).validateArguments(install, input);
    expect(args).toContain('-T');
    expect(args).not.toContain('-r');
  });
});

describe('what Suricata says', () => {
  const driver = createSuricataDriver({ arguments: [] });
  // Suricata 7.0.10, with the agent's configuration and with Debian's.
  const log = (error: string): string => `Notice: suricata: This is Suricata version 7.0.10 RELEASE running in USER mode
${error}: detect-parse: unknown rule keyword 'nosuch'.
${error}: detect: error parsing signature "alert tcp any any -> any any ( msg:"bad"; nosuch:1; sid:2; rev:1; )" from file /run/g/config/000-a.rules at line 2
${error}: rule-vars: Variable "NOPE" is not defined in configuration file
${error}: detect: error parsing signature "alert tcp any any -> $NOPE any ( msg:"bad4"; )" from file my rules/b.rules at line 4
${error}: detect: error parsing signature "alert" from file c.rules at line 1
${error}: suricata: Loading signatures failed.
`;

  test.each(['Error', 'E'])('of rules has file, line, sid and the reason from the line before (%s:)', (error) => {
    expect(driver.ruleErrors(log(error), 10)).toEqual([
      { file: '/run/g/config/000-a.rules', line: 2, sid: 2, reason: "unknown rule keyword 'nosuch'." },
      { file: 'my rules/b.rules', line: 4, reason: 'rule-vars: Variable "NOPE" is not defined in configuration file' },
      { file: 'c.rules', line: 1, reason: 'not a rule of this version' },
    ]);
    expect(driver.ruleErrors(log(error), 1)).toHaveLength(1);
    expect(driver.ruleErrors('Info: all is well', 10)).toEqual([]);
  });

  test('of packets is the number read', () => {
    expect(
      driver.analysedPackets('Notice: suricata: Signal Received.\nNotice: pcap: read 1 file, 20 packets, 1831 bytes\n'),
    ).toBe(20);
    expect(driver.analysedPackets('Notice: suricata: Signal Received.\n')).toBeUndefined();
  });
});
