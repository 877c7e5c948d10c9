/** Events as NDJSON on standard output. An event counts as delivered when the stream has handed it to the system. */
import type { Writable } from 'node:stream';
import { errorCode } from '../files/errors.ts';
import { type Destination, SendError } from './destination.ts';

export function createStdout(stream: Writable = process.stdout): Destination {
  // Errors come by the write's callback; without a listener they would also end the process.
  const ignore = (): void => undefined;
  stream.on('error', ignore);
  return {
    async send(items, signal) {
      signal.throwIfAborted();
      const text = items.map(({ json }) => `${json}\n`).join('');
      const { promise, resolve, reject } = withResolvers();
      const abort = (): void => reject(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
      try {
        // The callback comes once the text has left the stream's buffer: a reader that stalls stalls the sink.
        stream.write(text, (error) => (error ? reject(failure(error)) : resolve()));
        await promise;
      } finally {
        signal.removeEventListener('abort', abort);
      }
      return items.map(() => ({ is: 'delivered' }));
    },
    close: () => Promise.resolve(void stream.off('error', ignore)),
  };
}

function failure(error: Error): SendError {
  const why = errorCode(error) === 'EPIPE' ? 'its reader is gone' : error.message;
  return new SendError('unreachable', `can't write to standard output: ${why}`, error);
}

function withResolvers(): { promise: Promise<void>; resolve: () => void; reject: (reason: unknown) => void } {
  let resolve = (): void => undefined;
  let reject: (reason: unknown) => void = () => undefined;
  const promise = new Promise<void>((done, fail) => {
    resolve = done;
    reject = fail;
  });
  return { promise, resolve, reject };
}
