/**
 * An agent of another commit and this one, in turn on the same state folder and journal, both ways: an upgrade and a
 * downgrade.
 *   node dist/scripts/across-versions.js COMMIT
 * Each raises alerts and is killed while the sink is away, so the other one finds a journal, leases and a cursor with
 * events before it. In the end each event must be in the journal and at the sink, none twice in the journal, and the
 * leases must tell whose each id was under all of them: a late alert is attributed by that. Needs root, an engine, and some minutes: the other commit is built, once for all.
 */
import { execFileSync, type ChildProcess } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createWorkspace, journaled, MARKER, runAgent, type Workspace } from '../test/support/agent.ts';
import type { Lease } from '../agent/endpoints/lease-file.ts';
import { PROJECT } from '../test/support/project.ts';
import { openLab, whyNoLab, type Lab, type Pod } from './lab.ts';

const PORT = 6514;
const EVENTS = 5;
const PATIENCE_MILLIS = 60_000;

/** Appends what it gets to a file. */
const RECEIVER = `require('node:net').createServer((socket) => socket.on('data', (data) =>
  require('node:fs').appendFileSync(process.argv[1], data))).listen(${PORT})`;
/** One datagram from each of some ports, that the marker's rule fires on. */
const SENDER = `const [address, first, count] = process.argv.slice(1);
for (let port = Number(first); port < Number(first) + Number(count); port++) {
  const socket = require('node:dgram').createSocket('udp4');
  socket.bind(port, () => socket.send('${MARKER}', 9, address, () => socket.close()));
}`;

interface Ground {
  lab: Lab;
  workspace: Workspace;
  engine: 'snort' | 'suricata';
  pods: [Pod, Pod];
  received: string;
}

const [commit, engine = 'suricata'] = process.argv.slice(2);
if (commit === undefined || (engine !== 'snort' && engine !== 'suricata')) {
  process.stderr.write('node dist/scripts/across-versions.js COMMIT [snort|suricata]\n');
  process.exit(2);
}
const noLab = whyNoLab();
if (noLab !== undefined) {
  process.stderr.write(`skipped: ${noLab}\n`);
  process.exit(0);
}
const other = buildOther(commit);
try {
  await inTurn('upgrade', [other, PROJECT]);
  await inTurn('downgrade', [PROJECT, other]);
  await inTurn('there and back', [PROJECT, other, PROJECT]);
} finally {
  execFileSync('git', ['worktree', 'remove', '--force', other], { cwd: PROJECT });
}

/** @returns the folder of its build, which is a work tree of this repository. */
function buildOther(revision: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'dpi-other-version-'));
  rmSync(folder, { recursive: true });
  execFileSync('git', ['worktree', 'add', '--detach', folder, revision], { cwd: PROJECT, stdio: 'inherit' });
  symlinkSync(join(PROJECT, 'node_modules'), join(folder, 'node_modules'));
  execFileSync(process.execPath, [join(PROJECT, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json'], {
    cwd: folder,
    stdio: 'inherit',
  });
  cpSync(join(PROJECT, 'dist/native'), join(folder, 'dist/native'), { recursive: true });
  return folder;
}

async function inTurn(what: string, projects: string[]): Promise<void> {
  const workspace = createWorkspace();
  const lab = openLab('dpi-versions');
  const received = join(workspace.directory, 'received');
  const pods: Ground['pods'] = [
    lab.addPod({ name: 'client', address: '10.65.0.1' }),
    lab.addPod({ name: 'server', address: '10.65.0.2' }),
  ];
  const ground: Ground = { lab, workspace, engine: engine as Ground['engine'], pods, received };
  try {
    const ports: number[] = [];
    for (const [turn, project] of projects.entries()) {
      const first = 20_000 + turn * 100;
      await oneLife(ground, project, first, turn === projects.length - 1);
      ports.push(...Array.from({ length: EVENTS }, (_, index) => first + index));
    }
    compare(what, ground, ports, projects.length);
  } finally {
    lab.close();
    workspace.remove();
  }
}

/** An agent that raises alerts and is killed; the last one delivers, and ends when it is asked to. */
async function oneLife(ground: Ground, project: string, first: number, isLast: boolean): Promise<void> {
  const { lab, workspace, pods, received } = ground;
  const sinks = [{ name: 'siem', syslog: { address: `127.0.0.1:${PORT}`, protocol: 'tcp' } }];
  const agent = await runAgent({ ...ground, project, pods: [...pods], config: { sinks } });
  await agent.logged(({ msg }) => msg === 'engine reads packets');
  lab.exec(pods[0].netns, process.execPath, '-e', SENDER, pods[1].address, String(first), String(EVENTS));
  await until(`events of ports from ${first} in the journal`, () => portsOf(workspace, first) === EVENTS);
  if (!isLast) {
    await agent.stop('SIGKILL');
    return;
  }
  const receiver: ChildProcess = lab.spawn(lab.node, process.execPath, ['-e', RECEIVER, received], { stdio: 'ignore' });
  const count = journaled(workspace).length;
  await until('all events at the sink', () => deliveredIds(received).size === count);
  await agent.stop('SIGTERM');
  receiver.kill();
}

function portsOf(workspace: Workspace, first: number): number {
  const ports = journaled(workspace).map(({ source_port: port }) => Number(port));
  return new Set(ports.filter((port) => port >= first && port < first + EVENTS)).size;
}

function deliveredIds(file: string): Set<string> {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return new Set([...text.matchAll(/"event_id":"([^"]+)"/g)].map(([, id = '']) => id));
}

/** @throws Error with what is not as it should be. */
function compare(what: string, { workspace, received, pods }: Ground, ports: number[], lives: number): void {
  const events = journaled(workspace);
  const ids = events.map(({ record }) => record.event_id);
  const missing = ports.filter((port) => !events.some(({ source_port: source }) => Number(source) === port));
  const leases = leasesOf(workspace);
  const lost = pods.filter(({ name }) => leases.filter(({ endpoint }) => endpoint.name === name).length !== lives);
  const undelivered = ids.filter((id) => !deliveredIds(received).has(id));
  const problems = [
    ...(missing.length > 0 ? [`alerts of ports ${missing.join(', ')} are not in the journal`] : []),
    ...(new Set(ids).size < ids.length ? ['an event is twice in the journal'] : []),
    ...(undelivered.length > 0 ? [`${undelivered.length} events did not reach the sink`] : []),
    ...(lost.length > 0
      ? [`leases: ${leases.map(({ vlan, endpoint }) => `${vlan} ${endpoint.name}`).join(', ')}`]
      : []),
  ];
  if (problems.length > 0) throw new Error(`${what}: ${problems.join('; ')}`);
  process.stdout.write(
    `${what}: ${events.length} events in the journal and at the sink, and whose each id was is known\n`,
  );
}

/** The last that is said of each. */
function leasesOf(workspace: Workspace): Lease[] {
  const lines = readFileSync(join(workspace.directory, 'state/leases.ndjson'), 'utf8').split('\n').filter(Boolean);
  const leases = lines.map((line) => JSON.parse(line) as Lease).filter(({ vlan }) => vlan !== undefined);
  return [...new Map(leases.map((lease) => [`${lease.vlan} ${lease.since}`, lease])).values()];
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MILLIS;
  while (!isSo()) {
    if (performance.now() > deadline) throw new Error(`not within ${PATIENCE_MILLIS / 1_000} s: ${what}`);
    await sleep(200);
  }
}
