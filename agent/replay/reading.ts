/** Follows an engine that reads a capture file by itself (plain.ts). */
import { readdir, readFile, readlink, realpath } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Generation } from '../engine/generation.ts';
import type { FeedEvents } from './feed.ts';
import type { PlainFile } from './plain.ts';

const LOOK_MILLIS = 50;

export interface Reading {
  /** Bytes of the file. */
  bytes: number;
  /** It was seen with the file open: rules that it refuses keep it from that. */
  isOpen: boolean;
}

/**
 * Resolves once the engine has ended. After `stop` it is told to end, once it has the file open: before that, a signal
 * could find it without a handler. It reports what it inspected until then.
 */
export async function followReading(
  generation: Generation,
  { path, packets, bytes }: PlainFile,
  { stop, progress }: FeedEvents,
): Promise<Reading> {
  const reading: Reading = { bytes: 0, isOpen: false };
  const file = await realpath(path);
  const ended = generation.exited.then(() => true);
  let isToldToEnd = false;
  let told = 0;
  const tell = (position: number): void => {
    const read = Math.round((packets * position) / bytes);
    progress(position - reading.bytes, read - told);
    reading.bytes = position;
    told = read;
  };
  while (!(await Promise.race([ended, sleep(LOOK_MILLIS, false)]))) {
    const position = await positionIn(generation.pid, file);
    reading.isOpen ||= position !== undefined;
    if (position !== undefined) tell(Math.min(position, bytes));
    if (!stop.aborted || !reading.isOpen || isToldToEnd) continue;
    isToldToEnd = true;
    generation.kill('SIGTERM');
  }
  const { code } = await generation.exited;
  reading.isOpen ||= code === 0;
  if (code === 0 && !stop.aborted) tell(bytes);
  return reading;
}

/** How far a process has read a file; undefined where it does not have it open, or that can't be seen. */
async function positionIn(pid: number, file: string): Promise<number | undefined> {
  const folder = `/proc/${pid}`;
  try {
    for (const number of await readdir(`${folder}/fd`)) {
      if ((await readlink(`${folder}/fd/${number}`)) !== file) continue;
      const position = /^pos:\s*(\d+)/m.exec(await readFile(`${folder}/fdinfo/${number}`, 'utf8'))?.[1];
      return position === undefined ? undefined : Number(position);
    }
  } catch {
    // It has ended, or is not ours to look at.
  }
  return undefined;
}
