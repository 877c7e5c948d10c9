/**
 * A scripted engine: it appends its alerts, as Snort's `alert_json` has them, to files that it or the agent puts aside,
 * until it ends.
 *
 * It is a process of its own: it goes on when the agent is killed, and ends when it has written what it was given. It
 * writes when it likes, also a part of a line; one that dies leaves a line torn.
 */
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import type { VirtualClock } from './clock.ts';
import type { Disk } from './disk.ts';

/** A packet that fires a rule. */
export interface Packet {
  /** 1 where it is absent. */
  gid?: number;
  sid: number;
  protocol: 'TCP';
  source: { ip: string; port: number };
  destination: { ip: string; port: number };
  payload: Buffer;
}

/** An alert of a packet that was captured at an endpoint. */
export interface Firing {
  packet: Packet;
  vlan: number;
  timeMicros: number;
  /** Whose packet it is, and at which end of its flow that is. */
  endpoint: Endpoint;
  end: 'source' | 'destination';
}

/** An alert as it stands in an engine's output. */
export interface Stimulus extends Firing {
  generation: string;
  /** Of its first byte, and behind its last one, in the generation's output. */
  start: number;
  endsAt: number;
  file: WrittenFile;
}

export interface WrittenFile {
  ino: number;
  /** Of its first byte in the generation's output. */
  start: number;
}

export interface Engine {
  readonly generation: string;
  readonly directory: string;
  isRunning(): boolean;
  fire(firing: Firing): void;
  /** Its input is over: it writes what it has, and ends. */
  finish(): void;
  /** It ends at once. @param writing whether it wrote a part of what it has. */
  die(writing: boolean): void;
  /** Called when it has ended. */
  onEnd: () => void;
}

export interface EngineOptions {
  clock: VirtualClock;
  disk: Disk;
  random: () => number;
  generation: string;
  /** Of the generation. */
  directory: string;
  /** Whether it names its files by their times. */
  stamped: boolean;
  /** An alert is in its file, whole. */
  wrote: (stimulus: Stimulus) => void;
}

export const ALERT_FILE = 'alert_json.txt';
/** How long an alert may take, at most. */
const LATENCY_MILLIS = 400;
const FLUSH_MILLIS = 5000;

export function startEngine(options: EngineOptions): Engine {
  const { clock, disk, random, generation, directory, stamped, wrote } = options;
  const live = `${directory}/output/${ALERT_FILE}`;
  /** Alerts that are in `unwritten`. */
  const begun: { firing: Firing; start: number; endsAt: number }[] = [];
  let unwritten = Buffer.alloc(0);
  /** Bytes of the output, and of those that are in a file. */
  let given = 0;
  let written = 0;
  let file: { path: string; facts: WrittenFile } | undefined;
  let files = 0;
  let running = true;
  let finishing = false;
  let awake = false;

  function wake(): void {
    if (awake) return;
    awake = true;
    clock.outside(random() * random() * LATENCY_MILLIS, () => {
      awake = false;
      if (!running) return;
      if (random() < 0.05) putAside();
      // Now and then a line is there in two pieces.
      write(random() < 0.1 ? Math.ceil(random() * unwritten.length) : unwritten.length);
      if (unwritten.length > 0) wake();
      else if (finishing) end();
    });
  }

  function write(length: number): void {
    if (length === 0) return;
    const bytes = unwritten.subarray(0, length);
    unwritten = Buffer.from(unwritten.subarray(length));
    // Without a file it makes one, or goes on in the one of that name.
    const path = file?.path ?? (stamped ? `${live}.${1_767_312_000 + ++files}` : live);
    const ino = disk.outside.append(path, bytes);
    file ??= { path, facts: { ino, start: written } };
    written += length;
    for (let first = begun[0]; first !== undefined && first.endsAt <= written; first = begun[0]) {
      begun.shift();
      wrote({ ...first.firing, generation, start: first.start, endsAt: first.endsAt, file: file.facts });
    }
  }

  /** Only between two lines: an engine opens its file anew when it has written one. */
  function putAside(): void {
    if (file === undefined || begun.some(({ start }) => start < written)) return;
    if (stamped) {
      file = undefined;
      return;
    }
    const aside = `${live}.${++files}`;
    disk.outside.rename(live, aside);
    // It may write on into the file, until it opens another one.
    file = { ...file, path: aside };
    if (random() < 0.5) write(unwritten.length);
    file = undefined;
  }

  function end(): void {
    running = false;
    engine.onEnd();
  }

  const engine: Engine = {
    generation,
    directory,
    isRunning: () => running,
    fire(firing) {
      if (!running || finishing) return;
      const line = lineOf(firing);
      begun.push({ firing, start: given, endsAt: given + line.length - 1 });
      given += line.length;
      unwritten = Buffer.concat([unwritten, line]);
      wake();
    },
    finish() {
      finishing = true;
      wake();
    },
    die(writing) {
      if (!running) return;
      if (writing) write(Math.floor(random() * unwritten.length));
      end();
    },
    onEnd: () => undefined,
  };

  (function flush(): void {
    clock.outside(random() * FLUSH_MILLIS, () => {
      if (running) disk.outside.flush();
      if (running) flush();
    });
  })();
  return engine;
}

function lineOf({ packet, vlan, timeMicros }: Firing): Buffer {
  const { gid = 1, sid, protocol, source, destination, payload } = packet;
  const seconds = Math.floor(timeMicros / 1e6);
  const [date = '', time = ''] = new Date(seconds * 1000).toISOString().slice(2, 19).split('T');
  const fraction = String(timeMicros - seconds * 1e6).padStart(6, '0');
  const fields = [
    `"timestamp" : "${date.replaceAll('-', '/')}-${time}.${fraction}"`,
    `"seconds" : ${seconds}`,
    `"vlan" : ${vlan}`,
    `"gid" : ${gid}`,
    `"sid" : ${sid}`,
    `"rev" : 1`,
    `"msg" : "simulated rule ${sid}"`,
    `"priority" : 1`,
    `"proto" : "${protocol}"`,
    `"src_addr" : "${source.ip}"`,
    `"src_port" : ${source.port}`,
    `"dst_addr" : "${destination.ip}"`,
    `"dst_port" : ${destination.port}`,
    `"b64_data" : "${payload.toString('base64')}"`,
  ];
  return Buffer.from(`{ ${fields.join(', ')} }\n`);
}
