/**
 * Memory that an agent and its capture process share, for the packets of a flow: a message of the channel between them
 * costs as much again for each copy that it makes.
 *
 * A file without a name in a file system of memory: how far the agent has read, then a ring of bytes, each of which has
 * a number that rises. What is put there is told by a message, in order; where there is no room, or no such file
 * system, it is part of the message.
 *
 * Not promised: anything about what a process had put there that has died.
 */
import { closeSync, constants, openSync, readSync, writeSync, writevSync } from 'node:fs';
import type { BufferPool } from '../files/buffer-pool.ts';

export const MAILBOX_BYTES = 2 << 20;
/** Of how far the agent has read. */
const HEAD_BYTES = 8;
const DIRECTORY = '/dev/shm';
/** O_TMPFILE of <asm-generic/fcntl.h>. */
const UNNAMED = 0x40_0000 | constants.O_DIRECTORY;
/** Its descriptor in the capture process, behind that of the channel. */
export const MAILBOX_FILE = 4;

/** Bytes in the mailbox, by their numbers. */
export interface Posted {
  at: number;
  length: number;
}

/** The end of the capture process. */
export interface Post {
  /** @returns undefined: there is no room. */
  put(parts: readonly Uint8Array[]): Posted | undefined;
}

/** The agent's end. */
export interface Mailbox {
  readonly file: number;
  /** A copy, in a buffer of the pool: the bytes are its first. @returns undefined: there is no such thing. */
  take(posted: Posted, pool: BufferPool): Buffer | undefined;
  close(): void;
}

/** @returns undefined: there is no file system of memory. */
export function openMailbox(directory = DIRECTORY): Mailbox | undefined {
  const file = openUnnamed(directory);
  if (file === undefined) return undefined;
  const read = Buffer.alloc(HEAD_BYTES);
  let isOpen = true;
  return {
    file,
    take({ at, length }, pool) {
      const isInside = at >= 0 && length >= 0 && (at % MAILBOX_BYTES) + length <= MAILBOX_BYTES;
      if (!isOpen || !Number.isSafeInteger(at + length) || !isInside) return undefined;
      const bytes = pool.take(length);
      if (readSync(file, bytes, 0, length, placeOf(at)) < length) {
        pool.give(bytes);
        return undefined;
      }
      read.writeDoubleLE(at + length);
      writeSync(file, read, 0, HEAD_BYTES, 0);
      return bytes;
    },
    close() {
      if (isOpen) closeSync(file);
      isOpen = false;
    },
  };
}

function openUnnamed(directory: string): number | undefined {
  try {
    return openSync(directory, constants.O_RDWR | UNNAMED, 0o600);
  } catch {
    return undefined;
  }
}

export function createPost(file: number): Post {
  const head = Buffer.alloc(HEAD_BYTES);
  let written = 0;
  let read = 0;
  let works = true;

  function readOn(): void {
    if (readSync(file, head, 0, HEAD_BYTES, 0) === HEAD_BYTES) read = head.readDoubleLE();
  }

  return {
    put(parts) {
      const length = parts.reduce((sum, part) => sum + part.length, 0);
      const left = MAILBOX_BYTES - (written % MAILBOX_BYTES);
      const at = length > left ? written + left : written;
      try {
        if (at + length - read > MAILBOX_BYTES) readOn();
        if (!works || at + length - read > MAILBOX_BYTES) return undefined;
        works = writevSync(file, parts, placeOf(at)) === length;
      } catch {
        // There is no memory left for it.
        works = false;
      }
      if (!works) return undefined;
      written = at + length;
      return { at, length };
    },
  };
}

function placeOf(at: number): number {
  return HEAD_BYTES + (at % MAILBOX_BYTES);
}
