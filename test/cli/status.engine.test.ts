/** `dpi-agent status` of a real agent: pods whose traffic is seen in both directions, in one, and not at all. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Snapshot } from '../../agent/observe/snapshot.ts';
import { openLab, type Lab, type Pod } from '../../scripts/lab.ts';
import { createWorkspace, runAgent, type RunningAgent, type Workspace } from '../support/agent.ts';
import { runCli, type CliResult } from '../support/cli.ts';
import { describeLive, send, serve } from '../support/live.ts';
import { PROJECT } from '../support/project.ts';

describe('without an agent', () => {
  test('says where it looked and what to do, with status 1', async () => {
    const { code, stdout, stderr } = await runCli(['status', '--socket', '/no/such/agent.sock']);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('no agent answers at /no/such/agent.sock: there is no such socket: is the agent running?');
  });

  test.each([
    [['--url', 'ftp://x'], 'no URL such as'],
    [['--interval', '0'], '1 to 3600 seconds'],
    [['--wach'], '--wach'],
  ])('%j is refused with status 2', async (args, why) => {
    const { code, stderr } = await runCli(['status', ...args]);
    expect(stderr).toContain(why);
    expect(code).toBe(2);
  });
});

describeLive((engine) => {
  let lab: Lab;
  let workspace: Workspace;
  let agent: RunningAgent;
  let server: Pod;
  let client: Pod;

  const status = (...args: string[]): Promise<CliResult> =>
    runCli(['status', '--socket', join(workspace.directory, 'state/agent.sock'), ...args]);

  /** The first snapshot that is as it should be, with traffic in between. */
  async function until(isSo: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
    for (;;) {
      // Enough for the server to acknowledge more than once.
      send(lab, client.netns, server.address, 7777, 'the end', 2_000_000);
      const { stdout, code } = await status('-o', 'json');
      expect(code).toBe(0);
      const snapshot = JSON.parse(stdout) as Snapshot;
      if (isSo(snapshot)) return snapshot;
      await sleep(200);
    }
  }

  const endpoint = (snapshot: Snapshot, name: string): Snapshot['endpoints'][number] | undefined =>
    snapshot.endpoints.find((one) => one.name === name);

  beforeAll(async () => {
    lab = openLab(`dpi-s-${engine}`);
    workspace = createWorkspace();
    server = lab.addPod({ name: 'server', namespace: 'shop', address: '10.65.2.2' });
    client = lab.addPod({ name: 'client', namespace: 'shop', address: '10.65.2.3' });
    await serve(lab, server.netns, 7777);
    agent = await runAgent({
      lab,
      engine,
      workspace,
      pods: [server, client, { ...client, name: 'gone', interface: 'cali0', address: '10.65.2.4' }].map((pod) => ({
        ...pod,
        resources: ['shop/all'],
      })),
      config: { coverage: { windowMillis: '10s' }, http: { port: 0 } },
    });
  });
  afterAll(async () => {
    await agent.stop();
    expect(existsSync(join(workspace.directory, 'state/agent.sock'))).toBe(false);
    workspace.remove();
    lab.close();
  });

  test('both directions are seen of pods that talk, by endpoint and by resource', async () => {
    const snapshot = await until(({ resources }) => resources[0]?.both === 2);
    expect(snapshot).toMatchObject({
      state: 'inspecting',
      agent: { pid: expect.any(Number), node: 'test-node' },
      engine: { name: engine },
      lanes: [{ lane: 'lane0', engine: { pid: expect.any(Number), since: expect.any(Number), restarts: 0 } }],
      resources: [{ resource: 'shop/all', selected: 3, capturing: 2, sending: 2, receiving: 2, both: 2, oneWay: 0 }],
    });
    expect(endpoint(snapshot, 'server')).toMatchObject({
      state: { is: 'capturing' },
      coverage: { sending: true, receiving: true },
    });
    expect(endpoint(snapshot, 'gone')?.state).toEqual({ is: 'waiting', reason: 'there is no interface cali0' });
  });

  test('a pod that gets its packets by another way is one-way, and no longer when they come by its interface', async () => {
    // As an eBPF data plane does it: what is for the pod does not pass the host side of its veth.
    lab.exec(lab.node, 'ip', 'link', 'add', 'side', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', server.netns);
    lab.exec(lab.node, 'ip', 'link', 'set', 'side', 'up');
    lab.exec(server.netns, 'ip', 'link', 'set', 'eth1', 'up');
    for (const [netns, device] of [
      [server.netns, 'eth1'],
      [server.netns, 'all'],
      [lab.node, server.interface],
      [lab.node, 'all'],
    ] as const) {
      lab.exec(netns, 'sysctl', '-qw', `net.ipv4.conf.${device}.rp_filter=0`);
    }
    const route = (device: string): string =>
      lab.exec(lab.node, 'ip', 'route', 'replace', `${server.address}/32`, 'dev', device, 'scope', 'link');
    route('side');
    // Its peer's packets pass both ways.
    const bypassed = await until((snapshot) => {
      const peer = endpoint(snapshot, 'client')?.coverage;
      const isBothWays = peer?.sending === true && peer.receiving && peer.oneWay === undefined;
      return isBothWays && endpoint(snapshot, 'server')?.coverage.oneWay !== undefined;
    });
    expect(endpoint(bypassed, 'server')?.coverage.oneWay).toBe('sending');
    expect(await agent.logged(({ msg }) => msg === 'only one direction is seen')).toMatchObject({
      endpoint: 'shop/server',
      oneWay: 'sending',
    });
    // Where a look takes longer than the window, the next one may be in time.
    for (let stdout = ''; !/shop\/server .* only sending /.test(stdout);) {
      send(lab, client.netns, server.address, 7777, 'the end', 2_000_000);
      ({ stdout } = await status());
    }

    route(server.interface);
    await until((snapshot) => {
      const { sending, receiving, oneWay } = endpoint(snapshot, 'server')?.coverage ?? {};
      return sending === true && receiving === true && oneWay === undefined;
    });
    await agent.logged(({ msg }) => msg === 'both directions are seen again');
  });

  test('the table has no escapes without a terminal, and names what is not captured first', async () => {
    const { stdout, code } = await status();
    expect(code).toBe(0);
    // eslint-disable-next-line no-control-regex
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000B-\u001F\u007F-\u009F]/);
    const lines = stdout.split('\n');
    const first = lines.findIndex((line) => line.startsWith('ENDPOINT ')) + 1;
    expect(lines[first]).toMatch(/^shop\/gone .*there is no interface cali0$/);
    expect(lines[first + 1]).toMatch(/ capturing$/);
  });

  test('--watch gives one snapshot a line to programs', async () => {
    const child = spawn(
      process.execPath,
      [
        join(PROJECT, 'bin/dpi-agent.js'),
        'status',
        '--socket',
        join(workspace.directory, 'state/agent.sock'),
        '--watch',
        '--interval',
        '1',
        '-o',
        'json',
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let stdout = '';
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
    child.stdout.on('data', (chunk) => {
      stdout += String(chunk);
      if (stdout.split('\n').length > 2) child.kill('SIGINT');
    });
    expect(await ended).toBe(0);
    const times = stdout
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as Snapshot).time);
    expect(times.length).toBeGreaterThanOrEqual(2);
    expect(times[1]).toBeGreaterThan(times[0] ?? 0);
  });

  test('--watch on a terminal keeps to its size, and leaves it as it was on q and on Ctrl-C', async () => {
    for (const key of ['q', '\u0003']) {
      const command = `stty cols 60 rows 12; exec "$NODE" "$PROGRAM" status --socket "$SOCKET" --watch --interval 1`;
      const child = spawn('script', ['-qec', command, '/dev/null'], {
        stdio: ['pipe', 'pipe', 'inherit'],
        env: {
          ...process.env,
          NODE: process.execPath,
          PROGRAM: join(PROJECT, 'bin/dpi-agent.js'),
          SOCKET: join(workspace.directory, 'state/agent.sock'),
        },
      });
      let screen = '';
      let pressed = false;
      const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
      child.stdout.on('data', (chunk) => {
        screen += String(chunk);
        // The second look is there.
        if (pressed || screen.split('\u001B[H').length <= 2) return;
        pressed = true;
        child.stdin.write(key);
      });
      expect(await ended).toBe(0);
      expect(screen.startsWith('\u001B[?1049h')).toBe(true);
      expect(screen.trimEnd().endsWith('\u001B[?1049l')).toBe(true);
      const page = screen.split('\u001B[H')[1] ?? '';
      // eslint-disable-next-line no-control-regex
      const lines = page.replaceAll(/\u001B\[[0-9;?]*[a-zA-Z]/g, '').split(/\r*\n/);
      expect(lines).toHaveLength(12);
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(60);
      expect(lines.at(-1)).toMatch(/^… and \d+ more$/);
    }
  });
});
