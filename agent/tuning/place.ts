/**
 * Where what quietens alerts is kept: the policy, and the changes to rules. Files of this machine; in a cluster the
 * keys of a ConfigMap, which the agents have as files.
 *
 * A ConfigMap that somebody changed meanwhile is read again, and the edit is made on that. Of files, the last writer
 * counts.
 */
import { ApiError, type ApiClient } from '../kube/api.ts';
import { readText, writeText } from '../rulesets/changes.ts';

export const KEPT = ['policy', 'changes'] as const;
export type Kept = (typeof KEPT)[number];

export interface Place {
  /** For messages; undefined: that is kept nowhere. */
  name(what: Kept): string | undefined;
  /** Empty where there is none yet. */
  read(what: Kept): Promise<string>;
  /**
   * Reads it, and writes what `change` makes of it. @param change May be called again.
   * @throws what `change` throws.
   */
  edit(what: Kept, change: (text: string) => string): Promise<void>;
}

export function filesPlace(files: Partial<Record<Kept, string>>): Place {
  let queue: Promise<unknown> = Promise.resolve();
  const fileOf = (what: Kept): string => files[what] ?? fail(what);
  return {
    name: (what) => files[what],
    read: async (what) => (await readText(fileOf(what))) ?? '',
    edit(what, change) {
      const done = queue.then(async () => {
        const file = fileOf(what);
        const before = (await readText(file)) ?? '';
        const after = change(before);
        if (after !== before) await writeText(file, after);
      });
      queue = done.catch(() => undefined);
      return done;
    },
  };
}

function fail(what: Kept): never {
  const key = what === 'policy' ? 'alerts.policy' : 'ruleChanges';
  throw new Error(`there is no file to write to: ${key} names none`);
}

/** Keys of the ConfigMap. */
const KEYS: Record<Kept, string> = { policy: 'policy.yaml', changes: 'rule-changes.conf' };
/** Changes at a time are few. */
const TRIES = 5;
const CONFLICT = 409;
const MISSING = 404;

interface ConfigMap {
  metadata: { resourceVersion: string };
  data?: Partial<Record<string, string>>;
}

export function configMapPlace(client: ApiClient, namespace: string, name: string): Place {
  const collection = `/api/v1/namespaces/${encodeURIComponent(namespace)}/configmaps`;
  const path = `${collection}/${encodeURIComponent(name)}`;
  const get = async (): Promise<ConfigMap | undefined> => {
    try {
      return await client.get<ConfigMap>(path);
    } catch (error) {
      if (error instanceof ApiError && error.status === MISSING) return undefined;
      throw error;
    }
  };
  const write = async (before: ConfigMap | undefined, key: string, text: string): Promise<void> => {
    const data = { [key]: text };
    if (before !== undefined) {
      const { resourceVersion } = before.metadata;
      await client.mergePatch(path, { metadata: { resourceVersion }, data });
      return;
    }
    const empty = Object.fromEntries(Object.values(KEYS).map((other) => [other, '']));
    const metadata = { namespace, name };
    await client.create(collection, { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { ...empty, ...data } });
  };
  return {
    name: (what) => `ConfigMap ${namespace}/${name}, ${KEYS[what]}`,
    read: async (what) => (await get())?.data?.[KEYS[what]] ?? '',
    async edit(what, change) {
      for (let left = TRIES; ; left -= 1) {
        const before = await get();
        const text = before?.data?.[KEYS[what]] ?? '';
        const after = change(text);
        if (after === text) return;
        try {
          return await write(before, KEYS[what], after);
        } catch (error) {
          if (left === 1 || !(error instanceof ApiError) || error.status !== CONFLICT) throw error;
        }
      }
    },
  };
}
