/**
 * The alert files of a lane's generations: each is read to its end, acknowledged, and deleted. Also those of
 * generations that an earlier agent left: one after the other, once their engines are gone.
 *
 * A generation's folder is deleted only when all its alerts are on disk elsewhere. What can't be read on stays for the
 * next agent.
 */
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Decoded, Decoder } from '../engine/alert.ts';
import type { GenerationRecord } from '../engine/folder.ts';
import type { Generation } from '../engine/generation.ts';
import { endOrphans, type LeftGenerations } from '../engine/orphans.ts';
import { createTail, type Tail } from '../engine/readers/tail.ts';
import { messageOf } from '../files/errors.ts';
import { replaceFile } from '../files/replace.ts';

export interface AlertFilesOptions {
  lane: string;
  /**
   * The next ones are read when the promise resolves. `passed`: the end of what was read, where the agent's own alerts
   * were left out.
   */
  alerts(generation: string, items: Decoded[], passed?: number): Promise<void>;
  /** All alerts of the generation were given out; resolves when its folder can go. */
  finished(generation: string): Promise<void>;
  /** Whether the alert is of a frame of the agent's own, which goes no further. */
  isOwn(item: Decoded): boolean;
  /** Alerts of the generation can't be read on by this process. */
  unreadable(generation: string, error: string): void;
  /** Offset to go on at in the alerts of a generation that an earlier agent left, from what the journal says. */
  resumeAt(generation: string): number;
  createDecoder(record: Pick<GenerationRecord, 'engine' | 'output'>): Decoder;
  log: Logger;
}

export interface AlertFiles {
  /** Begins to read a generation that has just started. */
  follow(generation: Generation): void;
  /** Its engine writes no more. */
  finish(generation: string): void;
  /** Deletes what was read up to this offset of the generation's alerts, as far as the engine has put it aside. */
  consumed: (generation: string, offset: number) => Promise<void>;
  /** Likewise, where no event stands for what was read up to there: after a crash it is not read again. */
  passed: (generation: string, offset: number) => Promise<void>;
  /** Resolves when generations that an earlier agent left are read. */
  recover(left: LeftGenerations): Promise<void>;
  /** Resolves when every generation that is over is read. */
  allRead(): Promise<void>;
}

/** One generation's alert files, while they are read. */
interface Reading {
  tail: Tail;
  directory: string;
  done: Promise<void>;
}

/** By generation. */
type Readings = Map<string, Reading>;

export function readAlertFiles(options: AlertFilesOptions): AlertFiles {
  const readings: Readings = new Map();
  return {
    follow(generation) {
      read(readings, options, generation, generation.directory, generation.command.createDecoder(), 0);
    },
    finish: (generation) => readings.get(generation)?.tail.finish(),
    async consumed(generation, offset) {
      await readings.get(generation)?.tail.deleteConsumed(offset);
    },
    async passed(generation, offset) {
      const reading = readings.get(generation);
      if (reading === undefined) return;
      await writePassed(reading.directory, offset);
      await reading.tail.deleteConsumed(offset);
    },
    recover: (left) => recover(readings, options, left),
    async allRead() {
      await Promise.all([...readings.values()].map(({ done }) => done));
    },
  };
}

/** @param from Offset of the first alert in the generation's output. */
function read(
  readings: Readings,
  options: AlertFilesOptions,
  { name, command }: Pick<Generation, 'name'> & { command: { alertFile: string; stamped: boolean } },
  directory: string,
  decoder: Decoder,
  from: number,
): Reading {
  const tail = createTail({
    directory: join(directory, 'output'),
    stateDirectory: join(directory, 'state'),
    base: command.alertFile,
    stamped: command.stamped,
    decoder,
    from,
  });
  const done = readAll(options, name, tail, directory).finally(() => readings.delete(name));
  const reading = { tail, directory, done };
  readings.set(name, reading);
  return reading;
}

async function readAll(options: AlertFilesOptions, generation: string, tail: Tail, directory: string): Promise<void> {
  try {
    for await (const batch of tail) {
      const others = batch.filter((item) => !options.isOwn(item));
      const passed = others.length < batch.length ? batch.at(-1)?.end : undefined;
      await options.alerts(generation, others, passed);
    }
    await options.finished(generation);
    await rm(directory, { recursive: true, force: true });
  } catch (error) {
    // The folder stays: the next agent reads it from where the journal ends.
    options.log.error({ lane: options.lane, generation, err: error }, 'alerts cannot be read on');
    options.unreadable(generation, messageOf(error));
  }
}

async function recover(
  readings: Readings,
  options: AlertFilesOptions,
  { generations, unreadable }: LeftGenerations,
): Promise<void> {
  const { lane, log } = options;
  for (const { directory, reason } of unreadable) {
    log.error({ lane, directory, reason }, 'alerts that an earlier agent left cannot be read; they stay');
  }
  const directories = [...generations, ...unreadable].map(({ directory }) => directory);
  await endOrphans(directories, log.child({ lane }));
  for (const record of generations) {
    const { name, directory } = record;
    const from = Math.max(options.resumeAt(name), readPassed(directory));
    log.info({ lane, generation: name, from }, 'reading the alerts that an earlier agent left');
    const decoder = options.createDecoder(record);
    const { tail, done } = read(readings, options, { name, command: record }, directory, decoder, from);
    tail.finish();
    await done;
  }
}

const passedFile = (directory: string): string => join(directory, 'state', 'passed');

async function writePassed(directory: string, offset: number): Promise<void> {
  await replaceFile(passedFile(directory), String(offset), 0o644);
}

/** 0 where nothing was passed over: then the journal alone says how far alerts got. */
function readPassed(directory: string): number {
  try {
    const offset = Number(readFileSync(passedFile(directory), 'latin1'));
    return Number.isSafeInteger(offset) && offset > 0 ? offset : 0;
  } catch {
    return 0;
  }
}
