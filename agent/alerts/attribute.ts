/** Whose alert it is: VLAN id and packet time → the endpoint that leased the id → the resources that select it. */
import type { Endpoint } from '../endpoints/endpoint.ts';
import type { Alert, Position } from '../engine/alert.ts';
import type { AttributedAlert } from './attributed.ts';

/** What attribution asks of the leases. */
export interface Owners {
  /** @param timeMicros The packet's time, microseconds since the epoch. */
  owner(vlan: number, timeMicros: number): Endpoint | undefined;
  /** All that held an id at that time: an alert may be read long after its packet. */
  at(timeMicros: number): Endpoint[];
}

/**
 * One attributed alert for each resource that selects the endpoint and asks for the signature; none when the id has no
 * owner.
 * @param asks Whether a resource does, by the rule sets that it names; undefined: the default ones.
 */
export function attribute(
  alert: Alert,
  position: Position,
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
 * Whether another endpoint of the same resource may have seen the packet too: the one at the flow's other end, or one
 * whose addresses nobody knows.
 */
export function mayBeSeenTwice({ alert, resource, seenAt }: AttributedAlert, owners: Pick<Owners, 'at'>): boolean {
  return owners.at(alert.timeMicros).some((other) => {
    if (!other.resources.includes(resource) || !areOtherEnds(alert, seenAt, other)) return false;
    return other.addresses.length === 0 || endsOf(alert, other).length > 0;
  });
}

/**
 * Whether an endpoint may have seen the packet beside these: it is none of them, and at no end of the flow where one of
 * them is.
 */
export function areOtherEnds(alert: Alert, seenAt: readonly Endpoint[], other: Endpoint): boolean {
  const ends = endsOf(alert, other);
  return seenAt.every((seer) => seer.id !== other.id && !endsOf(alert, seer).some((end) => ends.includes(end)));
}

/** At which ends of the flow an endpoint is, by its addresses. */
function endsOf({ source, destination }: Alert, endpoint: Endpoint): ('source' | 'destination')[] {
  return [
    ...(isAt(source.ip, endpoint) ? (['source'] as const) : []),
    ...(isAt(destination.ip, endpoint) ? (['destination'] as const) : []),
  ];
}

/** The endpoint with this address: the one that saw the packet, else the only other one that has it. */
function peer(ip: string, seenBy: Endpoint, known: Endpoint[]): Endpoint | undefined {
  if (isAt(ip, seenBy)) return seenBy;
  const others = known.filter((endpoint) => endpoint.addresses.includes(ip));
  return others.length === 1 ? others[0] : undefined;
}

/** Where its loopback is captured, it talks to itself there. */
function isAt(ip: string, { addresses, taps = [] }: Endpoint): boolean {
  if (addresses.includes(ip)) return true;
  return (ip === '::1' || ip.startsWith('127.')) && taps.some((tap) => tap.interface === 'lo');
}
