/**
 * The transport payload of a captured frame: what stands behind the link, VLAN, IP and TCP/UDP/ICMP headers. Ethernet,
 * raw IP and Linux cooked frames are known. Where a header is unknown, cut off or wrong, the frame is returned whole:
 * evidence is not thrown away.
 */

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMP6 = 58;

const VLAN_TYPES = new Set([0x8100, 0x88a8, 0x9100]);

/** `linkType` is libpcap's (https://www.tcpdump.org/linktypes.html). Empty when the frame has no payload. */
export function transportPayload(linkType: number, frame: Buffer): Buffer {
  const ip = networkLayer(linkType, frame);
  return (ip && payloadOfIp(ip)) ?? frame;
}

function networkLayer(linkType: number, frame: Buffer): Buffer | undefined {
  switch (linkType) {
    case 1: // Ethernet
      return behindTags(frame, 12);
    case 113: // Linux cooked
      return behindTags(frame, 14);
    case 12: // raw IP
    case 101:
    case 228:
    case 229:
      return frame;
    default:
      return undefined;
  }
}

/** `typeAt` is where the EtherType stands. */
function behindTags(frame: Buffer, typeAt: number): Buffer | undefined {
  for (let at = typeAt; at + 2 <= frame.length; at += 4) {
    const type = frame.readUInt16BE(at);
    if (VLAN_TYPES.has(type)) continue;
    return type === 0x0800 || type === 0x86dd ? frame.subarray(at + 2) : undefined;
  }
  return undefined;
}

function payloadOfIp(packet: Buffer): Buffer | undefined {
  const version = (packet[0] ?? 0) >> 4;
  if (version === 4) return payloadOfIpv4(packet);
  return version === 6 ? payloadOfIpv6(packet) : undefined;
}

function payloadOfIpv4(packet: Buffer): Buffer | undefined {
  if (packet.length < 20) return undefined;
  const header = ((packet[0] ?? 0) & 0x0f) * 4;
  const total = packet.readUInt16BE(2);
  if (header < 20 || header > packet.length || (total !== 0 && total < header)) return undefined;
  // A total length of 0 stands in frames that the kernel had not yet cut into segments.
  const body = packet.subarray(header, total === 0 ? packet.length : total);
  const laterFragment = (packet.readUInt16BE(6) & 0x1fff) !== 0;
  return laterFragment ? body : payloadOfTransport(packet[9] ?? 0, body);
}

function payloadOfIpv6(packet: Buffer): Buffer | undefined {
  if (packet.length < 40) return undefined;
  const length = packet.readUInt16BE(4);
  let body = packet.subarray(40, length === 0 ? packet.length : 40 + length);
  let next = packet[6] ?? 0;
  // Hop-by-hop, routing, fragment, authentication and destination options come before the transport header.
  for (let headers = 0; headers < 8 && [0, 43, 44, 51, 60].includes(next); headers++) {
    if (body.length < 8) return undefined;
    const size = next === 44 ? 8 : next === 51 ? ((body[1] ?? 0) + 2) * 4 : ((body[1] ?? 0) + 1) * 8;
    if (size > body.length) return undefined;
    const laterFragment = next === 44 && (body.readUInt16BE(2) & 0xfff8) !== 0;
    next = body[0] ?? 0;
    body = body.subarray(size);
    if (laterFragment) return body;
  }
  return payloadOfTransport(next, body);
}

function payloadOfTransport(protocol: number, body: Buffer): Buffer | undefined {
  let header: number;
  switch (protocol) {
    case TCP:
      header = ((body[12] ?? 0) >> 4) * 4;
      if (header < 20) return undefined;
      break;
    case UDP:
    case ICMP:
    case ICMP6:
      header = 8;
      break;
    default:
      return body;
  }
  return header > body.length ? undefined : body.subarray(header);
}
