/**
 * The operator's policy as a YAML file: reading it, with errors that name line and column, and following its changes.
 *
 *     timeZone: Europe/Berlin            # of days, hours and dates; UTC unless given
 *     suppress:
 *       - signature: 1:21562             # or 21562, or a list
 *         pod: shop/scanner-*            # the inspected pod; or a list
 *         until: 2027-01-31              # this day included
 *         reason: our own scanner        # for people, as by and at
 *     threshold:
 *       - class: misc-activity
 *         count: 10
 *         seconds: 60
 *         track: by_source               # by_source, by_pod, by_rule
 *         type: limit                    # limit, threshold, both
 *     evidence:
 *       - pod: shop/vault-*
 *         keep: headers                  # off, headers, full
 *     respond:
 *       - class: trojan-activity
 *         respond: isolate
 *         severity: critical             # at least: critical, high, medium, low
 *         end: source                    # which end the pod is: source, destination, either
 *         allow: dns                     # what still goes through: nothing, dns
 *         for: 2h
 *         dryRun: false                  # true: say what would be cut
 */
import { statSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { parseDuration } from '../config/leaves.ts';
import { nearest } from '../config/nearest.ts';
import { plain, shown } from '../config/text.ts';
import { readYaml, readYamlText, type Path } from '../config/yaml.ts';
import { messageOf } from '../files/errors.ts';
import { isRecord } from '../files/record.ts';
import { matches, parseSelector } from '../kube/selector/selector.ts';
import { globTester, parsePattern } from '../pattern.ts';
import type { Keeping, Match, PolicyRules, Response, Suppression, Threshold } from './policy.ts';
import { thresholdLines } from './threshold-config.ts';

const MAX_ENTRIES = 1_000;
const MAX_ERRORS = 20;
const LOOK_MILLIS = 2_000;
const MINUTE_MILLIS = 60_000;
const DAY_MILLIS = 86_400_000;

export interface LoadedPolicy extends PolicyRules {
  /** Entries whose `until` is over, with where they stand. */
  expired: { name: string; place: string }[];
}

/**
 * Reads a policy. An empty file is a policy that lets everything pass.
 * @returns the policy, or each error as `file:line:column: what`.
 */
export function readPolicy(file: string, now: number = Date.now()): LoadedPolicy | { errors: string[] } {
  const foreign = thresholdLines(file);
  if (foreign.length > 0) return { errors: foreign.slice(0, MAX_ERRORS) };
  return policyOf(readYaml(file), now);
}

/** The same of a text. @param name What errors call it. */
export function parsePolicy(name: string, text: string, now: number = Date.now()): LoadedPolicy | { errors: string[] } {
  return policyOf(readYamlText(name, text), now);
}

function policyOf(yaml: ReturnType<typeof readYaml>, now: number): LoadedPolicy | { errors: string[] } {
  if ('errors' in yaml) return { errors: yaml.errors.map(({ source, problem }) => `${source}: ${problem}`) };
  const errors: string[] = [];
  const report: Report = (path, problem, key) => {
    if (errors.length < MAX_ERRORS) errors.push(`${yaml.locate(path, key)}: ${written(path)}: ${problem}`);
  };
  knownKeys(yaml.data, [], ['timeZone', ...PARTS], report);
  const zone = readZone(yaml.data['timeZone'], report);
  const entries = (key: Part): [Record<string, unknown>, Path][] => entriesOf(key, yaml.data[key] ?? [], report);

  const names = new Set<string>();
  const expired: LoadedPolicy['expired'] = [];
  const readEntry = (entry: Record<string, unknown>, path: Path): Suppression => {
    const read = createReader(entry, path, report);
    const index = Number(path[1]) + 1;
    const name = read('name', NAME, nameOf) ?? `${String(path[0])}-${index}`;
    if (names.has(name)) report([...path, 'name'], `${shown(name)}: is taken: expected a name of its own`);
    names.add(name);
    for (const key of ABOUT_KEYS) read(key, 'a text of at most 512 characters', aboutOf);
    const until = read('until', 'a date such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z', (value) =>
      untilOf(value, zone),
    );
    if (until !== undefined && until <= now) expired.push({ name, place: yaml.locate([...path, 'until']) });
    return { name, match: readMatch(read, entry, path, report, zone, until) };
  };

  const suppress = entries('suppress').map(([entry, path]) => {
    knownKeys(entry, path, ENTRY_KEYS, report);
    return readEntry(entry, path);
  });
  const threshold = entries('threshold').map(([entry, path]): Threshold => {
    knownKeys(entry, path, [...ENTRY_KEYS, ...THRESHOLD_KEYS], report);
    for (const key of THRESHOLD_KEYS) {
      if (entry[key] === undefined) report(path, `has no ${key}: a threshold needs ${THRESHOLD_KEYS.join(', ')}`);
    }
    const read = createReader(entry, path, report);
    return {
      ...readEntry(entry, path),
      count: read('count', 'an integer from 1 to 1000000', (value) => integer(value, 1_000_000)) ?? 1,
      seconds: read('seconds', 'an integer from 1 to 86400', (value) => integer(value, 86_400)) ?? 1,
      track: read('track', oneOf(TRACKS), (value) => TRACKS.find((track) => track === value)) ?? 'by_rule',
      type: read('type', oneOf(TYPES), (value) => TYPES.find((type) => type === value)) ?? 'limit',
    };
  });
  const evidence = entries('evidence').map(([entry, path]): Keeping => {
    knownKeys(entry, path, [...ENTRY_KEYS, 'keep'], report);
    if (entry['keep'] === undefined) report(path, `has no keep: expected ${oneOf(KEEPS)}`);
    const keep = createReader(entry, path, report)('keep', oneOf(KEEPS), (value) => KEEPS.find((one) => one === value));
    return { ...readEntry(entry, path), keep: keep ?? 'off' };
  });
  const respond = entries('respond').map(([entry, path]): Response => {
    knownKeys(entry, path, [...ENTRY_KEYS, ...RESPONSE_KEYS], report);
    for (const key of ['respond', 'severity'])
      if (entry[key] === undefined) report(path, `has no ${key}: a response needs respond and severity`);
    return { ...readEntry(entry, path), ...readResponse(createReader(entry, path, report)) };
  });
  return errors.length > 0 ? { errors } : { suppress, threshold, evidence, respond, expired };
}

const PARTS = ['suppress', 'threshold', 'evidence', 'respond'] as const;
type Part = (typeof PARTS)[number];

/** What is not given is the more careful. */
function readResponse(read: Reader): Omit<Response, 'name' | 'match'> {
  const choose = <T extends string>(key: string, values: readonly T[]): T | undefined =>
    read(key, oneOf(values), (value) => values.find((one) => one === value));
  const level = choose('severity', SEVERITIES) ?? 'critical';
  const forMillis = read('for', 'a time from 1m to 30d, such as 2h', (value) => {
    const millis = typeof value === 'string' ? parseDuration(value) : undefined;
    return millis === undefined || millis < MINUTE_MILLIS || millis > 30 * DAY_MILLIS ? undefined : Math.round(millis);
  });
  return {
    respond: choose('respond', ['isolate']) ?? 'isolate',
    priority: SEVERITIES.indexOf(level) + 1 === SEVERITIES.length ? Infinity : SEVERITIES.indexOf(level) + 1,
    end: choose('end', ['source', 'destination', 'either']) ?? 'source',
    allow: choose('allow', ['nothing', 'dns']) ?? 'nothing',
    forMillis: forMillis ?? 60 * MINUTE_MILLIS,
    dryRun: read('dryRun', 'true or false', (value) => (typeof value === 'boolean' ? value : undefined)) ?? true,
  };
}

/** Those that are mappings, with their places. */
function entriesOf(part: Part, list: unknown, report: Report): [Record<string, unknown>, Path][] {
  if (!Array.isArray(list)) {
    report([part], `${shown(list)}: expected a list of entries`);
    return [];
  }
  if (list.length > MAX_ENTRIES) report([part], `has ${list.length} entries: expected at most ${MAX_ENTRIES}`);
  return list.slice(0, MAX_ENTRIES).flatMap((entry: unknown, index): [Record<string, unknown>, Path][] => {
    if (isMapping(entry)) return [[entry, [part, index]]];
    report([part, index], `${shown(entry)}: expected a mapping such as  signature: 1:21562`);
    return [];
  });
}

/** Who made an entry, when and why: for people. */
const ABOUT_KEYS = ['reason', 'by', 'at'];
const ENTRY_KEYS = [
  'name',
  'signature',
  'class',
  'message',
  'pod',
  'selector',
  'source',
  'destination',
  'days',
  'hours',
  'until',
  ...ABOUT_KEYS,
];
const CRITERIA = ['signature', 'class', 'message', 'pod', 'selector', 'source', 'destination'];
const THRESHOLD_KEYS = ['count', 'seconds', 'track', 'type'];
const RESPONSE_KEYS = ['respond', 'severity', 'end', 'allow', 'for', 'dryRun'];
/** By priority, from 1 on. */
const SEVERITIES = ['critical', 'high', 'medium', 'low'] as const;
const TRACKS = ['by_source', 'by_pod', 'by_rule'] as const;
const KEEPS = ['off', 'headers', 'full'] as const;
const TYPES = ['limit', 'threshold', 'both'] as const;
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

type Report = (path: Path, problem: string, key?: boolean) => void;

type Reader = <T>(key: string, expected: string, read: (value: unknown) => T | undefined) => T | undefined;

/** Names become values of a metric's label. */
const NAME = 'a name of a-z, 0-9, ".", "_" and "-", at most 63 characters';

/**
 * Gives a key's value, or reports what was expected; nothing where there is none. An error that is thrown says more
 * than what is expected.
 */
function createReader(entry: Record<string, unknown>, path: Path, report: Report): Reader {
  return (key, expected, read) => {
    const value = entry[key];
    if (value === undefined || value === null) return undefined;
    let problem = `expected ${expected}`;
    try {
      const result = read(value);
      if (result !== undefined) return result;
    } catch (error) {
      problem = plain(messageOf(error), 200);
    }
    report([...path, key], `${shown(value)}: ${problem}`);
    return undefined;
  };
}

function readMatch(
  read: Reader,
  entry: Record<string, unknown>,
  path: Path,
  report: Report,
  zone: string,
  until: number | undefined,
): Match {
  if (!CRITERIA.some((key) => entry[key] !== undefined && entry[key] !== null)) {
    report(path, `matches every alert: expected at least one of ${CRITERIA.join(', ')}`);
  } else if (CRITERIA.every((key) => matchesAll(key, entry[key]))) {
    report(path, 'matches every alert, or every one of IPv4 or IPv6: expected something that says less');
  }
  const days = read('days', 'days such as mon, mon-fri or [sat, sun]', daysOf);
  const hours = read('hours', 'a time such as 22:00-06:00', hoursOf);
  const when =
    days === undefined && hours === undefined && until === undefined ? undefined : timeTest(zone, days, hours, until);
  const match = {
    signatures: read('signature', 'a signature such as 21562 or 1:21562, or a list of them', listOf(signatureOf)),
    classes: read('class', "a class's name such as misc-activity, or a list of them", listOf(textOf))?.map((name) =>
      name.toLowerCase(),
    ),
    message: read('message', 'a regular expression', (value) => {
      return typeof value === 'string' ? parsePattern(value) : undefined;
    }),
    pods: read('pod', 'namespace/name, with * for any characters, or a list of them', listOf(podOf)),
    labels: read('selector', "a selector such as  app == 'scanner'", (value) => {
      if (typeof value !== 'string') return undefined;
      const selector = parseSelector(value);
      return (labels: Readonly<Record<string, string>>) => matches(selector, labels);
    }),
    source: read('source', ADDRESSES, addressesOf),
    destination: read('destination', ADDRESSES, addressesOf),
    when,
  };
  return Object.fromEntries(Object.entries(match).filter(([, value]) => value !== undefined));
}

/** Whether a criterion holds for all: it is not given, or any of its values does. */
function matchesAll(key: string, value: unknown): boolean {
  if (value === undefined || value === null) return true;
  const values: unknown[] = Array.isArray(value) ? value : [value];
  if (key === 'source' || key === 'destination') return values.some((item) => /^[\d.:a-f]+\/0+$/i.test(String(item)));
  return key === 'pod' && values.some((item) => /^\*+\/\*+$/.test(String(item)));
}

const ADDRESSES = 'an address such as 10.0.0.7 or a network such as 10.0.0.0/8, or a list of them';

function listOf<T>(read: (value: unknown) => T | undefined): (value: unknown) => T[] | undefined {
  return (value) => {
    const values: unknown[] = Array.isArray(value) ? value : [value];
    const results = values.map(read).filter((result) => result !== undefined);
    return results.length === values.length && values.length > 0 && values.length <= MAX_ENTRIES ? results : undefined;
  };
}

function signatureOf(value: unknown): { gid?: number; sid: number } | undefined {
  const [, gid, sid] = /^(?:(\d{1,10}):)?(\d{1,10})$/.exec(String(value)) ?? [];
  if (sid === undefined || Number(sid) > 0xffff_ffff) return undefined;
  return { sid: Number(sid), ...(gid === undefined ? {} : { gid: Number(gid) }) };
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' && value.length <= 256 ? value : undefined;
}

function aboutOf(value: unknown): true | undefined {
  return value instanceof Date || (typeof value === 'string' && value.length <= 512) ? true : undefined;
}

function nameOf(value: unknown): string | undefined {
  const text = typeof value === 'number' ? String(value) : value;
  return typeof text === 'string' && /^[a-z0-9][a-z0-9._-]{0,62}$/.test(text) ? text : undefined;
}

function podOf(value: unknown) {
  const [, namespace, name] =
    (typeof value === 'string' ? /^([a-z0-9.*-]{1,63})\/([a-z0-9.*-]{1,253})$/.exec(value) : null) ?? [];
  if (namespace === undefined || name === undefined) return undefined;
  return { namespace: globTester(namespace), name: globTester(name) };
}

function addressesOf(value: unknown): BlockList | undefined {
  const list = new BlockList();
  const added = listOf((item) => {
    const [address = '', bits, ...rest] = String(item).split('/');
    const family = isIP(address) === 4 ? 'ipv4' : 'ipv6';
    if (isIP(address) === 0 || address.includes('%') || rest.length > 0) return undefined;
    const most = family === 'ipv4' ? 32 : 128;
    if (bits !== undefined && (!/^\d{1,3}$/.test(bits) || Number(bits) > most)) return undefined;
    list.addSubnet(address, Number(bits ?? most), family);
    return true;
  })(value);
  return added === undefined ? undefined : list;
}

function integer(value: unknown, most: number): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= most ? value : undefined;
}

function oneOf(values: readonly string[]): string {
  return `one of ${values.join(', ')}`;
}

/** `mon`, `mon-fri`, `fri-mon`, or a list of these: by the number of the day. */
function daysOf(value: unknown): ReadonlySet<number> | undefined {
  const ranges = listOf((item) => {
    const [from, to = from, ...rest] = String(item)
      .toLowerCase()
      .split('-')
      .map((day) => DAYS.indexOf(day.trim().slice(0, 3)));
    if (from === undefined || to === undefined || from < 0 || to < 0 || rest.length > 0) return undefined;
    return Array.from({ length: ((to - from + 7) % 7) + 1 }, (_, index) => (from + index) % 7);
  })(value);
  return ranges && new Set(ranges.flat());
}

/** Minutes of the day; the end is not included, and may be before the beginning: then it is on the next day. */
interface Hours {
  from: number;
  to: number;
}

function hoursOf(value: unknown): Hours | undefined {
  const match = /^([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-4]):([0-5]\d)$/.exec(String(value).trim());
  if (match === null) return undefined;
  const [fromHour = 0, fromMinute = 0, toHour = 0, toMinute = 0] = match.slice(1).map(Number);
  const hours = { from: fromHour * 60 + fromMinute, to: toHour * 60 + toMinute };
  return hours.to > 1440 || hours.from === hours.to ? undefined : hours;
}

function readZone(value: unknown, report: Report): string {
  if (value === undefined || value === null) return 'UTC';
  try {
    if (typeof value === 'string') return new Intl.DateTimeFormat('en', { timeZone: value }).resolvedOptions().timeZone;
  } catch {
    // Reported below.
  }
  report(['timeZone'], `${shown(value)}: expected a time zone such as Europe/Berlin`);
  return 'UTC';
}

/** The moment from which an entry no longer applies. */
function untilOf(value: unknown, zone: string): number | undefined {
  const text = value instanceof Date ? value.toISOString() : String(value).trim();
  const time = Date.parse(text);
  if (/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d)$/.test(text)) {
    return Number.isNaN(time) ? undefined : time;
  }
  if (!/^\d{4}-\d\d-\d\d$/.test(text) || Number.isNaN(time)) return undefined;
  // The end of the day there. The offset is that of the day's end, not of its middle.
  const end = time + DAY_MILLIS;
  const offset = offsetAt(zone, end);
  return end - offsetAt(zone, end - offset);
}

/** Milliseconds that clocks there are ahead of UTC. */
function offsetAt(zone: string, millis: number): number {
  const { weekday: _, ...local } = localTime(zone)(millis);
  return (
    Date.UTC(local.year, local.month - 1, local.day, local.hour, local.minute) - Math.floor(millis / 60_000) * 60_000
  );
}

interface LocalTime {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  weekday: number;
}

function localTime(zone: string): (millis: number) => LocalTime {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone: zone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
  });
  return (millis) => {
    const parts = new Map(format.formatToParts(millis).map(({ type, value }) => [type as string, Number(value)]));
    const [year = 0, month = 0, day = 0, hour = 0, minute = 0] = ['year', 'month', 'day', 'hour', 'minute'].map(
      (type) => parts.get(type) ?? 0,
    );
    return { year, month, day, hour, minute, weekday: new Date(Date.UTC(year, month - 1, day)).getUTCDay() };
  };
}

/** Whether an entry applies at a time. Hours over midnight belong to the day on which they begin. */
function timeTest(
  zone: string,
  days: ReadonlySet<number> | undefined,
  hours: Hours | undefined,
  until: number | undefined,
): (millis: number) => boolean {
  const local = localTime(zone);
  return (millis) => {
    if (until !== undefined && millis >= until) return false;
    if (days === undefined && hours === undefined) return true;
    const { weekday, hour, minute } = local(millis);
    const now = hour * 60 + minute;
    let day = weekday;
    if (hours !== undefined) {
      const overnight = hours.to <= hours.from;
      if (overnight ? now < hours.from && now >= hours.to : now < hours.from || now >= hours.to) return false;
      if (overnight && now < hours.to) day = (weekday + 6) % 7;
    }
    return days === undefined || days.has(day);
  };
}

function knownKeys(entry: Record<string, unknown>, path: Path, known: readonly string[], report: Report): void {
  for (const key of Object.keys(entry)) {
    if (known.includes(key)) continue;
    const meant = nearest(key, known);
    const advice = meant === undefined ? '' : `; the nearest is ${meant}`;
    report([...path, plain(key, 80)], `is no key here: expected one of ${known.join(', ')}${advice}`, true);
  }
}

/** `suppress[0].signature` */
function written(path: Path): string {
  return (
    path
      .map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`))
      .join('')
      .replace(/^\./, '') || 'policy'
  );
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return isRecord(value) && !(value instanceof Date);
}

export interface PolicyEvents {
  /** A policy to be used from now on. */
  loaded(policy: LoadedPolicy): void;
  /** The file is not a policy: what was loaded last stays. */
  refused(errors: string[]): void;
}

/**
 * Reads the file now, before it returns, and whenever it is another one, or was changed: also where a mounted ConfigMap
 * swaps the link to its folder. A file that is gone is an error as any other.
 */
export function followPolicy(file: string, events: PolicyEvents, lookMillis = LOOK_MILLIS): { stop: () => void } {
  let known: string | undefined;

  function identify(): string {
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
      return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
    } catch (error) {
      return String(error);
    }
  }

  function look(): void {
    const identity = identify();
    if (identity === known) return;
    known = identity;
    const read = readPolicy(file);
    if ('errors' in read) events.refused(read.errors);
    else events.loaded(read);
  }
  look();
  const timer = setInterval(look, lookMillis).unref();
  return { stop: () => clearInterval(timer) };
}
