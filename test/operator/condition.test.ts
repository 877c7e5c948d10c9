import { expect, test } from '@jest/globals';
import { report, type IntrusionDetection } from '../../agent/operator/condition.ts';
import type { Verdict } from '../../agent/operator/desired.ts';
import { scriptedClient } from '../kube/scripted-client.ts';

const { signal } = new AbortController();
const good: Verdict = { status: true, reason: 'Applied', message: 'limits cpu 1' };
const bad: Verdict = { status: false, reason: 'InvalidSettings', message: 'x\u001B[31m' };
const READY = 'DeepPacketInspectionReady';

function detection(conditions: object[], generation = 1): IntrusionDetection {
  return {
    metadata: { name: 'tigera-secure', uid: 'u', resourceVersion: '5', generation },
    status: { conditions },
  };
}

function written(verdict: Verdict, before: IntrusionDetection) {
  const client = scriptedClient(() => ({}));
  return report(client, before, verdict, signal).then((did) => {
    const [patch, event] = client.requests;
    const { status } = (patch?.patch ?? {}) as { status?: { conditions: Record<string, unknown>[] } };
    return { did, requests: client.requests, conditions: status?.conditions, event: event?.patch };
  });
}

test('a first condition is added behind those of others, with an event', async () => {
  const other = { type: 'Ready', status: 'True' };
  const { conditions, requests, event } = await written(bad, detection([other]));
  expect(requests[0]).toMatchObject({
    path: '/apis/operator.tigera.io/v1/intrusiondetections/tigera-secure/status',
    patch: { metadata: { resourceVersion: '5' } },
  });
  expect(conditions).toEqual([
    other,
    {
      type: READY,
      status: 'False',
      reason: 'InvalidSettings',
      message: 'x',
      observedGeneration: 1,
      lastTransitionTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:]{8}Z$/),
    },
  ]);
  expect(event).toMatchObject({
    type: 'Warning',
    reason: 'InvalidSettings',
    message: 'x',
    involvedObject: { kind: 'IntrusionDetection', uid: 'u' },
    metadata: { namespace: 'default' },
  });
});

test('what it says already is not written', async () => {
  const said = { type: READY, status: 'True', reason: 'Applied', message: 'limits cpu 1', observedGeneration: 1 };
  expect(await written(good, detection([said]))).toMatchObject({ did: false, requests: [] });
});

test('a new generation with the same outcome is noted without an event', async () => {
  const lastTransitionTime = '2026-01-01T00:00:00Z';
  const said = {
    type: READY,
    status: 'True',
    reason: 'Applied',
    message: 'limits cpu 1',
    observedGeneration: 1,
    lastTransitionTime,
  };
  const { conditions, requests } = await written(good, detection([said], 2));
  expect(conditions).toEqual([{ ...said, observedGeneration: 2 }]);
  expect(requests).toHaveLength(1);
});

test('the time is that of the last change of its status', async () => {
  const lastTransitionTime = '2026-01-01T00:00:00Z';
  const said = {
    type: READY,
    status: 'True',
    reason: 'Applied',
    message: 'before',
    observedGeneration: 1,
    lastTransitionTime,
  };
  expect((await written(good, detection([said]))).conditions?.[0]).toMatchObject({ lastTransitionTime });
  expect((await written(bad, detection([said]))).conditions?.[0]?.['lastTransitionTime']).not.toBe(lastTransitionTime);
});
