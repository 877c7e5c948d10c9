/** Whose alert it is: VLAN id and packet time → the endpoint that leased the id → the resources that select it. */
import type { Endpoint } from '../endpoints/endpoint.ts';
import type { Alert } from '../engine/alert.ts';
import type { AttributedAlert } from './attributed.ts';

/** What attribution asks of the leases. */
export interface Owners {
  /** @param timeMicros The packet's time, microseconds since the epoch. */
  owner(vlan: number, timeMicros: number): Endpoint | undefined;
  /** All that held an id at that time: an alert may be read long after its packet. */
  at(timeMicros: number): Endpoint[];
}

/**
 * One attributed alert for each resource that selects the endpoint and asks for the signature; none when the id has no owner.
 * @param asks Whether a resource does, by the rule sets that it names; undefined: the default ones.
 */
export function attribute(
  alert: Alert,
  position: string,
  owners: Owners,
  sensor: Pick<AttributedAlert, 'engine' | 'node'>,
  asks: (ruleSets: readonly string[] | undefined) => boolean = () => true,
): AttributedAlert[] {
  const endpoint = owners.owner(alert.vlan, alert.timeMicros);
  if (endpoint === undefined) return [];
  const others = owners.at(alert.timeMicros);
  const source = peer(alert.source.ip, endpoint, others);
  const destination = peer(alert.destination.ip, endpoint, others);
  const asking = endpoint.resources.filter((resource) => asks(endpoint.ruleSets?.[resource]));
  return asking.map((resource) => ({
    alert,
    position,
    mergedPositions: [],
    resource,
    seenAt: [endpoint],
    ...(source === undefined ? {} : { source }),
    ...(destination === undefined ? {} : { destination }),
    ...sensor,
  }));
}

/**
 * Whether another endpoint of the same resource may have seen the packet too: the one at the flow's other end, or one whose
 * addresses nobody knows.
 */
export function mayBeSeenTwice(attributed: AttributedAlert, owners: Pick<Owners, 'at'>): boolean {
  const { alert, resource, seenAt } = attributed;
  return owners
    .at(alert.timeMicros)
    .some(
      (other) =>
        other.resources.includes(resource) &&
        seenAt.every((endpoint) => endpoint.id !== other.id) &&
        (other.addresses.length === 0 ||
          other.addresses.includes(alert.source.ip) ||
          other.addresses.includes(alert.destination.ip)),
    );
}

/** The endpoint with this address: the one that saw the packet, else the only other one that has it. */
function peer(ip: string, seenBy: Endpoint, known: Endpoint[]): Endpoint | undefined {
  if (seenBy.addresses.includes(ip) || isOwnLoopback(ip, seenBy)) return seenBy;
  const others = known.filter((endpoint) => endpoint.addresses.includes(ip));
  return others.length === 1 ? others[0] : undefined;
}

/** Where its loopback is captured, it talks to itself there. */
function isOwnLoopback(ip: string, { taps = [] }: Endpoint): boolean {
  return (ip === '::1' || ip.startsWith('127.')) && taps.some((tap) => tap.interface === 'lo');
}
