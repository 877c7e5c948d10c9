import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { describeConfig } from '../../agent/config/describe.ts';
import { loadConfig, type Config } from '../../agent/config/load.ts';
import { alertStoreOf, sinkEntries, type SinkEntry } from '../../agent/config/sinks.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'config-sinks-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function load(yaml: string, env = {}): Config | string[] {
  const file = path.join(folder, 'agent.yaml');
  writeFileSync(file, yaml);
  const loaded = loadConfig({ file, env, flags: {} }, () => 'node');
  return 'errors' in loaded ? loaded.errors.map(({ message }) => message.replace(`${folder}/`, '')) : loaded.config;
}

function entries(yaml: string, env = {}): SinkEntry[] {
  const config = load(yaml, env);
  if (Array.isArray(config)) throw new Error(config.join('\n'));
  return sinkEntries(config.sinks);
}

const LIST = `sinks:
  - name: siem
    syslog: { address: "siem:6514", protocol: tls, format: cef, framing: newline }
    deadLetterSize: 2MiB
  - name: soc-chat
    http: { urlFile: /etc/slack, format: slack }
    when: { severity: 80, namespace: shop, signature: [21562, "1:7"] }
    quiet: { every: 5m }
  - name: lake
    elasticsearch: { nodes: [https://es:9200] }
`;

test('a list names sinks, each with what it sends, when, and how quietly', () => {
  expect(entries(LIST)).toMatchObject([
    { name: 'siem', kind: 'syslog', settings: { address: 'siem:6514', format: 'cef' }, deadLetterSize: 2 << 20 },
    {
      name: 'soc-chat',
      kind: 'http',
      settings: { urlFile: '/etc/slack', format: 'slack', method: 'POST', batchEvents: 1000 },
      when: { severity: 80, namespace: ['shop'], signature: ['21562', '1:7'] },
      quiet: { every: 300_000, after: 1, alike: ['signature', 'resource'] },
      deadLetterSize: 64 << 20,
    },
    { name: 'lake', kind: 'elasticsearch', settings: { nodes: ['https://es:9200'], verifyTls: true } },
  ]);
});

test('the form without names stays, also beside a list, from the environment', () => {
  const old = 'sinks: { stdout: { enabled: true }, syslog: { address: "a:1" }, deadLetterSize: 1MiB }';
  expect(entries(old).map(({ name, kind, deadLetterSize }) => [name, kind, deadLetterSize])).toEqual([
    ['syslog', 'syslog', 1 << 20],
    ['stdout', 'stdout', 1 << 20],
  ]);
  const env = { DPI_AGENT_SINKS_ELASTICSEARCH_NODES: 'https://es-0:9200', DPI_AGENT_SINKS_DEAD_LETTER_SIZE: '3MiB' };
  const both = entries(LIST, env);
  expect(both.map(({ name, deadLetterSize }) => [name, deadLetterSize >> 20])).toEqual([
    ['elasticsearch', 3],
    ['siem', 2],
    ['soc-chat', 3],
    ['lake', 3],
  ]);
});

test('the page reads from the first Elasticsearch, wherever it is named', () => {
  const config = load(LIST);
  expect(Array.isArray(config) ? undefined : alertStoreOf(config.sinks)?.settings.nodes).toEqual(['https://es:9200']);
  const none = load('');
  expect(Array.isArray(none) ? undefined : alertStoreOf(none.sinks)).toBeUndefined();
});

test.each([
  [
    '[{ name: a }]',
    'agent.yaml:1:17: sinks[0].name: "a": expected one of elasticsearch, opensearch, kafka, syslog, stdout, http with it',
  ],
  ['[{ name: a, stdout: {}, syslog: { address: "a:1" } }]', 'got syslog and stdout'],
  ['[{ name: A, stdout: {} }]', 'sinks[0].name: "A": expected a name of a-z, 0-9 and "-"'],
  ['[{ name: a, stdout: {} }, { name: a, stdout: {} }]', 'sinks[1].name: "a": the name is taken by sinks[0]'],
  ['[{ name: a, elasticsearch: {} }]', 'sinks[0].elasticsearch'],
  ['[{ name: a, syslog: {} }]', 'expected an address'],
  ['[{ name: a, http: {} }]', 'sinks[0].http.url: expected one of url and urlFile'],
  ['[{ name: a, http: { url: "ftp://x" } }]', 'expected a URL with http or https'],
  ['[{ name: a, http: { url: "http://u:p@x" } }]', 'without user and password'],
  ['[{ name: a, http: { url: "http://x", format: pagerduty } }]', 'expected a file with the routing key'],
  ['[{ name: a, http: { url: "http://x", format: template } }]', 'expected one of template and templateFile'],
  ['[{ name: a, http: { url: "http://x", template: x } }]', 'expected template with template'],
  ['[{ name: a, http: { url: "http://x", certFile: /c } }]', 'expected both certFile and keyFile, or neither'],
  ['[{ name: a, http: { url: "http://x", success: [foo] } }]', 'expected a list of statuses such as 200 or 2xx'],
  ['[{ name: a, http: { url: "http://x", success: [] } }]', 'expected at least one status'],
  ['[{ name: a, http: { url: "http://x", headers: { Content-Length: "5" } } }]', 'without what is of the connection'],
  ['[{ name: a, http: { url: "http://x", hmacHeader: Transfer-Encoding } }]', 'expected the name of a header'],
  ['[{ name: a, kafka: { topic: t, brokers: ["k:99999"] } }]', 'expected a list of <host>:<port>'],
  ['[{ name: a, stdout: {}, when: { resource: [] } }]', 'expected a list of <namespace>/<name>'],
  ['[{ name: a, stdout: {}, when: { severty: 80 } }]', 'unknown key; the nearest known one is sinks[].when.severity'],
  ['[{ name: a, stdout: {}, quiet: { every: 0 } }]', 'expected a time from 1s to 1d'],
])('%s is refused', (sinks, message) => {
  const errors = load(`sinks: ${sinks}`);
  expect(Array.isArray(errors) && errors.join('\n')).toContain(message);
});

test('a status is a number in YAML', () => {
  const [web] = entries('sinks: [{ name: web, http: { url: "http://x", success: [200, 4xx] } }]');
  expect(web?.settings).toMatchObject({ success: ['200', '4xx'] });
});

test('a name of the other form is taken where that is used', () => {
  const yaml = 'sinks: [{ name: syslog, syslog: { address: "b:1" } }]';
  expect(entries(yaml)).toHaveLength(1);
  const errors = load(yaml, { DPI_AGENT_SINKS_SYSLOG_ADDRESS: 'a:1' });
  expect(Array.isArray(errors) && errors.join('\n')).toContain('the name is taken by sinks.syslog');
});

test('the reference says the keys of a list as they are written', () => {
  const keys = describeConfig().map(({ key }) => key);
  expect(keys).toContain('sinks[].http.urlFile');
  expect(keys).toContain('sinks[].when.tactic');
  expect(keys).toContain('sinks[].syslog');
  expect(keys.filter((key) => key.startsWith('sinks[].syslog.'))).toEqual([]);
});
