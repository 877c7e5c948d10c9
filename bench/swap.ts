/**
 * What a change of the rules takes while an engine inspects: time, and memory until it is over; and what further
 * combinations of rule sets take.
 */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab } from '../scripts/lab.ts';
import { type RunningAgent, type Workspace } from '../test/support/agent.ts';
import { RULE_SETS } from './alone.ts';
import {
  fixed,
  median,
  quantile,
  runAgent,
  withLab,
  withWorkspace,
  within,
  type Result,
  type Setting,
} from './bench.ts';
import { memoryByName } from './processes.ts';

const SWAPS = 10;
const QUICK_SWAPS = 3;
const COMBINATIONS = 4;
const START_MILLIS = 120_000;
const SWAP_MILLIS = 120_000;
const SETTLE_MILLIS = 2_000;
const SAMPLE_MILLIS = 25;
const MEGABYTE = 2 ** 20;

export async function benchSwap(setting: Setting): Promise<Result[]> {
  return [
    ...(await withLab((lab) => withWorkspace((workspace) => swaps(setting, lab, workspace)))),
    await withLab((lab) => withWorkspace((workspace) => combinations(setting, lab, workspace))),
  ];
}

const totalOf = (pid: number): number => Object.values(memoryByName(pid)).reduce((all, { pss }) => all + pss, 0);

async function swaps(setting: Setting, lab: Lab, workspace: Workspace): Promise<Result[]> {
  const agent = await start(setting, lab, workspace, {});
  try {
    await sleep(SETTLE_MILLIS);
    const before = totalOf(agent.pid);
    const times: number[] = [];
    const seen: number[] = [];
    let most = 0;
    const sampler = setInterval(() => (most = Math.max(most, totalOf(agent.pid))), SAMPLE_MILLIS);
    for (let swap = 1; swap <= (setting.quick ? QUICK_SWAPS : SWAPS); swap++) {
      setting.say(`swap: ${swap}`);
      const from = agent.log.length;
      const started = performance.now();
      replace(
        workspace.rules,
        `alert tcp any any -> any any ( msg:"swap"; content:"bench"; sid:9000001; rev:${swap}; )\n`,
      );
      const line = await within(
        SWAP_MILLIS,
        'a swap',
        agent.logged(({ msg }) => msg === 'rules were swapped', from),
      );
      seen.push(performance.now() - started);
      times.push(Number(line['millis']));
    }
    clearInterval(sampler);
    await sleep(SETTLE_MILLIS);
    const after = totalOf(agent.pid);
    const loaded = agent.log.findLast(({ msg }) => msg === 'rules were swapped')?.['rules'];
    const details = { rules: Number(loaded), swaps: times.length };
    const base = { benchmark: 'swap', engine: setting.engine.name, alone: '' } as const;
    return [
      {
        ...base,
        what: 'change of a file to proof, p50',
        agent: `${fixed(median(seen), 0)} ms`,
        value: median(seen),
        unit: 'ms',
        details: {
          ...details,
          most: `${fixed(quantile(seen, 1), 0)} ms`,
          'of it the engine, p50': `${fixed(median(times), 0)} ms`,
        },
      },
      {
        ...base,
        what: 'memory, at most during a change',
        agent: `${fixed(most / MEGABYTE, 1)} MB`,
        value: most / MEGABYTE,
        unit: 'MB',
        details: {
          before: `${fixed(before / MEGABYTE, 1)} MB`,
          [`after ${times.length}`]: `${fixed(after / MEGABYTE, 1)} MB`,
        },
      },
    ];
  } finally {
    await agent.stop();
  }
}

/**
 * Each further pod has the default sets and a small one of its own: what that takes beyond the first of them, which is
 * a change of the rules, and leaves what each such leaves.
 */
async function combinations(setting: Setting, lab: Lab, workspace: Workspace): Promise<Result> {
  const pods = Array.from({ length: COMBINATIONS + 1 }, (_, index) =>
    lab.addPod({ name: `p${index}`, address: `10.66.0.${index + 1}` }),
  );
  const sets = join(workspace.directory, 'sets');
  for (const { name } of pods) {
    mkdirSync(join(sets, name), { recursive: true });
    writeFileSync(
      join(sets, name, 'a.rules'),
      `alert tcp any any -> any any ( msg:"x"; content:"${name}"; sid:${9_100_000 + Number(name.slice(1))}; )\n`,
    );
  }
  const measure = async (count: number): Promise<number> => {
    setting.say(`swap: ${count} further combinations`);
    const ruleSets = (name: string): string[] => [...RULE_SETS, 'custom', name];
    const agent = await start(setting, lab, workspace, {
      pods: pods.map((pod, index) => ({
        ...pod,
        ...(index === 0 || index > count ? {} : { ruleSets: ruleSets(pod.name) }),
      })),
    });
    try {
      await sleep(SETTLE_MILLIS);
      return memoryByName(agent.pid)[setting.engine.name]?.pss ?? 0;
    } finally {
      await agent.stop();
    }
  };
  const [first, all] = [await measure(1), await measure(COMBINATIONS)];
  const each = (all - first) / (COMBINATIONS - 1) / MEGABYTE;
  return {
    benchmark: 'swap',
    engine: setting.engine.name,
    what: 'memory of the engine, each further combination of sets',
    agent: `${fixed(each)} MB`,
    alone: '',
    value: each,
    unit: 'MB',
    details: { '1': `${fixed(first / MEGABYTE, 1)} MB`, [String(COMBINATIONS)]: `${fixed(all / MEGABYTE, 1)} MB` },
  };
}

function start(
  setting: Setting,
  lab: Lab,
  workspace: Workspace,
  more: Partial<Parameters<typeof runAgent>[0]>,
): Promise<RunningAgent> {
  const pods = more.pods ?? [lab.addPod({ name: 'pod', address: '10.66.1.1' })];
  return within(
    START_MILLIS,
    'the start of dpi-agent',
    runAgent({
      lab,
      engine: setting.engine.name,
      workspace,
      ruleSets: RULE_SETS,
      ...more,
      pods,
      config: { logLevel: 'info', rules: [workspace.rules, ...setting.rules] },
    }),
  );
}

function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}
