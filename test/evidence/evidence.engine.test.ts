/** The packets of an alert's flow, beside what tcpdump caught on the same veth. */
import { beforeAll, expect, test } from '@jest/globals';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { EeEvent } from '../../agent/events/event.ts';
import { readFacts } from '../../agent/evidence/pcapng.ts';
import type { FlowFacts } from '../../agent/evidence/place.ts';
import { createPcapParser } from '../../agent/replay/pcap-file.ts';
import type { Lab, Pod } from '../../scripts/lab.ts';
import { journaled, MARKER, MARKER_SID, payloadOf, runAgent, type Workspace } from '../support/agent.ts';
import { runCli } from '../support/cli.ts';
import { conversation, describeLive, inject, send, serve, useLab, useWorkspace } from '../support/live.ts';
import { poll } from '../support/poll.ts';
import {
  ethernet,
  ipFragments,
  mergeFrames,
  tcpConversation,
  udpExchange,
  udpPacket,
  type Frame,
} from '../support/packets.ts';

interface Caught {
  frame: string;
  length: number;
}

const isThere = (program: string): boolean => spawnSync('which', [program]).status === 0;
const missing = ['tcpdump', 'tshark'].filter((program) => !isThere(program)).join(' and ');
if (missing !== '') process.stderr.write(`skipped: ${missing} is not installed\n`);

function read(content: Buffer): Caught[] {
  const caught: Caught[] = [];
  const parser = createPcapParser((_seconds, _micros, captured, length, _link, buffer, start) => {
    caught.push({ frame: buffer.toString('hex', start, start + captured), length });
  });
  parser.push(content);
  expect(parser.end()).toMatchObject({ kind: 'read', damageCount: 0 });
  return caught;
}

/** What tshark says of a file; it complains of nothing. */
function tshark(file: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('tshark', ['-r', file, ...args], { encoding: 'utf8' });
  expect({ status, stderr: stderr.replace(/^Running as user.*\n/, '') }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

describeLive((engine) => {
  let lab: Lab;
  let workspace: Workspace;
  let backend: Pod;
  let attacker: Pod;
  useLab(`dpi-e-${engine}`, (made) => (lab = made));
  useWorkspace((made) => (workspace = made));
  beforeAll(async () => {
    backend = lab.addPod({ name: 'backend', address: '10.65.1.2', address6: 'fd65::2' });
    attacker = lab.addPod({ name: 'attacker', address: '10.65.1.3', address6: 'fd65::3' });
    await serve(lab, backend.netns, 7777);
  });

  /** Captures on the veth while it runs. @returns what was caught. */
  async function withTcpdump(filter: string, run: () => Promise<void>): Promise<Caught[]> {
    const file = join(workspace.directory, 'tcpdump.pcap');
    const child = lab.spawn(
      lab.node,
      'tcpdump',
      ['-i', backend.interface, '-Z', 'root', '-U', '--immediate-mode', '-s', '262144', '-w', file, filter],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    await new Promise((resolve) => child.stderr?.once('data', resolve));
    await run();
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await ended;
    return read(readFileSync(file));
  }

  const pathOf = (event: EeEvent): string =>
    join(workspace.journal, 'evidence', event.record.timestamp.slice(0, 10), `${event.record.event_id}.pcapng`);

  async function evidenceOf(event: EeEvent): Promise<{ file: string; record: FlowFacts; packets: Caught[] }> {
    const file = pathOf(event);
    await poll(() => existsSync(file));
    const content = readFileSync(file);
    return { file, record: readFacts(content) as FlowFacts, packets: read(content) };
  }

  const run = missing === '' ? test : test.skip;

  run('a flow over IPv4 is what tcpdump caught, and the command line gives it', async () => {
    const agent = await runAgent({ lab, engine, workspace, pods: [backend], config: { evidence: { keep: 'full' } } });
    let event: EeEvent | undefined;
    let evidence: Awaited<ReturnType<typeof evidenceOf>> | undefined;
    const caught = await withTcpdump(`host ${attacker.address} and tcp`, async () => {
      send(lab, attacker.netns, backend.address, 7777, `${MARKER} four${'x'.repeat(100_000)}`);
      event = await agent.event((each) => payloadOf(each).includes('four'));
      evidence = await evidenceOf(event);
    });
    if (event === undefined || evidence === undefined) throw new Error('no event');
    expect(evidence.packets).toEqual(caught);
    expect(evidence.record.packets).toMatchObject({ count: caught.length, complete: true });
    const comments = tshark(evidence.file, '-T', 'fields', '-e', 'frame.comment');
    expect(comments).toContain(`event ${event.record.event_id}`);
    expect(tshark(evidence.file, '-T', 'fields', '-e', 'frame.interface_description')).toContain('pod default/backend');

    const flags = ['-c', join(workspace.directory, 'dpi-agent.yaml')];
    const out = join(workspace.directory, 'out.pcapng');
    expect(await runCli(['events', 'pcap', event.record.event_id, '-o', out, ...flags])).toMatchObject({ code: 0 });
    expect(readFileSync(out)).toEqual(readFileSync(evidence.file));
    const listed = await runCli(['events', 'packets', event.record.event_id, ...flags]);
    expect(listed.stdout.split('\n').filter((line) => line !== '')).toHaveLength(caught.length);
    expect(listed.stdout).toMatch(/10\.65\.1\.3:\d+ > 10\.65\.1\.2:7777 {2}TCP, SYN, /);
  });

  run(
    'a flow over IPv6 is what tcpdump caught, and so is each of small packets among those of many flows',
    async () => {
      const agent = await runAgent({ lab, engine, workspace, pods: [backend], config: { evidence: { keep: 'full' } } });
      let packets: Caught[] = [];
      const caught = await withTcpdump('host fd65::3 and tcp', async () => {
        send(lab, attacker.netns, 'fd65::2', 7777, `${MARKER} six`);
        ({ packets } = await evidenceOf(await agent.event((each) => payloadOf(each).includes('six'))));
      });
      expect(packets).toEqual(caught);

      const ports = Array.from({ length: 300 }, (_, index) => 20_000 + index);
      const alerting = ports.filter((port) => port % 10 === 0);
      const flows = ports.map((port) => conversation(`${port % 10 === 0 ? MARKER : 'nothing'} small ${port}`, port));
      inject(lab, workspace, backend.netns, 'eth0', mergeFrames(...flows));
      for (const port of alerting) {
        const event = await agent.event((each) => payloadOf(each).includes(`small ${port}`));
        const expected = flows[port - 20_000]?.map(({ data }) => data.toString('hex'));
        expect((await evidenceOf(event)).packets.map(({ frame }) => frame)).toEqual(expected);
      }
    },
  );

  const CLIENT = { client: '10.65.0.9', server: '10.65.0.8', clientPort: 4000, serverPort: 7777 };
  const plain = conversation(`${MARKER} odd`, 4000);
  const tagged = tcpConversation({ ...CLIENT, exchange: [{ from: 'client', data: `${MARKER} odd` }] }).map(
    (frame): Frame => ({
      ...frame,
      data: Buffer.concat([frame.data.subarray(0, 12), Buffer.from('81000005', 'hex'), frame.data.subarray(12)]),
    }),
  );
  const fragments = ipFragments(
    udpPacket({
      source: '10.65.0.9',
      destination: '10.65.0.8',
      sourcePort: 4000,
      destinationPort: 7777,
      payload: `${'x'.repeat(2000)}${MARKER} odd${'x'.repeat(2000)}`,
    }),
    1480,
  ).map((packet, index): Frame => ({ timeMicros: index, data: ethernet(packet) }));

  run.each<[string, Frame[], string]>([
    ['retransmissions', [...plain.slice(0, 4), ...plain.slice(2)], 'host 10.65.0.9'],
    ['VLAN tags', tagged, 'vlan and host 10.65.0.9'],
    ['fragments', fragments, 'host 10.65.0.9'],
  ])('%s are in the file as they were on the wire', async (_, frames, filter) => {
    const agent = await runAgent({ lab, engine, workspace, pods: [backend], config: { evidence: { keep: 'full' } } });
    let packets: Caught[] = [];
    const caught = await withTcpdump(filter, async () => {
      inject(lab, workspace, backend.netns, 'eth0', frames);
      const event = await agent.event(({ record }) => record.snort_signature_id === String(MARKER_SID));
      const evidence = await evidenceOf(event);
      ({ packets } = evidence);
      tshark(evidence.file);
    });
    expect(packets).toEqual(caught);
  });

  run(
    'an agent that is killed while it collects leaves an event without a file, and the next one takes nothing for it',
    async () => {
      const killed = await runAgent({
        lab,
        engine,
        workspace,
        pods: [backend],
        config: { evidence: { keep: 'full', after: '60s' } },
      });
      inject(
        lab,
        workspace,
        backend.netns,
        'eth0',
        udpExchange({ ...CLIENT, exchange: [{ from: 'client', data: MARKER }] }),
      );
      const event = await killed.event(({ record }) => record.snort_signature_id === String(MARKER_SID));
      await killed.stop('SIGKILL');
      const agent = await runAgent({
        lab,
        engine,
        workspace,
        pods: [backend],
        config: { evidence: { keep: 'full', after: '10ms' } },
      });
      inject(
        lab,
        workspace,
        backend.netns,
        'eth0',
        udpExchange({ ...CLIENT, exchange: [{ from: 'client', data: `${MARKER} more` }] }),
      );
      const next = await agent.event((each) => payloadOf(each).includes('more'));
      expect((await evidenceOf(next)).packets).toHaveLength(1);
      expect(existsSync(pathOf(event))).toBe(false);
      expect(journaled(workspace).map(({ record }) => record.event_id)).toEqual([
        event.record.event_id,
        next.record.event_id,
      ]);
    },
  );

  run('without room for files there are events all the same', async () => {
    const evidence = join(workspace.journal, 'evidence');
    mkdirSync(evidence);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', evidence]);
    try {
      const agent = await runAgent({
        lab,
        engine,
        workspace,
        pods: [backend],
        config: { evidence: { keep: 'full', after: '10ms' } },
      });
      send(lab, attacker.netns, backend.address, 7777, `${MARKER} full${'x'.repeat(100_000)}`);
      const event = await agent.event((each) => payloadOf(each).includes('full'));
      await agent.logged(({ msg }) => msg?.includes('packets cannot be written') === true);
      expect(existsSync(pathOf(event))).toBe(false);
      send(lab, attacker.netns, backend.address, 7777, `${MARKER} later`);
      await agent.event((each) => payloadOf(each).includes('later'));
    } finally {
      execFileSync('umount', ['-l', evidence]);
    }
  });
});
