/**
 * One sink in a process of its own, so that its memory is seen:  node dist/bench/sink-load.js SINK EVENTS PACED
 * SINK is an entry of `sinks`, in JSON. A backlog of so many events is sent as fast as it goes; then events are journaled
 * one by one, a few milliseconds apart, and each is timed until it is delivered. Prints what it measured, in JSON.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { pino } from 'pino';
import { loadConfig } from '../agent/config/load.ts';
import { openJournal, type Journal } from '../agent/journal/journal.ts';
import type { SinkStatus } from '../agent/ship/sink.ts';
import { startSinks, type Sinks } from '../agent/sinks.ts';
import { eventLine } from './event-line.ts';

export interface SinkLoad {
  eventsPerSecond: number;
  /** From the journal's append until the destination confirmed it. */
  millis: number[];
  /** Bytes: before the sink was made, and the largest while it sent. */
  rssBefore: number;
  rssMost: number;
  /** Bytes after a collection, before the sink was made and after it sent. */
  heapBefore: number;
  heapAfter: number;
  /** Of this process, per event of the backlog. */
  cpuMicros: number;
}

const APPEND = 500;
const PACE_MILLIS = 5;
/** Without progress for so long, it is given up. */
const STUCK_MILLIS = 60_000;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const [entry = '{}', events = '1000', paced = '100'] = process.argv.slice(2);
const directory = mkdtempSync(join(tmpdir(), 'dpi-sink-load-'));
process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
process.stdout.write(JSON.stringify(await measure(JSON.parse(entry), Number(events), Number(paced))));
process.exit();

async function measure(sink: unknown, backlog: number, count: number): Promise<SinkLoad> {
  const flags = { sinks: [sink], stateDirectory: directory, 'journal.directory': join(directory, 'journal') };
  const loaded = loadConfig({ env: {}, flags }, () => 'bench-node');
  if ('errors' in loaded) throw new Error(loaded.errors.map(({ message }) => message).join('\n'));
  const journal = await openJournal(loaded.config.journal);
  for (let first = 0; first < backlog; first += APPEND) {
    const size = Math.min(APPEND, backlog - first);
    await journal.append(Array.from({ length: size }, (_, index) => eventLine(first + index)));
  }
  collect();
  const before = process.memoryUsage();
  const cpu = process.cpuUsage();
  const started = performance.now();
  const sinks = await startSinks({ config: loaded.config, journal, log: pino({ level: 'silent' }) });
  let rssMost = before.rss;
  const watching = setInterval(() => (rssMost = Math.max(rssMost, process.memoryUsage.rss())), 20);
  await reach(sinks, backlog);
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const millis = await timeEach(sinks, journal, backlog, count);
  clearInterval(watching);
  collect();
  const heapAfter = process.memoryUsage().heapUsed;
  await sinks.stop();
  await journal.close();
  return {
    eventsPerSecond: backlog / seconds,
    millis,
    rssBefore: before.rss,
    rssMost,
    heapBefore: before.heapUsed,
    heapAfter,
    cpuMicros: (user + system) / backlog,
  };
}

/** @throws Error when it gets no further, with the sink's last error; or when it refuses an event. */
async function reach(sinks: Sinks, delivered: number): Promise<void> {
  let last = { delivered: -1, at: performance.now() };
  for (;;) {
    const status = statusOf(sinks);
    if (status.deadLettered > 0) throw new Error(`an event was refused: ${status.lastError ?? ''}`);
    if (status.delivered >= delivered) return;
    if (status.delivered !== last.delivered) last = { delivered: status.delivered, at: performance.now() };
    if (performance.now() - last.at > STUCK_MILLIS) throw new Error(`it stands still: ${status.lastError ?? ''}`);
    await sleep(2);
  }
}

function statusOf(sinks: Sinks): SinkStatus {
  const [status] = sinks.status();
  if (status === undefined) throw new Error('no sink');
  return status;
}

async function timeEach(sinks: Sinks, journal: Journal, first: number, count: number): Promise<number[]> {
  const appended: number[] = [];
  const millis: number[] = [];
  const note = (): void => {
    const done = Math.min(statusOf(sinks).delivered - first, appended.length);
    for (; millis.length < done;) millis.push(performance.now() - (appended[millis.length] ?? 0));
  };
  const noting = setInterval(note, 1);
  for (let number = 0; number < count; number += 1) {
    appended.push(performance.now());
    await journal.append([eventLine(first + number)]);
    await sleep(PACE_MILLIS);
  }
  await reach(sinks, first + count);
  note();
  clearInterval(noting);
  return millis;
}
