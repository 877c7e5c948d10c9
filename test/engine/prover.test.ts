import { beforeEach, describe, expect, test } from '@jest/globals';
import { readCanary, type Returned } from '../../agent/engine/canary.ts';
import { createProver, type Clock, type Prover, type ProverOptions } from '../../agent/engine/prover.ts';

/** A clock that stands until it is moved. */
function createClock(): Clock & { advance(millis: number): void; timers(): number } {
  let now = 0;
  let timers: { at: number; call: () => void }[] = [];
  return {
    now: () => now,
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
/** Seconds that a frame took, as far as that is known. */
let returned: (number | undefined)[];
let missed: number;

beforeEach(() => {
  clock = createClock();
  sent = [];
  returned = [];
  missed = 0;
});

function start(options: Partial<ProverOptions> = {}): Prover {
  return createProver({
    intervalMillis: 10_000,
    inject(number, payload) {
      const back = parse(payload);
      sent.push({ number, token: back.token });
    },
    returned: (way) => returned.push(way?.seconds),
    missed: () => missed++,
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
function comeBack(prover: Prover, rules = 'aa'): void {
  const last = sent.at(-1);
  if (last?.token === rules) prover.returned({ token: last.token, number: last.number });
}

describe('frames', () => {
  test('go at once when the engine reads, and then at each interval', () => {
    const prover = start();
    clock.advance(60_000);
    expect(sent).toEqual([]);
    prover.started('aa');
    clock.advance(20_000);
    expect(sent.map(({ token }) => token)).toEqual(['aa', 'aa', 'aa']);
  });

  test('that return are timed', () => {
    const ways: unknown[] = [];
    const prover = start({ returned: (way) => ways.push(way) });
    clock.advance(5);
    prover.started('aa');
    clock.advance(40);
    comeBack(prover);
    expect(ways).toEqual([{ sentAt: 5, seconds: 0.04 }]);
  });

  test('are not sent with an interval of 0', () => {
    const prover = start({ intervalMillis: 0 });
    prover.started('aa');
    clock.advance(100_000);
    expect(sent).toEqual([]);
  });

  test('are not sent any more once it is stopped', () => {
    const prover = start();
    prover.started('aa');
    prover.stop();
    clock.advance(100_000);
    expect(sent).toHaveLength(1);
    expect(clock.timers()).toBe(0);
  });

  test('of other rules than those that inspect prove nothing', () => {
    const prover = start();
    prover.started('aa');
    prover.returned({ token: 'bb', number: 1 });
    prover.returned('other');
    expect(returned).toEqual([]);
  });

  test('have the token of the next generation as soon as it reads', () => {
    const prover = start();
    prover.started('aa');
    clock.advance(5_000);
    prover.started('bb');
    expect(sent.at(-1)?.token).toBe('bb');
  });

  test('are remembered up to a number', () => {
    const prover = start();
    prover.started('aa');
    clock.advance(10_000 * 1_000);
    // The first is a success without a latency.
    prover.returned({ token: 'aa', number: 1 });
    expect(returned).toEqual([undefined]);
  });
});

describe('a frame is missed', () => {
  test('when it is not back as the next one is due', () => {
    const prover = start();
    prover.started('aa');
    comeBack(prover);
    clock.advance(10_000);
    expect(missed).toBe(0);
    clock.advance(20_000);
    expect(missed).toBe(2);
    comeBack(prover);
    clock.advance(10_000);
    expect(missed).toBe(2);
  });

  test('at once when the queue or nobody takes it', () => {
    const prover = start();
    prover.started('aa');
    prover.injected(1, 'queue-full');
    expect(missed).toBe(1);
    clock.advance(10_000);
    prover.injected(2, 'closed');
    clock.advance(10_000);
    prover.injected(3, 'accepted');
    expect(missed).toBe(2);
    clock.advance(10_000);
    expect(missed).toBe(3);
  });

  test('though one before it comes back late, with the time that it took', () => {
    const prover = start();
    prover.started('aa');
    clock.advance(35_000);
    prover.returned({ token: 'aa', number: 1 });
    expect(returned).toEqual([35]);
    expect(missed).toBe(3);
    clock.advance(5_000);
    expect(missed).toBe(4);
  });
});

describe('a proof', () => {
  test('is given when rules with its token fire, and frames have it from then on', async () => {
    const prover = start();
    prover.started('aa');
    comeBack(prover);
    const proven = prover.prove('bb', 5_000);
    await Promise.resolve();
    expect(sent.at(-1)?.token).toBe('bb');
    // The old rules still inspect: nothing comes back, and packets go on to flow.
    comeBack(prover, 'aa');
    clock.advance(1_000);
    expect(sent.length).toBeGreaterThan(10);
    comeBack(prover, 'bb');
    expect(await proven).toBe(true);
    comeBack(prover, 'bb');
    clock.advance(10_000);
    expect(sent.at(-1)?.token).toBe('bb');
    expect(missed).toBe(0);
  });

  test('fails after its time, and frames have the old token again', async () => {
    const prover = start();
    prover.started('aa');
    comeBack(prover);
    const proven = prover.prove('bb', 25_000);
    await Promise.resolve();
    clock.advance(25_000);
    expect(await proven).toBe(false);
    expect(sent.at(-1)?.token).toBe('aa');
    comeBack(prover, 'aa');
    // Nothing was missed meanwhile.
    expect(missed).toBe(0);
  });

  test('fails when it is given up, and frames have the old token again', async () => {
    const prover = start();
    const over = new AbortController();
    prover.started('aa');
    const proven = prover.prove('bb', 25_000, over.signal);
    await Promise.resolve();
    over.abort();
    expect(await proven).toBe(false);
    expect(sent.at(-1)?.token).toBe('aa');
    expect(await prover.prove('cc', 25_000, over.signal)).toBe(false);
  });

  test('fails when the engine dies', async () => {
    const prover = start();
    prover.started('aa');
    const proven = prover.prove('bb', 25_000);
    await Promise.resolve();
    prover.started('cc');
    expect(await proven).toBe(false);
    expect(sent.at(-1)?.token).toBe('cc');
  });

  test('waits for the one before it', async () => {
    const prover = start();
    prover.started('aa');
    const first = prover.prove('bb', 5_000);
    const second = prover.prove('cc', 5_000);
    await Promise.resolve();
    expect(sent.at(-1)?.token).toBe('bb');
    comeBack(prover, 'bb');
    expect(await first).toBe(true);
    await Promise.resolve();
    expect(sent.at(-1)?.token).toBe('cc');
    comeBack(prover, 'cc');
    expect(await second).toBe(true);
  });

  test('is there with an interval of 0 too', async () => {
    const prover = start({ intervalMillis: 0 });
    prover.started('aa');
    const proven = prover.prove('bb', 5_000);
    await Promise.resolve();
    comeBack(prover, 'bb');
    expect(await proven).toBe(true);
    const count = sent.length;
    clock.advance(60_000);
    expect(sent).toHaveLength(count);
  });

  test('fails when it is stopped', async () => {
    const prover = start();
    prover.started('aa');
    const proven = prover.prove('bb', 5_000);
    await Promise.resolve();
    prover.stop();
    expect(await proven).toBe(false);
    expect(await prover.prove('cc', 5_000)).toBe(false);
  });
});
