import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readPolicy } from '../../../agent/alerts/policy-file.ts';
import { asPolicy, createNoise, type NoisySignature } from '../../../agent/cli/rules/noisy.ts';
import type { SearchedEvent } from '../../../agent/journal/search.ts';

interface About {
  sid?: number;
  second?: number;
  source?: string;
  pod?: string;
  aggregate?: string;
  severity?: number;
  count?: number;
  message?: string;
}

function event({
  sid = 7,
  second = 0,
  source = '10.0.0.1',
  pod = 'shop/web-1',
  severity = 60,
  ...about
}: About): SearchedEvent {
  const [namespace = '', name = ''] = pod.split('/');
  return {
    origin: 'dpi.shop/dpi',
    severity,
    source_ip: source,
    source_name: '-',
    source_namespace: '-',
    dest_ip: '10.0.0.2',
    dest_name: name,
    dest_namespace: namespace,
    ...(about.aggregate === undefined ? {} : { dest_name_aggr: about.aggregate }),
    record: {
      snort_signature_id: String(sid),
      snort_signature_revision: '1',
      generator_id: '1',
      timestamp: new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString(),
      message: about.message ?? `rule ${sid}`,
      seen_at: [{ namespace, name }],
      ...(about.count === undefined ? {} : { count: about.count }),
    },
  };
}

function noisy(events: About[], min = 1): NoisySignature[] {
  const noise = createNoise();
  for (const about of events) noise.add(event(about));
  return noise.top(10, min);
}

const many = (count: number, about: (index: number) => About): About[] =>
  Array.from({ length: count }, (_, index) => about(index));

describe('what is suggested', () => {
  test('for events from one source: to suppress these', () => {
    const [found] = noisy([...many(9, () => ({})), { source: '10.0.0.9' }]);
    expect(found?.suggestion).toEqual({ kind: 'suppress', signature: '1:7', source: '10.0.0.1', left: 1 });
  });

  test('for events at one pod: to suppress these, of all of its owner’s', () => {
    const [found] = noisy(
      many(10, (index) => ({ source: `10.0.0.${index}`, aggregate: 'web-*', pod: `shop/web-${index}` })),
    );
    expect(found?.suggestion).toEqual({ kind: 'suppress', signature: '1:7', pod: 'shop/web-*', left: 0 });
  });

  test('for the most severe, and where nothing stands out: a limit, with what it would have left', () => {
    const limit = { kind: 'threshold', signature: '1:7', count: 1, seconds: 3600, type: 'limit' };
    const [severe] = noisy(many(10, (index) => ({ severity: 100, second: index * 600 })));
    expect(severe?.suggestion).toEqual({ ...limit, track: 'by_source', left: 2 });
    const [attacked] = noisy(many(10, (index) => ({ severity: 80, source: `10.0.0.${index}` })));
    expect(attacked?.suggestion).toEqual({ ...limit, track: 'by_pod', left: 1 });
    const [spread] = noisy(many(100, (index) => ({ source: `10.0.1.${index}`, pod: `shop/web-${index % 2}` })));
    expect(spread?.suggestion).toEqual({ ...limit, track: 'by_pod', left: 2 });
  });
});

test('the noisiest come first, with the alerts that their events stand for, and rare ones not at all', () => {
  const found = noisy([...many(3, () => ({ sid: 1 })), ...many(5, () => ({ sid: 2, count: 10 })), { sid: 3 }], 2);
  expect(found.map(({ signature, events, alerts }) => [signature, events, alerts])).toEqual([
    ['1:2', 5, 50],
    ['1:1', 3, 3],
  ]);
});

describe('the policy', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'noisy-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const read = (text: string): ReturnType<typeof readPolicy> => {
    const file = join(directory, 'policy.yaml');
    writeFileSync(file, text);
    return readPolicy(file);
  };

  test('can be used as it is, whatever the events say', () => {
    const hostile = 'a\nsuppress: []\n\u001B[2J# "x"';
    const text = asPolicy(
      noisy([
        ...many(9, () => ({ message: hostile })),
        ...many(9, (index) => ({ sid: 8, source: `not an address ${index}`, pod: 'A b/"c' })),
        ...many(9, (index) => ({ sid: 9, source: `fd00::${index}`, pod: 'shop/web', aggregate: 'web-*' })),
      ]),
      27,
      27,
    );
    expect(read(text)).toMatchObject({
      suppress: [
        { name: 'suppress-1', match: { signatures: [{ gid: 1, sid: 7 }] } },
        { name: 'suppress-2', match: { signatures: [{ gid: 1, sid: 9 }] } },
      ],
      threshold: [{ match: { signatures: [{ gid: 1, sid: 8 }] }, count: 1, seconds: 3600, type: 'limit' }],
    });
    expect(text).not.toContain('\u001B');
  });

  test('without noise is empty', () => {
    expect(read(asPolicy([], 5, 9))).toMatchObject({ suppress: [], threshold: [] });
    expect(asPolicy([], 5, 9)).toContain('5 events, which stand for 9 alerts');
  });
});
