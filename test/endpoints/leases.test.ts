import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import { openLeases, type Leases } from '../../agent/endpoints/leases.ts';
import { endpointOf } from '../support/attributed.ts';

const SECOND = 1_000_000;
const START = 1_700_000_000 * SECOND;
const IDS = 4093;

let folder: string;
let file: string;
let now: number;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'dpi-agent-leases-'));
  file = join(folder, 'state', 'leases.ndjson');
  now = START;
});

afterEach(() => rmSync(folder, { recursive: true }));

const clock = (): number => now;

const endpoint = (id: string, resources = ['default/dpi']): Endpoint => endpointOf(id, { resources });

const lines = (leases: unknown[]): string => leases.map((lease) => `${JSON.stringify(lease)}\n`).join('');

/** Leases in memory, with every id held by `e<id>`. */
function allHeld(): Leases {
  const leases = openLeases(undefined, clock);
  for (let id = 1; id <= IDS; id++) expect(leases.acquire(endpoint(`e${id}`))).toBe(id);
  return leases;
}

describe('ids', () => {
  test('are 1 to 4093, and then an error names the endpoint that gets none', () => {
    const leases = allHeld();
    expect(() => leases.acquire(endpoint('one-too-many'))).toThrow(
      'all 4093 VLAN ids are in use: one-too-many is not inspected',
    );
    expect(leases.active()).toHaveLength(IDS);
  });

  test('stay with their endpoint, whose description is replaced', () => {
    const leases = openLeases(undefined, clock);
    expect(leases.acquire(endpoint('a'))).toBe(1);
    expect(leases.acquire(endpoint('a', ['default/new']))).toBe(1);
    expect(leases.active()).toEqual([endpoint('a', ['default/new'])]);
    leases.update(endpoint('a', ['default/newer']));
    expect(leases.owner(1, now)).toEqual(endpoint('a', ['default/newer']));
  });

  test('that were never used go first, then the one that rests longest', () => {
    const leases = openLeases(undefined, clock);
    for (const id of ['a', 'b', 'c']) leases.acquire(endpoint(id));
    for (const id of ['b', 'a', 'c']) {
      now += SECOND;
      leases.free(id);
    }
    for (let id = 4; id <= IDS; id++) expect(leases.acquire(endpoint(`e${id}`))).toBe(id);
    expect(['x', 'y', 'z'].map((id) => leases.acquire(endpoint(id)))).toEqual([2, 1, 3]);
  });

  test('of an endpoint that has none are not freed or changed', () => {
    const leases = openLeases(undefined, clock);
    leases.free('nobody');
    leases.update(endpoint('nobody'));
    expect(leases.active()).toEqual([]);
    expect(leases.acquire(endpoint('a'))).toBe(1);
  });
});

describe('owner', () => {
  test('is whoever held the id at the time, a second before and behind included', () => {
    const leases = openLeases(undefined, clock);
    leases.acquire(endpoint('a'));
    now += 10 * SECOND;
    leases.free('a');
    now += 10 * SECOND;
    const name = (time: number) => leases.owner(1, START + time)?.id;
    expect(name(-SECOND - 1)).toBeUndefined();
    expect(name(-SECOND)).toBe('a');
    expect(name(5 * SECOND)).toBe('a');
    expect(name(11 * SECOND)).toBe('a');
    expect(name(11 * SECOND + 1)).toBeUndefined();
  });

  test('of a running lease has no end', () => {
    const leases = openLeases(undefined, clock);
    leases.acquire(endpoint('a'));
    expect(leases.owner(1, START + 1e12)?.id).toBe('a');
  });

  test('of an id that changed hands at once is the one of that moment, not the next one by its slack', () => {
    const leases = allHeld();
    now += 10 * SECOND;
    leases.free('e5');
    now += 10;
    expect(leases.acquire(endpoint('next'))).toBe(5);
    expect(leases.owner(5, now - 11)?.id).toBe('e5');
    expect(leases.owner(5, now)?.id).toBe('next');
  });

  test('is remembered until the id was leased three times more', () => {
    const leases = allHeld();
    const middles: number[] = [];
    for (let turn = 0; turn < 5; turn++) {
      if (turn > 0) leases.acquire(endpoint(`turn${turn}`));
      middles.push(now + 5 * SECOND);
      now += 10 * SECOND;
      leases.free(turn === 0 ? 'e1' : `turn${turn}`);
      now += 10 * SECOND;
      const known = middles.map((time) => leases.owner(1, time)?.id);
      expect(known.slice(-4).every((id) => id !== undefined)).toBe(true);
      expect(known.slice(0, -4).every((id) => id === undefined)).toBe(true);
    }
  });
});

describe('on disk', () => {
  test('a later agent knows the owners, holds none of the ids, and leases others first', () => {
    const leases = openLeases(file, clock);
    leases.acquire(endpoint('a'));
    leases.acquire(endpoint('b'));
    now += 10 * SECOND;
    leases.free('a');
    now += 10 * SECOND;
    const later = openLeases(file, clock);
    expect(later.active()).toEqual([]);
    expect(later.owner(1, START + SECOND)).toEqual(endpoint('a'));
    expect(later.owner(1, START + 15 * SECOND)).toBeUndefined();
    // Its lease was running: it ended when the file was opened.
    expect(later.owner(2, START + 15 * SECOND)).toEqual(endpoint('b'));
    now += 10 * SECOND;
    // Whose id nobody has had since.
    expect(later.owner(2, now)).toEqual(endpoint('b'));
    expect(later.at(now)).toEqual([]);
    expect(later.acquire(endpoint('b'))).toBe(3);
  });

  test('ids that earlier agents freed rest in the order in which they were freed', () => {
    const written = Array.from({ length: IDS }, (_, index) => ({
      vlan: index + 1,
      endpoint: endpoint(`e${index}`),
      since: START,
      // 3 before 1, and the others later.
      until: index === 2 ? START + 1 : index === 0 ? START + 2 : START + 100 + index,
    }));
    mkdirSync(join(folder, 'state'));
    writeFileSync(file, lines(written));
    const later = openLeases(file, clock);
    expect(['x', 'y', 'z'].map((id) => later.acquire(endpoint(id)))).toEqual([3, 1, 2]);
  });

  test('every change is there when the call returns, for its owner’s eyes only', () => {
    const leases = openLeases(file, clock);
    const stored = (): unknown => JSON.parse(readFileSync(file, 'utf8').trimEnd().split('\n').at(-1) ?? '');
    leases.acquire(endpoint('a'));
    expect(stored()).toEqual({ vlan: 1, endpoint: endpoint('a'), since: START });
    leases.update(endpoint('a', ['default/new']));
    expect(stored()).toMatchObject({ endpoint: { resources: ['default/new'] } });
    now += SECOND;
    leases.free('a');
    expect(stored()).toMatchObject({ until: START + SECOND });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(existsSync(`${file}.new`)).toBe(false);
  });

  test('a change that can’t be written is an error, and goes through when it can', () => {
    const leases = openLeases(file, clock);
    leases.acquire(endpoint('a'));
    renameSync(file, `${file}.away`);
    mkdirSync(file);
    expect(() => leases.acquire(endpoint('b'))).toThrow(/EISDIR/);
    rmSync(file, { recursive: true });
    renameSync(`${file}.away`, file);
    expect(leases.acquire(endpoint('b'))).toBe(2);
    expect(openLeases(file, clock).owner(2, START)?.id).toBe('b');
  });

  test('what a writer that died left half written does not matter', () => {
    const leases = openLeases(file, clock);
    leases.acquire(endpoint('a'));
    appendFileSync(file, '{"vlan":');
    writeFileSync(`${file}.new`, '{"vlan":');
    const later = openLeases(file, clock);
    expect(later.owner(1, START)?.id).toBe('a');
    expect(later.acquire(endpoint('b'))).toBe(2);
    expect(openLeases(file, clock).owner(2, START)?.id).toBe('b');
  });

  test('old lines do not pile up', () => {
    const leases = openLeases(file, clock);
    for (let round = 0; round < 12_000; round++) leases.acquire(endpoint('a', [`default/${round}`]));
    expect(readFileSync(file, 'utf8').split('\n').length).toBeLessThan(10_000);
    expect(openLeases(file, clock).owner(1, START)?.resources).toEqual(['default/11999']);
  });

  const good = { vlan: 2, endpoint: endpoint('good'), since: START };
  test.each([
    ['empty', '', undefined],
    ['torn', lines([good]).slice(0, -5), undefined],
    ['binary', '\0\u0001\ufffd', undefined],
    ['an object', '{}', undefined],
    ['null', 'null', undefined],
    [
      'of other things',
      lines([null, 1, 'x', [], {}, { vlan: 1 }, { vlan: 1, since: 1, endpoint: null }, good]),
      'good',
    ],
    [
      'of ids that are none',
      lines([0, -1, 1.5, 4094, 4095, 1e9, '7', null].map((vlan) => ({ ...good, vlan })).concat([good])),
      'good',
    ],
    [
      'of times that are none',
      lines([{ ...good, since: 'x' }, { ...good, until: 'y', since: START + 1 }, good]),
      'good',
    ],
  ])('a file that is %s gives no wrong lease', (_what, text, owner) => {
    mkdirSync(join(folder, 'state'));
    writeFileSync(file, text);
    const leases = openLeases(file, clock);
    expect(leases.active()).toEqual([]);
    expect(leases.owner(2, START)?.id).toBe(owner);
    const ids = Array.from({ length: 10 }, (_, index) => leases.acquire(endpoint(`e${index}`)));
    expect(ids.every((id) => id >= 1 && id <= IDS)).toBe(true);
    expect(new Set(ids).size).toBe(10);
  });

  test('a file that can’t be read is an error, and stays as it is: it may say whose alerts are still to be read', () => {
    mkdirSync(file, { recursive: true });
    expect(() => openLeases(file, clock)).toThrow(/EISDIR/);
    expect(statSync(file).isDirectory()).toBe(true);
  });

  test('a lease that ran when its agent ended owns no packet from before it: a power cut may have taken the one before from the file', () => {
    mkdirSync(join(folder, 'state'));
    writeFileSync(file, lines([{ vlan: 1, endpoint: endpoint('later'), since: START }]));
    now = START + 60 * SECOND;
    const leases = openLeases(file, clock);
    expect(leases.owner(1, START - 10 * SECOND)).toBeUndefined();
    expect(leases.owner(1, START + 10 * SECOND)?.id).toBe('later');
    expect(leases.owner(1, now + 10 * SECOND)?.id).toBe('later');
  });

  test('ids that the file does not name are leased too', () => {
    mkdirSync(join(folder, 'state'));
    writeFileSync(file, lines([{ vlan: IDS, endpoint: endpoint('last'), since: START, until: START + 1 }]));
    const leases = openLeases(file, clock);
    expect(leases.acquire(endpoint('a'))).toBe(1);
  });
});

describe.each([
  // All but two ids are held for good, so that ids change hands at once.
  ['in memory, with two ids to share', false],
  ['on disk, with restarts', true],
])('whatever happens %s', (_where, isOnDisk) => {
  const step = fc.record({
    do: fc.constantFrom('take', 'take', 'free', 'reopen'),
    who: fc.integer({ min: 0, max: 4 }),
    /** Microseconds; often less than the slack. */
    pause: fc.constantFrom(1, 400_000, 3 * SECOND),
  });

  test('no id has two holders, and a packet within a lease’s time finds its endpoint', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        now = START;
        rmSync(file, { force: true });
        let leases = openLeases(isOnDisk ? file : undefined, clock);
        const others = isOnDisk ? 0 : IDS - 2;
        for (let id = 0; id < others; id++) leases.acquire(endpoint(`other${id}`));
        const held = new Map<string, { vlan: number; since: number }>();
        const past: { vlan: number; id: string; since: number; until: number }[] = [];
        const end = (id: string): void => {
          const lease = held.get(id);
          if (lease !== undefined) past.push({ ...lease, id, until: now });
          held.delete(id);
        };
        for (const { do: action, who, pause } of steps) {
          now += pause;
          const id = `e${who}`;
          if (action === 'take') {
            if (!isOnDisk && held.size === 2 && !held.has(id)) {
              expect(() => leases.acquire(endpoint(id))).toThrow('in use');
              continue;
            }
            const vlan = leases.acquire(endpoint(id));
            if (!held.has(id)) held.set(id, { vlan, since: now });
            expect(held.get(id)?.vlan).toBe(vlan);
          } else if (action === 'free') {
            leases.free(id);
            end(id);
          } else if (isOnDisk) {
            leases = openLeases(file, clock);
            for (const other of held.keys()) end(other);
          }
          const vlans = [...held.values()].map(({ vlan }) => vlan);
          expect(new Set(vlans).size).toBe(vlans.length);
          expect(leases.active()).toHaveLength(others + held.size);
          for (const [holder, { vlan, since }] of held) {
            for (const time of [since, now]) expect(leases.owner(vlan, time)?.id).toBe(holder);
          }
          for (const { vlan, id: holder, since, until } of past) {
            const later = [...past, ...held.values()].filter((other) => other.vlan === vlan && other.since >= until);
            if (later.length <= 3) expect(leases.owner(vlan, (since + until) / 2)?.id).toBe(holder);
          }
        }
      }),
      { numRuns: 20 },
    );
  });
});

describe('a clock that is set', () => {
  const HOUR = 3600 * SECOND;

  test('back by an hour: packets of a running lease, before and after, find its owner', () => {
    const leases = openLeases(file, clock);
    const vlan = leases.acquire(endpoint('a'));
    now += 10 * SECOND;
    const before = now;
    now -= HOUR;
    expect(leases.owner(vlan, now)).toBeUndefined();
    leases.clockMoved(0);
    now += SECOND;
    expect(leases.owner(vlan, now)?.id).toBe('a');
    expect(leases.at(now).map(({ id }) => id)).toEqual(['a']);
    expect(leases.owner(vlan, before)?.id).toBe('a');
    expect(leases.active().map(({ id }) => id)).toEqual(['a']);
  });

  test('back and forth again, then freed: nobody is found behind the end, and the same one before it', () => {
    const leases = openLeases(file, clock);
    const vlan = leases.acquire(endpoint('a'));
    now -= HOUR;
    leases.clockMoved(0);
    now += HOUR;
    leases.clockMoved(0);
    now += 60 * SECOND;
    leases.free('a');
    expect(leases.owner(vlan, now - 30 * SECOND)?.id).toBe('a');
    expect(leases.owner(vlan, now + 30 * SECOND)).toBeUndefined();
    expect(leases.active()).toEqual([]);
  });

  test('back while leases run: what is changed later, and freed, is in the file for the next agent', () => {
    const leases = openLeases(file, clock);
    const vlan = leases.acquire(endpoint('a'));
    now -= HOUR;
    leases.clockMoved(0);
    now += 60 * SECOND;
    leases.update(endpoint('a', ['default/changed']));
    now += 60 * SECOND;
    const later = openLeases(file, clock);
    expect(later.owner(vlan, now - 90 * SECOND)?.resources).toEqual(['default/changed']);
    expect(later.owner(vlan, START)?.id).toBe('a');
    expect(later.active()).toEqual([]);
  });

  test('back while no agent ran: alerts that the earlier one left find their owner until its id is leased again', () => {
    const vlan = openLeases(file, clock).acquire(endpoint('a'));
    now += 60 * SECOND;
    const packet = now;
    now -= HOUR;
    const later = openLeases(file, clock);
    expect(later.owner(vlan, packet)?.id).toBe('a');
    expect(later.at(packet)).toEqual([]);
  });

  test('some time before it was noticed: packets since then find their owner', () => {
    const leases = openLeases(file, clock);
    const vlan = leases.acquire(endpoint('a'));
    now -= HOUR;
    const packet = now;
    now += 9 * SECOND;
    leases.clockMoved(9 * SECOND);
    expect(leases.owner(vlan, packet)?.id).toBe('a');
  });
});

describe('ids by rule sets', () => {
  test('an endpoint gets only an id that it may have, and the others stay free', () => {
    const leases = openLeases(file, clock);
    expect(leases.acquire(endpoint('a'), (vlan) => vlan >= 5)).toBe(5);
    expect(leases.acquire(endpoint('b'))).toBe(1);
    expect(leases.spare().slice(0, 4)).toEqual([2, 3, 4, 6]);
    expect(leases.idOf('a')).toBe(5);
    expect(() => leases.acquire(endpoint('c'), () => false)).toThrow('no VLAN id is free for its rule sets: c');
    leases.free('a');
    expect(leases.spare().at(-1)).toBe(5);
  });

  test('what an endpoint’s resources asked for until now stays known, over a restart too', () => {
    const asks = (set: string): Endpoint => ({ ...endpoint('a'), ruleSets: { 'default/dpi': [set] } });
    const leases = openLeases(file, clock);
    const vlan = leases.acquire(asks('one'));
    now += 10 * SECOND;
    leases.update(asks('two'));
    for (const one of [leases, openLeases(file, clock)]) {
      expect(one.owner(vlan, START + 5 * SECOND)?.ruleSets).toEqual({ 'default/dpi': ['one'] });
      expect(one.owner(vlan, START + 10 * SECOND)?.ruleSets).toEqual({ 'default/dpi': ['two'] });
    }
  });
});
