/** Of the endpoints that are attached, and of the resources that select them. */
import { Counter, Gauge } from 'prom-client';
import { shuntedOf, type Counters } from '../../capture/protocol.ts';
import { sideOf, tapsOf, type Endpoint } from '../../endpoints/endpoint.ts';
import type { AddSampled, Sample } from '../../sampled-metrics.ts';
import type { ResourceCoverage } from '../coverage.ts';
import { addEach, type MetricOf } from './each.ts';

export interface ObservedEndpoints {
  endpoints(): EndpointSeen[];
  /** One for each resource. */
  coverage(): ResourceCoverage[];
}

interface EndpointSeen {
  endpoint: Endpoint;
  state: { is: string };
  counters: Counters;
}

/** What became of a packet, by the counter that has it. */
const PACKETS: [keyof Counters, string][] = [
  ['received', 'received'],
  ['forwarded', 'forwarded'],
  ['truncated', 'truncated'],
  ['shunted', 'shunted'],
  ['unsupported', 'unsupported'],
  ['droppedKernel', 'dropped_kernel'],
  ['droppedInterface', 'dropped_interface'],
  ['droppedQueue', 'dropped_queue'],
  ['droppedEngineDown', 'dropped_engine_down'],
  ['droppedDetached', 'dropped_detached'],
  ['droppedCaptureDied', 'dropped_capture_died'],
];

const BYTES: MetricOf<EndpointSeen>[] = [
  [
    Counter,
    'received_bytes_total',
    'Bytes of the packets that an endpoint received or sent, as captured.',
    ({ counters }) => counters.receivedBytes,
  ],
  [
    Counter,
    'forwarded_bytes_total',
    "Bytes of an endpoint's packets that were handed to the engine.",
    ({ counters }) => counters.forwardedBytes,
  ],
];

const SHUNTED: MetricOf<ReturnType<typeof shuntedOf>[number]>[] = [
  [
    Counter,
    'shunted_packets_total',
    'Packets of which something was kept from the engine because it is encrypted.',
    ({ packets }) => packets,
  ],
  [
    Counter,
    'shunted_bytes_total',
    "Bytes of an endpoint's packets that were kept from the engine because they are encrypted.",
    ({ bytes }) => bytes,
  ],
];

export function addEndpoints(add: AddSampled, observed: ObservedEndpoints): void {
  add(Gauge, 'endpoints', ['state'], 'Endpoints by the state of their capture.', () => {
    const states = observed.endpoints().map((entry) => entry.state.is);
    return ['starting', 'capturing', 'waiting'].map((state) => [{ state }, states.filter((is) => is === state).length]);
  });
  add(
    Gauge,
    'endpoint_taps',
    ['namespace', 'endpoint', 'side'],
    "Interfaces by which an endpoint is captured: on the node (host), or in the pod's own network namespace (pod).",
    () => observed.endpoints().flatMap(tapSamples),
  );
  add(
    Counter,
    'packets_total',
    ['namespace', 'endpoint', 'outcome'],
    "Packets of an endpoint by what became of them; gone with the endpoint's capture.",
    () => observed.endpoints().flatMap(packetSamples),
  );
  addEach(add, ['namespace', 'endpoint'], BYTES, () => observed.endpoints().map((seen) => [labelsOf(seen), seen]));
  addEach(add, ['namespace', 'endpoint', 'protocol'], SHUNTED, () =>
    observed
      .endpoints()
      .flatMap((seen) =>
        shuntedOf(seen.counters).map(
          (shunted) => [{ ...labelsOf(seen), protocol: shunted.protocol }, shunted] as const,
        ),
      ),
  );
}

function labelsOf({ endpoint: { namespace, name } }: EndpointSeen): { namespace: string; endpoint: string } {
  return { namespace, endpoint: name };
}

function tapSamples(seen: EndpointSeen): Sample[] {
  const sides = tapsOf(seen.endpoint).map(sideOf);
  return (['host', 'pod'] as const).map((side) => [
    { ...labelsOf(seen), side },
    sides.filter((other) => other === side).length,
  ]);
}

function packetSamples(seen: EndpointSeen): Sample[] {
  return PACKETS.map(([name, outcome]) => [{ ...labelsOf(seen), outcome }, seen.counters[name]]);
}

export function addCoverage(add: AddSampled, observed: ObservedEndpoints): void {
  add(
    Gauge,
    'coverage_pods',
    ['namespace', 'resource', 'state'],
    'Pods of this node that a resource selects, and how many of them are captured, seen to send, to receive, and both lately, or in one direction only.',
    () => observed.coverage().flatMap(coverageSamples),
  );
}

function coverageSamples({ resource, oneWay, ...states }: ResourceCoverage): Sample[] {
  const [namespace = '', name = ''] = resource.split('/');
  return Object.entries({ ...states, one_way: oneWay }).map(([state, pods]) => [
    { namespace, resource: name, state },
    pods,
  ]);
}
