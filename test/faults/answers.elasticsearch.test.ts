/**
 * What Elasticsearch and the network answer, and what pods send, on the whole way: each alert is a document or a dead
 * letter, once.
 */
import { expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MARKER } from '../support/agent.ts';
import { poll } from '../support/poll.ts';
import type { EsFault } from '../support/es-proxy.ts';
import { describeFaults } from './support/describe.ts';
import { createRandom, report, scaled } from './support/random.ts';
import { checkBalance, expectSame, sinkMetric } from './support/rig.ts';

const LONG_MILLIS = 20 * 60_000;
/** How often what was lost on the way to the engine is sent again. */
const ROUNDS = 10;
const PASSWORD = 'the right password';

describeFaults(
  ({ engine, rig: open, lab, pod }) => {
    const openWithPassword = (options: Parameters<typeof open>[0], password = PASSWORD): ReturnType<typeof open> =>
      open({
        ...options,
        prepare(directory) {
          const passwordFile = join(directory, 'password');
          writeFileSync(passwordFile, password);
          return {
            ...options.prepare?.(directory),
            sinks: { elasticsearch: { username: 'agent', passwordFile } },
          };
        },
      });

    test(
      'answers of all kinds, cut ones and none: each alert is a document or a dead letter, once',
      async () => {
        const rig = await openWithPassword({ name: 'answers', sink: { batchEvents: 20, timeoutMillis: '1s' } });
        const random = createRandom('answers');
        const isRefused = (id: string): boolean => Number.parseInt(id.slice(0, 2), 16) < 4;
        const items = (id: string): { status: number; type: string } | undefined => {
          if (isRefused(id)) return { status: 400, type: 'document_parsing_exception' };
          const dice = random();
          if (dice < 0.05) return { status: 429, type: 'es_rejected_execution_exception' };
          if (dice < 0.1) return { status: 503, type: 'unavailable_shards_exception' };
          return undefined;
        };
        const faults: (EsFault | undefined)[] = [
          { type: 'cut' },
          { type: 'hang' },
          { type: 'hang', applied: true },
          { type: 'reset' },
          { type: 'answer', status: 413, body: '' },
          { type: 'answer', status: 429, body: '{}' },
          { type: 'answer', status: 503, body: '<html>' },
          { type: 'answer', status: 200, body: '{"items":' },
        ];
        let bulks = 0;
        rig.proxy.fault = ({ path, ids }) => {
          if (!path.includes('/_bulk')) return undefined;
          const fault = ++bulks % 3 === 0 ? faults[(bulks / 3) % faults.length] : undefined;
          // What Elasticsearch refuses, it refuses each time: it may not get it by a fault of another kind.
          const reaches = fault?.type === 'cut' || (fault?.type === 'hang' && fault.applied === true);
          return fault === undefined || (reaches && ids.some(isRefused)) ? { type: 'items', status: items } : fault;
        };
        await rig.startAndCapture();
        const flow = rig.flow(80);
        await sleep(scaled(8, 120) * 1000);
        await rig.agent().kill();
        await rig.startAndCapture();
        await sleep(scaled(2, 30) * 1000);
        await poll(() => bulks >= 3 * faults.length && rig.deadLetters().length > 0);
        flow.stop();
        // Single faults would go on for ever by chance: the last answers are as they should be, but for what is refused
        // for good.
        rig.proxy.fault = () => ({
          type: 'items',
          status: (id) => (isRefused(id) ? { status: 400, type: 'document_parsing_exception' } : undefined),
        });
        const found = await rig.settled();
        checkBalance(found);
        expect(await rig.agent().end()).toBe(0);
        const { positions } = rig.truth.read();
        const dead = rig.deadLetters();
        expectSame(
          [...(await rig.indexed()), ...dead].map(({ record }) => record.position),
          positions,
          'Elasticsearch and the dead letters',
        );
        expect(dead.length).toBeGreaterThan(0);
        expect(found.get(sinkMetric('dead_lettered'))).toBe(dead.length);
        report('answers of all kinds', {
          alerts: positions.size,
          'dead letters': dead.length,
          requests: rig.proxy.bulks().length,
        });
      },
      LONG_MILLIS,
    );

    test('with the wrong password alerts wait, and with the right one each is delivered', async () => {
      const rig = await openWithPassword({ name: 'password' }, 'wrong');
      await rig.startAndCapture();
      const flow = rig.flow(100);
      const metric = 'dpi_agent_sink_failures_total{sink="elasticsearch",reason="unauthorized"}';
      await poll(async () => (await rig.metric(metric)) > 0);
      flow.stop();
      expect(await rig.indexed()).toEqual([]);
      writeFileSync(join(rig.directory, 'password'), PASSWORD);
      report('a wrong password', await rig.checkExact());
    });

    test(
      'a flood that the sink cannot follow is inspected to the last packet, folded, and counted exactly',
      async () => {
        const rig = await openWithPassword({
          name: 'flood',
          sink: { batchEvents: 10 },
          config: { alerts: { burst: 50, ratePerSecond: 1, foldMillis: '1s' } },
        });
        // 20 events a second.
        rig.proxy.fault = ({ path }) => (path.includes('/_bulk') ? { type: 'slow', millis: 500 } : undefined);
        await rig.startAndCapture();
        const flow = rig.flow(2000);
        while (flow.sent() < scaled(10_000, 120_000)) await sleep(50);
        flow.stop();
        const found = await rig.settled();
        checkBalance(found);
        expect(await rig.agent().end()).toBe(0);
        const written = rig.truth.read().positions.size;
        const dropped = [...found]
          .filter(([name]) => /^dpi_agent_packets_total\{.*outcome="dropped/.test(name))
          .reduce((sum, [, value]) => sum + value, 0);
        expect(written).toBe(flow.sent() - dropped);
        const journaled = rig.journaled();
        const indexed = await rig.indexed();
        const count = (events: typeof indexed): number =>
          events.reduce((sum, { record }) => sum + (record.count ?? 1), 0);
        expect({ journaled: count(journaled), indexed: count(indexed) }).toEqual({
          journaled: written,
          indexed: written,
        });
        expect(journaled.length).toBe(indexed.length);
        expect(journaled.length).toBeLessThan(written / 20);
        report('a flood', { packets: flow.sent(), dropped, alerts: written, documents: indexed.length });
      },
      LONG_MILLIS,
    );

    test(
      'hostile payloads and a thousand messages come through as text that is safe to print',
      async () => {
        const rules = scaled(1000, 10_000);
        const hostile = [
          Buffer.from(`\n{"sid":1}\n${MARKER}\r\n\0`),
          Buffer.from(`\u001b[31m${MARKER}\u001b]0;title\u0007`),
          Buffer.concat([Buffer.from([0xff, 0xfe, 0xc0, 0x80, 0xed, 0xa0, 0x80]), Buffer.from(MARKER)]),
          Buffer.from(`"}\\",${MARKER}${'"\\'.repeat(500)}`),
          Buffer.from(`${MARKER}${'\xff'.repeat(60_000)}`, 'latin1').subarray(0, 60_000),
        ];
        const names = Array.from({ length: rules }, (_, index) => `m${String(index).padStart(5, '0')}!`);
        const rig = await openWithPassword({
          name: 'hostile',
          config: { evidence: { maxBytes: 65_535 } },
          rules: [
            `alert ip any any -> any any ( msg:"TEST marker"; content:"${MARKER}"; sid:9000001; rev:1; )`,
            ...names.map(
              (name, index) =>
                `alert ip any any -> any any ( msg:"${name} caf\u00e9 \\"quoted\\" \u202e %s <b>"; content:"${name}"; sid:${1_000_000 + index}; rev:1; )`,
            ),
            '',
          ].join('\n'),
        });
        for (const [netns, device] of [
          [pod().netns, 'eth0'],
          [lab().node, pod().interface],
        ] as const) {
          lab().exec(netns, 'ip', 'link', 'set', device, 'mtu', '65535');
        }
        await rig.startAndCapture();
        let missing = names;
        for (let round = 0; missing.length > 0; round++) {
          if (round === ROUNDS) throw new Error(`never journaled: ${missing.slice(0, 5).join(' ')}`);
          for (const [index, name] of missing.entries()) {
            rig.packet(name);
            const payload = hostile[index % (10 * hostile.length)];
            if (payload !== undefined) rig.packet(payload);
            if (index % 20 === 0) await sleep(50);
          }
          await rig.settled();
          const journaled = new Set(rig.journaled().map(({ record }) => record.message.split(' ')[0]));
          missing = names.filter((name) => !journaled.has(name));
        }
        const exact = await rig.checkExact();
        const documents = await rig.indexed();
        const messages = new Set(documents.map(({ record }) => record.message));
        expect(messages.size).toBe(rules + 1);
        // eslint-disable-next-line no-control-regex
        const unsafe = /[\x00-\x1f\x7f-\x9f]/;
        expect(documents.filter(({ record }) => unsafe.test(record.message + record.snort_alert))).toEqual([]);
        expect(Math.max(...documents.map(({ record }) => record.payload_bytes ?? 0))).toBeGreaterThan(50_000);
        report(`hostile content (${engine})`, { ...exact, messages: messages.size });
      },
      LONG_MILLIS,
    );
  },
  { users: { agent: { password: PASSWORD, roles: ['superuser'] } } },
);
