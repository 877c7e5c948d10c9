/** Rounds with capture and resolvers that are told what to say; test/agent.kubernetes.test.ts has the real ones. */
import { afterEach, describe, expect, jest, test } from '@jest/globals';
import { pino } from 'pino';
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import { followPods, type Follower } from '../../agent/endpoints/follow.ts';
import type { CaptureState } from '../../agent/endpoints/follow/parts.ts';
import type { Namespace } from '../../agent/endpoints/resolve/namespace.ts';
import type { Place, PlaceAnswer, PlaceRequest, SideWanted } from '../../agent/endpoints/resolve/place.ts';
import type { Pod } from '../../agent/kube/pods.ts';
import type { DeepPacketInspection, NodeStatus } from '../../agent/kube/resources.ts';
import { aPod, aResource } from '../support/kube-objects.ts';

const found = (name: string, ifindex: number, more: Partial<Place> = {}): Place => ({
  kind: 'found',
  interface: name,
  ifindex,
  by: 'calico',
  addresses: [],
  lacking: [],
  ...more,
});

const namespace = (pid: number): Namespace => ({ link: `net:[${pid}]`, members: [pid] });

/** In a pod, by a process of it. */
const inPod = (pid: number, interfaces: string[], more: Partial<Place> = {}): Place => ({
  kind: 'found',
  interface: interfaces[0] ?? '',
  by: 'pod',
  inside: { namespace: namespace(pid), interfaces },
  addresses: [],
  lacking: [],
  ...more,
});

let follower: Follower | undefined;
afterEach(() => follower?.stop());

/** A node whose parts a test can set. `until` waits for what a round brings about. */
function startNode(
  resources: DeepPacketInspection[],
  pods: Pod[],
  interfaces: Record<string, PlaceAnswer>,
  { side = 'auto', loopback = false }: { side?: SideWanted; loopback?: boolean } = {},
) {
  const node = {
    /** By the keys of pods that are looked for on their own side. */
    inside: {} as Record<string, PlaceAnswer>,
    requests: [] as PlaceRequest[],
    barred: undefined as string | undefined,
    /** Links of namespaces that are held. */
    held: [] as string[],
    gone: new Set<string>(),
    resources,
    pods,
    interfaces,
    states: new Map<string, CaptureState>(),
    /** What was done, in order: `+key`, `-key`, `=key` for new facts of one that is attached. */
    done: [] as string[],
    statuses: new Map<string, Omit<NodeStatus, 'node'> | undefined>(),
    problems: [] as string[],
    looks: 0,
    synced: true,
    /** Ends a detach that waits; by default they end at once. */
    endDetach: undefined as undefined | (() => void),
    holdDetach: false,
    set(change: Partial<{ resources: DeepPacketInspection[]; pods: Pod[]; interfaces: Record<string, PlaceAnswer> }>) {
      Object.assign(node, change);
      follower?.changed();
    },
    capture(key: string, state: CaptureState['state']) {
      const entry = node.states.get(key);
      if (entry !== undefined) entry.state = state;
      follower?.changed();
    },
    async until(isSo: () => boolean): Promise<void> {
      while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
    },
  };
  follower = followPods({
    synced: () => node.synced,
    resources: () => node.resources,
    pods: () => node.pods,
    side,
    loopback,
    resolve(asked, barred) {
      node.looks++;
      node.requests.push(...asked);
      const nothing = { kind: 'missing', reason: barred ?? 'nothing there' } as const;
      return new Map(
        asked.map(({ pod: { key }, side: wanted }) => [
          key,
          (wanted === 'pod' ? node.inside[key] : node.interfaces[key]) ?? nothing,
        ]),
      );
    },
    namespaces: {
      hold({ link }) {
        node.held.push(link);
        return { path: `/held/${link}`, release: () => node.held.splice(node.held.indexOf(link), 1) };
      },
      isStillThere: ({ link }) => !node.gone.has(link),
    },
    capture: {
      attach(endpoint: Endpoint) {
        node.done.push(`${node.states.has(endpoint.id) ? '=' : '+'}${endpoint.id}`);
        const resolution = node.interfaces[endpoint.id];
        const ifindex = resolution?.kind === 'found' ? (resolution.ifindex ?? 0) : 0;
        node.states.set(endpoint.id, { endpoint, state: { is: 'capturing', ifindex } });
      },
      async detach(id: string) {
        node.done.push(`-${id}`);
        if (node.holdDetach) await new Promise<void>((resolve) => (node.endDetach = resolve));
        node.states.delete(id);
      },
      endpoints: () => [...node.states.values()],
      barredFromPods: () => node.barred,
      conditions: (named) => (named?.includes('absent') === true ? ['there is no rule set absent'] : []),
      ruleVersions: (named) => Object.fromEntries((named ?? []).map((set) => [set, 'v1'])),
      problems: () => node.problems,
    },
    report: (resource, status) => node.statuses.set(resource.key, status),
    log: pino({ level: 'silent' }),
  });
  return node;
}

const dpi = aResource('shop/dpi', 'app == "backend"');
const one = aPod('shop/one');

describe('what is captured follows what is selected', () => {
  test('a pod is attached by its interface, with its resources and addresses', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.done.length > 0);
    expect(node.states.get('shop/one')?.endpoint).toEqual({
      id: 'shop/one',
      namespace: 'shop',
      name: 'one',
      nameAggr: '-',
      interface: 'cali1',
      labels: { app: 'backend' },
      addresses: ['10.65.0.2'],
      resources: ['shop/dpi'],
    });
  });

  test('rule sets that a resource names come with it, and change with its annotation', async () => {
    const named = (sets: string): DeepPacketInspection => ({ ...dpi, annotations: { 'dpi-agent.io/rule-sets': sets } });
    const node = startNode([named('community, kubernetes'), aResource('shop/all', 'all()')], [one], {
      'shop/one': found('cali1', 7),
    });
    await node.until(() => node.done.length === 1);
    expect(node.states.get('shop/one')?.endpoint.ruleSets).toEqual({ 'shop/dpi': ['community', 'kubernetes'] });
    node.set({ resources: [named('kubernetes'), aResource('shop/all', 'all()')] });
    await node.until(() => node.done.length === 2);
    expect(node.states.get('shop/one')?.endpoint.ruleSets).toEqual({ 'shop/dpi': ['kubernetes'] });
    expect(node.done).toEqual(['+shop/one', '=shop/one']);
  });

  test('a rule set that there is not is a condition of that resource alone, which is active all the same', async () => {
    const bad = { ...dpi, annotations: { 'dpi-agent.io/rule-sets': 'absent,kubernetes' } };
    const node = startNode([bad, aResource('shop/all', 'all()')], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 1);
    expect(node.statuses.get('shop/dpi')).toMatchObject({
      active: { success: true },
      podsCaptured: 1,
      errorConditions: [{ message: 'there is no rule set absent' }],
    });
    expect(node.statuses.get('shop/all')?.errorConditions).toEqual([]);
  });

  test('a label that no longer matches ends the capture, and a second resource does not double it', async () => {
    const node = startNode([dpi, aResource('shop/all', 'all()')], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.done.length === 1);
    node.set({ pods: [{ ...one, labels: { app: 'other' } }] });
    await node.until(() => node.done.length === 2);
    expect(node.states.get('shop/one')?.endpoint.resources).toEqual(['shop/all']);
    node.set({ resources: [dpi] });
    await node.until(() => node.done.length === 3);
    expect(node.done).toEqual(['+shop/one', '=shop/one', '-shop/one']);
  });

  test('a pod made again under its name is attached again, when the old capture has ended', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.done.length === 1);
    node.holdDetach = true;
    node.set({ pods: [{ ...one, uid: 'another' }], interfaces: { 'shop/one': found('cali1', 8) } });
    await node.until(() => node.endDetach !== undefined);
    follower?.changed();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(node.done).toEqual(['+shop/one', '-shop/one']);
    node.endDetach?.();
    await node.until(() => node.done.length === 3);
    expect(node.done[2]).toBe('+shop/one');
  });

  test('an interface that is not there yet is looked for until it is', async () => {
    const node = startNode([dpi], [one], {});
    await node.until(() => node.looks >= 2);
    node.interfaces['shop/one'] = found('cali1', 7);
    await node.until(() => node.done.length === 1);
  });

  test('two pods do not get one interface: the second one waits until the first is gone', async () => {
    const two = aPod('shop/two');
    const same = { 'shop/one': found('cali1', 7), 'shop/two': found('cali1', 7) };
    const node = startNode([dpi], [one, two], same);
    await node.until(() => node.looks >= 2);
    expect(node.done).toEqual(['+shop/one']);
    node.set({ pods: [two] });
    await node.until(() => node.done.length === 3);
    expect(node.done).toEqual(['+shop/one', '-shop/one', '+shop/two']);
  });

  test('an interface that became another one is attached instead', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('veth1', 7) });
    await node.until(() => node.done.length === 1);
    node.interfaces['shop/one'] = found('veth2', 9);
    node.capture('shop/one', { is: 'waiting', reason: 'there is no interface veth1' });
    await node.until(() => node.done.length === 3);
    expect(node.done).toEqual(['+shop/one', '-shop/one', '+shop/one']);
    expect(node.states.get('shop/one')?.endpoint.interface).toBe('veth2');
  });
});

describe('on which side', () => {
  const tapsOfOne = (node: ReturnType<typeof startNode>) => node.states.get('shop/one')?.endpoint.taps;

  /** Coverage has found that only what the pod sends passes its interface. */
  function bypass(node: ReturnType<typeof startNode>): void {
    const state = node.states.get('shop/one');
    if (state !== undefined) node.states.set('shop/one', { ...state, coverage: { oneWay: 'sending' } });
    follower?.changed();
  }

  test('a pod of which one direction is missing goes over to its own side, without an end of its capture, and stays', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    node.inside['shop/one'] = inPod(71, ['eth0']);
    await node.until(() => node.done.length === 1);
    expect(tapsOfOne(node)).toBeUndefined();
    bypass(node);
    await node.until(() => node.done.length === 2);
    // The state that capture gives it is without a direction that is missing.
    follower?.changed();
    await node.until(() => node.statuses.get('shop/dpi')?.resolvers['pod'] === 1);
    expect(node.done).toEqual(['+shop/one', '=shop/one']);
    expect(node.states.get('shop/one')?.endpoint.interface).toBe('eth0');
    expect(tapsOfOne(node)).toEqual([{ interface: 'eth0', netns: '/held/net:[71]' }]);
    expect(node.statuses.get('shop/dpi')?.errorConditions).toEqual([]);
    // Whatever is asked from now on, it is asked for the pod's side.
    node.capture('shop/one', { is: 'waiting', reason: 'eth0 is down' });
    const asked = node.requests.length;
    await node.until(() => node.requests.length > asked);
    expect(node.requests.slice(asked).map(({ side }) => side)).not.toContain('auto');
    expect(node.done).toHaveLength(2);
    node.set({ pods: [] });
    await node.until(() => node.done.length === 3 && node.held.length === 0);
  });

  test('what keeps it from going over is a condition, and it stays where it is', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    node.barred = 'no right to enter';
    await node.until(() => node.statuses.get('shop/dpi')?.podsCaptured === 1);
    bypass(node);
    await node.until(() => (node.statuses.get('shop/dpi')?.errorConditions[0]?.message ?? '').includes('no right'));
    expect(node.statuses.get('shop/dpi')).toMatchObject({ active: { success: true }, podsCaptured: 1 });
    expect(node.done).toEqual(['+shop/one']);
  });

  test('a pod that can not be captured on its own side comes back, says why, and does not try again', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    node.inside['shop/one'] = inPod(71, ['eth0']);
    await node.until(() => node.done.length === 1);
    bypass(node);
    await node.until(() => node.done.length === 2);
    node.capture('shop/one', { is: 'waiting', reason: 'cannot enter the network namespace' });
    await node.until(() => node.done.length === 3);
    expect(node.states.get('shop/one')?.endpoint.interface).toBe('cali1');
    expect(tapsOfOne(node)).toBeUndefined();
    bypass(node);
    const said = (): string => node.statuses.get('shop/dpi')?.errorConditions[0]?.message ?? '';
    await node.until(() => said().includes('only what it sends passes cali1'));
    expect(said()).toContain('it can not be captured in the pod (cannot enter the network namespace)');
    expect(node.done).toEqual(['+shop/one', '=shop/one', '=shop/one']);
  });

  test('capture.side host never goes over, pod begins there', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) }, { side: 'host' });
    node.inside['shop/one'] = inPod(71, ['eth0']);
    await node.until(() => node.statuses.get('shop/dpi')?.podsCaptured === 1);
    bypass(node);
    await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 1);
    expect(node.done).toEqual(['+shop/one']);
    follower?.stop();
    const other = startNode([dpi], [one], { 'shop/one': found('cali1', 7) }, { side: 'pod' });
    other.inside['shop/one'] = inPod(72, ['eth0']);
    await other.until(() => other.done.length === 1);
    expect(tapsOfOne(other)).toEqual([{ interface: 'eth0', netns: '/held/net:[72]' }]);
  });

  test('further networks and the loopback come in addition, with the addresses that the pod has there', async () => {
    const node = startNode([dpi], [one], {
      'shop/one': found('cali1', 7, {
        inside: { namespace: namespace(71), interfaces: ['net1', 'lo'] },
        addresses: ['10.9.0.2'],
        lacking: ['network b is not inspected: there is no net2 in the pod'],
      }),
    });
    await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 1);
    expect(tapsOfOne(node)).toEqual([
      { interface: 'cali1' },
      { interface: 'net1', netns: '/held/net:[71]' },
      { interface: 'lo', netns: '/held/net:[71]' },
    ]);
    expect(node.states.get('shop/one')?.endpoint.addresses).toEqual(['10.65.0.2', '10.9.0.2']);
    expect(node.statuses.get('shop/dpi')?.errorConditions[0]?.message).toBe(
      'pod shop/one: network b is not inspected: there is no net2 in the pod',
    );
    expect(node.statuses.get('shop/dpi')).toMatchObject({ active: { success: true }, resolvers: { calico: 1 } });
  });

  test('a resource has the versions of its own rule sets in its status, where there are any', async () => {
    const named = { ...aResource('shop/named', 'all()'), annotations: { 'dpi-agent.io/rule-sets': 'own' } };
    const node = startNode([dpi, named], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.statuses.get('shop/named')?.podsCaptured === 1);
    expect(node.statuses.get('shop/named')).toMatchObject({ ruleVersions: { own: 'v1' } });
    expect(node.statuses.get('shop/dpi')).not.toHaveProperty('ruleVersions');
  });

  test('which networks: what a resource says, else the pod, of each resource', async () => {
    const chosen = { ...dpi, annotations: { 'dpi-agent.io/networks': 'net1' } };
    const pod = { ...one, chosenNetworks: 'net2' };
    const node = startNode([chosen, aResource('shop/all', 'all()')], [pod], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.done.length === 1);
    expect(node.requests[0]?.networks).toEqual(['net2', 'net1']);
    const asked = node.requests.length;
    node.set({
      resources: [{ ...dpi, annotations: { 'dpi-agent.io/networks': '*' } }, aResource('shop/all', 'all()')],
    });
    await node.until(() => node.requests.length > asked);
    expect(node.requests.at(-1)?.networks).toEqual(['net2', '*']);
  });

  test('a namespace whose process is gone is looked for again, and one that was made anew is taken', async () => {
    const node = startNode([dpi], [one], {}, { side: 'pod' });
    node.inside['shop/one'] = inPod(71, ['eth0']);
    await node.until(() => node.done.length === 1);
    node.inside['shop/one'] = inPod(72, ['eth0']);
    node.gone.add('net:[71]');
    follower?.changed();
    await node.until(() => node.done.length === 2);
    expect(node.done).toEqual(['+shop/one', '=shop/one']);
    expect(tapsOfOne(node)).toEqual([{ interface: 'eth0', netns: '/held/net:[72]' }]);
  });
});

describe('status', () => {
  test('tells how many pods are captured, and how their interfaces were found', async () => {
    const node = startNode([dpi], [one, aPod('shop/two')], {
      'shop/one': found('cali1', 7),
      'shop/two': found('veth2', 8, { by: 'route' }),
    });
    await node.until(() => node.statuses.get('shop/dpi')?.podsCaptured === 2);
    expect(node.statuses.get('shop/dpi')).toEqual({
      active: { success: true, lastUpdated: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) },
      podsSelected: 2,
      podsCaptured: 2,
      resolvers: { calico: 1, route: 1 },
      errorConditions: [],
    });
  });

  test('says what lasts: a pod without an interface, and no longer when it has one', async () => {
    const node = startNode([dpi], [one], {});
    await node.until(() => (node.statuses.get('shop/dpi')?.errorConditions.length ?? 0) > 0);
    expect(node.statuses.get('shop/dpi')).toMatchObject({
      active: { success: false },
      podsSelected: 1,
      podsCaptured: 0,
      errorConditions: [{ message: 'pod shop/one: nothing there' }],
    });
    node.interfaces['shop/one'] = found('cali1', 7);
    await node.until(() => node.statuses.get('shop/dpi')?.active.success === true);
    expect(node.statuses.get('shop/dpi')?.errorConditions).toEqual([]);
  });

  test('does not complain of a pod that ends, whose network is gone already', async () => {
    const ending = aPod('shop/ending', { terminating: true });
    const node = startNode([dpi], [one, ending], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.looks >= 6);
    expect(node.statuses.get('shop/dpi')).toMatchObject({ podsSelected: 2, podsCaptured: 1, errorConditions: [] });
  });

  test('says at once what is wrong with a selector', async () => {
    const node = startNode([aResource('shop/bad', 'app =')], [one], {});
    await node.until(() => node.statuses.has('shop/bad'));
    expect(node.statuses.get('shop/bad')).toMatchObject({
      active: { success: false },
      errorConditions: [{ message: expect.stringContaining('column 5') }],
    });
  });

  test('says that the engine does not run, for as long as it does not', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.statuses.get('shop/dpi')?.active.success === true);
    node.problems = ['snort ended with status 1'];
    follower?.changed();
    await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 1);
    expect(node.statuses.get('shop/dpi')?.active.success).toBe(false);
    node.problems = [];
    follower?.changed();
    await node.until(() => node.statuses.get('shop/dpi')?.active.success === true);
  });

  test('says so also where the clock is set back meanwhile, and names what is new first', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.statuses.get('shop/dpi')?.active.success === true);
    node.problems = ['snort ended with status 1'];
    follower?.changed();
    await node.until(() => node.statuses.get('shop/dpi')?.active.success === false);
    const hourAgo = jest.spyOn(Date, 'now').mockImplementation(() => new Date().getTime() - 3_600_000);
    try {
      node.problems = ['the journal cannot be written', ...node.problems];
      follower?.changed();
      await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 2);
    } finally {
      hourAgo.mockRestore();
    }
    expect(node.statuses.get('shop/dpi')?.errorConditions.map(({ message }) => message)).toEqual([
      'the journal cannot be written',
      'snort ended with status 1',
    ]);
  });

  test('a problem of a moment ago is said although the clock is set back', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.statuses.get('shop/dpi')?.active.success === true);
    node.problems = ['snort ended with status 1'];
    let isSetBack = false;
    const clock = jest.spyOn(Date, 'now').mockImplementation(() => {
      const now = new Date().getTime() - (isSetBack ? 3_600_000 : 0);
      isSetBack = true;
      return now;
    });
    try {
      follower?.changed();
      await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 1);
    } finally {
      clock.mockRestore();
    }
  });

  test('says of which pod only one direction is seen and what to do, and no longer when both are', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) }, { side: 'host' });
    await node.until(() => node.statuses.get('shop/dpi')?.active.success === true);
    const state = node.states.get('shop/one');
    if (state !== undefined) node.states.set('shop/one', { ...state, coverage: { oneWay: 'sending' } });
    follower?.changed();
    await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 1);
    const status = node.statuses.get('shop/dpi');
    expect(status).toMatchObject({ active: { success: true }, podsCaptured: 1 });
    const message = status?.errorConditions[0]?.message ?? '';
    expect(message).toContain('pod shop/one: only what it sends passes cali1, what it receives is not inspected');
    expect(message).toContain('it can not be captured in the pod (capture.side is host)');
    expect(message).toContain('bpfRedirectToPeer');
    if (state !== undefined) node.states.set('shop/one', state);
    follower?.changed();
    await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 0);
    expect(follower?.selected()).toEqual(new Map([['shop/dpi', ['shop/one']]]));
  });

  test('is not withdrawn, nor is a capture ended, before the caches are complete', async () => {
    const node = startNode([dpi], [], { 'shop/one': found('cali1', 7) });
    node.synced = false;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(node.statuses.has('shop/dpi')).toBe(false);
    node.synced = true;
    node.set({ pods: [one] });
    await node.until(() => node.done.length === 1);
  });

  test('is withdrawn when nothing is selected any more', async () => {
    const node = startNode([dpi], [one], { 'shop/one': found('cali1', 7) });
    await node.until(() => node.statuses.get('shop/dpi') !== undefined);
    node.set({ pods: [] });
    await node.until(() => node.statuses.get('shop/dpi') === undefined);
  });

  test('names the ten newest of many problems', async () => {
    const pods = Array.from({ length: 25 }, (_, index) => aPod(`shop/p${index}`));
    const node = startNode([dpi], pods, {});
    await node.until(() => node.statuses.get('shop/dpi')?.errorConditions.length === 10);
    expect(node.statuses.get('shop/dpi')?.podsSelected).toBe(25);
  });
});
