import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { AttributedAlert } from '../../agent/alerts/attributed.ts';
import { followPolicy, readPolicy, type LoadedPolicy } from '../../agent/alerts/policy-file.ts';
import { createPolicy } from '../../agent/alerts/policy.ts';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'policy-'));
  file = join(directory, 'policy.yaml');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function load(yaml: string, now = 0): LoadedPolicy {
  writeFileSync(file, yaml);
  const read = readPolicy(file, now);
  if ('errors' in read) throw new Error(read.errors.join('\n'));
  return read;
}

function errors(yaml: string): string[] {
  writeFileSync(file, yaml);
  const read = readPolicy(file);
  return 'errors' in read ? read.errors.map((error) => error.replace(`${file}:`, '')) : [];
}

function alert(
  time: string,
  about: { ip?: string; labels?: Record<string, string>; pod?: string } = {},
): AttributedAlert {
  return {
    alert: {
      gid: 1,
      sid: 7,
      message: 'POLICY telnet',
      classification: 'Misc activity',
      timeMicros: Date.parse(time) * 1000,
      source: { ip: about.ip ?? '10.1.2.3' },
      destination: { ip: '10.0.0.2' },
    },
    resource: 'shop/dpi',
    seenAt: [{ id: '', namespace: 'shop', name: about.pod ?? 'web-1', labels: about.labels ?? {} }],
  } as unknown as AttributedAlert;
}

const judge = (yaml: string, one: AttributedAlert): string | undefined =>
  createPolicy(load(yaml), 0).judge(one, () => false);
const NOON = '2026-11-25T12:00:00Z';

test('an empty file lets everything pass', () => {
  expect(load('')).toEqual({ suppress: [], threshold: [], evidence: [], respond: [], expired: [] });
  expect(load('suppress:\nthreshold: []\n')).toMatchObject({ suppress: [], threshold: [] });
});

test('what is kept of packets is what the first entry says that matches', () => {
  const yaml = `
evidence:
  - pod: shop/vault-*
    keep: headers
  - signature: 7
    keep: off
`;
  const policy = createPolicy(load(yaml), 0);
  expect(policy.keep(alert(NOON, { pod: 'vault-1' }))).toBe('headers');
  expect(policy.keep(alert(NOON))).toBe('off');
  expect(createPolicy(load(''), 0).keep(alert(NOON))).toBeUndefined();
  expect(policy.judge(alert(NOON), () => false)).toBeUndefined();
});

describe('a response', () => {
  const entry = 'respond:\n  - name: c2\n    signature: 7\n    respond: isolate\n    severity: high\n';
  const seen = (ip: string, priority: number): AttributedAlert => {
    const one = alert(NOON);
    const [endpoint] = one.seenAt;
    return {
      ...one,
      alert: { ...one.alert, priority },
      seenAt: endpoint === undefined ? [] : [{ ...endpoint, addresses: [ip] }],
    };
  };
  const named = (yaml: string, one: AttributedAlert): string | undefined =>
    createPolicy(load(yaml), 0).respond(one)?.pod.name;

  test('is a dry run, for an hour, and lets nothing through, unless more is said', () => {
    expect(load(entry).respond).toMatchObject([
      { name: 'c2', respond: 'isolate', end: 'source', allow: 'nothing', forMillis: 3_600_000, dryRun: true },
    ]);
    const more = `${entry}    allow: dns\n    for: 30m\n    dryRun: false\n`;
    expect(load(more).respond).toMatchObject([{ allow: 'dns', forMillis: 1_800_000, dryRun: false }]);
  });

  test('is to alerts that are as bad, of the pod at that end: who only attacks has nobody isolated', () => {
    expect(named(entry, seen('10.1.2.3', 2))).toBe('web-1');
    expect(named(entry, seen('10.1.2.3', 3))).toBeUndefined();
    expect(named(entry, seen('10.1.2.3', 0))).toBeUndefined();
    expect(named(entry, seen('10.0.0.2', 1))).toBeUndefined();
    expect(named(`${entry}    end: destination\n`, seen('10.0.0.2', 1))).toBe('web-1');
    expect(named(`${entry}    end: either\n`, seen('10.0.0.2', 1))).toBe('web-1');
    expect(named(`${entry}    pod: other/*\n`, seen('10.1.2.3', 1))).toBeUndefined();
  });

  test('that is wrong is refused, with its place', () => {
    expect(errors('respond:\n  - signature: 7\n    respond: delete\n    for: 10s\n')).toEqual([
      expect.stringContaining('has no severity'),
      expect.stringContaining('respond[0].for: "10s": expected a time from 1m to 30d'),
      expect.stringContaining('respond[0].respond: "delete": expected one of isolate'),
    ]);
    expect(errors(entry.replace('    signature: 7\n', ''))[0]).toContain('matches every alert');
  });
});

test('every criterion can be written, alone or as a list', () => {
  const yaml = `
timeZone: Europe/Berlin
suppress:
  - name: all-of-it
    signature: [7, "3:9"]
    class: [misc-activity, Misc activity]
    message: /^policy/i
    pod: [shop/web-*, other/*]
    selector: app == 'scanner'
    source: [10.0.0.0/8, "fd00::/8", 192.0.2.1]
    destination: 10.0.0.2
threshold:
  - class: misc-activity
    count: 10
    seconds: 60
    track: by_pod
    type: both
`;
  const scanner = { labels: { app: 'scanner' } };
  expect(judge(yaml, alert(NOON, scanner))).toBe('all-of-it');
  expect(judge(yaml, alert(NOON))).toBeUndefined();
  expect(judge(yaml, alert(NOON, { ...scanner, ip: '192.0.2.2' }))).toBeUndefined();
  expect(judge(yaml, alert(NOON, { ...scanner, pod: 'db-1' }))).toBeUndefined();
  expect(load(yaml).threshold).toMatchObject([
    { name: 'threshold-1', count: 10, seconds: 60, track: 'by_pod', type: 'both' },
  ]);
});

describe('time', () => {
  const at = (time: string, criteria: string, zone = 'UTC'): boolean =>
    judge(`timeZone: ${zone}\nsuppress: [{ signature: 7, ${criteria} }]\n`, alert(time)) !== undefined;

  // 2026-11-25 is a Wednesday.
  test.each([
    ['2026-11-25T23:59:59Z', 'days: wed', true],
    ['2026-11-26T00:00:00Z', 'days: wed', false],
    ['2026-11-28T12:00:00Z', 'days: fri-mon', true],
    ['2026-11-25T12:00:00Z', 'days: [mon, thu-sun]', false],
    ['2026-11-25T08:00:00Z', 'hours: "08:00-18:00"', true],
    ['2026-11-25T18:00:00Z', 'hours: "08:00-18:00"', false],
    ['2026-11-25T23:00:00Z', 'hours: "22:00-06:00"', true],
    ['2026-11-25T05:59:00Z', 'hours: "22:00-06:00"', true],
    ['2026-11-25T06:00:00Z', 'hours: "22:00-06:00"', false],
    ['2026-11-25T23:59:00Z', 'hours: "22:00-24:00"', true],
    // The night of Wednesday ends on Thursday.
    ['2026-11-26T05:00:00Z', 'days: wed, hours: "22:00-06:00"', true],
    ['2026-11-25T05:00:00Z', 'days: wed, hours: "22:00-06:00"', false],
    ['2026-12-31T23:59:59Z', 'until: 2026-12-31', true],
    ['2027-01-01T00:00:00Z', 'until: 2026-12-31', false],
    ['2026-11-25T11:59:59Z', 'until: 2026-11-25T12:00:00Z', true],
    ['2026-11-25T12:00:00Z', 'until: 2026-11-25T13:00:00+01:00', false],
  ])('%s with %s: %s', (time, criteria, expected) => {
    expect(at(time, criteria)).toBe(expected);
  });

  test('is that of the zone, also in summer', () => {
    expect(at('2026-11-25T07:30:00Z', 'hours: "08:00-09:00"', 'Europe/Berlin')).toBe(true);
    expect(at('2026-07-01T06:30:00Z', 'hours: "08:00-09:00"', 'Europe/Berlin')).toBe(true);
    expect(at('2026-07-01T21:59:59Z', 'until: 2026-07-01', 'Europe/Berlin')).toBe(true);
    expect(at('2026-07-01T22:00:00Z', 'until: 2026-07-01', 'Europe/Berlin')).toBe(false);
    // The day on which clocks are set back is an hour longer.
    expect(at('2026-10-25T22:59:59Z', 'until: 2026-10-25', 'Europe/Berlin')).toBe(true);
    expect(at('2026-10-25T23:00:00Z', 'until: 2026-10-25', 'Europe/Berlin')).toBe(false);
  });

  test('an entry that is over is told of, with its place', () => {
    const { expired } = load('suppress:\n  - signature: 7\n    until: 2020-01-01\n', Date.parse(NOON));
    expect(expired).toEqual([{ name: 'suppress-1', place: `${file}:3:12` }]);
  });
});

test.each([
  ['suppres: []', '1:1: suppres: is no key here', 'the nearest is suppress'],
  ['suppress: 7', '1:11: suppress: 7: expected a list of entries', ''],
  ['suppress:\n  - 7', '2:5: suppress[0]: 7: expected a mapping', ''],
  ['suppress:\n  - name: x', '2:5: suppress[0]: matches every alert: expected at least one of signature', ''],
  ['suppress:\n  - signature: x', '2:16: suppress[0].signature: "x": expected a signature such as 21562', ''],
  ['suppress:\n  - signature: []', 'suppress[0].signature: a list: expected', ''],
  ['suppress:\n  - sid: 7', '2:5: suppress[0].sid: is no key here', ''],
  ['suppress:\n  - message: "("', 'suppress[0].message: "(": is no regular expression', ''],
  ['suppress:\n  - pod: web', 'suppress[0].pod: "web": expected namespace/name', ''],
  ['suppress:\n  - selector: "a =="', 'suppress[0].selector: "a ==": ', ''],
  ['suppress:\n  - source: 10.0.0.0/33', 'suppress[0].source: "10.0.0.0/33": expected an address', ''],
  ['suppress:\n  - { signature: 7, days: someday }', 'suppress[0].days: "someday": expected days', ''],
  ['suppress:\n  - { signature: 7, hours: "25:00-26:00" }', 'suppress[0].hours: ', 'expected a time'],
  ['suppress:\n  - { signature: 7, until: soon }', 'suppress[0].until: "soon": expected a date', ''],
  [
    'suppress:\n  - { signature: 7, name: a }\n  - { signature: 8, name: a }',
    '3:27: suppress[1].name: "a": is taken',
    '',
  ],
  ['suppress:\n  - { signature: 7, name: "A b" }', 'suppress[0].name: "A b": expected a name', ''],
  ['threshold:\n  - signature: 7', '2:5: threshold[0]: has no count', ''],
  [
    'threshold:\n  - { signature: 7, count: 0, seconds: 1, track: by_rule, type: limit }',
    'count: 0: expected an integer',
    '',
  ],
  [
    'threshold:\n  - { signature: 7, count: 1, seconds: 1, track: by_dst, type: limit }',
    '"by_dst": expected one of',
    '',
  ],
  ['timeZone: Mars/Olympus', '1:11: timeZone: "Mars/Olympus": expected a time zone', ''],
  ['suppress: [', 'is not valid YAML', ''],
])('%j is refused with its place', (yaml, first, second) => {
  const found = errors(yaml);
  expect(found[0]).toContain(first);
  expect(found[0]).toContain(second);
});

test('errors are listed together, but not without end', () => {
  expect(errors(`suppress:\n${'  - 7\n'.repeat(100)}`)).toHaveLength(20);
});

describe('following', () => {
  async function until(condition: () => boolean): Promise<void> {
    for (let tries = 0; !condition(); tries++) {
      if (tries > 3000) throw new Error('it did not come');
      await sleep(10);
    }
  }

  test('reads before it returns, takes changes and the swap of a mounted ConfigMap, and tells of what is no policy', async () => {
    // As the kubelet lays it out: policy.yaml → ..data/policy.yaml, ..data → ..1
    const version = (name: string, yaml: string): void => {
      mkdirSync(join(directory, name));
      writeFileSync(join(directory, name, 'policy.yaml'), yaml);
      symlinkSync(name, join(directory, '..data.new'));
      renameSync(join(directory, '..data.new'), join(directory, '..data'));
    };
    version('..1', 'suppress: [{ signature: 1 }]');
    symlinkSync('..data/policy.yaml', file);
    const seen: string[] = [];
    const { stop } = followPolicy(
      file,
      {
        loaded: ({ suppress }) => seen.push(`loaded ${suppress.map(({ match }) => match.signatures?.[0]?.sid).join()}`),
        refused: ([error = '']) => seen.push(error.replace(file, 'FILE')),
      },
      5,
    );
    try {
      expect(seen).toEqual(['loaded 1']);
      version('..2', 'suppress: [{ signature: 2 }]');
      await until(() => seen.length === 2);
      version('..3', 'suppress: 3');
      await until(() => seen.length === 3);
      rmSync(file);
      await until(() => seen.length === 4);
      writeFileSync(file, 'suppress: [{ signature: 4 }]');
      await until(() => seen.length >= 5);
      expect(seen.slice(0, 3)).toEqual(['loaded 1', 'loaded 2', 'FILE:1:11: suppress: 3: expected a list of entries']);
      expect(seen[3]).toContain("FILE can't be read".slice(0, 4));
      expect(seen.at(-1)).toBe('loaded 4');
    } finally {
      stop();
    }
  });
});
