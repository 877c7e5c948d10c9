import { beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { openAttachments, type Attachments, type AttachmentsOptions } from '../agent/attachments.ts';
import { zeroCounters, type AttachSpec } from '../agent/capture/protocol.ts';
import type { Endpoint } from '../agent/endpoints/endpoint.ts';
import { openLeases, type Leases } from '../agent/endpoints/leases.ts';
import type { Lane } from '../agent/lane.ts';

/** What a lane was told, in order. */
function fakeLane(name: string): { lane: Lane; told: (AttachSpec | string)[] } {
  const told: (AttachSpec | string)[] = [];
  const capture = {
    attach: (spec: AttachSpec) => told.push(spec),
    detach(id: string) {
      told.push(`detached ${id}`);
      return Promise.resolve(zeroCounters());
    },
    states: () => new Map(),
    counters: () => new Map(),
  };
  return { lane: { name, capture } as unknown as Lane, told };
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
    loaded = [];
    goneOver = [];
    parts = {
      leases,
      lanes: lanes.map(({ lane }) => lane),
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
