/**
 * The capture process of one lane: packets of its endpoints, tagged and written to the engine's FIFO. Its only other
 * contact with the world is the IPC channel to the agent; when that closes, it ends. It is a process of its own so that
 * a crash in libpcap leaves the agent alive.
 */
import { createForwarder } from './forward.ts';
import { linkTypeFromDlt } from './frame/link.ts';
import { interfaceCounters, type InterfaceCounters } from './interfaces.ts';
import { createOutput } from './output.ts';
import { FIRST_FRAME, udpFrame, writeOwn } from './own.ts';
import type { CaptureSettings, FromCapture, LastPackets, Report, Seen, SomePackets, ToCapture } from './protocol.ts';
import { chooseLibrary, type Chosen } from './library.ts';
import { createPost, MAILBOX_FILE } from './mailbox.ts';
import { createKeeper } from './recent/keep.ts';
import { createRecentMemory } from './recent/memory.ts';
import { createPacketQueries, type Pending } from './recent/queries.ts';
import { createSession, type Session } from './session.ts';
import { createShunt } from './shunt/shunt.ts';
import { createTurns } from './turns.ts';
import { loadNative } from '../native.ts';
import { messageOf } from '../files/errors.ts';

/** How often the interfaces are compared with the sessions: a replaced veth is captured again within this. */
const CHECK_MILLIS = 250;
const STATS_MILLIS = 1_000;
const CLOSE_GRACE_MILLIS = 1_000;
/** An engine that has not read what waits within this, while a process hands over, has lost its input. */
const HAND_OVER_GRACE_MILLIS = 3_000;
/** A message itself carries fewer bytes of packets at less cost. */
const LEAST_POSTED = 16 << 10;
const SHUNT_FLOWS = 32_768;
const VLAN_IDS = 4096;

// A full FIFO is an exception in Node, often; its stack trace costs more than the write.
Error.stackTraceLimit = 0;

const settings = JSON.parse(process.argv[2] ?? '{}') as CaptureSettings;
const { native } = loadNative(process.argv[3]);
const sessions = new Map<string, Session>();
/** That are read to their ends. */
const ending = new Set<Session>();
/** Whether the engine had no room for packets since the last report. */
let wasSlow = false;

function send(message: FromCapture): void {
  // Fails when the agent is gone; 'disconnect' ends this process.
  if (process.connected) process.send?.(message, undefined, {}, () => undefined);
}

/** By the mailbox, where they are many. */
function sendPackets(message: SomePackets | LastPackets, pending: Pending = { link: 0, parts: [] }): void {
  const { link, parts } = pending;
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const posted = length >= LEAST_POSTED ? post?.put(parts) : undefined;
  send({ ...message, link, blocks: posted ?? Buffer.concat(parts) });
}

const output = createOutput(settings.queueSize, native, {
  opened(path, inItsMiddle) {
    send({ type: 'output-open', path });
    // Suricata gives up when no packet comes within a minute of its start.
    if (!inItsMiddle) writeOwn(output, FIRST_FRAME);
  },
  closed(path, reason, lost) {
    for (const { spec, counters } of [...sessions.values(), ...ending]) {
      const packets = lost.get(spec.vlan) ?? 0;
      counters.forwarded -= packets;
      counters.droppedEngineDown += packets;
    }
    send({ type: 'output-closed', path, reason });
    turns.wake();
  },
  blocked: () => (wasSlow = true),
  drained: () => turns.wake(),
});
const shunt = settings.shunt ? createShunt({ firstBytes: settings.shuntAfter, flows: SHUNT_FLOWS }) : undefined;
const recent = createRecentMemory(settings.recentBytes);
/** By VLAN id, of who has it or had it last. */
const recentKeys = new Map<number, number>();
const post = process.argv[4] === 'mailbox' ? createPost(MAILBOX_FILE) : undefined;
const packets =
  recent === undefined ? undefined : createPacketQueries(recent, (vlan) => recentKeys.get(vlan), sendPackets);
const keeper = recent === undefined ? undefined : createKeeper(recent, output.arena, settings.recentRate);
const turns = createTurns(output, createForwarder(output, shunt, keeper), settings.snaplen);
const { library, instead } = await choose();
send({ type: 'started', library: library.name, ...(instead === undefined ? {} : { instead }) });

async function choose(): Promise<Chosen> {
  try {
    return await chooseLibrary(settings.library, { ...settings, ready: turns.wake });
  } catch (error) {
    const reason = messageOf(error);
    return await new Promise(() => {
      process.send?.({ type: 'failed', reason } satisfies FromCapture, undefined, {}, () => process.exit(1));
    });
  }
}

async function handle(message: ToCapture): Promise<void> {
  switch (message.type) {
    case 'attach': {
      const { spec } = message;
      const known = sessions.get(spec.id);
      if (known !== undefined) return known.goOver(spec);
      const key = nextRecentKey(spec.vlan);
      const session = createSession(spec, { library, settings, turns, linkTypeName, send }, key);
      sessions.set(spec.id, session);
      session.check();
      return;
    }
    case 'detach': {
      const session = sessions.get(message.id);
      if (session === undefined) return;
      sessions.delete(message.id);
      ending.add(session);
      const interfaces = interfaceCounters();
      await session.close();
      ending.delete(session);
      shunt?.forget(session.spec.vlan);
      const seen = look(session, interfaces);
      send({
        type: 'detached',
        id: message.id,
        counters: session.counters,
        ...(seen === undefined ? {} : { seen }),
        deadRings: library.deadRings(),
      });
      return;
    }
    case 'output':
      if (message.path === undefined) await output.close(CLOSE_GRACE_MILLIS);
      else output.open(message.path, message.behind);
      return;
    case 'inject':
      send({
        type: 'injected',
        number: message.number,
        accepted: writeOwn(output, udpFrame(message.payload, message.number)),
      });
      return;
    case 'whose':
      return answer(message);
    case 'ask-packets':
      if (packets !== undefined) packets.ask(message);
      else send({ type: 'packets-end', query: message.query, by: 'none', skipped: false, lost: false });
      return;
    case 'hand-over':
      return handOver();
    case 'stop':
      await stop();
  }
}

/** Packets of who had the id before are not those of who has it now. */
function nextRecentKey(vlan: number): number {
  const key = (recentKeys.get(vlan) ?? vlan) + VLAN_IDS;
  recentKeys.set(vlan, key);
  return key;
}

function linkTypeName(dlt: number): string {
  return linkTypeFromDlt(dlt) ?? `link type ${dlt}`;
}

async function closeAll(): Promise<void> {
  await Promise.all([...sessions.values()].map((session) => session.close()));
  packets?.stop();
}

function answer({ query, path, records }: Extract<ToCapture, { type: 'whose' }>): void {
  send({ type: 'owned', query, vlans: records.map((record) => output.ownerOf(path, record) ?? 0) });
}

function passOn(): void {
  const handed = output.handed();
  const ranges = output.owners();
  if (handed !== undefined && ranges !== undefined) send({ type: 'passed-on', ...handed, ranges });
}

async function handOver(): Promise<void> {
  await closeAll();
  passOn();
  clearInterval(reports);
  if (!(await output.empty(HAND_OVER_GRACE_MILLIS)))
    await output.close(0, 'the engine does not read, and the capture process ends');
  const message: FromCapture = { type: 'handed-over', ...report() };
  process.send?.(message, undefined, {}, () => process.exit(0));
}

async function stop(): Promise<void> {
  await closeAll();
  passOn();
  await output.close(CLOSE_GRACE_MILLIS);
  sendStats();
  if (process.connected) process.disconnect();
  process.exit(0);
}

function sendStats(): void {
  send({ type: 'stats', ...report(), deadRings: library.deadRings() });
}

function report(): Report {
  const slow = wasSlow || output.blocked;
  wasSlow = false;
  for (const session of sessions.values()) session.refresh(slow);
  const interfaces = interfaceCounters();
  const seen: Report['seen'] = {};
  for (const [id, session] of sessions) {
    const found = look(session, interfaces);
    if (found !== undefined) seen[id] = found;
  }
  const handed = output.handed();
  return {
    counters: Object.fromEntries([...sessions].map(([id, session]) => [id, session.counters])),
    seen,
    ...(handed === undefined ? {} : { handed }),
  };
}

function look(session: Session, interfaces: ReadonlyMap<string, InterfaceCounters>): Seen | undefined {
  const seen = session.look(interfaces);
  // With a filter, what passes the interface is not what is wanted of it.
  return settings.filter === '' ? seen : undefined;
}

process.on('message', (message: ToCapture) => void handle(message));
process.on('disconnect', () => void stop());
// The agent decides when to end, also when Ctrl-C reaches the whole process group.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
setInterval(() => {
  for (const session of sessions.values()) session.check();
}, CHECK_MILLIS);
const reports = setInterval(sendStats, STATS_MILLIS);
