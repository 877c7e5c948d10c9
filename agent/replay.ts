/**
 * Runs recorded packets through the same path as live ones: reader → VLAN tag → FIFO → engine → alerts → events. Each file has
 * a VLAN id of its own, so that flows of different files are never mixed up and an event names its file and packet.
 */
import { constants, createReadStream } from 'node:fs';
import { chmod, mkdtemp, open, rm, stat, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import { attribute } from './alerts/attribute.ts';
import {
  GROWTH,
  linkTypeFromDlt,
  pcapFileHeader,
  RECORD_HEADER,
  tagFrame,
  writeRecordHeader,
} from './capture/frame.ts';
import { createPcapParser, type Damage } from './capture/pcap-file.ts';
import type { Endpoint } from './endpoints/endpoint.ts';
import type { Alert } from './engine/alert.ts';
import { startGeneration, type EngineExit, type Generation, type GenerationOptions } from './engine/generation.ts';
import { createTail } from './engine/readers/tail.ts';
import { engineError } from './engine/supervisor.ts';
import { toEvent, type EeEvent, type EventOptions } from './events/event.ts';
import type { RuleVocabulary } from './rulesets/classes.ts';
import { ruleFacts, withRule } from './rulesets/enrich.ts';
import type { RuleIndex } from './rulesets/sets.ts';

/** Stands for standard input, whatever it is. */
export const STDIN = '/dev/stdin';
const CHUNK_BYTES = 256 * 1024;
/** Record header, and what a frame grows by. */
const MAX_ADDED = 64;
/** Files beyond this many share ids. */
const IDS = 4093;

export interface ReplayOptions extends Omit<GenerationOptions, 'lane' | 'laneDirectory' | 'mode'> {
  /** Paths; STDIN among them at most once. */
  files: string[];
  node: string;
  evidence: EventOptions;
  rules: RuleIndex;
  /** What classes and types of references mean. */
  vocabulary: RuleVocabulary;
  onEvent(event: EeEvent): void;
  onProgress(progress: Progress): void;
  /** Ends it early: what was read until then is inspected to the end. */
  signal: AbortSignal;
}

export interface Progress {
  /** Bytes read so far, of all files. */
  bytes: number;
  packets: number;
  alerts: number;
}

export interface FileSummary {
  file: string;
  packets: number;
  bytes: number;
  /** Longer on the wire than in the file. */
  truncated: number;
  /** Of link types or protocols that the engines do not read. */
  unsupported: number;
  damages: Damage[];
  damageCount: number;
  /** Why nothing, or not all, was read: not a capture file, or an error of the file system. */
  error?: string;
}

export interface ReplaySummary {
  files: FileSummary[];
  packets: number;
  /** Packets that the engine counted as analysed; absent when it did not say. */
  inspected?: number;
  truncated: number;
  alerts: number;
  /** Pieces of the engine's output that could not be read. */
  unparsable: number;
  signatures: { gid: number; sid: number; rev: number; message: string; count: number }[];
  /** The engine's failure; what it had found until then was given out. */
  engineError?: Error;
}

export async function replay(options: ReplayOptions): Promise<ReplaySummary> {
  const directory = await mkdtemp(join(tmpdir(), 'dpi-agent-replay-'));
  // The engine's user must get to its own folder.
  await chmod(directory, 0o711);
  try {
    const generation = await startGeneration({ ...options, lane: 'replay', laneDirectory: directory, mode: 'replay' });
    return await run(options, generation);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function run(options: ReplayOptions, generation: Generation): Promise<ReplaySummary> {
  const files = options.files.map(emptySummary);
  const progress: Progress = { bytes: 0, packets: 0, alerts: 0 };
  const signatures = new Map<string, ReplaySummary['signatures'][number]>();
  /** Engine's packet number of each file's first packet. */
  const firstPacket: number[] = [];
  let unparsable = 0;
  let exit: EngineExit | undefined;
  void generation.exited.then((e) => (exit = e));

  const endpoints = options.files.map(toEndpoint);
  const fileOf = (alert: Alert): number => {
    if (options.files.length <= IDS) return alert.vlan - 1;
    return firstPacket.findLastIndex((first) => first <= (alert.packetNumber ?? 0));
  };

  const tail = createTail({
    directory: generation.outputDirectory,
    stateDirectory: generation.stateDirectory,
    base: generation.command.alertFile,
    stamped: generation.command.stamped,
    decoder: generation.command.createDecoder(),
    from: 0,
  });

  async function readAlerts(): Promise<void> {
    for await (const batch of tail) {
      for (const item of batch) {
        if (item.kind === 'damage') {
          unparsable++;
          continue;
        }
        const index = fileOf(item.alert);
        const endpoint = endpoints[index];
        const rule = options.rules.get(`${item.alert.gid}:${item.alert.sid}`);
        const alert = numberWithin(withRule(item.alert, rule, options.vocabulary), firstPacket[index], files[index]);
        const owners = { owner: () => endpoint, at: () => [] };
        const sensor = { engine: { name: options.install.name, version: options.install.version }, node: options.node };
        for (const attributed of attribute(alert, `${generation.name}:${item.start}`, owners, sensor)) {
          progress.alerts++;
          count(signatures, alert);
          options.onEvent(
            toEvent(
              rule === undefined ? attributed : { ...attributed, rule: ruleFacts(rule, options.vocabulary) },
              options.evidence,
            ),
          );
        }
      }
    }
  }
  const alerts = readAlerts();

  const fifo = await openFifo(generation.fifo, () => exit !== undefined);
  if (fifo !== undefined) {
    try {
      await fifo.write(pcapFileHeader());
      let packets = 1;
      for (const [index, summary] of files.entries()) {
        if (options.signal.aborted || exit !== undefined) break;
        firstPacket.push(packets);
        await feed(summary, (index % IDS) + 1, fifo, progress, options);
        packets += summary.packets - summary.unsupported;
      }
    } catch (error) {
      // EPIPE: the engine's exit says why.
      if (!(error instanceof Error && 'code' in error && error.code === 'EPIPE')) throw error;
    } finally {
      await fifo.close();
    }
  }
  const forwarded = files.reduce((sum, file) => sum + file.packets - file.unsupported, 0);
  // Suricata waits a minute for a first packet and calls it a failure then; there is nothing to inspect.
  if (forwarded === 0 && fifo !== undefined) generation.kill('SIGKILL');
  const ended = await generation.exited;
  tail.finish();
  await alerts;

  const isEmpty = forwarded === 0 && ended.signal === 'SIGKILL';
  const inspected = isEmpty ? 0 : options.driver.analysedPackets(ended.output);
  return {
    files,
    packets: files.reduce((sum, file) => sum + file.packets, 0),
    ...(inspected === undefined ? {} : { inspected }),
    truncated: files.reduce((sum, file) => sum + file.truncated, 0),
    alerts: progress.alerts,
    unparsable,
    signatures: [...signatures.values()].sort((a, b) => b.count - a.count || a.sid - b.sid),
    ...(ended.code === 0 || isEmpty ? {} : { engineError: engineError(options, ended) }),
  };
}

/** Reads one file and writes its packets; reading and writing overlap. */
async function feed(
  summary: FileSummary,
  vlan: number,
  fifo: FileHandle,
  progress: Progress,
  options: ReplayOptions,
): Promise<void> {
  const buffers = [Buffer.allocUnsafeSlow(4 * CHUNK_BYTES), Buffer.allocUnsafeSlow(4 * CHUNK_BYTES)] as const;
  const views = [new DataView(buffers[0].buffer), new DataView(buffers[1].buffer)] as const;
  let turn: 0 | 1 = 0;
  let filled = 0;
  const overflow: Buffer[] = [];
  let writing: Promise<unknown> = Promise.resolve();

  const parser = createPcapParser((seconds, micros, caplen, originalLength, dlt, buffer, start) => {
    summary.packets++;
    progress.packets++;
    if (caplen < originalLength) summary.truncated++;
    const link = linkTypeFromDlt(dlt);
    if (link === undefined) return void summary.unsupported++;
    if (filled + MAX_ADDED + caplen > buffers[turn].length) {
      overflow.push(Buffer.from(buffers[turn].subarray(0, filled)));
      filled = 0;
    }
    const target = buffers[turn];
    const at = filled + RECORD_HEADER + GROWTH[link];
    buffer.copy(target, at, start, start + caplen);
    const tagged = tagFrame(target, at, caplen, link, vlan);
    if (tagged < 0) return void summary.unsupported++;
    const length = at + caplen - tagged;
    const original = Math.max(length, originalLength + length - caplen);
    writeRecordHeader(views[turn], filled, seconds, micros, length, original);
    filled = at + caplen;
  });

  async function flush(): Promise<void> {
    await writing;
    for (const piece of overflow.splice(0)) await writeAll(fifo, piece);
    if (filled === 0) return;
    writing = writeAll(fifo, buffers[turn].subarray(0, filled));
    // A failure shows at the next await of it.
    writing.catch(() => undefined);
    turn = turn === 0 ? 1 : 0;
    filled = 0;
  }

  try {
    for await (const chunk of await readChunks(summary.file)) {
      summary.bytes += chunk.length;
      progress.bytes += chunk.length;
      const wantsMore = parser.push(chunk);
      await flush();
      options.onProgress(progress);
      if (!wantsMore || options.signal.aborted) break;
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EPIPE') throw error;
    summary.error = error instanceof Error ? error.message : String(error);
  }
  await flush();
  await writing;
  const outcome = parser.end();
  if (outcome.kind === 'read') {
    // Stopped on purpose is not damaged.
    if (!options.signal.aborted) {
      summary.damages = outcome.damages;
      summary.damageCount = outcome.damageCount;
    }
  } else {
    summary.error ??= outcome.kind === 'gzip' ? 'compressed twice' : `not a capture file: ${outcome.reason}`;
  }
}

/** A file's bytes, decompressed when it is gzip. */
async function readChunks(file: string): Promise<AsyncIterable<Buffer>> {
  const stream = file === STDIN ? process.stdin : createReadStream(file, { highWaterMark: CHUNK_BYTES });
  if (file === STDIN || (await headOf(file)).kind !== 'gzip') return stream as AsyncIterable<Buffer>;
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  stream.on('error', (error: Error) => gunzip.destroy(error));
  return stream.pipe(gunzip) as AsyncIterable<Buffer>;
}

/** What a file is, by its first bytes. @throws Error when it can't be read. */
export async function headOf(
  file: string,
): Promise<{ kind: 'capture' | 'gzip'; size: number } | { kind: 'not-pcap'; reason: string }> {
  const handle = await open(file);
  try {
    const { size } = await stat(file);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(512), 0, 512, 0);
    const parser = createPcapParser(() => undefined);
    parser.push(buffer.subarray(0, bytesRead));
    const outcome = parser.end();
    if (outcome.kind === 'not-pcap') return outcome;
    return { kind: outcome.kind === 'gzip' ? 'gzip' : 'capture', size };
  } finally {
    await handle.close();
  }
}

/** Opens the FIFO for writing once the engine reads it; undefined when the engine ended before. */
async function openFifo(path: string, engineEnded: () => boolean): Promise<FileHandle | undefined> {
  while (!engineEnded()) {
    try {
      const probe = await open(path, constants.O_WRONLY | constants.O_NONBLOCK);
      // With a reader there, this does not wait; and its writes do, which is what holds back the reading.
      const fifo = await open(path, constants.O_WRONLY);
      await probe.close();
      return fifo;
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENXIO')) throw error;
      await sleep(5);
    }
  }
  return undefined;
}

async function writeAll(fifo: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await fifo.write(bytes, at)).bytesWritten;
}

/** The packet's number in its file, from 1, as other tools count it; none where packets were left out. */
function numberWithin(alert: Alert, first: number | undefined, file: FileSummary | undefined): Alert {
  const { packetNumber, ...rest } = alert;
  if (packetNumber === undefined || first === undefined || file === undefined || file.unsupported > 0) return rest;
  return { ...rest, packetNumber: packetNumber - first + 1 };
}

function count(signatures: Map<string, ReplaySummary['signatures'][number]>, alert: Alert): void {
  const { gid, sid, rev, message } = alert;
  const key = `${gid}:${sid}:${rev}`;
  const entry = signatures.get(key) ?? { gid, sid, rev, message, count: 0 };
  entry.count++;
  signatures.set(key, entry);
}

function emptySummary(file: string): FileSummary {
  return { file, packets: 0, bytes: 0, truncated: 0, unsupported: 0, damages: [], damageCount: 0 };
}

function toEndpoint(file: string): Endpoint {
  const name = file === STDIN ? 'stdin' : basename(file);
  return {
    id: file,
    namespace: '-',
    name,
    nameAggr: '-',
    interface: name,
    labels: {},
    addresses: [],
    resources: [`replay/${name.replace(/[^\w.-]/g, '_')}`],
  };
}
