/** What looking at the agent costs, and what it sees: scrapes and probes, the canary's way, CPU at rest. */
import { request } from 'node:http';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Snapshot } from '../agent/observe/snapshot.ts';
import type { Lab, Pod } from '../scripts/lab.ts';
import { type RunningAgent, type Workspace } from '../test/support/agent.ts';
import { tcpConversation, writePcap } from '../test/support/packets.ts';
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
import { cpuSeconds } from './processes.ts';

const SIZES = {
  full: { pods: 100, scrapes: 100, probes: 500, canaries: 300, restMillis: 30_000, packets: 40_000 },
  quick: { pods: 5, scrapes: 10, probes: 50, canaries: 30, restMillis: 3_000, packets: 2_000 },
};
const START_MILLIS = 60_000;
const LOAD_MILLIS = 120_000;
const CANARY_MILLIS = 100;
/** As often as Prometheus asks by default. */
const SCRAPE_MILLIS = 15_000;

type Sizes = (typeof SIZES)['full'];

export async function benchObserve(setting: Setting): Promise<Result[]> {
  const sizes = setting.quick ? SIZES.quick : SIZES.full;
  return await withLab(async (lab) => {
    setting.say(`observe: ${sizes.pods} pods`);
    const pods = Array.from({ length: sizes.pods }, (_, index) =>
      lab.addPod({ name: `p${index}`, address: `10.66.0.${index + 1}` }),
    );
    const looked = await withAgent(setting, lab, pods, CANARY_MILLIS, (_, workspace) =>
      look(setting, sizes, lab, pods, workspace),
    );
    const observed = await withAgent(setting, lab, pods, 10_000, async (agent, workspace) => {
      const scraping = setInterval(() => void ask(workspace, '/metrics').catch(() => undefined), SCRAPE_MILLIS);
      try {
        return await atRest(setting, sizes, agent, 'observed');
      } finally {
        clearInterval(scraping);
      }
    });
    const alone = await withAgent(setting, lab, pods, 0, (agent) => atRest(setting, sizes, agent, 'not observed'));
    const rest = (title: string, value: number): Result => ({
      benchmark: 'observe',
      engine: setting.engine.name,
      what: `CPU at rest, ${sizes.pods} endpoints, ${title}`,
      agent: `${fixed(value)} % of a core`,
      alone: '',
      value,
      unit: '%',
      details: { seconds: sizes.restMillis / 1000 },
    });
    return [
      ...looked,
      rest('canary every 10 s and scrape every 15 s', observed),
      rest('without canary and scrapes', alone),
    ];
  });
}

function withAgent<T>(
  setting: Setting,
  lab: Lab,
  pods: Pod[],
  canaryMillis: number,
  body: (agent: RunningAgent, workspace: Workspace) => Promise<T>,
): Promise<T> {
  return withWorkspace(async (workspace) => {
    const agent = await within(
      START_MILLIS,
      'the start of dpi-agent',
      runAgent({
        lab,
        engine: setting.engine.name,
        workspace,
        pods,
        ruleSets: RULE_SETS,
        config: {
          logLevel: 'info',
          rules: [workspace.rules, ...setting.rules],
          canary: { interval: canaryMillis },
          http: { port: 0 },
        },
      }),
    );
    try {
      return await body(agent, workspace);
    } finally {
      await agent.stop();
    }
  });
}

async function look(setting: Setting, sizes: Sizes, lab: Lab, pods: Pod[], workspace: Workspace): Promise<Result[]> {
  setting.say(`observe: ${sizes.canaries} canaries`);
  const canaries = await watchCanaries(workspace, sizes.canaries);
  setting.say(`observe: ${sizes.scrapes} scrapes`);
  const scrapes = await times(sizes.scrapes, () => ask(workspace, '/metrics'));
  setting.say('observe: probes under load');
  const busy = load(lab, workspace, pods, sizes.packets);
  const probes: number[] = [];
  while (probes.length < 2 * sizes.probes && !busy.ended()) {
    const asked = await times(1, () => ask(workspace, '/health'));
    asked.push(...(await times(1, () => ask(workspace, '/readiness'))));
    probes.push(...asked.map(({ millis }) => millis));
    await sleep(5);
  }
  await busy.done;
  const bytes = scrapes.at(-1)?.bytes ?? 0;
  const result = (what: string, value: number, details: Result['details']): Result => ({
    benchmark: 'observe',
    engine: setting.engine.name,
    what,
    agent: `${fixed(value, 1)} ms`,
    alone: '',
    value,
    unit: 'ms',
    details,
  });
  const millis = scrapes.map((scrape) => scrape.millis);
  return [
    result(`scrape, p50, ${sizes.pods} endpoints, ${grouped(bytes)} bytes`, quantile(millis, 0.5), { bytes }),
    result(`scrape, p99, ${sizes.pods} endpoints`, quantile(millis, 0.99), { bytes }),
    {
      ...result('/health and /readiness under load, p99', quantile(probes, 0.99), { probes: probes.length }),
      target: { atLeast: 10, aim: 5 },
    },
    result('canary, p50', quantile(canaries, 0.5), { canaries: canaries.length }),
    result('canary, p99', quantile(canaries, 0.99), { canaries: canaries.length }),
  ];
}

/** Milliseconds that each of so many canaries took. */
async function watchCanaries(workspace: Workspace, count: number): Promise<number[]> {
  const found: number[] = [];
  let last = 0;
  for (const end = performance.now() + START_MILLIS; found.length < count && performance.now() < end;) {
    const { text } = await ask(workspace, '/status');
    const canary = (
      JSON.parse(text) as Snapshot & { lanes: { canary?: { provenAt?: number; lastSeconds?: number } }[] }
    ).lanes[0]?.canary;
    if (canary?.provenAt !== undefined && canary.provenAt !== last && canary.lastSeconds !== undefined) {
      last = canary.provenAt;
      found.push(canary.lastSeconds * 1000);
    }
    await sleep(CANARY_MILLIS / 4);
  }
  if (found.length < count) throw new Error(`${found.length} of ${count} canaries were seen`);
  return found;
}

async function atRest(setting: Setting, sizes: Sizes, agent: RunningAgent, title: string): Promise<number> {
  setting.say(`observe: at rest, ${title}`);
  await sleep(sizes.restMillis / 10);
  const before = cpuSeconds(agent.pid);
  const started = performance.now();
  await sleep(sizes.restMillis);
  return (100 * (cpuSeconds(agent.pid) - before)) / ((performance.now() - started) / 1000);
}

/** Sends so many packets out of the first pod, as fast as they go. */
function load(
  lab: Lab,
  workspace: Workspace,
  [pod]: Pod[],
  packets: number,
): { done: Promise<unknown>; ended: () => boolean } {
  if (pod === undefined) throw new Error('no pod');
  const file = join(workspace.directory, 'load.pcap');
  const frames = tcpConversation({
    client: '10.65.0.9',
    server: '10.65.0.8',
    clientPort: 5000,
    serverPort: 7777,
    exchange: [{ from: 'client', data: 'x'.repeat(1_000) }],
  });
  writeFileSync(file, writePcap(frames));
  const repeats = String(Math.ceil(packets / frames.length));
  const program = join(PROJECT, 'dist/test/support/inject.js');
  const child = lab.spawn(pod.netns, process.execPath, [program, 'eth0', file, repeats], { stdio: 'inherit' });
  let ended = false;
  const done = within(LOAD_MILLIS, 'the load', watch(child)).finally(() => {
    ended = true;
  });
  return { done, ended: () => ended };
}

async function times<T extends object>(count: number, call: () => Promise<T>): Promise<(T & { millis: number })[]> {
  const found: (T & { millis: number })[] = [];
  for (let index = 0; index < count; index++) {
    const started = performance.now();
    const answer = await call();
    found.push({ ...answer, millis: performance.now() - started });
  }
  return found;
}

function ask(workspace: Workspace, path: string): Promise<{ text: string; bytes: number }> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: join(workspace.directory, 'state/agent.sock'), path }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const body = Buffer.concat(chunks);
        resolve({ text: body.toString('utf8'), bytes: body.length });
      });
    });
    asked.on('error', reject).end();
  });
}
