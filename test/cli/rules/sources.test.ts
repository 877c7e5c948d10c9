/** `rules update`, `rollback` and `diff` with sources of the configuration, as a user runs them; without an engine. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ShownDiff } from '../../../agent/cli/rules/diff.ts';
import { segmentPath } from '../../../agent/journal/segment.ts';
import { runCli, type CliResult } from '../../support/cli.ts';
import { serveLoopback, type Loopback } from '../../support/loopback.ts';

const SECRET = 'oink-code-of-mine';
const rule = (sid: number, rev = 1): string =>
  `alert tcp any any -> any any (msg:"rule ${sid}"; classtype:trojan-activity; sid:${sid}; rev:${rev};)\n`;

let directory: string;
let server: Loopback;
/** By path; what is not there is 404. */
const answers = new Map<string, string | ((response: ServerResponse) => void)>();
/** All that any command has said. */
const said: string[] = [];

const at = (name: string): string => join(directory, name);
const inUse = (set: string): string => readlinkSync(at(`rules/${set}`));

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'cli-sources-'));
  server = await serveLoopback(({ url = '' }, response) => {
    const answer = answers.get(url);
    if (answer === undefined) response.writeHead(404).end();
    else if (typeof answer === 'string') response.end(answer);
    else answer(response);
  });
  writeFileSync(at('code'), `${SECRET}\n`);
  writeFileSync(at('b.rules'), rule(11));
});
afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

beforeEach(() => {
  const { base } = server;
  writeFileSync(
    at('agent.yaml'),
    `# an agent
stateDirectory: ${at('state')}
rulesDirectory: ${at('rules')}
journal: { directory: ${at('journal')} }
ruleSets: [kubernetes] # what is loaded
ruleSources:
  - name: paid
    url: ${base}/a.rules?oinkcode={secret}
    secretFile: ${at('code')}
  - name: disk
    set: own
    file: ${at('b.rules')}
`,
  );
});

const paid = `/a.rules?oinkcode=${SECRET}`;
async function rules(...args: string[]): Promise<CliResult> {
  const result = await runCli(['rules', ...args, '-c', at('agent.yaml')]);
  said.push(result.stdout, result.stderr);
  return result;
}

test('update takes all sources, says what is loaded, and adds to ruleSets what it is told to', async () => {
  answers.set(paid, rule(1) + rule(2));
  const first = await rules('update', '--no-check');
  expect(first).toMatchObject({ code: 0, stderr: '' });
  expect(first.stdout).toMatch(/^paid: version .*, 2 rules, no checksum published\nown: version .*, 1 rule,/);
  expect(first.stdout).toContain('loaded by the configuration (ruleSets): kubernetes\n');
  expect(first.stdout).toContain(
    `paid (not used): add it to ruleSets in ${at('agent.yaml')}, or name it in a resource`,
  );
  expect(first.stdout).toContain('own (not used)');

  const check = await runCli(['check', '-c', at('agent.yaml'), '-o', 'json']);
  said.push(check.stdout, check.stderr);
  if (!/"subject": "engine",\s+"message": ".*(?:no engine|not found)/.test(check.stdout)) {
    expect(check.stdout).toContain('the set paid is there, and ruleSets does not name it: it is not used');
  }

  const used = await rules('update', 'disk', '--no-check', '--use', '-o', 'json');
  expect(JSON.parse(used.stdout)).toMatchObject({
    set: 'own',
    outcome: 'updated',
    changed: false,
    loaded: ['kubernetes', 'own'],
    notUsed: ['paid'],
  });
  const text = readFileSync(at('agent.yaml'), 'utf8');
  expect(text).toContain('# an agent\n');
  expect(text).toContain('ruleSets: [kubernetes, own] # what is loaded\n');
  expect((await rules('list')).stdout).toMatch(/paid \(not used\)[^]*oinkcode|paid \(not used\)/);
}, 120_000);

test('a source that fails does not keep the others from their update', async () => {
  answers.set(paid, (response) => response.writeHead(403).end(SECRET));
  writeFileSync(at('b.rules'), rule(11) + rule(12));
  const { code, stdout, stderr } = await rules('update', '--no-check');
  expect(code).toBe(1);
  expect(stdout).toMatch(/^own: version .*, 2 rules/);
  expect(stderr).toMatch(
    /^dpi-agent: http:.*oinkcode=\*\*\*: answered with status 403: it does not take the secret\n$/,
  );
}, 60_000);

test('rollback pins a set against all updates but one by name', async () => {
  const newest = inUse('own');
  const back = await rules('rollback', 'disk');
  expect(back.stdout).toMatch(
    /^own: back to version .*, 1 rule\nit stays so until: dpi-agent rules rollback own --release\n$/,
  );
  answers.set(paid, rule(1));
  expect((await rules('update', '--no-check')).stdout).toContain('own: stays as it is, it was rolled back');
  expect(inUse('own')).not.toBe(newest);
  expect((await rules('rollback', 'own', '--release', '-o', 'json')).stdout).toContain('"released": true');
  expect((await rules('update', '--no-check')).stdout).toMatch(/own: version .*, 2 rules/);
  await rules('rollback', 'own');
  expect((await rules('update', 'disk', '--no-check')).stdout).toMatch(/own: version .*, 2 rules/);
  expect((await rules('rollback', 'own', '--release')).stdout).toBe('own: it was not pinned\n');
}, 120_000);

describe('diff', () => {
  beforeAll(() => {
    mkdirSync(at('journal'), { recursive: true });
    const event = (sid: string): string =>
      `${JSON.stringify({
        origin: 'dpi.default/x',
        severity: 100,
        source_ip: '10.0.0.1',
        source_name: '-',
        source_namespace: '-',
        dest_ip: '10.0.0.2',
        dest_name: '-',
        dest_namespace: '-',
        record: {
          snort_signature_id: sid,
          snort_signature_revision: '1',
          generator_id: '1',
          timestamp: new Date().toISOString(),
          message: 'm',
          seen_at: [],
        },
      })}\n`;
    writeFileSync(segmentPath(at('journal'), 1), event('21') + event('21') + event('22') + event('23'));
    writeFileSync(at('old.rules'), rule(21) + rule(22) + rule(23));
    writeFileSync(at('new.rules'), rule(22, 2) + rule(23) + rule(24));
  });

  test('says what comes and goes, and what it did of late', async () => {
    const { stdout, code } = await rules('diff', at('old.rules'), at('new.rules'), '-o', 'json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout) as ShownDiff).toMatchObject({
      added: [{ sid: 24, severity: 100 }],
      removed: [{ sid: 21, events: 2 }],
      changed: [{ sid: 22, events: 1, formerRev: 1, rev: 2, changes: ['rev'] }],
      same: 1,
      classes: [{ classtype: 'trojan-activity', severity: 100, added: 1, removed: 1, changed: 1 }],
    });
    const table = (await rules('diff', at('old.rules'), at('new.rules'))).stdout;
    expect(table).toContain(': 1 added, 1 removed, 1 changed, 1 the same\n');
    expect(table).toContain('- 1:21:1  rule 21  2 events\n');
    expect(table).toContain('~ 1:22:2  rule 22: rev (was rev 1)  1 event\n');
  }, 60_000);

  test('of a set alone is that to the version before', async () => {
    const { stdout } = await rules('diff', 'own');
    expect(stdout).toContain('own@previous → own: ');
    expect((await rules('diff', 'own@1999')).stderr).toContain('there is no version 1999');
    expect((await rules('diff', at('old.rules'), '/no/such')).stderr).toContain('no such file or folder');
  }, 60_000);
});

test.each([
  [['update', 'nobody'], 'there is no source "nobody" in ruleSources; there is: paid, disk'],
  [['update', 'paid', '--from', 'x'], 'expected names of sources, or --from and --set'],
  [['rollback', '../x'], 'argument set'],
  [['diff', 'own', '--since', 'yesterday'], 'flag --since'],
])(
  '%j is refused',
  async (args, why) => {
    expect(await rules(...args)).toMatchObject({ code: 2, stderr: expect.stringContaining(why) });
  },
  60_000,
);

test('the secret is in no command line, output or file', async () => {
  let commandLine = '';
  answers.set(paid, (response) => {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        commandLine += readFileSync(`/proc/${pid}/cmdline`, 'utf8') + readFileSync(`/proc/${pid}/environ`, 'utf8');
      } catch {
        // It ended.
      }
    }
    response.end(rule(1) + rule(3));
  });
  await rules('update', 'paid', '--no-check');
  expect(commandLine).toContain('rules\0update\0paid');
  for (const text of [commandLine, ...said]) expect(text).not.toContain(SECRET);
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const holders = files.filter(({ parentPath, name }) => readFileSync(join(parentPath, name), 'utf8').includes(SECRET));
  expect(holders.map(({ name }) => name)).toEqual(['code']);
}, 60_000);
