/**
 * Disks that are full and journals that are too small on the way to Elasticsearch: what could not be kept is counted,
 * all else is exact.
 */
import { expect, test } from '@jest/globals';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MARKER } from '../support/agent.ts';
import { poll } from '../support/poll.ts';
import { describeFaults } from './support/describe.ts';
import { createRandom, report, scaled } from './support/random.ts';
import { checkBalance, expectSame, fillDisk, sinkMetric, type Rig } from './support/rig.ts';

const LONG_MILLIS = 20 * 60_000;
/** With evidence, an event of about 3 KB. */
const LARGE = `${MARKER} ${'x'.repeat(1000)}`;

const written = (rig: Rig): number => rig.truth.read().positions.size;

describeFaults(({ engine, rig: open }) => {
  test(
    'alerts wait while the journal has no room, readiness says so, and each is delivered once there is some',
    async () => {
      const rig = await open({ name: 'journal-full', tmpfs: [{ folder: 'journal', mebibytes: 16 }] });
      const random = createRandom('journal-full');
      await rig.startAndCapture();
      const flow = rig.flow(100);
      for (let round = 0; round < scaled(2, 10); round++) {
        await sleep(500 + random() * 500);
        const free = fillDisk(rig.journalDirectory);
        await poll(async () => {
          const { status, text } = await rig.readiness();
          return status === 503 && /ENOSPC|no space|full/i.test(text);
        });
        const before = written(rig);
        await poll(() => written(rig) > before + 50);
        if (round % 2 === 1) {
          // It starts and waits for room, too.
          await rig.agent().kill();
          rig.start();
          await sleep(random() * 1500);
        }
        free();
        await poll(async () => (await rig.readiness().catch(() => ({ status: 0 }))).status === 200);
      }
      await sleep(500);
      flow.stop();
      report('full disk of the journal', await rig.checkExact());
    },
    LONG_MILLIS,
  );

  test(
    'without room for cursor and dead letters nothing is lost, doubled or forgotten, a kill included',
    async () => {
      const rig = await open({ name: 'state-full', tmpfs: [{ folder: 'state/sinks', mebibytes: 8 }] });
      const random = createRandom('state-full');
      const isRefused = (id: string): boolean => Number.parseInt(id.slice(0, 2), 16) < 26;
      rig.proxy.fault = () => ({
        type: 'items',
        status: (id) => (isRefused(id) ? { status: 400, type: 'document_parsing_exception' } : undefined),
      });
      await rig.startAndCapture();
      const flow = rig.flow(100);
      for (let round = 0; round < scaled(2, 10); round++) {
        await sleep(500 + random() * 500);
        const free = fillDisk(join(rig.state, 'sinks'));
        const before = written(rig);
        await poll(() => written(rig) > before + 100);
        // Inspection goes on without them.
        await poll(async () => (await rig.readiness()).status === 200);
        if (round % 2 === 1) {
          await rig.agent().kill();
          await rig.startAndCapture();
        }
        await sleep(random() * 500);
        free();
      }
      await sleep(1000);
      flow.stop();
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
      expect(dead.every(({ record }) => isRefused(record.event_id))).toBe(true);
      expect(found.get(sinkMetric('dead_lettered'))).toBe(dead.length);
      report('full disk of cursor and dead letters', { alerts: positions.size, 'dead letters': dead.length });
    },
    LONG_MILLIS,
  );

  const testWithSnort = engine === 'snort' ? test : test.skip;
  if (engine !== 'snort') process.stderr.write('skipped: rotation under a full disk needs Snort 3, which rotates\n');
  testWithSnort(
    'files that the engine rotated before anybody read them are read in order, each alert once',
    async () => {
      const extra = { path: '' };
      const rig = await open({
        name: 'rotation',
        tmpfs: [{ folder: 'journal', mebibytes: 32 }],
        prepare(directory) {
          extra.path = join(directory, 'extra.lua');
          mkdirSync(directory, { recursive: true });
          writeFileSync(extra.path, 'alert_json.limit = 1\n');
          return { engine: { extraConfig: extra.path } };
        },
      });
      await rig.startAndCapture();
      const free = fillDisk(rig.journalDirectory);
      const flow = rig.flow(300, LARGE);
      const least = scaled(3, 12);
      await poll(() => rig.truth.read().files > least);
      // Some of it under the eyes of an agent that was killed.
      await rig.agent().kill();
      rig.start();
      free();
      await sleep(3000);
      flow.stop();
      const exact = await rig.checkExact();
      expect(exact.files - exact.generations).toBeGreaterThanOrEqual(least);
      report('rotation with unread alerts', exact);
    },
    LONG_MILLIS,
  );

  test(
    'events that retention deleted before Elasticsearch came back are counted, exactly',
    async () => {
      const rig = await open({ name: 'evicted', journal: { segmentSize: '1MiB', maxSize: '2MiB' } });
      await rig.startAndCapture();
      const flow = rig.flow(200, LARGE);
      await sleep(1000);
      rig.proxy.fault = () => ({ type: 'reset' });
      const evictedNow = (): Promise<number> => rig.metric('dpi_agent_journal_evicted_events_total');
      while ((await evictedNow()) <= scaled(500, 5000)) await sleep(50);
      flow.stop();
      checkBalance(await rig.atRest());
      rig.proxy.fault = undefined;
      const found = await rig.settled();
      checkBalance(found);
      expect(await rig.agent().end()).toBe(0);
      const { positions } = rig.truth.read();
      const documents = (await rig.indexed()).map(({ record }) => record.position);
      const evicted = positions.size - documents.length;
      expect(new Set(documents).size).toBe(documents.length);
      expect(documents.filter((position) => !positions.has(position))).toEqual([]);
      expect(evicted).toBeGreaterThan(0);
      expect({
        journaled: found.get('dpi_agent_journal_events_total'),
        delivered: found.get(sinkMetric('delivered')),
        evicted: found.get(sinkMetric('evicted')),
      }).toEqual({ journaled: positions.size, delivered: documents.length, evicted });
      // What is in the journal still was delivered.
      expect(rig.journaled().filter(({ record }) => !documents.includes(record.position))).toEqual([]);
      report('Elasticsearch away for longer than retention allows', { alerts: positions.size, evicted });
    },
    LONG_MILLIS,
  );
});
