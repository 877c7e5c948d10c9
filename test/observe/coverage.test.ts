import { describe, expect, test } from '@jest/globals';
import { zeroCounters, type Counters } from '../../agent/capture/protocol.ts';
import { coverResources, createCoverage, type Covered } from '../../agent/observe/coverage.ts';

const WINDOW = 1000;

/** One endpoint, its counters, and a clock. */
function start() {
  let time = 0;
  const counters = zeroCounters();
  const coverage = createCoverage(WINDOW, () => time);
  const endpoint = (): Covered => ({ endpoint: { id: 'a' }, state: { is: 'capturing' }, counters: { ...counters } });
  return {
    coverage,
    /** Counts, lets time go by, and looks. */
    look(more: Partial<Counters> = {}, millis = 100) {
      time += millis;
      for (const [name, count] of Object.entries(more)) counters[name as keyof Counters] += count;
      return coverage.update([endpoint()]);
    },
    of: () => coverage.of('a'),
  };
}

describe('an endpoint', () => {
  test('is seen in a direction for as long as the window after it was', () => {
    const node = start();
    expect(node.of()).toEqual({ sending: false, receiving: false });
    node.look({ sentSeconds: 1 });
    expect(node.of()).toEqual({ sending: true, receiving: false });
    node.look({ receivedSeconds: 1 }, WINDOW);
    expect(node.of()).toEqual({ sending: true, receiving: true });
    node.look({}, 1);
    expect(node.of()).toEqual({ sending: false, receiving: true });
  });

  test.each([
    ['sending', 'flowsSentOnly'],
    ['receiving', 'flowsReceivedOnly'],
  ] as const)('is one-way, %s, after two flows of it, until none was for the window', (oneWay, counter) => {
    const node = start();
    expect(node.look({ [counter]: 1, flowsBothWays: 5 })).toEqual([]);
    expect(node.look({ [counter]: 1 }, WINDOW)).toEqual([{ id: 'a', oneWay }]);
    expect(node.of()).toMatchObject({ oneWay });
    // Said once.
    expect(node.look()).toEqual([]);
  });

  test('is no longer one-way when the flows are older than the window', () => {
    const node = start();
    expect(node.look({ flowsSentOnly: 2 })).toHaveLength(1);
    expect(node.look({ flowsBothWays: 1 }, WINDOW)).toEqual([]);
    expect(node.look({ flowsBothWays: 1 }, 1)).toEqual([{ id: 'a' }]);
    expect(node.of()).not.toHaveProperty('oneWay');
  });

  test('that is captured elsewhere from now on is no longer one-way, whatever was counted until the next look', () => {
    const node = start();
    expect(node.look({ flowsSentOnly: 2 })).toHaveLength(1);
    node.coverage.forget('a');
    expect(node.of()).toEqual({ sending: false, receiving: false });
    expect(node.look({ flowsSentOnly: 2, sentSeconds: 1 })).toEqual([]);
    expect(node.look({ flowsSentOnly: 1, sentSeconds: 1 })).toEqual([]);
    expect(node.of()).toEqual({ sending: true, receiving: false });
    expect(node.look({ flowsSentOnly: 1 })).toEqual([{ id: 'a', oneWay: 'sending' }]);
  });

  test('whose packets the kernel dropped meanwhile is not taken for one-way', () => {
    const node = start();
    expect(node.look({ flowsSentOnly: 2, droppedKernel: 1 })).toEqual([]);
    expect(node.look({ flowsSentOnly: 2 })).toHaveLength(1);
  });

  test('cannot hide by frames that the kernel drops behind its interface', () => {
    const node = start();
    expect(node.look({ flowsSentOnly: 2, droppedInterface: 5 })).toHaveLength(1);
  });

  test('that is gone is forgotten, and begins anew', () => {
    const node = start();
    node.look({ flowsSentOnly: 2, sentSeconds: 1 });
    node.coverage.update([]);
    expect(node.of()).toEqual({ sending: false, receiving: false });
  });

  test('whose counters begin anew is not seen for that', () => {
    const node = start();
    node.look({ sentSeconds: 5 });
    node.look({ sentSeconds: -5 }, WINDOW + 1);
    expect(node.of().sending).toBe(false);
  });
});

test('a resource has its pods by what is seen of them, also those that are not captured', () => {
  const entry = (id: string, is: string, sending: boolean, receiving: boolean) => ({
    endpoint: { id },
    state: { is },
    coverage: { sending, receiving, ...(id === 'b' ? { oneWay: 'sending' as const } : {}) },
  });
  const rows = coverResources(
    new Map([
      ['shop/none', []],
      ['shop/all', ['a', 'b', 'c', 'gone']],
    ]),
    [
      entry('a', 'capturing', true, true),
      entry('b', 'capturing', true, false),
      entry('c', 'waiting', false, true),
      entry('other', 'capturing', true, true),
    ],
  );
  expect(rows).toEqual([
    { resource: 'shop/all', selected: 4, capturing: 2, sending: 2, receiving: 2, both: 1, oneWay: 1 },
    { resource: 'shop/none', selected: 0, capturing: 0, sending: 0, receiving: 0, both: 0, oneWay: 0 },
  ]);
});
