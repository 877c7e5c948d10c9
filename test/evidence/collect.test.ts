import { beforeEach, describe, expect, test } from '@jest/globals';
import pino from 'pino';
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import type { AskedPackets } from '../../agent/capture/packet-queries.ts';
import type { PacketQuery } from '../../agent/capture/protocol.ts';
import { eventId } from '../../agent/events/event.ts';
import { createEvidence, type Evidence } from '../../agent/evidence/collect.ts';
import { createPace } from '../../agent/evidence/pace.ts';
import { readFacts } from '../../agent/evidence/pcapng.ts';
import type { EvidenceStore } from '../../agent/evidence/store.ts';
import { attributedAlert, endpointOf } from '../support/attributed.ts';
import { DEFAULT_START_MICROS, tcpConversation } from '../support/packets.ts';

const POD = endpointOf('web', { resources: ['shop/dpi'] });
const FRAMES = tcpConversation({ clientPort: 1000, exchange: [{ from: 'client', data: 'secret' }] });
const PACKETS = FRAMES.map(({ timeMicros, data }) => ({
  time: timeMicros,
  frame: data,
  length: data.length,
  linkType: 1,
}));
const ALERT_AT = PACKETS[3]?.time ?? 0;

interface Saved {
  ids: readonly string[];
  content: Buffer;
  record: unknown;
}

let asked: { query: Omit<PacketQuery, 'query'>; answer: (answer: Partial<AskedPackets>) => void }[];
let saved: Saved[];
let released: number;
let refusal: Error | undefined;
let evidence: Evidence;
let millis: number;

beforeEach(() => {
  millis = 0;
  asked = [];
  saved = [];
  released = 0;
  refusal = undefined;
  const store: EvidenceStore = {
    save(events, parts) {
      const content = Buffer.concat(parts);
      if (refusal !== undefined) return Promise.reject(refusal);
      saved.push({ ids: events.map(({ id }) => id), content, record: readFacts(content) });
      return Promise.resolve();
    },
    status: () => ({ files: 0, bytes: 0, evicted: 0 }),
  };
  const packetsOf = (query: Omit<PacketQuery, 'query'>): Promise<AskedPackets> =>
    new Promise((resolve) => {
      const release = (): void => void released++;
      const answer = (more: Partial<AskedPackets>): void =>
        resolve({ packets: PACKETS, by: 'flow', skipped: false, lost: false, release, ...more });
      asked.push({ query, answer });
    });
  evidence = createEvidence({
    settings: { keep: 'full', after: 2000, packets: 100, bytes: 1000 },
    store,
    lanes: [{ name: 'lane0', capture: { packetsOf, countersOf: () => undefined } }],
    log: pino({ level: 'silent' }),
    now: () => ALERT_AT / 1000 + millis,
    pace: createPace(256, 50, () => millis),
  });
});

const alertOf = (port: number, offset: number, more: Partial<AttributedAlert> = {}): AttributedAlert =>
  attributedAlert(
    { timeMicros: ALERT_AT, source: { ip: '10.0.0.1', port } },
    { position: { generation: 'lane0-20260101T000000Z-abcdef', offset }, seenAt: [POD], ...more },
  );

async function answerAll(answer: Partial<AskedPackets> = {}): Promise<void> {
  for (const each of asked) each.answer(answer);
  await evidence.settled();
}

test("a flow is followed for what is left of the time from its alert's packet on", () => {
  const left = [-5000, 0, 300.4, 5000].map((age, port) => {
    millis = age;
    evidence.collect(alertOf(port + 1, 0));
    return asked.at(-1)?.query.afterMillis;
  });
  expect(left).toEqual([2000, 2000, 1700, 0]);
});

test('the flow is asked for as the alert names it, and its packets are written with the alert at its packet', async () => {
  const alert = alertOf(1000, 0);
  evidence.collect(alert);
  expect(asked.map(({ query }) => query)).toEqual([
    {
      vlan: 1,
      flow: { source: '10.0.0.1', sourcePort: 1000, destination: '10.0.0.2', destinationPort: 80, protocol: 6 },
      time: ALERT_AT,
      afterMillis: 2000,
      packets: 100,
      bytes: 1000,
    },
  ]);
  await answerAll();
  expect(saved).toMatchObject([
    { ids: [eventId(alert)], record: { packets: { count: PACKETS.length, complete: true } } },
  ]);
  expect(saved[0]?.content.includes(`event ${eventId(alert)}`)).toBe(true);
  expect(evidence.status().alerts).toMatchObject({ written: 1, cut: 0 });
  expect(released).toBe(1);
});

test('alerts of a flow that is collected share its file; a later one has a file of its own', async () => {
  const turned = alertOf(1000, 1);
  const { source, destination } = turned.alert;
  Object.assign(turned.alert, { source: destination, destination: source });
  evidence.collect(alertOf(1000, 0));
  evidence.collect(turned);
  await answerAll();
  expect(saved.map(({ ids }) => ids)).toEqual([[eventId(alertOf(1000, 0)), eventId(turned)]]);
  evidence.collect(alertOf(1000, 2));
  await answerAll();
  expect(saved).toHaveLength(2);
});

test('a flood of alerts is bounded, and those beyond are counted', async () => {
  for (let number = 0; number < 100_000; number++) evidence.collect(alertOf(number % 60_000, number));
  expect(asked).toHaveLength(256);
  await answerAll();
  expect(saved).toHaveLength(256);
  const { written, busy } = evidence.status().alerts;
  expect(written + busy).toBe(100_000);
});

test('what goes on alerting has so many files a second', async () => {
  for (let second = 0; second < 4; second++) {
    for (let number = 0; number < 1000; number++) evidence.collect(alertOf(second * 1000 + number, number));
    await answerAll();
    millis += 1000;
  }
  expect(saved).toHaveLength(256 + 3 * 50);
});

describe('what a file has is said as it is', () => {
  test.each<[string, Partial<AskedPackets>, boolean]>([
    ['all of the connection', { lost: true }, true],
    ['until the time was over', { by: 'time' }, true],
    ['no beginning, and something was overwritten', { lost: true, packets: PACKETS.slice(1) }, false],
    ['no beginning, and nothing was overwritten: it began before', { packets: PACKETS.slice(1) }, true],
    ['not all', { skipped: true }, false],
    ['as many as there may be', { by: 'limit' }, false],
    ['until the process died', { by: 'died' }, false],
    ['not the packet of the alert', { packets: PACKETS.slice(0, 2) }, false],
  ])('%s', async (_, answer, complete) => {
    evidence.collect(alertOf(1000, 0));
    await answerAll(answer);
    expect(saved).toMatchObject([{ record: { packets: { complete } } }]);
    expect(evidence.status().alerts).toMatchObject(complete ? { written: 1, cut: 0 } : { written: 0, cut: 1 });
  });

  test('times and lengths, also where the clock was set back', async () => {
    evidence.collect(alertOf(1000, 0));
    const [first, second] = PACKETS.slice(3);
    if (first === undefined || second === undefined) throw new Error('no packets');
    await answerAll({ packets: [second, { ...first, time: DEFAULT_START_MICROS - 5e6, length: 9000 }] });
    expect(saved[0]?.record).toMatchObject({
      packets: { count: 2, bytes: 9000 + second.length, first: '2023-11-14T22:13:15.000000Z' },
    });
  });
});

test('no packets, or no room for more flows, is no file', async () => {
  evidence.collect(alertOf(1000, 0));
  await answerAll({ packets: [], by: 'time' });
  evidence.collect(alertOf(1000, 1));
  await answerAll({ packets: [], by: 'busy' });
  evidence.collect(alertOf(1000, 2, { position: { generation: 'lane7-x', offset: 0 } }));
  expect(saved).toEqual([]);
  expect(evidence.status().alerts).toMatchObject({ notFound: 2, busy: 1 });
});

test('what only came after the alert may be another flow with the same ends, and is no file', async () => {
  evidence.collect(alertOf(1000, 0));
  await answerAll({ packets: PACKETS.slice(4) });
  expect(saved).toEqual([]);
  expect(evidence.status().alerts).toMatchObject({ notFound: 1 });
});

test('a full disk costs the file, and nothing after it', async () => {
  refusal = Object.assign(new Error('no room'), { code: 'ENOSPC' });
  evidence.collect(alertOf(1000, 0));
  await answerAll();
  refusal = undefined;
  evidence.collect(alertOf(1000, 1));
  await answerAll();
  expect(saved).toHaveLength(1);
  expect(evidence.status().alerts).toMatchObject({ failed: 1, written: 1 });
  expect(released).toBe(2);
});

describe('what a resource says', () => {
  const of = (keep: 'off' | 'headers' | 'full'): Partial<AttributedAlert> => ({
    seenAt: [{ ...POD, evidence: { 'shop/dpi': keep } }],
  });

  test('off: nothing is asked for', () => {
    evidence.collect(alertOf(1000, 0, of('off')));
    expect(asked).toEqual([]);
  });

  test('headers: no payload is in its file, though another resource of the pod has it', async () => {
    evidence.collect(alertOf(1000, 0, of('headers')));
    evidence.collect(alertOf(1000, 1, { ...of('headers'), resource: 'shop/other' }));
    await answerAll();
    expect(saved.map(({ content }) => content.includes('secret'))).toEqual([false, true]);
  });
});

test('what the flow said is told of each alert, by its own packet', async () => {
  const frames = tcpConversation({
    clientPort: 1000,
    exchange: [
      { from: 'client', data: 'GET /one HTTP/1.1\r\nHost: web\r\n\r\n' },
      { from: 'server', data: 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n' },
      { from: 'client', data: 'GET /two HTTP/1.1\r\nHost: web\r\n\r\n' },
      { from: 'server', data: 'HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n' },
    ],
  });
  const packets = frames.map(({ timeMicros, data }) => ({
    time: timeMicros,
    frame: data,
    length: data.length,
    linkType: 1,
  }));
  const at = (index: number, offset: number): AttributedAlert => {
    const alert = alertOf(1000, offset);
    return { ...alert, alert: { ...alert.alert, timeMicros: packets[index]?.time ?? 0 } };
  };
  const alerts = [at(3, 1), at(5, 2), at(7, 3)];
  for (const alert of alerts) evidence.collect(alert);
  await answerAll({ packets });
  const [first, , last] = alerts;
  if (first === undefined || last === undefined) throw new Error('no alerts');
  expect(saved).toHaveLength(1);
  expect(saved[0]?.record).toMatchObject({
    packets: { count: packets.length },
    outcome: '2xx',
    app: { http: { url: '/one', host: 'web', status: 200 } },
    events: { [eventId(last)]: { outcome: '4xx', app: { http: { url: '/two', status: 403 } } } },
  });
  // Of the second, what is said is what is said of the first.
  expect(JSON.stringify(saved[0]?.record).split('"outcome"')).toHaveLength(3);
});
