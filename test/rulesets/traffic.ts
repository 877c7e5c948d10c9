/**
 * Traffic for a Snort rule, made of what the rule looks for: each pattern is put where the rule wants it.
 *
 * A rule that needs more than this understands gives `undefined`, or traffic that does not fire it. Snort is the judge
 * of that, so nothing here has to be right for a test to be right; what is not right only makes it smaller.
 */
import * as fc from 'fast-check';
import type { RuleInfo, RuleOption } from '../../agent/rulesets/rule.ts';
import { ruleOptions } from '../../agent/rulesets/rule.ts';
import { parsePattern } from '../../agent/rulesets/translate/pattern.ts';
import type { Frame, HttpRequest, IcmpOptions, Turn } from '../support/packets.ts';
import { ethernet, httpRequest, httpResponse, icmpPacket, tcpConversation, udpExchange } from '../support/packets.ts';

export interface Ends {
  client: string;
  server: string;
  start: number;
}

/** What a rule wants in one buffer. */
interface Wanted {
  bytes: number[];
  /** At these places nothing may be changed any more. */
  fixed: boolean[];
  cursor: number;
  atStart: boolean;
  atMost: number;
  atLeast: number;
}

const FILL = 0x61;
const HTTP_BUFFERS = [
  'http_uri',
  'http_raw_uri',
  'http_header',
  'http_raw_header',
  'http_client_body',
  'http_cookie',
].concat(['http_method', 'http_stat_code', 'http_stat_msg']);
/** Options that need traffic of another kind than patterns in buffers. */
const OUT_OF_REACH =
  /^(?:byte_|base64|dce_|sip_|ssl_|flags$|fragbits$|id$|ack$|seq$|ttl$|ip_proto$|raw_data$|detection_filter$)/;

/** Frames that may fire the rule; with `spoilt` the middle byte of its longest pattern is another. */
export function trafficFor(rule: RuleInfo, ends: Ends, { spoilt = false } = {}): Frame[] | undefined {
  const options = ruleOptions(rule);
  if (options.some(({ key, value }) => OUT_OF_REACH.test(key) || (key === 'flowbits' && value.startsWith('isset'))))
    return undefined;
  const victim = spoilt ? longestPattern(options) : undefined;
  const buffers = new Map<string, Wanted>();
  let current = buffer(buffers, 'pkt_data');
  for (const option of options) {
    if (HTTP_BUFFERS.includes(option.key) || option.key === 'pkt_data' || option.key === 'file_data') {
      if (option.value !== '') return undefined;
      current = buffer(buffers, option.key);
      current.atStart = true;
      current.cursor = 0;
    } else {
      want(current, option, option === victim);
    }
  }
  for (const wanted of buffers.values()) {
    if (wanted.bytes.length > wanted.atMost) return undefined;
    while (wanted.bytes.length < Math.min(wanted.atLeast, wanted.atMost)) put(wanted, wanted.bytes.length, [FILL]);
  }
  return frames(rule, options, buffers, ends);
}

function buffer(buffers: Map<string, Wanted>, name: string): Wanted {
  const wanted = buffers.get(name) ?? { bytes: [], fixed: [], cursor: 0, atStart: true, atMost: 60_000, atLeast: 0 };
  buffers.set(name, wanted);
  return wanted;
}

function longestPattern(options: RuleOption[]): RuleOption | undefined {
  const patterns = options.filter(({ key, value }) => key === 'content' && !value.startsWith('!'));
  return patterns.toSorted((one, other) => content(other.value).bytes.length - content(one.value).bytes.length)[0];
}

function content(value: string) {
  const [, not = '', text = '', rest = ''] = /^(!?)\s*"((?:[^"\\]|\\.)*)"(.*)$/s.exec(value) ?? [];
  const number = (name: string): number | undefined => {
    const digits = new RegExp(`(?:^|,)\\s*${name}\\s+(-?\\d+)`).exec(rest)?.[1];
    return digits === undefined ? undefined : Number(digits);
  };
  return {
    negated: not !== '',
    bytes: [...parsePattern(text)],
    offset: number('offset'),
    depth: number('depth'),
    distance: number('distance'),
    within: number('within'),
  };
}

function want(wanted: Wanted, { key, value }: RuleOption, isVictim: boolean): void {
  switch (key) {
    case 'content': {
      const { negated, bytes, offset, depth, distance, within } = content(value);
      if (negated) return;
      const isRelative = distance !== undefined || within !== undefined;
      const from = isRelative ? Math.max(0, wanted.cursor + (distance ?? 0)) : (offset ?? 0);
      const until = isRelative
        ? within === undefined
          ? Infinity
          : from + within
        : depth === undefined
          ? Infinity
          : from + depth;
      const isAnywhere = !isRelative && offset === undefined && depth === undefined;
      let place = isAnywhere ? wanted.bytes.length : from;
      while (place + bytes.length < until && place < from + 4096 && !fits(wanted, place, bytes)) place += 1;
      const middle = bytes.length >> 1;
      const spoiltBytes = isVictim ? bytes.map((byte, index) => (index === middle ? byte ^ 0x15 : byte)) : bytes;
      put(wanted, place, spoiltBytes);
      wanted.cursor = place + bytes.length;
      wanted.atStart = false;
      return;
    }
    case 'pcre': {
      if (value.startsWith('!')) return;
      const [, pattern = '', flags = ''] = /^"\/(.*)\/([a-zA-Z]*)"$/s.exec(value) ?? [];
      const text = Buffer.from(wanted.bytes).toString('latin1');
      try {
        const expression = new RegExp(pattern, flags.replaceAll(/[^ism]/g, ''));
        const found = expression.exec(text);
        if (found !== null) {
          wanted.cursor = found.index + found[0].length;
          return;
        }
        // Long repetitions take minutes to sample.
        if (/\{\d{2,}|[+*]\)[+*{]|\(\?</.test(pattern) || pattern.length > 200) return;
        const plain = new RegExp(simple(pattern), flags.replaceAll(/[^s]/g, ''));
        const [sample = ''] = fc.sample(fc.stringMatching(plain, { size: 'xsmall' }), { seed: 1, numRuns: 1 });
        const place = flags.includes('R') ? wanted.cursor : wanted.bytes.length;
        put(wanted, place, [...Buffer.from(sample, 'latin1')]);
        wanted.cursor = place + sample.length;
      } catch {
        // Not a pattern that JavaScript has too: the rule will not fire, unless without it.
      }
      return;
    }
    case 'isdataat': {
      const [, not, digits, relative] = /^(!?)\s*(\d+)(,\s*relative)?$/.exec(value) ?? [];
      const length = Number(digits ?? 0) + (relative === undefined ? 0 : wanted.cursor) + (not === '!' ? 0 : 1);
      if (not === '!') wanted.atMost = Math.min(wanted.atMost, length);
      else wanted.atLeast = Math.max(wanted.atLeast, length);
      return;
    }
    case 'bufferlen':
    case 'dsize': {
      const [, low = '0', operator = '', number = '0'] = /^(\d*)\s*(<=>|<>|<=?|>=?|=?)\s*(\d+)/.exec(value) ?? [];
      const limit = Number(number);
      if (low !== '' && operator === '') wanted.atLeast = wanted.atMost = Number(value);
      else if (low !== '') wanted.atLeast = Math.max(wanted.atLeast, Number(low) + 1);
      else if (operator === '>') wanted.atLeast = Math.max(wanted.atLeast, limit + 1);
      else if (operator === '<') wanted.atMost = Math.min(wanted.atMost, limit - 1);
      else wanted.atLeast = wanted.atMost = limit;
      return;
    }
    default:
  }
}

/** A pattern that matches less and is soon sampled: one character of a class with many, and no look-ahead. */
function simple(pattern: string): string {
  return pattern.replaceAll(/\(\?[=!][^)]*\)|\[\^(?:\\.|[^\]\\])*\]|\\.|\[(?:\\.|[^\]\\])*\]|\./gs, (part) => {
    if (part.startsWith('(')) return '';
    if (part !== '.' && !part.startsWith('[^') && !/^\\[sSWD]$/.test(part)) return part;
    const one = new RegExp(part, 's');
    const character = ['a', ' ', '-', 'Z', '5', '\x01', '\xe9'].find((candidate) => one.test(candidate)) ?? 'a';
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

function fits(wanted: Wanted, place: number, bytes: number[]): boolean {
  return bytes.every((byte, index) => !wanted.fixed[place + index] || wanted.bytes[place + index] === byte);
}

function put(wanted: Wanted, place: number, bytes: number[]): void {
  while (wanted.bytes.length < place) wanted.bytes.push(FILL);
  bytes.forEach((byte, index) => {
    wanted.bytes[place + index] = byte;
    wanted.fixed[place + index] = true;
  });
}

// --- Packets --------------------------------------------------------------------------------------------------------

function frames(rule: RuleInfo, options: RuleOption[], buffers: Map<string, Wanted>, ends: Ends): Frame[] | undefined {
  const value = (key: string): string | undefined => options.find((option) => option.key === key)?.value;
  const [, protocol = '', , sourcePorts = 'any', , , destinationPorts = 'any'] = rule.header.split(' ');
  const service = value('service') ?? '';
  const isToClient = /to_client|from_server/.test(value('flow') ?? '');
  const serverPort = port(isToClient ? sourcePorts : destinationPorts) ?? PORTS[service.split(',')[0] ?? ''] ?? 4444;
  const clientPort = port(isToClient ? destinationPorts : sourcePorts) ?? 40_000;
  const common = { ...ends, serverPort, clientPort };
  const bytes = (name: string): Buffer => Buffer.from(buffers.get(name)?.bytes ?? []);
  const payload = bytes('pkt_data');

  if (protocol === 'icmp') {
    const number = (key: string): number => {
      const [, operator = '', digits = '0'] = /^([<>]?)(\d+)/.exec(value(key) ?? '0') ?? [];
      return Number(digits) + (operator === '>' ? 1 : operator === '<' ? -1 : 0);
    };
    const packet: IcmpOptions = {
      source: ends.client,
      destination: ends.server,
      type: number('itype'),
      code: number('icode'),
      rest: number('icmp_id') * 0x1_0000 + number('icmp_seq'),
      payload,
    };
    return [{ timeMicros: ends.start, data: ethernet(icmpPacket(packet)) }];
  }
  if (protocol === 'udp') {
    return udpExchange({ ...common, exchange: [{ from: isToClient ? 'server' : 'client', data: payload }] });
  }
  if (protocol !== 'tcp' && protocol !== 'http') return undefined;
  const isHttp = HTTP_BUFFERS.some((name) => buffers.has(name)) || (buffers.has('file_data') && service !== 'smtp');
  if (!isHttp && buffers.has('file_data')) return undefined;
  const exchange = isHttp
    ? httpExchange(buffers, isToClient)
    : [{ from: isToClient ? 'server' : 'client', data: payload } satisfies Turn];
  return tcpConversation({ ...common, exchange });
}

const PORTS: Record<string, number> = {
  http: 80,
  smtp: 25,
  ftp: 21,
  dns: 53,
  imap: 143,
  pop3: 110,
  ssl: 443,
  telnet: 23,
};

function port(ports: string): number | undefined {
  if (ports === '$HTTP_PORTS' || ports === '$FILE_DATA_PORTS') return 80;
  if (ports === '$ORACLE_PORTS') return 1521;
  if (ports.startsWith('!')) return undefined;
  const digits = /\d+/.exec(ports)?.[0];
  return digits === undefined ? undefined : Number(digits);
}

function httpExchange(buffers: Map<string, Wanted>, isToClient: boolean): Turn[] {
  const text = (name: string): string => Buffer.from(buffers.get(name)?.bytes ?? []).toString('latin1');
  const headers = Buffer.concat([headerBlock(text('http_header')), headerBlock(text('http_raw_header'))]);
  const cookie = text('http_cookie').replaceAll(/[\r\n]/g, '');
  const raw = text('pkt_data');
  if (isToClient) {
    const body = text('file_data') + (text('file_data').includes(raw) ? '' : raw);
    const status = `HTTP/1.1 ${text('http_stat_code') || '200'} ${text('http_stat_msg') || 'OK'}\r\n`;
    const parts = [
      status,
      headers,
      cookie === '' ? '' : `Set-Cookie: ${cookie}\r\n`,
      `Content-Length: ${body.length}\r\n\r\n`,
      body,
    ];
    return [
      { from: 'client', data: httpRequest({}) },
      { from: 'server', data: latin1(parts) },
    ];
  }
  const body = text('http_client_body') + text('file_data');
  const method = text('http_method').trim() || (body === '' ? 'GET' : 'POST');
  const uri = text('http_uri').replaceAll(/[^!-$&-~]/g, escaped);
  const extra = text('http_raw_uri');
  const path = `${uri}${uri.includes(extra) ? '' : extra}`.replace(/^(?!\/)/, '/');
  const head = headers.toString('latin1');
  const rawHeader =
    raw === '' || `${path}${head}${body}`.includes(raw) ? '' : `X-Raw: ${raw.replaceAll(/[\r\n]+/g, ' ')}\r\n`;
  const parts = [
    `${method} ${path} HTTP/1.1\r\n`,
    headers,
    /^host:/im.test(head) ? '' : 'Host: example.test\r\n',
    cookie === '' ? '' : `Cookie: ${cookie}\r\n`,
    rawHeader,
    body === '' || /^content-length:/im.test(head) ? '' : `Content-Length: ${body.length}\r\n`,
    '\r\n',
    body,
  ];
  return [
    { from: 'client', data: latin1(parts) },
    { from: 'server', data: httpResponse({ body: 'ok' } satisfies HttpRequest) },
  ];
}

function escaped(character: string): string {
  return `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

/** Lines that are headers: what has no colon gets a name. */
function headerBlock(text: string): Buffer {
  if (text === '') return Buffer.alloc(0);
  const lines = text.split('\r\n').filter((line) => line !== '');
  return latin1(
    lines.map((line) => `${/^[\w-]+:/.test(line) ? '' : 'X-Fill: '}${line}${/\s$/.test(line) ? 'x' : ''}\r\n`),
  );
}

function latin1(parts: (string | Buffer)[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part)));
}
