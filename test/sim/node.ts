/**
 * The node: pods that come and go, and their packets, of which those that are captured fire rules.
 *
 * Addresses are few, and are used again; now and then two pods have the same one, or nobody knows a pod's. Pods send to
 * each other and to the world, the same bytes again too, and sometimes the same in floods.
 */
import type { Endpoint } from '../../agent/endpoints/endpoint.ts';
import type { VirtualClock } from './clock.ts';
import type { Packet } from './engine.ts';
import type { SimulatedLane } from './lane.ts';

/** Signatures that a policy may suppress are from there on. */
export const SUPPRESSIBLE = 20;
export const SIDS: readonly [number, ...number[]] = [7, 7, 8, SUPPRESSIBLE, SUPPRESSIBLE + 1];
const WORLD = '203.0.113.7';

export interface NodePlan {
  /** Pods that may be there. */
  pods: number;
  /** At most, between two changes of a pod; 0: none. */
  churnMillis: number;
  /** Packets that fire, or floods of them. */
  packets: number;
  /** At most, between two of these. */
  pauseMillis: number;
  /** Bytes of payload, at most. */
  payload: number;
  /** How many of the packets are floods, 0..1. */
  floods: number;
}

export interface Node {
  /** Those that are there. */
  pods: ReadonlySet<Endpoint>;
  /** Who captures; none while no agent runs. */
  lanes: readonly Pick<SimulatedLane, 'captured' | 'engine'>[];
  /** No more packets come. */
  isQuiet(): boolean;
}

export function createNode(clock: VirtualClock, random: () => number, plan: NodePlan): Node {
  const pods = new Set<Endpoint>();
  let left = plan.packets;
  let onTheirWay = 0;
  let made = 0;
  const node: Node = {
    pods,
    lanes: [],
    isQuiet: () => left === 0 && onTheirWay === 0,
  };

  function change(index: number): void {
    const there = [...pods].find(({ name }) => name === `pod-${index}`);
    if (there !== undefined) pods.delete(there);
    if (there === undefined || random() < 0.3) pods.add(createPod(index));
    if (plan.churnMillis > 0) clock.outside(random() * plan.churnMillis, () => change(index));
  }

  function createPod(index: number): Endpoint {
    const isDouble = random() < 0.1;
    const address = `10.0.0.${isDouble ? 1 : index + 1}`;
    return {
      id: `shop/pod-${index}`,
      namespace: 'shop',
      name: `pod-${index}`,
      nameAggr: 'pod-*',
      interface: `cali${made++}`,
      labels: {},
      addresses: random() < 0.05 ? [] : [address],
      resources: random() < 0.3 ? ['shop/dpi', 'bank/dpi'] : ['shop/dpi'],
    };
  }

  function send(): void {
    if (left === 0) return;
    if (node.lanes.length > 0) {
      left -= 1;
      sendOne();
    }
    clock.outside(random() * plan.pauseMillis, send);
  }

  function sendOne(): void {
    const [first, second] = [...pods].toSorted(() => random() - 0.5);
    if (first === undefined) return;
    const others = second === undefined || random() < 0.4 ? [] : [second];
    const packet = createPacket(first, others[0]);
    const times = random() < plan.floods ? 5 + random() * 60 : random() < 0.2 ? 3 : 1;
    for (let time = 0; time < times; time++) {
      onTheirWay += 1;
      clock.outside(time * random() * 40, () => {
        onTheirWay -= 1;
        fire(first, 'source', packet);
        for (const other of others) fire(other, 'destination', packet);
      });
    }
  }

  function createPacket(from: Endpoint, to: Endpoint | undefined): Packet {
    return {
      sid: SIDS[Math.floor(random() * SIDS.length)] ?? SIDS[0],
      protocol: 'TCP',
      source: { ip: from.addresses[0] ?? '10.0.0.99', port: 40_000 + Math.floor(random() * 2) },
      destination: { ip: to === undefined ? WORLD : (to.addresses[0] ?? '10.0.0.99'), port: 80 },
      payload: Buffer.alloc(Math.floor(random() * plan.payload), 0x61 + Math.floor(random() * 3)),
    };
  }

  /** At one of its ends, where it is captured. */
  function fire(endpoint: Endpoint, end: 'source' | 'destination', packet: Packet): void {
    for (const { captured, engine } of node.lanes) {
      const vlan = captured.get(endpoint.interface);
      if (vlan === undefined) continue;
      const timeMicros = Math.round((clock.wall() + random()) * 1000);
      engine()?.fire({ packet, vlan, timeMicros, endpoint, end });
    }
  }

  for (let index = 0; index < plan.pods; index++) {
    clock.outside(random() * Math.min(plan.churnMillis, 1000), () => change(index));
  }
  send();
  return node;
}
