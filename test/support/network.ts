/** Tests on real kernel parts: network namespaces and veths, or one line that says what is missing. */
import { describe } from '@jest/globals';
import type { Root } from '../../agent/endpoints/resolve/host.ts';
import { whyNoLab, type Lab } from '../../scripts/lab.ts';
import { whyNoProc } from './proc.ts';

/** `body` only declares tests and hooks. */
export function describeNetwork(name: string, body: () => void): void {
  const missing = whyNoProc ?? whyNoLab();
  if (missing === undefined) {
    describe(name, body);
  } else {
    process.stderr.write(`skipped: ${missing}\n`);
    describe.skip(`${name}: ${missing}`, body);
  }
}

/** A process that does nothing in a network namespace, with that namespace's /sys. The lab's close() ends it. */
export async function enter(lab: Lab, netns: string): Promise<number> {
  const child = lab.spawn(netns, 'sh', ['-c', 'echo; exec sleep 3600'], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  if (child.pid === undefined) throw new Error(`no process in ${netns}`);
  return child.pid;
}

/** The view of a node, as a process in its network namespace has it. */
export function rootOf(pid: number): Root {
  return { proc: '/proc', self: `/proc/${pid}`, sys: `/proc/${pid}/root/sys` };
}
