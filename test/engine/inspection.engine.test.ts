/**
 * That an engine inspects what is there by the agent's configuration of it: bodies to their ends, and files as it does
 * alone.
 */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeEngine, replayWithDriver, runEngineOnPcap } from '../support/engines.ts';
import {
  ethernet,
  httpRequest,
  httpResponse,
  tcpConversation,
  tcpPacket,
  writePcap,
  type Frame,
} from '../support/packets.ts';

const MARKER = 'dpi-marker';
const RULES = {
  snort: `alert http any any -> any any ( msg:"m"; file_data; content:"${MARKER}"; sid:1; )`,
  suricata: `alert http any any -> any any ( msg:"m"; file_data; content:"${MARKER}"; sid:1; )`,
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-inspection-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function write(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

for (const engine of ['snort', 'suricata'] as const) {
  describeEngine(engine, (installed) => {
    describe.each(['request', 'response'])('the body of a %s', (side) => {
      test.each([0, 3_000, 12_000, 60_000])('is inspected behind %i bytes', async (bytes) => {
        const body = Buffer.concat([Buffer.alloc(bytes, 'x'), Buffer.from(MARKER)]);
        const isRequest = side === 'request';
        const frames = tcpConversation({
          exchange: [
            { from: 'client', data: httpRequest(isRequest ? { method: 'POST', body } : {}) },
            { from: 'server', data: httpResponse(isRequest ? {} : { body }) },
          ],
        });
        const pcap = write('body.pcap', writePcap(frames));
        const alerts = await replayWithDriver(installed, pcap, [write('x.rules', `${RULES[engine]}\n`)]);
        expect(alerts.map(({ sid }) => sid)).toEqual([1]);
      });
    });
  });
}

describeEngine('suricata', (installed) => {
  const addresses = { source: '10.0.0.1', destination: '10.0.0.2', sourcePort: 40_000, destinationPort: 7778 };
  const packet = tcpPacket({ ...addresses, flags: 'PA', sequence: 1000, acknowledgement: 1, payload: MARKER });
  const frameOf = (data: Buffer): Frame[] => [{ timeMicros: 1_700_000_000_000_000, data }];

  async function both(frames: Frame[], rules: string): Promise<{ replay: number[]; alone: number[] }> {
    const [pcap, file] = [write('x.pcap', writePcap(frames)), write('x.rules', rules)];
    const [replay, alone] = [
      await replayWithDriver(installed, pcap, [file]),
      await runEngineOnPcap(installed, pcap, [file]),
    ];
    return { replay: replay.map(({ sid }) => sid), alone: alone.map(({ sid }) => sid) };
  }

  test('a packet of a flow that was under way is found in a replay as often as by the engine alone', async () => {
    const rule = (sid: number, options = ''): string =>
      `alert tcp any any -> any any ( msg:"m"; content:"${MARKER}"; ${options} sid:${sid}; )\n`;
    const { replay, alone } = await both(frameOf(ethernet(packet)), rule(1) + rule(2, 'flow:established;'));
    expect(alone).toEqual([1]);
    expect(replay).toEqual(alone);
  });

  test('checksums are looked at in a replay where rules ask for them', async () => {
    const wrong = Buffer.from(packet);
    // Of TCP, behind 20 bytes of IP.
    wrong.writeUInt16BE(wrong.readUInt16BE(36) ^ 1, 36);
    const rule = 'alert tcp any any -> any any ( msg:"m"; tcpv4-csum:invalid; sid:1; )\n';
    const { replay } = await both(frameOf(ethernet(wrong)), rule);
    expect(replay).toEqual([1]);
  });
});
