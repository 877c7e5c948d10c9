/** A real Prometheus that scrapes a real agent, with the alert rules, asked every query of the dashboard. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import { openLab, type Lab, type Pod } from '../../scripts/lab.ts';
import { createWorkspace, MARKER, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { describeLive, send, serve } from '../support/live.ts';
import { filledIn, queriesOf, type Dashboard } from './dashboard.ts';
import { DEPLOY } from './support.ts';

/** What only shows when something is wrong, or with what this agent has not. */
const MAY_BE_EMPTY = new Set(['Encrypted flows', 'Send latency', 'Watches begun again', 'Packets analysed']);

interface Answer {
  status: string;
  error?: string;
  data?: { result?: { metric: Record<string, string>; value: [number, string] }[]; alerts?: Alert[] };
}

interface Alert {
  state: string;
  labels: Record<string, string>;
}

const missing = spawnSync('prometheus', ['--version']).error === undefined ? undefined : 'prometheus is not installed';
if (missing !== undefined) process.stderr.write(`skipped: ${missing} (Debian: apt-get install prometheus)\n`);

describeLive((engine) => {
  // Metrics are the same with each engine.
  if (missing !== undefined || engine !== 'snort') {
    test.skip(missing ?? 'with Snort only', () => undefined);
    return;
  }
  let lab: Lab;
  let workspace: Workspace;
  let agent: RunningAgent;
  let server: Pod;
  let client: Pod;

  function ask(path: string, query: Record<string, string> = {}): Answer {
    const url = `http://127.0.0.1:9090/api/v1/${path}?${new URLSearchParams(query).toString()}`;
    return JSON.parse(lab.exec(lab.node, 'curl', '-sS', '--max-time', '60', url)) as Answer;
  }

  /** Once it has a result. */
  async function until<T>(look: () => T | undefined): Promise<T> {
    for (;;) {
      try {
        const found = look();
        if (found !== undefined) return found;
      } catch {
        // Prometheus is starting.
      }
      send(lab, client.netns, server.address, 7777, `${MARKER} once more`);
      await sleep(500);
    }
  }

  const alerts = (): Alert[] => ask('alerts').data?.alerts ?? [];

  beforeAll(async () => {
    lab = openLab('dpi-p');
    workspace = createWorkspace();
    server = lab.addPod({ name: 'server', namespace: 'shop', address: '10.65.3.2' });
    client = lab.addPod({ name: 'client', namespace: 'shop', address: '10.65.3.3' });
    await serve(lab, server.netns, 7777);
    agent = await runAgent({
      lab,
      engine,
      workspace,
      pods: [server, client].map((pod) => ({ ...pod, resources: ['shop/all'] })),
      config: { canary: { interval: '1s' }, sinks: { syslog: { address: '127.0.0.1:5140' } } },
    });
    const config = join(workspace.directory, 'prometheus.yaml');
    writeFileSync(
      config,
      stringify({
        global: { scrape_interval: '1s', evaluation_interval: '1s' },
        rule_files: [join(DEPLOY, 'prometheus/dpi-agent.rules.yaml')],
        scrape_configs: [{ job_name: 'dpi-agent', static_configs: [{ targets: ['127.0.0.1:9097'] }] }],
      }),
    );
    lab.spawn(
      lab.node,
      'prometheus',
      [
        `--config.file=${config}`,
        `--storage.tsdb.path=${join(workspace.directory, 'prometheus')}`,
        '--web.listen-address=127.0.0.1:9090',
        '--log.level=error',
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
  });
  afterAll(async () => {
    await agent.stop();
    lab.close();
    workspace.remove();
  });

  test('it takes the metrics and the rules', async () => {
    await until(() => {
      const up = ask('query', { query: 'up' }).data?.result?.[0];
      return up?.value[1] === '1' ? up : undefined;
    });
    expect(ask('rules').status).toBe('success');
  });

  const dashboard = JSON.parse(readFileSync(join(DEPLOY, 'grafana/dpi-agent.json'), 'utf8')) as Dashboard;
  const queries = queriesOf(dashboard);

  test('every query of the dashboard has an answer, and those of a healthy agent have values', async () => {
    await until(() => {
      const journaled = ask('query', { query: 'dpi_agent_alerts_total{outcome="journaled"}' }).data?.result?.[0];
      return Number(journaled?.value[1] ?? 0) > 0 ? journaled : undefined;
    });
    const wanting = (): string[] =>
      queries
        // Nothing was suppressed.
        .filter(({ expr }) => !expr.includes('alerts_suppressed_total'))
        .map(({ panel, expr }) => ({ panel, expr, answer: ask('query', { query: filledIn(expr, '1m') }) }))
        .filter(({ panel, answer }) => {
          if (answer.status !== 'success') throw new Error(`${panel}: ${answer.error}`);
          return !MAY_BE_EMPTY.has(panel) && (answer.data?.result ?? []).length === 0;
        })
        .map(({ panel, expr }) => `${panel}: ${expr}`);
    // A rate needs two scrapes; which series were new in the first look are not in the next ones.
    let left = wanting();
    for (let round = 0; round < 60 && left.length > 0; round++) {
      send(lab, client.netns, server.address, 7777, `${MARKER} and again`);
      await sleep(1000);
      left = wanting();
    }
    expect(left).toEqual([]);
  });

  test('no alert fires, and the one of a sink that is refused is on its way until the sink is there', async () => {
    expect(alerts().filter(({ state }) => state === 'firing')).toEqual([]);
    const stalled = (): Alert | undefined =>
      alerts().find(({ labels }) => labels['alertname'] === 'DpiAgentSinkStalled');
    expect((await until(stalled)).labels).toMatchObject({ severity: 'warning', sink: 'syslog' });
    await serve(lab, lab.node, 5140);
    await until(() => (stalled() === undefined ? true : undefined));
  });
});
