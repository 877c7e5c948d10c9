import { expect, test } from '@jest/globals';
import { BENCHMARKS } from '../../bench/bench.ts';
import { partsFor } from '../../scripts/bench.mjs';

test.each(['replay', 'cpu', 'memory', 'latency', 'swap', 'observe', 'sizing', 'overload', 'evidence'])(
  '%s needs neither Kubernetes nor Elasticsearch nor a browser',
  (name) => {
    const parts = partsFor({ only: name });
    expect(parts).toEqual(name === 'replay' ? ['engine'] : ['lab', 'engine']);
  },
);

test('what several benchmarks need is named once', () => {
  expect(partsFor({ only: 'cpu, delivery,page', engine: 'both' })).toEqual([
    'lab',
    'elasticsearch',
    'chromium',
    'suricata',
  ]);
});

test('without names it is what the default ones need', () => {
  expect(partsFor({})).toEqual(partsFor({ only: BENCHMARKS.join(',') }));
  expect(partsFor({ engine: 'snort' })).toEqual(['lab', 'control-plane']);
});
