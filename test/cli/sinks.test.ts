/** `dpi-agent sinks`, as a process of its own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { noProgress, saveProgress } from '../../agent/ship/cursor.ts';
import { answer, startServer, type TestServer } from '../ship/http/server.ts';
import { runCli, type CliResult } from '../support/cli.ts';

let directory: string;
let file: string;
let server: TestServer;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cli-sinks-'));
  file = join(directory, 'agent.yaml');
  server = await startServer(answer(202, '{"status":"success"}'));
  await writeFile(join(directory, 'token'), 'TheTokenOfThePager00000000000000');
  await writeFile(
    file,
    `stateDirectory: ${directory}
sinks:
  - name: pager
    http:
      url: ${server.url}/v2/enqueue/aaaaaaaaaaaaaaaaaaaaaaaa
      format: pagerduty
      secretFile: ${directory}/token
      headers: { X-Tenant: tenant-of-mine }
    when: { severity: 90 }
    quiet: { every: 1h }
  - name: console
    stdout: {}
`,
  );
});
afterEach(async () => {
  await server.close();
  await rm(directory, { recursive: true });
});

const sinks = (...args: string[]): Promise<CliResult> => runCli(['sinks', ...args]);

test('list names them, show says their settings and counts, and nothing of it is secret', async () => {
  const progress = { ...noProgress(), cursor: { segment: 0, offset: 0, event: 9 }, delivered: 7, filtered: 2 };
  await saveProgress(join(directory, 'sinks', 'pager.cursor.json'), progress);
  const [list, json, show] = await Promise.all([
    sinks('list', '-c', file),
    sinks('list', '-c', file, '-o', 'json'),
    sinks('show', 'pager', '-c', file),
  ]);
  expect(list.stdout.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
    ['NAME', 'KIND', 'TO', 'WHEN', 'QUIET'],
    ['pager', 'http pagerduty', server.url, 'severity: 90', 'every: 3600000, after: 1, alike: signature resource'],
    ['console', 'stdout', 'standard output', '-', '-'],
    [''],
  ]);
  expect(JSON.parse(json.stdout)).toMatchObject([{ name: 'pager', kind: 'http' }, { name: 'console' }]);
  expect(show.stdout).toContain(`url: ${server.url}/…`);
  expect(show.stdout).toContain('headers: {"X-Tenant":"***"}');
  expect(show.stdout).toContain('delivered 7, refused 0, evicted 0, filtered 2, digested 0');
  for (const { stdout } of [list, json, show]) expect(stdout).not.toMatch(/aaaaaa|tenant-of-mine|TheToken/);
});

test('test sends a sample that is marked, past filters, and says what was answered', async () => {
  const { code, stdout } = await sinks('test', 'pager', '-c', file);
  expect(code).toBe(0);
  const [request] = server.received;
  expect(request?.body).toContain('TEST of dpi-agent: nothing was found');
  expect(request?.body).toContain('TheTokenOfThePager');
  expect(stdout).toContain('answer: 202 {"status":"success"}');
  expect(stdout).toMatch(new RegExp(`pager: ${server.url} took the test, event [0-9a-f]{40}`));

  server.reply(answer(403, 'invalid routing key TheTokenOfThePager00000000000000'));
  const refused = await sinks('test', 'pager', '-c', file, '-o', 'json');
  expect(refused.code).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    sink: 'pager',
    delivered: false,
    failure: 'unauthorized',
    answer: '403 invalid routing key ***',
  });
});

test('of standard output, only the sample goes there; of a name that is not there, the others are said', async () => {
  const [own, unknown] = await Promise.all([sinks('test', 'console', '-c', file), sinks('show', 'pagr', '-c', file)]);
  expect(own.code).toBe(0);
  expect(own.stdout.trim().split('\n')).toHaveLength(1);
  expect(JSON.parse(own.stdout)).toMatchObject({ host: expect.any(String), origin: 'dpi.default/dpi-agent-test' });
  expect(unknown.code).toBe(2);
  expect(unknown.stderr).toContain('the configuration has no sink "pagr": expected one of pager, console');
});
