/**
 * The alert files of a lane's generations: each is read to its end, acknowledged, and deleted. Also those of
 * generations that an earlier agent left: one after the other, once their engines are gone.
 *
 * A generation's folder is deleted only when all its alerts are on disk elsewhere. What can't be read on stays for the
 * next agent.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Decoded, Decoder } from '../engine/alert.ts';
import type { GenerationRecord } from '../engine/folder.ts';
import { endOrphans, type LeftGenerations } from '../engine/orphans.ts';
import { nodeFileSystem, type TailFileSystem } from '../engine/readers/tail-files.ts';
import { createTail, type Tail, type TailOptions } from '../engine/readers/tail.ts';
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
  /** Gives alerts that bear no VLAN id the one of the record of this FIFO that they are of. */
  locate(fifo: string, items: Decoded[]): Promise<Decoded[]>;
  /** Whether the alert is of a frame of the agent's own, which goes no further. */
  isOwn(item: Decoded): boolean;
  /** Alerts of the generation can't be read on by this process. */
  unreadable(generation: string, error: string): void;
  /** Offset to go on at in the alerts of a generation that an earlier agent left, from what the journal says. */
  resumeAt(generation: string): number;
  createDecoder(record: Pick<GenerationRecord, 'engine' | 'output'>): Decoder;
  log: Logger;
}

/** What is around the files. */
export interface AlertFilesSystem {
  fileSystem: TailFileSystem;
  /** Of a tail, where it is not as usual. */
  tail: Pick<TailOptions, 'pollMillis' | 'after' | 'notice'>;
  /** Deletes a folder with all that is in it. */
  remove(directory: string): Promise<void>;
  /** Resolves when the engines of these generations are gone. */
  endOrphans(directories: readonly string[], log: Logger): Promise<void>;
}

const nodeSystem: AlertFilesSystem = {
  fileSystem: nodeFileSystem,
  tail: {},
  remove: (directory) => rm(directory, { recursive: true, force: true }),
  endOrphans,
};

/** What is read of a generation. */
interface Followed {
  name: string;
  directory: string;
  command: { alertFile: string; stamped: boolean };
  /** Absent where an earlier agent has written to it, and nobody knows its records any more. */
  fifo?: string | undefined;
}

export interface AlertFiles {
  /** Begins to read a generation that has just started. */
  follow(generation: Followed & { command: { createDecoder(): Decoder } }): void;
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

interface State {
  readonly options: AlertFilesOptions;
  readonly system: AlertFilesSystem;
  /** By generation. */
  readonly readings: Map<string, Reading>;
}

export function readAlertFiles(options: AlertFilesOptions, system = nodeSystem): AlertFiles {
  const readings: State['readings'] = new Map();
  const state = { options, system, readings };
  return {
    follow: (generation) => void read(state, generation, generation.command.createDecoder(), 0),
    finish: (generation) => readings.get(generation)?.tail.finish(),
    async consumed(generation, offset) {
      await readings.get(generation)?.tail.deleteConsumed(offset);
    },
    async passed(generation, offset) {
      const reading = readings.get(generation);
      if (reading === undefined) return;
      await replaceFile(passedFile(reading.directory), String(offset), 0o644, system.fileSystem);
      await reading.tail.deleteConsumed(offset);
    },
    recover: (left) => recover(state, left),
    async allRead() {
      await Promise.all([...readings.values()].map(({ done }) => done));
    },
  };
}

/** @param from Offset of the first alert in the generation's output. */
function read(state: State, followed: Followed, decoder: Decoder, from: number): Reading {
  const { name, directory, command } = followed;
  const { readings, system } = state;
  const tail = createTail({
    directory: join(directory, 'output'),
    stateDirectory: join(directory, 'state'),
    base: command.alertFile,
    stamped: command.stamped,
    decoder,
    from,
    fileSystem: system.fileSystem,
    ...system.tail,
  });
  const done = readAll(state, followed, tail).finally(() => readings.delete(name));
  const reading = { tail, directory, done };
  readings.set(name, reading);
  return reading;
}

async function readAll(
  { options, system }: State,
  { name: generation, directory, fifo }: Followed,
  tail: Tail,
): Promise<void> {
  try {
    for await (const batch of tail) {
      const others = batch.filter((item) => !options.isOwn(item));
      const passed = others.length < batch.length ? batch.at(-1)?.end : undefined;
      const located = fifo === undefined ? others : await options.locate(fifo, others);
      await options.alerts(generation, located, passed);
    }
    await options.finished(generation);
    await system.remove(directory);
  } catch (error) {
    // The folder stays: the next agent reads it from where the journal ends.
    options.log.error({ lane: options.lane, generation, err: error }, 'alerts cannot be read on');
    options.unreadable(generation, messageOf(error));
  }
}

async function recover(state: State, { generations, unreadable }: LeftGenerations): Promise<void> {
  const { options, system } = state;
  const { lane, log } = options;
  for (const { directory, reason } of unreadable) {
    log.error({ lane, directory, reason }, 'alerts that an earlier agent left cannot be read; they stay');
  }
  const directories = [...generations, ...unreadable].map(({ directory }) => directory);
  await system.endOrphans(directories, log.child({ lane }));
  for (const record of generations) {
    const { name, directory } = record;
    const from = Math.max(options.resumeAt(name), await readPassed(directory, system.fileSystem));
    log.info({ lane, generation: name, from }, 'reading the alerts that an earlier agent left');
    const decoder = options.createDecoder(record);
    const { tail, done } = read(state, { name, directory, command: record }, decoder, from);
    tail.finish();
    await done;
  }
}

const passedFile = (directory: string): string => join(directory, 'state', 'passed');

/** 0 where nothing was passed over: then the journal alone says how far alerts got. */
async function readPassed(directory: string, fileSystem: TailFileSystem): Promise<number> {
  try {
    const offset = Number(await fileSystem.readText(passedFile(directory)));
    return Number.isSafeInteger(offset) && offset > 0 ? offset : 0;
  } catch {
    return 0;
  }
}
