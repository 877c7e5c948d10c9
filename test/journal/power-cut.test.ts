/** What a power cut leaves of a journal and a cursor, on a simulated disk that keeps nothing but what was synced. */
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { openJournal } from '../../agent/journal/journal.ts';
import type { Journal } from '../../agent/journal/journal.ts';
import { loadProgress, noProgress, saveProgress } from '../../agent/ship/cursor.ts';
import { createClock } from '../sim/clock.ts';
import type { VirtualClock } from '../sim/clock.ts';
import { createDisk, FAIR } from '../sim/disk.ts';
import type { Disk } from '../sim/disk.ts';

const directory = '/var/log/calico/snort-alerts';
const first = `${directory}/snort-alerts-000000000000.ndjson`;
const options = { directory, segmentSize: 1 << 20, maxSize: 1 << 21, segmentAge: 86_400_000, maxAge: 0, fsync: true };

interface Machine {
  clock: VirtualClock;
  disk: Disk;
}

/** Of what was not synced, nothing is left. */
function createMachine(): Machine {
  const clock = createClock();
  return { clock, disk: createDisk(clock, () => 0, ['/var/log', '/var/lib']) };
}

/** Lets the time pass until `condition` holds. */
async function until({ clock }: Machine, condition: () => boolean): Promise<void> {
  for (;;) {
    await turn();
    if (condition()) return;
    if (!clock.step()) throw new Error(`never: ${String(condition)}`);
  }
}

/** Lets the time pass until it is settled. */
async function passing<T>(machine: Machine, promise: Promise<T>): Promise<T> {
  let settled = false;
  const settle = (): void => void (settled = true);
  promise.then(settle, settle);
  await until(machine, () => settled);
  return promise;
}

/** The process is gone, and what it waited for. */
function end({ clock, disk }: Machine, how: 'kill' | 'power cut'): void {
  clock.clear();
  disk.restart(how);
}

function opening({ clock, disk }: Machine): Promise<Journal> {
  const system = { fileSystem: disk, lock: () => () => undefined, every: clock.every };
  return openJournal(options, undefined, clock.wall, undefined, system);
}

const open = (machine: Machine): Promise<Journal> => passing(machine, opening(machine));

const line = (id: string): { position: string; json: string } => ({
  position: `a:${id}`,
  json: JSON.stringify({ record: { event_id: id } }),
});

test('the folders that a journal made are there after a power cut, with what was appended', async () => {
  const machine = createMachine();
  const journal = await open(machine);
  await passing(machine, journal.append([line('e0')]));
  end(machine, 'power cut');
  expect((await open(machine)).end().event).toBe(1);
});

test('so they are when an earlier try made them and could not sync them', async () => {
  const machine = createMachine();
  const { disk } = machine;
  void opening(machine);
  await until(machine, () => disk.list('/var/log').length > 0);
  end(machine, 'kill');
  await passing(machine, (await open(machine)).append([line('e0')]));
  end(machine, 'power cut');
  expect((await open(machine)).end().event).toBe(1);
});

test('the folders that a cursor made are there after a power cut, with the cursor', async () => {
  const machine = createMachine();
  const { disk } = machine;
  const file = '/var/lib/dpi-agent/sinks/test.cursor.json';
  const cursor = { segment: 0, offset: 10, event: 1 };
  await passing(machine, saveProgress(file, { ...noProgress(), cursor, delivered: 1 }, disk));
  end(machine, 'power cut');
  const { progress } = await passing(machine, loadProgress(file, cursor, disk));
  expect(progress.cursor).toEqual(cursor);
});

test('events that recovery found are there after a power cut: a process that was killed may not have synced them', async () => {
  const machine = createMachine();
  const journal = await open(machine);
  void journal.append([line('e0')]);
  await until(machine, () => Number(machine.disk.peek(first)?.length) > 0);
  end(machine, 'kill');
  expect((await open(machine)).end().event).toBe(1);
  end(machine, 'power cut');
  expect((await open(machine)).end().event).toBe(1);
});

test('an empty segment that a failed rotation left is taken by the next, so that no number is passed over', async () => {
  const machine = createMachine();
  const { disk } = machine;
  const journal = await open(machine);
  await passing(machine, journal.append([line('e0')]));
  const large = { position: 'a:e1', json: JSON.stringify({ padding: 'x'.repeat((1 << 20) - 40) }) };
  const refused = journal.append([large]);
  refused.catch(() => undefined);
  await until(machine, () => disk.list(directory).length === 2);
  disk.weather = { ...FAIR, broken: 1 };
  await expect(passing(machine, refused)).rejects.toThrow('EIO');
  disk.weather = FAIR;
  await passing(machine, journal.append([large]));
  expect(journal.segments().map(({ sequence }) => sequence)).toEqual([0, 1]);
  expect(journal.end().event).toBe(2);
});

test('a segment that a process made, which died before its name was on the disk, is there after a power cut, with what the next one appended', async () => {
  const machine = createMachine();
  const { disk } = machine;
  void opening(machine);
  await until(machine, () => disk.list(directory).length === 1);
  end(machine, 'kill');
  await passing(machine, (await open(machine)).append([line('e0')]));
  end(machine, 'power cut');
  expect((await open(machine)).end().event).toBe(1);
});
