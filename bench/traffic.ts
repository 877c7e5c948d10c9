/**
 * Capture files for the benchmarks: HTTP, DNS and TLS, the same bytes each time.
 *
 * A file has a known number of datagrams with the marker, each one alert of the marker's rule, spread evenly; the last
 * packet is one of them and carries `END`. Some HTTP requests fire a rule of the built-in set; every eighth large
 * answer fires `DEEP_RULE`, and every eighth TLS handshake `HELLO_RULE`.
 *
 * `small`, `large` and `full` are made conversation by conversation. In the other mixes several are open at a time, and
 * their frames alternate.
 */
import { open } from 'node:fs/promises';
import {
  DEFAULT_START_MICROS,
  dnsQuery,
  dnsResponse,
  httpConversation,
  httpRequest,
  httpResponse,
  tcpConversation,
  udpExchange,
  writePcap,
  type Frame,
  type HttpRequest,
  type HttpResponse,
  type Turn,
} from '../test/support/packets.ts';
import { MARKER, MARKER_SID } from '../test/support/agent.ts';
import { MSS, tcpStream } from './stream.ts';
import { tlsExchange } from './tls.ts';

export const DEEP_SID = 9_000_002;
/** Fires where an engine reads a large answer that far: both sides of a comparison must do the same work. */
export const DEEP_RULE = `alert tcp any any -> any any ( msg:"BENCH deep in a body"; content:"dpi-deep"; sid:${DEEP_SID}; rev:1; )\n`;
export const HELLO_SID = 9_000_003;
/** Fires on the server's name in a TLS handshake: an engine must see those even of flows that it sees no more of. */
export const HELLO_RULE = `alert tcp any any -> any any ( msg:"BENCH server name"; content:"dpi-hello"; sid:${HELLO_SID}; rev:1; )\n`;
const HELLO = 'dpi-hello';
const DEEP = 'dpi-deep';
const DEEP_AT = 900_000;
/** Of eight large conversations. */
const DEEP_IN = 3;
const HELLO_IN = 3;

/**
 * `small`: requests, answers and look-ups in packets of 54 to 600 bytes. `large`: bodies of 1.2 MB in frames of 60 KB,
 * as pods of one node send them. `full`: the same bodies in full Ethernet frames. `clear`: the same bodies in frames of
 * 24 to 60 KB. `tls`: 0.5 to 4 MB over TLS in frames of 59 KB. `mixed`: of its bytes 70 % like `tls`, 20 % bodies in
 * frames of 59 KB, 10 % requests with answers of at most 4 KB.
 */
export type Mix = 'small' | 'large' | 'full' | AlternatingMix;
type AlternatingMix = 'clear' | 'tls' | 'mixed';

/** In the last packet's payload. */
export const END = '<end>';

export interface Traffic {
  path: string;
  packets: number;
  bytes: number;
  /** Requests with their answers, and look-ups. */
  conversations: number;
  /** Alerts of the marker's rule, the last packet's included. */
  markers: number;
  /** Alerts of `DEEP_RULE`. */
  deep: number;
  /** Alerts of `HELLO_RULE`. */
  hellos: number;
}

export const EXPECTED_SIDS: ReadonlySet<number> = new Set([MARKER_SID, DEEP_SID, HELLO_SID]);

/** Alerts of `EXPECTED_SIDS` that each pass must give. */
export function expectedAlerts({ markers, deep, hellos }: Traffic): number {
  return markers + deep + hellos;
}

const PCAP_FILE_HEADER = 24;
const WRITE_BYTES = 4 << 20;
const LARGE_BODY = 1_200_000;
/** Bytes of data in a frame. */
const SEGMENT = { large: 60_000, full: 1_448 };
/** Of the alternating mixes: 59,368, as many whole MSS as fit into 60 KB; and what is from 24 to 60 KB. */
const GSO_DATA = 41 * MSS;
const LEAST_SEGMENTS = 17;
const SEGMENT_CHOICES = 25;

type Kind = 'clear' | 'varied' | 'tls' | 'request';
/** Parts of a mix's bytes. */
const SHARES: Record<AlternatingMix, Partial<Record<Kind, number>>> = {
  clear: { varied: 1 },
  tls: { tls: 1 },
  mixed: { tls: 0.7, clear: 0.2, request: 0.1 },
};
/** Conversations of a kind that are open at a time. */
const OPEN: Record<Kind, number> = { clear: 4, varied: 4, tls: 4, request: 8 };
const TLS_BODIES = [500_000, 1_000_000, 2_000_000, 4_000_000];
/** Requests of a connection that stays open for them. */
const REQUESTS = 4;
const LEAST_ANSWER = 200;
const MOST_ANSWER = 4_000;
/** Nanoseconds a byte, for the times in a file. */
const NANOS_A_BYTE = 4;

/**
 * Writes a file that ends with the conversations that are open when it has `bytes` or `packets`. `markers`: about how
 * many of them to spread.
 */
export async function writeTraffic(
  path: string,
  mix: Mix,
  until: { bytes: number } | { packets: number },
  markers: number,
): Promise<Traffic> {
  const file = await open(path, 'w');
  const traffic = emptyTraffic(path);
  let pending: Buffer[] = [writePcap([])];
  let pendingBytes = 0;
  const flush = async (): Promise<void> => {
    await file.writev(pending);
    pending = [];
    pendingBytes = 0;
  };
  const add = (frames: Frame[]): void => {
    const records = writePcap(isAlternating(mix) ? timed(frames, traffic) : frames).subarray(PCAP_FILE_HEADER);
    pending.push(records);
    pendingBytes += records.length;
    traffic.bytes += records.length;
    traffic.packets += frames.length;
  };
  const done = (): number => ('bytes' in until ? traffic.bytes / until.bytes : traffic.packets / until.packets);
  const isDone = (): boolean => done() >= 1;
  try {
    for (const frames of isAlternating(mix) ? alternating(mix, traffic, isDone) : inTurn(mix, traffic, isDone)) {
      add(frames);
      while (traffic.markers < Math.floor(Math.min(1, done()) * markers))
        add(markerPacket(traffic.markers++, `<${traffic.markers}>`));
      if (pendingBytes > WRITE_BYTES) await flush();
    }
    add(markerPacket(traffic.markers++, END));
    await flush();
  } finally {
    await file.close();
  }
  return traffic;
}

function emptyTraffic(path: string): Traffic {
  return { path, packets: 0, bytes: 0, conversations: 0, markers: 0, deep: 0, hellos: 0 };
}

function isAlternating(mix: Mix): mix is AlternatingMix {
  return mix in SHARES;
}

/** With times that follow from the bytes before. */
function timed(frames: Frame[], { bytes, packets }: Traffic): Frame[] {
  const start = DEFAULT_START_MICROS + packets + Math.floor((bytes * NANOS_A_BYTE) / 1000);
  return frames.map((frame, index) => ({ ...frame, timeMicros: start + index }));
}

/** One conversation after the other. */
function* inTurn(mix: Exclude<Mix, AlternatingMix>, traffic: Traffic, isDone: () => boolean): Generator<Frame[]> {
  const text = corpus();
  for (let index = 0; !isDone(); index++) {
    traffic.conversations++;
    if (mix !== 'small' && index % 8 === DEEP_IN) traffic.deep++;
    yield mix === 'small' ? smallConversation(index, text) : largeConversation(index, text, SEGMENT[mix]);
  }
}

/** What is open of one kind. */
interface Line {
  kind: Kind;
  share: number;
  begun: number;
  bytes: number;
  open: Iterator<Frame>[];
}

/**
 * Frame by frame of several conversations: the next is of the kind that is furthest behind its share. All that were
 * begun come to their end.
 */
function* alternating(mix: AlternatingMix, traffic: Traffic, isDone: () => boolean): Generator<Frame[]> {
  const text = corpus();
  const random = randomNumbers(54_321);
  const lines = (Object.entries(SHARES[mix]) as [Kind, number][]).map(([kind, share]): Line => ({
    kind,
    share,
    begun: 0,
    bytes: 0,
    open: [],
  }));
  for (;;) {
    for (const line of isDone() ? [] : lines) {
      while (line.open.length < OPEN[line.kind])
        line.open.push(begin(line.kind, line.begun++, traffic, text, random)[Symbol.iterator]());
    }
    const line = furthestBehind(lines);
    if (line === undefined) return;
    const at = random(line.open.length);
    const next = line.open[at]?.next();
    if (next === undefined || next.done === true) {
      line.open.splice(at, 1);
      continue;
    }
    line.bytes += next.value.data.length;
    yield [next.value];
  }
}

function furthestBehind(lines: Line[]): Line | undefined {
  let found: Line | undefined;
  for (const line of lines) {
    if (line.open.length > 0 && (found === undefined || line.bytes / line.share < found.bytes / found.share))
      found = line;
  }
  return found;
}

/** @param number Of this kind's conversations, from 0. */
function begin(kind: Kind, number: number, traffic: Traffic, text: string, random: Random): Iterable<Frame> {
  const index = traffic.conversations++;
  const base = {
    ...ends(index),
    clientSequence: Math.imul(index, 0x9e37_79b1) >>> 0,
    serverSequence: Math.imul(index, 0x85eb_ca6b) >>> 0,
    random,
    segment: () => (kind === 'varied' ? (LEAST_SEGMENTS + random(SEGMENT_CHOICES)) * MSS : GSO_DATA),
  };
  if (kind === 'request') {
    if (number % 4 === 3) return lookUp(index);
    return tcpStream({ ...base, serverPort: 80, exchange: requests(index, text, random) });
  }
  if (kind === 'tls') {
    const isHello = number % 8 === HELLO_IN;
    if (isHello) traffic.hellos++;
    const exchange = tlsExchange({
      number,
      version: number % 2 === 0 ? '1.3' : '1.2',
      serverName: `${isHello ? HELLO : `store-${number % 50}`}.example.test`,
      from: random(4) === 0 ? 'client' : 'server',
      bytes: TLS_BODIES[random(TLS_BODIES.length)] ?? 0,
    });
    return tcpStream({ ...base, serverPort: 443, exchange });
  }
  const isDeep = number % 8 === DEEP_IN;
  if (isDeep) traffic.deep++;
  const { request, response } = download(index, text, isDeep);
  const exchange: Turn[] = [
    { from: 'client', data: httpRequest(request) },
    { from: 'server', data: httpResponse(response) },
  ];
  return tcpStream({ ...base, serverPort: 80, exchange });
}

/** As clients of an API ask, on one connection. */
function requests(index: number, text: string, random: Random): Turn[] {
  const host = serviceName(index);
  return Array.from({ length: REQUESTS }, (_, request): Turn[] => {
    const body = slice(text, random(text.length), LEAST_ANSWER + random(MOST_ANSWER - LEAST_ANSWER));
    const headers = {
      'User-Agent': 'client/1.0',
      Accept: 'application/json',
      Authorization: `Bearer ${slice(text, index, 200).replaceAll(' ', '')}`,
    };
    const type = { 'Content-Type': 'text/plain', 'Content-Length': `${body.length}` };
    return [
      { from: 'client', data: httpRequest({ path: `/api/v1/items/${index}?page=${request}`, host, headers }) },
      { from: 'server', data: httpResponse({ headers: type, body }) },
    ];
  }).flat();
}

/**
 * Writes `flows` connections that stay open, each with a request whose body never comes: what an engine has to keep.
 * Four packets each.
 */
export async function writeOpenFlows(path: string, flows: number): Promise<Traffic> {
  const file = await open(path, 'w');
  const traffic = emptyTraffic(path);
  const data = 'POST /a HTTP/1.1\r\nHost: example.test\r\nContent-Length: 1000\r\n\r\n'.padEnd(200, 'x');
  const write = async (frames: Frame[], header = PCAP_FILE_HEADER): Promise<void> => {
    const records = writePcap(frames).subarray(header);
    await file.write(records);
    traffic.packets += frames.length;
    traffic.bytes += records.length;
  };
  try {
    await write([], 0);
    for (let done = 0; done < flows; done += 1000) {
      const count = Math.min(1000, flows - done);
      const conversations = Array.from({ length: count }, (_, index) => {
        const flow = done + index;
        return tcpConversation({ ...ends(flow), interval: 0, exchange: [{ from: 'client', data }], end: 'none' });
      });
      await write(conversations.flat());
      traffic.conversations += count;
    }
    await write(markerPacket(traffic.markers++, END));
  } finally {
    await file.close();
  }
  return traffic;
}

/** A datagram that fires the marker's rule, in a flow of its own for each of 50,000 numbers. */
export function markerPacket(number: number, text: string): Frame[] {
  return udpExchange({ ...ends(number), serverPort: 9999, exchange: [{ from: 'client', data: `${MARKER} ${text}` }] });
}

function smallConversation(index: number, text: string): Frame[] {
  if (index % 4 === 3) return lookUp(index);
  const body = slice(text, index * 7919, 100 + ((index * 31) % 400));
  // The request of the tutorials, of rule 1000001.
  const isAttack = index % 1000 === 500;
  const post = { method: 'POST', path: `/orders/${index}`, headers: { 'User-Agent': 'Mozilla/4.0' }, body: 'smk=1234' };
  const headers = { 'User-Agent': 'client/1.0', Accept: '*/*' };
  const get = { path: `/items/${index}?page=2`, host: serviceName(index), headers };
  return httpConversation({
    ...ends(index),
    request: isAttack ? post : get,
    response: { headers: { 'Content-Type': 'text/plain', 'Content-Length': `${body.length}` }, body },
  });
}

function lookUp(index: number): Frame[] {
  const name = serviceName(index);
  const id = index & 0xffff;
  const exchange = [
    { from: 'client' as const, data: dnsQuery(name, { id }) },
    { from: 'server' as const, data: dnsResponse(name, [Buffer.from([10, 96, 0, index & 0xff])], { id }) },
  ];
  return udpExchange({ ...ends(index), exchange });
}

function serviceName(index: number): string {
  return `service-${index % 97}.default.svc.cluster.local`;
}

function largeConversation(index: number, text: string, mss: number): Frame[] {
  if (index % 8 === 7) return smallConversation(index, text);
  return httpConversation({ ...ends(index), mss, ...download(index, text, index % 8 === DEEP_IN) });
}

function download(index: number, text: string, isDeep: boolean): { request: HttpRequest; response: HttpResponse } {
  const plain = slice(text, index * 7919, LARGE_BODY);
  const body = isDeep ? `${plain.slice(0, DEEP_AT)} ${DEEP} ${plain.slice(DEEP_AT + DEEP.length + 2)}` : plain;
  return {
    request: { path: `/download/${index}`, headers: { 'User-Agent': 'client/1.0' } },
    response: { headers: { 'Content-Type': 'text/plain', 'Content-Length': `${body.length}` }, body },
  };
}

/** Of the first half's places, so that each has its length. */
function slice(text: string, at: number, length: number): string {
  const start = at % (text.length / 2);
  return text.slice(start, start + length);
}

/** Conversations are 20 ms apart; a pair of ends comes again after 50,000 × 200 of them. */
function ends(index: number) {
  return {
    client: `10.${1 + (Math.floor(index / 50_000) % 200)}.0.${1 + (index % 250)}`,
    server: `10.250.0.${1 + (index % 50)}`,
    clientPort: 10_000 + (index % 50_000),
    interval: 1,
    start: 1_700_000_000_000_000 + index * 20_000,
  };
}

let made: string | undefined;

/**
 * ASCII text of words, without a rule's content: what a pattern matcher has to read and does not find. Twice as long as
 * a large body.
 */
function corpus(): string {
  return (made ??= words(LARGE_BODY * 2));
}

function words(length: number): string {
  const list: string[] = [];
  const random = randomNumbers(12_345);
  for (let size = 0; size < length;) {
    let word = '';
    for (let letters = 2 + random(9); letters > 0; letters--) word += String.fromCharCode(97 + random(26));
    list.push(word);
    size += word.length + 1;
  }
  return list.join(' ').slice(0, length);
}

/** Below the number that it is called with. */
type Random = (below: number) => number;

function randomNumbers(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}
