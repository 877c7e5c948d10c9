/**
 * Sends a capture file's frames out of an interface at an even pace:  node dist/bench/sender.js INTERFACE FILE PACKETS_PER_SECOND
 * Prints one line of JSON: packets, bytes, seconds, CPU seconds.
 */
import { createReadStream } from 'node:fs';
import pcap from 'pcap';
import { createPcapParser } from '../agent/capture/pcap-file.ts';

/** A frame that the socket does not take within this is an error. */
const BLOCKED_MILLIS = 5_000;

const [, , device = '', file = '', rate = '1000'] = process.argv;
const perMilli = Number(rate) / 1000;
const sleeper = new Int32Array(new SharedArrayBuffer(4));
const sleep = (millis: number): void => void Atomics.wait(sleeper, 0, 0, millis);

pcap.warningHandler = () => undefined;
// The filter keeps this session's own ring empty.
const { session } = pcap.createSession(device, { filter: 'less 1', buffer_size: 1 << 20 });
let packets = 0;
let bytes = 0;
const started = performance.now();

const parser = createPcapParser((_s, _us, caplen, _length, _link, buffer, start) => {
  while (packets > (performance.now() - started) * perMilli) sleep(1);
  send(buffer.subarray(start, start + caplen));
  packets++;
  bytes += caplen;
});

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

for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) parser.push(chunk as Buffer);
const { user, system } = process.cpuUsage();
process.stdout.write(
  `${JSON.stringify({ packets, bytes, seconds: (performance.now() - started) / 1000, cpu: (user + system) / 1e6 })}\n`,
  () => process.exit(0),
);
