/**
 * The writing end of an engine's FIFO.
 *
 * Records go to the FIFO in order and whole: a record is either written to its last byte or not begun. An engine that is busy is
 * waited for, with the record where it is, while the kernel's ring holds the packets behind it. An engine that has read nothing
 * for STALL_MILLIS is not waited for: records wait in a bounded queue, and when that is full they are refused, until it
 * reads again. So nothing here blocks for longer than that.
 *
 * Not promised: that the engine analysed what was written. What lies in the FIFO when an engine dies is lost with it.
 */
import { constants, openSync, closeSync, writeSync, writevSync } from 'node:fs';
import { pcapFileHeader } from './frame.ts';

/** Of a pcap record's header: seconds, microseconds, captured and original length. */
const RECORD_HEADER_BYTES = 16;
/** Small records are copied together up to this size before they are written: the FIFO's own capacity. */
const BATCH_BYTES = 64 * 1024;
/** Records at least this large are written straight from the capture's buffer, without a copy. */
const DIRECT_BYTES = 4 * 1024;
/** How long the engine is waited for, in all, until it has read again. */
const STALL_MILLIS = 50;
/** Between two looks at a full FIFO, while it is waited for and while it is not. */
const PAUSE_MILLIS = 0.05;
const RETRY_MILLIS = 1;
/** Between two tries to open a FIFO that nobody reads yet. */
const OPEN_RETRY_MILLIS = 10;

export type Accepted = 'accepted' | 'queue-full' | 'closed';

export interface Handed {
  path: string;
  records: number;
}

export interface Output {
  /** Opens a FIFO that an engine is about to read, in place of the one in use. `behind`: another process wrote its beginning. */
  open(path: string, behind?: boolean): void;
  /** Resolves when nothing is queued any more, or after `graceMillis`. @returns whether nothing is. */
  empty(graceMillis: number): Promise<boolean>;
  /** Closes the FIFO once what is queued was written, or after `graceMillis`. The engine sees its input's end. */
  close(graceMillis: number, reason?: string): Promise<void>;
  /** Offers a record: `prefix[0..prefixLength)` and then `frame[from..to)`. Both are copied or written before it returns. */
  write(prefix: Buffer, prefixLength: number, frame: Buffer, from: number, to: number): Accepted;
  /** Writes what is batched. Call it when no further record is at hand. */
  flush(): void;
  /** Records that this process handed to the FIFO that is open, or put into the queue before it; undefined when none is. */
  handed(): Handed | undefined;
}

export interface OutputEvents {
  /** `behind`: in the middle of a stream that another process may still be writing. */
  opened(path: string, behind: boolean): void;
  /** The engine is gone. `lost` counts the queued records that were not written, by VLAN id. */
  closed(path: string, reason: string, lost: Map<number, number>): void;
}

type State =
  { is: 'closed' } | { is: 'opening'; path: string; timer: NodeJS.Timeout } | { is: 'open'; path: string; fd: number };

interface Chunk {
  bytes: Buffer;
  written: number;
}

export function createOutput(queueLimit: number, events: OutputEvents): Output {
  let state: State = { is: 'closed' };
  const batch = Buffer.allocUnsafe(BATCH_BYTES + DIRECT_BYTES + 64);
  let batched = 0;
  let handed = 0;
  /** Of these, what is written while the rest waits for the engine. */
  let batchWritten = 0;
  let queue: Chunk[] = [];
  let queuedBytes = 0;
  let retry: NodeJS.Timeout | undefined;
  /** Milliseconds waited in callbacks since the engine last read. */
  let stalled = 0;
  const sleeper = new Int32Array(new SharedArrayBuffer(4));

  function open(path: string, behind = false): void {
    if (state.is === 'open') abandon('replaced by another output');
    if (state.is === 'opening') clearTimeout(state.timer);
    tryOpen(path, behind);
  }

  function tryOpen(path: string, behind: boolean): void {
    let fd: number;
    try {
      // Without a reader this fails with ENXIO instead of waiting for one that may never come.
      fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    } catch (error) {
      if (errorCode(error) === 'ENXIO') {
        state = { is: 'opening', path, timer: setTimeout(() => tryOpen(path, behind), OPEN_RETRY_MILLIS) };
      } else {
        state = { is: 'closed' };
        events.closed(path, `cannot be opened: ${String(error)}`, new Map());
      }
      return;
    }
    state = { is: 'open', path, fd };
    stalled = 0;
    handed = 0;
    if (!behind) enqueue(pcapFileHeader());
    drain();
    if (isOpen()) events.opened(path, behind);
  }

  // The compiler can't see that drain() changes the state.
  const isOpen = (): boolean => state.is === 'open';

  function write(prefix: Buffer, prefixLength: number, frame: Buffer, from: number, to: number): Accepted {
    if (state.is !== 'open') return 'closed';
    const rest = to - from;
    if (rest < DIRECT_BYTES) {
      if (batched >= BATCH_BYTES) flush();
      // Asked for each batch, however small flush() makes it: the queue is bounded by nothing else.
      if (batched === 0 && queuedBytes > queueLimit) return 'queue-full';
      if (!isOpen()) return 'closed';
      prefix.copy(batch, batched, 0, prefixLength);
      frame.copy(batch, batched + prefixLength, from, to);
      batched += prefixLength + rest;
      handed++;
      return 'accepted';
    }
    flush();
    if (queuedBytes > queueLimit) return 'queue-full';
    const length = prefixLength + rest;
    const written = writeOut(length, (fd, done) =>
      done < prefixLength
        ? writevSync(fd, [prefix.subarray(done, prefixLength), frame.subarray(from, to)])
        : writeSync(fd, frame, from + done - prefixLength, length - done),
    );
    if (written === 'gone') return 'closed';
    if (written < length) enqueue(Buffer.concat([prefix.subarray(0, prefixLength), frame.subarray(from, to)]), written);
    handed++;
    return 'accepted';
  }

  function flush(): void {
    if (batched === 0) return;
    const length = batched;
    const written = writeOut(length, (fd, done) => {
      batchWritten = done;
      return writeSync(fd, batch, done, length - done);
    });
    batchWritten = 0;
    if (written === 'gone') return;
    batched = 0;
    // Copied: the batch is filled again at once.
    if (written < length) enqueue(Buffer.from(batch.subarray(0, length)), written);
  }

  /**
   * Writes what is queued and then `length` bytes, of which `call` writes as many as it can from the offset `done` on.
   * @returns how many were written: less than all when the engine stalls.
   */
  function writeOut(length: number, call: (fd: number, done: number) => number): number | 'gone' {
    for (let done = 0; ;) {
      drain();
      if (queue.length === 0 && isOpen()) {
        const at = done;
        const written = attempt((fd) => call(fd, at));
        if (written === 'gone') return 'gone';
        done += written;
        if (done === length) return done;
      }
      if (!isOpen()) return 'gone';
      if (stalled >= STALL_MILLIS) return done;
      const before = performance.now();
      Atomics.wait(sleeper, 0, 0, PAUSE_MILLIS);
      stalled += performance.now() - before;
    }
  }

  function enqueue(bytes: Buffer, written = 0): void {
    queue.push({ bytes, written });
    queuedBytes += bytes.length - written;
    retry ??= setTimeout(onRetry, RETRY_MILLIS);
  }

  function onRetry(): void {
    retry = undefined;
    drain();
    if (queue.length > 0) retry = setTimeout(onRetry, RETRY_MILLIS);
  }

  /** Writes from the queue until it is empty or the FIFO full. */
  function drain(): void {
    for (let head = queue[0]; head !== undefined; head = queue[0]) {
      const { bytes, written: before } = head;
      const written = attempt((fd) => writeSync(fd, bytes, before));
      if (written === 'gone' || written === 0) return;
      head.written += written;
      queuedBytes -= written;
      if (head.written === bytes.length) queue.shift();
    }
  }

  /** One write call: bytes written, 0 when the FIFO is full, `gone` when nobody reads it any more. */
  function attempt(call: (fd: number) => number): number | 'gone' {
    if (state.is !== 'open') return 'gone';
    try {
      const written = call(state.fd);
      stalled = 0;
      return written;
    } catch (error) {
      if (errorCode(error) === 'EAGAIN') return 0;
      abandon(errorCode(error) === 'EPIPE' ? 'the engine closed its input' : String(error));
      return 'gone';
    }
  }

  function abandon(reason: string): void {
    if (state.is !== 'open') return;
    const { fd, path } = state;
    state = { is: 'closed' };
    closeSync(fd);
    if (batched > 0) queue.push({ bytes: Buffer.from(batch.subarray(0, batched)), written: batchWritten });
    const lost = countRecords(queue);
    queue = [];
    queuedBytes = 0;
    batched = 0;
    clearTimeout(retry);
    retry = undefined;
    events.closed(path, reason, lost);
  }

  async function empty(graceMillis: number): Promise<boolean> {
    flush();
    const emptied = state;
    const deadline = performance.now() + graceMillis;
    while (isOpen() && state === emptied && queue.length > 0 && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLIS));
      drain();
    }
    return queue.length === 0;
  }

  async function close(graceMillis: number, reason = 'closed by the agent'): Promise<void> {
    if (state.is === 'opening') {
      clearTimeout(state.timer);
      state = { is: 'closed' };
    }
    const closing = state;
    await empty(graceMillis);
    // Another one may have been opened meanwhile.
    if (state === closing) abandon(reason);
  }

  return {
    open,
    empty,
    close,
    write,
    flush,
    handed: () => (state.is === 'open' ? { path: state.path, records: handed } : undefined),
  };
}

/** Records in the queue that were not written to their end, by the VLAN id in them. The file header has none. */
function countRecords(queue: readonly Chunk[]): Map<number, number> {
  const lost = new Map<number, number>();
  for (const { bytes, written } of queue) {
    if (bytes.length === pcapFileHeader().length) continue;
    for (let at = 0; at + RECORD_HEADER_BYTES + 16 <= bytes.length;) {
      const end = at + RECORD_HEADER_BYTES + bytes.readUInt32LE(at + 8);
      if (end > written) {
        const vlan = bytes.readUInt16BE(at + RECORD_HEADER_BYTES + 14) & 0xfff;
        lost.set(vlan, (lost.get(vlan) ?? 0) + 1);
      }
      at = end;
    }
  }
  return lost;
}

function errorCode(error: unknown): string | undefined {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : undefined;
}
