/** `dpi-agent doctor` on this machine, with servers that answer as a test wants them to. */
import { afterEach, describe, expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Finding } from '../../agent/cli/finding.ts';
import type { Workspace } from '../support/agent.ts';
import { runCli } from '../support/cli.ts';
import { describeEngine } from '../support/engines.ts';
import { shareWorkspace } from '../support/live.ts';

let workspace: Workspace;
const servers: Server[] = [];
shareWorkspace((made) => (workspace = made));
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

async function doctor(...args: string[]): Promise<{ findings: Finding[]; code: number | null }> {
  const { stdout, stderr, code } = await runCli([
    'doctor',
    '-o',
    'json',
    '--stateDirectory',
    join(workspace.directory, 'state'),
    '--journal.directory',
    workspace.journal,
    '-i',
    'lo',
    ...args,
  ]);
  expect(stderr).toBe('');
  return { findings: JSON.parse(stdout) as Finding[], code };
}

const of = (findings: Finding[], subject: string): Finding[] => findings.filter((one) => one.subject === subject);
const messages = (findings: Finding[]): string[] => findings.map(({ level, message }) => `${level}: ${message}`);

/** A server on loopback. @returns its URL. */
async function listen(
  answer: (request: IncomingMessage, body: string, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += String(chunk)));
    request.on('end', () => answer(request, body, response));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function kubeconfig(server: string): string {
  const file = join(workspace.directory, 'kubeconfig');
  writeFileSync(
    file,
    stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'c', // Tokens are not sent without TLS, but where it says so.
          cluster: { server, 'insecure-skip-tls-verify': true },
        },
      ],
      users: [{ name: 'u', user: { token: 't' } }],
      contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
      'current-context': 'x',
    }),
  );
  return file;
}

describe('an API server', () => {
  test('each right is asked for by itself, and its clock is compared', async () => {
    const asked: object[] = [];
    const url = await listen((request, body, response) => {
      const json = (value: object): void => {
        const date = new Date(Date.now() + 600_000).toUTCString();
        response.writeHead(200, { 'content-type': 'application/json', date }).end(JSON.stringify(value));
      };
      if (request.url?.includes('selfsubjectaccessreviews')) {
        const { spec } = JSON.parse(body) as { spec: { resourceAttributes: { verb: string } } };
        asked.push(spec.resourceAttributes);
        return json({ status: { allowed: spec.resourceAttributes.verb !== 'patch' } });
      }
      if (request.url === '/apis/projectcalico.org/v3') return json({ resources: [{ name: 'deeppacketinspections' }] });
      return json({ metadata: { resourceVersion: '1' }, items: [] });
    });
    const { findings, code } = await doctor('--kubeconfig', kubeconfig(url));
    const rights = of(findings, 'api right');
    expect(messages(rights)).toEqual([
      'ok: list pods',
      'ok: watch pods',
      'ok: list services',
      'ok: get deeppacketinspections.projectcalico.org',
      'ok: list deeppacketinspections.projectcalico.org',
      'ok: watch deeppacketinspections.projectcalico.org',
      'ok: get deeppacketinspections.projectcalico.org/status',
      'error: may not patch deeppacketinspections.projectcalico.org/status: without it no status is written',
    ]);
    expect(rights.at(-1)?.remedy).toBe('kubectl apply -f deploy/rbac.yaml');
    expect(asked.at(-1)).toEqual({
      verb: 'patch',
      group: 'projectcalico.org',
      resource: 'deeppacketinspections',
      subresource: 'status',
    });
    expect(of(findings, 'clock')).toMatchObject([{ level: 'error', message: expect.stringMatching(/s behind http:/) }]);
    expect(code).toBe(1);
  });

  test('that never answers is a finding, and all else is looked at', async () => {
    const url = await listen(() => undefined);
    const { findings } = await doctor('--kubeconfig', kubeconfig(url));
    expect(of(findings, 'cluster')[0]).toMatchObject({ level: 'error' });
    expect(of(findings, 'disk')).toHaveLength(2);
    expect(of(findings, 'agent')).toHaveLength(1);
  });
});

describe('Elasticsearch', () => {
  const elasticsearch = (respond: (path: string) => { status: number; body: object } | undefined): Promise<string> =>
    listen((request, _, response) => {
      const { status, body } = respond(request.url ?? '') ?? {};
      if (status === undefined) return;
      response.writeHead(status, { 'content-type': 'application/json', 'x-elastic-product': 'Elasticsearch' });
      response.end(JSON.stringify(body));
    });

  test('whom it knows, what they lack and whether the template is there', async () => {
    const url = await elasticsearch((path) => {
      if (path.startsWith('/_security/_authenticate')) return { status: 200, body: { username: 'agent' } };
      if (!path.startsWith('/_security/user/_has_privileges')) return { status: 404, body: {} };
      const index = { 'tigera_secure_ee_events.cluster.lma': { create_doc: true, create_index: true, manage: false } };
      return { status: 200, body: { cluster: { manage_index_templates: false }, index } };
    });
    const { findings, code } = await doctor('--sinks.elasticsearch.nodes', url);
    expect(messages(of(findings, 'elasticsearch'))).toEqual([
      `ok: ${url} answers, as user agent`,
      'error: agent lacks manage_index_templates, manage on tigera_secure_ee_events.cluster.lma',
      'info: template dpi-agent-events.cluster is not there: an agent makes it before it sends',
    ]);
    expect(code).toBe(1);
  });

  test('of several nodes, each that does not answer is named, with what to do', async () => {
    const deaf = await elasticsearch(() => undefined);
    const refuses = await elasticsearch(() => ({ status: 401, body: { error: { reason: 'no' } } }));
    const nodes = ['http://127.0.0.1:1', deaf, refuses];
    const { findings } = await doctor('--sinks.elasticsearch.nodes', nodes.join(','));
    const found = of(findings, 'elasticsearch');
    expect(found.map(({ level }) => level)).toEqual(['error', 'error', 'error']);
    expect(found[0]).toMatchObject({
      message: expect.stringContaining('127.0.0.1:1'),
      remedy: expect.stringContaining('sinks.elasticsearch.nodes'),
    });
    expect(found[1]?.message).toContain('did not answer');
    expect(found[2]?.remedy).toContain('apiKeyFile');
  });
});

test('a syslog collector that does not listen is found', async () => {
  const { findings } = await doctor('--sinks.syslog.address', '127.0.0.1:1');
  expect(of(findings, 'syslog')).toMatchObject([{ level: 'error', remedy: expect.stringContaining('collector') }]);
});

test('a disk that cannot take the whole journal is a warning that names the setting', async () => {
  const { findings } = await doctor('--journal.maxSize', '1024GiB');
  expect(of(findings, 'disk')[0]).toMatchObject({
    level: 'warning',
    message: expect.stringContaining('less than the journal may still take'),
    remedy: expect.stringMatching(/^make room, or set journal\.maxSize to \d+MiB$/),
  });
});

test('a wrong configuration is told with the machine, in order', async () => {
  const { findings, code } = await doctor('--lanes', '0');
  expect(findings.map(({ subject }) => subject)).toEqual(['kernel', 'rights', 'configuration']);
  expect(findings.at(-1)?.level).toBe('error');
  expect(code).toBe(1);
});

describeEngine('snort', () => {
  test('where nothing is wrong, nothing worse than warnings is found, and the status says so', async () => {
    const { findings, code } = await doctor('-e', 'snort');
    expect(findings.filter(({ level }) => level === 'error')).toEqual([]);
    expect(of(findings, 'capture')).toMatchObject([
      { level: 'ok', message: 'packets are captured by native' },
      { level: 'info', message: 'node-pcap can be loaded too (capture.library node-pcap)' },
    ]);
    expect(of(findings, 'rules')).toMatchObject([{ level: 'ok', message: expect.stringContaining('snort accepts') }]);
    expect(of(findings, 'offload')[0]?.message).toMatch(/^lo: MTU \d+, /);
    expect(of(findings, 'agent')).toMatchObject([
      { level: 'info', message: expect.stringContaining('none runs here') },
    ]);
    expect(code).toBe(findings.some(({ level }) => level === 'warning') ? 3 : 0);
  });

  test('the table has a line for each finding and no escapes', async () => {
    const { stdout } = await runCli(['doctor', '-e', 'snort', '-i', 'lo', '--stateDirectory', workspace.directory]);
    // eslint-disable-next-line no-control-regex
    expect(stdout).not.toMatch(/\u001B/);
    expect(stdout).toMatch(/^info {5}kernel {9}Linux /);
  });
});
