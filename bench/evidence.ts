/**
 * Packets of alerts at 1 Gbit/s: how late their files are, and how many of them begin with their flow's first packet.
 *
 * A file's time is that of its last change, which is the one that gave it its name.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { headersOf } from '../agent/evidence/headers.ts';
import { evidenceDirectory, findEvidence, type EvidenceRecord } from '../agent/evidence/place.ts';
import { parsePackets, readPacketFile } from '../agent/evidence/read.ts';
import type { EeEvent } from '../agent/events/event.ts';
import type { RunningAgent, Workspace } from '../test/support/agent.ts';
import { RULE_SETS } from './alone.ts';
import {
  allowLargeFrames,
  fixed,
  grouped,
  quantile,
  runAgent,
  within,
  withLab,
  withWorkspace,
  type Figure,
  type Setting,
} from './bench.ts';
import { send } from './cpu.ts';
import { microsOf } from './latency.ts';
import { DEEP_SID, EXPECTED_SIDS, expectedAlerts, writeTraffic, type Traffic } from './traffic.ts';

const BYTES = { full: 1e9, quick: 200e6 };
const BYTES_PER_SECOND = 125e6;
const MARKERS = 50;
const AFTER_MILLIS = 2_000;
const START_MILLIS = 60_000;
const END_MILLIS = 60_000;
/** After the last alert, for its file. */
const SETTLE_MILLIS = AFTER_MILLIS + 3_000;

export async function benchEvidence(setting: Setting): Promise<Figure[]> {
  return await withWorkspace(async (workspace) => {
    setting.say('evidence: writing the load');
    const bytes = BYTES[setting.quick ? 'quick' : 'full'];
    const traffic = await writeTraffic(join(workspace.directory, 'load.pcap'), 'clear', { bytes }, MARKERS);
    return await withLab(async (lab) => {
      const pod = lab.addPod({ name: 'target', address: '10.65.0.2' });
      allowLargeFrames(lab, pod);
      const config = {
        rules: [workspace.rules, ...setting.rules],
        evidence: { keep: 'full', after: `${AFTER_MILLIS}ms` },
      };
      const start = runAgent({ lab, engine: setting.engine.name, workspace, pods: [pod], ruleSets: RULE_SETS, config });
      const agent = await within(START_MILLIS, 'the start of dpi-agent', start);
      try {
        setting.say('evidence: sending');
        await send({ lab, pod }, traffic, (BYTES_PER_SECOND * traffic.packets) / traffic.bytes);
        await alertsOf(agent, traffic);
        await sleep(SETTLE_MILLIS);
        return await figures(setting, workspace, eventsOf(agent));
      } finally {
        await agent.stop();
      }
    });
  });
}

function eventsOf(agent: RunningAgent): EeEvent[] {
  return agent.events.filter((event) => EXPECTED_SIDS.has(Number(event.record.snort_signature_id)));
}

/** Waits for them. With losses, some may never come. */
async function alertsOf(agent: RunningAgent, traffic: Traffic): Promise<void> {
  const all = agent.event(() => eventsOf(agent).length >= expectedAlerts(traffic));
  await within(END_MILLIS, 'the alerts', all).catch(() => undefined);
}

async function figures(setting: Setting, { journal }: Workspace, events: readonly EeEvent[]): Promise<Figure[]> {
  const directory = evidenceDirectory(journal);
  const late: number[] = [];
  const [flows, whole] = [
    { all: 0, withFirst: 0 },
    { all: 0, complete: 0 },
  ];
  for (const { record } of events) {
    const found = await findEvidence(directory, record.event_id);
    if (found === undefined) continue;
    late.push(statSync(join(directory, found.packets.file)).ctimeMs - microsOf(record.timestamp) / 1000);
    whole.all++;
    if (found.packets.complete) whole.complete++;
    if (Number(record.snort_signature_id) !== DEEP_SID) continue;
    flows.all++;
    if (await beginsWithFirst(directory, record.event_id, found)) flows.withFirst++;
  }
  const figure = (what: string, value: string, details = ''): Figure => ({
    engine: setting.engine.name,
    what,
    value,
    details,
  });
  return [
    figure('alerts with a file', `${grouped(late.length)} of ${grouped(events.length)}`),
    figure(
      'alert to file, p99',
      `${fixed(quantile(late, 0.99), 0)} ms`,
      `p50 ${fixed(quantile(late, 0.5), 0)} ms; packets are waited for ${AFTER_MILLIS} ms, or until the connection ends`,
    ),
    figure('alerts deep in a connection whose file has its first packet', `${flows.withFirst} of ${flows.all}`),
    figure('files with all packets of their flow', `${whole.complete} of ${whole.all}`),
  ];
}

/** A connection's first packet is a SYN without an ACK. */
async function beginsWithFirst(directory: string, eventId: string, { packets }: EvidenceRecord): Promise<boolean> {
  const content = await readPacketFile(directory, eventId);
  const [first] = content === undefined || packets.count === 0 ? [] : parsePackets(content);
  return first !== undefined && headersOf(first)?.flags === 'SYN';
}
