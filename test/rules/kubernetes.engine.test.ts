import { beforeAll, expect, test } from '@jest/globals';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { EngineName } from '../../agent/engine/engine.ts';
import type { TestEngine } from '../support/engines.ts';
import { describeEngine, runEngineOnPcap } from '../support/engines.ts';
import type { Frame } from '../support/packets.ts';
import { DEFAULT_START_MICROS, tcpConversation, udpExchange, writePcap } from '../support/packets.ts';
import type { Conversation } from './kubernetes-cases.ts';
import { CASES } from './kubernetes-cases.ts';

const RULES = resolve(import.meta.dirname, '../../rules/kubernetes');

for (const name of ['snort', 'suricata'] satisfies EngineName[]) {
  describeEngine(name, (engine) => {
    let fired: number[][] = [];
    let nearMissed: number[][] = [];

    beforeAll(async () => {
      fired = await play(
        engine,
        CASES.map((row) => row.fires),
      );
      nearMissed = await play(
        engine,
        CASES.map((row) => row.nearMiss),
      );
    }, 120_000);

    test.each(CASES.map((row, index) => ({ ...row, index })))(
      'rule $sid fires on its conversation, alone (case $index)',
      ({ sid, alsoFires = [], index }) => {
        expect(fired[index]).toEqual([sid, ...alsoFires].toSorted((one, other) => one - other));
      },
    );

    test.each(CASES.map((row, index) => ({ ...row, index })))(
      'nothing fires on the near miss of rule $sid (case $index)',
      ({ index }) => {
        expect(nearMissed[index]).toEqual([]);
      },
    );
  });
}

/** Plays all conversations in one capture; returns the SIDs of our rules for each, without repetitions, in order. */
async function play(engine: TestEngine, conversations: Conversation[]): Promise<number[][]> {
  const folder = await mkdtemp(join(tmpdir(), 'dpi-agent-rules-'));
  try {
    const capture = join(folder, 'conversations.pcap');
    await writeFile(capture, writePcap(conversations.flatMap(frames)));
    const alerts = await runEngineOnPcap(engine, capture, [join(RULES, `${engine.name}.rules`)]);
    return conversations.map((_, index) => {
      const ofCase = alerts.filter(({ source, destination }) => [source, destination].includes(client(index)));
      return [...new Set(ofCase.filter(({ gid }) => gid === 1).map(({ sid }) => sid))].toSorted(
        (one, other) => one - other,
      );
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function frames({ transport, exchange, serverPort, server }: Conversation, index: number): Frame[] {
  const options = {
    client: client(index),
    server: server ?? `10.2.${index >> 8}.${index & 255}`,
    serverPort,
    start: DEFAULT_START_MICROS + index * 100_000,
  };
  return transport === 'tcp' ? tcpConversation({ ...options, exchange }) : udpExchange({ ...options, exchange });
}

function client(index: number): string {
  return `10.1.${index >> 8}.${index & 255}`;
}
