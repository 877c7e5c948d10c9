import { beforeEach, describe, expect, test } from '@jest/globals';
import { createLedger, type EndpointCount, type EngineCount, type Ledger } from '../../agent/observe/ledger.ts';

let ledger: Ledger;
let said: [lane: string, side: string, packets: number][];
let now: number;

beforeEach(() => {
  said = [];
  now = 0;
  ledger = createLedger((...change) => said.push(change));
});

/** Checks every 5 s for so long. */
function check(seconds: number, endpoints: () => EndpointCount[], engines: () => EngineCount[] = () => []): void {
  for (const end = now + seconds * 1000; now < end; now += 5_000) ledger.check(now, endpoints(), engines());
}

const one = (received: number, accounted: number): EndpointCount => ({ id: 'a', lane: 'lane0', received, accounted });

describe('received = accounted for + in the ring', () => {
  test('holds while packets flow through the ring', () => {
    let received = 0;
    check(600, () => {
      received += 100_000;
      return [one(received, received - 500)];
    });
    expect(ledger.unaccounted()).toEqual(new Map());
    expect(said).toEqual([]);
  });

  test('a gap that persists is said once, and once more when it is gone', () => {
    check(300, () => [one(1000, 1000)]);
    check(300, () => [one(1010, 1003)]);
    expect(ledger.unaccounted()).toEqual(new Map([['lane0', 7]]));
    check(300, () => [one(1010, 1010)]);
    expect(ledger.unaccounted()).toEqual(new Map());
    expect(said).toEqual([
      ['lane0', 'ring', 7],
      ['lane0', 'ring', 0],
    ]);
  });

  test('more that is accounted for than came in is a gap too', () => {
    check(300, () => [one(1000, 1020)]);
    expect(ledger.unaccounted()).toEqual(new Map([['lane0', 20]]));
  });

  test('an endpoint that is attached again counts from 0, and one that leaves takes its gap along', () => {
    check(300, () => [one(1000, 990)]);
    check(120, () => [one(10, 10)]);
    expect(said).toEqual([
      ['lane0', 'ring', 10],
      ['lane0', 'ring', 0],
    ]);
    check(300, () => [one(1000, 990)]);
    check(10, () => []);
    expect(ledger.unaccounted()).toEqual(new Map());
  });
});

describe('handed = analysed + in flight', () => {
  /** An engine that reports each 10 s; canaries are back within 1 s; `lost` of what it was handed is never analysed. */
  let reloads = 0;
  beforeEach(() => {
    reloads = 0;
  });

  function engine(generation: string, lost: () => number): () => EngineCount[] {
    let handed = 0;
    let analysed = 0;
    let checks = 0;
    return () => {
      handed += 1_000;
      // What was handed in the last 5 s may still be in flight.
      if (checks++ % 2 === 0) analysed = Math.max(0, handed - 1_000 - lost());
      return [{ lane: 'lane0', generation, handed, analysed, reloads, provenAt: now - 2_000 }];
    };
  }

  test('holds for what is in flight', () => {
    check(
      600,
      () => [],
      engine('a', () => 0),
    );
    expect(said).toEqual([]);
  });

  test('what an engine never analyses is said once, and gone with its generation', () => {
    check(
      300,
      () => [],
      engine('a', () => 2_500),
    );
    expect(said).toHaveLength(1);
    expect(said[0]?.slice(0, 2)).toEqual(['lane0', 'engine']);
    expect(ledger.unaccounted().get('lane0')).toBeGreaterThan(0);
    check(
      60,
      () => [],
      engine('b', () => 0),
    );
    expect(said).toHaveLength(2);
    expect(said[1]).toEqual(['lane0', 'engine', 0]);
  });

  test('is not judged without canaries', () => {
    const silent = engine('a', () => 5_000);
    check(
      600,
      () => [],
      () => silent().map((count) => ({ ...count, provenAt: undefined })),
    );
    expect(said).toEqual([]);
  });

  test('an engine that says that it analysed more than it got is a gap', () => {
    check(
      300,
      () => [],
      engine('a', () => -50_000),
    );
    expect(said).toHaveLength(1);
  });

  test('what an engine forgets when its rules change is let pass, and what it misses later is not', () => {
    let lost = 0;
    const changing = engine('a', () => lost);
    check(300, () => [], changing);
    lost = 4_000;
    reloads++;
    check(300, () => [], changing);
    expect(said).toEqual([]);
    lost = 9_000;
    check(300, () => [], changing);
    expect(said).toHaveLength(1);
  });
});
