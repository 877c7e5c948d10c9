/** The agent with a script in the engine's place, and alerts that no event can be made of. */
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { pino } from 'pino';
import type { Agent } from '../agent/agent.ts';
import { loadConfig, type Config } from '../agent/config/load.ts';
import type { Alert, Decoded, Decoder } from '../agent/engine/alert.ts';
import type { EngineDriver } from '../agent/engine/engine.ts';
import type { EngineRules } from '../agent/engine/rules.ts';
import type { EeEvent } from '../agent/events/event.ts';
import type { LiveRules } from '../agent/rulesets/live.ts';
import { poll } from './support/poll.ts';
import { PROJECT } from './support/project.ts';

// As it was built: it starts processes of its own.
const { startAgent } = (await import(
  pathToFileURL(join(PROJECT, 'dist/agent/agent.js')).href
)) as typeof import('../agent/agent.ts');

let folder: string;
let agent: Agent | undefined;
let events: EeEvent[];
let logged: { msg: string; position?: string }[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-poison-'));
  events = [];
  logged = [];
});
afterEach(async () => {
  await agent?.stop();
  agent = undefined;
  rmSync(folder, { recursive: true });
});

const broken = (): never => {
  throw new Error('broken');
};

/** What letters in the alert file stand for: alerts, and such that something throws on, at once or as an event. */
function alertOf(letter: string): Alert {
  const alert: Alert = {
    timeMicros: Date.now() * 1000,
    vlan: 1,
    gid: 1,
    sid: 7,
    rev: 1,
    message: letter,
    classification: '',
    priority: 1,
    protocol: 'TCP',
    source: { ip: '192.0.2.1', port: 1000 },
    destination: { ip: '10.65.0.2', port: 80 },
    payload: Buffer.from('secret'),
  };
  if (letter === 'E') return Object.defineProperty(alert, 'message', { get: broken, enumerable: true });
  const flow = { startMicros: 0, packetsToServer: 1, packetsToClient: 1, bytesToServer: 1, bytesToClient: 1 };
  if (letter === 'L') alert.flow = Object.defineProperty(flow, 'startMicros', { get: broken, enumerable: true });
  return alert;
}

function createDecoder(): Decoder {
  let offset = 0;
  return {
    push: (chunk) =>
      Array.from(chunk.toString(), (letter): Decoded => {
        offset++;
        return { kind: 'alert', alert: alertOf(letter), start: offset - 1, end: offset };
      }),
    end: () => [],
  };
}

const driver: EngineDriver = {
  name: 'snort',
  prepare: (_install, { fifo }) =>
    Promise.resolve({ arguments: [fifo], alertFile: 'alerts.txt', stamped: false, createDecoder }),
  reload: () => Promise.resolve(),
  validateArguments: () => Promise.resolve([]),
  ruleErrors: () => [],
  analysedPackets: () => undefined,
};

/** The same ones as long as they don't change. */
const NO_RULES: EngineRules = { files: [], defaults: [], policies: [] };

const noRules: LiveRules = {
  engineRules: () => NO_RULES,
  index: () => new Map(),
  states: () => [],
  defaults: () => [],
  follow: () => () => undefined,
  changed: () => Promise.resolve(),
  prove: async () => undefined,
  problemOf: () => undefined,
  conditions: () => [],
  status: broken,
};

function configOf(flags: Record<string, unknown>): Config {
  const loaded = loadConfig({
    env: {},
    flags: {
      node: 'n',
      stateDirectory: join(folder, 'state'),
      'journal.directory': join(folder, 'journal'),
      'canary.interval': 0,
      ...flags,
    },
  });
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  return loaded.config;
}

/** An agent with one endpoint, for which `resources` ask. @returns what writes alerts as its engine. */
async function start(
  resources: string[],
  flags: Record<string, unknown> = {},
  onEvent: (event: EeEvent) => void = () => undefined,
): Promise<(letters: string) => void> {
  const binary = join(folder, 'engine');
  writeFileSync(binary, '#!/bin/sh\nexec < "$1"; cat > packets\n', { mode: 0o755 });
  const sink = { write: (line: string) => void logged.push(JSON.parse(line) as { msg: string }) };
  agent = await startAgent({
    config: configOf(flags),
    install: { name: 'snort', binary, version: '3', searchMethods: [] },
    driver,
    sandbox: { uid: undefined, gid: undefined, isolateNetwork: false, setpriv: undefined, missing: [] },
    rules: noRules,
    vocabulary: { classes: new Map(), references: new Map() },
    log: pino({ level: 'info' }, sink),
    onEvent(event) {
      events.push(event);
      onEvent(event);
    },
  });
  agent.attach({
    id: 'shop/web',
    namespace: 'shop',
    name: 'web',
    nameAggr: '-',
    interface: 'no-such-device',
    labels: {},
    addresses: ['10.65.0.2'],
    resources,
  });
  const lane = join(folder, 'state/lanes/lane0');
  const [generation = ''] = readdirSync(lane);
  return (letters) => appendFileSync(join(lane, generation, 'output/alerts.txt'), letters);
}

const messages = (): string[] => events.map(({ record }) => record.message);

function checkBalance(): void {
  const { read = 0, copies = 0, ...became } = agent?.alerts() ?? {};
  expect(read + copies).toBe(Object.values(became).reduce((sum, count) => sum + count, 0));
}

test('an alert that no event can be made of is counted and set aside, and those behind it are journaled', async () => {
  const write = await start(['shop/dpi']);
  write('aELb');
  await poll(() => messages().includes('b'));
  write('LcE');
  await poll(() => messages().includes('c') && agent?.alerts().failed === 4);
  expect(messages()).toEqual(['a', 'b', 'c']);
  expect(agent?.alerts()).toMatchObject({ read: 7, journaled: 3, failed: 4 });
  checkBalance();
  expect(agent?.stuck()).toBeUndefined();
  expect(agent?.problems()).toEqual([]);
  const said = logged.filter(({ msg }) => msg === 'no event could be made of an alert; it is set aside');
  const offsets = said.map(({ position = '' }) => Number(position.split(':')[1]));
  expect(offsets.toSorted((a, b) => a - b)).toEqual([1, 2, 4, 6]);
  const lines = readFileSync(join(folder, 'state/failed-alerts.ndjson'), 'utf8').trimEnd().split('\n');
  expect(lines.map((line) => JSON.parse(line) as object)).toHaveLength(4);
  expect(lines[0]).toMatch(/"error":"Error: broken"/);
  expect(lines.join()).not.toContain('payload');
});

test('each event of an alert counts for itself, and a fold as one', async () => {
  const flags = { 'alerts.burst': 1, 'alerts.foldMillis': 1000 };
  const write = await start(['shop/one', 'shop/two'], flags);
  write('aLLL');
  await poll(() => agent?.alerts().failed === 2);
  expect(agent?.alerts()).toMatchObject({ read: 4, copies: 4, journaled: 2, merged: 4, failed: 2 });
  checkBalance();
});

test('what fails after an event is journaled keeps none from the journal', async () => {
  const write = await start(['shop/dpi'], {}, broken);
  write('a');
  await poll(() => messages().length === 1);
  write('b');
  await poll(() => messages().length === 2);
  expect(agent?.alerts()).toMatchObject({ journaled: 2, failed: 0 });
  expect(agent?.problems()).toEqual([]);
});
