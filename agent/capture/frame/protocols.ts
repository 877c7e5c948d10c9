/** Protocols by number, and what they are to an engine: tunnels, extension headers, tags. */

/** EtherTypes from here on; what is less is a length. */
export const MIN_ETHERTYPE = 0x0600;

/** IP protocols below 0x100, EtherTypes from 0x600 on, and between them numbers of ours for what has none. */
export const Protocol = {
  hopOptions: 0,
  ipInIp: 4,
  tcp: 6,
  udp: 17,
  ipv6InIp: 41,
  routing: 43,
  fragment: 44,
  gre: 47,
  authentication: 51,
  destinationOptions: 60,
  mobility: 135,
  mplsInIp: 137,
  experiment: 253,
  none: 0x0100,
  teredo: 0x0101,
  gtp: 0x0102,
  ethernet: 0x0105,
  llc: 0x0107,
  vxlan: 0x0108,
  geneve: 0x0109,
  ipv4: 0x0800,
  erspan3: 0x22eb,
  bridge: 0x6558,
  vlan: 0x8100,
  ipv6: 0x86dd,
  ppp: 0x880b,
  mpls: 0x8847,
  mplsMulticast: 0x8848,
  pppoe: 0x8864,
  providerVlan: 0x88a8,
  erspan2: 0x88be,
  macInMac: 0x88e7,
  fabricPath: 0x8903,
  ciscoMetadata: 0x8909,
  vnTag: 0x8926,
  nsh: 0x894f,
  oldVlan1: 0x9100,
  oldVlan2: 0x9200,
  oldVlan3: 0x9300,
} as const;

/** A tag that both engines decode also where it is the third of a stack. */
export function isStackedTag(etherType: number): boolean {
  return etherType === Protocol.vlan || etherType === Protocol.providerVlan || etherType === Protocol.oldVlan1;
}

/** What follows a VLAN tag: up to 1518 the field is a length. */
export function behindTag(type: number): number {
  return type <= 1518 ? Protocol.llc : type;
}

export function etherTypeOrNone(type: number): number {
  return type < MIN_ETHERTYPE ? Protocol.none : type;
}

/** Which tunnel Snort looks for in a datagram: by either port, in this order. */
export function udpTunnel(source: number, destination: number): number {
  if (isGtpPort(source) || isGtpPort(destination)) return Protocol.gtp;
  if (source === 3544 || destination === 3544) return Protocol.teredo;
  if (source === 4789 || destination === 4789) return Protocol.vxlan;
  if (source === 6081 || destination === 6081) return Protocol.geneve;
  return Protocol.none;
}

function isGtpPort(port: number): boolean {
  return port === 2152 || port === 3386;
}

export function carriesPackets(protocol: number): boolean {
  return (
    protocol === Protocol.ipInIp ||
    protocol === Protocol.ipv6InIp ||
    protocol === Protocol.gre ||
    protocol === Protocol.mplsInIp ||
    protocol === Protocol.fragment
  );
}

export function isExtension(protocol: number): boolean {
  return (
    protocol === Protocol.hopOptions ||
    protocol === Protocol.destinationOptions ||
    protocol === Protocol.routing ||
    protocol === Protocol.mobility ||
    protocol === Protocol.authentication
  );
}
