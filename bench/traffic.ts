/**
 * Capture files for the benchmarks: HTTP and DNS, made conversation by conversation, the same bytes each time.
 *
 * A file has a known number of datagrams with the marker, each one alert of the marker's rule, spread evenly; the last packet is one
 * of them and carries `END`. Some HTTP requests fire a rule of the built-in set; every eighth large answer fires `DEEP_RULE`.
 */
import { open } from 'node:fs/promises';
import {
  dnsQuery,
  dnsResponse,
  httpConversation,
  tcpConversation,
  udpExchange,
  writePcap,
  type Frame,
} from '../test/support/packets.ts';
import { MARKER } from '../test/support/agent.ts';

export const DEEP_SID = 9_000_002;
/** Fires where an engine reads a large answer that far: both sides of a comparison must do the same work. */
export const DEEP_RULE = `alert tcp any any -> any any ( msg:"BENCH deep in a body"; content:"dpi-deep"; sid:${DEEP_SID}; rev:1; )\n`;
const DEEP = 'dpi-deep';
const DEEP_AT = 900_000;
/** Of eight large conversations. */
const DEEP_IN = 3;

/**
 * `small`: requests, answers and look-ups in packets of 54 to 600 bytes. `large`: bodies of 1.2 MB in frames of 60 KB, as pods of one node send them.
 * `full`: the same bodies in full Ethernet frames.
 */
export type Mix = 'small' | 'large' | 'full';

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
}

const PCAP_FILE_HEADER = 24;
const WRITE_BYTES = 4 << 20;
const LARGE_BODY = 1_200_000;
/** Bytes of data in a frame. */
const SEGMENT = { large: 60_000, full: 1_448 };

/** Writes a file that ends with the conversation that reaches `bytes` or `packets`. `markers`: about how many of them to spread. */
export async function writeTraffic(
  path: string,
  mix: Mix,
  until: { bytes: number } | { packets: number },
  markers: number,
): Promise<Traffic> {
  const file = await open(path, 'w');
  const traffic: Traffic = { path, packets: 0, bytes: 0, conversations: 0, markers: 0, deep: 0 };
  const text = corpus(LARGE_BODY * 2);
  let pending: Buffer[] = [writePcap([])];
  let pendingBytes = 0;
  const flush = async (): Promise<void> => {
    await file.writev(pending);
    pending = [];
    pendingBytes = 0;
  };
  const add = (frames: Frame[]): void => {
    const records = writePcap(frames).subarray(PCAP_FILE_HEADER);
    pending.push(records);
    pendingBytes += records.length;
    traffic.bytes += records.length;
    traffic.packets += frames.length;
  };
  const done = (): number => ('bytes' in until ? traffic.bytes / until.bytes : traffic.packets / until.packets);
  try {
    for (let index = 0; done() < 1; index++) {
      add(mix === 'small' ? smallConversation(index, text) : largeConversation(index, text, SEGMENT[mix]));
      traffic.conversations++;
      if (mix !== 'small' && index % 8 === DEEP_IN) traffic.deep++;
      while (traffic.markers < Math.floor(done() * markers))
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

/** Writes `flows` connections that stay open, each with a request whose body never comes: what an engine has to keep. Four packets each. */
export async function writeOpenFlows(path: string, flows: number): Promise<Traffic> {
  const file = await open(path, 'w');
  const traffic: Traffic = { path, packets: 0, bytes: 0, conversations: 0, markers: 0, deep: 0 };
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
  const name = `service-${index % 97}.default.svc.cluster.local`;
  if (index % 4 === 3) {
    const id = index & 0xffff;
    const exchange = [
      { from: 'client' as const, data: dnsQuery(name, { id }) },
      { from: 'server' as const, data: dnsResponse(name, [Buffer.from([10, 96, 0, index & 0xff])], { id }) },
    ];
    return udpExchange({ ...ends(index), exchange });
  }
  const at = (index * 7919) % (text.length / 2);
  const body = text.slice(at, at + 100 + ((index * 31) % 400));
  // The request of the tutorials, of rule 1000001.
  const isAttack = index % 1000 === 500;
  const post = { method: 'POST', path: `/orders/${index}`, headers: { 'User-Agent': 'Mozilla/4.0' }, body: 'smk=1234' };
  const get = { path: `/items/${index}?page=2`, host: name, headers: { 'User-Agent': 'client/1.0', Accept: '*/*' } };
  return httpConversation({
    ...ends(index),
    request: isAttack ? post : get,
    response: { headers: { 'Content-Type': 'text/plain', 'Content-Length': `${body.length}` }, body },
  });
}

function largeConversation(index: number, text: string, mss: number): Frame[] {
  if (index % 8 === 7) return smallConversation(index, text);
  const at = (index * 7919) % (text.length / 2);
  const plain = text.slice(at, at + LARGE_BODY);
  const body =
    index % 8 !== DEEP_IN ? plain : `${plain.slice(0, DEEP_AT)} ${DEEP} ${plain.slice(DEEP_AT + DEEP.length + 2)}`;
  return httpConversation({
    ...ends(index),
    mss,
    request: { path: `/download/${index}`, headers: { 'User-Agent': 'client/1.0' } },
    response: { headers: { 'Content-Type': 'text/plain', 'Content-Length': `${body.length}` }, body },
  });
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

/** ASCII text of words, without a rule's content: what a pattern matcher has to read and does not find. */
function corpus(length: number): string {
  const words: string[] = [];
  let state = 12_345;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  for (let size = 0; size < length;) {
    let word = '';
    for (let letters = 2 + random(9); letters > 0; letters--) word += String.fromCharCode(97 + random(26));
    words.push(word);
    size += word.length + 1;
  }
  return words.join(' ').slice(0, length);
}
