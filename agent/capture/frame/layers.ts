/**
 * Walks the layers of a frame, in the order and on the conditions of Snort's codecs, laxer where it costs nothing, and
 * gives every VLAN tag our id.
 *
 * Invariants: whatever the bytes are, nothing throws; nothing is allocated.
 */
import { passExtension, passFragment, passIpv4, passIpv6, passUdp } from './ip.ts';
import {
  passBridge,
  passCiscoMetadata,
  passEthernet,
  passLlc,
  passMacInMac,
  passMpls,
  passNsh,
  passPpp,
  passTag,
  passVnTag,
} from './link-layers.ts';
import { isTunnel, MIN_ETHERTYPE, Protocol } from './protocols.ts';
import { passErspan2, passErspan3, passGeneve, passGre, passGtp, passTeredo, passVxlan } from './tunnels.ts';
import { goOn, WITHIN, type Walk } from './walk.ts';

/** The most layers that Snort's `network.layers` can be set to. */
const MAX_LAYERS = 255;

/** One frame is walked at a time. */
const usedAgain: Walk = { limit: 0, vlan: 0, protocol: 0, offset: 0, ipv6End: 0, within: 0 };

/**
 * @param limit Captured bytes.
 * @param protocol Of the layer that begins at `offset`.
 * @returns what it has met: bits of `WITHIN`.
 */
export function rewriteTags(frame: Buffer, limit: number, protocol: number, offset: number, vlan: number): number {
  const walk = usedAgain;
  walk.limit = limit;
  walk.vlan = vlan;
  walk.protocol = protocol;
  walk.offset = offset;
  walk.ipv6End = walk.within = 0;
  for (let layer = 0; layer < MAX_LAYERS && walk.offset < limit; layer++) {
    if (isTunnel(walk.protocol)) walk.within |= WITHIN.tunnel;
    if (!passLayer(walk, frame)) break;
  }
  return walk.within;
}

/** @returns whether the walk goes on behind it; likewise below. */
function passLayer(walk: Walk, frame: Buffer): boolean {
  if (walk.protocol < Protocol.none) return passInIp(walk, frame);
  return walk.protocol < MIN_ETHERTYPE ? passUnnumbered(walk, frame) : passEtherType(walk, frame);
}

/** By the number of an IP protocol. */
function passInIp(walk: Walk, frame: Buffer): boolean {
  switch (walk.protocol) {
    case Protocol.ipInIp:
      return passIpv4(walk, frame);
    case Protocol.ipv6InIp:
      return passIpv6(walk, frame);
    case Protocol.udp:
      return passUdp(walk, frame);
    case Protocol.hopOptions:
    case Protocol.destinationOptions:
    case Protocol.routing:
    case Protocol.mobility:
    case Protocol.authentication:
      return passExtension(walk, frame);
    case Protocol.fragment:
      return passFragment(walk, frame);
    case Protocol.gre:
      return passGre(walk, frame);
    case Protocol.mplsInIp:
      return passMpls(walk, frame);
    default:
      return false;
  }
}

/** By a number of ours. */
function passUnnumbered(walk: Walk, frame: Buffer): boolean {
  switch (walk.protocol) {
    case Protocol.teredo:
      return passTeredo(walk, frame);
    case Protocol.gtp:
      return passGtp(walk, frame);
    case Protocol.ethernet:
      return passEthernet(walk, frame);
    case Protocol.llc:
      return passLlc(walk, frame);
    case Protocol.vxlan:
      return passVxlan(walk, frame);
    case Protocol.geneve:
      return passGeneve(walk, frame);
    default:
      return false;
  }
}

function passEtherType(walk: Walk, frame: Buffer): boolean {
  switch (walk.protocol) {
    case Protocol.ipv4:
      return passIpv4(walk, frame);
    case Protocol.ipv6:
      return passIpv6(walk, frame);
    case Protocol.vlan:
    case Protocol.providerVlan:
    case Protocol.oldVlan1:
    case Protocol.oldVlan2:
    case Protocol.oldVlan3:
      return passTag(walk, frame);
    case Protocol.bridge:
      return passBridge(walk, frame);
    case Protocol.erspan2:
      return passErspan2(walk, frame);
    case Protocol.erspan3:
      return passErspan3(walk, frame);
    case Protocol.mpls:
    case Protocol.mplsMulticast:
      return passMpls(walk, frame);
    case Protocol.pppoe:
      return goOn(walk, Protocol.ppp, 6);
    case Protocol.ppp:
      return passPpp(walk, frame);
    case Protocol.fabricPath:
      return goOn(walk, Protocol.ethernet, 16);
    case Protocol.ciscoMetadata:
      return passCiscoMetadata(walk, frame);
    case Protocol.vnTag:
      return passVnTag(walk, frame);
    case Protocol.macInMac:
      return passMacInMac(walk, frame);
    case Protocol.nsh:
      return passNsh(walk, frame);
    default:
      return false;
  }
}
