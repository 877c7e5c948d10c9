/** From a packet's capture time to its event's line on the agent's stdout, printed once the journal is on the disk. */
import { setTimeout as sleep } from 'node:timers/promises';
import { join } from 'node:path';
import type { Lab, Pod } from '../scripts/lab.ts';
import { MARKER, payloadOf, type Workspace } from '../test/support/agent.ts';
import { PROJECT } from '../test/support/project.ts';
import { RULE_SETS } from './alone.ts';
import {
  fixed,
  grouped,
  quantile,
  runAgent,
  watch,
  withLab,
  withWorkspace,
  within,
  type Result,
  type Setting,
} from './bench.ts';

const COUNT = { full: 500, quick: 50 };
/** Milliseconds between two, and datagrams a second besides. */
const PACE = { spacing: 20, background: 1_000 };
const PORT = 7777;
const START_MILLIS = 60_000;
const END_MILLIS = 15_000;
const TARGET = { atLeast: 200, aim: 50 };

export async function benchLatency(setting: Setting): Promise<Result[]> {
  return await withLab(async (lab) => {
    const client = lab.addPod({ name: 'client', address: '10.65.0.2' });
    const server = lab.addPod({ name: 'server', address: '10.65.0.3' });
    await listen(lab, server);
    const results: Result[] = [];
    for (const [title, pods, target] of [
      ['one end captured', [server], TARGET],
      ['both ends captured', [server, client], undefined],
    ] as const) {
      const millis = await withWorkspace((workspace) =>
        measure(setting, workspace, lab, [...pods], client, server, title),
      );
      results.push(...toResults(setting, title, millis, target));
    }
    return results;
  });
}

async function measure(
  setting: Setting,
  workspace: Workspace,
  lab: Lab,
  pods: Pod[],
  client: Pod,
  server: Pod,
  title: string,
): Promise<number[]> {
  setting.say(`latency, ${title}: starting`);
  const agent = await within(
    START_MILLIS,
    'the start of dpi-agent',
    runAgent({
      lab,
      engine: setting.engine.name,
      workspace,
      pods,
      ruleSets: RULE_SETS,
      config: { logLevel: 'info', rules: [workspace.rules, ...setting.rules] },
    }),
  );
  try {
    const count = setting.quick ? COUNT.quick : COUNT.full;
    // Both start up after the first packet: rings, caches, compiled code.
    await talk(lab, client, server, 20);
    await sleep(500);
    const warm = agent.events.length;
    const now = preciseClock();
    const millis: number[] = [];
    let looked = warm;
    const done = agent.event(() => {
      // Called with each new event; the time is taken for those that are new.
      const at = now();
      for (; looked < agent.events.length; looked++) {
        const event = agent.events[looked];
        if (event === undefined || !payloadOf(event).startsWith(MARKER)) continue;
        millis.push(at - microsOf(event.record.timestamp) / 1000);
      }
      return millis.length >= count;
    });
    done.catch(() => undefined);
    setting.say(`latency, ${title}: ${count} alerts`);
    await talk(lab, client, server, count);
    await within(END_MILLIS, `${count} events (${millis.length} came)`, done);
    return millis;
  } finally {
    await agent.stop();
  }
}

/** Milliseconds since the epoch, as fine as performance.now(); set by the next tick of the system's clock. */
export function preciseClock(): () => number {
  const tick = Date.now() + 1;
  while (Date.now() < tick);
  const offset = Date.now() - performance.now();
  return () => performance.now() + offset;
}

/** RFC 3339 with microseconds, in microseconds since the epoch. */
export function microsOf(timestamp: string): number {
  return Date.parse(`${timestamp.slice(0, 19)}Z`) * 1000 + Number(timestamp.slice(20, 26));
}

/** Sends `count` numbered datagrams with the marker, and others between them. */
export async function talk(
  lab: Lab,
  client: Pod,
  server: Pod,
  count: number,
  { spacing, background }: { spacing: number; background: number } = PACE,
): Promise<void> {
  const words = [server.address, PORT, count, spacing, background].map(String);
  const args = [join(PROJECT, 'dist/bench/talker.js'), ...words];
  const child = lab.spawn(client.netns, process.execPath, args, { stdio: 'inherit' });
  const { code } = await within(30_000 + 2 * count * spacing, 'sending', watch(child));
  if (code !== 0) throw new Error(`the talker ended with status ${code}`);
}

/** Takes datagrams, so that nothing answers with ICMP, which would quote the marker. */
export async function listen(lab: Lab, pod: Pod): Promise<void> {
  const source = `require('node:dgram').createSocket('udp4').bind(${PORT}, () => console.log('up'))`;
  const child = lab.spawn(pod.netns, process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] });
  watch(child).catch(() => undefined);
  await within(10_000, 'the listener', new Promise((resolve) => child.stdout?.once('data', resolve)));
}

function toResults(
  setting: Setting,
  title: string,
  millis: number[],
  target: { atLeast: number; aim: number } | undefined,
): Result[] {
  const parts = [
    ['p50', 0.5],
    ['p90', 0.9],
    ['p99', 0.99],
    ['max', 1],
  ] as const;
  return parts.map(([name, part]): Result => {
    const value = quantile(millis, part);
    return {
      benchmark: 'latency',
      engine: setting.engine.name,
      what: `${name}, ${title}`,
      agent: `${fixed(value, 1)} ms`,
      alone: '',
      value,
      unit: 'ms',
      ...(name === 'p99' && target !== undefined ? { target } : {}),
      details: { events: grouped(millis.length) },
    };
  });
}
