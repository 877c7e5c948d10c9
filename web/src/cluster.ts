/** Which cluster's alerts the page shows; another one is another page. */
import type { Session } from '../../agent/ui/api.ts';

const NAME = /^[a-z0-9][a-z0-9._-]{0,99}$/;

/** Undefined: the page's own. */
export const CLUSTER = clusterOf(new URLSearchParams(location.search).get('cluster') ?? '');

function clusterOf(name: string): string | undefined {
  return NAME.test(name) ? name : undefined;
}

/** Where the server has what is asked of a path below `/api/`. Sessions are for all clusters. */
export function pathOf(path: string): string {
  return CLUSTER === undefined || path === '/api/session' ? path : `/clusters/${CLUSTER}${path}`;
}

/** The address of the alerts without filters. */
export const HOME = CLUSTER === undefined ? '/' : `/?cluster=${CLUSTER}`;

/** The address of another cluster's alerts that are selected alike. @param query What selects them. */
export function addressIn(cluster: string | undefined, query: string): string {
  const params = new URLSearchParams(query);
  if (cluster !== undefined) params.set('cluster', cluster);
  return params.size === 0 ? '/' : `/?${params}`;
}

/** What this page can do with the cluster that it shows; undefined: it does not know it. */
export function sessionHere(session: Session): Session | undefined {
  if (CLUSTER === undefined) return session;
  const known = session.clusters?.further.find(({ name }) => name === CLUSTER);
  if (known === undefined) return undefined;
  const { tuning: _, ...rest } = session;
  return { ...rest, source: known.source, dryRun: false, isolates: false };
}
