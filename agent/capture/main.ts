/**
 * The capture process: node-pcap sessions of one lane, tagged and written to the engine's FIFO. Its only other contact with the
 * world is the IPC channel to the agent; when that closes, it ends. It is a process of its own because node-pcap can't run in a
 * worker thread, and so that a crash in libpcap or in the binding leaves the agent alive.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createOutput, type Handed } from './output.ts';
import { FIRST_FRAME, udpFrame, writeOwn } from './own.ts';
import type { CaptureSettings, Counters, FromCapture, ToCapture } from './protocol.ts';
import { createSession, deadRings, handOverMillis, type Session } from './session.ts';

/** How often the interfaces are compared with the sessions: a replaced veth is captured again within this. */
const CHECK_MILLIS = 250;
const STATS_MILLIS = 1_000;
const CLOSE_GRACE_MILLIS = 1_000;
/** An engine that has not read the queue to its end within this, while a process hands over, has lost its input. */
const HAND_OVER_GRACE_MILLIS = 3_000;

// A full FIFO is an exception in Node, often; its stack trace costs more than the write.
Error.stackTraceLimit = 0;

const settings = JSON.parse(process.argv[2] ?? '{}') as CaptureSettings;
const sessions = new Map<string, Session>();
/** Another process is before this one, see supervisor.ts. */
let behind = process.argv[3] === 'behind';

function tell(message: FromCapture): void {
  // Fails when the agent is gone; 'disconnect' ends this process.
  if (process.connected) process.send?.(message, undefined, {}, () => undefined);
}

const output = createOutput(settings.queueSize, {
  opened(path, inItsMiddle) {
    if (inItsMiddle) return tell({ type: 'holding' });
    tell({ type: 'output-open', path });
    // Suricata gives up when no packet comes within a minute of its start.
    writeOwn(output, FIRST_FRAME);
  },
  closed(path, reason, lost) {
    for (const { spec, counters } of sessions.values()) {
      const packets = lost.get(spec.vlan) ?? 0;
      counters.forwarded -= packets;
      counters.droppedEngineDown += packets;
    }
    tell({ type: 'output-closed', path, reason });
  },
});

async function handle(message: ToCapture): Promise<void> {
  switch (message.type) {
    case 'attach': {
      const session = createSession(message.spec, settings, output, tell, behind);
      void sessions.get(message.spec.id)?.close();
      sessions.set(message.spec.id, session);
      session.check();
      return;
    }
    case 'detach': {
      const session = sessions.get(message.id);
      if (session === undefined) return;
      sessions.delete(message.id);
      await session.close();
      tell({ type: 'detached', id: message.id, counters: session.counters, deadRings: deadRings() });
      return;
    }
    case 'output':
      if (message.path === undefined) await output.close(CLOSE_GRACE_MILLIS);
      else output.open(message.path);
      return;
    case 'inject':
      tell({
        type: 'injected',
        number: message.number,
        accepted: writeOwn(output, udpFrame(message.payload, message.number)),
      });
      return;
    case 'take-over':
      for (const session of sessions.values()) session.hold();
      if (message.path === undefined) tell({ type: 'holding' });
      else output.open(message.path, true);
      return;
    case 'hand-over':
      return handOver();
    case 'resume':
      behind = false;
      for (const [id, session] of sessions) session.resume(message.cuts[id]);
      return;
    case 'stop':
      await stop();
  }
}

async function handOver(): Promise<void> {
  for (const session of sessions.values()) session.expectEnd();
  await sleep(handOverMillis(settings));
  clearInterval(checks);
  clearInterval(reports);
  const cuts = Object.fromEntries([...sessions].map(([id, session]) => [id, session.end()]));
  if (!(await output.empty(HAND_OVER_GRACE_MILLIS)))
    await output.close(0, 'the engine does not read, and the capture process ends');
  const message: FromCapture = { type: 'handed-over', counters: allCounters(), ...handed(), cuts };
  process.send?.(message, undefined, {}, () => process.exit(0));
}

async function stop(): Promise<void> {
  await Promise.all([...sessions.values()].map((session) => session.close()));
  await output.close(CLOSE_GRACE_MILLIS);
  sendStats();
  if (process.connected) process.disconnect();
  process.exit(0);
}

function sendStats(): void {
  for (const session of sessions.values()) session.refresh();
  tell({ type: 'stats', counters: allCounters(), ...handed(), deadRings: deadRings() });
}

function handed(): { handed?: Handed } {
  const found = output.handed();
  return found === undefined ? {} : { handed: found };
}

function allCounters(): Record<string, Counters> {
  return Object.fromEntries([...sessions].map(([id, session]) => [id, session.counters]));
}

process.on('message', (message: ToCapture) => void handle(message));
process.on('disconnect', () => void stop());
// The agent decides when to end, also when Ctrl-C reaches the whole process group.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
const checks = setInterval(() => {
  for (const session of sessions.values()) session.check();
}, CHECK_MILLIS);
const reports = setInterval(sendStats, STATS_MILLIS);
