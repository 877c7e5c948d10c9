/**
 * One life of an agent's process, as far as it follows a cluster: the caches, the rounds, attachments and leases, put
 * together as in agent/cli/run.ts and agent/agent.ts, on the simulated machine.
 *
 * In place of the real ones: what finds interfaces, capture, and the rules, which take the engine seconds to change.
 */
import { pino } from 'pino';
import { openAttachments, type Attachments } from '../../../agent/attachments.ts';
import { zeroCounters, type AttachSpec } from '../../../agent/capture/protocol.ts';
import type { EndpointState } from '../../../agent/capture/supervisor.ts';
import { followPods } from '../../../agent/endpoints/follow.ts';
import type { Resolve } from '../../../agent/endpoints/follow/parts.ts';
import { openLeases, type Leases } from '../../../agent/endpoints/leases.ts';
import { errorCode } from '../../../agent/files/errors.ts';
import { followCluster } from '../../../agent/kube/cluster.ts';
import type { Lane } from '../../../agent/lane.ts';
import type { VirtualClock } from '../clock.ts';
import type { Disk } from '../disk.ts';
import type { ApiServer } from './api-server.ts';
import { DEFAULTS, NODE, type ClusterNode } from './node.ts';
import { setsKey, type ClusterOracle } from './oracle.ts';

const LOG = pino({ level: 'silent' });
const LEASES = '/var/lib/dpi-agent/leases.ndjson';
const RETRY_MILLIS = 1000;
/** Until a capture process has begun with an endpoint, or ended, at most. */
const CAPTURE_MILLIS = 200;
/** Until all engines inspect by other rules, at most. */
const SWAP_MILLIS = 5000;

export interface ClusterMachine {
  clock: VirtualClock;
  disk: Disk;
  server: ApiServer;
  node: ClusterNode;
  oracle: ClusterOracle;
  random: () => number;
  /** How often an interface that is there is not found, 0..1. */
  blind: number;
}

/** Until somebody asks it to end. @param settles Whether all is to be as it should be then. */
export async function runCluster(
  machine: ClusterMachine,
  life: { stopping: boolean; settles: boolean },
): Promise<void> {
  const { clock, node, server, oracle, random } = machine;
  const leases = await openOnceItCan(machine);
  const lanes: Lane[] = [];
  const engine = engineOf(machine, () => attachments.combinations());
  let changed = (): void => undefined;
  const attachments = openAttachments({
    lanes,
    leases,
    problems: new Map(),
    rules: engine,
    keep: 'off',
    goesOver: () => undefined,
    onChange: () => changed(),
    log: LOG,
    clock,
  });
  const captures = ['lane0', 'lane1'].map((name) => captureOf(machine, name, engine.policies, attachments));
  lanes.push(...captures.map(({ lane }) => lane));
  node.onInterfaces = () => captures.forEach((capture) => capture.look());
  const cluster = followCluster({
    client: server.client,
    node: NODE,
    onChange: () => changed(),
    log: LOG,
    clock,
    random,
  });
  const follower = followPods({
    ...cluster,
    side: 'host',
    loopback: false,
    resolve: resolverOf(machine),
    namespaces: { hold: () => ({ path: '', release: () => undefined }), isStillThere: () => true },
    capture: {
      attach(endpoint) {
        const takeBack = oracle.asked(endpoint);
        try {
          attachments.attach(endpoint);
        } catch (error) {
          takeBack();
          throw error;
        }
      },
      detach: attachments.detach,
      endpoints: attachments.captured,
      barredFromPods: () => undefined,
      problems: () => [],
      conditions: () => [],
    },
    log: LOG,
    clock,
  });
  ({ changed } = follower);
  while (!life.stopping) await clock.sleep(RETRY_MILLIS);
  if (life.settles) {
    const statusOf = (path: string) => server.peek(path)?.status;
    oracle.settled({ captured: attachments.captured(), policies: engine.policies(), leases, statusOf });
  }
  follower.stop();
  attachments.stop();
  await cluster.stop();
}

/** The agent tries each second, or is started anew. */
async function openOnceItCan({ clock, disk }: ClusterMachine): Promise<Leases> {
  for (;;) {
    try {
      return openLeases(LEASES, () => clock.wall() * 1000, disk.files);
    } catch (error) {
      if (errorCode(error) === undefined) throw error;
    }
    await clock.sleep(RETRY_MILLIS);
  }
}

/** Changes of rules as live.ts has them: one at a time, and those that come while one waits are that one. */
function engineOf({ clock, random }: ClusterMachine, combinations: Attachments['combinations']) {
  let policies: ReadonlyMap<number, string> = new Map();
  let running = Promise.resolve();
  let waiting: Promise<void> | undefined;
  return {
    defaults: () => DEFAULTS,
    policies: () => policies,
    changed(): Promise<void> {
      if (waiting !== undefined) return waiting;
      const next = running.then(async () => {
        waiting = undefined;
        const wanted = combinations().flatMap(({ sets, vlans }) => vlans.map((vlan) => [vlan, setsKey(sets)] as const));
        await clock.sleep(random() * SWAP_MILLIS);
        policies = new Map(wanted);
      });
      waiting = next;
      running = next;
      return next;
    },
  };
}

/** Finds what is there, but for a moment at times. */
function resolverOf({ node, random, blind }: ClusterMachine): Resolve {
  return (requests) =>
    new Map(
      requests.map(({ pod }) => {
        const device = random() < blind ? undefined : node.interfaces.get(pod.uid);
        return [
          pod.key,
          device === undefined
            ? { kind: 'missing' as const, reason: 'it has no interface' }
            : {
                kind: 'found' as const,
                interface: device.name,
                by: 'calico' as const,
                ifindex: device.ifindex,
                addresses: [],
                lacking: [],
              },
        ];
      }),
    );
}

interface Capture {
  lane: Lane;
  /** Interfaces came or went. */
  look(): void;
}

function captureOf(
  { clock, node, oracle, random }: ClusterMachine,
  name: string,
  policies: () => ReadonlyMap<number, string>,
  attachments: Pick<Attachments, 'noteState'>,
): Capture {
  const specs = new Map<string, AttachSpec>();
  const states = new Map<string, EndpointState>();

  function look(id: string): void {
    const spec = specs.get(id);
    if (spec === undefined) return;
    const device = [...node.interfaces.values()].find((each) => each.name === spec.taps[0]?.interface);
    const state: EndpointState =
      device === undefined
        ? { is: 'waiting', reason: 'it is not there' }
        : { is: 'capturing', ifindex: device.ifindex, linkType: 'EN10MB' };
    if (JSON.stringify(states.get(id)) === JSON.stringify(state)) return;
    states.set(id, state);
    attachments.noteState(id, state);
  }

  const capture: Pick<Lane['capture'], 'attach' | 'detach' | 'states' | 'counters'> = {
    attach(spec) {
      specs.set(spec.id, spec);
      states.set(spec.id, { is: 'starting' });
      oracle.attached(spec, policies());
      clock.after(random() * CAPTURE_MILLIS, () => look(spec.id));
    },
    async detach(id) {
      await clock.sleep(random() * CAPTURE_MILLIS);
      specs.delete(id);
      states.delete(id);
      oracle.detached(id);
      return zeroCounters();
    },
    states: () => states,
    counters: () => new Map([...specs.keys()].map((id) => [id, zeroCounters()])),
  };
  return {
    lane: { name, capture } as unknown as Lane,
    look: () => clock.after(random() * CAPTURE_MILLIS, () => [...specs.keys()].forEach(look)),
  };
}
