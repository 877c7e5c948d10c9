/**
 * What entries of the policy of alerts may isolate, whatever agents ask for: a node that was taken over can't cut off a
 * cluster. Counted by what the cluster has, so that a restart begins nothing anew; what a person released meanwhile is
 * counted in memory.
 */
import { globTester } from '../pattern.ts';
import { RespondError } from './cut.ts';
import type { KnownIsolation } from './isolation.ts';

const HOUR_MILLIS = 3_600_000;

export interface BoundsOptions {
  /** `<namespace>/<name>`, with `*`. */
  automaticPods: readonly string[];
  automaticPerHour: number;
  automaticAtOnce: number;
}

export interface Bounds {
  /** @throws RespondError */
  check(pod: { namespace: string; pod: string }, there: readonly KnownIsolation[], now: number): void;
  /** One was isolated. */
  used(podUid: string, now: number): void;
}

export function createBounds({ automaticPods, automaticPerHour, automaticAtOnce }: BoundsOptions): Bounds {
  const allowed = automaticPods.map((glob) => {
    const [namespace = '', name = ''] = glob.split('/');
    return { namespace: globTester(namespace), name: globTester(name) };
  });
  /** Of the last hour, by the pod's UID; at most as many as are allowed within one. */
  const recent = new Map<string, number>();
  return {
    check({ namespace, pod }, there, now) {
      if (!allowed.some((one) => one.namespace(namespace) && one.name(pod)))
        throw new RespondError('Bounded', `${namespace}/${pod} is none of respondServing.automaticPods`);
      const automatic = there.filter(({ origin }) => origin === 'policy');
      if (automatic.length >= automaticAtOnce)
        throw new RespondError(
          'Bounded',
          `${automatic.length} pods are isolated by the policy already (automaticAtOnce)`,
        );
      for (const [uid, at] of recent) if (now - at >= HOUR_MILLIS) recent.delete(uid);
      const uids = new Set(recent.keys());
      for (const { podUid, since } of automatic) if (now - Date.parse(since) < HOUR_MILLIS) uids.add(podUid);
      if (uids.size >= automaticPerHour)
        throw new RespondError('Bounded', `the policy isolated ${uids.size} pods within the hour (automaticPerHour)`);
    },
    used: (podUid, now) => void recent.set(podUid, now),
  };
}
