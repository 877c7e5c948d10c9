/**
 * `dpi-agent rules noisy`: the signatures with the most events in the journal, and what would make them fewer, as a
 * policy that can be pasted.
 *
 * What is suggested: for the most severe ones a limit only, never silence; for others with almost all events from one
 * source to suppress these, for those of moderate severity also where almost all are at one pod; else a limit. How many
 * events a limit would have left is counted, on the journal's times.
 *
 * Memory is bounded whatever the journal's size: MAX_SIGNATURES signatures, MAX_KEYS pods and sources of each; what is
 * beyond counts in the sums.
 */
import { isIP } from 'node:net';
import cliProgress from 'cli-progress';
import type { Argv, CommandModule } from 'yargs';
import { shown } from '../../config/text.ts';
import { errorCode } from '../../files/errors.ts';
import { searchJournal, type SearchedEvent } from '../../journal/search.ts';
import { stripControls } from '../../text.ts';
import { levelOf } from '../../events/level.ts';
import { CommandError, EXIT } from '../exit.ts';
import { timeOf } from '../events/flags.ts';
import { grouped, plural } from '../print.ts';
import { COMMON_FLAGS, readConfig } from '../setup.ts';
import { printJson } from './common.ts';

const MAX_SIGNATURES = 10_000;
const MAX_KEYS = 1_000;
/** More than this share at one place is a matter of that place. */
const CONCENTRATED = 0.8;
const LIMIT_SECONDS = 3_600;
const SEVERE = 100;
const MODERATE = 60;

interface NoisyArgv {
  since?: string;
  until?: string;
  top: string;
  min: string;
  output: string;
}

export const command: CommandModule<object, NoisyArgv> = {
  command: 'noisy',
  describe: 'The signatures with the most events, and a policy that makes them fewer',
  builder: (args: Argv) =>
    args
      .option('config', COMMON_FLAGS.config)
      .option('journal.directory', { type: 'string', describe: "The journal's folder; default: the configuration's" })
      .option('since', { type: 'string', describe: 'Not before: 30m, 1h, 7d ago, or 2026-11-24T00:00:00Z' })
      .option('until', { type: 'string', describe: 'Before: as --since' })
      .option('top', { type: 'string', default: '10', describe: 'At most this many signatures' })
      .option('min', { type: 'string', default: '100', describe: 'Only those with at least this many events' })
      .option('output', {
        alias: 'o',
        choices: ['yaml', 'json'],
        default: 'yaml',
        describe: 'yaml: a policy; json: for programs',
      })
      .strict(false)
      .example('$0 rules noisy --since 7d', 'of the last week')
      .example('$0 rules noisy > policy.yaml', 'as a policy, to be looked at first') as unknown as Argv<NoisyArgv>,
  async handler(argv) {
    const config = readConfig({ ...argv }, ['output', 'since', 'until', 'top', 'min']);
    const filter: { since?: number; until?: number } = { ...time('since', argv.since), ...time('until', argv.until) };
    if ((filter.since ?? -Infinity) >= (filter.until ?? Infinity))
      throw new CommandError(`flag --until: ${shown(argv.until)}: expected a time after --since`);
    const top = count('top', argv.top, 1000);
    const min = count('min', argv.min, 1e9);
    const { directory } = config.journal;
    const noise = createNoise();
    const progress = counter();
    try {
      for await (const { event } of searchJournal({ directory, filter, order: 'oldest' })) {
        noise.add(event);
        progress.update(noise.events());
      }
    } catch (error) {
      const code = errorCode(error);
      if (code === undefined) throw error;
      throw new CommandError(
        `can't read the journal in ${directory}: ${code}: name its folder with --journal.directory`,
        EXIT.failed,
      );
    } finally {
      progress.stop();
    }
    const noisy = noise.top(top, min);
    if (argv.output === 'json') printJson({ events: noise.events(), alerts: noise.alerts(), noisy });
    else process.stdout.write(asPolicy(noisy, noise.events(), noise.alerts()));
  },
};

function time(flag: 'since' | 'until', text: string | undefined): { [Key in typeof flag]?: number } {
  if (text === undefined) return {};
  const value = timeOf(text, Date.now());
  if (value === undefined)
    throw new CommandError(`flag --${flag}: ${shown(text)}: expected a time ago such as 7d, or a time`);
  return { [flag]: value };
}

function count(flag: string, text: string, most: number): number {
  if (/^\d{1,10}$/.test(text) && Number(text) >= 1 && Number(text) <= most) return Number(text);
  throw new CommandError(`flag --${flag}: ${shown(text)}: expected an integer from 1 to ${most}`);
}

export interface NoisySignature {
  signature: string;
  message: string;
  severity: number;
  /** In the journal. */
  events: number;
  /** That they stand for. */
  alerts: number;
  first: string;
  last: string;
  pods: { name: string; events: number }[];
  sources: { name: string; events: number }[];
  suggestion: Suggestion;
}

export type Suggestion = {
  /** Events that there would have been. */
  left: number;
} & (
  | { kind: 'suppress'; signature: string; source?: string; pod?: string }
  | { kind: 'threshold'; signature: string; count: 1; seconds: number; track: 'by_source' | 'by_pod'; type: 'limit' }
);

interface Tally extends Omit<NoisySignature, 'pods' | 'sources' | 'suggestion'> {
  pods: Map<string, number>;
  sources: Map<string, number>;
  limits: { by_source: Limit; by_pod: Limit };
}

/** Windows that a limit of one event would have had. */
interface Limit {
  passed: number;
  starts: Map<string, number>;
}

export interface Noise {
  add(event: SearchedEvent): void;
  events(): number;
  alerts(): number;
  /** The noisiest, the noisiest first. */
  top(most: number, minEvents: number): NoisySignature[];
}

export function createNoise(): Noise {
  const tallies = new Map<string, Tally>();
  let events = 0;
  let alerts = 0;
  return {
    add(event) {
      const { record } = event;
      const stands = record.count !== undefined && record.count > 1 ? record.count : 1;
      events++;
      alerts += stands;
      const signature = `${record.generator_id}:${record.snort_signature_id}`;
      let tally = tallies.get(signature);
      if (tally === undefined) {
        if (tallies.size >= MAX_SIGNATURES || !/^\d{1,10}:\d{1,10}$/.test(signature)) return;
        tally = {
          signature,
          message: stripControls(record.message.slice(0, 1024)),
          severity: 0,
          events: 0,
          alerts: 0,
          first: record.timestamp,
          last: record.timestamp,
          pods: new Map(),
          sources: new Map(),
          limits: { by_source: { passed: 0, starts: new Map() }, by_pod: { passed: 0, starts: new Map() } },
        };
        tallies.set(signature, tally);
      }
      tally.events++;
      tally.alerts += stands;
      tally.severity = Math.max(tally.severity, event.severity);
      if (record.timestamp < tally.first) tally.first = record.timestamp;
      if (record.timestamp > tally.last) tally.last = record.timestamp;
      const pod = podOf(event);
      increase(tally.pods, pod);
      increase(tally.sources, event.source_ip);
      const seconds = Date.parse(record.timestamp) / 1000;
      limit(tally.limits.by_source, event.source_ip, seconds);
      limit(tally.limits.by_pod, pod, seconds);
    },
    events: () => events,
    alerts: () => alerts,
    top: (most, minEvents) =>
      [...tallies.values()]
        .filter((tally) => tally.events >= minEvents)
        .toSorted((a, b) => b.events - a.events || (a.signature < b.signature ? -1 : 1))
        .slice(0, most)
        .map((tally) => {
          const { pods, sources, limits: _, ...rest } = tally;
          return { ...rest, pods: most5(pods), sources: most5(sources), suggestion: suggest(tally) };
        }),
  };
}

function increase(map: Map<string, number>, key: string): void {
  const before = map.get(key);
  if (before !== undefined || map.size < MAX_KEYS) map.set(key, (before ?? 0) + 1);
}

function limit(into: Limit, key: string, seconds: number): void {
  const start = into.starts.get(key);
  if (start !== undefined && seconds - start < LIMIT_SECONDS) return;
  into.passed++;
  if (start !== undefined || into.starts.size < MAX_KEYS) into.starts.set(key, seconds);
}

function most5(map: Map<string, number>): { name: string; events: number }[] {
  return [...map]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, 5)
    .map(([name, events]) => ({ name: stripControls(name), events }));
}

/** The pod at which it was seen: of its owner, where that is known, because pods come and go. */
function podOf(event: SearchedEvent): string {
  const [seen] = event.record.seen_at;
  const namespace = typeof seen?.namespace === 'string' ? seen.namespace : '-';
  const name = typeof seen?.name === 'string' ? seen.name : '-';
  for (const side of ['source', 'dest'] as const) {
    if (event[`${side}_name`] !== name || event[`${side}_namespace`] !== namespace) continue;
    const aggregate: unknown = Reflect.get(event, `${side}_name_aggr`);
    if (typeof aggregate === 'string' && aggregate !== '-' && aggregate !== '') return `${namespace}/${aggregate}`;
  }
  return `${namespace}/${name}`;
}

function suggest({ signature, severity, events, pods, sources, limits }: Tally): Suggestion {
  const [source] = most5(sources);
  const [pod] = most5(pods);
  const isMost = (place: { events: number } | undefined): boolean =>
    place !== undefined && place.events >= CONCENTRATED * events;
  if (severity < SEVERE) {
    if (source !== undefined && isMost(source) && isIP(source.name) !== 0) {
      return { kind: 'suppress', signature, source: source.name, left: events - source.events };
    }
    // What comes from everywhere to one pod may be an attack on it: only what is not severe at all.
    if (pod !== undefined && severity <= MODERATE && isMost(pod) && /^[a-z0-9.*-]+\/[a-z0-9.*-]+$/.test(pod.name)) {
      return { kind: 'suppress', signature, pod: pod.name, left: events - pod.events };
    }
  }
  const track = limits.by_pod.passed < limits.by_source.passed ? 'by_pod' : 'by_source';
  return {
    kind: 'threshold',
    signature,
    count: 1,
    seconds: LIMIT_SECONDS,
    track,
    type: 'limit',
    left: limits[track].passed,
  };
}

/** A policy with what it is about in comments. */
export function asPolicy(noisy: readonly NoisySignature[], events: number, alerts: number): string {
  const stands = alerts > events ? `, which stand for ${plural(alerts, 'alert')}` : '';
  const lines = [
    `# ${plural(events, 'event')}${stands}. Look at each entry before you use it: what it suppresses, nobody sees.`,
  ];
  if (noisy.length === 0) return `${lines[0]}\n# No signature has so many that it would be called noisy.\n`;
  const entries = (kind: Suggestion['kind']): NoisySignature[] =>
    noisy.filter(({ suggestion }) => suggestion.kind === kind);
  const suppress = entries('suppress');
  const threshold = entries('threshold');
  if (suppress.length > 0) lines.push('suppress:');
  for (const entry of suppress) {
    const { suggestion } = entry;
    if (suggestion.kind !== 'suppress') continue;
    lines.push(...comment(entry), `  - signature: ${suggestion.signature}`);
    if (suggestion.source !== undefined) lines.push(`    source: ${JSON.stringify(suggestion.source)}`);
    if (suggestion.pod !== undefined) lines.push(`    pod: ${JSON.stringify(suggestion.pod)}`);
  }
  if (threshold.length > 0) lines.push('threshold:');
  for (const entry of threshold) {
    const { suggestion } = entry;
    if (suggestion.kind !== 'threshold') continue;
    const { signature, count: limited, seconds, track, type } = suggestion;
    lines.push(
      ...comment(entry),
      `  - signature: ${signature}`,
      `    count: ${limited}`,
      `    seconds: ${seconds}`,
      `    track: ${track}`,
      `    type: ${type}`,
    );
  }
  return `${lines.join('\n')}\n`;
}

function comment({ message, severity, events, pods, sources, suggestion }: NoisySignature): string[] {
  const places = (what: string, list: NoisySignature['pods']): string =>
    `  #   ${what} ${list.map(({ name, events: some }) => `${name} (${grouped(some)})`).join(', ')}`;
  return [
    `  # ${message || '(no text)'}`,
    `  #   severity ${levelOf(severity)} (${severity}), ${plural(events, 'event')}; this would have left ${grouped(suggestion.left)}`,
    places('at', pods),
    places('from', sources),
  ];
}

function counter(): { update: (events: number) => void; stop: () => void } {
  if (!process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  const bar = new cliProgress.SingleBar({
    format: 'noisy {events} events',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  bar.start(1, 0, { events: '0' });
  return {
    update(events) {
      if (events % 10_000 === 0) bar.update(0, { events: grouped(events) });
    },
    stop: () => bar.stop(),
  };
}
