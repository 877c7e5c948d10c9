import { PassThrough, Writable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { createStdout } from '../../agent/ship/stdout.ts';

const items = [1, 2].map((number) => ({ number, id: `e${number}`, json: `{"n":${number}}` }));
const { signal } = new AbortController();

test('each event is a line', async () => {
  const stream = new PassThrough();
  expect(await createStdout(stream).send(items, signal)).toEqual([{ is: 'delivered' }, { is: 'delivered' }]);
  expect(String(stream.read())).toBe('{"n":1}\n{"n":2}\n');
});

test('nothing counts before the stream has taken it, and a stop ends the wait', async () => {
  const stream = new Writable({ write: () => undefined });
  const controller = new AbortController();
  let done = false;
  const sending = createStdout(stream)
    .send(items, controller.signal)
    .finally(() => (done = true));
  await turn();
  expect(done).toBe(false);
  controller.abort(new Error('stop'));
  await expect(sending).rejects.toThrow('stop');
});

test('a reader that is gone is unreachable', async () => {
  const gone = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
  const stream = new Writable({ write: (_chunk, _encoding, callback) => callback(gone) });
  await expect(createStdout(stream).send(items, signal)).rejects.toMatchObject({
    failure: 'unreachable',
    message: "can't write to standard output: its reader is gone",
  });
});
