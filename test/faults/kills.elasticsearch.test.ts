/** What dies on the way from the engine's file to Elasticsearch: no event is lost, none is there twice. */
import { expect, test } from '@jest/globals';
import { appendFileSync, existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findTestEngine } from '../support/engines.ts';
import { isAlive } from '../support/live.ts';
import { poll } from '../support/poll.ts';
import { describeFaults } from './support/describe.ts';
import { createRandom, IS_FULL, report, scaled, SEED } from './support/random.ts';
import { alertsMetric, checkBalance, type EngineName, type Rig } from './support/rig.ts';

/** The full campaign's longest case. */
const LONG_MILLIS = 45 * 60_000;

/** Kills the agent at random moments, its start and its end included, while packets flow. */
async function killAtRandom(rig: Rig, name: string, kills: number, perSecond: number, least: number): Promise<void> {
  const random = createRandom(name);
  const flow = rig.flow(perSecond);
  const moments: number[] = [];
  for (let count = 0; count < kills; count++) {
    const agent = rig.start();
    // Some in its start, most while alerts come.
    const isEarly = random() < 0.2;
    if (!isEarly) await agent.logged(({ msg }) => msg === 'capturing');
    const moment = random() * 2000;
    moments.push(Math.round(moment));
    await sleep(moment);
    if (random() < 0.1) {
      process.kill(agent.pid, 'SIGTERM');
      await sleep(random() * 500);
    }
    await agent.kill();
  }
  await rig.startAndCapture();
  for (const end = performance.now() + LONG_MILLIS; rig.truth.read().positions.size < least; await sleep(250)) {
    if (performance.now() > end) throw new Error(`fewer than ${least} alerts`);
  }
  flow.stop();
  process.stderr.write(`${name}: seed ${SEED}, killed after ${moments.slice(0, 20).join(', ')} ms\n`);
}

describeFaults(({ engine, rig: open, elasticsearch }) => {
  const engines: EngineName[] = IS_FULL
    ? (['snort', 'suricata'] as const).filter((name) => findTestEngine(name))
    : [engine];

  test.each(engines)(
    'an agent killed again and again while alerts flow delivers each once (%s)',
    async (name) => {
      const rig = await open({ name: 'kill', engine: name });
      const kills = scaled(6, 200);
      await killAtRandom(rig, `kill ${name}`, kills, 100, scaled(1000, 20_000));
      report(`${kills} kills of the agent (${name})`, await rig.checkExact());
    },
    LONG_MILLIS,
  );

  test(
    'so does one that folds alerts: the counts of its events add up to what the engine wrote',
    async () => {
      const rig = await open({ name: 'fold', config: { alerts: { burst: 20, ratePerSecond: 1, foldMillis: '1s' } } });
      const kills = scaled(6, 200);
      await killAtRandom(rig, 'fold', kills, 100, scaled(800, 20_000));
      const found = await rig.settled();
      checkBalance(found);
      expect(await rig.agent().end()).toBe(0);
      const written = rig.truth.read().positions.size;
      const indexed = await rig.indexed();
      const count = (events: typeof indexed): number =>
        events.reduce((sum, { record }) => sum + (record.count ?? 1), 0);
      const journaled = rig.journaled();
      expect({ journaled: count(journaled), indexed: count(indexed), documents: indexed.length }).toEqual({
        journaled: written,
        indexed: written,
        documents: journaled.length,
      });
      // Else nothing was folded.
      expect(indexed.length).toBeLessThan(written / 2);
      report(`${kills} kills of the agent that folds`, { alerts: written, documents: indexed.length });
    },
    LONG_MILLIS,
  );

  test(
    'capture process, engine and Elasticsearch are killed while alerts flow, and come again',
    async () => {
      const rig = await open({ name: 'parts' });
      const random = createRandom('parts');
      const agent = await rig.startAndCapture();
      const flow = rig.flow(100);
      for (let round = 0; round < scaled(1, 20); round++) {
        for (const part of ['capture', 'engine', 'elasticsearch'] as const) {
          await sleep(random() * 1500);
          const from = agent.log.length;
          if (part === 'elasticsearch') {
            await elasticsearch().kill();
            await sleep(random() * 3000);
            await elasticsearch().restart();
            continue;
          }
          const pid = agent.child(part);
          if (pid === undefined) throw new Error(`no pid of the ${part}`);
          process.kill(pid, 'SIGKILL');
          await agent.logged(({ msg }) => msg === 'engine reads packets', from);
        }
      }
      await sleep(1000);
      flow.stop();
      const exact = await rig.checkExact();
      expect(exact.generations).toBeGreaterThan(1);
      report('kills of capture, engine and Elasticsearch', exact);
    },
    LONG_MILLIS,
  );

  test('half a line at the end of what a dead engine wrote is counted, and the rest is exact', async () => {
    const rig = await open({ name: 'torn' });
    const agent = await rig.startAndCapture();
    const flow = rig.flow(200);
    await poll(() => rig.truth.read().positions.size > 0);
    const orphan = agent.child('engine');
    if (orphan === undefined) throw new Error('no pid of the engine');
    await agent.kill();
    // It ends with its input.
    await poll(() => !isAlive(orphan));
    // What it would have written had it been killed in a line:
    const lane = join(rig.state, 'lanes/lane0');
    const torn = readdirSync(lane).flatMap((generation) =>
      ['alert_json.txt', 'eve.json']
        .map((name) => join(lane, generation, 'output', name))
        .filter((path) => existsSync(path)),
    );
    expect(torn).toHaveLength(1);
    for (const path of torn) appendFileSync(path, '{"seconds" : 1700000000, "timestamp" : "24/09');
    await rig.startAndCapture();
    await sleep(500);
    flow.stop();
    const found = await rig.settled();
    expect(found.get(alertsMetric('unparsable'))).toBe(1);
    const exact = await rig.checkExact();
    expect(exact.broken).toBe(1);
    report('a torn line', exact);
  });

  const faketime = findFaketime();
  const testWithFaketime = faketime === undefined ? test.skip : test;
  if (faketime === undefined) process.stderr.write('skipped: libfaketime is not installed\n');
  testWithFaketime(
    'alerts find their owners while the clock jumps an hour to and fro',
    async () => {
      const rig = await open({ name: 'clock' });
      const stamp = join(rig.directory, 'clock');
      const set = (hours: number): void => writeFileSync(stamp, `${hours < 0 ? '' : '+'}${hours * 3600}\n`);
      const environment = {
        LD_PRELOAD: faketime,
        FAKETIME_TIMESTAMP_FILE: stamp,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      };
      const random = createRandom('clock');
      // Of the agent only; packets have the kernel's time, so they flow while the agent has it too.
      const flow = async (): Promise<void> => {
        const running = rig.flow(100);
        await sleep(500 + random() * 500);
        running.stop();
      };
      for (const first of [1, -1, ...Array.from({ length: scaled(0, 20) }, () => (random() < 0.5 ? 1 : -1))]) {
        set(first);
        await rig.startAndCapture(environment);
        for (const hours of [-first, undefined]) {
          set(0);
          await flow();
          const found = await rig.settled();
          expect(found.get(alertsMetric('unattributed'))).toBe(0);
          if (hours === undefined) continue;
          const from = rig.agent().log.length;
          set(hours);
          await rig.agent().logged(({ msg }) => msg === 'the clock was set', from);
        }
        await flow();
        // Nothing took the clock's step for silence.
        expect(rig.agent().log.filter(({ level }) => level === 'error')).toEqual([]);
        // Some alerts are unread; the next agent begins with another time.
        await rig.agent().kill();
      }
      set(0);
      await rig.startAndCapture(environment);
      await flow();
      report('the clock set', await rig.checkExact());
    },
    LONG_MILLIS,
  );
});

/** The library that `$DPI_AGENT_TEST_LIBFAKETIME` names, or that of Debian's package. */
function findFaketime(): string | undefined {
  const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch as string] ?? process.arch;
  const candidates = [
    process.env['DPI_AGENT_TEST_LIBFAKETIME'],
    `/usr/lib/${machine}-linux-gnu/faketime/libfaketime.so.1`,
  ];
  return candidates.find((path) => path !== undefined && existsSync(path));
}
