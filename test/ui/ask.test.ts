/** What the page makes of answers, of which a browser's `fetch` gives the head before the body. */
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';

// The page's modules look at its address when they are loaded.
Object.assign(globalThis, { location: { search: '' } });
const { ask, askAhead } = await import('../../web/src/server.ts');

const fetched = jest.fn<typeof fetch>();
const original = globalThis.fetch;
beforeEach(() => {
  fetched.mockReset();
  globalThis.fetch = fetched;
});
afterEach(() => {
  globalThis.fetch = original;
});

/** Whose body is `text`, and then ends by an error. */
function cutAnswer(text: string, reason: Promise<unknown>, status = 200): Response {
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(new TextEncoder().encode(text));
      controller.error(await reason);
    },
  });
  return new Response(body, { status });
}

describe('an answer', () => {
  test('that is called off between its head and its end is none', async () => {
    const stop = new AbortController();
    const aborted = new Promise((resolve) => stop.signal.addEventListener('abort', () => resolve(stop.signal.reason)));
    fetched.mockResolvedValue(cutAnswer('{"total":', aborted));
    const asked = ask('/api/summary', { signal: stop.signal });
    await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    await expect(asked).rejects.toBe(stop.signal.reason);
  });

  test('that is cut off is none', async () => {
    fetched.mockResolvedValue(cutAnswer('{"total":1', Promise.resolve(new TypeError('network error'))));
    await expect(ask('/api/summary')).rejects.toMatchObject({ status: 0, body: { cause: 'TypeError: network error' } });
  });

  test('of a proxy, which is no JSON, has its status', async () => {
    fetched.mockResolvedValue(new Response('<h1>Bad gateway</h1>', { status: 502 }));
    await expect(ask('/api/summary')).rejects.toMatchObject({ status: 502, message: 'the server answered 502' });
  });

  test('may be empty', async () => {
    fetched.mockResolvedValue(new Response(null, { status: 204 }));
    await expect(ask('/api/session', { method: 'DELETE' })).resolves.toEqual({});
  });
});

describe('a question that was asked ahead', () => {
  test('is not asked again', async () => {
    fetched.mockImplementation(() => Promise.resolve(new Response('{"total":1}')));
    askAhead('/api/summary');
    await expect(ask('/api/summary')).resolves.toEqual({ total: 1 });
    expect(fetched).toHaveBeenCalledTimes(1);
    await ask('/api/summary');
    expect(fetched).toHaveBeenCalledTimes(2);
  });

  test.each([
    ['was refused, as nobody had signed in yet', () => Promise.resolve(new Response('{}', { status: 401 }))],
    ['had no answer', () => Promise.reject(new TypeError('network error'))],
  ])('is asked again where it %s', async (_, first) => {
    fetched.mockImplementationOnce(first);
    askAhead('/api/alerts');
    fetched.mockResolvedValue(new Response('{"rows":[]}'));
    await expect(ask('/api/alerts')).resolves.toEqual({ rows: [] });
  });
});
