import { beforeEach, describe, expect, test } from '@jest/globals';
import { readCanary, type Returned } from '../../agent/engine/canary.ts';
import { createCanary, type Canary, type CanaryOptions, type Clock } from '../../agent/observe/canary.ts';

/** A clock that stands until it is moved. */
function createClock(): Clock & { advance(millis: number): void; timers(): number } {
  let now = 0;
  let timers: { at: number; call: () => void }[] = [];
  return {
    now: () => now,
    wall: () => 1_700_000_000_000 + now,
    after(millis, call) {
      const timer = { at: now + millis, call };
      timers.push(timer);
      return () => {
        timers = timers.filter((one) => one !== timer);
      };
    },
    advance(millis) {
      for (const end = now + millis; ;) {
        const next = timers.filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)[0];
        now = next?.at ?? end;
        if (next === undefined) return;
        timers = timers.filter((one) => one !== next);
        next.call();
      }
    },
    timers: () => timers.length,
  };
}

let clock: ReturnType<typeof createClock>;
let sent: { number: number; token: string }[];
let seconds: number[];
let changes: string[];

beforeEach(() => {
  clock = createClock();
  sent = [];
  seconds = [];
  changes = [];
});

function start(options: Partial<CanaryOptions> = {}): Canary {
  return createCanary({
    intervalMillis: 10_000,
    inject(number, payload) {
      const back = parse(payload);
      sent.push({ number, token: back.token });
    },
    returned: (after) => seconds.push(after),
    changed: ({ is }) => changes.push(is),
    clock,
    ...options,
  });
}

/** As the engine would report the payload. */
function parse(payload: string): Exclude<Returned, 'other'> {
  const read = readCanary({
    timeMicros: 0,
    vlan: 4094,
    gid: 4094,
    sid: 4094,
    rev: 1,
    message: '',
    classification: '',
    priority: 0,
    protocol: 'UDP',
    source: { ip: '192.0.2.1' },
    destination: { ip: '192.0.2.2' },
    payload: Buffer.from(payload, 'latin1'),
  });
  if (read === undefined || read === 'other') throw new Error(`not a canary: ${payload}`);
  return read;
}

/** The engine finds the last frame, if its rules have the token. */
function comeBack(canary: Canary, rules = 'aa'): void {
  const last = sent.at(-1);
  if (last?.token === rules) canary.returned({ token: last.token, number: last.number });
}

describe('frames', () => {
  test('go at once when the engine reads, and then at each interval', () => {
    const canary = start();
    clock.advance(60_000);
    expect(sent).toEqual([]);
    expect(canary.status()).toEqual({ is: 'waiting', missed: 0 });
    canary.started('aa');
    clock.advance(20_000);
    expect(sent.map(({ token }) => token)).toEqual(['aa', 'aa', 'aa']);
  });

  test('that return are timed', () => {
    const canary = start();
    canary.started('aa');
    clock.advance(40);
    comeBack(canary);
    expect(seconds).toEqual([0.04]);
    expect(canary.status()).toEqual({
      is: 'alive',
      missed: 0,
      lastSuccess: 1_700_000_000_040,
      lastSeconds: 0.04,
      provenAt: 0,
    });
  });

  test('are not sent with an interval of 0', () => {
    const canary = start({ intervalMillis: 0 });
    canary.started('aa');
    clock.advance(100_000);
    expect(sent).toEqual([]);
    expect(canary.status().is).toBe('off');
  });

  test('are not sent any more once it is stopped', () => {
    const canary = start();
    canary.started('aa');
    canary.stop();
    clock.advance(100_000);
    expect(sent).toHaveLength(1);
    expect(clock.timers()).toBe(0);
  });

  test('of other rules than those that inspect prove nothing', () => {
    const canary = start();
    canary.started('aa');
    canary.returned({ token: 'bb', number: 1 });
    canary.returned('other');
    expect(canary.status().is).toBe('waiting');
  });
});

describe('a lane is missing', () => {
  test('after three misses in a row, and alive again after one success', () => {
    const canary = start();
    canary.started('aa');
    comeBack(canary);
    clock.advance(10_000);
    expect(canary.status()).toMatchObject({ is: 'alive', missed: 0 });
    clock.advance(20_000);
    expect(canary.status()).toMatchObject({ is: 'alive', missed: 2 });
    clock.advance(10_000);
    expect(canary.status()).toMatchObject({ is: 'missing', missed: 3 });
    clock.advance(50_000);
    expect(changes).toEqual(['missing']);
    comeBack(canary);
    expect(changes).toEqual(['missing', 'alive']);
    expect(canary.status()).toMatchObject({ is: 'alive', missed: 8 });
  });

  test('not by misses with a success between them', () => {
    const canary = start();
    canary.started('aa');
    for (let round = 0; round < 10; round++) {
      clock.advance(20_000);
      comeBack(canary);
    }
    expect(canary.status().missed).toBe(11);
    expect(changes).toEqual([]);
  });

  test('also when the queue or nobody takes the frames, each at once', () => {
    const canary = start();
    canary.started('aa');
    canary.injected(1, 'queue-full');
    expect(canary.status().missed).toBe(1);
    clock.advance(10_000);
    canary.injected(2, 'closed');
    clock.advance(10_000);
    canary.injected(3, 'accepted');
    expect(canary.status()).toMatchObject({ is: 'alive', missed: 2 });
    clock.advance(10_000);
    expect(canary.status()).toMatchObject({ is: 'missing', missed: 3 });
  });

  test('no longer when a frame comes back late, with the time that it took', () => {
    const canary = start();
    canary.started('aa');
    clock.advance(35_000);
    expect(canary.status().is).toBe('missing');
    canary.returned({ token: 'aa', number: 1 });
    expect(canary.status().is).toBe('alive');
    expect(seconds).toEqual([35]);
    // The last one is still awaited.
    clock.advance(5_000);
    expect(canary.status().missed).toBe(4);
  });

  test('no longer when the next generation answers', () => {
    const canary = start();
    canary.started('aa');
    clock.advance(35_000);
    canary.started('bb');
    expect(sent.at(-1)?.token).toBe('bb');
    comeBack(canary, 'bb');
    expect(changes).toEqual(['missing', 'alive']);
  });
});

describe('a proof', () => {
  test('is given when rules with its token fire, and frames have it from then on', async () => {
    const canary = start();
    canary.started('aa');
    comeBack(canary);
    const proven = canary.prove('bb', 5_000);
    await Promise.resolve();
    expect(sent.at(-1)?.token).toBe('bb');
    // The old rules still inspect: nothing comes back, and packets go on to flow.
    comeBack(canary, 'aa');
    clock.advance(1_000);
    expect(sent.length).toBeGreaterThan(10);
    comeBack(canary, 'bb');
    expect(await proven).toBe(true);
    comeBack(canary, 'bb');
    clock.advance(10_000);
    expect(sent.at(-1)?.token).toBe('bb');
    expect(canary.status()).toMatchObject({ is: 'alive', missed: 0 });
  });

  test('fails after its time, and frames have the old token again', async () => {
    const canary = start();
    canary.started('aa');
    comeBack(canary);
    const proven = canary.prove('bb', 25_000);
    await Promise.resolve();
    clock.advance(25_000);
    expect(await proven).toBe(false);
    expect(sent.at(-1)?.token).toBe('aa');
    comeBack(canary, 'aa');
    // Nothing was missed meanwhile.
    expect(canary.status()).toMatchObject({ is: 'alive', missed: 0 });
  });

  test('fails when the engine dies', async () => {
    const canary = start();
    canary.started('aa');
    const proven = canary.prove('bb', 25_000);
    await Promise.resolve();
    canary.started('cc');
    expect(await proven).toBe(false);
    expect(sent.at(-1)?.token).toBe('cc');
  });

  test('waits for the one before it', async () => {
    const canary = start();
    canary.started('aa');
    const first = canary.prove('bb', 5_000);
    const second = canary.prove('cc', 5_000);
    await Promise.resolve();
    expect(sent.at(-1)?.token).toBe('bb');
    comeBack(canary, 'bb');
    expect(await first).toBe(true);
    await Promise.resolve();
    expect(sent.at(-1)?.token).toBe('cc');
    comeBack(canary, 'cc');
    expect(await second).toBe(true);
  });

  test('is there with an interval of 0 too', async () => {
    const canary = start({ intervalMillis: 0 });
    canary.started('aa');
    const proven = canary.prove('bb', 5_000);
    await Promise.resolve();
    comeBack(canary, 'bb');
    expect(await proven).toBe(true);
    const count = sent.length;
    clock.advance(60_000);
    expect(sent).toHaveLength(count);
  });

  test('fails when it is stopped', async () => {
    const canary = start();
    canary.started('aa');
    const proven = canary.prove('bb', 5_000);
    await Promise.resolve();
    canary.stop();
    expect(await proven).toBe(false);
    expect(await canary.prove('cc', 5_000)).toBe(false);
  });
});

test('only so many frames are remembered', () => {
  const canary = start();
  canary.started('aa');
  clock.advance(10_000 * 1_000);
  // The first is a success without a latency.
  canary.returned({ token: 'aa', number: 1 });
  expect(seconds).toEqual([]);
  expect(changes).toEqual(['missing', 'alive']);
});
