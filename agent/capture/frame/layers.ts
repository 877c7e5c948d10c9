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
import { MIN_ETHERTYPE, Protocol } from './protocols.ts';
import { passErspan2, passErspan3, passGeneve, passGre, passGtp, passTeredo, passVxlan } from './tunnels.ts';
import { END, goOn, WITHIN, type Walk } from './walk.ts';

// This module's own: imported numbers are looked up again for each layer.
const { hopOptions, ipInIp, tcp, udp, ipv6InIp, routing, fragment, gre, authentication } = Protocol;
const { destinationOptions, mobility, mplsInIp, none, teredo, gtp, ethernet, llc, vxlan, geneve } = Protocol;
const { ipv4, erspan3, bridge, vlan: customerVlan, ipv6, ppp, mpls, mplsMulticast, pppoe } = Protocol;
const { providerVlan, erspan2, macInMac, fabricPath, ciscoMetadata, vnTag, nsh } = Protocol;
const { oldVlan1, oldVlan2, oldVlan3 } = Protocol;

/** The most layers that Snort's `network.layers` can be set to. */
export const MAX_LAYERS = 255;

/** One frame is walked at a time. */
const usedAgain: Walk = { limit: 0, vlan: 0, protocol: 0, ipv6End: 0, within: 0 };

/**
 * @param limit Where the frame ends in `bytes`, as far as it was captured.
 * @param protocol Of the layer that begins at `offset`.
 * @returns what it has met: bits of `WITHIN`.
 */
export function rewriteTags(bytes: Buffer, limit: number, protocol: number, offset: number, vlan: number): number {
  const walk = usedAgain;
  walk.limit = limit;
  walk.vlan = vlan;
  walk.protocol = protocol;
  walk.ipv6End = walk.within = 0;
  for (let layer = 0, at = offset; layer < MAX_LAYERS && at !== END && at < limit; layer++) {
    at = passLayer(walk, bytes, at);
  }
  return walk.within;
}

/** @returns where the next layer begins, or END; likewise below. */
export function passLayer(walk: Walk, bytes: Buffer, offset: number): number {
  if (walk.protocol < none) return passInIp(walk, bytes, offset);
  return walk.protocol < MIN_ETHERTYPE ? passUnnumbered(walk, bytes, offset) : passEtherType(walk, bytes, offset);
}

/** By the number of an IP protocol. */
function passInIp(walk: Walk, bytes: Buffer, offset: number): number {
  switch (walk.protocol) {
    case tcp:
      return END;
    case udp:
      return passUdp(walk, bytes, offset);
    case hopOptions:
    case destinationOptions:
    case routing:
    case mobility:
    case authentication:
      return passExtension(walk, bytes, offset);
    case fragment:
      return passFragment(walk, bytes, offset);
    default:
      return passTunnel(walk, bytes, offset);
  }
}

/** By a number of ours. */
function passUnnumbered(walk: Walk, bytes: Buffer, offset: number): number {
  switch (walk.protocol) {
    case ethernet:
      return passEthernet(walk, bytes, offset);
    case llc:
      return passLlc(walk, bytes, offset);
    default:
      return passTunnel(walk, bytes, offset);
  }
}

/** What has a packet of its own within, which Suricata takes apart from the packet around it. */
function passTunnel(walk: Walk, bytes: Buffer, offset: number): number {
  const { within } = walk;
  walk.within |= WITHIN.tunnel;
  switch (walk.protocol) {
    case ipInIp:
      return passIpv4(walk, bytes, offset);
    case ipv6InIp:
      return passIpv6(walk, bytes, offset);
    case gre:
      return passGre(walk, bytes, offset);
    case mplsInIp:
      return passMpls(walk, bytes, offset);
    case teredo:
      return passTeredo(walk, bytes, offset);
    case gtp:
      return passGtp(walk, bytes, offset);
    case vxlan:
      return passVxlan(walk, bytes, offset);
    case geneve:
      return passGeneve(walk, bytes, offset);
    default:
      // It is none.
      walk.within = within;
      return END;
  }
}

function passEtherType(walk: Walk, bytes: Buffer, offset: number): number {
  switch (walk.protocol) {
    case ipv4:
      return passIpv4(walk, bytes, offset);
    case ipv6:
      return passIpv6(walk, bytes, offset);
    case customerVlan:
    case providerVlan:
    case oldVlan1:
    case oldVlan2:
    case oldVlan3:
      return passTag(walk, bytes, offset);
    case bridge:
      return passBridge(walk, bytes, offset);
    case erspan2:
      return passErspan2(walk, bytes, offset);
    case erspan3:
      return passErspan3(walk, bytes, offset);
    case mpls:
    case mplsMulticast:
      return passMpls(walk, bytes, offset);
    case pppoe:
      return goOn(walk, ppp, offset + 6);
    case ppp:
      return passPpp(walk, bytes, offset);
    case fabricPath:
      return goOn(walk, ethernet, offset + 16);
    case ciscoMetadata:
      return passCiscoMetadata(walk, bytes, offset);
    case vnTag:
      return passVnTag(walk, bytes, offset);
    case macInMac:
      return passMacInMac(walk, bytes, offset);
    case nsh:
      return passNsh(walk, bytes, offset);
    default:
      return END;
  }
}
