/**
 * One seed is one run of dead letters: a sink sets events aside, and redrives take them, send them once more and put
 * back what is refused, while disk and destination fail; either is killed within any call, and the machine loses power.
 * At last nothing fails any more, and a redrive has sent all that is not refused.
 *
 * 30. A letter whose append was confirmed is in the folder, or with a redrive, or at the destination.
 * 31. A redrive's counts make up what it took, and the destination has what it counts as delivered.
 * 32. In the end no letter is left but those that the destination refuses.
 * 35. A letter is with one redrive at a time: what one sends, no other sends while that one runs.
 * 36. Only who has the lock of a folder changes a file of letters in it.
 */
import { basename, dirname } from 'node:path';
import { redriveLetters } from '../../../agent/ship/redrive.ts';
import { errorCode } from '../../../agent/files/errors.ts';
import type { FileSystem } from '../../../agent/files/file-system.ts';
import { JournalError } from '../../../agent/journal/journal.ts';
import {
  createLetterWriter,
  type DeadLetter,
  type LetterSystem,
  type TakingSystem,
} from '../../../agent/ship/dead-letter.ts';
import type { Destination } from '../../../agent/ship/destination.ts';
import { seeded } from '../../support/random.ts';
import { createClock, turn, type VirtualClock } from '../clock.ts';
import { createDestination, DELIVERIES, MOODS, type ScriptedDestination } from '../destination.ts';
import { createDisk, FAIR, type Disk } from '../disk.ts';
import { linesOf } from '../oracle.ts';
import { MINUTE, pick } from '../plan.ts';

const FOLDER = '/var/lib/dpi-agent/sinks/test-dead-letters';
const REDRIVING = `${FOLDER}/redriving`;
const MAX_SIZE = 64 << 20;
const MAX_STEPS = 100_000;
const PAUSES = [1000, 4000] as const;

export interface LettersResult {
  /** The obligation, and how. */
  broken?: string;
  letters: number;
  redrives: number;
  kills: number;
  powerCuts: number;
  /** The same for the same seed. */
  digest: number;
}

/** A process, which holds locks until it ends. */
interface Mortal {
  isDead: boolean;
  /** Ids of letters that it sent. */
  sent: Set<string>;
}

const born = (): Mortal => ({ isDead: false, sent: new Set() });

interface Machine {
  clock: VirtualClock;
  disk: Disk;
  destination: ScriptedDestination;
  random: () => number;
  /** By folder. */
  locks: Map<string, Mortal>;
  /** Redrives that run. */
  redriving: Set<Mortal>;
  /** How often a process dies within a call of the disk, 0..1. */
  deadly: number;
  /** Ids by the numbers of letters that are on the disk. */
  confirmed: Map<number, string>;
  next: number;
  counts: Omit<LettersResult, 'broken'>;
  broken: string | undefined;
}

/** @param trace Called with each call of the disk and each send. */
export async function simulateLetters(seed: number, trace?: (line: string) => void): Promise<LettersResult> {
  const machine = createMachine(seed);
  const { clock, disk, destination, random, counts } = machine;
  disk.trace = trace;
  destination.trace = trace;
  const lives = Math.ceil(random() * 3);
  const weather = changeWeather(machine);
  for (let life = 0; life < lives && machine.broken === undefined; life++) {
    const agent = born();
    let isOver = false;
    clock.after(random() * 3 * MINUTE, () => (isOver = true));
    void writeLetters(machine, agent);
    void redriveAgain(machine);
    await step(machine, () => isOver);
    clock.clear();
    machine.locks.clear();
    machine.redriving.clear();
    const isPowerCut = random() < 0.5;
    if (isPowerCut) counts.powerCuts += 1;
    disk.restart(isPowerCut ? 'power cut' : 'kill');
    check(machine);
  }
  weather.end();
  Object.assign(machine, { deadly: 0 });
  let isDone = false;
  redrive(machine, born()).then(
    () => (isDone = true),
    (error: unknown) => fail(machine, 32, String(error)),
  );
  await step(machine, () => isDone);
  check(machine);
  checkLeft(machine);
  counts.letters = machine.confirmed.size;
  counts.digest = disk.digest();
  return { ...(machine.broken === undefined ? {} : { broken: machine.broken }), ...counts };
}

function createMachine(seed: number): Machine {
  const random = seeded(seed);
  const clock = createClock();
  return {
    clock,
    disk: createDisk(clock, seeded(seed + 0x1000_0000), ['/var/lib/dpi-agent/sinks']),
    destination: createDestination({
      clock,
      random: seeded(seed + 0x2000_0000),
      bad: pick(random, [0, 0.3]),
      delivery: DELIVERIES[seed % DELIVERIES.length] ?? 'whole',
    }),
    random: seeded(seed + 0x3000_0000),
    locks: new Map(),
    redriving: new Set(),
    deadly: pick(random, [0, 0.002, 0.02]),
    confirmed: new Map(),
    next: 0,
    counts: { letters: 0, redrives: 0, kills: 0, powerCuts: 0, digest: 0 },
    broken: undefined,
  };
}

function fail(machine: Machine, obligation: number, message: string): void {
  machine.broken ??= `obligation ${obligation}: ${message}`;
}

async function step(machine: Machine, isOver: () => boolean): Promise<void> {
  for (let steps = 0; machine.broken === undefined; steps++) {
    await turn();
    if (isOver()) return;
    if (steps > MAX_STEPS || !machine.clock.step()) fail(machine, 32, 'it does not come to an end');
  }
}

/** What fails changes every some seconds. */
function changeWeather({ clock, disk, destination, random }: Machine): { end(): void } {
  let isOver = false;
  (function change(): void {
    if (isOver) return;
    const some = (most: number): number => (random() < 0.25 ? most * random() : 0);
    disk.weather =
      random() < 0.4 ? { full: some(0.5), broken: some(0.1), short: some(1), late: some(1), lost: 0 } : FAIR;
    destination.mood = random() < 0.4 ? 'well' : pick(random, MOODS);
    clock.outside(random() * 20_000, change);
  })();
  return {
    end() {
      isOver = true;
      disk.weather = FAIR;
      destination.mood = 'well';
      destination.kind = true;
    },
  };
}

/** As a sink does: a batch that was not confirmed comes again, also in the next life. */
async function writeLetters(machine: Machine, agent: Mortal): Promise<void> {
  const { clock, random, disk, confirmed } = machine;
  const writer = createLetterWriter(undefined, {
    after: clock.after,
    exists: (file) => machine.locks.has(file.slice(0, file.lastIndexOf('/'))) || disk.facts(file) !== undefined,
  });
  const system = systemOf(machine, agent);
  for (;;) {
    await clock.sleep(random() * pick(random, [100, 5000]));
    const letters = Array.from({ length: Math.ceil(random() * 5) }, (_, index) => letterOf(machine.next + index));
    for (;;) {
      try {
        await writer.append({ directory: FOLDER, maxSize: MAX_SIZE, letters, now: clock.wall, system });
        break;
      } catch (error) {
        if (!isExpected(error)) return fail(machine, 30, `a letter is not taken: ${String(error)}`);
      }
      await clock.sleep(1000);
    }
    for (const letter of letters) confirmed.set(letter.number, idOf(letter) ?? '');
    machine.next += letters.length;
  }
}

function letterOf(number: number): DeadLetter {
  // Its first digits decide what the destination makes of it.
  const id = Math.imul(number + 1, 0x9e37_79b1) >>> 0;
  const record = { event_id: `${id.toString(16).padStart(8, '0')}-${number}` };
  return { time: '2026-01-02T00:00:00Z', number, reason: 'refused', attempts: 1, event: { record } };
}

function idOf({ event }: Pick<DeadLetter, 'event'>): string | undefined {
  return (event as { record?: { event_id?: string } } | undefined)?.record?.event_id;
}

const isExpected = (error: unknown): boolean => error instanceof JournalError || errorCode(error) !== undefined;

/** Somebody redrives from time to time, also twice at once. */
async function redriveAgain(machine: Machine): Promise<void> {
  const { clock, random, counts } = machine;
  for (;;) {
    await clock.sleep(random() * pick(random, [1000, MINUTE, MINUTE, MINUTE]));
    counts.redrives += 1;
    void redrive(machine, born()).catch((error: unknown) => {
      if (!isExpected(error)) fail(machine, 31, String(error));
    });
  }
}

async function redrive(machine: Machine, process: Mortal): Promise<void> {
  const { clock, redriving } = machine;
  redriving.add(process);
  const counts = await redriveLetters({
    directory: FOLDER,
    maxSize: MAX_SIZE,
    destination: watched(machine, process),
    signal: new AbortController().signal,
    pauses: PAUSES,
    now: clock.wall,
    system: systemOf(machine, process),
  }).finally(() => redriving.delete(process));
  const { letters, delivered, refused, left } = counts;
  if (letters !== delivered + refused + left)
    fail(machine, 31, `of ${letters} letters ${delivered} were delivered, ${refused} refused, ${left} left`);
}

/** The destination as a redrive has it. */
function watched(machine: Machine, process: Mortal): Destination {
  const { destination, redriving } = machine;
  return {
    async send(items, signal) {
      for (const { id, number } of items) {
        const other = [...redriving].some(({ isDead, sent }) => !isDead && sent !== process.sent && sent.has(id));
        if (other) fail(machine, 35, `letter ${number} is sent by two redrives at a time`);
        process.sent.add(id);
      }
      return destination.send(items, signal);
    },
    close: () => destination.close(),
  };
}

/** The machine as a process has it, which may die within any call. */
function systemOf(machine: Machine, process: Mortal): TakingSystem & LetterSystem {
  const { clock, disk, locks } = machine;
  const fileSystem = mortal(machine, process, disk);
  const removing = (directory: string): void => {
    if (locks.get(REDRIVING) !== process) fail(machine, 36, `${basename(directory)} goes without the lock of redrives`);
  };
  return {
    fileSystem,
    lock(directory) {
      if (locks.has(directory)) throw new JournalError('ELOCKED', directory, 'another one has it');
      locks.set(directory, process);
      return () => {
        if (locks.get(directory) === process) locks.delete(directory);
      };
    },
    every: clock.every,
    clock,
    date: () => clock.date(),
    remove: (directory) => unlessDead(machine, process, () => (removing(directory), disk.rm(directory))),
  };
}

function mortal(machine: Machine, process: Mortal, disk: FileSystem): FileSystem {
  const guard = <T>(call: () => Promise<T>): Promise<T> => unlessDead(machine, process, call);
  const changing = (path: string): void => {
    const holder = machine.locks.get(dirname(path));
    if (path.endsWith('.ndjson') && dirname(path) === FOLDER && holder !== process)
      fail(machine, 36, `${basename(path)} is changed without the lock of its folder`);
  };
  return {
    mkdir: (path, options) => guard(() => disk.mkdir(path, options)),
    readdir: (path, options) => guard(() => disk.readdir(path, options)),
    readFile: (path, encoding) => guard(() => disk.readFile(path, encoding)),
    rename: (from, to) => guard(() => (changing(from), disk.rename(from, to))),
    stat: (path) => guard(() => disk.stat(path)),
    unlink: (path) => guard(() => (changing(path), disk.unlink(path))),
    open: (path, flags, mode) =>
      guard(async () => {
        if (flags !== 'r') changing(path);
        const file = await disk.open(path, flags, mode);
        return {
          read: (...asked) => guard(() => file.read(...asked)),
          write: (...asked) => guard(() => file.write(...asked)),
          writeFile: (content) => guard(() => file.writeFile(content)),
          sync: () => guard(() => file.sync()),
          datasync: () => guard(() => file.datasync()),
          truncate: (length) => guard(() => file.truncate(length)),
          close: () => guard(() => file.close()),
        };
      }),
  };
}

/** Who is dead hears nothing any more. */
async function unlessDead<T>(machine: Machine, process: Mortal, call: () => Promise<T>): Promise<T> {
  const { random, deadly, locks, counts } = machine;
  const isLast = !process.isDead && random() < deadly;
  if (process.isDead) return new Promise(() => undefined);
  const result = call();
  if (isLast) {
    result.catch(() => undefined);
    process.isDead = true;
    counts.kills += 1;
    for (const [directory, holder] of locks) if (holder === process) locks.delete(directory);
    return new Promise(() => undefined);
  }
  return result;
}

/** Numbers of the letters on the disk, wherever, by id. */
function lettersOn({ disk }: Machine): Map<string, number> {
  const found = new Map<string, number>();
  const folders = disk.list(REDRIVING).map((name) => `${REDRIVING}/${name}`);
  for (const folder of [FOLDER, ...folders]) {
    for (const [, line] of linesOf(disk, folder)) {
      const letter = parse(line);
      const id = letter === undefined ? undefined : idOf(letter);
      if (letter !== undefined && id !== undefined) found.set(id, letter.number);
    }
  }
  return found;
}

/** What a crash tore is no letter. */
function parse(line: string): DeadLetter | undefined {
  try {
    return JSON.parse(line) as DeadLetter;
  } catch {
    return undefined;
  }
}

function check(machine: Machine): void {
  const { confirmed, destination } = machine;
  const found = lettersOn(machine);
  for (const [number, id] of confirmed) {
    if (found.get(id) === number || destination.taken.has(id)) continue;
    fail(machine, 30, `letter ${number} is nowhere`);
  }
}

function checkLeft(machine: Machine): void {
  const { destination } = machine;
  for (const [id, number] of lettersOn(machine)) {
    if (destination.isPoison(id)) continue;
    fail(machine, 32, `letter ${number} is left, and nothing fails`);
  }
}
