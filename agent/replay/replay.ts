/**
 * Runs recorded packets through the same path as live ones: reader → VLAN tag → FIFO → engine → alerts → events. Each
 * file has a VLAN id of its own, so that flows of different files are never mixed up and an event names its file and
 * packet.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { identify, type Identification } from '../alerts/identify.ts';
import type { Policy } from '../alerts/policy.ts';
import type { Endpoint } from '../endpoints/endpoint.ts';
import type { Alert, Position } from '../engine/alert.ts';
import type { RuleError } from '../engine/engine.ts';
import type { EngineExit } from '../engine/exit.ts';
import { startGeneration, type Generation, type GenerationOptions } from '../engine/generation.ts';
import { createTail, type Tail } from '../engine/readers/tail.ts';
import { unstage } from '../engine/rules.ts';
import { engineError } from '../engine/supervisor.ts';
import { toEvent, type EeEvent, type EventOptions } from '../events/event.ts';
import { emptySummary, openFeed, type FileSummary } from './feed.ts';
import { distinctNames, plainName } from './names.ts';
import type { RuleVocabulary } from '../rulesets/classes.ts';
import type { RuleIndex } from '../rulesets/sets.ts';

/** Files beyond this many share ids. */
const IDS = 4093;
/** Skipped rules that are named. */
const MAX_SKIPPED = 1_000;

export interface ReplayOptions extends Omit<GenerationOptions, 'lane' | 'laneDirectory' | 'mode'> {
  /** Paths; STDIN among them at most once. */
  files: string[];
  node: string;
  evidence: EventOptions;
  rules: RuleIndex;
  /** What classes and types of references mean. */
  vocabulary: RuleVocabulary;
  /** What becomes of each alert; all pass without one. */
  policy?: Pick<Policy, 'judge'>;
  onEvent(event: EeEvent): void;
  onProgress(progress: Progress): void;
  /** Ends it early: what was read until then is inspected to the end. */
  stop: AbortSignal;
  /** Ends it at once: what the engine has not inspected by then is not. */
  abandon: AbortSignal;
}

export interface Progress {
  /** Bytes read so far, of all files. */
  bytes: number;
  packets: number;
  alerts: number;
}

export interface ReplaySummary {
  files: FileSummary[];
  packets: number;
  /** Packets that the engine counted as analysed; absent when it did not say. */
  inspected?: number;
  truncated: number;
  alerts: number;
  /** Further alerts that the policy suppressed, by the name of its entry. */
  suppressed: ReadonlyMap<string, number>;
  /** Pieces of the engine's output that could not be read. */
  unparsable: number;
  signatures: { gid: number; sid: number; rev: number; message: string; count: number }[];
  /**
   * Whether the engine began to read: rules that it refuses keep it from that, and then nothing of the files is lost.
   */
  started: boolean;
  /** Rules that the engine passed over for what they require. */
  skipped: RuleError[];
  /** The engine's failure; what it had found until then was given out. */
  engineError?: Error;
}

export async function replay(options: ReplayOptions): Promise<ReplaySummary> {
  const directory = await mkdtemp(join(tmpdir(), 'dpi-agent-replay-'));
  // The engine's user must get to its own folder.
  await chmod(directory, 0o711);
  try {
    const generation = await startGeneration({ ...options, lane: 'replay', laneDirectory: directory, mode: 'replay' });
    const end = (): void => generation.kill('SIGKILL');
    options.abandon.addEventListener('abort', end);
    try {
      return await run(options, generation);
    } finally {
      options.abandon.removeEventListener('abort', end);
      // After an error too no engine is left.
      end();
      await generation.exited;
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** What was read and found so far. */
interface Course {
  readonly files: FileSummary[];
  readonly endpoints: readonly Endpoint[];
  /** Engine's packet number of each file's first packet. */
  readonly firstPacket: number[];
  readonly progress: Progress;
  readonly signatures: Map<string, ReplaySummary['signatures'][number]>;
  /** By the name of the policy's entry. */
  readonly suppressed: Map<string, number>;
  unparsable: number;
  /** The engine began to read. */
  hasStarted: boolean;
}

async function run(options: ReplayOptions, generation: Generation): Promise<ReplaySummary> {
  const course: Course = {
    files: options.files.map(emptySummary),
    endpoints: endpointsOf(options.files),
    firstPacket: [],
    progress: { bytes: 0, packets: 0, alerts: 0 },
    signatures: new Map(),
    suppressed: new Map(),
    unparsable: 0,
    hasStarted: false,
  };
  const tail = tailOf(generation);
  const alerts = readAlerts(options, generation, course, tail);
  alerts.catch(() => generation.kill('SIGKILL'));
  const isEmpty = !(await feedFiles(options, generation, course));
  const exit = await generation.exited;
  tail.finish();
  await alerts;
  return summarise(options, course, exit, isEmpty && exit.signal === 'SIGKILL');
}

function tailOf({ outputDirectory, stateDirectory, command }: Generation): Tail {
  return createTail({
    directory: outputDirectory,
    stateDirectory,
    base: command.alertFile,
    stamped: command.stamped,
    decoder: command.createDecoder(),
    from: 0,
  });
}

async function readAlerts(options: ReplayOptions, generation: Generation, course: Course, tail: Tail): Promise<void> {
  for await (const batch of tail) {
    if (options.abandon.aborted) return;
    for (const item of batch) {
      if (item.kind === 'damage') course.unparsable++;
      else reportAlert(options, course, item.alert, { generation: generation.name, offset: item.start });
    }
  }
}

function reportAlert(options: ReplayOptions, course: Course, found: Alert, position: Position): void {
  const { files, endpoints, firstPacket, progress, signatures, suppressed } = course;
  const index = fileOf(course, found);
  const alert = numberWithin(found, firstPacket[index], files[index]);
  for (const attributed of identify(alert, position, identificationOf(options, endpoints[index]))) {
    // A packet is in one file only.
    const entry = options.policy?.judge(attributed, () => false);
    if (entry !== undefined) {
      suppressed.set(entry, (suppressed.get(entry) ?? 0) + 1);
      continue;
    }
    progress.alerts++;
    countSignature(signatures, attributed.alert);
    options.onEvent(toEvent(attributed, options.evidence));
  }
}

/** Its index among the files. */
function fileOf({ files, firstPacket }: Course, alert: Alert): number {
  if (files.length <= IDS) return alert.vlan - 1;
  return firstPacket.findLastIndex((first) => first <= (alert.packetNumber ?? 0));
}

/** Gives the engine the packets of all files, and then their end. @returns whether there was one. */
async function feedFiles(options: ReplayOptions, generation: Generation, course: Course): Promise<boolean> {
  const { files, firstPacket, progress } = course;
  const stop = AbortSignal.any([options.stop, options.abandon]);
  let hasEnded = false;
  void generation.exited.then(() => (hasEnded = true));
  const feed = await openFeed(generation.fifo, () => hasEnded, {
    stop,
    progress(bytes, packets) {
      progress.bytes += bytes;
      progress.packets += packets;
      options.onProgress(progress);
    },
  });
  course.hasStarted = feed.isOpen;
  let packets = 1;
  for (const [index, summary] of files.entries()) {
    if (stop.aborted || !feed.isOpen) break;
    firstPacket.push(packets);
    await feed.add(summary, (index % IDS) + 1);
    packets += summary.packets - summary.unsupported;
  }
  await feed.end();
  const isEmpty = packets === 1;
  // Suricata waits a minute for a first packet and calls it a failure then; there is nothing to inspect.
  if (isEmpty && !hasEnded) generation.kill('SIGKILL');
  return !isEmpty;
}

/** @param isEmpty The engine was ended, as there was nothing to inspect. */
function summarise(options: ReplayOptions, course: Course, exit: EngineExit, isEmpty: boolean): ReplaySummary {
  const { files, progress, signatures, suppressed, unparsable, hasStarted } = course;
  const inspected = isEmpty ? 0 : options.driver.analysedPackets(exit.output);
  return {
    files,
    packets: files.reduce((sum, file) => sum + file.packets, 0),
    ...(inspected === undefined ? {} : { inspected }),
    truncated: files.reduce((sum, file) => sum + file.truncated, 0),
    alerts: progress.alerts,
    suppressed,
    unparsable,
    signatures: [...signatures.values()].sort((a, b) => b.count - a.count || a.sid - b.sid),
    started: hasStarted,
    skipped: options.driver.skippedRules?.(unstage(exit.output, options.engineRules()), MAX_SKIPPED) ?? [],
    ...(exit.code === 0 || isEmpty || options.abandon.aborted ? {} : { engineError: engineError(options, exit) }),
  };
}

/** A file's alerts are its own: all its packets bear the id of its endpoint. */
function identificationOf(
  { rules, vocabulary, install, node }: ReplayOptions,
  endpoint: Endpoint | undefined,
): Identification {
  const sensor = { engine: { name: install.name, version: install.version }, node };
  return { rules, vocabulary, owners: { owner: () => endpoint, at: () => [] }, sensor };
}

/** The packet's number in its file, from 1, as other tools count it; none where packets were left out. */
function numberWithin(alert: Alert, first: number | undefined, file: FileSummary | undefined): Alert {
  const { packetNumber, ...rest } = alert;
  if (packetNumber === undefined || first === undefined || file === undefined || file.unsupported > 0) return rest;
  return { ...rest, packetNumber: packetNumber - first + 1 };
}

function countSignature(signatures: Map<string, ReplaySummary['signatures'][number]>, alert: Alert): void {
  const { gid, sid, rev, message } = alert;
  const key = `${gid}:${sid}:${rev}`;
  const entry = signatures.get(key) ?? { gid, sid, rev, message, count: 0 };
  entry.count++;
  signatures.set(key, entry);
}

function endpointsOf(files: readonly string[]): Endpoint[] {
  const names = distinctNames(files);
  return files.map((file, index) => toEndpoint(file, names[index] ?? file));
}

function toEndpoint(file: string, name: string): Endpoint {
  return {
    id: file,
    namespace: '-',
    name,
    nameAggr: '-',
    interface: name,
    labels: {},
    addresses: [],
    resources: [`replay/${plainName(name)}`],
  };
}
