/**
 * Queries made at random, each as a text and as a plain look at the event: what it means is said here a second time,
 * without what the page's server has for it.
 */
import * as fc from 'fast-check';
import { BlockList, isIPv6 } from 'node:net';
import type { EeEvent } from '../../../agent/events/event.ts';

export interface Made {
  text: string;
  /** @param state What was made of the event. */
  selects: (event: EeEvent, state: string) => boolean;
}

/** Letters of the pattern are those of the text in any case; `*` is anything. */
function like(pattern: string, anywhere = false): (text: string) => boolean {
  const source = pattern
    .split('*')
    .map((part) => part.replaceAll(/[^\w ]/g, String.raw`\$&`))
    .join('.*');
  const expression = new RegExp(anywhere ? source : `^${source}$`, 'is');
  return (text) => text !== '' && text !== '-' && text !== 'n/a' && expression.test(text);
}

const techniquesOf = ({ mitre_ids = [] }: EeEvent): string[] =>
  mitre_ids.flatMap((technique) => [technique, technique.replace(/\..*/, '')]);

const WHOLE: Record<string, (event: EeEvent) => string[]> = {
  namespace: ({ origin }) => [origin.slice(4).replace(/\/.*/, '')],
  resource: ({ origin }) => [origin.slice(4)],
  node: ({ host }) => [host],
  protocol: ({ record }) => [record.protocol],
  service: ({ record }) => [record.service ?? ''],
  cve: ({ record }) => record.cves ?? [],
  technique: techniquesOf,
  'source.namespace': ({ source_namespace }) => [source_namespace],
  'destination.namespace': ({ dest_namespace }) => [dest_namespace],
  'source.pod': ({ source_name }) => [source_name],
  'destination.pod': ({ dest_name }) => [dest_name],
  pod: ({ source_name, dest_name }) => [source_name, dest_name],
  tactic: ({ mitre_tactic }) => [mitre_tactic],
  app: ({ record }) => [record.app?.protocol ?? ''],
  outcome: ({ record }) => [record.outcome ?? ''],
  host: ({ record }) => [(record.app?.http?.host ?? '').replace(/:\d+$/, '')],
  method: ({ record }) => [record.app?.http?.method ?? ''],
  domain: ({ record }) => (record.app?.dns?.questions ?? []).map(({ name }) => name),
  sni: ({ record }) => [record.app?.tls?.sni ?? ''],
  ja3: ({ record }) => [record.app?.tls?.ja3 ?? ''],
  ja4: ({ record }) => [record.app?.tls?.ja4 ?? ''],
  hassh: ({ record }) => [record.app?.ssh?.hassh ?? '', record.app?.ssh?.hassh_server ?? ''],
};

const PARTS: Record<string, (event: EeEvent) => string[]> = {
  message: ({ record }) => [record.message],
  class: ({ record }) => [record.classification ?? ''],
  url: ({ record }) => [record.app?.http?.url ?? ''],
  useragent: ({ record }) => [record.app?.http?.user_agent ?? ''],
};

const NUMBERS: Record<string, { of: (event: EeEvent) => (number | undefined)[]; values: readonly string[] }> = {
  severity: { of: ({ severity }) => [severity], values: ['0', '40', '60', '80', '100'] },
  count: { of: ({ record }) => [record.count ?? 1], values: ['1', '2', '7'] },
  status: { of: ({ record }) => [record.app?.http?.status], values: ['200', '404', '500'] },
  port: { of: ({ source_port, dest_port }) => [source_port, dest_port], values: ['80', '3333', '40000', '65535'] },
  'source.port': { of: ({ source_port }) => [source_port], values: ['0', '45000', '50000'] },
  'destination.port': { of: ({ dest_port }) => [dest_port], values: ['7', '80', '8080', '8443'] },
};

const LEVELS: Record<string, [number, number]> = {
  critical: [90, 100],
  high: [70, 89],
  medium: [45, 69],
  low: [0, 44],
};

/** With a wildcard for a part of it, in other letters, or in quotes. */
function written(value: string): fc.Arbitrary<{ text: string; pattern: string }> {
  const quoted = (text: string): string => `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
  const plain = (text: string): string => (/[\s()"\\]/.test(text) ? quoted(text) : text);
  return fc
    .record({
      how: fc.constantFrom('as it is', 'quoted', 'small', 'start', 'end', 'middle'),
      cut: fc.nat({ max: Math.max(0, value.length - 1) }),
    })
    .map(({ how, cut }) => {
      const wild: string | undefined = (
        {
          start: `${value.slice(0, cut)}*`,
          end: `*${value.slice(cut)}`,
          middle: `${value.slice(0, cut)}*${value.slice(-1)}`,
        } as Record<string, string>
      )[how];
      if (wild !== undefined && !/[\s()"\\]/.test(wild)) return { text: wild, pattern: wild };
      const pattern = how === 'small' ? value.toLowerCase() : value;
      return { text: how === 'quoted' ? quoted(pattern) : plain(pattern), pattern };
    });
}

function texts(events: readonly EeEvent[]): fc.Arbitrary<Made> {
  const whole = Object.entries(WHOLE).map(([field, of]) => ({ field, of, anywhere: false }));
  const parts = Object.entries(PARTS).map(([field, of]) => ({ field, of, anywhere: true }));
  return fc
    .record({ about: fc.constantFrom(...whole, ...parts), event: fc.constantFrom(...events), index: fc.nat() })
    .chain(({ about: { field, of, anywhere }, event, index }) => {
      const values = of(event).filter((value) => value !== '' && value !== '-' && value !== 'n/a');
      const value = values[index % Math.max(1, values.length)] ?? (field === 'tactic' ? 'TA9999' : 'none-has-this');
      const word = anywhere ? (value.split(' ')[index % value.split(' ').length] ?? value) : value;
      return written(field === 'tactic' ? value.toUpperCase() : word).map(({ text, pattern }) => {
        // A tactic may be named, too: that is for its own test.
        const used = field === 'tactic' && !/^ta/i.test(pattern) ? value : pattern;
        const test = like(used, anywhere);
        return { text: `${field}: ${used === pattern ? text : value}`, selects: (other) => of(other).some(test) };
      });
    });
}

const numbers: fc.Arbitrary<Made> = fc
  .record({
    name: fc.constantFrom(...Object.keys(NUMBERS)),
    operator: fc.constantFrom(':', '>', '>=', '<', '<='),
    index: fc.nat(),
  })
  .map(({ name, operator, index }) => {
    const { of, values } = NUMBERS[name] ?? { of: () => [], values: [] };
    const text = values[index % values.length] ?? '0';
    const wanted = Number(text);
    const holds = (value: number | undefined): boolean =>
      value !== undefined &&
      { ':': value === wanted, '>': value > wanted, '>=': value >= wanted, '<': value < wanted, '<=': value <= wanted }[
        operator
      ];
    return { text: `${name} ${operator} ${text}`, selects: (event) => of(event).some(holds) };
  });

const levels: fc.Arbitrary<Made> = fc
  .record({ level: fc.constantFrom(...Object.keys(LEVELS)), operator: fc.constantFrom(':', '>=', '<', '>', '<=') })
  .map(({ level, operator }) => {
    const [from, to] = LEVELS[level] ?? [0, 0];
    const holds = (severity: number): boolean =>
      ({
        ':': severity >= from && severity <= to,
        '>=': severity >= from,
        '>': severity > to,
        '<': severity < from,
        '<=': severity <= to,
      })[operator];
    return { text: `severity${operator}${level}`, selects: ({ severity }) => holds(severity) };
  });

function addresses(events: readonly EeEvent[]): fc.Arbitrary<Made> {
  return fc
    .record({
      field: fc.constantFrom('ip', 'source.ip', 'destination.ip', ''),
      event: fc.constantFrom(...events),
      at: fc.constantFrom('source_ip', 'dest_ip'),
      prefix: fc.constantFrom(undefined, 8, 16, 20, 24, 30, 32),
    })
    .map(({ field, event, at, prefix }) => {
      const address = event[at];
      const network = new BlockList();
      const family = isIPv6(address) ? 'ipv6' : 'ipv4';
      if (prefix === undefined) network.addAddress(address, family);
      else network.addSubnet(address, prefix, family);
      const has = (other: string): boolean => network.check(other, isIPv6(other) ? 'ipv6' : 'ipv4');
      const value = prefix === undefined ? address : `${address}/${prefix}`;
      return {
        text: field === '' ? value : `${field}: ${value}`,
        selects: ({ source_ip, dest_ip }) =>
          (field !== 'destination.ip' && has(source_ip)) || (field !== 'source.ip' && has(dest_ip)),
      };
    });
}

/** What the page shows, as it is copied from there. */
function copied(events: readonly EeEvent[]): fc.Arbitrary<Made> {
  return fc
    .record({
      event: fc.constantFrom(...events),
      what: fc.constantFrom('end', 'signature', 'pod', 'pod of a field', 'state', 'tactic', 'time', 'word'),
      index: fc.nat(),
    })
    .map(({ event, what, index }): Made => {
      const { record } = event;
      switch (what) {
        case 'end': {
          const { dest_ip: ip, dest_port: port } = event;
          return {
            text: ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`,
            selects: (other) =>
              (other.dest_ip === ip && other.dest_port === port) ||
              (other.source_ip === ip && other.source_port === port),
          };
        }
        case 'signature':
          return {
            text: `1:${record.snort_signature_id}`,
            selects: (other) => other.record.snort_signature_id === record.snort_signature_id,
          };
        case 'pod':
        case 'pod of a field': {
          const pod = `${event.dest_namespace}/${event.dest_name}`;
          const isAt = (other: EeEvent): boolean =>
            pod === `${other.dest_namespace}/${other.dest_name}` ||
            pod === `${other.source_namespace}/${other.source_name}`;
          return { text: what === 'pod' ? pod : `pod: ${pod}`, selects: isAt };
        }
        case 'state': {
          const wanted = ['open', 'acknowledged', 'dismissed'][index % 3] ?? '';
          return { text: `state: ${wanted}`, selects: (_, state) => state === wanted };
        }
        case 'tactic':
          return { text: '"command and CONTROL"', selects: ({ mitre_tactic }) => mitre_tactic === 'TA0011' };
        case 'time': {
          const time = record.timestamp.replace(/\.\d+Z$/, 'Z');
          const before = index % 2 === 0;
          return {
            text: `time ${before ? '<' : '>='} ${time}`,
            selects: (other) => Date.parse(other.record.timestamp) < Date.parse(time) === before,
          };
        }
        default: {
          const word =
            record.message.split(' ')[index % record.message.split(' ').length]?.replaceAll(/["\\]/g, '') ?? '';
          const test = like(word, true);
          return {
            text: `"${word}"`,
            selects: (other) =>
              [
                other.record.message,
                other.record.snort_signature_id,
                other.record.classification ?? '',
                other.mitre_tactic,
                ...(other.mitre_tactic === 'TA0011' ? ['Command and Control'] : []),
                ...(other.mitre_tactic === 'TA0001' ? ['Initial Access'] : []),
                ...(other.mitre_tactic === 'TA0006' ? ['Credential Access'] : []),
                ...(other.mitre_tactic === 'TA0007' ? ['Discovery'] : []),
                ...(other.mitre_tactic === 'TA0040' ? ['Impact'] : []),
                ...techniquesOf(other),
                ...(other.record.cves ?? []),
                ...(WHOLE['host']?.(other) ?? []),
                ...(WHOLE['domain']?.(other) ?? []),
                ...(WHOLE['sni']?.(other) ?? []),
                ...(PARTS['url']?.(other) ?? []),
                other.origin.slice(4),
                other.host,
                other.source_name,
                other.source_namespace,
                other.dest_name,
                other.dest_namespace,
              ].some(test),
          };
        }
      }
    });
}

/** With `and`, `or`, `not` and parentheses, some more than there have to be. */
export function queries(events: readonly EeEvent[]): fc.Arbitrary<Made> {
  const leaf = fc.oneof(texts(events), texts(events), numbers, levels, addresses(events), copied(events));
  const not = ({ text, selects }: Made): Made => ({
    text: `not (${text})`,
    selects: (event, state) => !selects(event, state),
  });
  const and = ([a, b, between]: [Made, Made, string]): Made => ({
    text: `(${a.text})${between}(${b.text})`,
    selects: (event, state) => a.selects(event, state) && b.selects(event, state),
  });
  const or = ([a, b]: [Made, Made]): Made => ({
    text: `( ${a.text} ) OR (${b.text})`,
    selects: (event, state) => a.selects(event, state) || b.selects(event, state),
  });
  return fc.letrec<{ query: Made }>((tie) => ({
    query: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      leaf,
      tie('query').map(not),
      fc.tuple(tie('query'), tie('query'), fc.constantFrom(' and ', ' AND ', ' ')).map(and),
      fc.tuple(tie('query'), tie('query')).map(or),
    ),
  })).query;
}
