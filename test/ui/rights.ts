/** What deploy/ and deploy/ui give to a cluster: CRDs, roles and the page's service account. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEPLOY, objects } from '../deploy/support.ts';
import type { Identity, TestCluster } from '../support/kubernetes.ts';

export interface PageRights {
  /** Whom the page asks the API server as. */
  page: Identity;
  /** Two namespaces; users' accounts are in the first. */
  shop: string;
  other: string;
  /** Lets an account of `shop` look at alerts and handle them: there, or with `clusterrolebinding` everywhere. */
  bind(kind: 'rolebinding' | 'clusterrolebinding', account: string, role?: string): void;
  /** Makes a DeepPacketInspection `web` of pods with `app: web` in both namespaces. */
  inspectWeb(): void;
}

export function installPage(cluster: TestCluster): PageRights {
  cluster.kubectl('apply', '-k', DEPLOY);
  cluster.apply(...objects(readFileSync(join(DEPLOY, 'ui/rbac.yaml'), 'utf8')));
  const [shop, other] = [cluster.namespace(), cluster.namespace()];
  return {
    page: cluster.serviceAccount('tigera-dpi', 'dpi-agent-ui'),
    shop,
    other,
    bind(kind, account, role = '--clusterrole=dpi-agent-alerts') {
      const name = `${account}-${shop}`;
      cluster.kubectl('-n', shop, 'create', kind, name, role, `--serviceaccount=${shop}:${account}`);
    },
    inspectWeb() {
      for (const namespace of [shop, other]) {
        cluster.apply({
          apiVersion: 'projectcalico.org/v3',
          kind: 'DeepPacketInspection',
          metadata: { name: 'web', namespace },
          spec: { selector: 'app == "web"' },
        });
      }
    },
  };
}
