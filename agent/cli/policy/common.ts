/** What the subcommands of `dpi-agent policy` share: their flags, and what they work on. */
import type { Config } from '../../config/load.ts';
import type { Tuned } from '../../tuning/entry.ts';
import { createTuning, TuningError, type Tuning } from '../../tuning/tuning.ts';
import { PolicyEditError } from '../../alerts/policy-edit.ts';
import { ApiError } from '../../kube/api.ts';
import { stripControls } from '../../text.ts';
import { CommandError, EXIT } from '../exit.ts';
import { COMMON_FLAGS, connect } from '../setup.ts';
import { policyPlace } from './place.ts';

export const POLICY_FLAGS = {
  config: COMMON_FLAGS.config,
  output: { alias: 'o', choices: ['table', 'json'], default: 'table', describe: 'json: for programs' },
} as const;

/** @throws CommandError where the configuration names no policy. */
export async function openTuning(config: Config): Promise<Tuning> {
  const client = config.ui.policyConfigMap === undefined ? undefined : await connect(config);
  const place = policyPlace(config, client);
  if (place === undefined)
    throw new CommandError('there is no policy: name its file with --alerts.policy, or in the configuration');
  return createTuning(place);
}

/** What is wrong with an entry is an error of usage; that it can't be kept is none. @throws CommandError */
export async function withReasons<T>(action: () => T | Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof TuningError) throw new CommandError(stripControls(error.message));
    if (error instanceof PolicyEditError || error instanceof ApiError || (error instanceof Error && 'cause' in error))
      throw new CommandError(stripControls(error.message), EXIT.failed);
    throw error;
  }
}

/** `suppress-408   suppress  signature 1:408, pod ci/runner-*   until 2027-01-31` */
export function wordsOf({ kind, says, until, over }: Tuned): string {
  const { count, seconds, track, type, ...criteria } = says;
  const limit = kind === 'threshold' ? [`${type ?? ''} ${count ?? ''} in ${seconds ?? ''} s ${track ?? ''}`] : [];
  const end = until === undefined ? [] : [`until ${until}${over ? ' (over)' : ''}`];
  return [...Object.entries(criteria).map(([key, value]) => `${key} ${value}`), ...limit, ...end].join(', ');
}
