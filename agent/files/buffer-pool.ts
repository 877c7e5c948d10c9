/**
 * Memory that is used again. Of what is made anew each page costs its first use, and V8 looks through the whole heap
 * whenever some tens of MiB were made.
 */
export interface BufferPool {
  /** So many bytes at least, whatever is in them. */
  take(bytes: number): Buffer;
  /** Whoever took it uses it no more. */
  give(buffer: Buffer): void;
}

/** Sizes are powers of two from the least on, and then multiples of the step. */
const LEAST = 4 << 10;
const STEP = 64 << 10;

/** @param most Bytes that are kept; what is taken at a time may be more. */
export function createBufferPool(most: number): BufferPool {
  const free: Buffer[] = [];
  let kept = 0;

  function drop(): void {
    while (kept > most) {
      const oldest = free.shift();
      if (oldest === undefined) return;
      kept -= oldest.length;
    }
  }

  return {
    take(bytes) {
      const size = sizeOf(bytes);
      const [found] = free.splice(indexOf(free, size), 1);
      if (found !== undefined) return found;
      kept += size;
      drop();
      return Buffer.allocUnsafeSlow(size);
    },
    give(buffer) {
      free.push(buffer);
      drop();
    },
  };
}

/** What is allocated in it is given back at its end. */
export function withBuffers<Result>(pool: BufferPool, use: (allocate: BufferPool['take']) => Result): Result {
  const taken: Buffer[] = [];
  try {
    return use((bytes) => {
      const buffer = pool.take(bytes);
      taken.push(buffer);
      return buffer;
    });
  } finally {
    for (const buffer of taken) pool.give(buffer);
  }
}

/** Of one that is not much larger. */
function indexOf(free: readonly Buffer[], size: number): number {
  const index = free.findIndex(({ length }) => length >= size && length <= 2 * size);
  return index < 0 ? free.length : index;
}

function sizeOf(bytes: number): number {
  if (bytes > STEP) return Math.ceil(bytes / STEP) * STEP;
  let size = LEAST;
  while (size < bytes) size *= 2;
  return size;
}
