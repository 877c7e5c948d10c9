/**
 * Calls every function of the native part with right and wrong arguments, at random, and checks what fill() gives.
 *   node dist/test/support/hostile.js ADDON SEED CALLS
 * Runs under AddressSanitizer, in a folder of its own, in which FIFOs are made. Says how many calls did not throw.
 */
import { closeSync, constants as fs, openSync, readSync } from 'node:fs';
import { constants as os } from 'node:os';
import { RECORD_HEADER } from '../../agent/capture/record.ts';
import type { Native } from '../../agent/native.ts';
import { seeded } from './random.ts';

const [, , path = '', seed = '1', calls = '0'] = process.argv;
const number = seeded(Number(seed));
const random = (below: number): number => Math.floor(number() * below);
const pick = <T>(from: readonly T[]): T => from[random(from.length)] as T;

const module = { exports: {} };
process.dlopen(module, path, os.dlopen.RTLD_NOW);
const functions = module.exports as Record<keyof Native, (...args: unknown[]) => unknown>;

/** Not small numbers: they are descriptors of Node's own. */
const WRONG: readonly unknown[] = [
  undefined,
  null,
  NaN,
  -1,
  -0.5,
  0.5,
  Infinity,
  -Infinity,
  1e6,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53,
  '',
  'x',
  'a\0b',
  '\ud800',
  'x'.repeat(70_000),
  true,
  10n,
  Symbol('x'),
  {},
  [],
  () => undefined,
  Buffer.alloc(0),
  Buffer.alloc(7),
  new Uint8Array(8),
  new DataView(new ArrayBuffer(4096)),
  new SharedArrayBuffer(4096),
  new Proxy({}, {}),
];

const open = new Map<number, number>();
const closed: number[] = [];
const pending = new Set<Promise<unknown>>();
let wakes = 0;
let made = 0;

const fifo = `fuzz-${process.pid}.fifo`;
functions.makeFifo(fifo, 0o600);
const fd = openSync(fifo, fs.O_RDWR | fs.O_NONBLOCK);
const arenas = [functions.arena(4096), functions.arena(1 << 20)] as Buffer[];

const slot = (): unknown => pick([...open.keys(), ...closed.slice(-3), 0, 1, 16_383, 16_384]);
const snaplen = (): number => pick([0, 1, 60, 1500, 65_535, 262_144]);
/** Memory of its own, so that a byte beside it is seen. */
const memory = (): Buffer =>
  random(4) === 0 ? pick(arenas) : Buffer.allocUnsafeSlow(pick([1, 16, 100, 4096, 300_000, 600_000]));
const place = (most: number): number => pick([0, most, random(most + 1), random(most + 2), most + 1]);

const ARGUMENTS: Record<keyof Native, () => unknown[]> = {
  open: () => [
    pick(['eth0', 'lo', '', 'a name that is too long']),
    pick(['', '', '/proc/self/ns/net', '/none']),
    snaplen(),
    pick([0, 1 << 19, 1 << 30]),
    pick([0, 10, 60_000]),
    random(2) === 0,
    pick(['', 'tcp', 'x'.repeat(65_000)]),
    random(2) === 0 ? -1 : slot(),
  ],
  fill: () => {
    const arena = memory();
    return [
      slot(),
      arena,
      pick([0, place(arena.length)]),
      pick([arena.length, place(arena.length)]),
      pick([1, 128, 1 << 20, 0]),
      random(66),
      Buffer.alloc(pick([8, 8, 16, 7])),
    ];
  },
  statistics: () => [slot(), Buffer.allocUnsafeSlow(pick([24, 24, 23, 40]))],
  mute: () => [slot()],
  close: () => [slot()],
  wake: () => [() => wakes++],
  rearm: () => [slot()],
  arena: () => [pick([0, 1, 4095, 4096, 1 << 20, (256 << 20) + 1])],
  renew: () => [memory()],
  splice: () => {
    const arena = memory();
    return [fd, arena, place(arena.length), place(arena.length)];
  },
  pending: () => [fd],
  widen: () => [fd, pick([0, 1, 4096, 1 << 20, 1 << 30])],
  makeFifo: () => [pick([`${made++}`, '/none/x', 'x'.repeat(4094), 'x'.repeat(4096)]), pick([0o600, 0o777, 0o1000])],
  timerSlack: () => [pick([0, 50_000, 1_000_000_000])],
};

function call(name: keyof Native): boolean {
  const args = ARGUMENTS[name]();
  const isWrong = random(3) === 0;
  if (isWrong) args[random(args.length)] = pick(WRONG);
  if (isWrong && random(4) === 0) args.length = random(args.length);
  const before =
    name === 'fill' && !isWrong && open.has(args[0] as number) ? Buffer.from(args[1] as Buffer) : undefined;
  let result: unknown;
  try {
    result = functions[name](...args);
  } catch (error) {
    if (!(error instanceof Error)) throw new Error('not an Error was thrown', { cause: error });
    return false;
  }
  if (name === 'open') opened(result as Promise<{ slot: number }>, args[2] as number);
  else if (name === 'close') closing(result as Promise<unknown>, args[0] as number);
  else if (before !== undefined) check(args, before, result as number);
  return true;
}

function opened(promise: Promise<{ slot: number }>, length: number): void {
  follow(
    promise
      .then(({ slot: found }) => open.set(found, length))
      .catch((error: unknown) => {
        if (!(error instanceof Error)) throw new Error('not an Error was thrown', { cause: error });
      }),
  );
}

function closing(promise: Promise<unknown>, which: number): void {
  open.delete(which);
  closed.push(which);
  follow(promise);
}

function follow(promise: Promise<unknown>): void {
  pending.add(promise);
  void promise.finally(() => pending.delete(promise));
}

/** That the records are whole and end where it says, and nothing around them changed. */
function check(args: unknown[], before: Buffer, end: number): void {
  const [which, arena, from, to, packets, room, state] = args as [
    number,
    Buffer,
    number,
    number,
    number,
    number,
    Buffer,
  ];
  const most = open.get(which) ?? 0;
  let records = 0;
  let at = from;
  for (; at < end; records++) {
    const captured = arena.readUInt32LE(at + 8);
    if (captured > most) throw new Error(`${captured} bytes of at most ${most}`);
    at += RECORD_HEADER + room + captured;
  }
  const isWhole = at === end && end <= to && records === state.readUInt32LE(0) && records <= packets;
  const isKept =
    arena.subarray(0, from).equals(before.subarray(0, from)) && arena.subarray(end).equals(before.subarray(end));
  if (!isWhole || !isKept) throw new Error(`wrong records: ${JSON.stringify({ from, to, end, at, records, isKept })}`);
}

/** Of those that are told a slot more often than others. */
const NAMES = [
  ...(Object.keys(ARGUMENTS) as (keyof Native)[]),
  'open',
  'open',
  'fill',
  'fill',
  'fill',
  'fill',
  'close',
] as const;
const chunk = Buffer.alloc(1 << 20);
const counts: Record<string, number> = {};
for (const name of Object.keys(functions)) if (!(name in ARGUMENTS)) throw new Error(`${name} is not called`);
for (let count = 0; count < Number(calls); count++) {
  const name = pick(NAMES);
  if (call(name)) counts[name] = (counts[name] ?? 0) + 1;
  if (random(8) === 0) await new Promise((resolve) => setImmediate(resolve));
  if (random(16) === 0) await Promise.all(pending);
  if (random(16) === 0) {
    try {
      readSync(fd, chunk);
    } catch {
      // It is empty.
    }
  }
}
await Promise.all(pending);
for (const which of open.keys()) await functions.close(which);
closeSync(fd);
process.stdout.write(`\n${JSON.stringify({ ...counts, wakes })}\n`);
// The thread that waits for rings goes on.
process.exit(0);
