/** The real agent, run by its command line on a lab's node. */
import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { stringify } from 'yaml';
import type { Counters } from '../../agent/capture/protocol.ts';
import type { Keep } from '../../agent/endpoints/endpoint.ts';
import type { EeEvent } from '../../agent/events/event.ts';
import type { Lab, Pod } from '../../scripts/lab.ts';
import { PROJECT } from './project.ts';

/** A rule that both engines read, and that fires on each packet or stream with this text. */
export const MARKER = 'dpi-marker';
export const MARKER_SID = 9_000_001;
/** Nothing that a test waits for takes this long, on a slow machine either: it will not come. */
const PATIENCE_MILLIS = 120_000;
/**
 * A ring of the default size has two blocks, and the kernel closes each after 10 ms: where the capture process is not
 * run for 20 ms, a few packets fill it. This has 32.
 */
const RING = '8MiB';
export const MARKER_RULE = `alert ip any any -> any any ( msg:"TEST marker"; content:"${MARKER}"; sid:${MARKER_SID}; rev:1; )\n`;

export type LogLine = Record<string, unknown> & { msg?: string };

export interface RunningAgent {
  pid: number;
  events: EeEvent[];
  log: LogLine[];
  /** Resolves with the first event, of those seen and those to come, that satisfies `test`. */
  event(test: (event: EeEvent) => boolean): Promise<EeEvent>;
  /** Likewise for lines of the log; `from`: index of the first line to look at. */
  logged(test: (line: LogLine) => boolean, from?: number): Promise<LogLine>;
  /** Pids of the children that run, as the agent's log names them. */
  children(kind?: 'engine' | 'capture'): number[];
  /** Sends the signal and gives exit code and milliseconds until the end. */
  stop(signal?: NodeJS.Signals): Promise<{ code: number | null; millis: number }>;
}

export interface Workspace {
  directory: string;
  journal: string;
  rules: string;
  /** That were started in it. */
  agents: RunningAgent[];
  remove(): void;
}

/** A folder for one agent's state, journal and rules. The engine's user can pass through it. */
export function createWorkspace(): Workspace {
  const directory = mkdtempSync(join(tmpdir(), 'dpi-test-'));
  chmodSync(directory, 0o711);
  const rules = join(directory, 'test.rules');
  writeFileSync(rules, MARKER_RULE);
  mkdirSync(join(directory, 'journal'));
  return {
    directory,
    journal: join(directory, 'journal'),
    rules,
    agents: [],
    remove() {
      endEnginesIn(directory);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Of an agent that was killed: one that waits for a writer of its FIFO would wait for ever. */
function endEnginesIn(directory: string): void {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      if (command.includes(`${directory}/state/lanes/`)) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
}

/** The events in the journal, in order. */
export function journaled(workspace: Workspace): EeEvent[] {
  return readdirSync(workspace.journal)
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .flatMap((name) => readFileSync(join(workspace.journal, name), 'utf8').split('\n'))
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as EeEvent);
}

export interface AgentOptions {
  lab: Lab;
  engine: 'snort' | 'suricata';
  workspace: Workspace;
  pods: (Pod & { resources?: string[]; addresses?: string[]; ruleSets?: string[]; evidence?: Keep })[];
  /** Further keys of the configuration. */
  config?: Record<string, unknown>;
  ruleSets?: string[];
  /** Folder of another build of the project; default: this one. */
  project?: string;
  /** Called with its process at once, before it has started others. */
  started?: (pid: number) => void;
}

/**
 * Starts the agent; resolves when every endpoint is captured or known to be missing. The rings of endpoints that are
 * given here are larger than by default.
 */
export async function runAgent(options: AgentOptions): Promise<RunningAgent> {
  const { lab, workspace } = options;
  const config = join(workspace.directory, 'dpi-agent.yaml');
  writeFileSync(
    config,
    stringify({
      node: 'test-node',
      logFormat: 'json',
      logLevel: 'debug',
      stateDirectory: join(workspace.directory, 'state'),
      rules: [workspace.rules],
      rulesDirectory: join(workspace.directory, 'sets'),
      ruleSets: options.ruleSets ?? [],
      endpoints: options.pods.map((pod) => ({
        interface: pod.interface,
        namespace: pod.namespace,
        pod: pod.name,
        addresses: pod.addresses ?? [pod.address, ...(pod.address6 === undefined ? [] : [pod.address6])],
        resources: pod.resources ?? ['default/test'],
        ...(pod.ruleSets === undefined ? {} : { ruleSets: pod.ruleSets }),
        ...(pod.evidence === undefined ? {} : { evidence: pod.evidence }),
      })),
      ...(options.pods.length === 0 ? {} : { capture: { ringSize: RING } }),
      ...options.config,
      journal: { directory: workspace.journal },
    }),
  );
  const child = lab.spawn(
    lab.node,
    process.execPath,
    [join(options.project ?? PROJECT, 'bin/dpi-agent.js'), 'run', '-c', config, '-e', options.engine, '-o', 'json'],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  options.started?.(child.pid ?? 0);
  const agent = observeAgent(child);
  workspace.agents.push(agent);
  const states = (): Set<unknown> =>
    new Set(
      agent.log.filter(({ msg }) => msg === 'capturing' || msg === 'not capturing').map((line) => line['endpoint']),
    );
  if (options.pods.length === 0) await agent.logged(({ msg }) => msg === 'engine reads packets');
  else await agent.logged(() => states().size === options.pods.length);
  return agent;
}

/** A command that runs like an agent: events on stdout, and its log. */
export function observeAgent(child: ChildProcess): RunningAgent {
  const events: EeEvent[] = [];
  const log: LogLine[] = [];
  const checks = new Set<() => void>();
  const changed = (): void => {
    for (const check of checks) check();
  };
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  let ended = false;
  void exited.then(() => {
    ended = true;
    changed();
  });
  if (child.stdout === null || child.stderr === null) throw new Error('the agent has no pipes');
  createInterface({ input: child.stdout }).on('line', (line) => {
    events.push(JSON.parse(line) as EeEvent);
    changed();
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    log.push(line.startsWith('{') ? (JSON.parse(line) as LogLine) : { msg: line });
    changed();
  });

  function first<T>(list: T[], test: (item: T) => boolean, from = 0): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => {
        checks.delete(check);
        reject(new Error(`${why}:\n${log.map((line) => JSON.stringify(line)).join('\n')}`));
      };
      const timer = setTimeout(() => fail(`what the test waits for did not come: ${test.toString()}`), PATIENCE_MILLIS);
      const check = (): void => {
        const found = list.slice(from).find(test);
        if (found === undefined && !ended) return;
        checks.delete(check);
        clearTimeout(timer);
        if (found === undefined) fail('the agent ended');
        else resolve(found);
      };
      checks.add(check);
      check();
    });
  }

  const pid = child.pid ?? 0;
  return {
    pid,
    events,
    log,
    event: (test) => first(events, test),
    logged: (test, from) => first(log, test, from),
    children(kind) {
      const last = (test: (line: LogLine) => boolean): number[] => {
        const found = log.findLast(test)?.['pid'];
        return typeof found === 'number' ? [found] : [];
      };
      return [
        ...(kind === 'engine' ? [] : last(({ msg }) => msg === 'capture process')),
        ...(kind === 'capture' ? [] : last(({ msg }) => msg === 'engine reads packets')),
      ];
    },
    async stop(signal = 'SIGTERM') {
      const started = Date.now();
      child.kill(signal);
      return { code: await exited, millis: Date.now() - started };
    },
  };
}

/** Packets of an endpoint, as an agent that has ended says. */
export function lastCounters({ log }: RunningAgent, endpoint: string): Counters {
  const last = log.findLast((line) => line.msg === 'endpoint' && line['endpoint'] === endpoint);
  if (last === undefined) throw new Error(`the agent did not say what became of the packets of ${endpoint}`);
  return last as unknown as Counters;
}

/** The text of an event's payload. */
export function payloadOf(event: EeEvent): string {
  return Buffer.from(event.record.payload ?? '', 'base64').toString('latin1');
}
