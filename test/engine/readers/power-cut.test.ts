/**
 * What a power cut leaves of alert files that were put aside, read and deleted, on a simulated disk that keeps nothing
 * but what was synced.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, expect, test } from '@jest/globals';
import type { Decoded } from '../../../agent/engine/alert.ts';
import { createAlertJsonDecoder } from '../../../agent/engine/readers/alert-json.ts';
import { createTail, type Tail } from '../../../agent/engine/readers/tail.ts';
import { createClock, type VirtualClock } from '../../sim/clock.ts';
import { createDisk, type Disk } from '../../sim/disk.ts';
import { tailFileSystem } from '../../sim/lane.ts';

const generation = '/var/lib/dpi-agent/lanes/lane0/g';
const output = `${generation}/output`;
const live = `${output}/alert_json.txt`;
const state = `${generation}/state/alert_json.txt.consumed.json`;
const line = (sid: number): Buffer =>
  Buffer.from(`{ "seconds" : 1795308067, "gid" : 1, "sid" : ${sid}, "rev" : 1, "proto" : "ARP" }\n`);
const LENGTH = line(1).length;

let clock: VirtualClock;
let disk: Disk;

beforeEach(() => {
  clock = createClock();
  disk = createDisk(clock, () => 0, ['/var/lib']);
  disk.outside.makeFolder(output);
  disk.outside.makeFolder(`${generation}/state`);
  disk.outside.makeFile(live, line(1).toString());
});

function tailFrom(from: number): Tail {
  return createTail({
    directory: output,
    stateDirectory: `${generation}/state`,
    base: 'alert_json.txt',
    stamped: false,
    decoder: createAlertJsonDecoder(),
    from,
    fileSystem: tailFileSystem(disk),
    after: clock.after,
    notice: () => ({ start: () => undefined, stop: () => undefined }),
  });
}

/** Lets the time pass until `condition` holds. */
async function until(condition: () => boolean): Promise<void> {
  for (;;) {
    await turn();
    if (condition()) return;
    if (!clock.step()) throw new Error(`never: ${String(condition)}`);
  }
}

/** As a process does it. */
function follow(from: number): { items: Decoded[]; tail: Tail; reading: Promise<void> } {
  const tail = tailFrom(from);
  const items: Decoded[] = [];
  const reading = (async () => {
    for await (const batch of tail) items.push(...batch);
  })();
  return { items, tail, reading };
}

/** Two alerts, each in a file of its own, of which the first one is read and let go. */
async function readTwo(): Promise<void> {
  const { items, tail } = follow(0);
  await until(() => items.length === 1);
  disk.outside.rename(live, `${live}.1`);
  disk.outside.append(live, line(2));
  await until(() => items.length === 2);
  void tail.deleteConsumed(LENGTH);
}

function end(how: 'kill' | 'power cut'): void {
  clock.clear();
  disk.restart(how);
}

test('the names of files are on the disk before they are counted as deleted: nothing is read again at another offset', async () => {
  await readTwo();
  await until(() => disk.peek(state)?.includes('"deleting":[]') === true);
  end('power cut');
  const { items, tail, reading } = follow(LENGTH);
  tail.finish();
  let isOver = false;
  void reading.then(() => (isOver = true));
  await until(() => isOver);
  // What the engine wrote since is gone, and the file that was read does not come back.
  expect(items).toEqual([]);
});

test('what a killed process was about to delete is deleted only when that is on the disk', async () => {
  await readTwo();
  await until(() => disk.peek(state) !== undefined);
  end('kill');
  follow(LENGTH);
  await until(() => disk.list(output).length === 1);
  end('power cut');
  expect(disk.peek(state)?.toString()).toContain(`"consumed":${LENGTH}`);
});
