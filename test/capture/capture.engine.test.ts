/** The capture process without an engine, on real veths, and its end behind an engine that does not read. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync, fork, type ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPcapParser } from '../../agent/capture/pcap-file.ts';
import type { CaptureSettings, FromCapture, ToCapture } from '../../agent/capture/protocol.ts';
import { openLab, whyNoLab, type Lab, type Pod } from '../../scripts/lab.ts';
import { createWorkspace, type Workspace } from '../support/agent.ts';
import type { ChurnResult } from '../support/churn.ts';
import { inject } from '../support/live.ts';
import { udpExchange } from '../support/packets.ts';
import { poll } from '../support/poll.ts';
import { whyNoProc } from '../support/proc.ts';
import { PROJECT } from '../support/project.ts';

const missing = whyNoLab();
if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);

describe('a capture process that hands over', () => {
  let workspace: Workspace;
  let main: ChildProcess;
  let reader: number;
  const messages: FromCapture[] = [];
  beforeEach(async () => {
    workspace = createWorkspace();
    const path = join(workspace.directory, 'fifo');
    execFileSync('mkfifo', [path]);
    reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const settings: CaptureSettings = {
      snaplen: 65_535,
      ringSize: 1 << 20,
      maxRingSize: 1 << 20,
      timeoutMillis: 10,
      filter: '',
      queueSize: 4 << 20,
      promiscuous: false,
    };
    messages.length = 0;
    main = fork(join(PROJECT, 'dist/agent/capture/main.js'), [JSON.stringify(settings)]);
    main.on('message', (message) => messages.push(message as FromCapture));
    send({ type: 'output', path });
    await saw('output-open');
    // More than the FIFO holds.
    for (let number = 1; number <= 200; number++) send({ type: 'inject', number, payload: 'x'.repeat(1_000) });
    send({ type: 'hand-over' });
  });
  afterEach(() => {
    main.kill('SIGKILL');
    closeSync(reader);
    workspace.remove();
  });

  test('writes what is queued first, for an engine that reads late', async () => {
    await saw('injected', 200);
    const received: Buffer[] = [];
    const chunk = Buffer.alloc(1 << 20);
    for (let ended = false; !ended;) {
      ended = main.exitCode !== null;
      try {
        received.push(Buffer.from(chunk.subarray(0, readSync(reader, chunk))));
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' });
      }
      await sleep(10);
    }
    const parsed: number[] = [];
    const parser = createPcapParser((_s, _us, _captured, length) => parsed.push(length));
    for (const bytes of received) parser.push(bytes);
    expect(parser.end()).toMatchObject({ kind: 'read', damageCount: 0 });
    // And the one that every stream begins with.
    expect(parsed).toHaveLength(201);
    expect(messages.at(-1)).toMatchObject({ type: 'handed-over', handed: { records: 201 } });
    expect(messages.map(({ type }) => type)).not.toContain('output-closed');
  });

  test('says that the stream has ended when the engine does not read', async () => {
    await saw('handed-over');
    expect(messages).toContainEqual({
      type: 'output-closed',
      path: join(workspace.directory, 'fifo'),
      reason: 'the engine does not read, and the capture process ends',
    });
    expect(messages.at(-1)).not.toHaveProperty('handed');
  });

  function send(message: ToCapture): void {
    main.send(message);
  }

  async function saw(type: FromCapture['type'], times = 1): Promise<void> {
    await poll(() => messages.filter((message) => message.type === type).length >= times);
  }
});

(missing === undefined ? describe : describe.skip)('the capture process', () => {
  let lab: Lab;
  let workspace: Workspace;
  beforeAll(() => {
    lab = openLab(`dpi-c-${process.pid}`);
    workspace = createWorkspace();
  });
  afterAll(() => {
    lab.close();
    workspace.remove();
  });

  test('200 times attached and detached, an idle endpoint leaves nothing behind, and a busy one loses and repeats no packet', async () => {
    const idle = lab.addPod({ name: 'idle', address: '10.66.0.2' });
    const busy = lab.addPod({ name: 'busy', address: '10.66.0.3' });
    const { sent, result } = await drive(busy, ['200', idle.interface]);
    expectAll(sent, result);
    // 200 rings of 2 MiB would be 400 MiB: they are given back when 32 MiB of them are dead.
    expect(result.renewals).toBeGreaterThan(0);
    expect(result.residentBytes[1] - result.residentBytes[0]).toBeLessThan(120 << 20);
    expect(result.descriptors[1] - result.descriptors[0]).toBeLessThan(60);
  });

  test('a ring that is never read to its end gets successors, and none of them loses or repeats a packet', async () => {
    const busy = lab.addPod({ name: 'pressed', address: '10.66.0.4' });
    const { sent, result } = await drive(busy, ['40'], 1_400);
    expectAll(sent, result);
    expect(result.renewals).toBe(0);
    // Two rings at a time, each with a socket of its own.
    if (whyNoProc === undefined) expect(result.descriptors[1]).toBeGreaterThan(result.descriptors[0]);
    else process.stderr.write(`skipped: that a ring had a successor: ${whyNoProc}\n`);
  });

  function expectAll(sent: number, result: ChurnResult): void {
    expect(result.damages).toBe(0);
    expect(result.sequences).toEqual(Array.from({ length: sent }, (_, index) => index));
    expect(result.counters).toMatchObject({
      droppedKernel: 0,
      droppedQueue: 0,
      droppedEngineDown: 0,
      droppedDetached: 0,
    });
    expect(result.counters['received']).toBe(result.counters['forwarded']);
  }

  /** Sends to a pod, datagrams of so many bytes, while the driver does its rounds. */
  async function drive(busy: Pod, rounds: string[], bytes = 0): Promise<{ sent: number; result: ChurnResult }> {
    const driver = lab.spawn(
      lab.node,
      process.execPath,
      [join(PROJECT, 'dist/test/support/churn.js'), busy.interface, ...rounds],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    if (driver.stdout === null) throw new Error('no stdout');
    const lines = createInterface({ input: driver.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<string> => String((await lines.next()).value);
    expect(await next()).toBe('ready');

    let sent = 0;
    let churned = false;
    const done = next().then((line) => {
      churned = true;
      return line;
    });
    while (!churned) {
      const frames = Array.from({ length: 500 }, () =>
        udpExchange({
          client: busy.address,
          server: '10.66.0.1',
          exchange: [{ from: 'client', data: `seq ${sent++};`.padEnd(bytes) }],
        }),
      );
      inject(lab, workspace, busy.netns, 'eth0', frames.flat());
      // Lets the driver's line in.
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await done).toBe('churned');
    driver.stdin?.write(`${sent}\n`);
    return { sent, result: JSON.parse(await next()) as ChurnResult };
  }
});
