/**
 * The demo: two pods' network namespaces, an attacker's request, the agent on the veths of both, and the event.
 * Where network namespaces can't be made, a recording of the same traffic is replayed instead.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { stringify } from 'yaml';
import { coloursOf, columnsOf, tableHeader, tableRow, wrapWords } from '../agent/cli/print.ts';
import type { EeEvent } from '../agent/events/event.ts';
import { stripControls } from '../agent/text.ts';
import { openLab, whyNoLab, type Lab, type Pod } from './lab.ts';

const AGENT = fileURLToPath(new URL('../../bin/dpi-agent.js', import.meta.url));
const RECORDING = fileURLToPath(new URL('../../scripts/demo.pcap', import.meta.url));
const PREFIX = 'dpi-demo';
/** Of what stands before each line of its own. */
const PREFIX_COLUMNS = 'demo: '.length;
const EVENT_MILLIS = 15_000;
const START_MILLIS = 60_000;
/** An agent ends within this. */
const END_MILLIS = 10_000;
/** Of the agent's log, shown where it does not start. */
const LAST_LINES = 10;
/** An HTTP server that answers every request. */
const SERVER =
  "require('node:http').createServer((q,s)=>{q.resume();q.on('end',()=>s.end('welcome\\n'))}).listen(80,'::',()=>console.log('up'))";

const { values } = parseArgs({
  options: {
    keep: { type: 'boolean', default: false },
    engine: { type: 'string', default: 'auto' },
    rules: { type: 'string', multiple: true, default: [] },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) {
  process.stdout.write(
    [
      'npm run demo -- [--keep] [--engine auto|snort|suricata] [--rules PATH …]',
      '',
      '  --keep    leaves pods and agent running until Ctrl-C, to play with, and serves the Alerts page',
      '  --engine  auto takes Snort 3 where it is installed, else Suricata',
      '  --rules   adds rules, in the syntax of the engine',
      '',
    ].join('\n'),
  );
  process.exit(0);
}

const colours = coloursOf(process.stdout);
const agentFlags = ['--engine', values.engine, ...values.rules.flatMap((path) => ['--rules', path])];
const scratch = mkdtempSync(join(tmpdir(), 'dpi-demo-'));
// The engine's user must get through to its own folder.
chmodSync(scratch, 0o711);
let lab: Lab | undefined;
let agent: ChildProcess | undefined;
let page: ChildProcess | undefined;
/** Exit status of the signal that ends the demo; what fails from then on is no news. */
let endedBy: number | undefined;

/** The agent ends its engine, which hears no Ctrl-C itself. */
async function endAgent(): Promise<void> {
  if (agent === undefined || agent.exitCode !== null || agent.signalCode !== null) return;
  const exited = new Promise((resolve) => agent?.once('exit', resolve));
  agent.kill('SIGTERM');
  await Promise.race([exited, new Promise((resolve) => setTimeout(resolve, END_MILLIS))]);
}

function cleanUp(): void {
  if (page?.exitCode === null) page.kill('SIGTERM');
  if (agent?.exitCode === null) agent.kill('SIGTERM');
  lab?.close();
  lab = undefined;
  rmSync(scratch, { recursive: true, force: true });
}
process.once('exit', cleanUp);
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  process.once(signal, () => {
    endedBy = code;
    // A second one does not wait.
    process.once(signal, () => process.exit(code));
    void endAgent().then(() => process.exit(code));
  });
}

const noLab = whyNoLab();
if (noLab === undefined) await live();
else await recorded(noLab);

async function live(): Promise<void> {
  lab = openLab(PREFIX);
  const backend = lab.addPod({ name: 'backend', address: '10.65.0.2' });
  const attacker = lab.addPod({ name: 'attacker', address: '10.65.0.3' });
  say(`pods: ${backend.netns} ${backend.address} on ${backend.interface}, ${attacker.netns} ${attacker.address}`);

  const server = lab.spawn(backend.netns, process.execPath, ['-e', SERVER], { stdio: ['ignore', 'pipe', 'inherit'] });
  await firstLine(server, 'the HTTP server');

  const config = join(scratch, 'dpi-agent.yaml');
  writeFileSync(
    config,
    stringify({
      node: 'demo-node',
      stateDirectory: join(scratch, 'state'),
      journal: { directory: join(scratch, 'journal') },
      endpoints: [endpointOf('backend', backend), endpointOf('attacker', attacker)],
    }),
  );
  const child = lab.spawn(lab.node, process.execPath, [AGENT, 'run', '--config', config, '-o', 'json', ...agentFlags], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, DPI_AGENT_LOG_FORMAT: 'json' },
  });
  agent = child;
  const events = eventsOf(child);
  await capturing(child, 2);

  const curl = ['http://backend:80', '-H', 'User-Agent: Mozilla/4.0', '-XPOST', '--data-raw', 'smk=1234'];
  say(`attacker$ curl ${curl.map((word) => (/[\s=]/.test(word) ? `'${word}'` : word)).join(' ')}`);
  const answer = lab.exec(
    attacker.netns,
    'curl',
    '--silent',
    '--max-time',
    '10',
    '--resolve',
    `backend:80:${backend.address}`,
    ...curl,
  );
  say(`backend answered: ${answer.trim()}`);

  const first = await withTimeout(events.next(), EVENT_MILLIS, 'no event came');
  // Other rules that fire on the same packet follow at once.
  await new Promise((resolve) => setTimeout(resolve, 300));
  const all = [first, ...events.rest()];
  show(all);
  const millis = first.seenAt - Date.parse(first.event.record.timestamp);
  say(colours.green(`packet to event in the journal: ${millis} ms`));

  if (values.keep) {
    const url = await servePage();
    say('left running; events appear below. Try:');
    process.stdout.write(
      (url === undefined ? '' : `  open ${url} in a browser: the Alerts page\n`) +
        `  ip netns exec ${attacker.netns} curl --resolve backend:80:${backend.address} ${curl.map((word) => (/[\s=]/.test(word) ? `'${word}'` : word)).join(' ')}\n` +
        `  tail -f ${join(scratch, 'journal')}/*.ndjson | jq .\n  Ctrl-C ends and removes everything.\n`,
    );
    for (;;) {
      const next = await events.next();
      process.stdout.write(`${tableRow(next.event, colours, columnsOf(process.stdout))}\n`);
    }
  }
  await endAgent();
  process.exit(0);
}

/** The Alerts page on this machine, with the demo's journal; its address. */
async function servePage(): Promise<string | undefined> {
  const flags = ['--journal.directory', join(scratch, 'journal'), '--stateDirectory', join(scratch, 'state')];
  const start = (port: string): Promise<string | undefined> => {
    const child = spawn(
      process.execPath,
      [AGENT, 'ui', '--access', 'none', '--source', 'journal', '--port', port, ...flags],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { ...process.env, DPI_AGENT_LOG_FORMAT: 'json', DPI_AGENT_LOG_LEVEL: 'info' },
      },
    );
    page = child;
    return new Promise((resolve) => {
      createInterface({ input: child.stderr }).on('line', (line) => {
        const { url } = parse(line);
        if (typeof url === 'string') resolve(url);
      });
      child.once('exit', () => resolve(undefined));
    });
  };
  // Its own port, or another one where that is taken.
  return (await start('9098')) ?? start('0');
}

async function recorded(reason: string): Promise<void> {
  say(reason);
  say(`Replaying a recording of the same traffic instead: ${RECORDING}`);
  const child = spawn(process.execPath, [AGENT, 'replay', RECORDING, '-o', 'json', ...agentFlags], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  agent = child;
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  const events: Arrived[] = [];
  const started = Date.now();
  for await (const line of createInterface({ input: child.stdout }))
    events.push({ event: JSON.parse(line) as EeEvent, seenAt: Date.now() });
  const code = await exited;
  const first = events[0];
  if (code !== 0 || first === undefined) fail(`the replay found nothing (exit status ${code})`);
  show(events);
  say(colours.green(`start to event: ${first.seenAt - started} ms, the engine's start included`));
  process.exit(0);
}

function show(events: Arrived[]): void {
  process.stdout.write(`\n${tableHeader(colours, columnsOf(process.stdout))}\n`);
  for (const { event } of events) process.stdout.write(`${tableRow(event, colours, columnsOf(process.stdout))}\n`);
  process.stdout.write(`\n${JSON.stringify(events[0]?.event, null, 2)}\n\n`);
}

interface Arrived {
  event: EeEvent;
  /** Milliseconds since the epoch. */
  seenAt: number;
}

/** The events that the agent prints once they are in its journal. */
function eventsOf(child: ChildProcess): { next(): Promise<Arrived>; rest(): Arrived[] } {
  const arrived: Arrived[] = [];
  const waiting: ((event: Arrived) => void)[] = [];
  if (child.stdout === null) throw new Error('no stdout');
  createInterface({ input: child.stdout }).on('line', (line) => {
    const event = { event: JSON.parse(line) as EeEvent, seenAt: Date.now() };
    const next = waiting.shift();
    if (next === undefined) arrived.push(event);
    else next(event);
  });
  return {
    next: () => {
      const event = arrived.shift();
      return event === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(event);
    },
    rest: () => arrived.splice(0),
  };
}

function endpointOf(pod: string, { interface: name, address }: Pod): Record<string, unknown> {
  return {
    interface: name,
    namespace: 'default',
    pod,
    owner: pod,
    labels: { app: pod },
    addresses: [address],
    resource: 'default/sample-dpi',
  };
}

/** Resolves when the agent's log says that it captures so many interfaces. */
function capturing(child: ChildProcess, interfaces: number): Promise<void> {
  const lines: string[] = [];
  let captured = 0;
  const ready = new Promise<void>((resolve, reject) => {
    if (child.stderr === null) return reject(new Error('no stderr'));
    createInterface({ input: child.stderr }).on('line', (line) => {
      lines.push(line);
      const entry = parse(line);
      if (entry['msg'] === 'engine')
        say(`agent: ${String(entry['engine'])} ${String(entry['version'])} (${String(entry['why'])})`);
      if (entry['msg'] === 'capturing') {
        say(`agent: capturing on ${String(entry['interface'])}`);
        if (++captured === interfaces) resolve();
      }
    });
    child.once('exit', (code) => reject(new Error(`the agent ended with status ${code}${lastLines(lines)}`)));
  });
  ready.catch((error: unknown) => {
    if (!values.keep) return;
    fail(String(error));
  });
  return withTimeout(ready, START_MILLIS, 'the agent did not start to capture', () => lastLines(lines));
}

/** What it logged last, as it would on a terminal. */
function lastLines(lines: string[]): string {
  const last = lines.slice(-LAST_LINES).map((line) => {
    const { msg } = parse(line);
    return `  ${stripControls(typeof msg === 'string' ? msg : line)}`;
  });
  return last.length === 0 ? '; it said nothing' : `; it said last:\n${last.join('\n')}`;
}

function parse(line: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch {
    return {};
  }
}

async function firstLine(child: ChildProcess, what: string): Promise<void> {
  const line = new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`${what} ended with status ${code}`)));
  });
  await withTimeout(line, 10_000, `${what} did not start`);
}

async function withTimeout<T>(promise: Promise<T>, millis: number, what: string, explain = () => ''): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} within ${millis / 1000} s${explain()}`)), millis);
  });
  try {
    return await Promise.race([promise, timeout]);
  } catch (error) {
    fail(error instanceof Error ? error.message : String(error));
  } finally {
    clearTimeout(timer);
  }
}

/** In lines as long as the terminal is wide. */
function say(text: string): void {
  const lines = wrapWords(text, columnsOf(process.stdout) - PREFIX_COLUMNS);
  process.stdout.write(`${colours.dim('demo:')} ${lines.join(`\n${' '.repeat(PREFIX_COLUMNS)}`)}\n`);
}

function fail(text: string): never {
  if (endedBy !== undefined) process.exit(endedBy);
  process.stderr.write(`demo: ${text}\n`);
  process.exit(1);
}
