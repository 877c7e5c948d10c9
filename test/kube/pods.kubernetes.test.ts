import { expect, test } from '@jest/globals';
import { createClient } from '../../agent/kube/client.ts';
import { toPod, type ApiPod } from '../../agent/kube/pods.ts';
import { describeKubernetes, podObject, useControlPlane } from '../support/kubernetes.ts';

describeKubernetes(() => {
  const cluster = useControlPlane();

  test('a pod as the API server sends it is read: without a network, ready with two addresses, and asked to end', async () => {
    const client = await createClient({ kubeconfig: cluster().kubeconfig });
    const namespace = cluster().namespace();
    const web = podObject(namespace, 'web-0', 'test-node', { app: 'web' });
    const metadata = { ...web.metadata, generateName: 'web-', finalizers: ['dpi-agent.io/test'] };
    cluster().apply({ ...web, metadata });
    const read = async () => toPod(await client.get<ApiPod>(`/api/v1/namespaces/${namespace}/pods/web-0`));
    const pending = await read();
    expect(pending).toMatchObject({
      key: `${namespace}/web-0`,
      nameAggr: 'web-*',
      labels: { app: 'web' },
      serviceAccount: 'default',
      node: 'test-node',
      hostNetwork: false,
      phase: 'Pending',
      ready: false,
      terminating: false,
      addresses: [],
    });
    const status = {
      phase: 'Running',
      podIP: '10.244.0.7',
      podIPs: [{ ip: '10.244.0.7' }, { ip: 'fd00:10:244::7' }],
      conditions: [{ type: 'Ready', status: 'True' }],
    };
    const pod = ['pod', 'web-0', '-n', namespace];
    cluster().kubectl('patch', ...pod, '--subresource=status', '--type=merge', '-p', JSON.stringify({ status }));
    const running = { ...pending, phase: 'Running', ready: true, addresses: ['10.244.0.7', 'fd00:10:244::7'] };
    expect(await read()).toEqual(running);
    cluster().kubectl('delete', ...pod, '--wait=false');
    expect(await read()).toEqual({ ...running, terminating: true });
    cluster().kubectl('patch', ...pod, '--type=merge', '-p', '{"metadata":{"finalizers":null}}');
  });
});
