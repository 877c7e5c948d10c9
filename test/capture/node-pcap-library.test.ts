/** What is counted of packets that come when they should not: by a node-pcap, and on a clock, of the test's own. */
import { beforeEach, expect, test } from '@jest/globals';
import type Pcap from 'pcap';
import type { PcapSession } from 'pcap';
import { createNodePcapLibrary } from '../../agent/capture/node-pcap-library.ts';
import type { Ring } from '../../agent/capture/ring.ts';

const OPTIONS = { snaplen: 65_535, timeoutMillis: 1, promiscuous: false, filter: '', ready: () => undefined };

interface Socket {
  /** In its ring, and counted by the kernel. */
  waiting: number;
  received: number;
  closing: boolean;
  released: boolean;
  /** libuv sees that it is readable. */
  poll: () => void;
}

let clock: number;
/** What each packet takes to be read. */
let packetMillis: number;
/** The interface can be opened. */
let isThere: boolean;
let sockets: Socket[];
let ring: Ring;

beforeEach(async () => {
  clock = 0;
  packetMillis = 0;
  isThere = true;
  sockets = [];
  const library = await createNodePcapLibrary(
    OPTIONS,
    () => Promise.resolve({ ...pcap }),
    () => clock,
  );
  ring = await library.open({ interface: 'lo', netns: undefined, size: 1 << 19, timeoutMillis: 30 });
});

const pcap: typeof Pcap = {
  lib_version: '',
  warningHandler: () => undefined,
  createSession() {
    if (!isThere) throw new Error('no such device');
    let onPacket: () => void = () => undefined;
    const socket: Socket = {
      waiting: 0,
      received: 0,
      closing: false,
      released: false,
      poll: () => native.read_callback(),
    };
    sockets.push(socket);
    const native: PcapSession['session'] = {
      read_callback: () => undefined,
      dispatch() {
        for (; socket.waiting > 0 && !socket.closing; socket.waiting--) {
          clock += packetMillis;
          onPacket();
        }
        socket.released ||= socket.closing;
        return socket.released ? -2 : 0;
      },
      close: () => void (socket.closing = true),
      inject: () => undefined,
    };
    const session: PcapSession = {
      buf: Buffer.alloc(64),
      header: Buffer.alloc(16),
      link_type: 'LINKTYPE_ETHERNET',
      session: native,
      on(_event, listener) {
        onPacket = () => listener({ buf: session.buf, header: session.header });
        return session;
      },
      removeAllListeners() {
        onPacket = () => undefined;
        return session;
      },
      stats() {
        if (socket.released) throw new Error('it is closed');
        return { ps_recv: socket.received, ps_drop: 0, ps_ifdrop: 0 };
      },
    };
    return session;
  },
};

/** To each socket that is open, as the kernel does. */
function arrive(packets: number): void {
  for (const socket of sockets.filter(({ released }) => !released)) {
    socket.waiting += packets;
    socket.received += packets;
  }
}

function secondLater(): number {
  clock += 1_000;
  return ring.statistics().received;
}

test('packets that have just come after a quiet time are no sign that the ring is not read', () => {
  for (let second = 0; second < 10; second++) secondLater();
  arrive(5);
  expect(secondLater()).toBe(5);
  expect(ring.failed).toBe(false);
});

test('a ring that has packets for some seconds and is not read has failed', () => {
  secondLater();
  arrive(5);
  for (let second = 0; second < 5; second++) secondLater();
  ring.fill(Buffer.alloc(1 << 10), 0, 1 << 10, 10, 0);
  expect(ring.failed).toBe(true);
  expect(ring.statistics()).toEqual({ received: 5, dropped: 0, delivered: 5 });
});

test('one that is opened anew while it is read for the last time is counted once', () => {
  secondLater();
  arrive(2_000);
  packetMillis = 1;
  for (let second = 0; second < 5; second++) secondLater();
  expect(sockets.length).toBeGreaterThan(1);
  expect(ring.statistics().received).toBe(2_000);
});

test('a ring that is to get no further packet counts none, gives what it has, and is released', () => {
  arrive(3);
  ring.mute();
  arrive(100);
  sockets[0]?.poll();
  const arena = Buffer.alloc(1 << 12);
  expect(ring.fill(arena, 0, arena.length, 100, 0)).toBe(3 * 16);
  expect(ring.statistics()).toEqual({ received: 3, dropped: 0, delivered: 3 });
  expect(sockets).toMatchObject([{ released: true }]);
});

test('one that cannot be opened anew has failed, and what it had is counted once', () => {
  arrive(2_000);
  packetMillis = 1;
  isThere = false;
  sockets[0]?.poll();
  const arena = Buffer.alloc(1 << 20);
  while (!ring.empty) ring.fill(arena, 0, arena.length, 100, 0);
  expect(ring.failed).toBe(true);
  const { received, dropped, delivered } = ring.statistics();
  expect(received).toBe(2_000);
  expect(dropped + delivered).toBe(2_000);
});
