/**
 * Sends a capture file's frames out of an interface at an even pace: node dist/bench/sender.js INTERFACE FILE
 * PACKETS_PER_SECOND [PASSES [FIRST]] Prints one line of JSON: packets, bytes, seconds, CPU seconds.
 *
 * In each further pass, and in all with FIRST, clients have other addresses: `10.x.…`, of IPv4 without VLANs, gets an x
 * that is larger by `BLOCK` a pass. An engine would take the same flows for repetitions, which cost it little.
 * Checksums are not mended, as nothing here looks at them.
 */
import { readFileSync } from 'node:fs';
import pcap from 'pcap';
import { createPcapParser } from '../agent/replay/pcap-file.ts';

/** A frame that the socket does not take within this is an error. */
const BLOCKED_MILLIS = 5_000;
/** What files have of `10.x.…`, which are clients; `10.250.…` are servers. */
const BLOCK = 3;
const BLOCKS = 240;
const SERVERS = 250;
/** Of the second bytes of source and destination behind an Ethernet header. */
const SECOND_BYTES = [27, 31];

const [, , device = '', file = '', rate = '1000', passes = '1', first = '0'] = process.argv;
const perMilli = Number(rate) / 1000;
const sleeper = new Int32Array(new SharedArrayBuffer(4));
const sleep = (millis: number): void => void Atomics.wait(sleeper, 0, 0, millis);

pcap.warningHandler = () => undefined;
// The filter keeps this session's own ring empty.
const { session } = pcap.createSession(device, { filter: 'less 1', buffer_size: 1 << 20 });
// Read before: only sending shall take time.
const contents = readFileSync(file);
let packets = 0;
let bytes = 0;

/** Sends all, after it has changed the clients' addresses in place. */
function sendAll(shift: number): void {
  const parser = createPcapParser((_s, _us, caplen, _length, _link, buffer, start) => {
    while (packets > (performance.now() - started) * perMilli) sleep(1);
    const frame = buffer.subarray(start, start + caplen);
    for (const at of shift === 0 ? [] : SECOND_BYTES) {
      const byte = frame[at] ?? 0;
      if (byte !== SERVERS) frame[at] = 1 + ((byte - 1 + shift) % BLOCKS);
    }
    send(frame);
    packets++;
    bytes += caplen;
  });
  parser.push(contents);
}

function send(frame: Buffer): void {
  for (const deadline = performance.now() + BLOCKED_MILLIS; ;) {
    try {
      session.inject(frame);
      return;
    } catch (error) {
      // The socket's buffer is full until the other end of the veth has taken some.
      if (performance.now() > deadline) throw error;
      sleep(1);
    }
  }
}

const before = process.cpuUsage();
const started = performance.now();
for (let pass = 0; pass < Number(passes); pass++) sendAll(pass === 0 ? BLOCK * Number(first) : BLOCK);
const { user, system } = process.cpuUsage(before);
process.stdout.write(
  `${JSON.stringify({ packets, bytes, seconds: (performance.now() - started) / 1000, cpu: (user + system) / 1e6 })}\n`,
  () => process.exit(0),
);
