/** The policy of a file as it is at any time. While the file can't be read or used, the policy before stays. */
import type { Logger } from 'pino';
import { createPolicy, type Policy } from './policy.ts';
import { followPolicy, type LoadedPolicy } from './policy-file.ts';

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
  /** Another file, or none. While it can't be used, the entries of before stay. */
  change: (file: string | undefined) => void;
  stop: () => void;
}

interface State {
  readonly mergeMillis: number;
  readonly log: Logger;
  readonly follow: typeof followPolicy;
  current: Policy | undefined;
  status: PolicyStatus | undefined;
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
  const state: State = { mergeMillis, log, follow, current: undefined, status: undefined, stop: () => undefined };
  change(state, file);
  return {
    judge: (...alert) => state.current?.judge(...alert),
    keep: (attributed) => state.current?.keep(attributed),
    respond: (attributed) => state.current?.respond(attributed),
    status: () => state.status,
    change: (next) => change(state, next),
    stop: () => state.stop(),
  };
}

function change(state: State, file: string | undefined): void {
  const { mergeMillis, follow } = state;
  if (file === state.status?.file) return;
  state.stop();
  state.stop = () => undefined;
  if (file === undefined) {
    state.current = undefined;
    state.status = undefined;
    return;
  }
  state.current ??= createPolicy({ suppress: [], threshold: [] }, mergeMillis);
  const { suppressions = 0, thresholds = 0 } = state.status ?? {};
  state.status = { file, suppressions, thresholds, errors: [] };
  ({ stop: state.stop } = follow(file, {
    loaded: (policy) => load(state, file, policy),
    refused: (errors) => refuse(state, file, errors),
  }));
}

function load(state: State, file: string, policy: LoadedPolicy): void {
  const { mergeMillis, log } = state;
  for (const { name, place } of policy.expired)
    log.warn({ name, place }, 'an entry of the policy is over: take it out');
  const status: PolicyStatus = {
    file,
    suppressions: policy.suppress.length,
    thresholds: policy.threshold.length,
    errors: [],
  };
  state.status = status;
  state.current = createPolicy(policy, mergeMillis, (name, reason) => {
    status.errors.push(`${name}: ${reason}`);
    log.error({ name, reason }, 'an entry of the policy is not used');
  });
  log.info(status, 'policy of alerts');
}

function refuse(state: State, file: string, errors: string[]): void {
  const { log } = state;
  const { suppressions = 0, thresholds = 0 } = state.status ?? {};
  state.status = { file, suppressions, thresholds, errors };
  for (const error of errors) log.error({ file }, `policy of alerts: ${error}`);
  log.error({ file, suppressions, thresholds }, 'the policy of before stays');
}
