/** The whole agent on real veths: what is captured, whose it is, and what becomes of it when parts die. */
import { beforeAll, describe, expect, test } from '@jest/globals';
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { lostOf } from '../agent/capture/protocol.ts';
import type { Lab, Pod } from '../scripts/lab.ts';
import {
  journaled,
  lastCounters,
  MARKER,
  payloadOf,
  runAgent,
  type RunningAgent,
  type Workspace,
} from './support/agent.ts';
import { snapshot } from './support/books.ts';
import { runCli } from './support/cli.ts';
import { conversation, describeLive, inject, isAlive, send, serve, useLab, useWorkspace } from './support/live.ts';
import { poll } from './support/poll.ts';
import { whyNoProc } from './support/proc.ts';
import { DEFAULT_START_MICROS, ethernet, ipFragments, udpExchange, udpPacket, type Frame } from './support/packets.ts';
import { framesOf, ipConversation, TUNNELS, type Tunnel } from './support/stacks.ts';

/** What Kubernetes gives a pod to end, unless told otherwise. */
const GRACE_MILLIS = 30_000;

describeLive((engine) => {
  let lab: Lab;
  let workspace: Workspace;
  let agent: RunningAgent | undefined;

  useLab(`dpi-t-${engine}`, (made) => (lab = made));
  useWorkspace((made) => (workspace = made));

  describe('what is captured', () => {
    let backend: Pod;
    let attacker: Pod;
    beforeAll(async () => {
      backend = lab.addPod({ name: 'backend', address: '10.65.1.2', address6: 'fd65::2' });
      attacker = lab.addPod({ name: 'attacker', address: '10.65.1.3', address6: 'fd65::3' });
      await serve(lab, backend.netns, 7777);
    });

    test('the tutorial request becomes an event of our rule set, in the journal and on stdout', async () => {
      agent = await runAgent({ lab, engine, workspace, pods: [backend], ruleSets: ['kubernetes'] });
      const request =
        'POST / HTTP/1.1\r\nHost: backend\r\nUser-Agent: Mozilla/4.0\r\nContent-Length: 8\r\n\r\nsmk=1234';
      send(lab, attacker.netns, backend.address, 7777, request);
      const event = await agent.event(({ record }) => record.snort_signature_id === '1000001');
      expect(event).toMatchObject({
        type: 'deep_packet_inspection',
        origin: 'dpi.default/test',
        host: 'test-node',
        source_ip: attacker.address,
        dest_ip: backend.address,
        dest_port: 7777,
        dest_name: 'backend',
        dest_namespace: 'default',
        record: { engine: { name: engine }, seen_at: [{ name: 'backend', interface: backend.interface }] },
      });
      expect(journaled(workspace)).toContainEqual(event);
    });

    test('IPv6 is inspected', async () => {
      agent = await runAgent({ lab, engine, workspace, pods: [backend] });
      send(lab, attacker.netns, 'fd65::2', 7777, `${MARKER} six`);
      expect(await agent.event((event) => payloadOf(event).includes('six'))).toMatchObject({
        source_ip: 'fd65::3',
        dest_ip: 'fd65::2',
      });
    });

    test('frames of 60 KB are inspected to their ends and none is truncated', async () => {
      for (const [netns, device] of [
        [backend.netns, 'eth0'],
        [attacker.netns, 'eth0'],
        [lab.node, backend.interface],
        [lab.node, attacker.interface],
      ] as const) {
        lab.exec(netns, 'ip', 'link', 'set', device, 'mtu', '65535');
      }
      agent = await runAgent({
        lab,
        engine,
        workspace,
        pods: [backend],
        config: { evidence: { maxBytes: 65_535 } },
      });
      send(lab, attacker.netns, backend.address, 7777, `${MARKER} large`, 900_000);
      // Which part of a long stream Suricata reports as the payload depends on where its segments were cut.
      await agent.event((event) => event.dest_port === 7777 && event.record.message === 'TEST marker');
      await agent.stop();
      const { received, receivedBytes, truncated } = lastCounters(agent, 'default/backend');
      // More than 900,000 bytes in this few frames, acknowledgements included: they were large.
      expect(receivedBytes).toBeGreaterThan(900_000);
      expect(receivedBytes / received).toBeGreaterThan(10_000);
      expect(truncated).toBe(0);
    });

    test('a frame that carries a tag already is inspected and attributed to its endpoint, whatever the tag says', async () => {
      agent = await runAgent({ lab, engine, workspace, pods: [backend, attacker] });
      // Ids 1 and 2 are leased: a pod that tags its frames with the other's id must not shift the blame.
      const frames = udpExchange({
        client: '10.65.0.9',
        server: '10.65.0.8',
        exchange: [{ from: 'client', data: `${MARKER} tagged` }],
        vlans: [{ id: 1 }, { id: 2 }],
      });
      inject(lab, workspace, attacker.netns, 'eth0', frames);
      const event = await agent.event((e) => payloadOf(e).includes('tagged'));
      expect(event.record.seen_at.map(({ name }) => name)).toEqual(['attacker']);
    });

    test('a stack of three tags is inspected', async () => {
      agent = await runAgent({ lab, engine, workspace, pods: [backend, attacker] });
      const frames = udpExchange({
        client: '10.65.0.9',
        server: '10.65.0.8',
        exchange: [{ from: 'client', data: `${MARKER} stacked` }],
        vlans: [{ id: 1, tpid: 0x88a8 }, { id: 1 }, { id: 1 }],
      });
      inject(lab, workspace, attacker.netns, 'eth0', frames);
      const event = await agent.event((e) => payloadOf(e).includes('stacked'));
      expect(event.record.seen_at.map(({ name }) => name)).toEqual(['attacker']);
    });

    test('fragments are put together, IPv4 and IPv6', async () => {
      agent = await runAgent({ lab, engine, workspace, pods: [backend] });
      const text = `${'x'.repeat(1000)} ${MARKER} fragments ${'y'.repeat(1000)}`;
      for (const [source, destination] of [
        ['10.65.0.9', '10.65.0.8'],
        ['fd65::9', 'fd65::8'],
      ] as const) {
        // The marker lies across the border of two fragments: 8 of UDP's header and 1,000 bytes before it.
        const packet = udpPacket({ source, destination, sourcePort: 5000, destinationPort: 6000, payload: text });
        const frames = ipFragments(packet, 1016).map((data, index): Frame => ({
          timeMicros: 1_700_000_000_000_000 + index,
          data: ethernet(data),
        }));
        inject(lab, workspace, backend.netns, 'eth0', frames);
        await agent.event((event) => event.source_ip === source);
      }
    });

    test('one packet seen at both ends of its flow is one event that names both', async () => {
      // However late the engine sees the other end.
      const config = { alerts: { mergeMillis: '5s' } };
      agent = await runAgent({ lab, engine, workspace, pods: [backend, attacker], config });
      send(lab, attacker.netns, backend.address, 7777, `${MARKER} both`);
      const event = await agent.event((e) => payloadOf(e).includes('both'));
      expect(event.record.seen_at.map(({ name }) => name).toSorted()).toEqual(['attacker', 'backend']);
      expect(event).toMatchObject({ source_name: 'attacker', dest_name: 'backend' });
      await agent.stop();
      expect(journaled(workspace)).toHaveLength(1);
    });

    if (engine === 'snort') {
      test('alerts in unified2 become events too, with the texts of the rules', async () => {
        agent = await runAgent({
          lab,
          engine,
          workspace,
          pods: [backend],
          config: { engine: { type: 'snort', output: 'unified2' } },
        });
        send(lab, attacker.netns, backend.address, 7777, `${MARKER} binary`);
        const event = await agent.event((e) => payloadOf(e).includes('binary'));
        expect(event).toMatchObject({
          dest_name: 'backend',
          record: { message: 'TEST marker', seen_at: [{ name: 'backend' }] },
        });
      });
    }

    test('each resource that selects the endpoint gets an event', async () => {
      agent = await runAgent({
        lab,
        engine,
        workspace,
        pods: [{ ...backend, resources: ['default/one', 'default/two'] }],
      });
      send(lab, attacker.netns, backend.address, 7777, `${MARKER} twice`);
      await agent.event(({ origin }) => origin === 'dpi.default/two');
      await agent.stop();
      expect(
        journaled(workspace)
          .map(({ origin }) => origin)
          .toSorted(),
      ).toEqual(['dpi.default/one', 'dpi.default/two']);
    });
  });

  describe('whose it is', () => {
    test('two pods with the same address are told apart', async () => {
      const twins = ['red', 'blue'].map((namespace) => lab.addPod({ name: 'web', namespace, address: '10.65.2.2' }));
      agent = await runAgent({ lab, engine, workspace, pods: twins });
      // The very same flow, at the same time, in both.
      for (const pod of twins) {
        inject(
          lab,
          workspace,
          pod.netns,
          'eth0',
          conversation(`${MARKER} ${pod.namespace}`, 5000, '10.65.2.2', '10.65.2.9'),
        );
      }
      for (const pod of twins) {
        const event = await agent.event((e) => payloadOf(e).includes(pod.namespace));
        expect(event).toMatchObject({ source_namespace: pod.namespace, source_name: 'web' });
      }
      await agent.stop();
      expect(journaled(workspace)).toHaveLength(2);
      for (const pod of twins) lab.removePod(pod);
    });

    test('what is in a tunnel is of the pod that sent it, whatever is in it', async () => {
      const twins = ['red', 'blue'].map((namespace) => lab.addPod({ name: 'web', namespace, address: '10.65.2.2' }));
      agent = await runAgent({ lab, engine, workspace, pods: twins });
      const sent: [(typeof twins)[number], string][] = [];
      const through = (pod: (typeof twins)[number], name: string, tunnel: Tunnel): Buffer[] => {
        const text = `<${pod.namespace} ${name}>`;
        const ends = { client: '10.9.0.1', server: '10.9.0.2', clientPort: 20_000 + sent.push([pod, text]) };
        return ipConversation(`${MARKER} ${text}`, ends).map((packet) => ethernet(tunnel(packet)));
      };
      // Suricata 7 does not decode IPv4 in IPv4.
      const unread = engine === 'suricata' ? ['IP in IPv4', 'GRE in IPv4 in IPv4'] : [];
      const tunnels = Object.entries(TUNNELS).filter(([name]) => !unread.includes(name));
      // In turns.
      for (const some of [tunnels.slice(0, 8), tunnels.slice(8)]) {
        for (const pod of twins) {
          const frames = some.flatMap(([name, tunnel]) => through(pod, name, tunnel));
          inject(lab, workspace, pod.netns, 'eth0', framesOf(frames, DEFAULT_START_MICROS));
        }
      }
      for (const [pod, text] of sent) {
        const event = await agent.event((e) => payloadOf(e).includes(text));
        expect(event.record.seen_at.map(({ namespace }) => namespace)).toEqual([pod.namespace]);
      }
      for (const pod of twins) lab.removePod(pod);
    });

    test('one engine inspects twenty endpoints, and every alert is attributed right', async () => {
      const pods = Array.from({ length: 20 }, (_, index) =>
        lab.addPod({ name: `p${index}`, address: `10.65.3.${index + 1}` }),
      );
      agent = await runAgent({ lab, engine, workspace, pods });
      for (const pod of pods) {
        const frames = [5000, 5001].flatMap((port) =>
          conversation(`${MARKER} <${pod.name}>`, port, pod.address, '10.65.0.1'),
        );
        inject(lab, workspace, pod.netns, 'eth0', frames);
      }
      // Two of each pod.
      await agent.event(() => (agent?.events.length ?? 0) >= 2 * pods.length);
      expect(agent.log.filter(({ msg }) => msg === 'engine reads packets')).toHaveLength(1);
      await agent.stop();
      const events = journaled(workspace);
      expect(events).toHaveLength(40);
      for (const event of events) expect(payloadOf(event)).toContain(`<${event.source_name}>`);
      for (const pod of pods) lab.removePod(pod);
    });
  });

  describe('what dies and comes again', () => {
    let pod: Pod;
    let peer: Pod;
    beforeAll(async () => {
      pod = lab.addPod({ name: 'victim', address: '10.65.4.2' });
      peer = lab.addPod({ name: 'peer', address: '10.65.4.3' });
      await serve(lab, pod.netns, 7777);
    });

    test('an engine killed under traffic is started again, what nobody read is counted, and the next alert arrives', async () => {
      agent = await runAgent({ lab, engine, workspace, pods: [pod] });
      const from = agent.log.length;
      // One that is stopped reads nothing of what it is given until it dies, however soon the next one is there.
      for (const pid of agent.children('engine')) process.kill(pid, 'SIGSTOP');
      inject(lab, workspace, pod.netns, 'eth0', conversation('while it is stopped', 5099));
      await poll(async () => (await snapshot(workspace)).endpoints.some((endpoint) => endpoint.counters.forwarded > 0));
      for (const pid of agent.children('engine')) process.kill(pid, 'SIGKILL');
      for (let count = 0; count < 20; count++)
        inject(lab, workspace, pod.netns, 'eth0', conversation('while it is away', 5100 + count));
      await agent.logged(({ msg }) => msg === 'engine reads packets', from);
      send(lab, peer.netns, pod.address, 7777, `${MARKER} after`);
      await agent.event((event) => payloadOf(event).includes('after'));
      await agent.stop();
      expect(agent.log.some(({ msg }) => msg?.includes('was ended by SIGKILL'))).toBe(true);
      const counters = lastCounters(agent, 'default/victim');
      expect(counters.droppedEngineDown).toBeGreaterThan(0);
      expect(counters.forwarded + lostOf(counters)).toBe(counters.received);
    });

    test('lanes become more and fewer while it runs: each packet is one event, and none is lost', async () => {
      const pods = ['one', 'two', 'three'].map((name, index) =>
        lab.addPod({ name: `lanes-${name}`, address: `10.65.7.${index + 2}` }),
      );
      const running = await runAgent({ lab, engine, workspace, pods, config: { lanes: 1 } });
      agent = running;
      const file = join(workspace.directory, 'dpi-agent.yaml');
      const names = pods.map(({ name }) => name);
      const change = async (lanes: number): Promise<void> => {
        writeFileSync(file, readFileSync(file, 'utf8').replace(/^lanes: \d+$/m, `lanes: ${lanes}`));
        await running.logged(({ msg, lanes: now }) => msg === 'another number of lanes from now on' && now === lanes);
      };
      const sent: string[] = [];
      const speakUntil = async (isOver: () => boolean): Promise<void> => {
        while (!isOver()) {
          const frames = names.map((name) => {
            sent.push(`${name} ${sent.length}`);
            const [exchange] = [[{ from: 'client' as const, data: `${MARKER} ${sent.at(-1)};` }]];
            return udpExchange({ client: '10.65.0.9', server: '10.65.0.8', clientPort: 1_000 + sent.length, exchange });
          });
          pods.forEach(({ netns }, index) => inject(lab, workspace, netns, 'eth0', frames[index] ?? []));
          await new Promise((resolve) => setImmediate(resolve));
        }
      };
      const moved = (lane: string): number =>
        running.log.filter(({ msg, lane: to }) => msg === 'captured by another lane' && to === lane).length;
      const ended = (): number => running.log.filter(({ msg }) => msg === 'lane ended').length;
      await change(3);
      await speakUntil(() => moved('lane1') === 1 && moved('lane2') === 1);
      await change(1);
      await speakUntil(() => ended() === 2);
      const found = (): string[] => running.events.map((one) => /(lanes-\w+ \d+);/.exec(payloadOf(one))?.[1] ?? '');
      await poll(() => new Set(found()).size === sent.length);
      await running.stop();
      expect(found().toSorted()).toEqual(sent.toSorted());
      expect(names.map((name) => lostOf(lastCounters(running, `default/${name}`)))).toEqual([0, 0, 0]);
    });

    test('a capture process that is killed is started again with its endpoints', async () => {
      agent = await runAgent({ lab, engine, workspace, pods: [pod] });
      const from = agent.log.length;
      for (const pid of agent.children('capture')) process.kill(pid, 'SIGKILL');
      await agent.logged(({ msg }) => msg === 'capturing', from);
      await agent.logged(({ msg }) => msg === 'engine reads packets', from);
      send(lab, peer.netns, pod.address, 7777, `${MARKER} again`);
      await agent.event((event) => payloadOf(event).includes('again'));
    });

    test('a veth deleted and made again under its name is captured again', async () => {
      const gone = { ...lab.addPod({ name: 'phoenix', address: '10.65.5.2' }) };
      agent = await runAgent({ lab, engine, workspace, pods: [gone] });
      const from = agent.log.length;
      lab.removePod(gone);
      await agent.logged((line) => line.msg === 'not capturing', from);
      const back = lab.addPod({ name: 'phoenix', address: '10.65.5.2' });
      expect(back.interface).toBe(gone.interface);
      await agent.logged((line) => line.msg === 'capturing', from);
      inject(lab, workspace, back.netns, 'eth0', conversation(`${MARKER} reborn`, 5000));
      await agent.event((event) => payloadOf(event).includes('reborn'));
      lab.removePod(back);
    });

    test('an interface that does not exist yet is waited for', async () => {
      const late = {
        name: 'late',
        namespace: 'default',
        netns: '',
        interface: 'cali00000000000',
        address: '10.65.6.2',
      };
      agent = await runAgent({ lab, engine, workspace, pods: [late, pod] });
      expect(agent.log).toContainEqual(
        expect.objectContaining({
          msg: 'not capturing',
          endpoint: 'default/late',
          reason: 'there is no interface cali00000000000',
        }),
      );
      lab.exec(lab.node, 'ip', 'link', 'add', late.interface, 'type', 'veth', 'peer', 'name', 'late-peer');
      lab.exec(lab.node, 'ip', 'link', 'set', late.interface, 'up');
      lab.exec(lab.node, 'ip', 'link', 'set', 'late-peer', 'up');
      await agent.logged((line) => line.msg === 'capturing' && line['endpoint'] === 'default/late');
      lab.exec(lab.node, 'ip', 'link', 'del', late.interface);
    });

    test('after one that was killed with alerts unread, an agent of fewer lanes goes on: none lost, none twice', async () => {
      // The pod is in the lane that the next one does not have.
      const beside = lab.addPod({ name: 'beside', address: '10.65.6.2' });
      const pods = [beside, { ...pod, resources: ['default/one', 'default/two'] }];
      agent = await runAgent({ lab, engine, workspace, pods, config: { lanes: 2 } });
      const { pid: enginePid } = await agent.logged(
        ({ msg, lane }) => msg === 'engine reads packets' && lane === 'lane1',
      );
      const total = 60;
      const frames = Array.from({ length: total }, (_, index) =>
        conversation(`${MARKER} <${index}>`, 6000 + index),
      ).flat();
      // All of it is captured, and nothing inspected.
      process.kill(Number(enginePid), 'SIGSTOP');
      inject(lab, workspace, pod.netns, 'eth0', frames);
      await poll(async () =>
        (await snapshot(workspace)).endpoints.some((endpoint) => endpoint.counters.forwarded >= frames.length),
      );
      process.kill(Number(enginePid), 'SIGCONT');
      // In the middle of it: some are in the journal, some in the engine's file, some not inspected yet.
      await agent.event(() => true);
      const children = [...agent.children(), Number(enginePid)];
      await agent.stop('SIGKILL');
      agent = await runAgent({ lab, engine, workspace, pods: [pod] });
      await agent.stop();
      // Orphans that nobody waits for look alive without /proc.
      if (whyNoProc === undefined) expect(children.filter(isAlive)).toEqual([]);
      const counts = new Map<string, number>();
      for (const event of journaled(workspace)) {
        const key = `${event.origin} ${/<(\d+)>/.exec(payloadOf(event))?.[1] ?? '?'}`;
        counts.set(key, (counts.get(key) ?? 0) + 1);
      }
      expect([...counts.values()].filter((count) => count !== 1)).toEqual([]);
      expect(counts.size).toBe(2 * total);
    });

    const withProc = whyNoProc === undefined ? test : test.skip;
    withProc('an engine that hangs when its agent is killed is ended by the next one', async () => {
      agent = await runAgent({ lab, engine, workspace, pods: [pod] });
      const [hanging = 0] = agent.children('engine');
      process.kill(hanging, 'SIGSTOP');
      await agent.stop('SIGKILL');
      agent = await runAgent({ lab, engine, workspace, pods: [pod] });
      await agent.logged(({ msg, pid }) => msg === 'ending an engine that an earlier agent left' && pid === hanging);
      await agent.logged(({ msg }) => msg === 'reading the alerts that an earlier agent left');
      expect(isAlive(hanging)).toBe(false);
    });
  });

  test('a second agent on the same stateDirectory ends, names the first one and takes nothing from it', async () => {
    const pod = lab.addPod({ name: 'held', address: '10.65.8.2' });
    agent = await runAgent({ lab, engine, workspace, pods: [pod] });
    const state = join(workspace.directory, 'state');
    const leases = readFileSync(join(state, 'leases.ndjson'), 'utf8');
    const other = ['--stateDirectory', state, '--journal.directory', join(workspace.directory, 'journal2')];
    const args = ['run', '-e', engine, '-i', 'lo', '-r', workspace.rules, ...other];
    const { code, stderr } = await runCli(args, { timeout: 120_000 });
    expect(stderr).toContain(
      `${state} is in use by the agent with process id ${agent.pid}: stop it, or set stateDirectory to another folder`,
    );
    expect(code).toBe(1);
    expect(readFileSync(join(state, 'leases.ndjson'), 'utf8')).toBe(leases);
    inject(lab, workspace, pod.netns, 'eth0', conversation(`${MARKER} first`, 5000));
    await agent.event((event) => payloadOf(event).includes('first'));
    expect(agent.log.filter(({ msg }) => msg === 'engine reads packets')).toHaveLength(1);
    expect((await agent.stop()).code).toBe(0);
    lab.removePod(pod);
  });

  describe('how it ends', () => {
    test.each(['SIGTERM', 'SIGINT'] as const)(
      '%s ends it before a kubelet would kill it, with a summary, when no packet flows, and leaves no child',
      async (signal) => {
        const pod = lab.addPod({ name: 'quiet', address: '10.65.7.2' });
        agent = await runAgent({ lab, engine, workspace, pods: [pod] });
        const children = agent.children();
        expect(children).toHaveLength(2);
        const { code, millis } = await agent.stop(signal);
        expect(code).toBe(0);
        expect(millis).toBeLessThan(GRACE_MILLIS);
        expect(agent.log.at(-1)?.msg).toMatch(/packets? received, .* inspected, .* dropped, 0 events/);
        expect(children.filter(isAlive)).toEqual([]);
        lab.removePod(pod);
      },
    );

    test('SIGTERM ends it while its journal cannot be written; the next one has each alert once', async () => {
      const pod = lab.addPod({ name: 'unwritten', address: '10.65.9.2' });
      agent = await runAgent({ lab, engine, workspace, pods: [pod] });
      inject(lab, workspace, pod.netns, 'eth0', conversation(`${MARKER} <kept>`, 5000));
      await agent.event((event) => payloadOf(event).includes('<kept>'));
      const away = `${workspace.journal}.away`;
      renameSync(workspace.journal, away);
      writeFileSync(workspace.journal, 'in the way');
      const from = agent.log.length;
      inject(lab, workspace, pod.netns, 'eth0', conversation(`${MARKER} <waits>`, 5001));
      await agent.logged(({ msg }) => msg === 'journal cannot be written; alerts wait', from);
      expect((await agent.stop()).code).toBe(0);
      expect(agent.log.at(-1)?.msg).toMatch(/packets? received, .* 1 event\b/);
      rmSync(workspace.journal);
      renameSync(away, workspace.journal);
      agent = await runAgent({ lab, engine, workspace, pods: [pod] });
      await agent.event((event) => payloadOf(event).includes('<waits>'));
      await agent.stop();
      const texts = journaled(workspace).map((event) => /<(\w+)>/.exec(payloadOf(event))?.[1]);
      expect(texts).toEqual(['kept', 'waits']);
      lab.removePod(pod);
    });
  });
});
