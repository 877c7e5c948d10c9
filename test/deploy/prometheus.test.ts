/** The alert rules and the dashboard, as files: they name metrics that there are, and pages that there are. */
import { describe, expect, test } from '@jest/globals';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { PROJECT } from '../support/project.ts';
import { promtool, testWithPromtool } from '../support/promtool.ts';
import { queriesOf, type Dashboard } from './dashboard.ts';
import { DEPLOY, one, read } from './support.ts';

interface Rule {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: string };
  annotations: { summary: string; runbook_url: string };
}

interface Groups {
  groups: { name: string; rules: Rule[] }[];
}

const RULES = join(DEPLOY, 'prometheus/dpi-agent.rules.yaml');
const TESTS = join(import.meta.dirname, 'prometheus/alerts.yaml');

const plain = parse(readFileSync(RULES, 'utf8')) as Groups;
const rules = plain.groups.flatMap((group) => group.rules);
const dashboard = JSON.parse(readFileSync(join(DEPLOY, 'grafana/dpi-agent.json'), 'utf8')) as Dashboard;

/** Names that a query may use: those of the metrics, with what a histogram adds to its name. */
const golden = readFileSync(join(PROJECT, 'test/observe/metrics.golden'), 'utf8');
const names = new Set(
  [...golden.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = '', type]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => `${name}${end}`) : [name],
  ),
);
// Of prom-client, on every Linux.
names.add('dpi_agent_process_cpu_seconds_total').add('dpi_agent_process_resident_memory_bytes');

// Of the rule server.
for (const [, name = ''] of readFileSync(join(PROJECT, 'test/ruleserver/metrics.golden'), 'utf8').matchAll(
  /^# TYPE (\S+) /gm,
))
  names.add(name);

const unknown = (query: string): string[] => (query.match(/\bdpi_agent_\w+/g) ?? []).filter((name) => !names.has(name));

describe('the alert rules', () => {
  test('name metrics that the agent has', () => {
    expect(rules.map(({ alert, expr }) => ({ alert, unknown: unknown(expr) }))).toEqual(
      rules.map(({ alert }) => ({ alert, unknown: [] })),
    );
  });

  test('say how bad it is, and link to what to do', () => {
    for (const { labels, annotations } of rules) {
      expect(['warning', 'critical']).toContain(labels.severity);
      expect(annotations.summary).not.toBe('');
      const [page = '', anchor = ''] = annotations.runbook_url.split('#');
      expect(existsSync(join(PROJECT, page))).toBe(true);
      expect(headings(readFileSync(join(PROJECT, page), 'utf8'))).toContain(anchor);
    }
  });

  test('are the same for the Prometheus operator', () => {
    const object = one(read('components/prometheus-rules/prometheusrule.yaml'), 'PrometheusRule') as unknown as {
      spec: Groups;
    };
    expect(object.spec).toEqual(plain);
  });

  testWithPromtool('satisfy promtool check rules', () => {
    expect(promtool(['check', 'rules', RULES])).toMatchObject({ status: 0 });
  });

  testWithPromtool('fire for what they are for, and for nothing else', () => {
    expect(promtool(['test', 'rules', TESTS])).toMatchObject({ status: 0 });
    const tested = new Set(
      (
        parse(readFileSync(TESTS, 'utf8')) as {
          tests: { alert_rule_test: { alertname: string; exp_alerts?: object[] }[] }[];
        }
      ).tests
        .flatMap(({ alert_rule_test }) => alert_rule_test)
        .flatMap(({ alertname, exp_alerts }) => (exp_alerts === undefined ? [] : [alertname])),
    );
    expect([...tested].sort()).toEqual(rules.map(({ alert }) => alert).sort());
  });
});

describe('the dashboard', () => {
  test('names metrics that the agent has', () => {
    const queries = queriesOf(dashboard);
    expect(queries.length).toBeGreaterThan(30);
    expect(queries.flatMap(({ expr }) => unknown(expr))).toEqual([]);
    expect(dashboard.templating.list.map(({ name }) => name)).toEqual(['datasource', 'node', 'namespace']);
  });

  test('has panels that do not lie on one another, each with an id of its own and a description', () => {
    const ids = dashboard.panels.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const taken = new Set<string>();
    for (const { gridPos, title, type, description } of dashboard.panels) {
      if (type !== 'row')
        expect({ title, described: description !== undefined && description !== '' }).toEqual({
          title,
          described: true,
        });
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect(x).toBeLessThan(24);
          expect(taken.has(`${x} ${y}`)).toBe(false);
          taken.add(`${x} ${y}`);
        }
      }
    }
  });
});

/** Anchors as GitHub makes them of headings. */
function headings(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map((match) =>
    (match[1] ?? '')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
