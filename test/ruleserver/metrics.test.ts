/** The rule server's metrics. */
import { describe, expect, test } from '@jest/globals';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMetrics } from '../../agent/ruleserver/metrics.ts';
import { PROJECT } from '../support/project.ts';
import { checkMetrics, testWithPromtool } from '../support/promtool.ts';

const GOLDEN = join(PROJECT, 'test/ruleserver/metrics.golden');

const text = createMetrics(
  {
    sets: () => [
      {
        set: 'community',
        target: {
          digest: 'a'.repeat(64),
          version: '20261130T071500Z-aaaa',
          bytes: 1,
          rules: 1,
          engines: [],
          since: '',
          state: 'stopped',
          node: 'n1',
          reason: 'no',
          provers: [],
        },
        nodes: { target: 0, proven: 7, other: 1 },
      },
    ],
    sources: () => [
      {
        name: 'talos',
        set: 'community',
        state: 'failed',
        nextAt: 0,
        looks: { updated: 1, unchanged: 2, refused: 3, failed: 4 },
      },
    ],
    requests: () => new Map([[401, 3]]),
  },
  '1.2.3',
);

describe("the rule server's metrics", () => {
  test('are those of metrics.golden (UPDATE_GOLDEN=1 writes it), and all in docs/metrics.md', async () => {
    const own = (await text())
      .split('\n')
      .filter((line) => line.startsWith('# ') && !/ dpi_agent_ruleserver_(nodejs|process)_/.test(line))
      .map((line) => `${line}\n`)
      .join('');
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(GOLDEN, own);
    expect(own).toBe(readFileSync(GOLDEN, 'utf8'));
    const page = readFileSync(join(PROJECT, 'docs/metrics.md'), 'utf8');
    for (const [, name = ''] of own.matchAll(/^# TYPE dpi_agent_(\S+) /gm)) expect(page).toContain(`\`${name}`);
  });

  test('say how far a version is, and who asked in vain', async () => {
    const lines = (await text()).split('\n');
    for (const line of [
      'dpi_agent_ruleserver_version_state{set="community",state="stopped"} 1',
      'dpi_agent_ruleserver_version_state{set="community",state="proven"} 0',
      'dpi_agent_ruleserver_nodes{set="community",version="proven"} 7',
      'dpi_agent_ruleserver_source_failing{source="talos"} 1',
      'dpi_agent_ruleserver_requests_total{status="401"} 3',
    ])
      expect(lines).toContain(line);
  });

  testWithPromtool('satisfy promtool check metrics', async () => {
    expect(checkMetrics(await text())).toEqual({ status: 0, output: '' });
  });
});
