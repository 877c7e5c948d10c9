/** The capture process alone, on real veths, by both libraries, and its end behind an engine that does not read. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync, fork, type ChildProcess } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';
import {
  lostOf,
  type CaptureSettings,
  type Counters,
  type FromCapture,
  type LibraryName,
  type ToCapture,
} from '../../agent/capture/protocol.ts';
import { openLab, whyNoLab, type Lab, type Pod } from '../../scripts/lab.ts';
import { createWorkspace, type Workspace } from '../support/agent.ts';
import type { ChurnResult } from '../support/churn.ts';
import { inject } from '../support/live.ts';
import { whyNoNative } from '../support/native.ts';
import { udpExchange } from '../support/packets.ts';
import { poll } from '../support/poll.ts';
import { whyNoProc } from '../support/proc.ts';
import { PROJECT } from '../support/project.ts';

const SETTINGS: CaptureSettings = {
  library: 'auto',
  snaplen: 65_535,
  ringSize: 1 << 20,
  maxRingSize: 1 << 20,
  timeoutMillis: 10,
  filter: '',
  queueSize: 4 << 20,
  promiscuous: false,
  shunt: false,
  shuntAfter: 65_536,
  recentBytes: 0,
  recentRate: 0,
};

const LIBRARIES: LibraryName[] = whyNoNative === undefined ? ['native', 'node-pcap'] : ['node-pcap'];
if (whyNoNative !== undefined) process.stderr.write(`skipped: ${whyNoNative}\n`);

const missing = whyNoLab();
if (missing !== undefined) process.stderr.write(`skipped: ${missing}\n`);

describe.each(LIBRARIES)('a capture process that hands over (%s)', (library) => {
  let workspace: Workspace;
  let main: ChildProcess;
  let reader: number;
  const messages: FromCapture[] = [];
  beforeEach(async () => {
    workspace = createWorkspace();
    const path = join(workspace.directory, 'fifo');
    execFileSync('mkfifo', [path]);
    reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    messages.length = 0;
    main = fork(join(PROJECT, 'dist/agent/capture/main.js'), [JSON.stringify({ ...SETTINGS, library })]);
    main.on('message', (message) => messages.push(message as FromCapture));
    send({ type: 'output', path });
    await saw('output-open');
    // More than the FIFO holds.
    for (let number = 1; number <= 2_000; number++) send({ type: 'inject', number, payload: 'x'.repeat(1_000) });
    send({ type: 'hand-over' });
  });
  afterEach(() => {
    main.kill('SIGKILL');
    closeSync(reader);
    workspace.remove();
  });

  test('writes what is queued first, for an engine that reads late', async () => {
    await saw('injected', 2_000);
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
    expect(parsed).toHaveLength(2_001);
    // What it said last may come after its end.
    await saw('handed-over');
    expect(messages.at(-1)).toMatchObject({ type: 'handed-over', handed: { records: 2_001 } });
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
    lab = openLab('dpi-c');
    workspace = createWorkspace();
  });
  afterAll(() => {
    lab.close();
    workspace.remove();
  });

  describe.each(LIBRARIES)('by %s', (library) => {
    test('takes what a filter lets pass, and goes on when its interface was deleted and made again under traffic', async () => {
      const name = `again-${library}`;
      let pod = lab.addPod({ name, address: '10.66.1.2' });
      // A few packets fill a small ring while the process is not run.
      const capture = startCapture(library, { filter: 'udp', ringSize: 32 << 20, maxRingSize: 32 << 20 });
      capture.send({ type: 'attach', spec: { id: 'a', taps: [{ interface: pod.interface }], vlan: 7 } });
      await capture.saw('attached');
      const sent: number[] = [];
      for (let turn = 1; turn <= 3; turn++) {
        const goesAway = pod;
        const first = sent.length;
        sendFrames(pod, sent, 1_000);
        if (turn === 3) {
          await poll(() => capture.sequences.includes(sent.length - 1) || capture.hasDropped());
          continue;
        }
        lab.removePod(goesAway);
        await poll(() => capture.messages.some(({ type }) => type === 'waiting'));
        pod = lab.addPod({ name, address: '10.66.1.2' });
        await capture.saw('attached', turn + 1);
        expect(sent.length).toBe(first + 1_000);
      }
      capture.send({ type: 'detach', id: 'a' });
      await capture.saw('detached');
      const counters = capture.counters();
      await capture.end();
      expect(capture.sequences).toEqual(capture.sequences.toSorted((one, other) => one - other));
      expect(new Set(capture.sequences).size).toBe(capture.sequences.length);
      // ARP and IPv6's own packets are not among them.
      expect(counters.forwarded).toBe(capture.sequences.length);
      expect(counters.received).toBe(counters.forwarded + lostOf(counters));
      expect(counters.droppedQueue + counters.droppedEngineDown + counters.droppedCaptureDied).toBe(0);
      // Of the last turn, nothing is lost with an interface.
      const last = capture.sequences.filter((sequence) => sequence >= sent.length - 1_000);
      expect(1_000 - last.length).toBeLessThanOrEqual(counters.droppedKernel);
      expect(sent.length - capture.sequences.length).toBeLessThanOrEqual(
        counters.droppedDetached + counters.droppedKernel,
      );
    });
  });

  (whyNoNative === undefined ? test : test.skip)(
    '10,000 times attached and detached: nothing stays, and an endpoint beside them repeats no packet, and loses what its ring had no room for',
    async () => {
      const busy = lab.addPod({ name: 'busy', address: '10.66.0.3' });
      const idle = addIdle(50);
      const { sent, result } = await drive(busy, ['native', `${2 << 20}`, `${2 << 20}`], ['100', ...idle]);
      expectOrder(result);
      const lost = lostOf(result.counters as unknown as Counters);
      expect(result.counters['received']).toBe((result.counters['forwarded'] ?? 0) + lost);
      expect(result.counters['droppedKernel']).toBe(lost);
      expect(sent - result.sequences.length).toBeLessThanOrEqual(lost);
      expect(result.renewals).toBe(0);
      expect(result.after.packetSockets).toBe(result.before.packetSockets);
      expect(result.after.descriptors).toBe(result.before.descriptors);
      // 9,900 rings of 2 MiB would be 20 GB.
      expect(result.after.residentBytes - result.before.residentBytes).toBeLessThan(64 << 20);
    },
  );

  test('200 times attached and detached by node-pcap, dead rings are given back, and what is lost meanwhile is counted', async () => {
    const busy = lab.addPod({ name: 'renewed', address: '10.66.0.4' });
    const idle = lab.addPod({ name: 'idle', address: '10.66.0.5' });
    const { sent, result } = await drive(busy, ['node-pcap', `${2 << 20}`, `${2 << 20}`], ['200', idle.interface]);
    const lost = lostOf(result.counters as unknown as Counters);
    expectOrder(result);
    expect(sent - result.sequences.length).toBeLessThanOrEqual(lost);
    expect(result.counters['received']).toBe((result.counters['forwarded'] ?? 0) + lost);
    // 200 rings of 2 MiB would be 400 MiB: they are given back when 32 MiB of them are dead.
    expect(result.renewals).toBeGreaterThan(0);
    expect(result.after.residentBytes - result.before.residentBytes).toBeLessThan(120 << 20);
  });

  (whyNoNative === undefined ? test : test.skip)(
    'a ring that grows under traffic repeats and reorders nothing, and loses what is counted',
    async () => {
      const busy = lab.addPod({ name: 'growing', address: '10.66.0.6' });
      const { sent, result } = await drive(busy, ['native', `${512 << 10}`, `${32 << 20}`], ['100'], 1_400);
      const lost = lostOf(result.counters as unknown as Counters);
      expectOrder(result);
      expect(sent - result.sequences.length).toBeLessThanOrEqual(lost);
      expect(result.counters['received']).toBe((result.counters['forwarded'] ?? 0) + lost);
      expect(result.counters).toMatchObject({ droppedDetached: 0, droppedEngineDown: 0, droppedCaptureDied: 0 });
      if (whyNoProc === undefined) expect(result.ringBytes).toBeGreaterThanOrEqual(2 << 20);
      else process.stderr.write(`skipped: that the ring grew: ${whyNoProc}\n`);
    },
  );

  function expectOrder({ damages, sequences }: ChurnResult): void {
    expect(damages).toBe(0);
    expect(sequences.every((sequence, index) => index === 0 || sequence > (sequences[index - 1] ?? 0))).toBe(true);
  }

  /** @returns the names of so many pairs' interfaces, on which nothing comes. */
  function addIdle(pairs: number): string[] {
    const numbers = Array.from({ length: pairs }, (_, index) => index);
    const commands = numbers.flatMap((number) => [
      `ip link add idle${number} type veth peer name rest${number}`,
      `ip link set idle${number} up`,
      `ip link set rest${number} up`,
    ]);
    lab.exec(lab.node, 'sh', '-ec', ['sysctl -qw net.ipv6.conf.default.disable_ipv6=1', ...commands].join('\n'));
    return numbers.flatMap((number) => [`idle${number}`, `rest${number}`]);
  }

  function frames(pod: Pod, first: number, count: number, bytes = 0): Parameters<typeof inject>[4] {
    return Array.from({ length: count }, (_, index) =>
      udpExchange({
        client: pod.address,
        server: '10.66.0.1',
        exchange: [{ from: 'client', data: `seq ${first + index};`.padEnd(bytes) }],
      }),
    ).flat();
  }

  function sendFrames(pod: Pod, sent: number[], count: number): void {
    const first = sent.length;
    for (let index = 0; index < count; index++) sent.push(first + index);
    inject(lab, workspace, pod.netns, 'eth0', frames(pod, first, count));
  }

  /** A capture process in the node's namespace, and a reader of its FIFO. */
  function startCapture(library: LibraryName, more: Partial<CaptureSettings>) {
    const path = join(workspace.directory, `${library}.fifo`);
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const settings = JSON.stringify({ ...SETTINGS, ...more, library });
    const main = lab.spawn(lab.node, process.execPath, [join(PROJECT, 'dist/agent/capture/main.js'), settings], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const messages: FromCapture[] = [];
    main.on('message', (message) => messages.push(message as FromCapture));
    const sequences: number[] = [];
    const parser = createPcapParser((_s, _us, captured, _length, _link, buffer, start) => {
      const found = /seq (\d+);/.exec(buffer.toString('latin1', start, start + captured))?.[1];
      if (found !== undefined) sequences.push(Number(found));
    });
    const chunk = Buffer.alloc(1 << 20);
    const read = (): number => {
      try {
        const bytes = readSync(reader, chunk);
        parser.push(Buffer.from(chunk.subarray(0, bytes)));
        return bytes;
      } catch {
        // Nothing is there.
        return 0;
      }
    };
    const timer = setInterval(read, 1);
    const send = (message: ToCapture): void => void main.send(message);
    const saw = (type: FromCapture['type'], times = 1): Promise<unknown> =>
      poll(() => messages.filter((message) => message.type === type).length >= times);
    send({ type: 'output', path });
    return {
      messages,
      sequences,
      send,
      saw,
      hasDropped(): boolean {
        return messages.some((message) => message.type === 'stats' && (message.counters['a']?.droppedKernel ?? 0) > 0);
      },
      counters(): Counters {
        for (const message of messages) if (message.type === 'detached') return message.counters;
        throw new Error('it was not detached');
      },
      async end(): Promise<void> {
        send({ type: 'stop' });
        await poll(() => main.exitCode !== null);
        clearInterval(timer);
        while (read() > 0);
        closeSync(reader);
        expect(parser.end()).toMatchObject({ damageCount: 0 });
      },
    };
  }

  /** Sends to a pod, datagrams of so many bytes, while the driver does its rounds. */
  async function drive(
    busy: Pod,
    settings: string[],
    rounds: string[],
    bytes = 0,
  ): Promise<{ sent: number; result: ChurnResult }> {
    const driver = lab.spawn(
      lab.node,
      process.execPath,
      [join(PROJECT, 'dist/test/support/churn.js'), ...settings, busy.interface, ...rounds],
      // Rings are closed by threads that wait for the kernel.
      { stdio: ['pipe', 'pipe', 'inherit'], env: { ...process.env, UV_THREADPOOL_SIZE: '64' } },
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
      inject(lab, workspace, busy.netns, 'eth0', frames(busy, sent, 500, bytes));
      sent += 500;
      // Lets the driver's line in.
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await done).toBe('churned');
    driver.stdin?.write(`${sent}\n`);
    return { sent, result: JSON.parse(await next()) as ChurnResult };
  }
});
