/**
 * Reads objects whole, for who watches their metadata only: one after the other, each as often as it changed, but the
 * changes that come while it waits for its turn as one.
 */
import { ApiError, type ApiClient, type ApiObject } from './api.ts';

export interface Bodies {
  /** Its body has to be read. @param version That it must be as new as. */
  want(key: string, path: string, version: string): void;
  /** It is gone: what is read of it from now on is not given. */
  drop(key: string): void;
  /** Resolves when nothing waits any more. @throws ApiError of the first that could not be read. */
  done(): Promise<void>;
}

interface Wanted {
  path: string;
  version: string;
}

export interface BodiesOptions<Api> {
  client: Pick<ApiClient, 'get'>;
  signal: AbortSignal;
  onBody: (object: Api) => void;
  /** One could not be read; no further one is. */
  onFailure: () => void;
}

export function readBodies<Api extends ApiObject>(options: BodiesOptions<Api>): Bodies {
  const { signal, onFailure } = options;
  const wanted = new Map<string, Wanted>();
  let reading: { key: string; gone: boolean } | undefined;
  let running: Promise<void> | undefined;
  let failure: unknown;

  async function run(): Promise<void> {
    for (let next = first(wanted); next !== undefined && !signal.aborted; next = first(wanted)) {
      const [key, { path, version }] = next;
      wanted.delete(key);
      reading = { key, gone: false };
      await readOne(options, path, version, reading);
    }
  }

  return {
    want(key, path, version) {
      if (failure !== undefined) return;
      wanted.set(key, { path, version });
      running ??= run()
        .catch((error: unknown) => {
          failure = error;
          onFailure();
        })
        .finally(() => {
          running = undefined;
        });
    },
    drop(key) {
      wanted.delete(key);
      if (reading?.key === key) reading.gone = true;
    },
    async done() {
      await running;
      if (failure !== undefined) throw failure;
    },
  };
}

async function readOne<Api extends ApiObject>(
  { client, signal, onBody }: BodiesOptions<Api>,
  path: string,
  resourceVersion: string,
  reading: { gone: boolean },
): Promise<void> {
  try {
    // Answered from the server's memory.
    const object = await client.get<Api>(path, { resourceVersion }, signal);
    if (!reading.gone && !signal.aborted) onBody(object);
  } catch (error) {
    // That it is deleted, the watch tells.
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
  }
}

function first<K, V>(map: Map<K, V>): [K, V] | undefined {
  return map.entries().next().value;
}
