/** Whether a pod is one that is inspected: agents can't change which ones are, so none of them can ask for others. */
import type { ApiClient, ApiList } from '../kube/api.ts';
import { toPod, selectorLabels, type ApiPod } from '../kube/pods.ts';
import { discoverResourceApi, resourcePath, toResource, type ApiDeepPacketInspection } from '../kube/resources.ts';
import { matches, parseSelector, SelectorError } from '../kube/selector/selector.ts';
import { RespondError, type Cut } from './cut.ts';
import { podPath } from './isolation.ts';

/** @throws RespondError where no DeepPacketInspection selects it. */
export async function checkInspected(client: Pick<ApiClient, 'get'>, { namespace, pod }: Cut): Promise<void> {
  const api = await discoverResourceApi(client);
  if (api !== undefined) {
    const labels = selectorLabels(toPod(await client.get<ApiPod>(podPath(namespace, pod))));
    const { items } = await client.get<ApiList<ApiDeepPacketInspection>>(resourcePath(api, namespace));
    if (items.some((item) => selects(toResource(item).selector, labels))) return;
  }
  throw new RespondError('Protected', `no DeepPacketInspection selects ${namespace}/${pod}`);
}

function selects(selector: string, labels: (name: string) => string | undefined): boolean {
  try {
    return matches(parseSelector(selector), labels);
  } catch (error) {
    if (error instanceof SelectorError) return false;
    throw error;
  }
}
