/**
 * Runs recorded packets through the same path as live ones: reader → FIFO → engine → alerts → events. An engine gets
 * the packets of a file as they are, or those of several files with a VLAN id for each (runs.ts), so that flows of
 * different files are never mixed up and an event names its file and packet. A plain file (plain.ts) that is alone it
 * reads by itself; it starts with one that begins like that, and another one takes its place where more is not so.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { AttributedAlert } from '../alerts/attributed.ts';
import { identify, type Identification } from '../alerts/identify.ts';
import { createRepeats, type Repeats } from '../alerts/repeats.ts';
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
import { emptySummary, openFeed, type FeedEvents, type FileSummary } from './feed.ts';
import { distinctNames, plainName } from './names.ts';
import { beginsPlain, readPlain, type PlainFile } from './plain.ts';
import { followReading } from './reading.ts';
import { planRuns, type Run } from './runs.ts';
import { createTimes, type Times } from './times.ts';
import type { RuleVocabulary } from '../rulesets/classes.ts';
import type { RuleIndex } from '../rulesets/sets.ts';

/** Files beyond this many of a run share ids. */
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
  /** What comes after it waits until it resolves. */
  onEvent(event: EeEvent, attributed: AttributedAlert): Promise<void> | void;
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
  /** Alerts of which it is not known in which file their packet is. */
  unattributed: number;
  /** Further alerts, of a packet's body, that repeat one of the packet: Snort's. */
  repeated: number;
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
    const course = newCourse(options.files);
    const stop = AbortSignal.any([options.stop, options.abandon]);
    for (const run of await planRuns(options.files, stop)) {
      await inspect(options, course, directory, run);
      if (stop.aborted || !course.hasStarted) break;
    }
    return summarise(course);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function inspect(options: ReplayOptions, course: Course, laneDirectory: string, run: Run): Promise<void> {
  const running = { ...run, firstPacket: [], times: createTimes() };
  const path = run.tagged ? undefined : options.files[run.files[0] ?? 0];
  if (path !== undefined && beginsPlain(path, options.sandbox)) {
    const isDone = await withEngine(options, { laneDirectory, file: resolve(path) }, async (generation) => {
      // While the engine starts.
      const stop = AbortSignal.any([options.stop, options.abandon]);
      const plain = await readPlain(path, options.sandbox, Infinity, stop);
      if (plain === undefined) return false;
      await inspectBy(generation, options, course, { ...running, plain });
      return true;
    });
    if (isDone) return;
  }
  await withEngine(options, { laneDirectory }, (generation) =>
    inspectBy(generation, options, course, { ...running, plain: undefined }),
  );
}

/** What was started is ended in any case. */
async function withEngine<T>(
  options: ReplayOptions,
  place: Pick<GenerationOptions, 'laneDirectory' | 'file'>,
  use: (generation: Generation) => Promise<T>,
): Promise<T> {
  const generation = await startGeneration({ ...options, ...place, lane: 'replay', mode: 'replay' });
  const end = (): void => generation.kill('SIGKILL');
  options.abandon.addEventListener('abort', end);
  try {
    return await use(generation);
  } finally {
    options.abandon.removeEventListener('abort', end);
    end();
    await generation.exited;
    await rm(generation.directory, { recursive: true, force: true });
  }
}

/** A run under way. */
interface Running extends Run {
  readonly plain: PlainFile | undefined;
  /** The engine's number of the first packet of each file, as far as they were begun. */
  readonly firstPacket: number[];
  /** Of a file that is alone. */
  readonly times: Times;
}

/** What was read and found so far. */
interface Course {
  readonly files: FileSummary[];
  readonly endpoints: readonly Endpoint[];
  readonly progress: Progress;
  readonly signatures: Map<string, ReplaySummary['signatures'][number]>;
  /** By the name of the policy's entry. */
  readonly suppressed: Map<string, number>;
  unparsable: number;
  unattributed: number;
  readonly repeats: Repeats;
  repeated: number;
  /** An engine began to read. */
  hasStarted: boolean;
  /** Packets that the engines counted as analysed; undefined once one did not say. */
  inspected: number | undefined;
  /** Of the first engine: all have the same rules. */
  skipped: RuleError[] | undefined;
  /** The first one. */
  engineError: Error | undefined;
}

function newCourse(files: readonly string[]): Course {
  return {
    files: files.map(emptySummary),
    endpoints: endpointsOf(files),
    progress: { bytes: 0, packets: 0, alerts: 0 },
    signatures: new Map(),
    suppressed: new Map(),
    unparsable: 0,
    unattributed: 0,
    repeats: createRepeats(),
    repeated: 0,
    hasStarted: false,
    inspected: 0,
    skipped: undefined,
    engineError: undefined,
  };
}

async function inspectBy(
  generation: Generation,
  options: ReplayOptions,
  course: Course,
  running: Running,
): Promise<void> {
  const tail = tailOf(generation);
  const alerts = readAlerts(options, generation, course, running, tail);
  alerts.catch(() => generation.kill('SIGKILL'));
  const { plain } = running;
  const isEmpty = plain === undefined && !(await feedFiles(options, generation, course, running));
  if (plain !== undefined) await letRead(options, generation, course, running, plain);
  const exit = await generation.exited;
  tail.finish();
  await alerts;
  noteExit(options, course, exit, isEmpty && exit.signal === 'SIGKILL');
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

async function readAlerts(
  options: ReplayOptions,
  generation: Generation,
  course: Course,
  running: Running,
  tail: Tail,
): Promise<void> {
  for await (const batch of tail) {
    if (options.abandon.aborted) return;
    for (const item of batch) {
      if (item.kind === 'damage') course.unparsable++;
      else await reportAlert(options, course, running, item.alert, { generation: generation.name, offset: item.start });
    }
  }
}

async function reportAlert(
  options: ReplayOptions,
  course: Course,
  running: Running,
  found: Alert,
  position: Position,
): Promise<void> {
  const { files, endpoints, progress, signatures, suppressed } = course;
  const place = placeOf(running, found);
  const index = running.files[place];
  if (index === undefined) return void course.unattributed++;
  const alert = within(found, running.firstPacket[place], files[index], running.times);
  if (course.repeats.isRepeat(found)) return void course.repeated++;
  for (const attributed of identify(alert, position, identificationOf(options, endpoints[index]))) {
    // A packet is in one file only.
    const entry = options.policy?.judge(attributed, () => false);
    if (entry !== undefined) {
      suppressed.set(entry, (suppressed.get(entry) ?? 0) + 1);
      continue;
    }
    progress.alerts++;
    countSignature(signatures, attributed.alert);
    await options.onEvent(toEvent(attributed, options.evidence), attributed);
  }
}

/** Which of the run's files has its packet; -1: that can't be told. */
function placeOf({ files, tagged, firstPacket }: Running, { vlan, packetNumber }: Alert): number {
  if (!tagged) return 0;
  if (vlan > 0 && files.length <= IDS) return vlan - 1;
  return packetNumber === undefined ? -1 : firstPacket.findLastIndex((first) => first <= packetNumber);
}

/** Gives the engine the packets of the run's files, and then their end. @returns whether there was one. */
async function feedFiles(
  options: ReplayOptions,
  generation: Generation,
  course: Course,
  { files, tagged, firstPacket, times }: Running,
): Promise<boolean> {
  const stop = AbortSignal.any([options.stop, options.abandon]);
  let hasEnded = false;
  void generation.exited.then(() => (hasEnded = true));
  const feed = await openFeed(generation.fifo, () => hasEnded, { stop, progress: progressOf(options, course) });
  course.hasStarted ||= feed.isOpen;
  let packets = 1;
  for (const [place, index] of files.entries()) {
    const summary = course.files[index];
    if (summary === undefined || stop.aborted || !feed.isOpen) break;
    firstPacket.push(packets);
    await feed.add(summary, tagged ? { is: 'tagged', vlan: (place % IDS) + 1 } : { is: 'alone', times });
    packets += summary.packets - summary.unsupported;
  }
  await feed.end();
  const isEmpty = packets === 1;
  // Suricata waits a minute for a first packet and calls it a failure then; there is nothing to inspect.
  if (isEmpty && !hasEnded) generation.kill('SIGKILL');
  return !isEmpty;
}

function progressOf(options: ReplayOptions, { progress }: Course): FeedEvents['progress'] {
  return (bytes, packets) => {
    progress.bytes += bytes;
    progress.packets += packets;
    options.onProgress(progress);
  };
}

/** The engine reads the run's file by itself. What it did not get to was not read. */
async function letRead(
  options: ReplayOptions,
  generation: Generation,
  course: Course,
  { files: [index = 0], firstPacket }: Running,
  plain: PlainFile,
): Promise<void> {
  const stop = AbortSignal.any([options.stop, options.abandon]);
  firstPacket.push(1);
  const reading = await followReading(generation, plain, { stop, progress: progressOf(options, course) });
  const { output } = await generation.exited;
  course.hasStarted ||= reading.isOpen;
  const packets = reading.bytes === plain.bytes ? plain.packets : (options.driver.analysedPackets(output) ?? 0);
  const whole = packets >= plain.packets;
  const { truncated = 0 } = (whole ? plain : await readPlain(plain.path, options.sandbox, packets)) ?? {};
  const summary = course.files[index];
  if (summary !== undefined) Object.assign(summary, { packets, truncated, whole, bytes: reading.bytes });
}

/** @param isEmpty The engine was ended, as there was nothing to inspect. */
function noteExit(options: ReplayOptions, course: Course, exit: EngineExit, isEmpty: boolean): void {
  const { driver, engineRules, abandon } = options;
  const inspected = isEmpty ? 0 : driver.analysedPackets(exit.output);
  course.inspected =
    inspected === undefined || course.inspected === undefined ? undefined : course.inspected + inspected;
  course.skipped ??= driver.skippedRules?.(unstage(exit.output, engineRules()), MAX_SKIPPED) ?? [];
  if (exit.code !== 0 && !isEmpty && !abandon.aborted) course.engineError ??= engineError(options, exit);
}

function summarise(course: Course): ReplaySummary {
  const { files, progress, signatures, inspected, skipped = [], engineError: error } = course;
  return {
    files,
    packets: files.reduce((sum, file) => sum + file.packets, 0),
    ...(inspected === undefined ? {} : { inspected }),
    truncated: files.reduce((sum, file) => sum + file.truncated, 0),
    alerts: progress.alerts,
    suppressed: course.suppressed,
    unparsable: course.unparsable,
    unattributed: course.unattributed,
    repeated: course.repeated,
    signatures: [...signatures.values()].sort((a, b) => b.count - a.count || a.sid - b.sid),
    started: course.hasStarted,
    skipped,
    ...(error === undefined ? {} : { engineError: error }),
  };
}

/** Of a file's alerts, whatever their VLAN ids are. */
function identificationOf(
  { rules, vocabulary, install, node }: ReplayOptions,
  endpoint: Endpoint | undefined,
): Identification {
  const sensor = { engine: { name: install.name, version: install.version }, node };
  return { rules, vocabulary, owners: { owner: () => endpoint, at: () => [] }, sensor };
}

/**
 * With the packet's number in its file, from 1, as other tools count it, none where packets were left out; and with the
 * times that the file has.
 */
function within(alert: Alert, first: number | undefined, file: FileSummary | undefined, times: Times): Alert {
  const { packetNumber, ...rest } = alert;
  const micros = times.lack(packetNumber) * 1e6;
  const timed = micros === 0 ? rest : moved(rest, micros);
  if (packetNumber === undefined || first === undefined || file === undefined || file.unsupported > 0) return timed;
  return { ...timed, packetNumber: packetNumber - first + 1 };
}

function moved(alert: Alert, micros: number): Alert {
  const { timeMicros, flow } = alert;
  return {
    ...alert,
    timeMicros: timeMicros + micros,
    ...(flow === undefined ? {} : { flow: { ...flow, startMicros: flow.startMicros + micros } }),
  };
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
