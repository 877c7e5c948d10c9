/**
 * A snapshot as lines for people; with the one before it, with rates. Text from outside is printed without control
 * characters.
 */
import { lostOf, type Counters } from '../capture/protocol.ts';
import type { CanaryStatus } from '../observe/canary.ts';
import type { PolicyStatus } from '../alerts/used-policy.ts';
import type { EndpointCoverage } from '../observe/coverage.ts';
import type { EndpointSnapshot, LaneSnapshot, Snapshot } from '../observe/snapshot.ts';
import { stripControls } from '../text.ts';
import { grouped, type Colours } from './print.ts';

export interface ViewOptions {
  colours: Colours;
  /** Lines are cut to this many characters; by default they are not. */
  columns?: number;
  /** So many lines at most: what has no room is counted. */
  rows?: number;
}

type Paint = keyof Pick<Colours, 'bold' | 'dim' | 'red' | 'green' | 'yellow'>;
type Cell = string | { text: string; paint: Paint };
type Line = Cell[];

/** @param before The same agent's snapshot some time earlier. */
export function statusLines(snapshot: Snapshot, before: Snapshot | undefined, options: ViewOptions): string[] {
  const lines = [
    ...head(snapshot),
    [],
    ...lanes(snapshot),
    ...captureWarnings(snapshot),
    ...ruleSets(snapshot),
    ...ruleSources(snapshot),
    ...sinks(snapshot),
    ...resources(snapshot),
    [],
    ...endpoints(snapshot, before),
  ];
  const { rows = Infinity, columns = Infinity, colours } = options;
  const left = lines.length - rows;
  const shown = left <= 0 ? lines : [...lines.slice(0, rows - 1), [dim(`… and ${grouped(left + 1)} more`)]];
  return shown.map((line) => print(line, columns, colours));
}

function head(snapshot: Snapshot): Line[] {
  const { agent, engine, rules, policy, state, problems, alerts, journal, cluster, time } = snapshot;
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
    ...(policy === undefined ? [] : policyLines(policy, label)),
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
            `${grouped(journal.total)} events, ${size(journal.bytes)} in ${plural(journal.segments, 'file')}  ${journal.directory}`,
            ...(journal.evicted === 0
              ? []
              : [{ text: `  ${grouped(journal.evicted)} evicted`, paint: 'yellow' } as const]),
          ],
        ]),
  ];
}

function lanes({ lanes: all, endpoints: every, time }: Snapshot): Line[] {
  return table(
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

function policyLines({ file, suppressions, thresholds, errors }: PolicyStatus, label: (name: string) => Cell): Line[] {
  return [
    [label('policy'), `${plural(suppressions, 'suppression')}, ${plural(thresholds, 'threshold')}  ${file}`],
    ...errors.map((error): Line => [label(''), { text: error, paint: 'red' }]),
  ];
}

function ruleSets({ rules: { sets }, time }: Snapshot): Line[] {
  if (sets.length === 0) return [];
  return [
    [],
    ...table(
      ['RULE SET', '>RULES', '>REFUSED', 'VERSION', 'FILES CHANGED'],
      sets.map(({ name, loaded, failed, version, changedAt, problem }) => [
        name,
        grouped(loaded),
        failed === 0 ? '0' : { text: grouped(failed), paint: 'yellow' },
        version,
        problem === undefined ? `${duration(time - changedAt)} ago` : { text: problem, paint: 'red' },
      ]),
    ),
  ];
}

function ruleSources({ ruleSources: all = [], time }: Snapshot): Line[] {
  if (all.length === 0) return [];
  return [
    [],
    ...table(
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

function sinks({ sinks: all, time }: Snapshot): Line[] {
  if (all.length === 0) return [];
  return [
    [],
    ...table(
      ['SINK', 'STATE', '>DELIVERED', '>PENDING', '>REFUSED', '>EVICTED', 'LAST'],
      all.map((sink) => [
        sink.name,
        sink.circuit === 'open'
          ? { text: 'stalled', paint: 'red' }
          : { text: sink.pending === 0 ? 'idle' : 'sending', paint: 'green' },
        grouped(sink.delivered),
        grouped(sink.pending),
        sink.deadLettered === 0 ? '0' : { text: grouped(sink.deadLettered), paint: 'yellow' },
        sink.evicted === 0 ? '0' : { text: grouped(sink.evicted), paint: 'red' },
        sink.circuit === 'open' && sink.lastError !== undefined
          ? { text: sink.lastError, paint: 'red' }
          : sink.lastSuccess === undefined
            ? '-'
            : `${duration(time - sink.lastSuccess)} ago`,
      ]),
    ),
  ];
}

function resources({ resources: all }: Snapshot): Line[] {
  if (all.length === 0) return [];
  return [
    [],
    ...table(
      ['RESOURCE', '>SELECTED', '>CAPTURING', '>SENDING', '>RECEIVING', '>BOTH', '>ONE WAY'],
      all.map(({ resource, selected, capturing, sending, receiving, both, oneWay }) => [
        resource,
        grouped(selected),
        capturing < selected ? { text: grouped(capturing), paint: 'yellow' } : grouped(capturing),
        ...[sending, receiving, both].map(grouped),
        oneWay === 0 ? '0' : { text: grouped(oneWay), paint: 'red' },
      ]),
    ),
  ];
}

function endpoints(snapshot: Snapshot, before: Snapshot | undefined): Line[] {
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
  return table(
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

/** @param head Columns with `>` are aligned to the right; the last one is not padded. */
function table(titles: string[], rows: Cell[][]): Line[] {
  const names = titles.map((title) => title.replace('>', ''));
  const widths = names.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => textOf(row[column] ?? '').length)),
  );
  const fit = (cell: Cell, column: number): Cell => {
    const width = widths[column] ?? 0;
    const right = titles[column]?.startsWith('>') === true;
    const last = column === titles.length - 1 && !right;
    const clean = textOf(cell);
    const padded = right ? clean.padStart(width) : last ? clean : clean.padEnd(width);
    const gap = last ? '' : '  ';
    return typeof cell === 'string' ? `${padded}${gap}` : { ...cell, text: `${padded}${gap}` };
  };
  return [
    names.map((name, column) => fit({ text: name, paint: 'bold' }, column)),
    ...rows.map((row) => row.map((cell, column) => fit(cell, column))),
  ];
}

function textOf(cell: Cell): string {
  return stripControls(typeof cell === 'string' ? cell : cell.text);
}

/** Cut to the width first, and painted then: an escape is not cut in two. */
function print(line: Line, columns: number, colours: Colours): string {
  let room = columns;
  const parts: string[] = [];
  for (const cell of line) {
    const characters = Array.from(textOf(cell));
    const fits = characters.length <= room;
    const shown = fits ? characters.join('') : `${characters.slice(0, Math.max(0, room - 1)).join('')}…`;
    parts.push(typeof cell === 'string' ? shown : colours[cell.paint](shown));
    if (!fits) break;
    room -= characters.length;
    if (room === 0) break;
  }
  return parts.join('').trimEnd();
}

function dim(what: string): Cell {
  return { text: what, paint: 'dim' };
}

function plural(count: number, what: string): string {
  return `${grouped(count)} ${what}${count === 1 ? '' : 's'}`;
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
