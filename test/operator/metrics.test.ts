import { expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createMetrics } from '../../agent/operator/metrics.ts';
import type { OperatorStatus } from '../../agent/operator/operator.ts';
import { PROJECT } from '../support/project.ts';
import { checkMetrics, testWithPromtool } from '../support/promtool.ts';

const leading: OperatorStatus = {
  leader: true,
  inspections: 3,
  verdict: { status: true, reason: 'Applied', message: 'limits cpu 2' },
  copies: 2,
  copiesTaken: 1,
  nodes: 5,
  statusesWritten: 8,
  putBack: { daemonSet: 4, copy: 5 },
  rounds: { done: 6, failed: 7 },
};
const starting: OperatorStatus = {
  ...leading,
  leader: false,
  inspections: undefined,
  verdict: undefined,
  copies: undefined,
};

const scrape = async (status: OperatorStatus): Promise<string> => createMetrics(() => status, '1.2.3')();
/** Its own, not the process's. */
const samples = async (status: OperatorStatus): Promise<string[]> =>
  (await scrape(status))
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#') && !/_(nodejs|process)_/.test(line))
    .map((line) => line.replace('dpi_agent_operator_', ''))
    .toSorted();

test('they say what the operator says', async () => {
  expect(await samples(leading)).toEqual([
    'applied 1',
    'copies 2',
    'copies_taken 1',
    'info{version="1.2.3"} 1',
    'inspections 3',
    'leader 1',
    'nodes 5',
    'put_back_total{object="copy"} 5',
    'put_back_total{object="daemonset"} 4',
    'rounds_total{outcome="done"} 6',
    'rounds_total{outcome="failed"} 7',
    'statuses_written_total 8',
  ]);
});

test('what is not known has no sample, and what is not applied is 0', async () => {
  const unknown = await samples(starting);
  for (const name of ['applied', 'copies', 'inspections'])
    expect(unknown.filter((line) => line.startsWith(`${name} `))).toEqual([]);
  expect(unknown).toContain('leader 0');
  const refused = { ...leading, verdict: { status: false, reason: 'Refused', message: 'no' } } as OperatorStatus;
  expect(await samples(refused)).toContain('applied 0');
});

test('a scrape takes what was counted since the one before', async () => {
  const status = structuredClone(leading);
  const metrics = createMetrics(() => status, '1.2.3');
  await metrics();
  status.putBack.copy += 1;
  expect(await metrics()).toContain('dpi_agent_operator_put_back_total{object="copy"} 6');
});

test('docs/operator.md has them all, with their types and labels', async () => {
  const page = readFileSync(join(PROJECT, 'docs/operator.md'), 'utf8');
  const text = await scrape(leading);
  const described = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)]
    .map(([, name = '', type = '']) => ({ name, type }))
    .filter(({ name }) => !/_(nodejs|process)_/.test(name));
  expect(described.length).toBeGreaterThan(7);
  for (const { name, type } of described) {
    const label = new RegExp(`^${name}\\{(\\w+)=`, 'm').exec(text)?.[1];
    expect(page).toMatch(
      new RegExp(`\\| \`${name}\` +\\| ${type} +\\| ${label === undefined ? '' : `\`${label}\``} *\\|`),
    );
  }
});

testWithPromtool('promtool finds nothing wrong with them', async () => {
  expect(checkMetrics(await scrape(leading))).toEqual({ status: 0, output: '' });
});
