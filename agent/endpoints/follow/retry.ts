/** When a pod that is not captured as it should be is looked for again. */
import type { Pod } from '../../kube/pods.ts';
import type { Following } from './parts.ts';

const RETRY_FIRST_MILLIS = 100;
export const RETRY_LAST_MILLIS = 5_000;

/** @param reason Why it is not captured; undefined: it is capture that has a reason. */
export function retry(
  { unresolved, log, clock }: Pick<Following, 'unresolved' | 'log' | 'clock'>,
  pod: Pod,
  reason: string | undefined,
  longestMillis = RETRY_LAST_MILLIS,
): void {
  const before = unresolved.get(pod.key);
  const attempts = (before?.attempts ?? 0) + 1;
  const wait = Math.min(RETRY_FIRST_MILLIS * 2 ** Math.min(attempts - 1, 10), longestMillis);
  unresolved.set(pod.key, { uid: pod.uid, reason, attempts, retryAt: clock.now() + wait });
  if (reason !== undefined && reason !== before?.reason) log.debug({ endpoint: pod.key, reason }, 'not attached');
}
