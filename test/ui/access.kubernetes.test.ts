/** Who may see what, decided by a real API server, asked with the rights of deploy/ui. */
import { beforeAll, describe, expect } from '@jest/globals';
import { explain } from '../../agent/endpoints/explain.ts';
import { createClient } from '../../agent/kube/client.ts';
import type { ApiClient } from '../../agent/kube/api.ts';
import { listPods } from '../../agent/kube/pods.ts';
import { accessProblem, kubernetesAccess, type Access } from '../../agent/ui/access.ts';
import { createCoverage } from '../../agent/ui/coverage.ts';
import {
  describeKubernetes,
  podObject,
  testOnOwnServer,
  useControlPlane,
  type Identity,
} from '../support/kubernetes.ts';
import { poll } from '../support/poll.ts';
import { installPage, type PageRights } from './rights.ts';

describeKubernetes(() => {
  const cluster = useControlPlane();
  const kubectl = (...args: string[]): string => cluster().kubectl(...args);
  let rights: PageRights;
  let shop: string;
  let other: string;
  let client: ApiClient;
  let access: Access;
  let analyst: Identity;
  let admin: Identity;
  let stranger: Identity;

  beforeAll(async () => {
    rights = installPage(cluster());
    ({ shop, other } = rights);
    [analyst, admin, stranger] = [
      cluster().serviceAccount(shop, 'analyst'),
      cluster().serviceAccount(shop, 'admin'),
      cluster().serviceAccount(shop, 'stranger'),
    ];
    rights.bind('rolebinding', 'analyst');
    rights.bind('clusterrolebinding', 'admin');
    kubectl('-n', shop, 'create', 'role', 'pods', '--verb=list', '--resource=pods');
    kubectl('-n', shop, 'create', 'rolebinding', 'pods', '--role=pods', `--serviceaccount=${shop}:admin`);
    client = await createClient({ kubeconfig: rights.page.kubeconfig });
    access = kubernetesAccess(client);
  });

  describe('access', () => {
    testOnOwnServer('a token that the cluster does not know is refused', async () => {
      expect(await access.signIn({ token: 'no-such-token' })).toBeUndefined();
      expect(await access.stillValid({ token: 'no-such-token' })).toBe(false);
      expect(await access.signIn({ username: 'a', password: 'b' })).toBeUndefined();
    });

    testOnOwnServer('who may list the resources of one namespace sees that one, and may mark there', async () => {
      const user = await access.signIn({ token: analyst.token });
      expect(user?.name).toBe(analyst.name);
      expect(await user?.readable()).toEqual(new Set([shop]));
      expect(await user?.mayMark(shop)).toBe(true);
      expect(await user?.mayMark(other)).toBe(false);
      expect(await user?.mayListPods(shop)).toBe(false);
    });

    testOnOwnServer('who may list those of all namespaces sees all', async () => {
      const user = await access.signIn({ token: admin.token });
      expect(await user?.readable()).toBe('all');
      expect(await user?.mayMark(other)).toBe(true);
      expect(await user?.mayListPods(shop)).toBe(true);
    });

    testOnOwnServer('who has no rights gets in, and sees nothing', async () => {
      const user = await access.signIn({ token: stranger.token });
      expect(await user?.readable()).toEqual(new Set());
      expect(await user?.mayMark(shop)).toBe(false);
    });

    testOnOwnServer('a right that is taken away is gone after a minute, and a token with its account', async () => {
      let now = 0;
      const own = kubernetesAccess(client, () => now);
      const account = cluster().serviceAccount(shop, 'short');
      rights.bind('rolebinding', 'short');
      const user = await own.signIn({ token: account.token });
      expect(await user?.readable()).toEqual(new Set([shop]));
      kubectl('-n', shop, 'delete', 'rolebinding', `short-${shop}`);
      kubectl('-n', shop, 'delete', 'serviceaccount', 'short');
      expect(await user?.readable()).toEqual(new Set([shop]));
      now += 60_001;
      expect(await user?.readable()).toEqual(new Set());
      // The API server itself remembers tokens for some seconds.
      await poll(async () => {
        now += 60_001;
        return !(await own.stillValid({ token: account.token }));
      });
    });

    testOnOwnServer('an API server that refuses is named', async () => {
      const powerless = kubernetesAccess(await createClient({ kubeconfig: stranger.kubeconfig }));
      const error = await powerless.signIn({ token: analyst.token }).catch((reason: unknown) => reason);
      expect(accessProblem(error)).toMatch(/create tokenreviews\.authentication\.k8s\.io: forbidden/);
    });
  });

  testOnOwnServer(
    'coverage has the resources of the namespaces that may be seen, and agents that do not answer',
    async () => {
      rights.inspectWeb();
      // A controller makes it, which is not here.
      cluster().serviceAccount('tigera-dpi', 'default');
      const pod = podObject('tigera-dpi', 'agent-1', 'worker-1', { 'k8s-app': 'tigera-dpi' });
      cluster().apply(pod);
      const coverage = createCoverage({
        agents: [],
        cluster: { client, namespace: 'tigera-dpi', labelSelector: 'k8s-app=tigera-dpi', port: 9097 },
      });
      const all = await coverage('all');
      expect(all.problems).toEqual([]);
      expect(all.resources.map(({ key }) => key)).toEqual(expect.arrayContaining([`${shop}/web`, `${other}/web`]));
      expect(all.nodes).toEqual([{ name: 'worker-1', state: 'unknown', problems: ['its agent has no address yet'] }]);
      const some = await coverage(new Set([shop]));
      expect(some).toMatchObject({ nodes: [], resources: [{ key: `${shop}/web`, selector: 'app == "web"' }] });
    },
  );

  testOnOwnServer('a selector can be tried on the pods of a namespace', async () => {
    cluster().apply(
      podObject(shop, 'web-1', 'worker-1', { app: 'web' }),
      podObject(shop, 'db-1', 'worker-1', { app: 'db' }),
    );
    const found = explain({ selector: 'app == "web"' }, await listPods(client, shop), undefined);
    expect(found).toMatchObject([
      { pod: 'web-1', selected: true, why: 'has no address yet' },
      { pod: 'db-1', selected: false, why: 'not app == "web": app is "db"' },
    ]);
  });
});
