import { beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { openAttachments, type Attachments, type AttachmentsOptions } from '../agent/attachments.ts';
import { zeroCounters, type AttachSpec } from '../agent/capture/protocol.ts';
import type { Endpoint } from '../agent/endpoints/endpoint.ts';
import { openLeases, type Leases } from '../agent/endpoints/leases.ts';
import type { Lane } from '../agent/lane.ts';

/** What a lane was told, in order. */
function fakeLane(name: string): { lane: Lane; told: (AttachSpec | string)[]; starts: (slowly: boolean) => void } {
  const told: (AttachSpec | string)[] = [];
  const capture = {
    attach(spec: AttachSpec) {
      told.push(spec);
      states.add(spec.id);
    },
    detach(id: string) {
      told.push(`detached ${id}`);
      return Promise.resolve({ ...zeroCounters(), received: states.delete(id) ? 10 : 0 });
    },
    states: () => new Map([...states].map((id) => [id, { is: isSlow ? 'starting' : 'capturing' }])),
    counters: () => new Map([...states].map((id) => [id, { ...zeroCounters(), received: 10 }])),
  };
  const states = new Set<string>();
  let isSlow = false;
  return { lane: { name, capture } as unknown as Lane, told, starts: (slowly) => (isSlow = slowly) };
}

const pod = (name: string, changes: Partial<Endpoint> = {}): Endpoint => ({
  id: `shop/${name}`,
  namespace: 'shop',
  name,
  nameAggr: name,
  interface: `cali-${name}`,
  labels: {},
  addresses: [],
  resources: ['shop/dpi'],
  ...changes,
});

const OTHER_SETS = { ruleSets: { 'shop/dpi': ['other'] } };

describe('an endpoint', () => {
  let leases: Leases;
  let lanes: ReturnType<typeof fakeLane>[];
  let open: Lane[];
  let loaded: (() => void)[];
  let goneOver: string[];
  let parts: AttachmentsOptions;
  let attachments: Attachments;
  const load = async (): Promise<void> => {
    for (const resolve of loaded.splice(0)) resolve();
    await new Promise((resolve) => setImmediate(resolve));
  };
  beforeEach(() => {
    leases = openLeases(undefined);
    lanes = [fakeLane('lane0'), fakeLane('lane1')];
    open = lanes.map(({ lane }) => lane);
    loaded = [];
    goneOver = [];
    parts = {
      leases,
      lanes: open,
      rules: { defaults: () => ['default'], changed: () => new Promise((resolve) => loaded.push(resolve)) },
      problems: new Map(),
      keep: 'full',
      goesOver: (id) => goneOver.push(id),
      log: pino({ level: 'silent' }),
    };
    attachments = openAttachments(parts);
  });
  const told = (): (AttachSpec | string)[][] => lanes.map((lane) => lane.told);

  test('with the default sets is captured at once, by the lane that has the fewest', () => {
    for (const name of ['a', 'b', 'c']) attachments.attach(pod(name));
    expect(told()).toMatchObject([
      [
        { id: 'shop/a', vlan: 1 },
        { id: 'shop/c', vlan: 3 },
      ],
      [{ id: 'shop/b', vlan: 2 }],
    ]);
    expect(loaded).toEqual([]);
  });

  test('with other sets is captured once the engines have them', async () => {
    attachments.attach(pod('a', OTHER_SETS));
    expect(told()).toEqual([[], []]);
    const vlan = leases.idOf('shop/a');
    expect(attachments.combinations()).toMatchObject([{ sets: ['other'], vlans: expect.arrayContaining([vlan]) }]);
    await load();
    expect(told()).toMatchObject([[{ id: 'shop/a', vlan }], []]);
  });

  test('whose sets another one has just asked for waits for them too', async () => {
    attachments.attach(pod('a', OTHER_SETS));
    attachments.attach(pod('b', OTHER_SETS));
    expect(told()).toEqual([[], []]);
    await load();
    expect(told()).toMatchObject([[{ id: 'shop/a' }], [{ id: 'shop/b' }]]);
  });

  test('that asks for other sets while its first ones are loaded waits for those', async () => {
    attachments.attach(pod('a', OTHER_SETS));
    attachments.attach(pod('a', { ruleSets: { 'shop/dpi': ['third'] } }));
    const [first] = loaded.splice(0, 1);
    first?.();
    await new Promise((resolve) => setImmediate(resolve));
    expect(told()).toEqual([[], []]);
    await load();
    expect(told()).toMatchObject([[{ id: 'shop/a' }], []]);
  });

  test('that goes while its sets are loaded is not captured', async () => {
    attachments.attach(pod('a', OTHER_SETS));
    await attachments.detach('shop/a');
    await load();
    expect(told()).toEqual([['detached shop/a'], []]);
    expect(leases.active()).toEqual([]);
  });

  test('that changes keeps its id and its lane; it goes over where its interfaces change', () => {
    attachments.attach(pod('a'));
    attachments.attach(pod('a', { labels: { tier: 'front' } }));
    expect(told()).toMatchObject([[{ id: 'shop/a' }], []]);
    expect(leases.owner(1, Date.now() * 1000)?.labels).toEqual({ tier: 'front' });
    attachments.attach(pod('a', { interface: 'cali-new' }));
    expect(told()).toMatchObject([[{ vlan: 1 }, { vlan: 1, taps: [{ interface: 'cali-new' }] }], []]);
    expect(goneOver).toEqual(['shop/a']);
  });

  test('has kept of its packets what one of its resources asks for most, also once that changes', () => {
    const kept = (evidence: Record<string, 'off' | 'headers' | 'full'>): void =>
      attachments.attach(pod('a', { resources: ['shop/dpi', 'shop/more'], evidence }));
    kept({ 'shop/dpi': 'off', 'shop/more': 'headers' });
    kept({ 'shop/dpi': 'headers', 'shop/more': 'off' });
    kept({ 'shop/dpi': 'off' });
    expect(told()).toMatchObject([[{ keep: 'headers' }, { vlan: 1, keep: 'full' }], []]);
    expect(goneOver).toEqual([]);
  });

  describe('of which the lanes become others', () => {
    const places = (): string[] =>
      attachments.captured().map(({ endpoint, lane, counters }) => `${endpoint.name} ${lane} ${counters.received}`);

    test('goes to a new one where that has fewer by two, and is captured there before it is no longer here', async () => {
      open.pop();
      for (const name of ['a', 'b', 'c']) attachments.attach(pod(name));
      const second = lanes[1];
      if (second === undefined) throw new Error('there are two');
      open.push(second.lane);
      second.starts(true);
      const spread = attachments.spread();
      await new Promise((resolve) => setImmediate(resolve));
      // What it asks for meanwhile, both lanes are told.
      attachments.attach(pod('a', { interface: 'cali-new' }));
      expect(attachments.isMoving('shop/a')).toBe(true);
      expect(told()[0]).not.toContain('detached shop/a');
      expect(told()[1]).toMatchObject([
        { id: 'shop/a', vlan: 1 },
        { vlan: 1, taps: [{ interface: 'cali-new' }] },
      ]);
      second.starts(false);
      await spread;
      expect(told()[0]).toContain('detached shop/a');
      // With what the one before counted.
      expect(places()).toEqual(['a lane1 20', 'b lane0 10', 'c lane0 10']);
      await expect(attachments.detach('shop/a')).resolves.toMatchObject({ received: 20 });
      expect(places()).toEqual(['b lane0 10', 'c lane0 10']);
      await attachments.spread();
      expect(places()).toEqual(['b lane1 20', 'c lane0 10']);
    });

    test('leaves the one that takes none any more, also where its rule sets are not loaded yet', async () => {
      for (const name of ['a', 'b']) attachments.attach(pod(name));
      attachments.attach(pod('c', OTHER_SETS));
      attachments.attach(pod('d', OTHER_SETS));
      open.pop();
      await attachments.spread();
      await load();
      expect(places()).toEqual(['a lane0 10', 'b lane0 20', 'c lane0 10', 'd lane0 10']);
      expect(told()[1]).toMatchObject([{ id: 'shop/b' }, 'detached shop/b']);
    });

    test.each([
      ['from both where it goes while it moves', true, [['detached shop/a'], ['detached shop/a']]],
      ['where it goes before it moves', false, [['detached shop/a'], []]],
    ])('is gone %s', async (_when, isMoving, ends) => {
      attachments.attach(pod('a'));
      open.shift();
      lanes[1]?.starts(true);
      const spread = attachments.spread();
      if (isMoving) await new Promise((resolve) => setImmediate(resolve));
      const gone = attachments.detach('shop/a');
      lanes[1]?.starts(false);
      await Promise.all([spread, gone]);
      expect(told().map((of) => of.filter((one) => typeof one === 'string'))).toEqual(ends);
      expect(places()).toEqual([]);
      expect(leases.active()).toEqual([]);
    });
  });

  describe('on a disk that is full', () => {
    const disk = { text: '', isFull: false };
    const write = (text: string): void => {
      if (disk.isFull) throw new Error('ENOSPC');
      disk.text = text;
    };
    beforeEach(() => {
      Object.assign(disk, { text: '', isFull: false });
      const files = {
        read: () => disk.text,
        append: (_file: string, line: string) => write(disk.text + line),
        replace: (_file: string, all: string) => write(all),
      };
      leases = openLeases('leases.ndjson', undefined, files);
      attachments = openAttachments({ ...parts, leases });
    });

    test('is gone when it goes; the file has that with the next change', async () => {
      attachments.attach(pod('a'));
      disk.isFull = true;
      await expect(attachments.detach('shop/a')).resolves.toBeDefined();
      disk.isFull = false;
      expect(disk.text).not.toContain('until');
      attachments.attach(pod('b'));
      expect(disk.text).toMatch(/"until":.*\n.*shop\/b/);
    });

    test('gets the sets that it then asks for, not those of the id that it could not have', async () => {
      disk.isFull = true;
      expect(() => attachments.attach(pod('a'))).toThrow('ENOSPC');
      disk.isFull = false;
      expect(leases.idOf('shop/a')).toBeUndefined();
      attachments.attach(pod('a', OTHER_SETS));
      const vlan = leases.idOf('shop/a');
      expect(attachments.combinations()).toMatchObject([{ sets: ['other'], vlans: expect.arrayContaining([vlan]) }]);
    });

    test('has its sets loaded when it is there at last', async () => {
      disk.isFull = true;
      expect(() => attachments.attach(pod('a', OTHER_SETS))).toThrow('ENOSPC');
      disk.isFull = false;
      attachments.attach(pod('a', OTHER_SETS));
      expect(told()).toEqual([[], []]);
      await load();
      expect(told()).toMatchObject([[{ id: 'shop/a' }], []]);
    });

    test('goes over to its other interfaces when that can be written', () => {
      attachments.attach(pod('a'));
      disk.isFull = true;
      expect(() => attachments.attach(pod('a', { interface: 'cali-new' }))).toThrow('ENOSPC');
      disk.isFull = false;
      attachments.attach(pod('a', { interface: 'cali-new' }));
      expect(told()).toMatchObject([[{}, { taps: [{ interface: 'cali-new' }] }], []]);
    });
  });

  test('that was never attached has no counters', async () => {
    expect(await attachments.detach('shop/none')).toBeUndefined();
  });
});
