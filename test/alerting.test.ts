import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { startAlerting, type Alerting, type AlertingOptions } from '../agent/alerting.ts';
import type { Endpoint } from '../agent/endpoints/endpoint.ts';
import { openLeases } from '../agent/endpoints/leases.ts';
import type { Alert, Decoded } from '../agent/engine/alert.ts';
import type { EventLine } from '../agent/journal/journal.ts';
import type { Lane } from '../agent/lane.ts';
import { BUILT_IN_VOCABULARY } from '../agent/rulesets/classes.ts';
import { createClock } from './sim/clock.ts';
import { endpointOf, engineAlert } from './support/attributed.ts';

const GENERATION = 'lane0-20261129T000000Z-aaaaaa';
const ALERT_BYTES = 100;

const alert = (changes: Partial<Alert> = {}): Alert =>
  engineAlert({
    timeMicros: Date.now() * 1000,
    sid: 7,
    source: { ip: '10.0.0.9', port: 40_000 },
    destination: { ip: '10.0.0.1', port: 80 },
    ...changes,
  });

/** As a reader gives them, one behind the other. */
const read = (...alerts: Alert[]): Decoded[] =>
  alerts.map((item, index) => ({
    kind: 'alert',
    alert: item,
    start: index * ALERT_BYTES,
    end: (index + 1) * ALERT_BYTES,
  }));

let alerting: Alerting;
/** What was done, in order: journaled, and deleted in the engine's files. */
let done: string[];
let append: jest.Mock<(lines: readonly EventLine[]) => Promise<void>>;
let problems: Map<string, string>;
let stateDirectory: string;

const pod = (address: string): Endpoint =>
  endpointOf(`shop/pod-${address}`, {
    namespace: 'shop',
    name: `pod-${address}`,
    nameAggr: 'pod',
    addresses: [address],
    resources: ['shop/dpi'],
  });

function start(
  changes: Partial<AlertingOptions> = {},
  alerts = { mergeMillis: 0, burst: 2, ratePerSecond: 0.001, foldMillis: 60_000 },
): void {
  const leases = openLeases(undefined);
  leases.acquire(pod('10.0.0.1'));
  const lane = {
    consumed: (generation: string, offset: number) => Promise.resolve(done.push(`consumed ${generation}:${offset}`)),
    passed: (generation: string, offset: number) => Promise.resolve(done.push(`passed ${generation}:${offset}`)),
  } as unknown as Lane;
  alerting = startAlerting({
    config: {
      alerts,
      evidence: { payload: false, maxBytes: 0, rule: false },
      node: 'node',
      stateDirectory,
    },
    install: { name: 'snort', version: '3' } as AlertingOptions['install'],
    leases,
    rules: { index: () => new Map(), states: () => [] },
    vocabulary: BUILT_IN_VOCABULARY,
    left: [],
    consumed: new Map(),
    journal: { append } as unknown as AlertingOptions['journal'],
    lanes: [lane],
    problems,
    log: pino({ level: 'silent' }),
    ...changes,
  });
}

beforeEach(() => {
  stateDirectory = mkdtempSync(join(tmpdir(), 'dpi-agent-alerting-'));
  done = [];
  problems = new Map();
  append = jest.fn((lines: readonly EventLine[]) => {
    for (const { position } of lines) done.push(`journaled ${position}`);
    return Promise.resolve();
  });
  start();
});
afterEach(async () => {
  await alerting.stop(performance.now(), Promise.resolve()).catch(() => undefined);
  rmSync(stateDirectory, { recursive: true });
});

describe('an alert', () => {
  test('is journaled before the engine’s file may forget it', async () => {
    await alerting.read(GENERATION, read(alert(), alert({ sid: 8 })));
    expect(done).toEqual([`journaled ${GENERATION}:0`, `journaled ${GENERATION}:100`, `consumed ${GENERATION}:100`]);
    expect(alerting.books.counts()).toMatchObject({ read: 2, journaled: 2 });
  });

  test('of a packet’s body is no event beside that of the packet, and its bytes can go', async () => {
    const packet = alert({ rebuilt: false });
    await alerting.read(GENERATION, read(packet, { ...packet, rebuilt: true }));
    expect(done).toEqual([`journaled ${GENERATION}:0`, `consumed ${GENERATION}:0`, `consumed ${GENERATION}:100`]);
    expect(alerting.books.counts()).toMatchObject({ read: 2, journaled: 1, merged: 1 });
  });

  test('of an id that nobody holds is unattributed, and damage is unparsable', async () => {
    const damage: Decoded = { kind: 'damage', reason: 'torn', start: 100, end: 120 };
    await alerting.read(GENERATION, [...read(alert({ vlan: 9 })), damage]);
    expect(done).toEqual([]);
    expect(alerting.books.counts()).toMatchObject({ read: 2, unattributed: 1, unparsable: 1 });
  });

  test('of a rule that nobody asked for is counted so, and the engine’s file need not keep it', async () => {
    const states = [{ since: 0, defaults: ['main'], setsOf: (key: string) => (key === '1:8' ? ['other'] : ['main']) }];
    start({ rules: { index: () => new Map(), states: () => states } });
    await alerting.read(GENERATION, read(alert({ sid: 8 }), alert({ vlan: 9, sid: 8 })));
    expect(done).toEqual([`consumed ${GENERATION}:0`]);
    expect(alerting.books.counts()).toMatchObject({ read: 2, unasked: 1, unattributed: 1 });
  });

  test('that an earlier agent journaled is recovered, and not journaled again', async () => {
    await alerting.read(GENERATION, read(alert()));
    const line = append.mock.calls[0]?.[0][0];
    const { record } = JSON.parse(line?.json ?? '') as { record: { event_id: string } };
    const consumed = new Map([
      [GENERATION, { offset: 0, ids: new Set([record.event_id]), merged: new Map(), folds: new Map() }],
    ]);
    done = [];
    start({ consumed });
    await alerting.read(GENERATION, read(alert()));
    expect(done).toEqual([]);
    expect(alerting.books.counts()).toMatchObject({ read: 1, recovered: 1, journaled: 0 });
  });

  test('in an open fold is held: lines behind it say so, and the engine’s file keeps it until the fold is closed', async () => {
    // Two pass, the third opens a fold.
    await alerting.read(GENERATION, read(alert(), alert(), alert(), alert(), alert({ sid: 8 })));
    expect(done).toEqual([
      `journaled ${GENERATION}:0`,
      `journaled ${GENERATION}:100`,
      `journaled ${GENERATION}:400`,
      `consumed ${GENERATION}:200`,
    ]);
    expect(append.mock.calls[0]?.[0].at(-1)?.json).toContain(`"checkpoint":"${GENERATION}:200"`);
    done = [];
    await alerting.finished(GENERATION);
    expect(done).toEqual([`journaled ${GENERATION}:200`]);
    expect(alerting.books.counts()).toMatchObject({ read: 5, journaled: 4, merged: 1 });
    expect(alerting.books.folded()).toBe(1);
  });

  test('that opened a fold and stayed alone says nothing of those that still wait for their twins', async () => {
    const clock = createClock();
    const leases = openLeases(undefined);
    leases.acquire(pod('10.0.0.1'));
    leases.acquire(pod('10.0.0.9'));
    start({ leases, system: { clock } }, { mergeMillis: 5000, burst: 1, ratePerSecond: 0.001, foldMillis: 1000 });
    await alerting.read(GENERATION, read(alert(), alert()));
    clock.step();
    await turn();
    expect(clock.now()).toBe(1000);
    expect(done).toEqual([`journaled ${GENERATION}:100`]);
    expect(append.mock.calls[0]?.[0][0]?.json).toContain(`"checkpoint":"${GENERATION}:0"`);
  });

  test('that no event can be made of is set aside, and keeps none behind it from the journal', async () => {
    const flow = { packetsToServer: 0, packetsToClient: 0, bytesToServer: 0, bytesToClient: 0 };
    const poisoned = { ...flow, startMicros: 0 };
    Object.defineProperty(poisoned, 'startMicros', {
      get() {
        throw new Error('broken');
      },
    });
    await alerting.read(GENERATION, read(alert(), alert({ flow: poisoned }), alert({ sid: 8 })));
    expect(done).toEqual([`journaled ${GENERATION}:0`, `journaled ${GENERATION}:200`, `consumed ${GENERATION}:200`]);
    expect(alerting.books.counts()).toMatchObject({ read: 3, journaled: 2, failed: 1 });
    expect(readFileSync(join(stateDirectory, 'failed-alerts.ndjson'), 'utf8')).toContain(`"${GENERATION}:100"`);
  });

  test('that stands for nothing behind it is passed over', async () => {
    await alerting.read(GENERATION, [], 300);
    expect(done).toEqual([`passed ${GENERATION}:300`]);
  });
});

describe('the end', () => {
  test('journals what is held, once all is read', async () => {
    await alerting.read(GENERATION, read(alert(), alert(), alert()));
    done = [];
    await alerting.stop(performance.now(), Promise.resolve());
    expect(done).toEqual([`journaled ${GENERATION}:200`, `consumed ${GENERATION}:200`]);
  });

  test('leaves to the next agent what can’t be journaled until the deadline', async () => {
    append.mockRejectedValue(new Error('no space left'));
    const reading = alerting.read(GENERATION, read(alert())).catch((error: unknown) => error);
    await alerting.stop(performance.now(), reading);
    expect(String(await reading)).toContain('the agent ends before its journal can be written');
    expect(done).toEqual([]);
    expect([...problems.keys()]).toEqual(['journal']);
    expect(alerting.books.counts()).toMatchObject({ read: 1, journaled: 0 });
  });
});
