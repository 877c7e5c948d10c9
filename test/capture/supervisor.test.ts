/** What is counted over the ends of capture processes, which the test plays. */
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { setImmediate as tick } from 'node:timers/promises';
import { pino } from 'pino';
import {
  zeroCounters,
  type Counters,
  type FromCapture,
  type Seen,
  type ToCapture,
} from '../../agent/capture/protocol.ts';
import { superviseCapture, type Capture } from '../../agent/capture/supervisor.ts';
import { CAPTURE_SETTINGS } from '../support/capture.ts';
import { poll } from '../support/poll.ts';

/** More than is left as it is. */
const DEAD_RINGS = 64 << 20;
const RENEW_MILLIS = 15_000;
const SILENT_MILLIS = 15_000;

class Played extends EventEmitter {
  readonly told: ToCapture[] = [];
  connected = true;
  exitCode: number | null = null;
  signalCode: string | null = null;

  send(message: ToCapture): boolean {
    this.told.push(message);
    return true;
  }

  say(message: FromCapture): void {
    this.emit('message', message);
  }

  report(id: string, counters: Partial<Counters>, seen?: Seen, deadRings = 0): void {
    this.say({
      type: 'stats',
      counters: { [id]: { ...zeroCounters(), ...counters } },
      seen: seen === undefined ? {} : { [id]: seen },
      deadRings,
    });
  }

  kill(): boolean {
    if (!this.connected) return false;
    this.connected = false;
    this.signalCode = 'SIGKILL';
    this.emit('exit', null, 'SIGKILL');
    return true;
  }
}

let processes: Played[];
let capture: Capture;

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask', 'performance', 'Date'] });
  processes = [];
  const ignore = (): void => undefined;
  const events = { endpoint: ignore, failed: ignore, outputOpen: ignore, outputClosed: ignore, injected: ignore };
  capture = superviseCapture(CAPTURE_SETTINGS, events, pino({ level: 'silent' }), () => {
    const played = new Played();
    processes.push(played);
    return played as unknown as ChildProcess;
  });
  capture.attach({ id: 'a', taps: [{ interface: 'cali1' }], vlan: 7 });
});
afterEach(async () => {
  jest.useRealTimers();
  const stopped = capture.stop();
  for (const each of processes) each.kill();
  await stopped;
});

function child(index: number): Played {
  const played = processes[index];
  if (played === undefined) throw new Error(`there is no process ${index}`);
  return played;
}

function seenOf(counted: number, captured: number): Seen {
  return { name: 'cali1', ifindex: 3, interface: counted, captured, openings: 1 };
}

test('an endpoint that is detached before a first report has what came while no process ran', async () => {
  for (let second = 0; second < 2; second++) child(0).report('a', { received: 100, forwarded: 100 }, seenOf(100, 100));
  jest.useRealTimers();
  child(0).kill();
  await poll(() => processes.length === 2);
  const last = capture.detach('a');
  const counters = { ...zeroCounters(), received: 5, forwarded: 5 };
  child(1).say({ type: 'detached', id: 'a', counters, seen: seenOf(125, 5), deadRings: 0 });
  expect(await last).toMatchObject({ received: 125, forwarded: 105, droppedCaptureDied: 20 });
});

test('the last report of a process that hands over too late counts', async () => {
  child(0).report('a', { received: 10, forwarded: 10 }, undefined, DEAD_RINGS);
  child(1).say({ type: 'started', library: 'node-pcap' });
  await tick();
  expect(child(0).told.at(-1)).toEqual({ type: 'hand-over' });
  await jest.advanceTimersByTimeAsync(RENEW_MILLIS);
  expect(child(1).connected).toBe(false);
  const counters = { a: { ...zeroCounters(), received: 30, forwarded: 30 } };
  child(0).say({ type: 'handed-over', counters, seen: {} });
  child(0).kill();
  expect(capture.counters().get('a')).toMatchObject({ received: 30, forwarded: 30 });
});

test('a process whose successor has just started, and that dies, is not waited for', async () => {
  child(0).report('a', {}, undefined, DEAD_RINGS);
  child(0).kill();
  child(1).say({ type: 'started', library: 'node-pcap' });
  await tick();
  expect(child(1).connected).toBe(false);
});

test('a process that says nothing is killed, by the seconds in which the agent itself ran', async () => {
  await jest.advanceTimersByTimeAsync(SILENT_MILLIS);
  child(0).report('a', {});
  jest.spyOn(performance, 'now').mockReturnValue(performance.now() + 3_600_000);
  await jest.advanceTimersByTimeAsync(SILENT_MILLIS);
  expect(child(0).connected).toBe(true);
  jest.restoreAllMocks();
  await jest.advanceTimersByTimeAsync(1_000);
  expect(child(0).connected).toBe(false);
});
