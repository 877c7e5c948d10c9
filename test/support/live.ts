/** Live tests: a real engine on real veths, or one line that says what is missing. */
import { afterAll, afterEach, beforeAll, beforeEach, describe } from '@jest/globals';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import { openLab, whyNoLab, type Lab } from '../../scripts/lab.ts';
import { createWorkspace, type Workspace } from './agent.ts';
import { describeEngine } from './engines.ts';
import { tcpConversation, writePcap, type Frame } from './packets.ts';
import { whyNoProc } from './proc.ts';
import { PROJECT } from './project.ts';

/** Declares the tests once for each engine. `body` only declares tests and hooks. */
export function describeLive(body: (engine: 'snort' | 'suricata') => void): void {
  const missing = whyNoLab();
  if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);
  for (const engine of ['snort', 'suricata'] as const) {
    describeEngine(engine, () => {
      if (missing === undefined) body(engine);
      else describe.skip(missing, () => body(engine));
    });
  }
}

/** A lab for all tests of a block. @param begin Called with it before the first. */
export function useLab(prefix: string, begin: (lab: Lab) => void): void {
  let lab: Lab | undefined;
  beforeAll(() => {
    lab = openLab(prefix);
    begin(lab);
  });
  afterAll(() => lab?.close());
}

/** A workspace for each test of a block. @param begin Called with it before each. Agents are killed at a test's end. */
export function useWorkspace(begin: (workspace: Workspace) => void): void {
  holdWorkspace(beforeEach, afterEach, begin);
}

/** Likewise, one for all tests of a block. */
export function shareWorkspace(begin: (workspace: Workspace) => void): void {
  holdWorkspace(beforeAll, afterAll, begin);
}

function holdWorkspace(
  before: typeof beforeEach,
  after: typeof afterEach,
  begin: (workspace: Workspace) => void,
): void {
  let workspace: Workspace | undefined;
  before(() => {
    workspace = createWorkspace();
    begin(workspace);
  });
  after(async () => {
    for (const agent of workspace?.agents ?? []) await agent.stop('SIGKILL');
    workspace?.remove();
  });
}

/** Sends frames out of an interface in a network namespace. */
export function inject(
  lab: Lab,
  workspace: Workspace,
  netns: string,
  device: string,
  frames: Frame[],
  times = 1,
): void {
  const file = join(workspace.directory, 'inject.pcap');
  writeFileSync(file, writePcap(frames));
  lab.exec(netns, process.execPath, join(PROJECT, 'dist/test/support/inject.js'), device, file, String(times));
}

/** One TCP conversation in which the client says `text`. */
export function conversation(text: string, port: number, client = '10.65.0.9', server = '10.65.0.8'): Frame[] {
  return tcpConversation({
    client,
    server,
    clientPort: port,
    serverPort: 7777,
    exchange: [{ from: 'client', data: text }],
  });
}

const SENDER = `
import socket, sys
for line in open(sys.argv[1]):
    device, frame = line.split()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((device, 0))
        out.send(bytes.fromhex(frame))`;

/** Sends one frame out of each of many interfaces; quicker for that than `inject`. */
export function sendFrames(
  lab: Lab,
  workspace: Workspace,
  netns: string,
  frames: [device: string, frame: Buffer][],
): void {
  const file = join(workspace.directory, 'frames.txt');
  writeFileSync(file, frames.map(([device, frame]) => `${device} ${frame.toString('hex')}\n`).join(''));
  lab.exec(netns, 'python3', '-c', SENDER, file);
}

const SERVER = `
const net = require('node:net');
net.createServer((socket) => { socket.on('error', () => {}); socket.resume(); socket.on('end', () => socket.end('bye')); })
  .listen(Number(process.argv[1]), '::', () => console.log('up'));`;

/** A TCP server in a pod that takes whatever comes. */
export async function serve(lab: Lab, netns: string, port: number): Promise<void> {
  const child = lab.spawn(netns, process.execPath, ['-e', SERVER, String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => child.stdout?.once('data', resolve));
}

const CLIENT = `
const net = require('node:net');
const [address, port, size, text] = process.argv.slice(1);
const socket = net.connect({ host: address, port: Number(port) }, () => socket.end(Buffer.concat([Buffer.alloc(Number(size), 'x'), Buffer.from(text)])));
socket.resume();
socket.on('close', () => process.exit(0));
setTimeout(() => process.exit(1), 120_000);`;

/** Sends `size` bytes and then `text` over one real TCP connection. */
export function send(lab: Lab, netns: string, address: string, port: number, text: string, size = 0): void {
  lab.exec(netns, process.execPath, '-e', CLIENT, address, String(port), String(size), text);
}

/** Whether a process runs; where /proc tells, one that ended and that nobody has waited for does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return whyNoProc !== undefined || !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}

/** Sends what test/support/load.ts says, and resolves with the number of packets. */
export async function spawnLoad(lab: Lab, netns: string, ...args: (string | number)[]): Promise<number> {
  const child = lab.spawn(netns, process.execPath, [join(PROJECT, 'dist/test/support/load.js'), ...args.map(String)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (child.stdout === null) throw new Error('no stdout');
  const said = await textOf(child.stdout);
  if (said === '') throw new Error(`nothing could be sent: ${args.join(' ')}`);
  return Number(said);
}
