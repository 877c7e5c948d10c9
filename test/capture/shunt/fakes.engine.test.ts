/** What begins like encryption and goes on in the clear, on real engines: the same alerts with the shunt. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeEngine, runEngineOnPcap } from '../../support/engines.ts';
import { mergeFrames, writePcap, type Frame } from '../../support/packets.ts';
import { FAKE_MARKER, TCP_FAKES, tcpFrames, UDP_FAKES, udpFrames } from './fakes.ts';
import { createHarness } from './support.ts';

const FIRST_PORT = 20_000;
const NAMES = [...Object.keys(TCP_FAKES), ...Object.keys(UDP_FAKES)];
const RULES = ['tcp', 'udp'].map(
  (protocol, index) =>
    `alert ${protocol} any any -> any any (msg:"marker"; content:"${FAKE_MARKER}"; sid:${1001 + index}; rev:1;)`,
);

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'dpi-agent-fakes-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function allFrames(): Frame[] {
  const tcp = Object.values(TCP_FAKES).map((begin, index) => tcpFrames(begin, FIRST_PORT + index));
  const udp = Object.values(UDP_FAKES).map((begin, index) => udpFrames(begin, FIRST_PORT + tcp.length + index));
  return mergeFrames(...tcp, ...udp);
}

for (const name of ['snort', 'suricata'] as const) {
  describeEngine(name, (engine) => {
    /** Names of fakes, as often as there was an alert. */
    const alertsOf = async (frames: Frame[]): Promise<string[]> => {
      const [pcap, rules] = [join(folder, 'some.pcap'), join(folder, 'some.rules')];
      writeFileSync(rules, `${RULES.join('\n')}\n`);
      writeFileSync(pcap, writePcap(frames));
      const alerts = await runEngineOnPcap(engine, pcap, [rules]);
      return alerts
        .map(({ sourcePort = 0, destinationPort = 0 }) => Math.max(sourcePort, destinationPort) - FIRST_PORT)
        .map((index) => NAMES[index] ?? '')
        .toSorted();
    };

    test('what is told to a peer that knows no encryption is inspected', async () => {
      const frames = allFrames();
      const alerts = await alertsOf(frames);
      // An engine that is deceived itself looks no further.
      expect(new Set(alerts).size).toBeGreaterThan(NAMES.length / 2);
      expect(await alertsOf(createHarness({ firstBytes: 0 }).pass(frames))).toEqual(alerts);
    });
  });
}
