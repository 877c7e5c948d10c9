import { describe, expect, test } from '@jest/globals';
import picocolors from 'picocolors';
import { zeroCounters, type Counters } from '../../agent/capture/protocol.ts';
import type { EndpointState } from '../../agent/capture/supervisor.ts';
import type { Tap } from '../../agent/endpoints/endpoint.ts';
import { duration, size, statusLines } from '../../agent/cli/status-view.ts';
import type { EndpointCoverage, ResourceCoverage } from '../../agent/observe/coverage.ts';
import { takeSnapshot, type Inspecting, type Snapshot } from '../../agent/observe/snapshot.ts';
import type { RuleServerStatus } from '../../agent/rulesets/rule-server.ts';
import type { SourceStatus } from '../../agent/rulesets/schedule.ts';

const plain = picocolors.createColors(false);
const painted = picocolors.createColors(true);
const START = 1_700_000_000_000;

interface Given {
  at?: number;
  countedAt?: number;
  endpoints?: {
    name: string;
    state?: EndpointState;
    counters?: Partial<Counters>;
    coverage?: EndpointCoverage;
    taps?: Tap[];
  }[];
  resources?: ResourceCoverage[];
  agent?: Partial<Inspecting>;
  sets?: Snapshot['rules']['sets'];
  ruleSources?: SourceStatus[];
  ruleServer?: RuleServerStatus;
}

function snapshot({
  at = START + 60_000,
  countedAt = at,
  endpoints = [],
  resources = [],
  agent = {},
  ruleSources = [],
  ruleServer,
  sets = [{ name: 'kubernetes', loaded: 85, failed: 0, version: '0123456789ab', changedAt: START }],
}: Given = {}): Snapshot {
  return takeSnapshot(
    {
      agent: { version: '0.1.0', pid: 7, node: 'node-1', startedAt: START },
      engine: { name: 'snort', version: '3.12.2', binary: '/opt/snort', searchMethods: ['hyperscan'] },
      rules: { files: ['/a', '/b'], loaded: 4087, sets },
      ruleSources,
      ruleServer,
      journalDirectory: '/journal',
    },
    {
      problems: () => [],
      lanes: () => [
        {
          lane: 'lane0',
          engine: { pid: 8, since: START, restarts: 0 },
          capture: { pid: 9, library: 'native' },
          canary: { is: 'alive', missed: 0, lastSeconds: 0.0124, lastSuccess: at - 4000 },
          countedAt,
        },
      ],
      endpoints: () =>
        endpoints.map(({ name, state, counters, coverage, taps }) => ({
          endpoint: {
            id: `shop/${name}`,
            namespace: 'shop',
            name,
            nameAggr: '-',
            interface: 'cali1',
            ...(taps === undefined ? {} : { taps }),
            labels: {},
            addresses: [],
            resources: [],
          },
          lane: 'lane0',
          state: state ?? { is: 'capturing', ifindex: 1, linkType: 'LINKTYPE_ETHERNET' },
          counters: { ...zeroCounters(), ...counters },
          coverage: coverage ?? { sending: false, receiving: false },
        })),
      alerts: () => ({ read: 3, journaled: 2, merged: 1, unparsable: 0, unattributed: 0 }),
      journal: () => ({
        total: 1234,
        evicted: 0,
        bytes: 2048,
        segments: 1,
        appended: 0,
        evictedSegments: 0,
        replacedSegments: 0,
      }),
      policy: () => undefined,
      sinks: () => [],
      ...agent,
    },
    resources,
    undefined,
    at,
  );
}

const lines = (now: Snapshot, before?: Snapshot, columns?: number, rows?: number): string[] =>
  statusLines(now, before, {
    colours: plain,
    ...(columns === undefined ? {} : { columns }),
    ...(rows === undefined ? {} : { rows }),
  });

/** The cells of the line that begins with a word; columns are two spaces apart at least. */
const cells = (all: string[], first: string): string[] =>
  all.find((line) => line.startsWith(`${first} `))?.split(/ {2,}/) ?? [];

describe('a snapshot as lines', () => {
  test('tells node, engine, rules, lanes and journal', () => {
    expect(lines(snapshot())).toEqual([
      'node-1  dpi-agent 0.1.0, pid 7, up 1m00s',
      'state    inspecting',
      'engine   snort 3.12.2 (hyperscan)  /opt/snort',
      'rules    4,087 rules, 2 files',
      'alerts   3 read, 2 journaled, 1 merged',
      'journal  1,234 events, 2.0 KiB in 1 file  /journal',
      '',
      'LANE   ENGINE  CAPTURE        READS FOR  RESTARTS  ENDPOINTS  CANARY',
      'lane0  pid 8   pid 9, native  1m00s             0          0  alive in 12 ms, last 4s ago',
      '',
      'RULE SET    RULES  REFUSED  VERSION       FILES CHANGED',
      'kubernetes     85        0  0123456789ab  1m00s ago',
      '',
      'no endpoints',
    ]);
  });

  test('tells what is wrong with a rule set and with the policy, and what is in use meanwhile', () => {
    const set = {
      name: 'custom',
      loaded: 12,
      failed: 3,
      version: 'aaaaaaaaaaaa',
      changedAt: START,
      problem: 'a.rules:7: no\u001B[2J sid',
    };
    const policy = { file: '/p.yaml', suppressions: 2, thresholds: 1, errors: ['/p.yaml:3:1: what is this'] };
    const shown = lines(snapshot({ sets: [set], agent: { policy: () => policy } }));
    expect(cells(shown, 'custom')).toEqual(['custom', '12', '3', 'aaaaaaaaaaaa', 'a.rules:7: no sid']);
    expect(shown).toEqual(
      expect.arrayContaining(['policy   2 suppressions, 1 threshold  /p.yaml', '         /p.yaml:3:1: what is this']),
    );
    expect(lines(snapshot({ sets: [] })).join('\n')).not.toContain('RULE SET');
  });

  test('sources of rules come with their state, and why there is nothing new', () => {
    const looks = { updated: 0, unchanged: 0, refused: 1, failed: 0 };
    const source = { name: 'talos', set: 'own', state: 'refused', nextAt: START + 120_000, looks } as const;
    const shown = lines(snapshot({ ruleSources: [{ ...source, problem: 'status 403' }] }));
    expect(cells(shown, 'talos')).toEqual(['talos', 'own', 'refused', '-', 'in 1m00s', 'status 403']);
    expect(lines(snapshot()).join('\n')).not.toContain('RULE SOURCE');
  });

  test('the rule server comes with when it answered, and why it does not', () => {
    const server = { url: 'https://rules', answers: true, answeredAt: START };
    expect(lines(snapshot({ ruleServer: server }))).toContain('server   https://rules  answered 1m00s ago');
    const away = { url: 'https://rules', answers: false, problem: 'no \u001B[2Janswer' };
    expect(lines(snapshot({ ruleServer: away }))).toEqual(
      expect.arrayContaining(['server   https://rules  no answer yet', '         no answer']),
    );
  });

  test('tells once why lanes are captured by another library', () => {
    const capture = { pid: 9, library: 'node-pcap', instead: 'not\u001B[2J built' } as const;
    const all = ['lane0', 'lane1'].flatMap((lane) => snapshot().lanes.map((one) => ({ ...one, lane, capture })));
    const shown = lines(snapshot({ agent: { lanes: () => all } }));
    expect(cells(shown, 'lane1').slice(2, 4)).toEqual(['pid 9, node-pcap', '1m00s']);
    expect(shown.filter((line) => line.includes('built'))).toEqual(['captured by node-pcap: not built']);
  });

  test('rates are of the time between two reports of the capture, not between two looks', () => {
    const before = snapshot({
      countedAt: 1_000,
      endpoints: [{ name: 'a', counters: { received: 100, receivedBytes: 1000 } }],
    });
    const now = snapshot({
      countedAt: 3_000,
      endpoints: [{ name: 'a', counters: { received: 700, receivedBytes: 5096 } }],
    });
    expect(cells(lines(now, before), 'shop/a').slice(3, 6)).toEqual(['700', '300', '2.0 KiB']);
    // One report only, another agent, a new endpoint: no rate is known.
    for (const other of [
      snapshot({ countedAt: 3_000, endpoints: [{ name: 'a' }] }),
      { ...before, agent: { ...before.agent, startedAt: START - 1 } },
      snapshot({ countedAt: 1_000 }),
    ]) {
      expect(cells(lines(now, other), 'shop/a').slice(3, 6)).toEqual(['700', '-', '-']);
    }
  });

  test('what is not captured comes first, with its reason, then the busiest', () => {
    const endpoints = (bytes: number): NonNullable<Given['endpoints']> => [
      { name: 'idle' },
      { name: 'busy', counters: { receivedBytes: bytes } },
      { name: 'gone', state: { is: 'waiting', reason: 'there is no interface cali1' } },
    ];
    const shown = lines(
      snapshot({ countedAt: 2, endpoints: endpoints(9) }),
      snapshot({ countedAt: 1, endpoints: endpoints(0) }),
    );
    expect(shown.slice(-3).map((line) => line.split(' ')[0])).toEqual(['shop/gone', 'shop/busy', 'shop/idle']);
    expect(shown.at(-3)).toContain('there is no interface cali1');
  });

  test('interfaces in the pod are marked as such', () => {
    const taps = [{ interface: 'cali1' }, { interface: 'net1', netns: '/proc/1/ns/net' }];
    const shown = lines(snapshot({ endpoints: [{ name: 'plain' }, { name: 'wide', taps }] }));
    expect(shown.at(-2)).toMatch(/^shop\/plain +cali1 +lane0/);
    expect(shown.at(-1)).toMatch(/^shop\/wide +cali1, net1 \(pod\) +lane0/);
  });

  test('lost packets are given with their share', () => {
    const counters = { received: 1000, droppedKernel: 7, droppedQueue: 3, truncated: 5, droppedInterface: 99 };
    expect(lines(snapshot({ endpoints: [{ name: 'a', counters }] })).at(-1)).toContain('10 (1.0%)');
  });

  test('which directions are seen, by endpoint and by resource', () => {
    const shown = lines(
      snapshot({
        endpoints: [
          { name: 'a', coverage: { sending: true, receiving: true } },
          { name: 'b', coverage: { sending: true, receiving: false } },
          { name: 'c', coverage: { sending: true, receiving: true, oneWay: 'sending' } },
          { name: 'd' },
        ],
        resources: [{ resource: 'shop/all', selected: 5, capturing: 4, sending: 3, receiving: 2, both: 2, oneWay: 1 }],
      }),
    );
    expect(['a', 'b', 'c', 'd'].map((name) => cells(shown, `shop/${name}`)[8])).toEqual([
      'both',
      'sending',
      'only sending',
      '-',
    ]);
    expect(cells(shown, 'shop/all')).toEqual(['shop/all', '5', '4', '3', '2', '2', '1']);
  });

  test('problems, and what a sink waits for, are said', () => {
    const shown = lines(
      snapshot({
        agent: {
          problems: () => ['lane0: the engine does not run'],
          lanes: () => [{ lane: 'lane0', engine: { restarts: 3 }, capture: {}, canary: { is: 'missing', missed: 3 } }],
          sinks: () => [
            {
              name: 'syslog',
              pending: 5,
              delivered: 1,
              duplicates: 0,
              deadLettered: 0,
              deadLettersEvicted: 0,
              evicted: 0,
              filtered: 0,
              digested: 0,
              retries: 0,
              failures: {},
              evidence: { joined: 0, late: 0, without: 0 },
              circuit: 'open',
              lastError: 'nobody listens',
            },
          ],
        },
      }),
    );
    expect(shown.slice(1, 3)).toEqual(['state    impaired', 'problem  lane0: the engine does not run']);
    expect(cells(shown, 'lane0')).toEqual(['lane0', 'not running', 'not running', 'not yet', '3', '0', 'missing']);
    expect(cells(shown, 'syslog')).toEqual(['syslog', 'stalled', '1', '5', '0', '0', 'nobody listens']);
  });

  test.each([60, 80, 120])('in %d columns no state and no reason is cut', (columns) => {
    const reason = 'there is no interface cali1; no host route to 10.65.0.9; no bridge has its address';
    const problem = 'lane0: the engine does not run: snort ended with status 1';
    const error = 'https://es.example.com:9200 answered 401: correct sinks.elasticsearch.apiKeyFile';
    const sink = {
      name: 'elasticsearch',
      pending: 5,
      delivered: 123_456,
      duplicates: 0,
      deadLettered: 0,
      deadLettersEvicted: 0,
      evicted: 0,
      filtered: 0,
      digested: 0,
      retries: 0,
      failures: {},
      evidence: { joined: 0, late: 0, without: 0 },
      circuit: 'open',
      lastError: error,
    } as const;
    const shown = lines(
      snapshot({
        endpoints: [
          { name: 'backend-7d4b9c6f5-x2x9z', counters: { received: 1_234_567, receivedBytes: 5e9 } },
          { name: 'ledger-0', state: { is: 'waiting', reason }, counters: { received: 9000, droppedKernel: 33 } },
          { name: 'half', coverage: { sending: true, receiving: true, oneWay: 'sending' } },
        ],
        resources: [
          { resource: 'payments/all', selected: 5, capturing: 4, sending: 3, receiving: 2, both: 2, oneWay: 1 },
        ],
        agent: { problems: () => [problem], sinks: () => [sink] },
      }),
      undefined,
      columns,
    );
    expect(Math.max(...shown.map((line) => line.length))).toBeLessThanOrEqual(columns);
    expect(shown.join('\n')).not.toContain('…');
    const words = shown.join(' ').split(/\s+/).join(' ');
    for (const text of [reason, problem, error, '33 (0.4%)', 'alive in 12 ms, last 4s ago'])
      expect(words).toContain(text);
    expect(shown.find((line) => line.startsWith('shop/backend'))).toMatch(/ capturing$/);
    expect(cells(shown, 'payments/all').at(-1)).toBe('1');
    if (columns >= 80) expect(cells(shown, 'shop/half')).toContain('only sending');
  });

  test('lines fit into the width and their number into the height, colours or not', () => {
    const now = snapshot({ endpoints: Array.from({ length: 50 }, (_, index) => ({ name: `pod-${index}` })) });
    for (const colours of [plain, painted]) {
      const shown = statusLines(now, undefined, { colours, columns: 30, rows: 20 });
      // eslint-disable-next-line no-control-regex
      const bare = shown.map((line) => line.replaceAll(/\u001B\[\d+m/g, ''));
      expect(bare).toHaveLength(20);
      expect(Math.max(...bare.map((line) => line.length))).toBeLessThanOrEqual(30);
      expect(bare.at(-1)).toMatch(/^… and \d+ more$/);
    }
  });

  test('control characters of hostile names are not printed', () => {
    const shown = lines(snapshot({ endpoints: [{ name: '\u001B[2Jevil\r\n\u009B1mname' }] }));
    expect(shown.at(-1)).toMatch(/^shop\/evilname /);
  });

  test('an agent that starts says what it waits for', () => {
    const starting = takeSnapshot(
      {
        agent: { version: '0.1.0', pid: 7, node: 'node-1', startedAt: START },
        engine: { name: 'suricata', version: '7', binary: '/suricata', searchMethods: [] },
        rules: { sets: [], files: ['/a'], loaded: 1 },
        ruleSources: [],
        journalDirectory: '/journal',
      },
      'the engine is starting',
      [],
      { server: 'https://api', synced: false, resources: 0, pods: 1 },
      START,
    );
    expect(lines(starting)).toEqual(
      expect.arrayContaining([
        'state    starting',
        'problem  the engine is starting',
        'cluster  https://api  0 resources, 1 pod on this node  not read to the end yet',
      ]),
    );
  });
});

test.each([
  [0, '0s'],
  [59_400, '59s'],
  [61_000, '1m01s'],
  [3_723_000, '1h02m'],
  [90_000_000, '1d01h'],
])('%d ms are %s', (millis, text) => expect(duration(millis)).toBe(text));

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 KiB'],
  [15_360, '15 KiB'],
  [5 * 2 ** 40, '5 TiB'],
])('%d bytes are %s', (bytes, text) => expect(size(bytes)).toBe(text));
