/** Memory of all of the agent's processes with few and with many endpoints. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab, Pod } from '../scripts/lab.ts';
import { RULE_SETS } from './alone.ts';
import { fixed, median, runAgent, watch, withLab, withWorkspace, within, type Result, type Setting } from './bench.ts';
import { cpuSeconds, memoryByName, type Memory } from './processes.ts';

const COUNTS = [1, 20, 100];
const FRAMES = 5;
const START_MILLIS = 60_000;
const SETTLE_MILLIS = 3_000;
const SAMPLES = 3;
const SAMPLE_MILLIS = 1_000;
const MEGABYTE = 2 ** 20;
const TARGET = { atLeast: 1, aim: 0.5 };

interface Measured {
  endpoints: number;
  byName: Record<string, Memory>;
  total: Memory;
  /** Seconds of CPU in a second without packets. */
  idle: number;
}

export async function benchMemory(setting: Setting): Promise<Result[]> {
  return await withLab(async (lab) => {
    const most = Math.max(...COUNTS);
    setting.say(`memory: ${most} pods`);
    const pods = Array.from({ length: most }, (_, index) =>
      lab.addPod({ name: `p${index}`, address: `10.66.0.${index + 1}` }),
    );
    const measured: Measured[] = [];
    for (const count of COUNTS) {
      setting.say(`memory: ${count} of ${most} endpoints`);
      measured.push(await measure(setting, lab, pods.slice(0, count)));
    }
    return toResults(setting, measured);
  });
}

function measure(setting: Setting, lab: Lab, pods: Pod[]): Promise<Measured> {
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
        config: { logLevel: 'info', rules: [workspace.rules, ...setting.rules] },
      }),
    );
    try {
      await sendToEach(lab, pods);
      await sleep(SETTLE_MILLIS);
      const samples: Record<string, Memory>[] = [];
      const cpuBefore = cpuSeconds(agent.pid);
      const started = performance.now();
      for (let sample = 0; sample < SAMPLES; sample++) {
        await sleep(SAMPLE_MILLIS);
        samples.push(memoryByName(agent.pid));
      }
      const idle = (cpuSeconds(agent.pid) - cpuBefore) / ((performance.now() - started) / 1000);
      const names = Object.keys(samples[0] ?? {});
      const middle = (pick: (sample: Record<string, Memory>) => number): number => median(samples.map(pick));
      const byName = Object.fromEntries(
        names.map((name) => [
          name,
          {
            pss: middle((sample) => sample[name]?.pss ?? 0),
            rss: middle((sample) => sample[name]?.rss ?? 0),
            rings: middle((sample) => sample[name]?.rings ?? 0),
          },
        ]),
      );
      const sum = (key: keyof Memory): number => Object.values(byName).reduce((all, one) => all + one[key], 0);
      return { endpoints: pods.length, byName, total: { pss: sum('pss'), rss: sum('rss'), rings: sum('rings') }, idle };
    } finally {
      await agent.stop();
    }
  });
}

const SEND = `
const socket = require('node:dgram').createSocket('udp4');
const [frames, ...addresses] = process.argv.slice(1);
let open = frames * addresses.length;
for (let round = 0; round < frames; round++) for (const address of addresses) socket.send('x'.repeat(200), 9, address, () => --open || socket.close());`;

/** A few datagrams to each pod, from the node; the answers are ICMP. */
async function sendToEach(lab: Lab, pods: Pod[]): Promise<void> {
  const args = ['-e', SEND, String(FRAMES), ...pods.map(({ address }) => address)];
  const { code } = await within(
    20_000,
    'sending',
    watch(lab.spawn(lab.node, process.execPath, args, { stdio: 'inherit' })),
  );
  if (code !== 0) throw new Error(`sending ended with status ${code}`);
}

function toResults(setting: Setting, measured: Measured[]): Result[] {
  const megabytes = (bytes: number): string => fixed(bytes / MEGABYTE, 1);
  const results = measured.map(({ endpoints, byName, total, idle }): Result => ({
    benchmark: 'memory',
    engine: setting.engine.name,
    what: endpoints === 1 ? '1 endpoint' : `${endpoints} endpoints`,
    agent: `${megabytes(total.pss)} MB`,
    alone: '',
    value: total.pss / MEGABYTE,
    unit: 'MB',
    details: {
      PSS: Object.entries(byName)
        .map(([name, { pss }]) => `${name} ${megabytes(pss)}`)
        .join(', '),
      'of it rings': megabytes(total.rings),
      RSS: megabytes(total.rss),
      'idle CPU': `${fixed(idle * 100, 1)} %`,
    },
  }));
  const [first] = measured;
  const last = measured.at(-1);
  if (first === undefined || last === undefined) return results;
  const perPod = (from: Measured, to: Measured, key: keyof Memory): number =>
    (to.total[key] - from.total[key]) / (to.endpoints - from.endpoints) / MEGABYTE;
  const steps = measured.slice(1).map((to, index) => {
    const from = measured[index] ?? first;
    return `${from.endpoints} to ${to.endpoints}: ${fixed(perPod(from, to, 'pss'))}`;
  });
  results.push({
    benchmark: 'memory',
    engine: setting.engine.name,
    what: 'each further endpoint',
    agent: `${fixed(perPod(first, last, 'pss'))} MB`,
    alone: '',
    value: perPod(first, last, 'pss'),
    unit: 'MB',
    target: TARGET,
    details: { steps: steps.join(', '), 'of it ring': fixed(perPod(first, last, 'rings')) },
  });
  return results;
}
