/**
 * A snapshot as lines for people; with the one before it, with rates. Text from outside is printed without control
 * characters.
 */
import { lostOf, type Counters } from '../capture/protocol.ts';
import type { CanaryStatus } from '../observe/canary.ts';
import type { PolicyStatus } from '../alerts/used-policy.ts';
import type { EndpointCoverage } from '../observe/coverage.ts';
import type { ConfigStatus, EndpointSnapshot, LaneSnapshot, Snapshot } from '../observe/snapshot.ts';
import type { RuleServerStatus } from '../rulesets/rule-server.ts';
import { grouped, plural, type Colours } from './print.ts';
import { foldLine, paintLine, tableLines, type Cell, type Line } from './table.ts';

export interface ViewOptions {
  colours: Colours;
  /** No line is longer than this many characters: what has no room goes on below, or is left out of a table. */
  columns?: number;
  /** So many lines at most: what has no room is counted. */
  rows?: number;
}

/** Where a line of the head goes on that is longer than the terminal is wide. */
const HANG = 9;

/** @param before The same agent's snapshot some time earlier. */
export function statusLines(snapshot: Snapshot, before: Snapshot | undefined, options: ViewOptions): string[] {
  const { rows = Infinity, columns = Infinity, colours } = options;
  const tables = [ruleSets, ruleSources, sinks, resources].flatMap((section) => section(snapshot, columns));
  const lines = [
    ...head(snapshot).flatMap((line) => foldLine(line, columns, HANG)),
    [],
    ...lanes(snapshot, columns),
    ...captureWarnings(snapshot).flatMap((line) => foldLine(line, columns, HANG)),
    ...tables,
    [],
    ...endpoints(snapshot, before, columns),
  ];
  const left = lines.length - rows;
  const shown = left <= 0 ? lines : [...lines.slice(0, rows - 1), [dim(`… and ${grouped(left + 1)} more`)]];
  return shown.map((line) => paintLine(line, columns, colours));
}

function head(snapshot: Snapshot): Line[] {
  const { agent, engine, rules, configuration, policy, ruleServer, state, problems, alerts, journal, cluster, time } =
    snapshot;
  const count = (name: string): number => alerts[name] ?? 0;
  const method = engine.searchMethods.length === 0 ? '' : ` (${engine.searchMethods.join(', ')})`;
  const label = (name: string): Cell => dim(name.padEnd(9));
  return [
    [
      { text: agent.node, paint: 'bold' },
      `  dpi-agent ${agent.version}, pid ${agent.pid}, up ${duration(time - agent.startedAt)}`,
    ],
    state === 'inspecting'
      ? [label('state'), { text: 'inspecting', paint: 'green' }]
      : [label('state'), { text: state, paint: state === 'starting' ? 'yellow' : 'red' }],
    ...problems.map((problem): Line => [label('problem'), { text: problem, paint: 'red' }]),
    [label('engine'), `${engine.name} ${engine.version}${method}  ${engine.binary}`],
    [label('rules'), `${plural(rules.loaded, 'rule')}, ${plural(rules.files.length, 'file')}`],
    ...(configuration === undefined ? [] : configurationLines(configuration, label)),
    ...(policy === undefined ? [] : policyLines(policy, label)),
    ...(ruleServer === undefined ? [] : serverLines(ruleServer, label, time)),
    ...(cluster === undefined
      ? []
      : [
          [
            label('cluster'),
            `${cluster.server}  ${plural(cluster.resources, 'resource')}, ${plural(cluster.pods, 'pod')} on this node`,
            ...(cluster.synced ? [] : [{ text: '  not read to the end yet', paint: 'yellow' } as const]),
          ],
        ]),
    [
      label('alerts'),
      `${grouped(count('read'))} read, ${grouped(count('journaled'))} journaled, ${grouped(count('merged'))} merged`,
      ...(['unparsable', 'unattributed', 'failed'] as const)
        .filter((name) => count(name) > 0)
        .map((name): Cell => ({ text: `, ${grouped(count(name))} ${name}`, paint: 'yellow' })),
    ],
    ...(journal === undefined
      ? []
      : [
          [
            label('journal'),
            `${plural(journal.total, 'event')}, ${size(journal.bytes)} in ${plural(journal.segments, 'file')}  ${journal.directory}`,
            ...(journal.evicted === 0
              ? []
              : [{ text: `  ${grouped(journal.evicted)} evicted`, paint: 'yellow' } as const]),
          ],
        ]),
  ];
}

function lanes({ lanes: all, endpoints: every, time }: Snapshot, columns: number): Line[] {
  return tableLines(
    ['LANE', 'ENGINE', 'CAPTURE', 'READS FOR', '>RESTARTS', '>ENDPOINTS', 'CANARY'],
    all.map(({ lane, engine, capture, canary }) => [
      lane,
      engine.pid === undefined ? { text: 'not running', paint: 'red' } : `pid ${engine.pid}`,
      captureOf(capture),
      engine.since === undefined ? { text: 'not yet', paint: 'yellow' } : duration(time - engine.since),
      engine.restarts === 0 ? '0' : { text: grouped(engine.restarts), paint: 'yellow' },
      grouped(every.filter((endpoint) => endpoint.lane === lane).length),
      canaryOf(canary, time),
    ]),
    columns,
    ['READS FOR', 'CAPTURE', 'ENGINE'],
  );
}

function captureOf({ pid, library, instead }: LaneSnapshot['capture']): Cell {
  if (pid === undefined) return { text: 'not running', paint: 'red' };
  const by = `pid ${pid}${library === undefined ? '' : `, ${library}`}`;
  return instead === undefined ? by : { text: by, paint: 'yellow' };
}

/** Why packets are not captured as they should be, once where it is the same on all lanes. */
function captureWarnings({ lanes: all }: Snapshot): Line[] {
  const reasons = new Set(
    all.flatMap(({ capture: { library, instead } }) =>
      instead === undefined ? [] : [`captured by ${library}: ${instead}`],
    ),
  );
  return [...reasons].map((reason): Line => [{ text: reason, paint: 'yellow' }]);
}

/** Nothing where all of the file is in effect. */
function configurationLines({ file, errors, needsRestart }: ConfigStatus, label: (name: string) => Cell): Line[] {
  return [
    ...errors.map((error): Line => [label('config'), { text: `${file} is not taken over: ${error}`, paint: 'red' }]),
    ...(needsRestart.length === 0
      ? []
      : [[label('config'), { text: `needs a restart: ${needsRestart.join(', ')}`, paint: 'yellow' } as const]]),
  ];
}

function policyLines({ file, suppressions, thresholds, errors }: PolicyStatus, label: (name: string) => Cell): Line[] {
  return [
    [label('policy'), `${plural(suppressions, 'suppression')}, ${plural(thresholds, 'threshold')}  ${file}`],
    ...errors.map((error): Line => [label(''), { text: error, paint: 'red' }]),
  ];
}

function serverLines(
  { url, answers, answeredAt, problem }: RuleServerStatus,
  label: (name: string) => Cell,
  time: number,
): Line[] {
  const last = answeredAt === undefined ? 'no answer yet' : `answered ${duration(time - answeredAt)} ago`;
  return [
    [label('server'), `${url}  `, answers ? { text: last, paint: 'green' } : { text: last, paint: 'yellow' }],
    ...(problem === undefined ? [] : [[label(''), { text: problem, paint: 'red' }] satisfies Line]),
  ];
}

function ruleSets({ rules: { sets }, time }: Snapshot, columns: number): Line[] {
  if (sets.length === 0) return [];
  return [
    [],
    ...tableLines(
      ['RULE SET', '>RULES', '>REFUSED', 'VERSION', 'FILES CHANGED'],
      sets.map(({ name, loaded, failed, version, changedAt, problem }) => [
        name,
        grouped(loaded),
        failed === 0 ? '0' : { text: grouped(failed), paint: 'yellow' },
        version,
        problem === undefined ? `${duration(time - changedAt)} ago` : { text: problem, paint: 'red' },
      ]),
      columns,
      ['VERSION'],
    ),
  ];
}

function ruleSources({ ruleSources: all = [], time }: Snapshot, columns: number): Line[] {
  if (all.length === 0) return [];
  return [
    [],
    ...tableLines(
      ['RULE SOURCE', 'SET', 'STATE', 'VERSION', 'NEXT LOOK', 'PROBLEM'],
      all.map(({ name, set, state, version, nextAt, problem }) => [
        name,
        set,
        {
          text: state,
          paint: state === 'current' ? 'green' : state === 'refused' || state === 'failed' ? 'red' : 'yellow',
        },
        version ?? '-',
        `in ${duration(nextAt - time)}`,
        problem === undefined ? '-' : { text: problem, paint: 'red' },
      ]),
      columns,
      ['VERSION', 'NEXT LOOK'],
    ),
  ];
}

function canaryOf({ is, lastSeconds, lastSuccess }: CanaryStatus, time: number): Cell {
  const last = lastSuccess === undefined ? '' : `, last ${duration(time - lastSuccess)} ago`;
  if (is === 'missing') return { text: `missing${last}`, paint: 'red' };
  if (is !== 'alive') return dim(is);
  return {
    text: `alive${lastSeconds === undefined ? '' : ` in ${Math.round(lastSeconds * 1000)} ms`}${last}`,
    paint: 'green',
  };
}

function sinks({ sinks: all, time }: Snapshot, columns: number): Line[] {
  if (all.length === 0) return [];
  // Most have neither.
  const skips = all.some(({ filtered, digested }) => filtered + digested > 0);
  return [
    [],
    ...tableLines(
      [
        'SINK',
        'STATE',
        '>DELIVERED',
        '>PENDING',
        '>REFUSED',
        '>EVICTED',
        ...(skips ? ['>FILTERED', '>DIGESTED'] : []),
        'LAST',
      ],
      all.map((sink) => [
        sink.name,
        sink.circuit === 'open'
          ? { text: 'stalled', paint: 'red' }
          : { text: sink.pending === 0 ? 'idle' : 'sending', paint: 'green' },
        grouped(sink.delivered),
        grouped(sink.pending),
        sink.deadLettered === 0 ? '0' : { text: grouped(sink.deadLettered), paint: 'yellow' },
        sink.evicted === 0 ? '0' : { text: grouped(sink.evicted), paint: 'red' },
        ...(skips ? [grouped(sink.filtered), grouped(sink.digested)] : []),
        sink.circuit === 'open' && sink.lastError !== undefined
          ? { text: sink.lastError, paint: 'red' }
          : sink.lastSuccess === undefined
            ? '-'
            : `${duration(time - sink.lastSuccess)} ago`,
      ]),
      columns,
      ['DELIVERED'],
    ),
  ];
}

function resources({ resources: all }: Snapshot, columns: number): Line[] {
  if (all.length === 0) return [];
  return [
    [],
    ...tableLines(
      ['RESOURCE', '>SELECTED', '>CAPTURING', '>SENDING', '>RECEIVING', '>BOTH', '>ONE WAY'],
      all.map(({ resource, selected, capturing, sending, receiving, both, oneWay }) => [
        resource,
        grouped(selected),
        capturing < selected ? { text: grouped(capturing), paint: 'yellow' } : grouped(capturing),
        ...[sending, receiving, both].map(grouped),
        oneWay === 0 ? '0' : { text: grouped(oneWay), paint: 'red' },
      ]),
      columns,
      ['SENDING', 'RECEIVING', 'SELECTED'],
    ),
  ];
}

function endpoints(snapshot: Snapshot, before: Snapshot | undefined, columns: number): Line[] {
  const all = snapshot.endpoints.map((endpoint) => ({ endpoint, rates: ratesOf(endpoint, snapshot, before) }));
  if (all.length === 0) return [[dim('no endpoints')]];
  // What needs a look first, then the busiest.
  const waits = ({ endpoint }: (typeof all)[number]): number => (endpoint.state.is === 'capturing' ? 1 : 0);
  all.sort(
    (a, b) =>
      waits(a) - waits(b) ||
      (b.rates?.receivedBytes ?? 0) - (a.rates?.receivedBytes ?? 0) ||
      a.endpoint.id.localeCompare(b.endpoint.id),
  );
  return tableLines(
    ['ENDPOINT', 'INTERFACE', 'LANE', '>PACKETS', '>PACKETS/S', '>BYTES/S', '>ENCRYPTED', '>DROPPED', 'SEEN', 'STATE'],
    all.map(({ endpoint: { id, taps, lane, state, counters, encrypted, coverage }, rates }) => [
      id,
      taps.map(({ interface: name, side }) => (side === 'pod' ? `${name} (pod)` : name)).join(', '),
      lane,
      grouped(counters.received),
      rates === undefined ? '-' : rate(rates.received),
      rates === undefined ? '-' : size(rates.receivedBytes),
      encryptedPercent(encrypted.share),
      dropped(counters),
      seen(coverage),
      state.is === 'capturing'
        ? { text: 'capturing', paint: 'green' }
        : { text: state.is === 'waiting' ? state.reason : state.is, paint: 'yellow' },
    ]),
    columns,
    ['ENCRYPTED', 'LANE', 'PACKETS', 'INTERFACE', 'BYTES/S', 'PACKETS/S', 'SEEN'],
  );
}

function encryptedPercent(share: number): string {
  const percent = 100 * share;
  return percent === 0 ? '0' : percent < 0.1 ? '<0.1%' : `${percent.toFixed(1)}%`;
}

function dropped(counters: Counters): Cell {
  const lost = lostOf(counters);
  if (lost === 0) return '0';
  const percent = (100 * lost) / Math.max(counters.received, lost);
  return { text: `${grouped(lost)} (${percent < 0.1 ? '<0.1' : percent.toFixed(1)}%)`, paint: 'red' };
}

function seen({ sending, receiving, oneWay }: EndpointCoverage): Cell {
  if (oneWay !== undefined) return { text: `only ${oneWay}`, paint: 'red' };
  return sending && receiving ? 'both' : sending ? 'sending' : receiving ? 'receiving' : '-';
}

type Rates = Pick<Counters, 'received' | 'receivedBytes'>;

/** For each second between the lane's two reports; undefined: there are no two. */
function ratesOf(endpoint: EndpointSnapshot, now: Snapshot, before: Snapshot | undefined): Rates | undefined {
  const countedAt = (snapshot: Snapshot | undefined): number | undefined =>
    snapshot?.lanes.find(({ lane }) => lane === endpoint.lane)?.countedAt;
  const earlier = before?.endpoints.find(({ id, lane }) => id === endpoint.id && lane === endpoint.lane);
  const [from, to] = [countedAt(before), countedAt(now)];
  if (earlier === undefined || from === undefined || to === undefined || to <= from) return undefined;
  if (now.agent.startedAt !== before?.agent.startedAt) return undefined;
  const per = (name: keyof Rates): number =>
    Math.max(0, ((endpoint.counters[name] - earlier.counters[name]) * 1000) / (to - from));
  return { received: per('received'), receivedBytes: per('receivedBytes') };
}

function dim(what: string): Cell {
  return { text: what, paint: 'dim' };
}

/** 12.3 */
function rate(perSecond: number): string {
  return perSecond < 10 && perSecond > 0 ? perSecond.toFixed(1) : grouped(Math.round(perSecond));
}

/** 1536 → "1.5 KiB" */
export function size(bytes: number): string {
  let value = bytes;
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1000) return `${value < 10 && unit !== 'B' ? value.toFixed(1) : grouped(Math.round(value))} ${unit}`;
    value /= 1024;
  }
  return `${grouped(Math.round(value))} TiB`;
}

/** 3723000 → "1h02m" */
export function duration(millis: number): string {
  const seconds = Math.max(0, Math.round(millis / 1000));
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  const two = (value: number): string => String(value).padStart(2, '0');
  if (days > 0) return `${days}d${two(hours)}h`;
  if (hours > 0) return `${hours}h${two(minutes)}m`;
  return minutes > 0 ? `${minutes}m${two(seconds % 60)}s` : `${seconds}s`;
}
