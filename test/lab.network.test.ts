/** Labs of network namespaces beside each other (scripts/lab.ts). */
import { afterEach, expect, test } from '@jest/globals';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { openLab, type Lab } from '../scripts/lab.ts';
import { describeNetwork } from './support/network.ts';
import { PROJECT } from './support/project.ts';

const PREFIX = `dpi-labs-${process.pid}`;
const OTHER = `
  const { openLab } = await import(process.argv[1]);
  const { addPod, node } = openLab(process.argv[2]);
  console.log([node, addPod({ name: 'a', address: '10.0.0.1' }).netns].join());
  process.stdin.resume();`;

const namespaces = (): string[] =>
  execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
    .filter((name) => name.startsWith(`${PREFIX}-`))
    .toSorted();

/** Another process with a lab of the same prefix; its namespaces. */
async function openElsewhere(): Promise<{ child: ChildProcess; names: string[] }> {
  const lab = join(PROJECT, 'dist/scripts/lab.js');
  const child = spawn(process.execPath, ['--input-type=module', '-e', OTHER, lab, PREFIX], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, names: String(line).trim().split(',').toSorted() };
}

async function kill(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

describeNetwork('labs of one prefix', () => {
  let lab: Lab | undefined;
  afterEach(() => {
    lab?.close();
    lab = undefined;
  });

  test('of two processes stand side by side, and each closes its own', async () => {
    const { child, names } = await openElsewhere();
    lab = openLab(PREFIX);
    const { netns } = lab.addPod({ name: 'a', address: '10.0.0.1' });
    expect(namespaces()).toEqual([...names, lab.node, netns].toSorted());
    lab.close();
    expect(namespaces()).toEqual(names);
    await kill(child);
  });

  test('what a process left that was killed is removed by the next one', async () => {
    const { child, names } = await openElsewhere();
    await kill(child);
    expect(namespaces()).toEqual(names);
    lab = openLab(PREFIX);
    expect(namespaces()).toEqual([lab.node]);
  });

  test('what this process did not close is replaced', () => {
    openLab(PREFIX).addPod({ name: 'a', address: '10.0.0.1' });
    lab = openLab(PREFIX);
    expect(namespaces()).toEqual([lab.node]);
  });
});
