/** Pods and resources as the agent keeps them, for tests. */
import type { Pod } from '../../agent/kube/pods.ts';
import type { DeepPacketInspection } from '../../agent/kube/resources.ts';

/** @param key `<namespace>/<name>` */
export function aPod(key: string, fields: Partial<Pod> = {}): Pod {
  const [namespace = '', name = ''] = key.split('/');
  return {
    key,
    namespace,
    name,
    uid: `uid of ${key}`,
    nameAggr: '-',
    labels: { app: 'backend' },
    serviceAccount: 'default',
    node: 'here',
    hostNetwork: false,
    phase: 'Running',
    ready: true,
    terminating: false,
    addresses: ['10.65.0.2'],
    ...fields,
  };
}

export function aResource(
  key: string,
  selector: string,
  fields: Partial<DeepPacketInspection> = {},
): DeepPacketInspection {
  const [namespace = '', name = ''] = key.split('/');
  return { key, namespace, name, uid: `uid of ${key}`, selector, annotations: {}, ...fields };
}
