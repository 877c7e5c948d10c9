import { expect } from '@jest/globals';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiList } from '../../agent/kube/api.ts';
import { createClient } from '../../agent/kube/client.ts';
import {
  discoverResourceApi,
  followResourceApi,
  resourcePath,
  toResource,
  type ApiDeepPacketInspection,
  type ResourceApi,
} from '../../agent/kube/resources.ts';
import { describeKubernetes, testOnOwnServer, useControlPlane } from '../support/kubernetes.ts';
import { PROJECT } from '../support/project.ts';

const crd = (group: string): string => join(PROJECT, 'deploy/crds', group, 'deeppacketinspections.yaml');
const V3 = 'projectcalico.org/v3';
const V1 = 'crd.projectcalico.org/v1';

describeKubernetes(() => {
  const cluster = useControlPlane({ users: { guest: [] } });

  testOnOwnServer(
    'the API that is served is followed while CRDs come and go, with no right but to discover',
    async () => {
      const client = await createClient({ kubeconfig: cluster().kubeconfig });
      const guest = await createClient({ kubeconfig: cluster().controlPlane().user('guest') });
      expect(await discoverResourceApi(client)).toBeUndefined();
      const changes: (ResourceApi | undefined)[] = [];
      const followed = followResourceApi({
        client: guest,
        onChange: (api) => changes.push(api),
        noneMillis: 100,
        v1Millis: 100,
        v3Millis: 600_000,
      });
      const changed = async (...expected: (ResourceApi | undefined)[]): Promise<void> => {
        while (changes.length < expected.length) await sleep(20);
        expect(changes).toEqual(expected);
      };
      try {
        await changed(undefined);
        cluster().kubectl('apply', '-f', crd('crd.projectcalico.org'));
        await changed(undefined, V1);
        cluster().kubectl('apply', '-f', crd('projectcalico.org'));
        await changed(undefined, V1, V3);
        expect(await discoverResourceApi(client)).toBe(V3);

        const namespace = cluster().namespace();
        const metadata = { name: 'web', namespace, annotations: { 'dpi-agent.io/rule-sets': 'community' } };
        const spec = { selector: 'app == "web"' };
        cluster().apply({ apiVersion: V3, kind: 'DeepPacketInspection', metadata, spec });
        for (const path of [resourcePath(V3), resourcePath(V3, namespace)]) {
          const { items } = await client.get<ApiList<ApiDeepPacketInspection>>(path);
          expect(items.map(toResource)).toMatchObject([
            { key: `${namespace}/web`, selector: 'app == "web"', annotations: metadata.annotations },
          ]);
        }
        const web = await client.get<ApiDeepPacketInspection>(resourcePath(V3, namespace, 'web'));
        expect(toResource(web).uid).toMatch(/^[\da-f-]{36}$/);

        cluster().kubectl('delete', 'crd', 'deeppacketinspections.projectcalico.org');
        await expect(client.get(resourcePath(V3))).rejects.toMatchObject({ status: 404 });
        followed.recheck();
        await changed(undefined, V1, V3, V1);
        // As its watch does: while v1 is followed, only the better one is asked for.
        cluster().kubectl('delete', 'crd', 'deeppacketinspections.crd.projectcalico.org');
        followed.recheck();
        await changed(undefined, V1, V3, V1, undefined);
      } finally {
        followed.stop();
      }
    },
  );
});
