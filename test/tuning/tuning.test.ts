import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readPolicy } from '../../agent/alerts/policy-file.ts';
import { ApiError, type ApiClient } from '../../agent/kube/api.ts';
import { configMapPlace, filesPlace } from '../../agent/tuning/place.ts';
import type { PastAlert } from '../../agent/tuning/preview.ts';
import type { TuneRequest } from '../../agent/tuning/entry.ts';
import { createTuning, TuningError } from '../../agent/tuning/tuning.ts';

const AT = '2026-11-25T12:00:00.000Z';
const FIRST = `# ours
timeZone: Europe/Berlin # of dates
suppress:
  - class: misc-activity # all of it
    pod: [test/*, 'ci/*']
`;

let directory: string;
let policy: string;
let changes: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'dpi-tuning-'));
  policy = join(directory, 'policy.yaml');
  changes = join(directory, 'changes.conf');
});
beforeEach(() => {
  writeFileSync(policy, FIRST);
  rmSync(changes, { force: true });
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const tuning = () => createTuning(filesPlace({ policy, changes }), () => new Date(AT));
const text = (): string => readFileSync(policy, 'utf8');
const entry = (more: Partial<TuneRequest> = {}): TuneRequest => ({
  kind: 'suppress',
  signature: '1:408',
  reason: 'our own: "scanner" # of',
  ...more,
});

describe('an entry', () => {
  test('is added with who made it and why, and what was there stays as it is', async () => {
    const added = await tuning().add(
      entry({ pod: 'ci/runner-*', until: '2099-01-31', source: '2001:db8::/32' }),
      'anna',
    );
    expect(added).toEqual({
      name: 'suppress-408',
      kind: 'suppress',
      says: { signature: '1:408', pod: 'ci/runner-*', source: '2001:db8::/32' },
      until: '2099-01-31',
      reason: 'our own: "scanner" # of',
      by: 'anna',
      at: AT,
      over: false,
    });
    expect(text().startsWith(FIRST)).toBe(true);
    expect(readPolicy(policy)).toMatchObject({ suppress: [{ name: 'suppress-1' }, { name: 'suppress-408' }] });
  });

  test('has a name of its own, and is taken out by it: then the text is that of before', async () => {
    const all = tuning();
    const before = (await all.list()).map(({ name }) => name);
    await Promise.all([all.add(entry(), 'anna'), all.add(entry(), 'bob')]);
    await all.add(entry({ kind: 'limit', count: 2, seconds: 60, track: 'by_pod' }), 'anna');
    expect((await all.list()).map(({ name }) => name)).toEqual([
      ...before,
      'suppress-408',
      'suppress-408-2',
      'limit-408',
    ]);
    for (const name of ['suppress-408', 'limit-408', 'suppress-408-2']) await all.remove(name);
    expect(text()).toBe(FIRST);
    await expect(all.remove('suppress-408')).rejects.toThrow(TuningError);
  });

  test('turns a rule off by its line in the changes, and on again', async () => {
    writeFileSync(changes, 'disable class:misc-activity\nenable 1:408\n');
    expect(await tuning().add({ kind: 'off', signature: '1:408', reason: 'useless' }, 'anna')).toMatchObject({
      name: 'off-1-408',
      reason: 'useless',
      by: 'anna',
    });
    expect(readFileSync(changes, 'utf8')).toBe(
      `disable class:misc-activity\ndisable 1:408 # useless (by anna, ${AT})\n`,
    );
    await tuning().remove('off-1-408');
    expect(readFileSync(changes, 'utf8')).toBe('disable class:misc-activity\n');
  });

  test.each<[string, Partial<TuneRequest>, string]>([
    ['nothing to select by', { signature: '' }, 'matches every alert'],
    ['a pod of no form', { pod: 'runner' }, 'expected namespace/name'],
    ['a network of all', { signature: '', source: '0.0.0.0/0' }, 'matches every alert'],
    ['an end that is over', { until: '2020-01-01' }, 'expected a time to come'],
    ['no reason', { reason: ' ' }, 'reason: expected'],
    ['a limit of none', { kind: 'limit', count: 0 }, 'expected an integer'],
    ['a rule that is not named', { kind: 'off', signature: '408' }, 'turned off by it'],
  ])('with %s is refused, and nothing is written', async (_, more, why) => {
    await expect(tuning().add(entry(more), 'anna')).rejects.toThrow(why);
    expect(text()).toBe(FIRST);
  });

  test('of a policy that is wrong, or of aliases, is not added', async () => {
    for (const wrong of ['suppress: [{ nonsense: 1 }]\n', 'suppress: &a []\nthreshold: *a\n', 'a: [\n']) {
      writeFileSync(policy, wrong);
      await expect(tuning().add(entry({ kind: 'limit' }), 'anna')).rejects.toThrow(TuningError);
      expect(text()).toBe(wrong);
    }
  });
});

const past = (number: number, more: Partial<PastAlert> = {}): PastAlert => ({
  timestamp: new Date(Date.parse(AT) + number * 60_000).toISOString(),
  severity: 40,
  gid: '1',
  sid: '408',
  rev: '3',
  message: 'Echo',
  protocol: 'ICMP',
  source: { ip: `10.0.0.${number % 2}` },
  destination: { ip: '10.65.0.1' },
  resource: 'ci/all',
  seenAt: ['ci/runner-a'],
  count: 1,
  ...more,
});

describe('what it would have left out', () => {
  test('is judged as an agent does it, each pod that saw it by itself', () => {
    const alerts = [
      past(1, { count: 5 }),
      past(2, { severity: 100 }),
      past(3, { seenAt: ['ci/runner-a', 'shop/cart-0'] }),
      past(4, { sid: '7' }),
      past(5, { seenAt: ['shop/cart-0'] }),
    ];
    expect(tuning().attempt(entry({ pod: 'ci/*', until: '2099-01-01' }), alerts)).toEqual({
      events: 5,
      leftOut: 2,
      alerts: 9,
      alertsLeftOut: 6,
      criticalLeftOut: 1,
      since: past(1).timestamp,
      kinds: [{ signature: '1:408', message: 'Echo', leftOut: 2 }],
    });
  });

  test('by a limit is counted in windows of the alerts’ own times, whatever their order', () => {
    const alerts = Array.from({ length: 10 }, (_, number) => past(number)).toReversed();
    const limit = entry({ kind: 'limit', count: 1, seconds: 300, track: 'by_source' });
    // Of each of two sources five, every other minute: of six minutes the first two pass.
    expect(tuning().attempt(limit, alerts)).toMatchObject({ events: 10, leftOut: 6 });
  });
});

describe('a ConfigMap', () => {
  /** One that somebody else changes just before the first write. */
  function cluster(first?: Record<string, string>) {
    let version = 1;
    let data = first;
    let others = 1;
    const client = {
      server: 'https://api.test',
      get: () =>
        data === undefined
          ? Promise.reject(new ApiError('none', 404, 'NotFound'))
          : Promise.resolve({ metadata: { resourceVersion: String(version) }, data }),
      create: (_: string, object: { data: Record<string, string> }) => Promise.resolve((data = object.data)),
      mergePatch(_: string, patch: { metadata: { resourceVersion: string }; data: Record<string, string> }) {
        if (others-- > 0) {
          data = { ...data, 'policy.yaml': `# theirs\n${data?.['policy.yaml'] ?? ''}` };
          version += 1;
        }
        if (patch.metadata.resourceVersion !== String(version))
          return Promise.reject(new ApiError('changed', 409, 'Conflict'));
        return Promise.resolve((data = { ...data, ...patch.data }));
      },
    } as unknown as ApiClient;
    return { client, data: () => data };
  }

  test('is changed where it is, and what somebody else wrote meanwhile stays', async () => {
    const { client, data } = cluster({ 'policy.yaml': FIRST, other: 'kept' });
    await createTuning(configMapPlace(client, 'tigera-dpi', 'policy')).add(entry(), 'anna');
    expect(data()).toMatchObject({ other: 'kept' });
    expect(data()?.['policy.yaml']).toMatch(/^# theirs\n# ours[\s\S]*name: suppress-408/);
  });

  test('is made where there is none', async () => {
    const { client, data } = cluster();
    await createTuning(configMapPlace(client, 'tigera-dpi', 'policy')).add(entry(), 'anna');
    expect(data()).toEqual({ 'policy.yaml': expect.stringContaining('suppress-408'), 'rule-changes.conf': '' });
  });
});
