/** `dpi-agent replay` against the engine reading the same file by itself: the same alerts, and in what time. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { EeEvent } from '../agent/events/event.ts';
import { MARKER_SID, type Workspace } from '../test/support/agent.ts';
import { PROJECT } from '../test/support/project.ts';
import { prepareAlone, RULE_SETS } from './alone.ts';
import { fixed, grouped, median, watch, within, withWorkspace, type Result, type Setting } from './bench.ts';
import { reapedSeconds } from './processes.ts';
import { DEEP_SID, HELLO_SID, writeTraffic, type Traffic } from './traffic.ts';

const ROUNDS = 3;
const MARKERS = 200;
const RUN_MILLIS = 600_000;
const MIXES = [
  // What both take before and after the packets.
  { mix: 'small', title: 'start, with a file of 0.1 MB', full: 1e5, quick: 1e5, target: undefined },
  { mix: 'small', title: 'small packets', full: 200e6, quick: 20e6, target: { atLeast: 1.2, aim: 1.0 } },
  // An engine reads a gigabyte a second: in less, it would be the start of both that is compared.
  { mix: 'large', title: '60 KB frames', full: 4e9, quick: 20e6, target: { atLeast: 1.3, aim: 1.0 } },
] as const;

interface Run {
  wall: number;
  cpu: number;
  /** Signature and flow of each alert, sorted. */
  alerts: string[];
}

export async function benchReplay(setting: Setting): Promise<Result[]> {
  const results: Result[] = [];
  for (const load of MIXES) results.push(...(await withWorkspace((workspace) => compare(setting, workspace, load))));
  return results;
}

async function compare(
  setting: Setting,
  workspace: Workspace,
  { mix, title, full, quick, target: forTime }: (typeof MIXES)[number],
): Promise<Result[]> {
  setting.say(`replay, ${title}: writing the file`);
  const bytes = setting.quick ? quick : full;
  const traffic = await writeTraffic(join(workspace.directory, `${mix}.pcap`), mix, { bytes }, MARKERS);
  const runs = { agent: [] as Run[], alone: [] as Run[] };
  for (let round = 1; round <= ROUNDS; round++) {
    setting.say(`replay, ${title}: round ${round} of ${ROUNDS}, dpi-agent`);
    runs.agent.push(await runAgent(setting, workspace, traffic));
    setting.say(`replay, ${title}: round ${round} of ${ROUNDS}, ${setting.engine.name} alone`);
    runs.alone.push(await runAlone(setting, workspace, traffic, `alone-${mix}-${round}`));
  }
  const failure = differences(runs.agent, runs.alone, traffic);
  const of = (side: 'agent' | 'alone', key: 'wall' | 'cpu'): number => median(runs[side].map((run) => run[key]));
  const rows = [
    ['wall', 'time', forTime],
    ['cpu', 'CPU', undefined],
  ] as const;
  return rows.map(([key, name, target]) => ({
    benchmark: 'replay',
    engine: setting.engine.name,
    what: `${name}, ${title}`,
    agent: `${fixed(of('agent', key))} s`,
    alone: `${fixed(of('alone', key))} s`,
    value: of('agent', key) / of('alone', key),
    unit: 'ratio',
    ...(target === undefined ? {} : { target }),
    details: {
      file: `${grouped(traffic.bytes / 1e6)} MB, ${grouped(traffic.packets)} packets`,
      alerts: failure === undefined ? `${grouped(runs.agent[0]?.alerts.length ?? 0)}, the same` : 'different',
      runs: `${runs.agent.map((run) => fixed(run[key])).join(' ')} : ${runs.alone.map((run) => fixed(run[key])).join(' ')}`,
    },
    ...(failure === undefined ? {} : { failure }),
  }));
}

async function runAgent(setting: Setting, workspace: Workspace, traffic: Traffic): Promise<Run> {
  const output = join(workspace.directory, 'events.ndjson');
  const rules = [workspace.rules, ...setting.rules].flatMap((path) => ['--rules', path]);
  const command = [join(PROJECT, 'bin/dpi-agent.js'), 'replay', traffic.path, '-o', 'json', '-e', setting.engine.name];
  const times = await timed(process.execPath, [...command, '--rule-sets', RULE_SETS.join(','), ...rules], output);
  const events = readFileSync(output, 'utf8').split('\n').filter(Boolean);
  const alerts = events.map((line) => {
    const { record, ...event } = JSON.parse(line) as EeEvent;
    return keyOf(
      [record.generator_id, record.snort_signature_id, record.protocol],
      [event.source_ip, event.source_port, event.dest_ip, event.dest_port],
    );
  });
  return { ...times, alerts: alerts.sort() };
}

async function runAlone(setting: Setting, workspace: Workspace, traffic: Traffic, name: string): Promise<Run> {
  const alone = await prepareAlone(setting, workspace, name, { file: traffic.path });
  const times = await timed(alone.binary, alone.arguments, join(workspace.directory, 'alone.log'));
  const alerts = alone
    .alerts()
    .map(({ gid, sid, protocol, source, destination }) =>
      keyOf([gid, sid, protocol], [source.ip, source.port, destination.ip, destination.port]),
    );
  rmSync(join(workspace.directory, name), { recursive: true, force: true });
  return { ...times, alerts: alerts.sort() };
}

function keyOf(signature: (string | number)[], flow: (string | number | undefined)[]): string {
  return `${signature.join(':')} ${flow.map((part) => part ?? '-').join(' ')}`;
}

/**
 * Runs a command with its output in a file; wall and CPU time in seconds, start and end included.
 * @throws Error when it fails.
 */
async function timed(command: string, args: string[], outputFile: string): Promise<{ wall: number; cpu: number }> {
  const output = openSync(outputFile, 'w');
  const errors = openSync(`${outputFile}.stderr`, 'w');
  try {
    const before = reapedSeconds();
    const started = performance.now();
    const child = spawn(command, args, { stdio: ['ignore', output, errors] });
    const { code, signal } = await within(RUN_MILLIS, command, watch(child));
    const wall = (performance.now() - started) / 1000;
    if (code !== 0) {
      const said = readFileSync(`${outputFile}.stderr`, 'utf8').slice(-4000);
      throw new Error(`${command} ${args.join(' ')} ended with ${signal ?? code}:\n${said}`);
    }
    return { wall, cpu: reapedSeconds() - before };
  } finally {
    closeSync(output);
    closeSync(errors);
  }
}

/** What is wrong with the alerts; undefined when every run has found the same, and all that were put in. */
function differences(agent: Run[], alone: Run[], traffic: Traffic): string | undefined {
  const expected = alone[0]?.alerts ?? [];
  for (const [sid, count] of [
    [MARKER_SID, traffic.markers],
    [DEEP_SID, traffic.deep],
    [HELLO_SID, traffic.hellos],
  ] as const) {
    const found = expected.filter((alert) => alert.startsWith(`1:${sid}:`)).length;
    if (found !== count) return `the engine alone found ${found} of ${count} alerts of rule ${sid}`;
  }
  for (const { alerts } of [...agent, ...alone]) {
    const missing = without(expected, alerts);
    const more = without(alerts, expected);
    if (missing.length + more.length === 0) continue;
    const some = [...missing.slice(0, 5).map((a) => `- ${a}`), ...more.slice(0, 5).map((a) => `+ ${a}`)];
    return `${missing.length} alerts missing, ${more.length} too many:\n${some.join('\n')}`;
  }
  return undefined;
}

/** The multiset `all` less the multiset `taken`. */
function without(all: string[], taken: string[]): string[] {
  const counts = new Map<string, number>();
  for (const one of taken) counts.set(one, (counts.get(one) ?? 0) + 1);
  return all.filter((one) => {
    const count = counts.get(one) ?? 0;
    counts.set(one, count - 1);
    return count <= 0;
  });
}
