import { beforeAll, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { EngineName } from '../../agent/engine/engine.ts';
import { suricataVariables } from '../../agent/engine/suricata/suricata.ts';
import { parseRules } from '../../agent/rulesets/rule.ts';
import { translateRule } from '../../agent/rulesets/translate/translate.ts';
import type { TestEngine } from '../support/engines.ts';
import { describeEngine, runEngineOnPcap } from '../support/engines.ts';
import type { Frame } from '../support/packets.ts';
import { DEFAULT_START_MICROS, tcpConversation, udpExchange, writePcap } from '../support/packets.ts';
import type { Conversation } from './kubernetes-cases.ts';
import { CASES } from './kubernetes-cases.ts';

const RULES = resolve(import.meta.dirname, '../../rules/kubernetes');

const TRANSLATIONS = parseRules(readFileSync(join(RULES, 'snort.rules'), 'utf8'), { file: '' }).rules.map((rule) => ({
  sid: rule.sid,
  it: translateRule(rule, suricataVariables()),
}));
/** Suricata has no buffer for the header Authorization alone. */
const NOT_TRANSLATED = [1000034];

test('all rules of Snort are translated but those known', () => {
  expect(TRANSLATIONS.filter(({ it }) => it.kind === 'refused').map(({ sid }) => sid)).toEqual(NOT_TRANSLATED);
});

/** For Suricata also what becomes of Snort's rules: two ways of saying the same. */
const FILES: { name: EngineName; syntax: EngineName }[] = [
  { name: 'snort', syntax: 'snort' },
  { name: 'suricata', syntax: 'suricata' },
  { name: 'suricata', syntax: 'snort' },
];

for (const { name, syntax } of FILES) {
  describeEngine(name, (engine) => {
    const missing = name === syntax ? [] : NOT_TRANSLATED;
    const rows = CASES.map((row, index) => ({ ...row, index })).filter(({ sid }) => !missing.includes(sid));
    let fired: number[][] = [];
    let nearMissed: number[][] = [];

    beforeAll(async () => {
      fired = await play(
        engine,
        syntax,
        CASES.map((row) => row.fires),
      );
      nearMissed = await play(
        engine,
        syntax,
        CASES.map((row) => row.nearMiss),
      );
    });

    test.each(rows)(
      `rule $sid of ${syntax}.rules fires on its conversation, alone (case $index)`,
      ({ sid, alsoFires = [], index }) => {
        expect(fired[index]).toEqual([sid, ...alsoFires].toSorted((one, other) => one - other));
      },
    );

    test.each(rows)(`nothing of ${syntax}.rules fires on the near miss of rule $sid (case $index)`, ({ index }) => {
      expect(nearMissed[index]).toEqual([]);
    });
  });
}

/** Plays all conversations in one capture; returns the SIDs of our rules for each, without repetitions, in order. */
async function play(engine: TestEngine, syntax: EngineName, conversations: Conversation[]): Promise<number[][]> {
  const folder = await mkdtemp(join(tmpdir(), 'dpi-agent-rules-'));
  try {
    const capture = join(folder, 'conversations.pcap');
    await writeFile(capture, writePcap(conversations.flatMap(frames)));
    const alerts = await runEngineOnPcap(engine, capture, [await rulesFor(engine, syntax, folder)]);
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

/** The rule file, or where it is not in the engine's syntax, its translation. */
async function rulesFor(engine: TestEngine, syntax: EngineName, folder: string): Promise<string> {
  if (syntax === engine.name) return join(RULES, `${syntax}.rules`);
  const translated = join(folder, 'translated.rules');
  await writeFile(translated, TRANSLATIONS.flatMap(({ it }) => (it.kind === 'rule' ? [`${it.text}\n`] : [])).join(''));
  return translated;
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
