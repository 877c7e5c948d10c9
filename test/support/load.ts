/**
 * Traffic out of interfaces of this network namespace, for so many seconds, or as much where that takes longer:
 *   node dist/test/support/load.js flood SECONDS PACKETS_PER_SECOND INTERFACE
 *   node dist/test/support/load.js mark SECONDS INTERFACE...
 *
 * `flood`: HTTP requests with their answers and DNS look-ups, 54 to 600 bytes, from other clients in each pass, because
 * flows that repeat cost an engine little. `mark`: one datagram a second out of each interface, with the marker and
 * `<INTERFACE NUMBER>`. Prints how many packets it sent.
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pcap from 'pcap';
import { MARKER } from './agent.ts';
import { dnsQuery, dnsResponse, httpConversation, udpExchange, type Frame } from './packets.ts';

const CONVERSATIONS = 2_000;
/** Of IPv4 behind an Ethernet header: where the address of the source is, and of the destination. */
const [SOURCE, DESTINATION] = [26, 30];
/** Packets between two looks at the clock. */
const TOGETHER = 64;
/** A frame that the socket does not take within this is an error. */
const BLOCKED_MILLIS = 60_000;

const sleeper = new Int32Array(new SharedArrayBuffer(4));
const pause = (): void => void Atomics.wait(sleeper, 0, 0, 1);

/** @returns false when the interface is gone. */
type Send = (frame: Buffer) => boolean;

function openSender(device: string): Send {
  // The filter keeps this session's own ring empty.
  const { session } = pcap.createSession(device, { filter: 'less 1', buffer_size: 1 << 20 });
  return (frame) => {
    for (const deadline = performance.now() + BLOCKED_MILLIS; ;) {
      try {
        session.inject(frame);
        return true;
      } catch (error) {
        if (!existsSync(`/sys/class/net/${device}`)) return false;
        // The socket's buffer is full until the other end of the veth has taken some.
        if (performance.now() > deadline) throw error;
        pause();
      }
    }
  };
}

function smallConversation(index: number): Frame[] {
  const name = `service-${index % 97}.default.svc.cluster.local`;
  const ends = {
    client: `10.1.0.${1 + (index % 250)}`,
    server: `10.250.0.${1 + (index % 50)}`,
    clientPort: 10_000 + index,
  };
  if (index % 4 === 3) {
    const exchange = [
      { from: 'client' as const, data: dnsQuery(name, { id: index }) },
      { from: 'server' as const, data: dnsResponse(name, [Buffer.from([10, 96, 0, index & 0xff])], { id: index }) },
    ];
    return udpExchange({ ...ends, exchange });
  }
  const body = 'x'.repeat(100 + ((index * 31) % 400));
  return httpConversation({
    ...ends,
    request: { path: `/items/${index}?page=2`, host: name, headers: { 'User-Agent': 'client/1.0', Accept: '*/*' } },
    response: { headers: { 'Content-Type': 'text/plain', 'Content-Length': `${body.length}` }, body },
  });
}

/** With the place of each client's address. Checksums are not mended, as nothing here looks at them. */
function floodFrames(): { data: Buffer; client: number }[] {
  return Array.from({ length: CONVERSATIONS }, (_, index) => smallConversation(index))
    .flat()
    .map(({ data }) => ({ data, client: data[SOURCE + 1] === 1 ? SOURCE : DESTINATION }));
}

function flood(seconds: number, rate: number, device: string): number {
  const send = openSender(device);
  const frames = floodFrames();
  const started = performance.now();
  let sent = 0;
  for (let pass = 0; ; pass++) {
    for (const { data, client } of frames) {
      if (sent >= seconds * rate) return sent;
      if (sent % TOGETHER === 0) while ((sent / rate) * 1000 > performance.now() - started) pause();
      data[client + 1] = 1 + (pass % 200);
      data[client + 2] = Math.floor(pass / 200) & 0xff;
      if (!send(data)) return sent;
      sent++;
    }
  }
}

async function mark(seconds: number, devices: string[]): Promise<number> {
  const senders = devices.map((device) => [device, openSender(device)] as const);
  const started = performance.now();
  for (let number = 0; number < seconds; number++) {
    await sleep(Math.max(0, started + number * 1000 - performance.now()));
    for (const [index, [device, send]] of senders.entries()) {
      const ends = { client: `10.9.${index}.1`, server: '10.9.255.1', clientPort: 20_000 + number, serverPort: 9999 };
      for (const { data } of udpExchange({
        ...ends,
        exchange: [{ from: 'client', data: `${MARKER} <${device} ${number}>` }],
      }))
        send(data);
    }
  }
  return seconds * devices.length;
}

pcap.warningHandler = () => undefined;
const [, , what = '', seconds = '0', ...rest] = process.argv;
const sent =
  what === 'flood' ? flood(Number(seconds), Number(rest[0]), rest[1] ?? '') : await mark(Number(seconds), rest);
process.stdout.write(`${sent}\n`, () => process.exit(0));
