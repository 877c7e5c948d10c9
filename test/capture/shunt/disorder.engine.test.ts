/**
 * Disorder, on real engines: the end of one connection of TLS in many orders, with a FIN that overtakes data. And what
 * an engine makes of disorder by itself.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeEngine, runEngineOnPcap, type TestEngine } from '../../support/engines.ts';
import { DEFAULT_START_MICROS, mergeFrames, writePcap, type Frame } from '../../support/packets.ts';
import { streamEvents, WHOLE_INSPECTION } from './inspection.ts';
import { alertRecord, betweenPorts, createHarness, dataRecord, record, shaken, type Conversation } from './support.ts';

type Part = [from: number, to: number];

const FIRST_PORT = 20_000;
const FATAL = record(21, Buffer.from([2, 40]));
const LAST_WORDS = Buffer.concat([dataRecord(1500), alertRecord(), dataRecord(1600), FATAL]);

let folder: string;
beforeAll(() => void (folder = mkdtempSync(join(tmpdir(), 'dpi-agent-disorder-'))));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function cut(length: number, size: number): Part[] {
  return Array.from({ length: Math.ceil(length / size) }, (_, index) => [
    index * size,
    Math.min(length, (index + 1) * size),
  ]);
}

/**
 * Both say that they have no more to say; of the server's FIN, so many segments and their acknowledgements are late.
 */
function close(conversation: Conversation, late: number): void {
  const { frames, next } = conversation;
  frames.splice(frames.length - 2 * late, 0, conversation.frame('server', { flags: 'FA' }));
  next.server++;
  frames.push(conversation.frame('client', { flags: 'FA' }));
  next.client++;
  frames.push(conversation.frame('server'));
}

/** One connection for each way to move one of the server's last segments, and its FIN, to another place. */
function orders(): Conversation[] {
  const parts = cut(LAST_WORDS.length, 500);
  return parts.flatMap((moved, from) =>
    parts.flatMap((_part, to) =>
      Array.from({ length: parts.length + 1 }, (_each, late) => {
        const conversation = shaken();
        conversation.send('server', dataRecord(2000));
        conversation.send('client', dataRecord(300));
        conversation.deliver('server', LAST_WORDS, parts.toSpliced(from, 1).toSpliced(to, 0, moved));
        close(conversation, late);
        return conversation;
      }),
    ),
  );
}

function framesOf(conversations: Conversation[]): Frame[] {
  return mergeFrames(
    ...conversations.map(({ frames }, number) =>
      betweenPorts(frames, FIRST_PORT + number, 443).map(({ data }, index) => ({
        data,
        timeMicros: DEFAULT_START_MICROS + number * 10_000 + index * 10,
      })),
    ),
  );
}

/** "message, number of the connection", each once. */
async function alertsOf(engine: TestEngine, frames: Frame[], more: string[]): Promise<string[]> {
  const [pcap, rules] = [join(folder, 'some.pcap'), join(folder, 'some.rules')];
  const own = [
    'alert tcp any any -> any any (msg:"FIN"; flags:F+; sid:1001; rev:1;)',
    'alert tcp any any -> any any (msg:"fatal alert"; content:"|15 03 03 00 02 02 28|"; sid:1002; rev:1;)',
  ];
  writeFileSync(rules, `${[...own, ...streamEvents(engine.name)].join('\n')}\n`);
  writeFileSync(pcap, writePcap(frames));
  const alerts = await runEngineOnPcap(engine, pcap, [rules], more);
  const lines = alerts.map(
    ({ message, sourcePort = 0, destinationPort = 0 }) =>
      `${message}, ${Math.max(sourcePort, destinationPort) - FIRST_PORT}`,
  );
  return [...new Set(lines)].toSorted();
}

for (const name of ['snort', 'suricata'] as const) {
  describeEngine(name, (engine) => {
    test('in any order of the last segments and the FIN, the alerts are the same', async () => {
      const conversations = orders();
      const frames = framesOf(conversations);
      const passed = createHarness({ firstBytes: 1000 }).pass(frames);
      expect(passed.length).toBeLessThan(frames.length);
      const alerts = await alertsOf(engine, frames, WHOLE_INSPECTION[name]);
      for (const message of ['FIN', 'fatal alert']) {
        expect(alerts.filter((line) => line.startsWith(`${message},`))).toHaveLength(conversations.length);
      }
      expect(await alertsOf(engine, passed, WHOLE_INSPECTION[name])).toEqual(alerts);
    });
  });
}

describeEngine('snort', (engine) => {
  // Where a hole is behind the end of a record, Snort counts a gap though the segment is only late; in TLS 1.3 a gap is
  // what it takes for Snort to believe in encryption, and to look at nothing of the connection any more.
  test('without the shunt, disorder in ciphertext decides whether it looks at the end of TLS 1.3', async () => {
    const data = Buffer.concat(Array.from({ length: 5 }, (_, index) => dataRecord(1000 + index)));
    const talk = (change: (parts: Part[]) => Part[]): Conversation => {
      const conversation = shaken();
      conversation.send('client', dataRecord(300));
      conversation.deliver('server', data, change(cut(data.length, 700)));
      conversation.send('client', dataRecord(301));
      close(conversation, 0);
      return conversation;
    };
    // The second and the fourth segment come after the fifth; there are eight.
    const disordered = (parts: Part[]): Part[] => [0, 2, 4, 1, 3, 5, 6, 7].flatMap((at) => parts.slice(at, at + 1));
    const frames = framesOf([talk((parts) => parts), talk(disordered)]);
    expect(await alertsOf(engine, frames, [])).toEqual(['FIN, 0']);
    const passed = createHarness({ firstBytes: 0 }).pass(frames);
    expect(await alertsOf(engine, passed, [])).toEqual(['FIN, 0', 'FIN, 1']);
  });
});
