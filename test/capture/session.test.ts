/** What is told, and counted, of an endpoint's interfaces, with a library that opens what it is told to. */
import { expect, test } from '@jest/globals';
import { setImmediate as tick } from 'node:timers/promises';
import type { FromCapture } from '../../agent/capture/protocol.ts';
import type { Library, Ring } from '../../agent/capture/ring.ts';
import { createSession } from '../../agent/capture/session.ts';
import type { Reading } from '../../agent/capture/turns.ts';
import { CAPTURE_SETTINGS } from '../support/capture.ts';

const SETTINGS = { ...CAPTURE_SETTINGS, library: 'native' as const };

const ring = (ifindex: number): Ring => ({
  link: 1,
  ifindex,
  size: 1 << 19,
  openings: 1,
  ready: false,
  empty: true,
  failed: false,
  fill: (_arena, from) => from,
  rearm: () => undefined,
  statistics: () => ({ received: 0, dropped: 0, delivered: 0 }),
  mute: () => undefined,
  close: () => Promise.resolve(),
});

test('an endpoint is captured once all of its interfaces are, and waits for the first of them that is not there', async () => {
  /** Of the interfaces that can be opened. */
  const there: Record<string, number> = { net1: 12 };
  const library: Library = {
    name: 'native',
    replaces: true,
    entersNamespaces: true,
    open({ interface: name }) {
      const ifindex = there[name];
      return ifindex === undefined ? Promise.reject(new Error('no such device')) : Promise.resolve(ring(ifindex));
    },
    deadRings: () => 0,
  };
  const told: FromCapture[] = [];
  const session = createSession(
    { id: 'shop/wide', vlan: 7, taps: ['eth0', 'net1', 'lo'].map((name) => ({ interface: name, netns: '/' })) },
    {
      library,
      settings: SETTINGS,
      turns: { add: () => undefined, remove: () => undefined, wake: () => undefined },
      linkTypeName: () => 'ethernet',
      send: (message) => told.push(message),
    },
    7,
  );
  const said = async (): Promise<FromCapture | undefined> => {
    session.check();
    await tick();
    return told.at(-1);
  };
  const waits = (name: string): object => ({
    type: 'waiting',
    id: 'shop/wide',
    reason: `${name} cannot be captured: no such device`,
  });
  expect(await said()).toEqual(waits('eth0'));
  there['eth0'] = 11;
  expect(await said()).toEqual(waits('lo'));
  there['lo'] = 1;
  expect(await said()).toEqual({ type: 'attached', id: 'shop/wide', linkType: 'ethernet', ifindex: 11 });
  await session.close();
});

/** Its rings get all packets, unless they are muted. */
function createWire() {
  const rings: { received: number; muted: boolean; failed: boolean }[] = [];
  const library: Library = {
    name: 'node-pcap',
    replaces: false,
    entersNamespaces: true,
    open() {
      const state = { received: 0, muted: false, failed: false };
      rings.push(state);
      return Promise.resolve({
        ...ring(1),
        // The engine does not take what it has.
        ready: true,
        get failed() {
          return state.failed;
        },
        statistics: () => ({ received: state.received, dropped: 0, delivered: 0 }),
        mute: () => void (state.muted = true),
      });
    },
    deadRings: () => 0,
  };
  const readings: Reading[] = [];
  const session = createSession(
    { id: 'shop/web', vlan: 7, taps: [{ interface: 'eth0', netns: '/' }] },
    {
      library,
      settings: SETTINGS,
      turns: { add: (reading) => void readings.push(reading), remove: () => undefined, wake: () => undefined },
      linkTypeName: () => 'ethernet',
      send: () => undefined,
    },
    7,
  );
  return {
    rings,
    readings,
    session,
    arrive: (packets: number): void => {
      for (const each of rings) if (!each.muted) each.received += packets;
    },
  };
}

test('a ring that has failed and gets packets again counts none that its successor counts', async () => {
  const { rings, readings, session, arrive } = createWire();
  session.check();
  await tick();
  arrive(10);
  for (const state of rings) state.failed = true;
  for (const reading of readings) {
    const first = reading.ring();
    if (first !== undefined) reading.read(first, 0);
  }
  await tick();
  expect(rings).toHaveLength(2);
  arrive(100);
  session.refresh(false);
  expect(session.counters.received).toBe(110);
  await session.close();
});

test('packets that two interfaces have, of which one is gone over to, are counted once', async () => {
  const { rings, session, arrive } = createWire();
  session.check();
  await tick();
  const goneOver = session.goOver({ ...session.spec, taps: [{ interface: 'eth1', netns: '/' }] });
  await tick();
  expect(rings).toHaveLength(2);
  arrive(10);
  session.refresh(false);
  expect(session.counters.received).toBe(10);
  await Promise.all([goneOver, session.close()]);
});
