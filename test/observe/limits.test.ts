import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { readGranted, readLimits } from '../../agent/observe/limits.ts';
import { PROJECT } from '../support/project.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'cgroup-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function has(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    const path = join(root, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}

const PRESSURE =
  'some avg10=1.50 avg60=0.80 avg300=0.10 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n';

/** A cgroup of this test that may use a tenth of a core, of the version that there is; or why there is none. */
function limitedCgroup(): { folder: string } | { missing: string } {
  const name = `dpi-agent-test-${process.pid}`;
  const isUnified = existsSync('/sys/fs/cgroup/cgroup.controllers');
  const folder = join('/sys/fs/cgroup', isUnified ? '' : 'cpu', name);
  try {
    mkdirSync(folder);
    try {
      if (isUnified) writeFileSync(join(folder, 'cpu.max'), '10000 100000');
      else writeFileSync(join(folder, 'cpu.cfs_quota_us'), '10000');
      return { folder };
    } catch (error) {
      rmdirSync(folder);
      throw error;
    }
  } catch (error) {
    return { missing: `no cgroup with a CPU limit can be made here (${String(error)})` };
  }
}

const cgroup = limitedCgroup();
if ('missing' in cgroup) process.stderr.write(`skipped: ${cgroup.missing}\n`);
afterAll(() => {
  if ('folder' in cgroup) rmdirSync(cgroup.folder);
});

describe('what a cgroup says', () => {
  test('in version 2', () => {
    has({
      'cpu.stat':
        'usage_usec 9000000\nuser_usec 5000000\nsystem_usec 4000000\nnr_periods 120\nnr_throttled 30\nthrottled_usec 4500000\nnr_bursts 0\nburst_usec 0\n',
      'cpu.pressure': PRESSURE,
      'memory.pressure': PRESSURE.replace('2500000', '500000'),
    });
    expect(readLimits(root, '')).toEqual({
      cpu: { periods: 120, throttled: 30, throttledSeconds: 4.5 },
      pressure: { cpu: 2.5, memory: 0.5 },
    });
  });

  test('in version 1', () => {
    has({ 'cpu/cpu.stat': 'nr_periods 120\nnr_throttled 30\nthrottled_time 4500000000\n' });
    expect(readLimits(root, '')).toEqual({ cpu: { periods: 120, throttled: 30, throttledSeconds: 4.5 }, pressure: {} });
  });

  test('below the one that is mounted, and where only the own one is', () => {
    const limited = 'nr_periods 2\nnr_throttled 1\nthrottled_usec 0\n';
    has({ 'cpu.stat': 'nr_periods 0\nnr_throttled 0\n', 'system.slice/dpi.service/cpu.stat': limited });
    expect(readLimits(root, '0::/system.slice/dpi.service\n').cpu).toMatchObject({ periods: 2 });
    expect(readLimits(root, '0::/../elsewhere\n').cpu).toBeUndefined();
    has({ 'cpu/kubepods/pod1/cpu.stat': limited.replace('2', '3') });
    rmSync(join(root, 'cpu.stat'));
    expect(readLimits(root, '4:memory:/x\n2:cpu,cpuacct:/kubepods/pod1\n').cpu).toMatchObject({ periods: 3 });
  });

  ('folder' in cgroup ? test : test.skip)("is what the kernel does to a process in one, of that process's own", () => {
    const { folder } = cgroup as { folder: string };
    const child = `
      import { readLimits } from ${JSON.stringify(join(PROJECT, 'dist/agent/observe/limits.js'))};
      while ((readLimits().cpu?.throttledSeconds ?? 0) < 0.3);
      console.log(JSON.stringify(readLimits()));`;
    const command = 'echo $$ > "$1/cgroup.procs" && exec "$2" --input-type=module -e "$3"';
    const text = execFileSync('sh', ['-c', command, 'sh', folder, process.execPath, child], { encoding: 'utf8' });
    const { cpu } = JSON.parse(text) as ReturnType<typeof readLimits>;
    expect(cpu?.throttled).toBeGreaterThan(0);
    expect(cpu?.periods).toBeGreaterThanOrEqual(cpu?.throttled ?? Infinity);
  });

  test.each([
    ['without a limit', { 'cpu.stat': 'usage_usec 9\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n' }],
    ['in the root of version 2', { 'cpu.stat': 'usage_usec 9\nuser_usec 5\nsystem_usec 4\n' }],
    ['where nothing is there', {}],
    ['of another form', { 'cpu.stat': 'nr_periods many\nnr_throttled -1', 'cpu.pressure': 'some avg10=nan' }],
  ])('nothing: %s', (_case, files: Record<string, string>) => {
    has(files);
    expect(readLimits(root, '')).toEqual({ pressure: {} });
  });
});

describe('what its limits let it have', () => {
  test('in version 2, also once they are others', () => {
    has({ 'cpu.max': '250000 100000\n', 'memory.max': '1073741824\n' });
    expect(readGranted(root, '')).toEqual({ cpus: 2.5, memoryBytes: 2 ** 30 });
    has({ 'cpu.max': '400000 50000\n', 'memory.max': 'max\n' });
    expect(readGranted(root, '')).toEqual({ cpus: 8 });
    has({ 'cpu.max': 'max 100000\n' });
    expect(readGranted(root, '')).toEqual({});
  });

  test('in version 1, of the own one', () => {
    has({
      'cpu/cpu.cfs_quota_us': '-1\n',
      'cpu/cpu.cfs_period_us': '100000\n',
      'cpu/kubepods/pod1/cpu.cfs_quota_us': '300000\n',
      'cpu/kubepods/pod1/cpu.cfs_period_us': '100000\n',
      'memory/memory.limit_in_bytes': '9223372036854771712\n',
      'memory/other/memory.limit_in_bytes': '2147483648\n',
    });
    expect(readGranted(root, '4:memory:/other\n2:cpu,cpuacct:/kubepods/pod1\n')).toEqual({
      cpus: 3,
      memoryBytes: 2 ** 31,
    });
    expect(readGranted(root, '')).toEqual({});
  });

  test.each([
    ['nothing is there', {}],
    ['of another form', { 'cpu.max': 'many few', 'memory.max': 'much' }],
    ['of half a form', { 'cpu.max': '100000' }],
    ['no time at all', { 'cpu.max': '0 100000', 'memory.max': '0' }],
  ])('where it is not known: %s', (_case, files: Record<string, string>) => {
    has(files);
    expect(readGranted(root, '')).toEqual({});
  });
});
