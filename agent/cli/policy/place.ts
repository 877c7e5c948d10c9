/** Where what makes alerts fewer is kept, by the configuration. */
import type { Config } from '../../config/load.ts';
import type { ApiClient } from '../../kube/api.ts';
import { configMapPlace, filesPlace, type Place } from '../../tuning/place.ts';

/** @returns undefined where the configuration names nothing. */
export function policyPlace({ alerts, ruleChanges, ui }: Config, client: ApiClient | undefined): Place | undefined {
  if (ui.policyConfigMap !== undefined && client !== undefined)
    return configMapPlace(client, ui.agentNamespace, ui.policyConfigMap);
  return alerts.policy === undefined ? undefined : filesPlace({ policy: alerts.policy, changes: ruleChanges });
}
