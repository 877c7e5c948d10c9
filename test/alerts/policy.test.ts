import { BlockList } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import { createPolicy, MAX_TRACKED, type Match, type Threshold } from '../../agent/alerts/policy.ts';
import { globTester, parsePattern } from '../../agent/pattern.ts';

interface About {
  millis?: number;
  sid?: number;
  gid?: number;
  message?: string;
  classification?: string;
  classtype?: string;
  source?: string;
  destination?: string;
  pod?: string;
  labels?: Record<string, string>;
  resource?: string;
  port?: number;
}

function alert(about: About = {}): AttributedAlert {
  const { pod = 'shop/web-1', millis = 0, source = '10.0.0.1', destination = '10.0.0.2', port = 1 } = about;
  const [namespace = '', name = ''] = pod.split('/');
  return {
    alert: {
      gid: about.gid ?? 1,
      sid: about.sid ?? 7,
      rev: 1,
      timeMicros: millis * 1000,
      protocol: 'TCP',
      message: about.message ?? 'POLICY telnet',
      classification: about.classification ?? 'Misc activity',
      source: { ip: source, port },
      destination: { ip: destination, port: 80 },
    },
    resource: about.resource ?? 'shop/dpi',
    seenAt: [{ id: pod, namespace, name, labels: about.labels ?? {} }],
    rule: { classtype: about.classtype ?? '' },
  } as unknown as AttributedAlert;
}

const never = (): boolean => false;
const always = (): boolean => true;

function suppressing(match: Match): (about?: About) => boolean {
  const policy = createPolicy({ suppress: [{ name: 'it', match }], threshold: [] }, 100);
  return (about) => policy.judge(alert(about), never) === 'it';
}

function network(address: string, bits: number): BlockList {
  const list = new BlockList();
  list.addSubnet(address, bits, address.includes(':') ? 'ipv6' : 'ipv4');
  return list;
}

describe('suppress', () => {
  test('by signature, of any generator or a certain one', () => {
    expect(suppressing({ signatures: [{ sid: 7 }] })({ gid: 3 })).toBe(true);
    expect(suppressing({ signatures: [{ sid: 8 }, { gid: 1, sid: 7 }] })()).toBe(true);
    expect(suppressing({ signatures: [{ gid: 3, sid: 7 }] })()).toBe(false);
  });

  test('by class, in either form', () => {
    expect(suppressing({ classes: ['misc activity'] })()).toBe(true);
    expect(suppressing({ classes: ['misc-activity'] })({ classtype: 'misc-activity' })).toBe(true);
    expect(suppressing({ classes: ['trojan-activity'] })({ classtype: 'misc-activity' })).toBe(false);
  });

  test('by pod, labels, addresses and time', () => {
    const pods = [{ namespace: globTester('shop'), name: globTester('web-*') }];
    expect(suppressing({ pods })()).toBe(true);
    expect(suppressing({ pods })({ pod: 'shop2/web-1' })).toBe(false);
    const labels = (of: Readonly<Record<string, string>>): boolean => of['app'] === 'scanner';
    expect(suppressing({ labels })({ labels: { app: 'scanner' } })).toBe(true);
    expect(suppressing({ labels })()).toBe(false);
    expect(suppressing({ source: network('10.0.0.0', 8) })()).toBe(true);
    expect(suppressing({ source: network('10.0.0.0', 8) })({ source: '11.0.0.1' })).toBe(false);
    expect(suppressing({ source: network('fd00::', 8) })({ source: 'fd65::2' })).toBe(true);
    expect(suppressing({ destination: network('10.0.0.2', 32) })()).toBe(true);
    expect(suppressing({ destination: network('10.0.0.2', 32) })({ destination: 'no address' })).toBe(false);
    expect(suppressing({ when: (millis) => millis >= 5 })({ millis: 4 })).toBe(false);
    expect(suppressing({ when: (millis) => millis >= 5 })({ millis: 5 })).toBe(true);
  });

  test('only what satisfies all that an entry says', () => {
    const it = suppressing({ signatures: [{ sid: 7 }], message: parsePattern('^POLICY') });
    expect(it()).toBe(true);
    expect(it({ message: 'MALWARE' })).toBe(false);
    expect(it({ sid: 8 })).toBe(false);
  });

  test('an expression that takes too long is reported once, and matches nothing from then on', () => {
    const problems: string[] = [];
    const match = { message: parsePattern('(a+)+$', 30) };
    const policy = createPolicy({ suppress: [{ name: 'evil', match }], threshold: [] }, 0, (name, reason) =>
      problems.push(`${name}: ${reason}`),
    );
    const evil = alert({ message: `${'a'.repeat(60)}b` });
    expect([policy.judge(evil, never), policy.judge(evil, never)]).toEqual([undefined, undefined]);
    expect(policy.judge(alert({ message: 'aaa' }), never)).toBeUndefined();
    expect(problems).toEqual([
      'evil: the expression takes longer than 30 ms: write it without repetitions inside of repetitions',
    ]);
  });
});

function threshold(about: Partial<Threshold>, twinMillis = 0): (about?: About, twin?: () => boolean) => boolean {
  const entry: Threshold = { name: 't', match: {}, count: 2, seconds: 10, track: 'by_source', type: 'limit', ...about };
  const policy = createPolicy({ suppress: [], threshold: [entry] }, twinMillis);
  return (one, twin = never) => policy.judge(alert(one), twin) === undefined;
}

describe('threshold', () => {
  const passing = (type: Threshold['type'], millis: number[]): boolean[] => {
    const passes = threshold({ type });
    return millis.map((at) => passes({ millis: at }));
  };
  const at = [0, 1, 2, 3, 9_999, 10_000, 10_001];

  test('limit lets the first ones of a window pass', () => {
    expect(passing('limit', at)).toEqual([true, true, false, false, false, true, true]);
  });
  test('threshold lets each so many-th pass', () => {
    expect(passing('threshold', at)).toEqual([false, true, false, true, false, false, true]);
  });
  test('both lets one of a window pass', () => {
    expect(passing('both', at)).toEqual([false, true, false, false, false, false, true]);
  });

  test('a clock that is set back begins a new window', () => {
    expect(passing('limit', [100_000, 100_001, 100_002, 1, 2, 3])).toEqual([true, true, false, true, true, false]);
  });

  test.each([
    ['by_source', { source: '10.0.0.9' }, { pod: 'shop/web-2' }],
    ['by_pod', { pod: 'shop/web-2' }, { source: '10.0.0.9' }],
    ['by_rule', { resource: 'shop/other' }, { source: '10.0.0.9', pod: 'shop/web-2' }],
  ] as const)('%s counts apart what differs in %j, and together what differs in %j', (track, apart, together) => {
    const passes = threshold({ track, count: 1 });
    expect(passes()).toBe(true);
    expect(passes(together)).toBe(false);
    expect(passes(apart)).toBe(true);
    expect(passes({ sid: 8 })).toBe(true);
  });

  test('the first entry that matches counts, after what is suppressed', () => {
    const entry = { count: 1, seconds: 10, track: 'by_rule', type: 'limit' } as const;
    const policy = createPolicy(
      {
        suppress: [{ name: 's', match: { signatures: [{ sid: 1 }] } }],
        threshold: [
          { name: 'a', match: { signatures: [{ sid: 7 }] }, ...entry },
          { name: 'b', match: {}, ...entry },
        ],
      },
      0,
    );
    const judge = (sid: number): string | undefined => policy.judge(alert({ sid }), never);
    expect([judge(1), judge(7), judge(7), judge(8), judge(8)]).toEqual(['s', undefined, 'a', undefined, 'b']);
  });

  test('a packet that is seen at both ends counts once, and both alerts have one fate', () => {
    const passes = threshold({ count: 1, track: 'by_source' }, 100);
    // Two packets of one flow, each seen at two pods, in the order in which engines report them.
    const seen = (pod: string, millis: number): boolean => passes({ pod, millis }, always);
    expect([seen('shop/a', 0), seen('shop/a', 1), seen('shop/b', 0), seen('shop/b', 1)]).toEqual([
      true,
      false,
      true,
      false,
    ]);
    // Not a twin: later than that, or another flow.
    expect(seen('shop/b', 500)).toBe(false);
    const counting = threshold({ count: 2, type: 'threshold' }, 100);
    expect([counting({ pod: 'shop/a' }, always), counting({ pod: 'shop/b', port: 2 }, always)]).toEqual([false, true]);
  });

  test('what is tracked is bounded: the window used least recently is forgotten', () => {
    const passes = threshold({ count: 1 });
    expect([passes({ source: 'first' }), passes({ source: 'first' })]).toEqual([true, false]);
    for (let index = 0; index < MAX_TRACKED; index++) passes({ source: String(index) });
    expect(passes({ source: 'first' })).toBe(true);
  });

  test('whatever comes in order, of each window as many pass as its type says', () => {
    const steps = fc.array(fc.integer({ min: 0, max: 4000 }), { maxLength: 60 });
    fc.assert(
      fc.property(
        steps,
        fc.integer({ min: 1, max: 5 }),
        fc.constantFrom<Threshold['type'][]>('limit', 'threshold', 'both'),
        (gaps, count, type) => {
          const passes = threshold({ count, type });
          let millis = 0;
          let start = -Infinity;
          let sum = 0;
          let passed = 0;
          const check = (): void => {
            const expected = {
              limit: Math.min(sum, count),
              threshold: Math.floor(sum / count),
              both: sum >= count ? 1 : 0,
            };
            expect(passed).toBe(expected[type]);
          };
          for (const gap of gaps) {
            millis += gap;
            if (millis - start >= 10_000) {
              check();
              [start, sum, passed] = [millis, 0, 0];
            }
            sum++;
            if (passes({ millis })) passed++;
          }
          check();
        },
      ),
    );
  });
});
