/** What `run` follows of a cluster: networks for the rules' variables, resources and pods, and whom they select. */
import type { Logger } from 'pino';
import type { Names } from '../../alerts/name.ts';
import type { Config } from '../../config/load.ts';
import { followPods, type Follower } from '../../endpoints/follow.ts';
import type { FollowedCapture } from '../../endpoints/follow/parts.ts';
import type { ApiClient } from '../../kube/api.ts';
import type { Snapshot } from '../../observe/snapshot.ts';
import { asksForPods, withNetworks } from '../../rule-variables.ts';
import { CommandError } from '../exit.ts';

interface Options {
  config: Config;
  /** Undefined: no cluster is followed. */
  client: ApiClient | undefined;
  log: Logger;
}

/** The configuration whose variables have the networks of the cluster, at each look, where they ask for them. */
export async function followNetworks(
  { config, client, log }: Options,
  onChange: () => void,
): Promise<{ config: Config; stop(): void }> {
  if (!asksForPods(config.variables)) return { config, stop: () => undefined };
  if (client === undefined) {
    throw new CommandError('variables: pods: there is no cluster to ask: name addresses, or a cluster (--kubeconfig)');
  }
  const { followClusterNetworks } = await import('../../kube/cluster-networks.ts');
  const followed = await followClusterNetworks(client, onChange, log);
  const current = {
    ...config,
    get variables() {
      return withNetworks(config.variables, followed.networks());
    },
  };
  return { config: current, stop: () => followed.stop() };
}

export interface FollowedPods {
  /** An endpoint's state may have changed. */
  changed: () => void;
  /** Pods by the resource that selects them; none before they are captured. */
  selected: () => ReadonlyMap<string, readonly string[]>;
  names: Names | undefined;
  /** For the status; undefined without a cluster. */
  facts: () => Snapshot['cluster'];
  /** How often a watch of the API server had to begin again, by what is watched. */
  watchRestarts: () => Record<string, number>;
  /** From now on what is selected is captured. */
  captureWith: (capture: FollowedCapture) => void;
  /** What is captured stays so. */
  stop: () => Promise<void>;
}

const NO_PODS: FollowedPods = {
  changed: () => undefined,
  selected: () => new Map(),
  names: undefined,
  facts: () => undefined,
  watchRestarts: () => ({}),
  captureWith: () => undefined,
  stop: async () => undefined,
};

/** The caches fill from now on. */
export async function followSelectedPods({ config, client, log }: Options): Promise<FollowedPods> {
  if (client === undefined) return NO_PODS;
  const { followCluster } = await import('../../kube/cluster.ts');
  let follower: Follower | undefined;
  const changed = (): void => follower?.changed();
  const { node, kubernetes } = config;
  const cluster = followCluster({ client, node, onChange: changed, statusIn: kubernetes.status, log });
  return {
    changed,
    selected: () => follower?.selected() ?? new Map<string, readonly string[]>(),
    names: cluster.names,
    facts: () => ({
      server: client.server,
      synced: cluster.synced(),
      resources: cluster.resources().length,
      pods: cluster.pods().length,
    }),
    watchRestarts: () => cluster.watchRestarts(),
    captureWith(capture) {
      follower = followPods({ ...cluster, ...config.capture, capture, log });
    },
    stop() {
      follower?.stop();
      return cluster.stop();
    },
  };
}
