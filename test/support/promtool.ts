/** Prometheus' own opinion. Where it is not installed, one line says so. */
import { test } from '@jest/globals';
import { spawnSync } from 'node:child_process';

const isThere = spawnSync('promtool', ['--version']).error === undefined;
if (!isThere) process.stderr.write('skipped: promtool is not installed (Debian: apt-get install prometheus)\n');

export const testWithPromtool: typeof test | typeof test.skip = isThere ? test : test.skip;

export function promtool(args: string[], input?: string): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, {
    encoding: 'utf8',
    ...(input === undefined ? {} : { input }),
  });
  return { status, output: `${stdout}${stderr}` };
}

/** What it finds wrong with the text of a scrape. It does not like some names of prom-client's own metrics. */
export function checkMetrics(text: string): { status: number | null; output: string } {
  const own = text.split('\n').filter((line) => !/_(nodejs|process)_/.test(line));
  return promtool(['check', 'metrics'], own.join('\n'));
}
