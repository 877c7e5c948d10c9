/** The policy of a file as it is at any time. While the file can't be read or used, the policy before stays. */
import type { Logger } from 'pino';
import { createPolicy, type Policy } from './policy.ts';
import { followPolicy } from './policy-file.ts';

export interface PolicyStatus {
  file: string;
  /** Entries in use. */
  suppressions: number;
  thresholds: number;
  /** What is wrong with the file as it is now; then the entries in use are those of before. */
  errors: string[];
}

export interface UsedPolicy {
  judge: Policy['judge'];
  keep: Policy['keep'];
  respond: Policy['respond'];
  status: () => PolicyStatus | undefined;
  stop: () => void;
}

/**
 * @param file undefined: everything passes.
 * @param mergeMillis As `createPolicy` takes it.
 * @param follow Tells of the file's policies.
 */
export function usePolicy(
  file: string | undefined,
  mergeMillis: number,
  log: Logger,
  follow = followPolicy,
): UsedPolicy {
  if (file === undefined)
    return {
      judge: () => undefined,
      keep: () => undefined,
      respond: () => undefined,
      status: () => undefined,
      stop: () => undefined,
    };
  const nothing = { suppress: [], threshold: [] };
  let current = createPolicy(nothing, mergeMillis);
  let status: PolicyStatus = { file, suppressions: 0, thresholds: 0, errors: [] };
  const { stop } = follow(file, {
    loaded(policy) {
      for (const { name, place } of policy.expired)
        log.warn({ name, place }, 'an entry of the policy is over: take it out');
      status = { file, suppressions: policy.suppress.length, thresholds: policy.threshold.length, errors: [] };
      current = createPolicy(policy, mergeMillis, (name, reason) => {
        status.errors.push(`${name}: ${reason}`);
        log.error({ name, reason }, 'an entry of the policy is not used');
      });
      log.info(status, 'policy of alerts');
    },
    refused(errors) {
      status = { ...status, errors };
      for (const error of errors) log.error({ file }, `policy of alerts: ${error}`);
      log.error(
        { file, suppressions: status.suppressions, thresholds: status.thresholds },
        'the policy of before stays',
      );
    },
  });
  return {
    judge: (...alert) => current.judge(...alert),
    keep: (attributed) => current.keep(attributed),
    respond: (attributed) => current.respond(attributed),
    status: () => status,
    stop,
  };
}
