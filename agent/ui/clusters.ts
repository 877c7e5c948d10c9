/**
 * Alerts of further clusters, which are kept in the same Elasticsearch: each cluster's are asked for below a path of its
 * own. What is known of this cluster only, such as its agents, rights on single namespaces and packets on this node's
 * disk, is not known of those: they are for who may do the same in all namespaces here.
 */
import type { User } from './access.ts';
import { Refused } from './refused.ts';
import type { AlertSource } from './source.ts';
import type { Visitors } from './visitors.ts';

export interface FurtherCluster {
  name: string;
  source: AlertSource;
}

/** Where `/api/` of a further cluster is. */
export function prefixOf(cluster: string): string {
  return `/clusters/${cluster}`;
}

/** The same visitors, as far as they may see alerts of other clusters. */
export function elsewhere(visitors: Visitors): Visitors {
  return {
    ...visitors,
    async whoIs(request) {
      const user = await visitors.whoIs(request);
      return user !== undefined && (await user.readable()) === 'all' ? inAllNamespaces(user) : undefined;
    },
    async signedIn(request) {
      const user = await visitors.signedIn(request);
      if ((await user.readable()) === 'all') return inAllNamespaces(user);
      throw new Refused(
        403,
        'alerts of other clusters are for those who may list deeppacketinspections in all namespaces of this one',
      );
    },
  };
}

function inAllNamespaces(user: User): User {
  const no = (): Promise<boolean> => Promise.resolve(false);
  return { ...user, mayMark: () => user.mayMark(), mayListPods: no, mayTune: no };
}
