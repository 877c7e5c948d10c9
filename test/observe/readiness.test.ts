import { expect, test } from '@jest/globals';
import { readinessOf, type Inspector } from '../../agent/observe/readiness.ts';

function inspector(more: Partial<Inspector> = {}): Inspector {
  return {
    problemsByPart: () => new Map(),
    lanes: () => [{ lane: 'lane0', engine: { since: 1 }, capture: { pid: 2 }, canary: { is: 'alive', missed: 0 } }],
    endpoints: () => [{ state: { is: 'capturing' } }],
    sinks: () => [{ name: 'syslog', circuit: 'closed' }],
    ...more,
  };
}

const unready = (agent: Inspector | string): unknown[] => {
  const { ready, components } = readinessOf(agent);
  return [ready, components.filter((one) => !one.ready)];
};

test('an agent that inspects is ready, each of its parts too', () => {
  expect(readinessOf(inspector())).toEqual({
    ready: true,
    components: [
      { component: 'engine', name: 'lane0', ready: true },
      { component: 'capture', name: 'lane0', ready: true },
      { component: 'canary', name: 'lane0', ready: true },
      { component: 'journal', ready: true },
      { component: 'state', ready: true },
      { component: 'endpoints', ready: true, informational: true },
      { component: 'sink', name: 'syslog', ready: true, informational: true },
    ],
  });
});

test('an agent that starts is not', () => {
  expect(unready('the engine is starting')).toEqual([
    false,
    [{ component: 'agent', ready: false, reason: 'the engine is starting' }],
  ]);
});

test.each([
  [
    'an engine that does not read yet',
    {
      lanes: () => [{ lane: 'lane0', engine: {}, capture: { pid: 2 }, canary: { is: 'waiting' as const, missed: 0 } }],
    },
    { component: 'engine', name: 'lane0', reason: 'the engine does not read packets yet' },
  ],
  [
    'an engine that died',
    { problemsByPart: () => new Map([['lane0', 'snort was ended by SIGKILL']]) },
    { component: 'engine', name: 'lane0', reason: 'snort was ended by SIGKILL' },
  ],
  [
    'a capture process that died',
    {
      lanes: () => [{ lane: 'lane0', engine: { since: 1 }, capture: {}, canary: { is: 'alive' as const, missed: 0 } }],
    },
    { component: 'capture', name: 'lane0', reason: 'the capture process starts again' },
  ],
  [
    'a capture process that cannot start',
    {
      problemsByPart: () => new Map([['capture/lane0', 'nothing can be captured: it is not built']]),
      lanes: () => [{ lane: 'lane0', engine: { since: 1 }, capture: {}, canary: { is: 'alive' as const, missed: 0 } }],
    },
    { component: 'capture', name: 'lane0', reason: 'nothing can be captured: it is not built' },
  ],
  [
    'a canary that is missing',
    { problemsByPart: () => new Map([['canary/lane0', 'it does not come back']]) },
    { component: 'canary', name: 'lane0', reason: 'it does not come back' },
  ],
  [
    'a journal without room',
    { problemsByPart: () => new Map([['journal', 'ENOSPC']]) },
    { component: 'journal', reason: 'ENOSPC' },
  ],
  [
    'state that cannot be deleted',
    { problemsByPart: () => new Map([['state', 'EROFS']]) },
    { component: 'state', reason: 'EROFS' },
  ],
  [
    'a part that has no component of its own',
    { problemsByPart: () => new Map([['alerts/lane0', 'EIO']]) },
    { component: 'agent', name: 'alerts/lane0', reason: 'EIO' },
  ],
])('%s makes it unready, and only that', (_, more: Partial<Inspector>, expected) => {
  expect(unready(inspector(more))).toEqual([false, [{ ready: false, ...expected }]]);
});

test('what waits for others is said, and the agent is ready', () => {
  const agent = inspector({
    endpoints: () => [{ state: { is: 'waiting' } }, { state: { is: 'capturing' } }],
    sinks: () => [{ name: 'elasticsearch', circuit: 'open', lastError: 'ECONNREFUSED' }],
  });
  expect(unready(agent)).toEqual([
    true,
    [
      {
        component: 'endpoints',
        ready: false,
        reason: '1 not captured, for want of their interface',
        informational: true,
      },
      { component: 'sink', name: 'elasticsearch', ready: false, reason: 'ECONNREFUSED', informational: true },
    ],
  ]);
});
