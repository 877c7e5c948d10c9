import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { checkSinks } from '../../agent/cli/sink-findings.ts';
import { loadConfig } from '../../agent/config/load.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sink-findings-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

async function found(...sinks: object[]): Promise<string[]> {
  const loaded = loadConfig({ env: {}, flags: { sinks } }, () => 'node-1');
  if ('errors' in loaded) throw new Error(loaded.errors[0]?.message);
  const findings = await checkSinks(loaded.config.sinks);
  return findings.map(({ level, message, remedy = '' }) => `${level}: ${message} ${remedy}`);
}

test('of each sink, what it would wait for is named, and no secret', async () => {
  const at = (name: string): string => join(directory, name);
  writeFileSync(at('empty'), '');
  writeFileSync(at('no-url'), 'geheim');
  writeFileSync(at('template'), '{% if %}');
  const url = 'http://127.0.0.1:1/';
  const kafka = { brokers: ['k:9092'], topic: 't' };
  const findings = await found(
    { name: 'fine', http: { url }, when: { tactic: ['TA0011', 'command and control'] } },
    { name: 'chat', http: { urlFile: at('no-url') } },
    { name: 'web', http: { url, secretFile: at('empty') } },
    { name: 'inline', http: { url, format: 'template', template: '{{ alert.id' } },
    { name: 'tickets', http: { url, format: 'template', templateFile: at('template') } },
    { name: 'bus', kafka: { ...kafka, username: 'me', passwordFile: at('none') } },
    { name: 'lake', opensearch: { nodes: [url], caFile: at('no-url') } },
    { name: 'siem', syslog: { address: 'siem:6514', protocol: 'tls', caFile: at('none') } },
    { name: 'late', stdout: {}, when: { tactic: 'Comand and Control' } },
  );
  expect(findings).toEqual([
    expect.stringContaining(`error: chat: ${at('no-url')} holds no URL`),
    expect.stringContaining(`error: web: ${at('empty')} is empty`),
    expect.stringContaining('error: inline: the template is wrong'),
    expect.stringContaining('error: tickets: the template is wrong'),
    expect.stringContaining(`error: bus: can't read ${at('none')}: ENOENT`),
    expect.stringContaining(`error: lake: ${at('no-url')} holds no certificate`),
    expect.stringContaining(`error: siem: can't read ${at('none')}: ENOENT`),
    expect.stringMatching(
      /^warning: late: when.tactic: "Comand and Control" is no tactic.* mean Command and Control\?$/,
    ),
  ]);
  expect(findings.join()).not.toContain('geheim');
});

test('where nothing is wrong that is said, and nothing where there is none', async () => {
  expect(await found({ name: 'console', stdout: {} })).toEqual([expect.stringContaining('ok: 1 sink')]);
  expect(await found()).toEqual([]);
});
