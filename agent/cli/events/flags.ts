/** The flags by which `dpi-agent events` selects, as a filter of the journal. */
import { BlockList, isIP, SocketAddress } from 'node:net';
import { parseDuration } from '../../config/leaves.ts';
import { shown } from '../../config/text.ts';
import type { JournalFilter, Named, SearchedEvent } from '../../journal/search.ts';
import { globTester } from '../../pattern.ts';
import { stripControls } from '../../text.ts';
import { LEVELS } from '../../ui/api.ts';
import { accepting } from '../../ui/language/accept.ts';
import { asksForFlow, asksForMarks, type Condition } from '../../ui/language/condition.ts';
import { allOf, anyOf as anyCondition, FIELDS } from '../../ui/language/fields.ts';
import { LanguageError, parseLanguage } from '../../ui/language/parse.ts';
import { LEVEL_FROM } from '../../events/level.ts';
import { rowOf } from '../../ui/row.ts';
import { CommandError } from '../exit.ts';

/** As given: a flag that was repeated but must not be is a list. */
export interface FilterArgv {
  since?: unknown;
  until?: unknown;
  signature?: unknown;
  pod?: unknown;
  resource?: unknown;
  ip?: unknown;
  host?: unknown;
  url?: unknown;
  sni?: unknown;
  ja4?: unknown;
  severity?: unknown;
  query?: unknown;
  limit?: unknown;
  order?: string;
  follow?: boolean;
}

/** @param now milliseconds since the Unix epoch. @throws CommandError that lists every error. */
/** @param known Adds to an event what became known of its flow after it was journaled. */
export function readFlags(
  argv: FilterArgv,
  now: number = Date.now(),
  known: Known = (event) => event,
): { filter: JournalFilter; limit: number | undefined } {
  const errors: string[] = [];
  function option<T>(name: keyof FilterArgv, expected: string, read: (text: string) => T | undefined): T | undefined {
    const value = argv[name];
    if (value === undefined) return undefined;
    const result = typeof value === 'string' ? read(value.trim()) : undefined;
    if (result === undefined) errors.push(`flag --${name}: ${shown(value)}: expected ${expected}`);
    return result;
  }
  function each<T>(name: keyof FilterArgv, expected: string, read: (text: string) => T | undefined): T[] | undefined {
    const values = argv[name];
    if (!Array.isArray(values)) return undefined;
    return values.flatMap((value: unknown) => {
      const result = read(String(value).trim());
      if (result === undefined) errors.push(`flag --${name}: ${shown(value)}: expected ${expected}`);
      return result ?? [];
    });
  }
  const time = 'a time ago, such as 30m, 1h or 7d, or a time such as 2026-11-24T00:00:00Z';
  const since = option('since', time, (text) => timeOf(text, now));
  const until = option('until', time, (text) => timeOf(text, now));
  if (since !== undefined && until !== undefined && since >= until)
    errors.push(`flag --until: ${shown(argv.until)}: expected a time after --since`);
  const minSeverity = option('severity', `${LEVELS.join(', ')}, or an integer from 0 to 100`, severityOf);
  const signatures = each('signature', 'a signature id such as 21562, or with its generator 1:21562', signatureOf);
  const pods = each('pod', 'namespace/name', named);
  const resources = each('resource', 'namespace/name', named);
  const ips = each('ip', 'an IPv4 or IPv6 address, or a network such as 10.65.0.0/24', addressesOf);
  const selected = whereQuery(argv.query, known, errors);
  const said = whereSaid(argv, known);
  const limit = option('limit', 'an integer from 0 to 1000000000', (text) => integer(text, 1e9));
  if (argv.follow === true) {
    if (argv.order === 'newest') errors.push('flag --order: "newest": expected oldest, or none, with --follow');
    if (argv.until !== undefined) errors.push('flag --until: expected not to be there with --follow, which has no end');
  }
  if (errors.length > 0) throw new CommandError(errors.join('\n'));
  const where = [wherePods(pods), whereResources(resources), whereAddresses(ips), said, selected].filter(
    (test) => test !== undefined,
  );
  const filter = {
    since,
    until,
    minSeverity,
    signatures,
    pods: pods?.some(isPattern) === true ? undefined : pods,
    resources: resources?.some(isPattern) === true ? undefined : resources,
    ips: ips?.some(isNetwork) === true ? undefined : ips,
    where: where.length === 0 ? undefined : (event: SearchedEvent) => where.every((test) => test(event)),
  };
  return { filter: defined(filter), limit };
}

/** Without the keys that have no value. */
function defined<T extends object>(values: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [Key in keyof T]?: Exclude<T[Key], undefined>;
  };
}

type Where = (event: SearchedEvent) => boolean;
export type Known = (event: SearchedEvent) => SearchedEvent;

const isPattern = ({ namespace, name }: Named): boolean => `${namespace}${name}`.includes('*');
const isNetwork = (address: string): boolean => address.includes('/');

/** @returns undefined where the journal's own filter does: there are no patterns. */
function wherePods(pods: readonly Named[] | undefined): Where | undefined {
  if (pods?.some(isPattern) !== true) return undefined;
  const matches = anyOf(pods);
  return (event) =>
    matches(event.source_namespace, event.source_name) ||
    matches(event.dest_namespace, event.dest_name) ||
    event.record.seen_at.some(({ namespace, name }) => matches(String(namespace), String(name)));
}

function whereResources(resources: readonly Named[] | undefined): Where | undefined {
  if (resources?.some(isPattern) !== true) return undefined;
  const matches = anyOf(resources);
  return ({ origin }) => {
    const [namespace = '', name = ''] = origin.replace(/^dpi\./, '').split('/');
    return matches(namespace, name);
  };
}

/** What has no name is `-/-`, and matches no pattern. */
function anyOf(patterns: readonly Named[]): (namespace: string, name: string) => boolean {
  const testers = patterns.map(({ namespace, name }) => [globTester(namespace), globTester(name)] as const);
  return (namespace, name) =>
    name !== '-' && testers.some(([isNamespace, isName]) => isNamespace(namespace) && isName(name));
}

function whereAddresses(addresses: readonly string[] | undefined): Where | undefined {
  if (addresses?.some(isNetwork) !== true) return undefined;
  const list = new BlockList();
  for (const text of addresses) {
    const [address = '', prefix] = text.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (prefix === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(prefix), family);
  }
  const isIn = (ip: string): boolean => isIP(ip) !== 0 && list.check(ip, isIP(ip) === 6 ? 'ipv6' : 'ipv4');
  return (event) => isIn(event.source_ip) || isIn(event.dest_ip);
}

/** Flags that are fields of the query language, by one of their values each. */
const SAID = ['host', 'url', 'sni', 'ja4'] as const;

function whereSaid(argv: FilterArgv, known: Known): Where | undefined {
  const conditions = SAID.flatMap((name) => {
    const values = argv[name];
    if (!Array.isArray(values)) return [];
    return [
      anyCondition(values.flatMap((value: unknown) => FIELDS.get(name)?.equals(String(value).trim().split('*')) ?? [])),
    ];
  });
  return conditions.length === 0 ? undefined : whereCondition(allOf(conditions), known);
}

function whereCondition(condition: Condition, known: Known): Where {
  const accept = accepting(condition);
  const needsFlow = asksForFlow(condition);
  return (event) => {
    const row = rowOf(needsFlow ? known(event) : event);
    return row !== undefined && accept(row, Date.parse(row.timestamp));
  };
}

/** @param errors What is wrong with the query is added to them. */
function whereQuery(query: unknown, known: Known, errors: string[]): Where | undefined {
  if (query === undefined) return undefined;
  if (typeof query !== 'string') {
    errors.push('flag --query: expected once');
    return undefined;
  }
  try {
    const condition = parseLanguage(query);
    if (asksForMarks(condition))
      errors.push('flag --query: state, assignee: only the Alerts page knows what was made of alerts');
    return whereCondition(condition, known);
  } catch (error) {
    if (!(error instanceof LanguageError)) throw error;
    const line = stripControls(query);
    const pointer = line.length <= 200 ? `\n  ${line}\n  ${' '.repeat(error.position)}^` : '';
    errors.push(`flag --query: ${error.message}${pointer}`);
    return undefined;
  }
}

const RFC3339 = /^\d{4}-\d\d-\d\d(?:[Tt ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|z|[+-]\d\d:\d\d))?$/;

export function timeOf(text: string, now: number): number | undefined {
  const ago = /[a-z]$/.test(text) ? parseDuration(text) : undefined;
  if (ago !== undefined) return now - ago;
  const time = RFC3339.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(time) ? undefined : time;
}

function integer(text: string, most: number): number | undefined {
  return /^\d{1,12}$/.test(text) && Number(text) <= most ? Number(text) : undefined;
}

function severityOf(text: string): number | undefined {
  const level = LEVELS.find((name) => name === text.toLowerCase());
  return level === undefined ? integer(text, 100) : LEVEL_FROM[level];
}

/** Also as the table prints it, with the revision. */
function signatureOf(text: string): { generator?: string; id: string; revision?: string } | undefined {
  const match = /^(?:(\d{1,10}):)?(\d{1,10})(?:(?<=:\d+):(\d{1,10}))?$/.exec(text);
  const [, generator, id, revision] = match ?? [];
  if (id === undefined) return undefined;
  const plain = (digits: string): string => String(Number(digits));
  return {
    id: plain(id),
    ...(generator === undefined ? {} : { generator: plain(generator) }),
    ...(revision === undefined ? {} : { revision: plain(revision) }),
  };
}

function named(text: string): Named | undefined {
  const [, namespace, name] = /^([^\s/]{1,253})\/([^\s/]{1,253})$/.exec(text) ?? [];
  return namespace === undefined || name === undefined ? undefined : { namespace, name };
}

/** An address as events have it, or a network. */
function addressesOf(text: string): string | undefined {
  const [address = '', prefix, ...more] = text.split('/');
  const known = addressOf(address);
  if (known === undefined || prefix === undefined) return known;
  const isPrefix = integer(prefix, isIP(known) === 6 ? 128 : 32) !== undefined;
  return isPrefix && more.length === 0 ? `${known}/${prefix}` : undefined;
}

function addressOf(text: string): string | undefined {
  if (isIP(text) === 4) return text;
  if (isIP(text) !== 6 || text.includes('%')) return undefined;
  return new SocketAddress({ address: text, family: 'ipv6' }).address;
}
